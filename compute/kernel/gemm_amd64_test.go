//go:build amd64 && !purego

package kernel

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// small makes all blocks of large products small, so that a test passes through all of their edges.
func small(t *testing.T) {
	was, was1, was2, wasRoomy := large, l1, l2, roomy
	t.Cleanup(func() {
		large, l1, l2, roomy = was, was1, was2, wasRoomy
		setCuts()
	})
	for f := range large {
		large[f].m, large[f].mnk = 1, 1
	}
	l1, l2 = 4<<10, 8<<10
	setCuts()
}

func TestPackedProductsEqualTheirLoop(t *testing.T) {
	if level < 2 {
		t.Skip("packed products need AVX-512")
	}
	small(t)
	for _, roomy = range []bool{false, true} {
		t.Run(fmt.Sprintf("roomy %v", roomy), packedProducts)
	}
	l2 = 64 << 10
	t.Run("deeper", packedProducts)
}

func packedProducts(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 5))
	depth, height := cut(130, 5000, l2)
	if roomy {
		depth, height = cutBeside(130, 5000, l2)
	}
	t.Logf("blocks: %d of k, %d rows", depth, height)
	if depth >= 64 || height >= 100 && l2 < 64<<10 {
		t.Fatal("the blocks are too large for this test")
	}
	var all []layout
	for _, f := range []Form{NN, NT, TN} {
		for n := range 71 {
			all = append(all, spread(r, f, n, 33, 5, 3), spread(r, f, 25, n, 9, 3), spread(r, f, 13, 65, n, 3))
		}
		for range 25 {
			all = append(all, spread(r, f, 1+r.IntN(130), 1+r.IntN(200), 1+r.IntN(100), 30))
		}
		all = append(all, spread(r, f, 13, 40, 2*maxDepth+30, 3), layout{f, 60, 96, 64, 128, 128, 128})
	}
	for range 40 { // a whole panel after a whole panel
		all = append(all, spread(r, Form(r.IntN(3)), 1+r.IntN(130), 48*(1+r.IntN(5))+64*r.IntN(3), 16*(1+r.IntN(6)), 30))
	}
	for _, n := range []int{48, 64} { // B lies as a panel
		all = append(all, layout{NN, 30, n, 0, 1, n, n}, layout{TN, 30, n, 0, 30, n, n}) // without rows
		for m := range 60 {
			all = append(all, layout{NN, m + 20, n, m + 1, m + 3, n, n + m%3}, layout{TN, m + 20, n, m + 1, m + 21, n, n})
		}
	}
	for i, l := range all {
		l.try(t, r, start(i%3), i%5 == 0)
	}
}

func TestPackedProductsAtTheirOwnSizes(t *testing.T) {
	if level < 2 {
		t.Skip("packed products need AVX-512")
	}
	was := roomy
	defer func() { roomy = was }()
	r := rand.New(rand.NewPCG(6, 6))
	var all []layout
	for range 2 {
		all = append(all, spread(r, NN, 89, 530, 33, 3), spread(r, NT, 52, 545, 40, 3), spread(r, TN, 101, 161, 300, 3), layout{TN, 128, 64, 70, 128, 64, 64},
			spread(r, NN, 120, 256, 64, 3), spread(r, NT, 110, 240, 64, 3), spread(r, TN, 101, 192, 320, 3))
	}
	for i, l := range all {
		roomy = i < len(all)/2
		if l.m < large[l.f].m || l.n <= 32 || l.m*l.n*l.k < large[l.f].mnk || inPlace(l.f, l.m, l.n, l.k, l.ldb) {
			t.Fatalf("%+v is not packed", l)
		}
		l.try(t, r, start(i%3), false)
	}
}

func TestBlocksFitTheCaches(t *testing.T) {
	for _, l2 := range []int{128 << 10, 256 << 10, 512 << 10, 1 << 20, 1280 << 10, 2 << 20, 8 << 20} {
		for _, d := range [][2]int{{64, 64}, {256, 768}, {256, 50257}, {50257, 256}, {4096, 4096}, {49, 7}, {1, 1}} {
			depth, height := cut(d[0], d[1], l2)
			if depth%16 != 0 || depth > maxDepth || height%groupA != 0 {
				t.Errorf("%v: depth %d, height %d", d, depth, height)
			}
			if 4*depth*(2*maxNR+height) > l2 {
				t.Errorf("%v: blocks of %d, %d and two panels in %d KiB", d, depth, height, l2>>10)
			}
			depth, height = cutBeside(d[0], d[1], l2)
			if depth%16 != 0 || depth > maxDepth || height%groupA != 0 || height > groupA && 4*depth*height > l2*9/8 || 4*depth*2*maxNR > l2*2/5 {
				t.Errorf("%v: depth %d, height %d", d, depth, height)
			}
			depth, wide, _ := cutColumns(d[0], d[1], 512, l2)
			if depth%16 != 0 || depth > maxDepth || wide%maxNR != 0 && wide != d[0] || 4*depth*(wide+4*groupA) > l2 {
				t.Errorf("%v: depth %d, %d columns in %d KiB", d, depth, wide, l2>>10)
			}
		}
	}
}
