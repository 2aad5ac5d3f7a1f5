package tensor

import "math"

// Half rounds f to IEEE 754 binary16, to nearest, ties to even: 0 to 65504 in steps of 2^-24 or more; what is larger becomes infinite.
func Half(f float32) uint16 {
	b := math.Float32bits(f)
	sign := uint16(b >> 16 & 0x8000)
	b &= 0x7fffffff
	switch {
	case b > 0x7f800000: // NaN
		return sign | 0x7e00
	case b >= 0x477ff000: // rounds to 2^16 or more
		return sign | 0x7c00
	case b < 0x38800000: // below 2^-14: subnormal, the sum puts the unit where the last bit of a half is
		v := math.Float32frombits(b) + 0.5
		return sign | uint16(math.Float32bits(v)-0x3f000000)
	}
	odd := b >> 13 & 1
	return sign | uint16((b-0x38000000+0xfff+odd)>>13)
}

// FromHalf is the value of a binary16.
func FromHalf(h uint16) float32 {
	sign, e, m := uint32(h&0x8000)<<16, uint32(h>>10&31), uint32(h&1023)
	switch {
	case e == 31:
		return math.Float32frombits(sign | 0x7f800000 | m<<13)
	case e == 0:
		v := float32(m) * (1.0 / (1 << 24)) // exact
		return math.Float32frombits(math.Float32bits(v) | sign)
	}
	return math.Float32frombits(sign | (e+112)<<23 | m<<13)
}
