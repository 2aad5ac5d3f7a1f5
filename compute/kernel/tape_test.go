package kernel

import (
	"math"
	"math/rand/v2"
	"testing"
)

// TestTape holds calls from a tape to the bits of the kernels.
func TestTape(t *testing.T) {
	was := ISA()
	defer func() { _ = SetISA(was) }()
	r := rand.New(rand.NewPCG(4, 5))
	fill := func(n int) []float32 {
		s := make([]float32, n)
		for i := range s {
			s[i] = r.Float32() - 0.5
		}
		return s
	}
	taken := map[string]int{}
	// check runs both on copies of the slices. tape has the method, plain the kernel.
	check := func(name string, s [][]float32, tape func(t *Tape, s [][]float32) bool, plain func(s [][]float32)) {
		t.Helper()
		var a, b [][]float32
		for _, x := range s {
			a, b = append(a, append([]float32(nil), x...)), append(b, append([]float32(nil), x...))
		}
		tp := NewTape(8)
		if !tape(tp, a) {
			return
		}
		taken[name]++
		for i := range a {
			for j := range a[i] {
				if a[i][j] != s[i][j] {
					t.Fatalf("%s: a call was made while it was put on the tape", name)
				}
			}
		}
		for range 2 { // what accumulates does so twice
			tp.Run()
			plain(b)
		}
		for i := range a {
			for j := range a[i] {
				if math.Float32bits(a[i][j]) != math.Float32bits(b[i][j]) {
					t.Fatalf("%s: element %d of slice %d is %v, want %v", name, j, i, a[i][j], b[i][j])
				}
			}
		}
	}
	for _, isa := range ISAs() {
		if err := SetISA(isa); err != nil {
			t.Fatal(err)
		}
		for range 300 {
			m, n, k, acc := 1+r.IntN(20), 1+r.IntN(70), 1+r.IntN(20), r.IntN(2) == 0
			if r.IntN(2) == 0 {
				k = 4 * k
			}
			check("NT", [][]float32{fill(m * k), fill(n * k), fill(m * n), fill(n)},
				func(t *Tape, s [][]float32) bool { return t.Gemm(NT, m, n, k, s[0], k, s[1], k, s[2], n, nil, false) },
				func(s [][]float32) { Gemm(NT, m, n, k, s[0], k, s[1], k, s[2], n, false) })
			check("NT with a bias", [][]float32{fill(m * k), fill(n * k), fill(m * n), fill(n)},
				func(t *Tape, s [][]float32) bool { return t.Gemm(NT, m, n, k, s[0], k, s[1], k, s[2], n, s[3], false) },
				func(s [][]float32) { GemmBias(NT, m, n, k, s[0], k, s[1], k, s[2], n, s[3]) })
			check("NN", [][]float32{fill(m * k), fill(n * k), fill(m * n)},
				func(t *Tape, s [][]float32) bool { return t.Gemm(NN, m, n, k, s[0], k, s[1], n, s[2], n, nil, acc) },
				func(s [][]float32) { Gemm(NN, m, n, k, s[0], k, s[1], n, s[2], n, acc) })
			check("TN", [][]float32{fill(m * k), fill(m * n), fill(k * n)},
				func(t *Tape, s [][]float32) bool { return t.Gemm(TN, k, n, m, s[0], k, s[1], n, s[2], n, nil, acc) },
				func(s [][]float32) { Gemm(TN, k, n, m, s[0], k, s[1], n, s[2], n, acc) })
			l := r.IntN(70)
			check("ReLU", [][]float32{fill(l), fill(l)}, func(t *Tape, s [][]float32) bool { return t.ReLU(s[0], s[1]) }, func(s [][]float32) { ReLU(s[0], s[1]) })
			check("ReLUBackward", [][]float32{fill(l), fill(l), fill(l)},
				func(t *Tape, s [][]float32) bool { return t.ReLUBackward(s[0], s[1], s[2], acc) },
				func(s [][]float32) { ReLUBackward(s[0], s[1], s[2], acc) })
			check("Add", [][]float32{fill(l), fill(l), fill(l)},
				func(t *Tape, s [][]float32) bool { return t.Add(s[0], s[1], s[2]) }, func(s [][]float32) { Add(s[0], s[1], s[2]) })
			check("Copy", [][]float32{fill(l), fill(l)},
				func(t *Tape, s [][]float32) bool { return t.Copy(s[0], s[1]) }, func(s [][]float32) { copy(s[0], s[1]) })
			rows, w := r.IntN(20), fill(16)
			if acc {
				w = nil
			}
			check("RMSNorm", [][]float32{fill(16 * rows), fill(rows), fill(16 * rows)},
				func(t *Tape, s [][]float32) bool { return t.RMSNorm(s[0], s[1], s[2], w, rows, 16, 1e-5) },
				func(s [][]float32) { RMSNorm(s[0], s[1], s[2], w, rows, 16, 1e-5) })
			check("RMSNormBackward", [][]float32{fill(16 * rows), fill(16 * rows), fill(16 * rows), fill(rows)},
				func(t *Tape, s [][]float32) bool { return t.RMSNormBackward(s[0], s[1], s[2], s[3], w, rows, 16, acc) },
				func(s [][]float32) { RMSNormBackward(s[0], nil, s[1], s[2], s[3], w, rows, 16, acc, false) })
			heads, at, hs := 4*(1+r.IntN(2)), 1+r.IntN(18), 4
			d := heads * hs
			ld, room := 3*d, heads*at*at
			qkv := func(s []float32) (q, k, v []float32) { return s, s[d:], s[2*d:] }
			check("Heads", [][]float32{fill(room), fill(at * d), fill(at * ld)},
				func(t *Tape, s [][]float32) bool {
					q, k, v := qkv(s[2])
					return t.Heads(s[0], s[1], q, k, v, heads, at, hs, d, ld, 0.5, acc)
				},
				func(s [][]float32) {
					q, k, v := qkv(s[2])
					Heads(s[0], s[1], q, k, v, heads, at, hs, d, ld, 0.5, acc)
				})
			check("HeadsBackward", [][]float32{fill(at * ld), fill(at * d), fill(at * ld), fill(room)},
				func(t *Tape, s [][]float32) bool {
					dq, dk, dv := qkv(s[0])
					q, k, v := qkv(s[2])
					return t.HeadsBackward(dq, dk, dv, s[1], q, k, v, s[3], heads, at, hs, d, ld, 0.5, acc)
				},
				func(s [][]float32) {
					dq, dk, dv := qkv(s[0])
					q, k, v := qkv(s[2])
					HeadsBackward(dq, dk, dv, make([]float32, at*at), s[1], q, k, v, s[3], heads, at, hs, d, ld, 0.5, acc)
				})
		}
	}
	if isa := ISAs(); isa[len(isa)-1] == "avx512" {
		for _, name := range []string{"NT", "NT with a bias", "NN", "TN", "ReLU", "ReLUBackward", "Add", "Copy", "RMSNorm", "RMSNormBackward", "Heads", "HeadsBackward"} {
			if taken[name] < 50 {
				t.Errorf("%s was put on %d tapes only", name, taken[name])
			}
		}
	}
	tp := NewTape(1)
	x := make([]float32, 4)
	if !tp.Copy(x, x) || tp.Copy(x, x) {
		t.Error("a tape has room for one call, and takes one")
	}
}
