package weights

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"math"
	"slices"
	"testing"

	"vtpu/stages/tensor"
)

func add(t *testing.T, s *Store, name string, kind Kind, d tensor.DType, dims ...int) *Param {
	t.Helper()
	p, err := s.Add(name, kind, d, tensor.Of(dims...), Coord{})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func coord(t *testing.T, s string) Coord {
	t.Helper()
	c, err := ParseCoord(s)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func says(t *testing.T, err error, want string) {
	t.Helper()
	if err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestClaim(t *testing.T) {
	p := add(t, NewStore(), "dense.weight", Weight, tensor.F32, 2)
	if p.Writer() != "" {
		t.Errorf("written by %q before anybody claimed it", p.Writer())
	}
	for range 2 {
		if err := p.Claim("adamw"); err != nil {
			t.Error(err)
		}
	}
	says(t, p.Claim("sgd"), "weight dense.weight is updated by adamw and by sgd; one writer a weight")
	if p.Writer() != "adamw" {
		t.Errorf("the writer is %q", p.Writer())
	}
	if p.Frozen() {
		t.Error("nobody froze it")
	}
	if p.Freeze(); !p.Frozen() {
		t.Error("it is frozen")
	}
}

func TestAdd(t *testing.T) {
	s := NewStore()
	p := add(t, s, "b", Weight, tensor.F32, 2, 3)
	if s.Get("b") != p || s.Get("a") != nil || p.T.Len() != 6 || slices.Max(p.T.F32) != 0 {
		t.Errorf("%+v", p)
	}
	_, err := s.Add("b", State, tensor.F32, tensor.Of(1), Coord{})
	says(t, err, "weight b exists already")
	add(t, s, "c", Weight, tensor.F32, 1)
	add(t, s, "a", Weight, tensor.I32, 1)
	add(t, s, "a/s/m", State, tensor.F32, 1)
	var names []string
	for _, p := range s.All(Weight) {
		names = append(names, p.Name)
	}
	if !slices.Equal(names, []string{"a", "b", "c"}) {
		t.Errorf("weights are %v, want them sorted by name", names)
	}
	if st := s.All(State); len(st) != 1 || st[0].Name != "a/s/m" {
		t.Errorf("state is %v", st)
	}
}

func TestHomesAreUnique(t *testing.T) {
	s := NewStore()
	at := func(name, home string) error {
		_, err := s.Add(name, Weight, tensor.F32, tensor.Of(1), coord(t, home))
		return err
	}
	// The second and third place of the store's own choice are taken.
	for name, home := range map[string]string{"x": "1.1.1/1.1.1/1.1.2", "y": "1.1.1/1.1.1/1.1.3"} {
		if err := at(name, home); err != nil {
			t.Fatal(err)
		}
	}
	says(t, at("z", "1.1.1/1.1.1/1.1.3"), "weight y and weight z have the same home 1.1.1/1.1.1/1.1.3")
	if s.Get("z") != nil {
		t.Error("z was refused and added")
	}
	var homes []string
	for _, n := range []string{"c", "a", "b"} {
		homes = append(homes, add(t, s, n, Weight, tensor.F32, 1).Coord.String())
	}
	if want := []string{"1.1.1/1.1.1/1.1.1", "1.1.1/1.1.1/1.1.4", "1.1.1/1.1.1/1.1.5"}; !slices.Equal(homes, want) {
		t.Errorf("homes are %v, want %v: in the order of the calls, around those taken", homes, want)
	}
	seen := map[Coord]string{}
	for _, p := range s.All(Weight) {
		if seen[p.Coord] != "" || s.At(p.Coord) != p {
			t.Errorf("%s and %s are both at %v", seen[p.Coord], p.Name, p.Coord)
		}
		seen[p.Coord] = p.Name
	}
	if s.At(coord(t, "9.9.9/9.9.9/9.9.9")) != nil {
		t.Error("nobody lives there")
	}
	// After the last scroll of a section comes the first of the next.
	s.next = coord(t, "1.1.1/1.1.1/1.1.2047")
	for i, want := range []string{"1.1.1/1.1.1/1.1.2047", "1.1.1/1.1.1/1.2.1"} {
		if got := add(t, s, "far"+string(rune('0'+i)), Weight, tensor.F32, 1).Coord.String(); got != want {
			t.Errorf("the home is %s, want %s", got, want)
		}
	}
}

func TestState(t *testing.T) {
	s := NewStore()
	m, err := s.State("dense.weight", "adamw", "m", tensor.F32, tensor.Of(2, 3))
	if err != nil || m.Name != "dense.weight/adamw/m" || m.Kind != State || s.Get(m.Name) != m {
		t.Fatalf("%+v, %v", m, err)
	}
	m.T.F32[0] = 7
	again, err := s.State("dense.weight", "adamw", "m", tensor.F32, tensor.Of(2, 3))
	if err != nil || again != m || again.T.F32[0] != 7 {
		t.Errorf("a resumed run finds its state: %v", err)
	}
	_, err = s.State("dense.weight", "adamw", "m", tensor.F32, tensor.Of(3, 2))
	says(t, err, "state dense.weight/adamw/m is float32 (2,3), want float32 (3,2)")
	_, err = s.State("dense.weight", "adamw", "m", tensor.I32, tensor.Of(2, 3))
	says(t, err, "state dense.weight/adamw/m is float32 (2,3), want int32 (2,3)")
}

// fill gives an entry values that depend on its name alone.
func fill(p *Param) {
	h := sha256.Sum256([]byte(p.Name))
	for i := range p.T.F32 {
		p.T.F32[i] = float32(h[i%32]) - 100
	}
	for i := range p.T.I32 {
		p.T.I32[i] = int32(h[i%32]) - 100
	}
}

func TestHashesDoNotDependOnTheOrderOfCalls(t *testing.T) {
	type entry struct {
		name string
		kind Kind
		d    tensor.DType
		n    int
	}
	entries := []entry{{"a", Weight, tensor.F32, 3}, {"b.weight", Weight, tensor.F32, 3000}, {"b.bias", Weight, tensor.F32, 1},
		{"ids", Weight, tensor.I32, 5},
		{"a/adam/m", State, tensor.F32, 3}, {"adam/adam/updates", State, tensor.I32, 1}}
	hashes := func(es []entry) [2]string {
		s := NewStore()
		for _, e := range es {
			fill(add(t, s, e.name, e.kind, e.d, e.n))
		}
		s.SetVersion(12)
		w, st := s.Hashes()
		return [2]string{w, st}
	}
	want := hashes(entries)
	for range len(entries) {
		entries = append(entries[1:], entries[0])
		if got := hashes(entries); got != want {
			t.Fatalf("added from %s on, the hashes are %v, want %v", entries[0].name, got, want)
		}
	}
	slices.Reverse(entries)
	if got := hashes(entries); got != want {
		t.Errorf("added backwards, the hashes are %v, want %v", got, want)
	}
}

func TestHashesCoverWhatTheyName(t *testing.T) {
	s := NewStore()
	b, a := add(t, s, "b", Weight, tensor.F32, 2), add(t, s, "a", Weight, tensor.F32, 1)
	m := add(t, s, "a/adam/m", State, tensor.F32, 1)
	n := add(t, s, "n", State, tensor.I32, 1)
	a.T.F32[0], b.T.F32[0], b.T.F32[1], m.T.F32[0], n.T.I32[0] = 1.5, -2, 3, 0.25, -1
	s.SetVersion(258)

	// The definition, written out: sorted by name, little-endian, nothing else; the state ends with the version.
	le := func(vs ...uint32) (out []byte) {
		for _, v := range vs {
			out = binary.LittleEndian.AppendUint32(out, v)
		}
		return out
	}
	f := math.Float32bits
	sum := func(b []byte) string { h := sha256.Sum256(b); return hex.EncodeToString(h[:]) }
	w, st := s.Hashes()
	if want := sum(le(f(1.5), f(-2), f(3))); w != want {
		t.Errorf("weights_sha256 is %s, want %s", w, want)
	}
	if want := sum(binary.LittleEndian.AppendUint64(le(f(0.25), 0xffffffff), 258)); st != want {
		t.Errorf("state_sha256 is %s, want %s", st, want)
	}

	changes := func(what string, f func(), weights, state bool) {
		t.Helper()
		f()
		w2, st2 := s.Hashes()
		if (w2 != w) != weights || (st2 != st) != state {
			t.Errorf("%s: weights_sha256 changed: %v, state_sha256 changed: %v; want %v, %v", what, w2 != w, st2 != st, weights, state)
		}
		w, st = w2, st2
	}
	changes("a weight", func() { b.T.F32[1] = math.Nextafter32(3, 4) }, true, false)
	changes("zero", func() { a.T.F32[0] = 0 }, true, false)
	changes("the sign of zero", func() { a.T.F32[0] = float32(math.Copysign(0, -1)) }, true, false)
	changes("state", func() { m.T.F32[0]++ }, false, true)
	changes("a step", s.Commit, false, true)
	changes("a claim and the ledger", func() {
		if err := a.Claim("adam"); err != nil {
			t.Error(err)
		}
		b.LedgerRows()
		b.MarkAll(9)
	}, false, false)
	if s.Version() != 259 {
		t.Errorf("the version is %d, want 259", s.Version())
	}
}

func TestLedger(t *testing.T) {
	s := NewStore()
	p, plain := add(t, s, "table", Weight, tensor.F32, 4, 2), add(t, s, "plain", Weight, tensor.F32, 4, 2)
	p.LedgerRows()
	p.MarkRows([]int32{1, 3}, 5)
	p.MarkRows([]int32{3}, 6)
	p.LedgerRows() // a second reader changes nothing
	for _, x := range []struct {
		row   int32
		since int64
		want  bool
	}{
		{0, 0, false}, {1, 4, true}, {1, 5, false}, {3, 5, true}, {3, 6, false}, {2, 3, false},
	} {
		if got := p.Changed(x.row, x.since); got != x.want {
			t.Errorf("row %d changed after version %d: %v, want %v", x.row, x.since, got, x.want)
		}
	}
	p.MarkAll(7)
	for r := range int32(4) {
		if !p.Changed(r, 6) || p.Changed(r, 7) {
			t.Errorf("row %d: every row changed towards version 7", r)
		}
	}
	plain.MarkRows([]int32{1}, 5) // nobody reads it ahead: nothing to note
	if plain.Changed(1, 4) {
		t.Error("a parameter without a ledger notes no rows")
	}
	plain.MarkAll(5)
	if !plain.Changed(1, 4) || plain.Changed(1, 5) {
		t.Error("a change of all rows is noted without a ledger too")
	}
}

// A large table shares cells: no change is missed.
func TestLedgerOfALargeTable(t *testing.T) {
	s := NewStore()
	p := add(t, s, "table", Weight, tensor.F32, 100000, 1)
	p.LedgerRows()
	var ids []int32
	for r := int32(0); r < 100000; r += 777 {
		ids = append(ids, r)
	}
	p.MarkRows(ids, 3)
	for _, r := range ids {
		if !p.Changed(r, 2) || p.Changed(r, 3) {
			t.Errorf("row %d changed towards version 3", r)
		}
	}
	more := 0
	for r := range int32(100000) {
		if p.Changed(r, 2) {
			more++
		}
	}
	if more > 5*len(ids) {
		t.Errorf("%d rows seem changed, %d are", more, len(ids))
	}
}

func TestRoom(t *testing.T) {
	s := NewStore()
	s.Room = 100
	if _, err := s.Add("a", Weight, tensor.F32, tensor.Of(20), Coord{}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Add("huge", Weight, tensor.F32, tensor.Of(1<<30, 1<<30), Coord{}); !errors.Is(err, ErrRoom) {
		t.Errorf("2^60 numbers: %v", err)
	}
	if _, err := s.State("a", "adam", "m", tensor.F32, tensor.Of(6)); !errors.Is(err, ErrRoom) || s.Get("a/adam/m") != nil {
		t.Errorf("24 bytes after 80 of 100: %v", err)
	}
	if _, err := s.State("a", "adam", "m", tensor.F32, tensor.Of(5)); err != nil {
		t.Error(err)
	}
}
