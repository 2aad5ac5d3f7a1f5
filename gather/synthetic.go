package gather

import (
	"fmt"
	"math"

	"vtpu/compute/kernel"
	"vtpu/stages"
	"vtpu/stages/rng"
	"vtpu/stages/tensor"
)

// SyntheticConfig is what a user may write under data with source synthetic.
type SyntheticConfig struct {
	Task     string  `yaml:"task" required:"true" enum:"weight|linear|mlp|attention|clusters|spirals|digits|recommender" doc:"What is to be learnt, see the source's description."`
	Rows     int     `yaml:"rows" min:"1" max:"16777216" doc:"Examples."`
	Features int     `yaml:"features" min:"1" max:"1048576" doc:"Numbers of an example; attention: channels; recommender: dense features. Spirals have 2."`
	Outputs  int     `yaml:"outputs" min:"1" max:"65536" doc:"linear and mlp: numbers to predict."`
	Hidden   int     `yaml:"hidden" min:"1" max:"65536" doc:"mlp: width of the teacher's hidden layer."`
	Length   int     `yaml:"length" min:"1" max:"65536" doc:"attention: positions of a sequence."`
	Classes  int     `yaml:"classes" min:"2" max:"65536" doc:"clusters and spirals: classes."`
	Size     int     `yaml:"size" min:"8" max:"64" doc:"digits: width and height of an image."`
	Tables   int     `yaml:"tables" min:"1" max:"1024" doc:"recommender: columns of ids."`
	IDs      int     `yaml:"ids" min:"2" max:"100000000" doc:"recommender: ids of a column."`
	Skew     float64 `yaml:"skew" min:"0" max:"4" doc:"recommender: exponent of a power law; id k occurs about as often as 1/(k+1)^skew. 0 makes all ids equally likely."`
	Noise    float64 `yaml:"noise" min:"0" doc:"Standard deviation of what is added to the targets (linear, mlp), the inputs (clusters, spirals) or the pixels (digits)."`
}

// maxSynthetic bounds the values of a synthetic table, and those of its teacher.
const maxSynthetic = 1 << 30

// size is the number of values that an example has and the number that the teacher needs. No product overflows within the limits of the fields.
func (c SyntheticConfig) size() (row, teacher int64) {
	f, o := int64(c.Features), int64(c.Outputs)
	switch c.Task {
	case "linear":
		return f + o, f * o
	case "mlp":
		return f + o + int64(c.Hidden), int64(c.Hidden) * (f + o)
	case "attention":
		return 2 * int64(c.Length) * f, 3*f*f + 3*int64(c.Length)*f + int64(c.Length)*int64(c.Length)
	case "clusters":
		return f + 1, int64(c.Classes) * f
	case "digits":
		return int64(c.Size)*int64(c.Size) + 1, 0
	case "recommender":
		return f + int64(c.Tables) + 1, f
	}
	return 3, 0
}

func init() {
	stages.MustRegisterSource(stages.SourceSpec[SyntheticConfig]{
		Name: "synthetic",
		Summary: "Tasks made by a teacher from the seed. weight: one sample, y = w·x. linear: y = x·W + noise. mlp: y is a teacher's two layers of x, " +
			"with tanh between. attention: y is a teacher's single-head attention over x. clusters: classes around random centres. spirals: classes on " +
			"arms of a spiral in the plane. digits: drawn digits, shifted, thickened and noisy. " +
			"recommender: dense features, columns of ids, and a click that depends on both.",
		Example: "data: {source: synthetic, task: linear, rows: 320, features: 1024}",
		Default: func() SyntheticConfig {
			return SyntheticConfig{Rows: 1, Features: 1, Outputs: 1, Hidden: 32, Length: 64, Classes: 10, Size: 12, Tables: 26, IDs: 1000}
		},
		Load: func(env stages.LoadEnv, c SyntheticConfig) (*stages.Dataset, error) {
			if row, teacher := c.size(); row > maxSynthetic/int64(c.Rows) || teacher > maxSynthetic {
				return nil, fmt.Errorf("%d rows of %d values and a teacher of %d are more than %d", c.Rows, row, teacher, maxSynthetic)
			}
			t := &stages.Table{N: c.Rows}
			facts := map[string]int{"rows": c.Rows, "features": c.Features}
			r := func(name string) rng.Stream { return rng.Named(env.Seed, "data."+c.Task+"."+name) }
			switch c.Task {
			case "weight":
				t.Cols = weightTask(c, r)
			case "linear":
				t.Cols = linearTask(c, r)
				facts["outputs"] = c.Outputs
			case "mlp":
				t.Cols = mlpTask(c, r)
				facts["outputs"] = c.Outputs
			case "attention":
				t.Cols = attentionTask(c, r)
				facts["length"] = c.Length
			case "clusters":
				t.Cols = clusterTask(c, r)
				facts["classes"] = c.Classes
			case "spirals":
				t.Cols = spiralTask(c, r)
				facts["classes"], facts["features"] = c.Classes, 2
			case "digits":
				t.Cols = digitTask(c, r)
				facts["classes"], facts["features"] = 10, c.Size*c.Size
			case "recommender":
				t.Cols = recommenderTask(c, r)
				facts["cat_rows"], facts["tables"] = c.IDs, c.Tables
			}
			return &stages.Dataset{Table: t, Facts: facts, Check: checkTable(t)}, nil
		},
	})
}

type streams func(name string) rng.Stream

// normals fills n draws from N(0, std²).
func normals(s rng.Stream, n int, std float64) []float32 {
	v := make([]float32, n)
	for i := range v {
		v[i] = float32(s.Normal(uint64(i)>>32, uint32(i)) * std)
	}
	return v
}

// weightTask: y = 3x, x = 1, 0.5, ...
func weightTask(c SyntheticConfig, _ streams) []stages.Column {
	x, y := make([]float32, c.Rows), make([]float32, c.Rows)
	for i := range x {
		x[i] = 1 / float32(i+1)
		y[i] = 3 * x[i]
	}
	return []stages.Column{{Name: "x", Shape: tensor.Of(1), F32: x}, {Name: "y", Shape: tensor.Of(1), F32: y}}
}

// linearTask: y = x·Wᵀ + noise, W (outputs, features) with rows of length about 1.
func linearTask(c SyntheticConfig, r streams) []stages.Column {
	n, f, o := c.Rows, c.Features, c.Outputs
	x := normals(r("x"), n*f, 1)
	w := normals(r("teacher"), o*f, 1/math.Sqrt(float64(f)))
	y := normals(r("noise"), n*o, c.Noise)
	kernel.Gemm(kernel.NT, n, o, f, x, f, w, f, y, o, true)
	return []stages.Column{{Name: "x", Shape: tensor.Of(f), F32: x}, {Name: "y", Shape: tensor.Of(o), F32: y}}
}

// mlpTask: y = tanh(x·W1ᵀ)·W2ᵀ + noise, W1 (hidden, features), W2 (outputs, hidden), so scaled that y is about 1.
func mlpTask(c SyntheticConfig, r streams) []stages.Column {
	n, f, h, o := c.Rows, c.Features, c.Hidden, c.Outputs
	x := normals(r("x"), n*f, 1)
	w1 := normals(r("teacher1"), h*f, 1/math.Sqrt(float64(f)))
	w2 := normals(r("teacher2"), o*h, 1/math.Sqrt(float64(h)))
	y := normals(r("noise"), n*o, c.Noise)
	a := make([]float32, n*h)
	kernel.Gemm(kernel.NT, n, h, f, x, f, w1, f, a, h, false)
	kernel.Tanh(a, a)
	kernel.Gemm(kernel.NT, n, o, h, a, h, w2, h, y, o, true)
	return []stages.Column{{Name: "x", Shape: tensor.Of(f), F32: x}, {Name: "y", Shape: tensor.Of(o), F32: y}}
}

// attentionTask: x (T,C) from N(0,1), y = softmax(q·kᵀ/√C)·v with q, k, v = x times the teacher's three matrices (C,C).
func attentionTask(c SyntheticConfig, r streams) []stages.Column {
	n, T, C := c.Rows, c.Length, c.Features
	x := normals(r("x"), n*T*C, 1)
	y := make([]float32, n*T*C)
	w := normals(r("teacher"), 3*C*C, 1/math.Sqrt(float64(C)))
	qkv, att := make([]float32, T*3*C), make([]float32, T*T)
	scale := float32(1 / math.Sqrt(float64(C)))
	for i := range n {
		kernel.Gemm(kernel.NT, T, 3*C, C, x[i*T*C:], C, w, C, qkv, 3*C, false)
		kernel.Gemm(kernel.NT, T, T, C, qkv, 3*C, qkv[C:], 3*C, att, T, false)
		kernel.SoftmaxRows(att, att, T, T, T, scale, false)
		kernel.Gemm(kernel.NN, T, C, T, att, T, qkv[2*C:], 3*C, y[i*T*C:], C, false)
	}
	return []stages.Column{{Name: "x", Shape: tensor.Of(T, C), F32: x}, {Name: "y", Shape: tensor.Of(T, C), F32: y}}
}

// clusterTask: class k has a centre from N(0,1) in each feature, examples lie around it with the noise given.
func clusterTask(c SyntheticConfig, r streams) []stages.Column {
	n, f := c.Rows, c.Features
	centres := normals(r("centres"), c.Classes*f, 1)
	x := normals(r("x"), n*f, c.Noise)
	y := make([]int32, n)
	s := r("class")
	for i := range n {
		k := s.Intn(0, uint32(i), c.Classes)
		y[i] = int32(k)
		kernel.AddTo(x[i*f:i*f+f], centres[k*f:k*f+f])
	}
	return []stages.Column{{Name: "x", Shape: tensor.Of(f), F32: x}, {Name: "y", DType: tensor.I32, I32: y, Max: c.Classes}}
}

// spiralTask: an example of class k lies at radius t in [0,1) and angle 2π(k/classes + 1.25t), moved by the noise.
func spiralTask(c SyntheticConfig, r streams) []stages.Column {
	n := c.Rows
	x := normals(r("noise"), 2*n, c.Noise)
	y := make([]int32, n)
	s, radius := r("class"), r("radius")
	for i := range n {
		k := s.Intn(0, uint32(i), c.Classes)
		y[i] = int32(k)
		t := float64(radius.Uniform(0, uint32(i)))
		sin, cos := turn(float64(k)/float64(c.Classes) + float64(1.25*t))
		x[2*i] += float32(t * cos)
		x[2*i+1] += float32(t * sin)
	}
	return []stages.Column{{Name: "x", Shape: tensor.Of(2), F32: x}, {Name: "y", DType: tensor.I32, I32: y, Max: c.Classes}}
}

// turn is the sine and cosine of 2πu, u ≥ 0, to about 1e-13: the angle is brought to [-π/4, π/4], where Taylor's series is summed to the 15th
// and 14th power. math.Sin has other bits on other machines.
func turn(u float64) (sin, cos float64) {
	u -= math.Floor(u)
	q := math.Floor(float64(4*u) + 0.5) // nearest quarter
	v := float64((u - float64(q/4)) * (2 * math.Pi))
	z := float64(v * v)
	sin, cos = 1, 1
	for k := 14.0; k > 0; k -= 2 {
		sin = 1 - float64(float64(sin*z)/float64(k*(k+1)))
		cos = 1 - float64(float64(cos*z)/float64(k*(k-1)))
	}
	sin = float64(sin * v)
	switch int(q) & 3 {
	case 1:
		return cos, -sin
	case 2:
		return -sin, -cos
	case 3:
		return -cos, sin
	}
	return sin, cos
}

// recommenderTask: the logit of a click is the sum of the dense features times a teacher's weights and of a hidden number of each id.
func recommenderTask(c SyntheticConfig, r streams) []stages.Column {
	n, f, k := c.Rows, c.Features, c.Tables
	x := normals(r("dense"), n*f, 1)
	w := normals(r("teacher"), f, 0.5)
	cats, y := make([]int32, n*k), make([]float32, n)
	hidden, click := r("hidden"), r("click")
	draw := idLaw(r("ids"), c.IDs, c.Skew)
	for i := range n {
		z := kernel.Dot(x[i*f:i*f+f], w)
		for j := range k {
			id := draw(uint64(i), uint32(j))
			cats[i*k+j] = int32(id)
			z += float32(hidden.Normal(uint64(id), uint32(j)) * 0.3)
		}
		if click.Uniform(0, uint32(i)) < kernel.Sigmoid32(z) {
			y[i] = 1
		}
	}
	return []stages.Column{{Name: "x", Shape: tensor.Of(f), F32: x}, {Name: "cats", DType: tensor.I32, Shape: tensor.Of(k), I32: cats, Max: c.IDs},
		{Name: "y", Shape: tensor.Of(1), F32: y}}
}

// idLaw draws ids below n: uniform ones, or the whole part of a number x in 1..n+1, less 1, whose density falls as 1/x^skew (its distribution function is
// inverted).
func idLaw(s rng.Stream, n int, skew float64) func(a uint64, i uint32) int {
	if skew == 0 {
		return func(a uint64, i uint32) int { return s.Intn(a, i, n) }
	}
	top := rng.Log(float64(n + 1))
	rest := 1 - skew
	if math.Abs(rest) < 1e-6 { // x = (n+1)^u
		return func(a uint64, i uint32) int {
			x := kernel.Exp32(float32(float64(s.Uniform(a, i)) * top))
			return min(int(x)-1, n-1)
		}
	}
	end := float64(kernel.Exp32(float32(rest*top))) - 1 // (n+1)^rest - 1
	return func(a uint64, i uint32) int {
		y := math.FMA(float64(s.Uniform(a, i)), end, 1)
		x := kernel.Exp32(float32(rng.Log(y) / rest))
		return max(0, min(int(x)-1, n-1))
	}
}

// font has the ten digits as 5x7 dots, a row a byte.
var font = [10][7]byte{
	{0b01110, 0b10001, 0b10011, 0b10101, 0b11001, 0b10001, 0b01110},
	{0b00100, 0b01100, 0b00100, 0b00100, 0b00100, 0b00100, 0b01110},
	{0b01110, 0b10001, 0b00001, 0b00010, 0b00100, 0b01000, 0b11111},
	{0b11111, 0b00010, 0b00100, 0b00010, 0b00001, 0b10001, 0b01110},
	{0b00010, 0b00110, 0b01010, 0b10010, 0b11111, 0b00010, 0b00010},
	{0b11111, 0b10000, 0b11110, 0b00001, 0b00001, 0b10001, 0b01110},
	{0b00110, 0b01000, 0b10000, 0b11110, 0b10001, 0b10001, 0b01110},
	{0b11111, 0b00001, 0b00010, 0b00100, 0b01000, 0b01000, 0b01000},
	{0b01110, 0b10001, 0b10001, 0b01110, 0b10001, 0b10001, 0b01110},
	{0b01110, 0b10001, 0b10001, 0b01111, 0b00001, 0b00010, 0b01100},
}

// digitTask draws a digit of the font at a random place, slanted or not, thick or thin, at a random brightness, with noise.
func digitTask(c SyntheticConfig, r streams) []stages.Column {
	n, s := c.Rows, c.Size
	x := normals(r("noise"), n*s*s, c.Noise)
	y := make([]int32, n)
	d := r("draw")
	on := make([]bool, s*s) // dots of one image
	for i := range n {
		w := d.Block(0, uint32(i))
		k := int(w[0] % 10)
		y[i] = int32(k)
		dx, dy := int(w[1]%uint32(s-6)), int(w[2]%uint32(s-7+1))
		slant, thick := int(w[1]>>16%3)-1, w[2]>>16%2 == 1
		light := 0.6 + 0.4*float32(w[3]>>8)/(1<<24)
		img := x[i*s*s : (i+1)*s*s]
		clear(on)
		for row := range 7 {
			for col := range 5 {
				if font[k][row]>>(4-col)&1 == 0 {
					continue
				}
				px := dx + col + (3-row)*slant/3
				for t := range 2 {
					if p := px + t; p >= 0 && p < s && (t == 0 || thick) {
						on[(dy+row)*s+p] = true
					}
				}
			}
		}
		for p, set := range on {
			if set {
				img[p] += light
			}
		}
	}
	return []stages.Column{{Name: "x", Shape: tensor.Of(s * s), F32: x}, {Name: "y", DType: tensor.I32, I32: y, Max: 10}}
}
