package pipelines

import (
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Counted by hand, in multiplications of products and twice that in FLOP: a layer whose input is data has no product for the gradient of its input.
func TestFlopsByHand(t *testing.T) {
	for _, c := range []struct {
		work string
		mul  int64 // of all dense and attention stages of a step
	}{
		// 32 rows of 1024, forward and for the weights.
		{"w2", 2 * 32 * 1024},
		// 5 products of 64x64x64 an example forward (q, k, v, scores, sum of values); backward 4 of the head and 3 for the weights, none for x.
		{"w3", 16 * 12 * 64 * 64 * 64},
		// 768 rows; qkv, proj, up and down forward and twice backward; heads 2 products forward and 4 backward, of 3 in 4 blocks of 32 x 32; tied head.
		{"w4", 4*(3*768*(3+1+4+4)*128*128+6*12*3*32*32*128) + 3*768*128*65},
		// 64 rows: 784 to 128 forward and for its weights; 128 to 10 forward and twice backward.
		{"w7", 64 * (2*784*128 + 3*128*10)},
	} {
		p, _, err := Prepare(Options{File: c.work})
		if err != nil {
			t.Fatal(err)
		}
		got, all := int64(0), int64(0)
		for _, n := range p.Nodes {
			if k := strings.TrimSuffix(n.Def.Name, "_backward"); k == "dense" || k == "attention" {
				got += n.Flops
			}
			all += n.Flops
		}
		parts := int64(p.Pipe.Parts)
		if got *= parts; got != 2*c.mul {
			t.Errorf("%s: %d FLOP in products, by hand %d", c.work, got, 2*c.mul)
		}
		if rest := all*parts - got; rest < 0 || rest > got/50 || p.MeanFlops() != float64(all*parts) {
			t.Errorf("%s: %d FLOP besides products of %d; on average %v", c.work, rest, got, p.MeanFlops())
		}
	}
}

// A name is shorter than the block: W5 is counted at the lengths that its names have.
func TestFlopsOfLengths(t *testing.T) {
	p, _, err := Prepare(Options{File: "w5"})
	if err != nil {
		t.Fatal(err)
	}
	at := func(T int) int64 { // 16 wide; qkv and proj, up and down, head of 27, thrice; heads of T x T pairs, 2 products and 4
		return 2 * (3*int64(T)*16*(3*16+16+64+64+27) + 6*int64(T*T)*16)
	}
	products := func(flops float64, T int) bool {
		return math.Abs(flops-float64(at(T))) < 0.25*float64(at(T)) && flops > float64(at(T))
	}
	b, err := os.ReadFile(filepath.Join("data", "names.txt"))
	if err != nil {
		t.Fatal(err)
	}
	names := strings.Fields(string(b))
	mean := 0.0
	for _, n := range names {
		T := min(len(n)+1, 16)
		f, err := p.flopsAt(T)
		if err != nil || !products(float64(f), T) {
			t.Fatalf("%d letters: %d FLOP, %d in products (%v)", len(n), f, at(T), err)
		}
		mean += float64(f) / float64(len(names))
	}
	if f, err := p.flopsAt(16); err != nil || f != p.Flops() {
		t.Errorf("16 letters: %d FLOP, at the largest shapes %d (%v)", f, p.Flops(), err)
	}
	if got := p.MeanFlops(); math.Abs(got-mean) > 1e-6*mean {
		t.Errorf("%v FLOP on average, name by name %v", got, mean)
	}
}
