package tensor

import (
	"math"
	"testing"
)

func TestEveryHalfComesBack(t *testing.T) {
	for h := range 1 << 16 {
		v := FromHalf(uint16(h))
		if got := Half(v); got != uint16(h) && v == v {
			t.Fatalf("%04x is %v, which becomes %04x", h, v, got)
		}
		if v != v && Half(v)&0x7fff <= 0x7c00 {
			t.Fatalf("%04x: NaN is lost", h)
		}
	}
}

// Between two neighbours the nearer one counts, and halfway the even one.
func TestHalfRoundsToNearestEven(t *testing.T) {
	for h := range uint16(0x7bff) {
		lo, hi := FromHalf(h), FromHalf(h+1)
		mid := float32((float64(lo) + float64(hi)) / 2) // exact
		even := h + h&1
		for _, c := range []struct {
			v    float32
			want uint16
		}{{mid, even}, {math.Nextafter32(mid, 0), h}, {math.Nextafter32(mid, 1e9), h + 1}} {
			if got := Half(c.v); got != c.want {
				t.Fatalf("%v lies between %04x and %04x and became %04x, want %04x", c.v, h, h+1, got, c.want)
			}
			if got := Half(-c.v); got != c.want|0x8000 {
				t.Fatalf("%v became %04x", -c.v, got)
			}
		}
	}
	for v, want := range map[float32]uint16{65504: 0x7bff, 65519.99: 0x7bff, 65520: 0x7c00, 1e30: 0x7c00} {
		if got := Half(v); got != want {
			t.Errorf("%v became %04x, want %04x", v, got, want)
		}
	}
}
