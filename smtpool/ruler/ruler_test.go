package ruler

import (
	"errors"
	"testing"

	"vtpu/smtpool"
)

func all(string) bool { return true }

// The chain visits every line once before it comes back.
func TestBuffersAreOneCycle(t *testing.T) {
	b := NewBuffers(1 << 20)
	lines := b.Bytes() / 64
	seen := make([]bool, lines)
	at := uint64(0)
	for range lines {
		if at%8 != 0 || seen[at/8] {
			t.Fatalf("index %d: between lines, or seen before", at)
		}
		seen[at/8] = true
		at = b.chain[at]
	}
	if at != 0 {
		t.Errorf("the cycle ends at %d", at)
	}
}

func TestEveryRulerRuns(t *testing.T) {
	b := NewBuffers(1 << 20)
	rs := Rulers()
	for _, k := range Chases {
		rs = append(rs, Chase(k))
	}
	has := func(flag string) bool { return smtpool.Discover().Has(flag) }
	for _, r := range rs {
		i, err := New(r, b, 1, has)
		if errors.Is(err, ErrNone) {
			t.Skip("SKIP:", err)
		}
		if err != nil {
			t.Log("SKIP:", err)
			continue
		}
		if n := i.Block(); n != i.iters*r.PerIter || n <= 0 {
			t.Errorf("%s: %d units in %d iterations", r.Name, n, i.iters)
		}
		if got, ok := Find(r.Name); !ok || got.Resource != r.Resource {
			t.Errorf("Find(%q) = %+v", r.Name, got)
		}
	}
	if _, ok := Find("p9"); ok {
		t.Error("a ruler that does not exist was found")
	}
}

// Chases walk where a plain loop walks.
func TestChaseFollowsTheChain(t *testing.T) {
	b := NewBuffers(1 << 20)
	for _, k := range Chases {
		i, err := New(Chase(k), b, 7, all)
		if errors.Is(err, ErrNone) {
			t.Skip("SKIP:", err)
		}
		want := i.at
		for c := range k {
			for range 5 * 4 {
				want[c] = b.chain[want[c]]
			}
		}
		i.run(5)
		if i.at != want {
			t.Errorf("%d chains: %v, want %v", k, i.at, want)
		}
	}
}

func TestMissesStayInside(t *testing.T) {
	b := NewBuffers(1 << 20)
	r, _ := Find("lfb")
	i, err := New(r, b, 7, all)
	if errors.Is(err, ErrNone) {
		t.Skip("SKIP:", err)
	}
	want := i.seed
	for range 3 * 8 {
		want = want*6364136223846793005 + 1442695041
	}
	i.run(3) // a fault would end the test
	if i.seed != want {
		t.Errorf("generator at %d, want %d", i.seed, want)
	}
	if i.mask%64 != 0 || int(i.mask) >= b.Bytes() {
		t.Errorf("mask %#x of %d bytes", i.mask, b.Bytes())
	}
}

func TestWhatIsLacking(t *testing.T) {
	none := func(string) bool { return false }
	r, _ := Find("fma512")
	if _, err := New(r, nil, 1, none); err == nil {
		t.Error("a loop that this CPU lacks was started")
	}
	r, _ = Find("dram")
	if _, err := New(r, nil, 1, all); err == nil {
		t.Error("a ruler of memory without memory")
	}
}
