package pipelines

import (
	"errors"
	"fmt"
	"io"
	"math"
	"path/filepath"

	"vtpu/pipelines/rundir"
	"vtpu/stages"
	"vtpu/stages/disk"
	"vtpu/stages/reclog"
	"vtpu/stages/tensor"
	"vtpu/stages/tensorfile"
	"vtpu/stages/wire"
)

// Difference is the first place where two runs are not the same. Its JSON is the line of diff --json.
type Difference struct {
	Event   string  `json:"event"` // diff
	Same    bool    `json:"same"`  // in all that both runs have
	By      string  `json:"by"`    // what was compared last: gradients, inputs, loss, checkpoint
	Step    int64   `json:"step,omitempty"`
	Part    int32   `json:"part,omitempty"` // from 1; 0 where it is of the whole step
	Tensor  string  `json:"tensor,omitempty"`
	Element int     `json:"element,omitempty"`
	A       float64 `json:"a"`
	B       float64 `json:"b"`
	Steps   int64   `json:"steps"`            // that were compared
	Config  string  `json:"config,omitempty"` // what is known to be different beforehand
}

// Diff compares two runs: recorded streams frame by frame, where both have one of the same kind; then the losses; then the weights of checkpoints that both have.
func Diff(a, b string) (Difference, error) {
	d := Difference{Event: "diff", Same: true}
	var ia, ib RunInfo
	if err := errors.Join(readRun(disk.OS{}, a, &ia), readRun(disk.OS{}, b, &ib)); err != nil {
		return d, err
	}
	switch {
	case ia.Identity == ib.Identity:
	case ia.Seed != ib.Seed:
		d.Config = fmt.Sprintf("the seeds are %d and %d", ia.Seed, ib.Seed)
	default:
		d.Config = "the pipelines or their data differ"
	}
	for _, by := range []func(a, b string) error{d.streams, d.losses, d.checkpoints} {
		if err := by(a, b); err != nil || !d.Same {
			return d, err
		}
	}
	return d, nil
}

// streams compares frame by frame.
func (d *Difference) streams(a, b string) error {
	var rs [2]*reclog.Reader
	var about [2]reclog.About
	for i, dir := range []string{a, b} {
		stream := filepath.Join(dir, StreamDir)
		var err error
		if about[i], _, err = reclog.ReadAbout(stream, reclog.ReadOptions{}); errors.Is(err, reclog.ErrNoStream) {
			return nil
		}
		if err != nil {
			return reclog.Finding(stream, err)
		}
		if rs[i], err = reclog.Open(stream, reclog.ReadOptions{}); err != nil {
			return reclog.Finding(stream, err)
		}
		defer rs[i].Close()
	}
	if about[0].What != about[1].What || about[0].PerPart != about[1].PerPart {
		return nil
	}
	d.By = about[0].What
	first := max(rs[0].About().Step, rs[1].About().Step)
	for i, dir := range []string{a, b} {
		if err := rs[i].SeekStep(first); err != nil {
			return reclog.Finding(dir, err)
		}
	}
	for {
		var fs [2]*wire.Frame
		for i, dir := range []string{a, b} {
			f, err := rs[i].Next()
			for err == nil && f.Kind == wire.Open {
				f, err = rs[i].Next()
			}
			if errors.Is(err, io.EOF) {
				return nil
			}
			if err != nil {
				return reclog.Finding(dir, err)
			}
			if f.Kind == wire.Close {
				return nil
			}
			fs[i] = f
		}
		if d.frames(fs[0], fs[1]); !d.Same {
			return nil
		}
		d.Steps = fs[0].Step + 1 - first
	}
}

// frames compares two frames of one place.
func (d *Difference) frames(a, b *wire.Frame) {
	d.Step = a.Step + 1
	if a.Parts > 1 {
		d.Part = a.Part + 1
	}
	n := max(len(a.Tensors), len(b.Tensors))
	for i := range n {
		var x, y tensor.Tensor
		name := ""
		if i < len(a.Tensors) {
			x, name = a.Tensors[i].Tensor(), a.Tensors[i].Name
		}
		if i < len(b.Tensors) {
			y = b.Tensors[i].Tensor()
			if name == "" {
				name = b.Tensors[i].Name
			}
		}
		if at := differs(&x, &y); at >= 0 || i >= len(a.Tensors) || i >= len(b.Tensors) || b.Tensors[i].Name != name {
			d.differ(name, max(at, 0), &x, &y)
			return
		}
	}
	if math.Float64bits(a.Loss) != math.Float64bits(b.Loss) {
		d.Same, d.Tensor, d.A, d.B = false, "loss", a.Loss, b.Loss
		return
	}
	d.Step, d.Part = 0, 0
}

func (d *Difference) differ(name string, at int, a, b *tensor.Tensor) {
	value := func(t *tensor.Tensor) float64 {
		switch {
		case at >= t.Len():
			return 0
		case t.DType == tensor.I32:
			return float64(t.I32[at])
		}
		return float64(t.F32[at])
	}
	d.Same, d.Tensor, d.Element, d.A, d.B = false, name, at, value(a), value(b)
}

// losses compares the lines of metrics.jsonl that both runs have.
func (d *Difference) losses(a, b string) error {
	ma, err := rundir.ReadMetrics(disk.OS{}, a)
	if err != nil {
		return err
	}
	mb, err := rundir.ReadMetrics(disk.OS{}, b)
	if err != nil {
		return err
	}
	other := map[int64]float64{}
	for _, m := range mb {
		if m.Event == "step" {
			other[m.Step] = m.Loss
		}
	}
	n := int64(0)
	for _, m := range ma {
		x, ok := other[m.Step]
		if m.Event != "step" || !ok {
			continue
		}
		n++
		if math.Float64bits(x) != math.Float64bits(m.Loss) {
			d.Same, d.By, d.Step, d.Tensor, d.A, d.B = false, "loss", m.Step, "loss", m.Loss, x
			return nil
		}
	}
	if n > 0 && d.By == "" {
		d.By = "loss"
	}
	d.Steps = max(d.Steps, n)
	return nil
}

// checkpoints compares the checkpoints of steps that both runs have.
func (d *Difference) checkpoints(a, b string) error {
	sa, err := rundir.Checkpoints(disk.OS{}, a)
	if err != nil {
		return err
	}
	for _, step := range sa {
		name := rundir.CheckpointName(step)
		ea, ma, err := tensorfile.ReadSafetensors(filepath.Join(a, name))
		if err != nil {
			return err
		}
		eb, mb, err := tensorfile.ReadSafetensors(filepath.Join(b, name))
		var f stages.Finding
		if errors.As(err, &f) && f.Msg == "no such file" {
			continue
		}
		if err != nil {
			return err
		}
		d.By, d.Steps = "checkpoint", max(d.Steps, step)
		byName := map[string]*tensor.Tensor{}
		for i := range eb {
			byName[eb[i].Name] = &eb[i].T
		}
		for i := range ea {
			y := byName[ea[i].Name]
			if y == nil {
				y = &tensor.Tensor{}
			}
			if at := differs(&ea[i].T, y); at >= 0 {
				d.Step = step
				d.differ(ea[i].Name, at, &ea[i].T, y)
				return nil
			}
		}
		if ma["vtpu.weights_sha256"] != mb["vtpu.weights_sha256"] {
			d.Same, d.Step, d.Tensor = false, step, "weights_sha256"
			return nil
		}
	}
	return nil
}

// String says it in a sentence.
func (d *Difference) String() string {
	if d.Same {
		if d.By == "" {
			return "the runs have nothing in common that could be compared"
		}
		return fmt.Sprintf("no difference in %d steps (by %s)", d.Steps, d.By)
	}
	part := ""
	if d.Part > 0 {
		part = fmt.Sprintf(", part %d", d.Part)
	}
	s := fmt.Sprintf("the first difference is in step %d%s, %s of %s: element %d is %v and %v", d.Step, part, d.By, d.Tensor, d.Element, d.A, d.B)
	if d.Config != "" {
		s += " (" + d.Config + ")"
	}
	return s
}
