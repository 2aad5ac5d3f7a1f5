package stages

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"vtpu/stages/tensor"
)

// Port is an input or output of a stage: a named tensor of the message.
//
// Shape is written in words: a number, a variable that every port and parameter of the stage shares ("C"), or a leading "..." for any
// number of leading dimensions, also shared. "... C" is any tensor whose last dimension is C. In a variadic port a variable that ends in #
// is numbered by the input: "... C#" gives C0, C1, ...
type Port struct {
	Name     string
	Shape    string
	DType    tensor.DType
	Slot     string // slot taken where the pipeline names none; inputs: "" is the output of the stage before
	GradOf   string // gather: the gradient of this parameter, whose full name it is; its rows where that is sparse
	IDsOf    string // gather: the ids of those rows
	AnyType  bool   // input: DType does not count
	Variadic bool   // the last input may be given several times
	NoGrad   bool   // no gradient flows through it (targets, ids)
	Grad     string // kept: the port whose gradient it may turn into: of an output, the twin writes over what it got; of an input, over what it kept
	Doc      string
}

// Init says how a parameter starts.
type Init struct {
	Kind  string  // normal (mean 0), uniform (-Value..Value), constant
	Value float64 // standard deviation, bound or constant
}

// Param is a parameter that a stage reads, named below the stage: "weight" of stage "h0.dense" is "h0.dense.weight".
type Param struct {
	Name   string
	Shape  string // as Port.Shape, without "..."
	Init   func(v map[string]int) Init
	Sparse bool   // the gradient has few rows: sorted unique ids with their rows
	Full   bool   // Name is the whole name of the weight, not one below the stage
	Frozen bool   // no update may claim it, and no gradient is made for it
	At     string // home in phext space that the stage asks for; "" lets the plan choose
	Doc    string
}

// Replicas says how many instances of a stage may work at the same time.
type Replicas uint8

const (
	// PerPart stages keep no state between messages: any number of instances may share the parts of a step.
	PerPart Replicas = iota
	// One instance sees every message, in order.
	One
)

// GradAccess says what a backward, update or scatter stage does with the gradients of the parameters.
type GradAccess uint8

// The accesses.
const (
	GradNone  GradAccess = iota
	GradRead             // reads them
	GradWrite            // changes them in place
)

// Contract is what a stage promises, made from its config alone.
type Contract struct {
	In     []Port
	Out    []Port
	Keep   []Port // written by forward and read by its backward twin alone
	Params []Param

	// Vars fixes variables from the config: numbers, or names of facts of the data ("vocab").
	Vars map[string]Dim
	// Derive computes further variables when the inputs are known, and checks what shapes alone can't say.
	Derive func(v map[string]int) error
	// Loose checks inputs whose shapes need not agree word by word: "..." then stands for the leading dimensions of the first input alone.
	Loose func(in []BoundPort) error

	Reads    []string // twin: ports of the forward stage whose values it reads; what is not among them need not outlast the forward half
	Passes   bool     // twin: the gradients of the inputs are that of the output; one that has the output's slot is complete
	Mutates  []string // input ports that are changed in place
	Grads    GradAccess
	Replicas Replicas
	EachPart bool // scatter: sees the messages of all parts in their order, before they are summed

	// Flops of one message, counted at the largest shapes; nil is one for each output element, and none for gather.
	Flops func(v map[string]int) int64
	// GradFlops is Flops of a twin, given the variables of the forward stage and which of its inputs and parameters want a gradient; nil is twice those of
	// the forward stage.
	GradFlops func(v map[string]int, wanted func(name string) bool) int64

	// Lengths: gather: how often, as a share of all messages, the second dimension of the outputs is how long; nil is always as in the shapes.
	Lengths map[int]float64
}

// Dim is a dimension in a config: a whole number or the name of a fact of the data, such as vocab, features or classes.
type Dim struct {
	N    int
	Fact string
}

// N makes a Dim from a number.
func N(n int) Dim { return Dim{N: n} }

// UnmarshalText reads a number of at least 1, or a name.
func (d *Dim) UnmarshalText(b []byte) error {
	s := strings.TrimSpace(string(b))
	if n, err := strconv.Atoi(s); err == nil {
		if n < 1 || n > 1<<30 {
			return fmt.Errorf("%d is not in 1..%d", n, 1<<30)
		}
		*d = Dim{N: n}
		return nil
	}
	for i, r := range s {
		if (r < 'a' || r > 'z') && (i == 0 || r != '_' && (r < '0' || r > '9')) {
			return fmt.Errorf("%q is neither a whole number nor the name of a fact such as vocab", s)
		}
	}
	if s == "" {
		return fmt.Errorf("empty, want a whole number or the name of a fact such as vocab")
	}
	*d = Dim{Fact: s}
	return nil
}

// MarshalText gives the number or the name.
func (d Dim) MarshalText() ([]byte, error) {
	if d.Fact != "" {
		return []byte(d.Fact), nil
	}
	return strconv.AppendInt(nil, int64(d.N), 10), nil
}

// Bound is a contract with all its shapes known.
type Bound struct {
	In, Out, Keep []BoundPort
	Params        []BoundParam
	Vars          map[string]int
	Flops         int64
}

// BoundPort is a port with its shape; a variadic input appears once for each tensor given, as x0, x1, ...
type BoundPort struct {
	Port
	Dims tensor.Shape
}

// BoundParam is a parameter with its shape.
type BoundParam struct {
	Param
	Dims tensor.Shape
}

// maxElems is the largest tensor that a plan accepts: indices must fit an int32.
const maxElems = 1<<31 - 1

// Bind computes every shape of the contract from the shapes of its inputs. facts are what the data says of itself. Errors say what does not
// fit; they carry no place.
func (c *Contract) Bind(facts map[string]int, in []tensor.Shape) (*Bound, error) {
	b := &Bound{Vars: map[string]int{}}
	for _, k := range slices.Sorted(maps.Keys(c.Vars)) {
		d := c.Vars[k]
		if d.Fact != "" {
			n, ok := facts[d.Fact]
			if !ok {
				return nil, fmt.Errorf("the data does not say what %q is (it knows: %s)", d.Fact,
					orNothing(strings.Join(slices.Sorted(maps.Keys(facts)), ", ")))
			}
			d.N = n
		}
		b.Vars[k] = d.N
	}
	var lead []int // what "..." stands for
	leadSet := false

	ports, err := expandInputs(c.In, len(in))
	if err != nil {
		return nil, err
	}
	for i, p := range ports {
		got := in[i].Slice()
		words := strings.Fields(p.Shape)
		mismatch := func() error {
			return fmt.Errorf("input %s wants shape (%s), got %v%s", p.Name, strings.Join(words, ","), in[i], known(b.Vars, words))
		}
		if len(words) > 0 && words[0] == "..." {
			n := len(got) - (len(words) - 1)
			if n < 0 {
				return nil, mismatch()
			}
			if !leadSet {
				lead, leadSet = got[:n], true
			} else if c.Loose == nil && !slices.Equal(lead, got[:n]) {
				return nil, fmt.Errorf("input %s has leading dimensions %v, another input has %v", p.Name, got[:n], lead)
			}
			got, words = got[n:], words[1:]
		}
		if len(got) != len(words) {
			return nil, mismatch()
		}
		for j, w := range words {
			if n, err := strconv.Atoi(w); err == nil {
				if n != got[j] {
					return nil, mismatch()
				}
				continue
			}
			if n, ok := b.Vars[w]; ok && n != got[j] {
				return nil, mismatch()
			}
			b.Vars[w] = got[j]
		}
		b.In = append(b.In, BoundPort{p, in[i]})
	}
	if c.Loose != nil {
		if err := c.Loose(b.In); err != nil {
			return nil, err
		}
	}
	for i, n := range lead {
		b.Vars["..."+strconv.Itoa(i)] = n
	}
	b.Vars["..."] = 1
	for _, n := range lead {
		b.Vars["..."] *= n
	}
	if c.Derive != nil {
		if err := c.Derive(b.Vars); err != nil {
			return nil, err
		}
	}
	shape := func(what, spec string) (tensor.Shape, error) {
		var dims []int
		for _, w := range strings.Fields(spec) {
			if w == "..." {
				dims = append(dims, lead...)
				continue
			}
			n, err := strconv.Atoi(w)
			if err != nil {
				var ok bool
				if n, ok = b.Vars[w]; !ok {
					return tensor.Shape{}, fmt.Errorf("%s: the contract leaves %q open", what, w)
				}
			}
			dims = append(dims, n)
		}
		if len(dims) > tensor.MaxRank {
			return tensor.Shape{}, fmt.Errorf("%s would have %d dimensions %v, at most %d are possible", what, len(dims), dims, tensor.MaxRank)
		}
		total := 1
		for _, n := range dims {
			if n < 0 || n > 0 && total > maxElems/n {
				return tensor.Shape{}, fmt.Errorf("%s would have the shape %v, more than %d elements", what, dims, maxElems)
			}
			total *= n
		}
		return tensor.Of(dims...), nil
	}
	for _, p := range c.Out {
		s, err := shape("output "+p.Name, p.Shape)
		if err != nil {
			return nil, err
		}
		b.Out = append(b.Out, BoundPort{p, s})
	}
	for _, p := range c.Keep {
		s, err := shape(p.Name, p.Shape)
		if err != nil {
			return nil, err
		}
		b.Keep = append(b.Keep, BoundPort{p, s})
	}
	for _, p := range c.Params {
		s, err := shape("parameter "+p.Name, p.Shape)
		if err != nil {
			return nil, err
		}
		b.Params = append(b.Params, BoundParam{p, s})
	}
	if c.Flops != nil {
		b.Flops = c.Flops(b.Vars)
	} else {
		for _, o := range b.Out {
			b.Flops += int64(o.Dims.Len())
		}
	}
	return b, nil
}

// expandInputs numbers the variadic input for n given tensors.
func expandInputs(ports []Port, n int) ([]Port, error) {
	if k := len(ports); k > 0 && ports[k-1].Variadic {
		if n < k {
			return nil, fmt.Errorf("wants at least %d inputs, got %d", k, n)
		}
		v := ports[k-1]
		out := slices.Clone(ports[:k-1])
		for i := range n - (k - 1) {
			p := v
			p.Name += strconv.Itoa(i)
			p.Shape = strings.ReplaceAll(p.Shape, "#", strconv.Itoa(i))
			out = append(out, p)
		}
		return out, nil
	}
	if n != len(ports) {
		return nil, fmt.Errorf("wants %d inputs, got %d", len(ports), n)
	}
	return ports, nil
}

func orNothing(s string) string {
	if s == "" {
		return "nothing"
	}
	return s
}

func known(vars map[string]int, words []string) string {
	var s []string
	for _, w := range words {
		if n, ok := vars[w]; ok {
			s = append(s, fmt.Sprintf("%s = %d", w, n))
		}
	}
	if len(s) == 0 {
		return ""
	}
	return ", where " + strings.Join(s, ", ")
}
