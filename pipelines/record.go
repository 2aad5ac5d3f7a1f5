package pipelines

import (
	"encoding/json"
	"fmt"
	"maps"
	"path/filepath"
	"slices"

	"vtpu/pipelines/rundir"
	"vtpu/stages"
	"vtpu/stages/reclog"
	"vtpu/stages/weights"
)

// StreamDir is where a run keeps its recorded steps, below the run directory.
const StreamDir = "stream"

// JournalDir is where a run keeps the examples of an online source.
const JournalDir = "journal"

// recorder is the config of a commit stage: what it says of recording.
type recorder interface {
	Records() (what string, perPart bool)
	SetRecord(what string)
}

// eachPart says whether a stage sees the messages of all parts, before they are summed.
func (it *Item) eachPart() bool {
	return it.Def.Room == stages.Scatter && it.Def.Contract != nil && it.Def.Contract(it.Cfg).EachPart
}

// records says what the pipeline records of each step (none, inputs, gradients) and whether by part, and gives the config that says so.
func (p *Pipeline) records() (what string, perPart bool, cfg any) {
	for i := range p.Items {
		if r, ok := p.Items[i].Cfg.(recorder); ok {
			if what, perPart = r.Records(); what != "none" {
				return what, perPart, p.Items[i].Cfg
			}
		}
	}
	return "none", false, nil
}

// setRecord is what --record does: the commit stage records, or nothing does.
func (p *Pipeline) setRecord(what string) error {
	if !slices.Contains([]string{"none", "inputs", "gradients"}, what) {
		return stages.Finding{File: "--record " + what, Msg: fmt.Sprintf("%q can't be recorded", what), Fix: "gradients, inputs or none"}
	}
	for i := range p.Items {
		if r, ok := p.Items[i].Cfg.(recorder); ok {
			r.SetRecord(what)
			return nil
		}
	}
	def := stages.Find("commit")
	if def == nil {
		return stages.Finding{File: "--record " + what, Msg: "the program lacks the stage commit"}
	}
	it := Item{Place: Place{File: p.File}, Def: def, Cfg: def.NewConfig(), Name: "commit"}
	it.Cfg.(recorder).SetRecord(what)
	p.Items = append(p.Items, it)
	return nil
}

// record puts in the stage that writes the stream.
func (pl *planner) record(what string, cfg any) {
	if what == "gradients" && len(pl.trained("")) == 0 {
		pl.fault(Place{File: pl.Pipe.File}, "record: inputs, or none", "commit: nothing is learnt, there are no gradients to record")
		return
	}
	before := len(pl.Nodes)
	pl.implicit("record")
	if len(pl.Nodes) == before {
		return
	}
	n := pl.Nodes[before]
	stages.CopyConfig(n.Cfg, cfg)
	if what != "inputs" {
		return
	}
	n.Env.Ports = map[string]stages.Binding{}
	for _, v := range pl.recordedInputs() {
		n.Env.Ports[fmt.Sprintf("x%d", n.Env.Inputs)] = stages.Binding{Name: v.name, Slot: v.slot, DType: v.dtype, Shape: v.shape}
		n.Env.Inputs++
		n.In = append(n.In, v.name)
	}
	if n.Env.Inputs == 0 {
		pl.fault(Place{File: pl.Pipe.File}, "record: gradients, or none", "commit: no stage brings data, there are no inputs to record")
	}
}

// recordedInputs are the outputs of the stages that bring data. Rows of weights that gather reads are none: a replay reads them again.
func (pl *planner) recordedInputs() (vs []*value) {
	for _, n := range pl.Nodes {
		if n.Def.Data != nil {
			vs = append(vs, pl.outs[n]...)
		}
	}
	return vs
}

// About describes the streams that a run of the plan records.
func (p *Plan) About() (reclog.About, []byte, error) {
	what, perPart, _ := p.Pipe.records()
	a := reclog.About{Version: Version(), Pipeline: p.Pipe.Name, What: what, PerPart: perPart, Identity: p.Identity(), Seed: p.Pipe.Seed, Parts: p.Pipe.Parts, Steps: p.Steps}
	if p.Data != nil {
		a.Facts = maps.Clone(p.Data.Facts)
	}
	var all []*stages.ParamBinding
	for _, n := range p.Nodes {
		switch n.Def.Name {
		case "record":
			for i := range n.Env.Inputs {
				b := n.Env.Ports[fmt.Sprintf("x%d", i)]
				a.Slots = append(a.Slots, reclog.Slot{Name: b.Name, DType: b.DType.String(), Shape: b.Shape.Slice()})
			}
		case "guard":
			all = n.Env.All
		}
	}
	if what == "gradients" {
		for _, w := range p.Store.All(weights.Weight) {
			in := p.inits[w.Name]
			q := reclog.Param{Name: w.Name, Shape: w.T.Shape.Slice(), Home: w.Coord.String(), Init: in.Kind, Value: in.Value, Frozen: w.Frozen()}
			for _, b := range all {
				if b.Name == w.Name {
					q.Grad, q.Sparse = true, b.Sparse
					if b.Sparse {
						q.Rows = p.Layout.Info(b.IDs).Shape.Len()
					}
				}
			}
			a.Params = append(a.Params, q)
		}
	}
	raw, err := json.Marshal(a)
	return a, raw, err
}

// streams lists the recorded streams of a run directory that must hold every step up to a checkpoint: the steps, and the journals of sources that can't be read twice.
func (p *Plan) streams(dir *rundir.Dir) (names []string) {
	if what, _, _ := p.Pipe.records(); what != "none" {
		names = append(names, dir.File(StreamDir))
	}
	if p.Data != nil && p.Data.Online != nil {
		names = append(names, dir.File(JournalDir))
	}
	return names
}

// covered is the newest step up to which every stream that the plan writes is there; at most step. A stream that has not begun covers all: it begins now.
func (p *Plan) covered(dir *rundir.Dir, step int64) (int64, error) {
	for _, name := range p.streams(dir) {
		first, next, err := reclog.Extent(name, reclog.ReadOptions{})
		if err != nil {
			return 0, reclog.Finding(name, err)
		}
		if next > first && next < step {
			step = next
		}
	}
	return step, nil
}

// StartRecording makes the plan's stages write to a run directory.
func (p *Plan) StartRecording(dir string) error {
	_, raw, err := p.About()
	if err != nil {
		return err
	}
	p.Recording = &stages.Recording{Dir: dir, Run: filepath.Base(dir), About: raw}
	return nil
}
