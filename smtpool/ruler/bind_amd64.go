//go:build amd64 && !purego

package ruler

//go:generate go run -C ../_gen . -pkg ruler -out ../ruler/loops_amd64.s -stubs ../ruler/stubs_amd64.go

// bind connects an instance with its loop.
func (i *Instance) bind(b *Buffers) bool {
	switch i.Name {
	case "clock":
		i.run = chainAdd
	case "clock3":
		i.run = chainMul
	case "p0":
		i.run = mask
	case "p1":
		i.run = multiply
	case "p5":
		i.run = permute
	case "fma256":
		i.run = fmaYMM
	case "fma512":
		i.run = fmaZMM
	case "issue":
		i.run = issue
	case "load":
		i.small = hugeWords(32)
		i.run = func(n int) { loads(n, &i.small[0]) }
	case "store":
		i.small = hugeWords(32)
		i.run = func(n int) { stores(n, &i.small[0]) }
	case "l1":
		i.small = hugeWords(l1Lines * 8)
		i.run = func(n int) { stream(n, l1Lines, &i.small[0]) }
	case "l2":
		i.small = hugeWords(l2Lines * 8)
		i.run = func(n int) { stream(n, l2Lines, &i.small[0]) }
	case "lfb":
		i.run = func(n int) { i.seed = misses(n, &b.chain[0], i.mask, i.seed) }
	default:
		loop := map[int]func(int, *uint64, *[16]uint64){1: chase1, 2: chase2, 3: chase3, 4: chase4, 6: chase6, 8: chase8, 10: chase10, 12: chase12}[i.Parallel]
		if loop == nil {
			return false
		}
		i.run = func(n int) { loop(n, &b.chain[0], &i.at) }
	}
	return true
}
