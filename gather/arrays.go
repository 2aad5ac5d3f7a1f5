package gather

import (
	"errors"
	"fmt"

	"vtpu/stages"
	"vtpu/stages/tensor"
	"vtpu/stages/tensorfile"
)

// NpyConfig is what a user may write under data with source npy.
type NpyConfig struct {
	X string `yaml:"x" required:"true" doc:"File with the inputs, examples first."`
	Y string `yaml:"y" required:"true" doc:"File with the targets: floats, or whole numbers as classes."`
}

// NpzConfig is what a user may write under data with source npz.
type NpzConfig struct {
	Path string `yaml:"path" required:"true" doc:"File as numpy.savez writes it."`
	X    string `yaml:"x" doc:"Name of the inputs, examples first."`
	Y    string `yaml:"y" doc:"Name of the targets: floats, or whole numbers as classes."`
}

// IdxConfig is what a user may write under data with source idx.
type IdxConfig struct {
	Images string  `yaml:"images" required:"true" doc:"File with the images, plain or gzip."`
	Labels string  `yaml:"labels" required:"true" doc:"File with the classes, plain or gzip."`
	Scale  float64 `yaml:"scale" above:"0" doc:"What pixels are divided by."`
}

func init() {
	stages.MustRegisterSource(stages.SourceSpec[NpyConfig]{
		Name: "npy", Summary: "Inputs and targets from two files of NumPy.", Example: "data: {source: npy, x: x.npy, y: y.npy}",
		Load: func(env stages.LoadEnv, c NpyConfig) (*stages.Dataset, error) {
			x, err := tensorfile.ReadNpy(env.Path(c.X))
			if err != nil {
				return nil, err
			}
			y, err := tensorfile.ReadNpy(env.Path(c.Y))
			if err != nil {
				return nil, err
			}
			return arrays(env.Path(c.X), env.Path(c.Y), x, y, 1)
		},
	})
	stages.MustRegisterSource(stages.SourceSpec[NpzConfig]{
		Name: "npz", Summary: "Inputs and targets from one file of numpy.savez.", Example: "data: {source: npz, path: data.npz, x: x, y: y}",
		Default: func() NpzConfig { return NpzConfig{X: "x", Y: "y"} },
		Load: func(env stages.LoadEnv, c NpzConfig) (*stages.Dataset, error) {
			file := env.Path(c.Path)
			es, err := tensorfile.ReadNpz(file)
			if err != nil {
				return nil, err
			}
			var x, y *tensor.Tensor
			var names []string
			for i := range es {
				names = append(names, es[i].Name)
				switch es[i].Name {
				case c.X:
					x = &es[i].T
				case c.Y:
					y = &es[i].T
				}
			}
			if x == nil || y == nil {
				return nil, stages.Finding{File: file, Msg: fmt.Sprintf("want arrays %q and %q", c.X, c.Y), Fix: fmt.Sprintf("the file has %q", names)}
			}
			return arrays(file, file, *x, *y, 1)
		},
	})
	stages.MustRegisterSource(stages.SourceSpec[IdxConfig]{
		Name: "idx", Summary: "Images and classes in MNIST's format, plain or gzip.",
		Example: "data: {source: idx, images: train-images-idx3-ubyte.gz, labels: train-labels-idx1-ubyte.gz}",
		Default: func() IdxConfig { return IdxConfig{Scale: 255} },
		Load: func(env stages.LoadEnv, c IdxConfig) (*stages.Dataset, error) {
			x, err := readIdx(env.Path(c.Images))
			if err != nil {
				return nil, err
			}
			y, err := readIdx(env.Path(c.Labels))
			if err != nil {
				return nil, err
			}
			return arrays(env.Path(c.Images), env.Path(c.Labels), x, y, float32(c.Scale))
		},
	})
}

// readIdx says of a missing file where MNIST's are.
func readIdx(file string) (tensor.Tensor, error) {
	t, err := tensorfile.ReadIdx(file)
	var f stages.Finding
	if errors.As(err, &f) && f.Msg == "no such file" {
		f.Fix = "neither with .gz; MNIST's four files are at yann.lecun.com/exdb/mnist and in many mirrors"
		err = f
	}
	return t, err
}

// arrays makes a table of inputs, flattened to one row an example where they are images of whole numbers, and targets.
func arrays(xfile, yfile string, x, y tensor.Tensor, scale float32) (*stages.Dataset, error) {
	fault := func(file, format string, args ...any) error {
		return stages.Finding{File: file, Msg: fmt.Sprintf(format, args...)}
	}
	if x.Shape.Rank == 0 || x.Len() == 0 {
		return nil, fault(xfile, "want an array with examples in the first dimension, got the shape %v", x.Shape)
	}
	if y.Shape.Rank == 0 || y.Len() == 0 {
		return nil, fault(yfile, "want an array with targets in the first dimension, got the shape %v", y.Shape)
	}
	n := x.Shape.Dims[0]
	if y.Shape.Dims[0] != n {
		return nil, fault(yfile, "there are %d targets for %d inputs", y.Shape.Dims[0], n)
	}
	row := func(s tensor.Shape) tensor.Shape { return tensor.Of(s.Slice()[1:]...) }
	if x.DType == tensor.I32 { // pixels
		f := tensor.New(tensor.F32, tensor.Of(n, x.Len()/n))
		for i, v := range x.I32 {
			f.F32[i] = float32(v)
		}
		x = f
	}
	if x.Shape.Rank == 1 {
		x.Shape = tensor.Of(n, 1)
	}
	for i, v := range x.F32 {
		s := v / scale
		if s-s != 0 {
			return nil, fault(xfile, "row %d, value %d is %v", i/(x.Len()/n)+1, i%(x.Len()/n)+1, s)
		}
		x.F32[i] = s
	}
	facts := map[string]int{"rows": n, "features": x.Shape.Last()}
	t := &stages.Table{N: n, Cols: []stages.Column{{Name: "x", Shape: row(x.Shape), F32: x.F32}}}
	if y.DType == tensor.I32 {
		k := 0
		for i, v := range y.I32 {
			if v < 0 {
				return nil, fault(yfile, "row %d: target %d, want a class from 0 on", i/(y.Len()/n)+1, v)
			}
			k = max(k, int(v)+1)
		}
		if y.Shape.Rank == 2 && y.Shape.Dims[1] == 1 {
			y.Shape = tensor.Of(n)
		}
		t.Cols = append(t.Cols, stages.Column{Name: "y", DType: tensor.I32, Shape: row(y.Shape), I32: y.I32, Max: k})
		facts["classes"] = k
	} else {
		for i, v := range y.F32 {
			if v-v != 0 {
				return nil, fault(yfile, "row %d, target %d is %v", i/(y.Len()/n)+1, i%(y.Len()/n)+1, v)
			}
		}
		if y.Shape.Rank == 1 {
			y.Shape = tensor.Of(n, 1)
		}
		t.Cols = append(t.Cols, stages.Column{Name: "y", Shape: row(y.Shape), F32: y.F32})
		facts["outputs"] = y.Shape.Last()
	}
	return &stages.Dataset{Table: t, Facts: facts, Check: checkTable(t)}, nil
}
