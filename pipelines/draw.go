package pipelines

import (
	"bytes"
	"fmt"
	"io"
	"runtime"
	"strings"

	"vtpu/pipelines/chart"
	"vtpu/pipelines/report"
	"vtpu/pipelines/rundir"
	"vtpu/stages/weights"
)

// Curves are the losses of a run: training and, where there was an evaluation, validation.
func Curves(ms []rundir.Metric) []chart.Series {
	train, valid := chart.Series{Name: "training loss"}, chart.Series{Name: "validation loss"}
	for _, m := range ms {
		s := &train
		if m.Event == "eval" {
			s = &valid
		}
		s.X, s.Y = append(s.X, float64(m.Step)), append(s.Y, m.Loss)
	}
	if len(valid.X) == 0 {
		return []chart.Series{train}
	}
	return []chart.Series{train, valid}
}

// draw writes the charts and the report.
func (r *run) draw() error {
	d, p := &r.done, r.plan
	curves := Curves(d.Metrics)
	var svg bytes.Buffer
	if err := chart.Draw(&svg, "svg", p.Pipe.Name, curves); err != nil {
		return err
	}
	if err := r.dir.Write("loss.svg", func(w io.Writer) error { _, err := w.Write(svg.Bytes()); return err }); err != nil {
		return err
	}
	if err := r.dir.Write("loss.png", func(w io.Writer) error { return chart.Draw(w, "png", p.Pipe.Name, curves) }); err != nil {
		return err
	}
	rep := report.Report{Title: p.Pipe.Name, Summary: p.Pipe.Comment, Chart: svg.Bytes(), Samples: d.Samples, Pipeline: string(p.Pipe.Text)}
	fact := func(k, format string, args ...any) {
		rep.Facts = append(rep.Facts, report.Fact{Key: k, Value: fmt.Sprintf(format, args...)})
	}
	fact("steps", "%d of %d", d.Steps, p.Steps)
	if len(d.Metrics) > 0 {
		fact("loss", "%.6g at first, %.6g at last", d.FirstLoss, d.LastLoss)
	}
	if d.EvalLoss != nil {
		fact("validation loss", "%.6g", *d.EvalLoss)
	}
	if d.Accuracy != nil {
		fact("accuracy", "%.2f %%", 100**d.Accuracy)
	}
	for _, c := range d.Cells {
		fact("cell "+c.At, "%s = %v", c.Name, c.Value)
	}
	fact("weights_sha256", "%s", d.Weights)
	fact("state_sha256", "%s", d.State)
	fact("steps a second", "%.0f", d.PerSecond)
	fact("lanes", "%s: %s", d.Lanes, p.Lanes.Why)
	fact("instruction set", "%s", d.ISA)
	fact("seed", "%d", p.Pipe.Seed)
	fact("made by", "vtpu %s, %s, %s/%s, %d CPUs", Version(), runtime.Version(), runtime.GOOS, runtime.GOARCH, runtime.NumCPU())
	with := map[*Node]string{}
	for _, f := range p.fusions() {
		for _, n := range f.nodes[1:] {
			with[n] = f.nodes[0].Name
		}
	}
	for _, n := range p.Nodes {
		s := report.Stage{Name: n.Name, Kind: n.Def.Name, Room: n.Def.Room.String(), Pipe: n.Def.Pipe.String(), In: strings.Join(n.In, ", "),
			Out: strings.Join(n.Out, ", "), Flops: n.Flops, Share: -1, With: with[n]}
		if v, ok := d.Shares[n.Name]; ok && d.Shares != nil {
			s.Share = v
		}
		rep.Stages = append(rep.Stages, s)
	}
	for _, w := range p.Store.All(weights.Weight) {
		rep.Params = append(rep.Params, report.Param{Name: w.Name, Shape: w.T.Shape.String(), Coord: w.Coord.String(), Count: w.T.Len()})
	}
	rep.Command = "vtpu run " + r.o.File
	for _, s := range r.o.Sets {
		rep.Command += fmt.Sprintf(" --set %q", s)
	}
	if r.o.Steps > 0 {
		rep.Command += fmt.Sprintf(" --steps %d", r.o.Steps)
	}
	return r.dir.Write("report.html", func(w io.Writer) error { return report.Write(w, rep) })
}
