package stages

import (
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"

	"vtpu/stages/tensor"
)

// bind describes a bound contract: its shapes and variables in one line.
func bind(c Contract, facts map[string]int, in ...tensor.Shape) (string, error) {
	b, err := c.Bind(facts, in)
	if err != nil {
		return "", err
	}
	var s []string
	for _, list := range [][]BoundPort{b.In, b.Out, b.Keep} {
		for _, p := range list {
			s = append(s, p.Name+fmt.Sprint(p.Dims))
		}
	}
	for _, p := range b.Params {
		s = append(s, p.Name+fmt.Sprint(p.Dims))
	}
	return strings.Join(s, " "), nil
}

func TestBind(t *testing.T) {
	of := tensor.Of
	in := func(shapes ...string) (ports []Port) {
		for i, s := range shapes {
			ports = append(ports, Port{Name: string(rune('a' + i)), Shape: s})
		}
		return ports
	}
	out := func(s string) []Port { return []Port{{Name: "y", Shape: s}} }
	dense := Contract{In: in("... C"), Out: out("... U"), Vars: map[string]Dim{"U": {Fact: "classes"}}, Params: []Param{{Name: "w", Shape: "U C"}}}
	concat := Contract{In: []Port{{Name: "x", Shape: "... C#", Variadic: true}}, Out: out("... C"), Derive: func(v map[string]int) error {
		v["C"] = v["C0"] + v["C1"]
		return nil
	}}
	heads := Contract{In: in("B T C"), Out: out("B T C"), Keep: []Port{{Name: "k", Shape: "B 2 D"}}, Derive: func(v map[string]int) error {
		if v["C"]%4 != 0 {
			return fmt.Errorf("4 heads do not divide %d channels", v["C"])
		}
		v["D"] = v["C"] / 4
		return nil
	}}
	loose := Contract{In: in("...", "..."), Out: out("..."), Loose: func(in []BoundPort) error {
		if in[0].Dims.Len() != in[1].Dims.Len() {
			return errors.New("as many elements, please")
		}
		return nil
	}}
	facts := map[string]int{"classes": 5, "vocab": 27}

	for _, x := range []struct {
		name  string
		c     Contract
		facts map[string]int
		in    []tensor.Shape
		want  string // shapes, or the text of the error
	}{
		{"a fact and a variable of the input", dense, facts, []tensor.Shape{of(8, 3)}, "a(8,3) y(8,5) w(5,3)"},
		{"... is any number of dimensions", dense, facts, []tensor.Shape{of(2, 4, 8, 3)}, "a(2,4,8,3) y(2,4,8,5) w(5,3)"},
		{"... may be none", dense, facts, []tensor.Shape{of(3)}, "a(3) y(5) w(5,3)"},
		{"no examples", dense, facts, []tensor.Shape{of(0, 3)}, "a(0,3) y(0,5) w(5,3)"},
		{"a fact that the data lacks", dense, map[string]int{"vocab": 27, "rows": 3}, []tensor.Shape{of(8, 3)},
			`the data does not say what "classes" is (it knows: rows, vocab)`},
		{"no facts at all", dense, nil, []tensor.Shape{of(8, 3)}, `the data does not say what "classes" is (it knows: nothing)`},
		{"too few inputs", dense, facts, nil, "wants 1 inputs, got 0"},
		{"too many inputs", dense, facts, []tensor.Shape{of(1), of(1)}, "wants 1 inputs, got 2"},
		{"a scalar has no last dimension", dense, facts, []tensor.Shape{of()}, "input a wants shape (...,C), got ()"},

		{"a variable unites inputs", Contract{In: in("B C", "B"), Out: out("C B")}, nil, []tensor.Shape{of(6, 2), of(6)}, "a(6,2) b(6) y(2,6)"},
		{"a variable that differs", Contract{In: in("B C", "B"), Out: out("B")}, nil, []tensor.Shape{of(6, 2), of(7)},
			"input b wants shape (B), got (7), where B = 6"},
		{"a variable set by the config", Contract{In: in("B C"), Vars: map[string]Dim{"C": N(9)}}, nil, []tensor.Shape{of(6, 2)},
			"input a wants shape (B,C), got (6,2), where B = 6, C = 9"},
		{"a number", Contract{In: in("B 3"), Out: out("3 B")}, nil, []tensor.Shape{of(6, 3)}, "a(6,3) y(3,6)"},
		{"another number", Contract{In: in("B 3")}, nil, []tensor.Shape{of(6, 4)}, "input a wants shape (B,3), got (6,4), where B = 6"},
		{"too many dimensions", Contract{In: in("B C")}, nil, []tensor.Shape{of(6, 4, 2)}, "input a wants shape (B,C), got (6,4,2)"},
		{"leading dimensions agree", Contract{In: in("... A", "... B"), Out: out("... A")}, nil, []tensor.Shape{of(2, 3, 4), of(2, 3, 5)},
			"a(2,3,4) b(2,3,5) y(2,3,4)"},
		{"leading dimensions differ", Contract{In: in("... A", "... B")}, nil, []tensor.Shape{of(2, 3, 4), of(3, 2, 5)},
			"input b has leading dimensions [3 2], another input has [2 3]"},
		{"loose inputs", loose, nil, []tensor.Shape{of(6, 1), of(6)}, "a(6,1) b(6) y(6,1)"},
		{"loose inputs that don't fit", loose, nil, []tensor.Shape{of(6, 2), of(6)}, "as many elements, please"},

		{"variadic", concat, nil, []tensor.Shape{of(2, 3), of(2, 4)}, "x0(2,3) x1(2,4) y(2,7)"},
		{"variadic wants one", concat, nil, nil, "wants at least 1 inputs, got 0"},
		{"variadic after another", Contract{In: []Port{{Name: "a", Shape: "B"}, {Name: "v", Shape: "B C#", Variadic: true}}}, nil,
			[]tensor.Shape{of(2), of(2, 1), of(2, 9), of(3, 1)}, "input v2 wants shape (B,C2), got (3,1), where B = 2"},
		{"variadic of one shape", Contract{In: []Port{{Name: "x", Shape: "...", Variadic: true}}, Out: out("...")}, nil,
			[]tensor.Shape{of(2, 3), of(2, 3), of(2, 3)}, "x0(2,3) x1(2,3) x2(2,3) y(2,3)"},

		{"derived variables", heads, nil, []tensor.Shape{of(2, 3, 8)}, "a(2,3,8) y(2,3,8) k(2,2,2)"},
		{"derive finds fault", heads, nil, []tensor.Shape{of(2, 3, 9)}, "4 heads do not divide 9 channels"},
		{"an open variable", Contract{Out: out("B Q")}, nil, nil, `output y: the contract leaves "B" open`},
		{"an open variable of a parameter", Contract{Params: []Param{{Name: "w", Shape: "Q"}}}, nil, nil, `parameter w: the contract leaves "Q" open`},
		{"too many dimensions for a tensor", Contract{In: in("..."), Out: out("... 2 3")}, nil, []tensor.Shape{of(4, 5, 6)},
			"output y would have 5 dimensions [4 5 6 2 3], at most 4 are possible"},
		{"too large", Contract{Vars: map[string]Dim{"A": N(1 << 16), "B": N(1 << 15)}, Out: out("A B")}, nil, nil,
			"output y would have the shape [65536 32768], more than 2147483647 elements"},
		{"too large for an int", Contract{Vars: map[string]Dim{"A": N(1 << 30)}, Out: out("A A A A")}, nil, nil,
			"output y would have the shape [1073741824 1073741824 1073741824 1073741824], more than 2147483647 elements"},
		{"as large as can be", Contract{Vars: map[string]Dim{"A": N(1<<31 - 1)}, Out: out("A")}, nil, nil, "y(2147483647)"},
	} {
		got, err := bind(x.c, x.facts, x.in...)
		if err != nil {
			got = err.Error()
		}
		if got != x.want {
			t.Errorf("%s:\n got %s\nwant %s", x.name, got, x.want)
		}
	}
}

func TestBindGivesDeriveTheLeadingDimensions(t *testing.T) {
	var seen map[string]int
	c := Contract{In: []Port{{Name: "x", Shape: "... C"}}, Out: []Port{{Name: "y", Shape: "..."}},
		Derive: func(v map[string]int) error { seen = maps.Clone(v); return nil }}
	if _, err := c.Bind(nil, []tensor.Shape{tensor.Of(2, 3, 5)}); err != nil {
		t.Fatal(err)
	}
	if want := map[string]int{"...": 6, "...0": 2, "...1": 3, "C": 5}; !maps.Equal(seen, want) {
		t.Errorf("variables are %v, want %v", seen, want)
	}
}

func TestBindCountsFlops(t *testing.T) {
	c := Contract{In: []Port{{Name: "x", Shape: "... C"}}, Out: []Port{{Name: "y", Shape: "..."}, {Name: "z", Shape: "C"}}}
	b, err := c.Bind(nil, []tensor.Shape{tensor.Of(2, 3, 5)})
	if err != nil || b.Flops != 11 {
		t.Errorf("%v flops, want one for each of 6 + 5 output elements (%v)", b.Flops, err)
	}
	c.Flops = func(v map[string]int) int64 { return 2 * int64(v["..."]) * int64(v["C"]) }
	if b, err = c.Bind(nil, []tensor.Shape{tensor.Of(2, 3, 5)}); err != nil || b.Flops != 60 {
		t.Errorf("%v flops, want 60 (%v)", b.Flops, err)
	}
}

func TestBindLeavesTheContractAlone(t *testing.T) {
	c := Contract{In: []Port{{Name: "x", Shape: "C#", Variadic: true}}, Vars: map[string]Dim{"V": {Fact: "vocab"}}}
	for n := 1; n <= 3; n++ {
		b, err := c.Bind(map[string]int{"vocab": n}, []tensor.Shape{tensor.Of(n), tensor.Of(n + 1)})
		if err != nil || b.Vars["V"] != n || b.Vars["C1"] != n+1 {
			t.Errorf("%v, %v", b, err)
		}
	}
	if c.In[0].Name != "x" || c.In[0].Shape != "C#" || len(c.In) != 1 || c.Vars["V"] != (Dim{Fact: "vocab"}) {
		t.Errorf("Bind changed the contract: %+v", c)
	}
}

func TestDim(t *testing.T) {
	for _, x := range []struct {
		text string
		want Dim
		err  string
	}{
		{"3", N(3), ""},
		{" 12 ", N(12), ""},
		{"1073741824", N(1 << 30), ""},
		{"vocab", Dim{Fact: "vocab"}, ""},
		{"cat_rows2", Dim{Fact: "cat_rows2"}, ""},
		{"0", Dim{}, "0 is not in 1..1073741824"},
		{"-4", Dim{}, "-4 is not in 1..1073741824"},
		{"1073741825", Dim{}, "1073741825 is not in 1..1073741824"},
		{"", Dim{}, "empty, want a whole number or the name of a fact such as vocab"},
		{"   ", Dim{}, "empty, want a whole number or the name of a fact such as vocab"},
		{"1.5", Dim{}, `"1.5" is neither a whole number nor the name of a fact such as vocab`},
		{"Vocab", Dim{}, `"Vocab" is neither a whole number nor the name of a fact such as vocab`},
		{"_a", Dim{}, `"_a" is neither a whole number nor the name of a fact such as vocab`},
		{"2x", Dim{}, `"2x" is neither a whole number nor the name of a fact such as vocab`},
		{"99999999999999999999", Dim{}, `"99999999999999999999" is neither a whole number nor the name of a fact such as vocab`},
	} {
		var d Dim
		err := d.UnmarshalText([]byte(x.text))
		if got := text(err); got != x.err || d != x.want {
			t.Errorf("%q gives %+v, %q; want %+v, %q", x.text, d, got, x.want, x.err)
		}
		if err != nil {
			continue
		}
		b, err := d.MarshalText()
		var again Dim
		if err != nil || again.UnmarshalText(b) != nil || again != d {
			t.Errorf("%q does not survive a round trip: %q, %v", x.text, b, err)
		}
	}
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
