package kernel

import (
	"math/rand/v2"
	"testing"
)

// twin is a kernel that has assembly: with every instruction set it must leave the same bits in all of its slices.
type twin struct {
	name string
	// sizes are the elements of each slice for rows of n elements.
	sizes func(rows, n int) []int
	// run works on the slices; k tells variants apart.
	run func(s [][]float32, rows, n, k int)
	// variants is the number of k.
	variants int
	rows     int // most rows; 0: one, with no regard to rows
}

func flat(slices int) func(int, int) []int {
	return func(_, n int) []int {
		var s []int
		for range slices {
			s = append(s, n)
		}
		return s
	}
}

func twins() []twin {
	var all []twin
	for name, f := range map[string]func(dst, x []float32){"ReLU": ReLU, "SquaredReLU": SquaredReLU, "GeluErf": GeluErf, "GeluTanh": GeluTanh, "Tanh": Tanh,
		"Sigmoid": Sigmoid, "SiLU": SiLU, "Exp": Exp, "Log": Log, "Erf": Erf, "AddTo": AddTo} {
		all = append(all, twin{name, flat(2), func(s [][]float32, _, _, k int) {
			if k == 1 && name != "AddTo" {
				f(s[1], s[1])
				return
			}
			f(s[0], s[1])
		}, 2, 0})
	}
	for name, f := range map[string]func(dx, dy, v []float32, acc bool){"ReLUBackward": ReLUBackward, "SquaredReLUBackward": SquaredReLUBackward,
		"GeluErfBackward": GeluErfBackward, "GeluTanhBackward": GeluTanhBackward, "TanhBackward": TanhBackward, "SigmoidBackward": SigmoidBackward,
		"SiLUBackward": SiLUBackward, "MulBackward": MulBackward} {
		all = append(all, twin{name, flat(3), func(s [][]float32, _, _, k int) {
			if k == 2 {
				f(s[1], s[1], s[2], false)
				return
			}
			f(s[0], s[1], s[2], k == 1)
		}, 3, 0})
	}
	for name, f := range map[string]func(y, d, x []float32){"GeluErfD": GeluErfD, "GeluTanhD": GeluTanhD, "SiLUD": SiLUD, "Add": Add, "Sub": Sub, "Mul": Mul,
		"MulAdd": MulAdd} {
		all = append(all, twin{name, flat(3), func(s [][]float32, _, _, k int) {
			if k == 1 {
				f(s[0], s[2], s[2])
				return
			}
			f(s[0], s[1], s[2])
		}, 2, 0})
	}
	number := []float32{0.7, -3, 0}
	out := func(sizes func(int, int) []int) func(int, int) []int { // one more slice, for a result
		return func(rows, n int) []int { return append(sizes(rows, n), 1) }
	}
	all = append(all,
		twin{"Scale", flat(2), func(s [][]float32, _, _, k int) { Scale(s[0], s[1], number[k]) }, 3, 0},
		twin{"Axpy", flat(2), func(s [][]float32, _, _, k int) { Axpy(number[k], s[1], s[0]) }, 3, 0},
		twin{"Lerp", flat(2), func(s [][]float32, _, _, k int) { Lerp(s[0], s[1], number[k]) }, 3, 0},
		twin{"ClampAbs", flat(1), func(s [][]float32, _, _, _ int) { ClampAbs(s[0], 0.7) }, 1, 0},
		twin{"Dot", out(flat(2)), func(s [][]float32, _, _, _ int) { s[2][0] = Dot(s[0], s[1]) }, 1, 0},
		twin{"SquaredError", out(flat(3)), func(s [][]float32, _, _, k int) { s[3][0] = SquaredError(s[k%3], s[0], s[1], number[k/2]) }, 4, 0},
		twin{"Sum", out(flat(1)), func(s [][]float32, _, _, _ int) { s[1][0] = Sum(s[0]) }, 1, 0},
		twin{"AllFinite", out(flat(1)), func(s [][]float32, _, _, _ int) { s[1][0] = map[bool]float32{true: 1}[AllFinite(s[0])] }, 1, 0},
		twin{"CopyPast", flat(2), func(s [][]float32, _, _, k int) { // at any distance from a cache line
			n := min(k, len(s[0]))
			CopyPast(s[0][n:], s[1][n:])
		}, 17, 0},
		twin{"SGD", flat(2), func(s [][]float32, _, _, k int) { SGD(s[0], s[1], 0.1, number[k]) }, 3, 0},
		twin{"SGDMomentum", flat(3), func(s [][]float32, _, _, k int) {
			SGDMomentum(s[0], s[1], s[2], 0.1, 0.9, 0.2, 0.01, k == 1, k == 2)
		}, 3, 0},
		twin{"Adam", flat(4), func(s [][]float32, _, _, k int) {
			Adam(s[0], s[1], s[2], s[3], &AdamParams{LR: 0.01, Beta1: 0.9, Beta2: 0.99, Eps: 1e-8, WeightDecay: []float32{0.1, 0.1, 0}[k], Decoupled: k == 1,
				Correct1: 0.2, Correct2: 0.03})
		}, 3, 0},
		twin{"AdamStep.ApplyAll", flat(4), func(s [][]float32, _, n, k int) {
			p := AdamParams{LR: 0.01, Beta1: 0.9, Beta2: 0.99, Eps: 1e-8, WeightDecay: []float32{0.1, 0.1, 0}[k], Correct1: 0.2, Correct2: 0.03}
			c := p.Step()
			var ts []AdamTensor
			for _, cut := range [][2]int{{0, n / 5}, {n / 5, n / 5}, {n / 5, n}}[k%2:] {
				lo, hi := cut[0], cut[1]
				ts = append(ts, AdamTensor{s[0][lo:hi], s[1][lo:hi], s[2][lo:hi], s[3][lo:hi]})
			}
			c.ApplyAll(ts)
		}, 3, 0},
		twin{"Adagrad", flat(3), func(s [][]float32, _, _, k int) { Adagrad(s[0], s[1], s[2], 0.1, 1e-10, number[k]) }, 3, 0},
		twin{"RMSProp", flat(4), func(s [][]float32, _, _, k int) {
			var mom []float32
			if k == 1 {
				mom = s[3]
			}
			RMSProp(s[0], s[1], s[2], mom, 0.1, 0.99, 1e-8, 0.01, 0.9)
		}, 2, 0},
		twin{"Lion", flat(3), func(s [][]float32, _, _, k int) { Lion(s[0], s[1], s[2], 0.1, 0.9, 0.99, number[k]) }, 3, 0},
		twin{"ColSum", func(rows, n int) []int { return []int{n, max(rows*(n+2)-2, 0)} }, func(s [][]float32, rows, n, k int) {
			ColSum(rows, n, s[1], n+2, s[0], k == 1)
		}, 2, 5},
		twin{"MatVec", func(rows, n int) []int { return []int{rows, n, max(rows*(n+2)-2, 0)} }, func(s [][]float32, rows, n, k int) {
			MatVec(rows, n, s[2], n+2, s[1], s[0], k == 1)
		}, 2, 9},
		twin{"VecMat", func(rows, n int) []int { return []int{n, rows, max(rows*(n+2)-2, 0)} }, func(s [][]float32, rows, n, k int) {
			VecMat(rows, n, s[1], s[2], n+2, s[0], k == 1)
		}, 2, 9},
		twin{"Regression", func(rows, n int) []int {
			if rows%2 == 0 {
				n = n / 64 * 64
			}
			return []int{rows * n, n, 1, rows, rows, rows, rows, n}
		}, func(s [][]float32, rows, _, k int) {
			b := s[2]
			if k == 1 {
				b = nil
			}
			Regression(rows, len(s[1]), s[0], s[1], b, s[3], s[4], s[5], s[6], 0.03, s[7])
		}, 2, 19},
		twin{"AddBias", func(rows, n int) []int { return []int{n, max(rows*(n+2)-2, 0)} }, func(s [][]float32, rows, n, _ int) {
			AddBias(rows, n, s[1], n+2, s[0])
		}, 1, 5},
		twin{"SoftmaxRows", func(rows, n int) []int { m := max(rows*(n+1)-1, 0); return []int{m, m} }, func(s [][]float32, rows, n, k int) {
			y := s[0]
			if k == 2 {
				y = s[1]
			}
			SoftmaxRows(y, s[1], rows, n, n+1, number[k], k == 1)
		}, 3, 5},
		twin{"SoftmaxRows causal", func(_, n int) []int { return []int{2 * n * n, 2 * n * n} }, func(s [][]float32, _, n, _ int) {
			if n <= 130 {
				SoftmaxRows(s[0], s[1], 2*n, n, n, 0.3, true)
			}
		}, 1, 1},
		twin{"SoftmaxBackward", func(rows, n int) []int { m := max(rows*(n+1)-1, 0); return []int{m, m, m} }, func(s [][]float32, rows, n, k int) {
			dx := s[0]
			if k == 2 {
				dx = s[1]
			}
			SoftmaxBackward(dx, s[1], s[2], rows, n, n+1, number[k], k == 1)
		}, 3, 5},
		twin{"Scores", func(heads, n int) []int {
			n = min(n%20, 17)
			m := max(n-1, 0)*(heads*24+3) + min(n, 1)*heads*8
			return []int{heads * n * n, m, m}
		}, func(s [][]float32, heads, n, k int) {
			Scores(s[0], s[1], s[2], heads, min(n%20, 17), []int{4, 8, 3, 4}[k], heads*24+3, number[k%2], k > 1)
		}, 4, 3},
		twin{"ScoresBackward", func(_, n int) []int {
			n = min(n%20, 17)
			return []int{n * n, max(n-1, 0)*11 + 8, max(n-1, 0)*27 + 8, n * n}
		}, func(s [][]float32, _, n, k int) {
			ScoresBackward(s[0], s[1], s[2], s[3], min(n%20, 17), []int{4, 8, 3, 8}[k], 11, 27, number[k%2], k > 1)
		}, 4, 1},
		twin{"PairDots", func(f, d int) []int { return []int{f * d, f * (f - 1) / 2} }, func(s [][]float32, f, d, _ int) { PairDots(f, d, s[0], s[1]) }, 1, 67},
		twin{"PairDotsBackward", func(f, d int) []int { return []int{f * (f - 1) / 2, f * d, d, (f - 1) * d} }, func(s [][]float32, f, d, _ int) {
			PairDotsBackward(f, d, s[0], s[1], s[2], s[3])
		}, 1, 67},
		twin{"Heads", func(heads, n int) []int {
			n = min(n%20, 17)
			m := span(n, heads*4, heads*12+3)
			return []int{heads * n * n, m, m, m, m}
		}, func(s [][]float32, heads, n, k int) {
			Heads(s[0], s[1], s[2], s[3], s[4], heads, min(n%20, 17), 4-k/2, heads*12+3, heads*12+3, []float32{0.5, 0.7, -3}[k], k != 1)
		}, 3, 9},
		twin{"HeadsBackward", func(heads, n int) []int {
			n = min(n%20, 17)
			m := span(n, heads*4, heads*12+3)
			return []int{m, m, m, m, m, m, m, heads * n * n}
		}, func(s [][]float32, heads, n, k int) {
			datt := make([]float32, n*n)
			HeadsBackward(s[0], s[1], s[2], datt, s[3], s[4], s[5], s[6], s[7], heads, min(n%20, 17), 4-k/2, heads*12+3, heads*12+3, number[k], k != 1)
		}, 3, 9},
		twin{"SoftmaxXent", func(rows, n int) []int { return []int{rows, rows * n, rows * n, rows * n} }, func(s [][]float32, rows, n, k int) {
			targets := make([]int32, rows)
			for i := range targets {
				targets[i] = int32((i*7+k)%(n+1)) - 1
			}
			p := s[1]
			if k == 1 {
				p = s[2]
			}
			SoftmaxXent(s[0], p, s[2], targets, rows, n)
			SoftmaxXentBackward(s[3], p, targets, rows, n, 0.3, k == 1)
		}, 2, 67},
		twin{"LayerNorm", func(rows, n int) []int { return []int{rows * n, rows * n, rows, rows, n, n} }, func(s [][]float32, rows, n, k int) {
			w, b := s[4], s[5]
			if k&1 != 0 {
				w = nil
			}
			if k&2 != 0 {
				b = nil
			}
			LayerNorm(s[0], s[2], s[3], s[1], w, b, rows, n, 1e-5)
		}, 4, 5},
		twin{"RMSNorm", func(rows, n int) []int { return []int{rows * n, rows * n, rows, n} }, func(s [][]float32, rows, n, k int) {
			w := s[3]
			if k == 1 {
				w = nil
			}
			RMSNorm(s[0], s[2], s[1], w, rows, n, 1e-5)
		}, 2, 5},
		twin{"LayerNormBackward", func(rows, n int) []int { return []int{rows * n, rows * n, rows * n, rows, rows, n, n, n} },
			func(s [][]float32, rows, n, k int) {
				dx, w, dw, db := s[0], s[5], s[6], s[7]
				switch k {
				case 1:
					w = nil
				case 2:
					dw, db = nil, nil
				case 3:
					dx = nil
				case 4:
					dx = s[1]
				}
				LayerNormBackward(dx, dw, db, s[1], s[2], s[3], s[4], w, rows, n, k == 0, k > 1)
			}, 5, 5},
		twin{"RMSNormBackward", func(rows, n int) []int { return []int{rows * n, rows * n, rows * n, rows, n, n} }, func(s [][]float32, rows, n, k int) {
			dx, w, dw := s[0], s[4], s[5]
			switch k {
			case 1:
				w, dw = nil, nil
			case 2:
				dx = nil
			case 3:
				dw, dx = nil, s[1]
			case 4:
				dw = nil
			}
			RMSNormBackward(dx, dw, s[1], s[2], s[3], w, rows, n, k == 0 || k == 4, k > 1)
		}, 5, 5},
	)
	return all
}

// place puts slices where a step over their ends faults, or is seen.
type place interface {
	slice(n int, atEnd bool) []float32
	reset()
}

// heap is a place without guards: unaligned slices.
type heap struct{ off int }

func (h *heap) slice(n int, _ bool) []float32 {
	h.off = (h.off + 5) % 16
	return make([]float32, n+h.off)[h.off:]
}

func (h *heap) reset() {}

func (tw twin) check(t *testing.T, r *rand.Rand, p place, rows, n, k int, odd, atEnd bool) {
	t.Helper()
	sizes := tw.sizes(rows, n)
	in := make([][]float32, len(sizes))
	for i, size := range sizes {
		in[i] = randoms(r, size, 0)
		if odd && size > 0 {
			spice(r, in[i])
		}
		if r.IntN(4) == 0 { // large and small numbers
			for j := range in[i] {
				in[i][j] *= 20
			}
		}
	}
	run := func(isa string) [][]float32 {
		if err := SetISA(isa); err != nil {
			t.Fatal(err)
		}
		p.reset()
		s := make([][]float32, len(in))
		for i := range in {
			s[i] = p.slice(len(in[i]), atEnd)
			copy(s[i], in[i])
		}
		tw.run(s, rows, n, k)
		return s
	}
	var want [][]float32
	for _, isa := range ISAs() {
		got := run(isa)
		if isa == "generic" {
			for _, s := range got {
				want = append(want, append([]float32(nil), s...))
			}
			continue
		}
		for i := range want {
			for j, v := range want[i] {
				if !same(got[i][j], v) {
					t.Fatalf("%s, %s, %d rows of %d, variant %d: element %d of slice %d is %x, want %x (from %x)", tw.name, isa, rows, n, k, j, i, got[i][j], v, in[i][j])
				}
			}
		}
	}
}

// TestTwins holds the assembly to the plain loops: every length to 130 and beside the edges of blocks, odd numbers, odd addresses, guard pages.
func TestTwins(t *testing.T) {
	was := ISA()
	defer func() { _ = SetISA(was) }()
	if len(ISAs()) == 1 {
		t.Skip("there is no assembly for this machine")
	}
	guard := guarded(t)
	for _, tw := range twins() {
		t.Run(tw.name, func(t *testing.T) {
			r := rand.New(rand.NewPCG(1, uint64(len(tw.name))))
			for n := range 131 {
				rows := 0
				if tw.rows > 0 {
					rows = 1 + n%tw.rows
				}
				k := n % tw.variants
				p := place(&heap{n})
				if guard != nil {
					p = guard
				}
				tw.check(t, r, p, rows, n, k, n%3 == 1, n%2 == 0)
				tw.check(t, r, &heap{n}, rows, n, (k+1)%tw.variants, n%3 == 2, false)
			}
			for _, n := range []int{191, 192, 193, 1000, 1<<14 - 1, 1<<14 + 1} {
				if tw.rows > 0 && n > 1000 {
					continue
				}
				for k := range tw.variants {
					tw.check(t, r, &heap{n}, min(tw.rows, 2), n, k, false, false)
				}
			}
		})
	}
	for _, tw := range twins() { // many rows: several calls of the assembly
		if tw.rows > 1 {
			for k := range tw.variants {
				tw.check(t, rand.New(rand.NewPCG(2, 2)), &heap{}, 400, 100, k, false, false)
				tw.check(t, rand.New(rand.NewPCG(2, 3)), &heap{}, 150, 7, k, false, false)
			}
		}
	}
}

// FuzzTwins is TestTwins with lengths, rows, variants and contents from the fuzzer.
func FuzzTwins(f *testing.F) {
	all := twins()
	for i := range all {
		f.Add(uint8(i), uint16(i*5), uint8(3), uint8(1), uint64(i), true)
	}
	was := ISA()
	f.Cleanup(func() { _ = SetISA(was) })
	f.Fuzz(func(t *testing.T, which uint8, n uint16, rows, k uint8, seed uint64, odd bool) {
		tw := all[int(which)%len(all)]
		if tw.rows == 0 {
			rows = 0
		} else {
			rows = 1 + rows%uint8(tw.rows)
		}
		tw.check(t, rand.New(rand.NewPCG(seed, 0)), &heap{int(seed % 16)}, int(rows), int(n%700), int(k)%tw.variants, odd, false)
	})
}

// TestShortRows: rows of one or two registers have kernels of their own, which work on four at a time.
func TestShortRows(t *testing.T) {
	was := ISA()
	defer func() { _ = SetISA(was) }()
	guard := guarded(t)
	for _, tw := range twins() {
		ns := map[string][]int{"RMSNorm": {16}, "RMSNormBackward": {16}, "SoftmaxRows": {1, 15, 16, 17, 27, 31, 32}, "SoftmaxXent": {3, 16, 27, 32}}[tw.name]
		r := rand.New(rand.NewPCG(3, 3))
		for rows := range 14 * len(ns) {
			n := ns[rows/14]
			rows %= 14
			for k := range tw.variants {
				p := place(&heap{rows})
				if guard != nil {
					p = guard
				}
				tw.check(t, r, p, rows, n, k, rows%3 == 1, k%2 == 0)
				tw.check(t, r, &heap{rows + k}, rows, n, k, false, false)
			}
		}
	}
}

// TestRegressionInPieces: more rows than one call of the assembly takes, fetched ahead either way.
func TestRegressionInPieces(t *testing.T) {
	was := ISA()
	defer func() { _ = SetISA(was) }()
	for _, tw := range twins() {
		if tw.name != "Regression" {
			continue
		}
		for _, rows := range []int{1030, 600, 602} {
			for k := range tw.variants {
				tw.check(t, rand.New(rand.NewPCG(6, 6)), &heap{}, rows, 64, k, false, false)
			}
		}
	}
}
