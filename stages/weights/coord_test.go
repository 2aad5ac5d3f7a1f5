package weights

import (
	"strings"
	"testing"
)

func TestCoordText(t *testing.T) {
	for _, s := range []string{"1.1.1/1.1.1/1.1.1", "2047.2046.3/4.5.6/7.8.9", "1.2.3/4.5.6/7.8.9/2047.1", "1.1.1/1.1.1/1.1.1/1.2"} {
		c, err := ParseCoord(s)
		if err != nil {
			t.Errorf("%s: %v", s, err)
		}
		if c.String() != s {
			t.Errorf("%s came back as %s", s, c)
		}
	}
	for s, want := range map[string]string{
		"":                        "groups",
		"1.1/1.1.1/1.1.1":         "2 numbers, want 3",
		"1.1.1/1.1.1/1.1.0":       `scroll is "0"`,
		"1.1.1/1.2048.1/1.1.1":    `volume is "2048"`,
		"1.1.1/1.1.1/1.1.1/1":     "want 2",
		"1.1.1/1.1.1/1.1.1/1.-1":  `column is "-1"`,
		"1.1.1/1.1.1/01.1.1":      `chapter is "01"`,
		"1.1.1/1.1.1/1.1.1/1.1/1": "5 groups",
	} {
		if _, err := ParseCoord(s); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error %v, want one with %q", s, err, want)
		}
	}
}

func TestPackKeepsEveryBit(t *testing.T) {
	for i := range Dims {
		for _, v := range []uint16{1, 2, 1024, 1365, 2046, 2047} {
			c := Origin()
			c[i] = v
			if got, err := Unpack(c.Pack()); err != nil || got != c {
				t.Errorf("%v came back as %v, %v", c, got, err)
			}
		}
	}
	all := Coord{}
	for i := range all {
		all[i] = MaxDim
	}
	if hi, lo := all.Pack(); hi != 1<<57-1 || lo != 1<<64-1 {
		t.Errorf("the last coordinate packs to %#x %#x", hi, lo)
	}
	if _, err := Unpack(1<<57, 0); err == nil {
		t.Error("122 bits were accepted")
	}
	if _, err := Unpack(0, 0); err == nil {
		t.Error("a zero dimension was accepted")
	}
}

func TestWalkAndIndex(t *testing.T) {
	home, _ := ParseCoord("1.1.1/1.1.1/1.1.2047/2047.2046")
	for n, want := range map[int]string{
		0:             "1.1.1/1.1.1/1.1.2047/2047.2046",
		1:             "1.1.1/1.1.1/1.1.2047/2047.2047",
		2:             "1.1.1/1.1.1/1.2.1",
		2047*2047 + 1: "1.1.1/1.1.1/1.2.1/2047.2047",
	} {
		c, err := home.Walk(n)
		if err != nil || c.String() != want {
			t.Errorf("%d places: %v, %v, want %s", n, c, err, want)
		}
		if back, ok := c.Index(home); !ok || back != n {
			t.Errorf("index of %v: %d, %v, want %d", c, back, ok, n)
		}
	}
	last := Coord{}
	for i := range last {
		last[i] = MaxDim
	}
	if _, err := last.Walk(1); err == nil {
		t.Error("walked out of space")
	}
	if _, ok := Origin().Index(last); ok {
		t.Error("a place before home has an index")
	}
}

func FuzzCoord(f *testing.F) {
	f.Add("1.1.1/1.1.1/1.1.1", uint64(0), uint64(0))
	f.Add("2047.1.1/1.5.1/1.1.1/3.4", uint64(1<<40), uint64(1<<63))
	f.Fuzz(func(t *testing.T, s string, hi, lo uint64) {
		if c, err := ParseCoord(s); err == nil {
			if d, err := ParseCoord(c.String()); err != nil || d != c {
				t.Errorf("%q: %v, then %v, %v", s, c, d, err)
			}
			if d, err := Unpack(c.Pack()); err != nil || d != c {
				t.Errorf("%v unpacks to %v, %v", c, d, err)
			}
		}
		if c, err := Unpack(hi, lo); err == nil {
			if h, l := c.Pack(); h != hi || l != lo {
				t.Errorf("%#x %#x came back as %#x %#x", hi, lo, h, l)
			}
		}
	})
}
