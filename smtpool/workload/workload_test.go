//go:build linux && amd64 && !purego

package workload

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"vtpu/smtpool"
)

func TestMixesAreExact(t *testing.T) {
	for _, c := range []struct {
		m       Mix
		d, s, f int // D, S, FMA operations
	}{
		{Default, 200, 50, 50}, {Default.Swap(), 50, 200, 12}, {Mix{N: 10, D: 1}, 10, 0, 2}, {Mix{N: 10, S: 2}, 0, 10, 0}, {Mix{N: 3, D: .5, S: .5}, 2, 1, 0},
		{Mix{N: 8, D: 1, S: 1, DOps: []Kind{DFMA}}, 4, 4, 4},
	} {
		p, err := New(c.m)
		if err != nil {
			t.Fatal(err)
		}
		d := p.Count(DAdd) + p.Count(DMul) + p.Count(DSub) + p.Count(DFMA)
		if s := p.Count(Gather) + p.Count(Scatter) + p.Count(Prefetch); d != c.d || s != c.s || p.Count(DFMA) != c.f || p.ids != s {
			t.Errorf("%v: D %d, S %d, FMA %d", c.m, d, s, p.Count(DFMA))
		}
	}
	a, _ := New(Default)
	b, _ := New(Default)
	if !slices.Equal(a.Ops, b.Ops) {
		t.Error("one mix, two programs")
	}
	g, _ := New(Mix{N: 10, S: 1, SOps: []Kind{Gather}})
	if g.Rows() != 10 || g.WithPrefetch().Rows() != 10 || b.Rows() < 33 || b.Rows() > 50 { // of 50 ids, 17 are prefetches, which ask for some rows that are read
		t.Errorf("rows %d, %d, %d", g.Rows(), g.WithPrefetch().Rows(), b.Rows())
	}
	for _, bad := range []Mix{{}, {N: 1 << 20, D: 1}, {N: 5}, {N: 5, D: -1, S: 3}, {N: 5, D: 1, SOps: []Kind{Chase}}} {
		if _, err := New(bad); err == nil {
			t.Errorf("%+v was accepted", bad)
		}
	}
	if _, err := Chains(9, 0); err == nil {
		t.Error("9 chains were accepted")
	}
	p, err := Chains(3, 10)
	if err != nil || p.Count(Chase) != 3 || len(p.Ops) != 13 {
		t.Errorf("%v, %v", p, err)
	}
}

// Compiled programs equal their meaning, bit for bit, with vectors of both widths.
func TestCompiledEqualsInterpreted(t *testing.T) {
	top := smtpool.Discover()
	if !top.Has("avx2") {
		t.Skip("SKIP: this CPU lacks AVX2")
	}
	var progs []*Program
	for k := range Ahead { // each operation by itself
		m := Mix{N: 5, S: 1, SOps: []Kind{k}}
		if k <= DFMA {
			m = Mix{N: 30, D: 1, DOps: []Kind{k}}
		}
		p, err := New(m)
		if err != nil {
			t.Fatal(err)
		}
		progs = append(progs, p)
	}
	for _, m := range []Mix{Default, Default.Swap(), {N: 97, D: 1, S: 1, Seed: 3}} {
		p, _ := New(m)
		progs = append(progs, p, p.WithPrefetch())
	}
	for k := range MaxChains + 1 {
		for _, d := range []int{0, 7, 100} {
			if k+d > 0 {
				p, err := Chains(k, d)
				if err != nil {
					t.Fatal(err)
				}
				progs = append(progs, p)
			}
		}
	}
	for _, wide := range []bool{false, true} {
		has := func(f string) bool { return top.Has(f) && (wide || f != "avx512f") }
		if wide && !has("avx512f") {
			t.Log("SKIP: this CPU lacks AVX-512")
			continue
		}
		for i, p := range progs {
			t.Run(fmt.Sprintf("wide=%v/%d", wide, i), func(t *testing.T) {
				mine, its := NewTable(1<<20, 9), NewTable(1<<20, 9)
				l, err := Compile(p, its, has)
				if errors.Is(err, ErrNone) {
					t.Skip("SKIP:", err)
				}
				if err != nil {
					t.Fatal(err)
				}
				defer l.Close()
				copy(its.words, mine.words) // calibration has scattered
				want := l.State()
				for range 3 {
					const n = 7
					first := l.at
					if first+n*p.ids > listLen {
						first = 0
					}
					l.Run(n)
					p.Interpret(n, &want, mine, l.Vector(), first, l.f.pass)
				}
				if got := l.State(); got != want {
					t.Errorf("state %+v\nwant %+v", got, want)
				}
				if !slices.Equal(its.words, mine.words) {
					t.Error("tables differ")
				}
				if l.Block() < 1 {
					t.Error("an empty block")
				}
			})
		}
	}
}
