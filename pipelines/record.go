package pipelines

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"

	"vtpu/pipelines/rundir"
	"vtpu/stages"
	"vtpu/stages/disk"
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

// recordsAside says whether what is recorded of a step is still there when the step is committed: it can then be written down while the D lanes are at the next one.
func (pl *planner) recordsAside(perPart bool) bool {
	if perPart && pl.Pipe.Parts > 1 || pl.Pipe.corrected() {
		return false
	}
	for i := range pl.Pipe.Items {
		it := &pl.Pipe.Items[i]
		if it.Def.Room < stages.Backward || it.Def.Contract == nil || it.changesParts() {
			continue
		}
		if it.Def.Contract(it.Cfg).Grads == stages.GradWrite {
			return false
		}
	}
	return true
}

// asideBytes is the largest body that is kept for a step longer so that it can be recorded meanwhile.
const asideBytes = 8 << 20

// aside says whether a node works beside the D lanes, a step behind them.
func (p *Plan) aside(n *Node) bool {
	return n.Def.Name == "record" && n == p.Nodes[len(p.Nodes)-1] && p.Lanes.S > 0 && p.Layout.BodyBytes() <= asideBytes
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

// kept is the stream of a run directory as an earlier life of the run has left it.
type kept struct {
	there       bool // frames of steps are in it
	first, next int64
	about       reclog.About
	damage      *reclog.Damage // after step next, of what it holds whole
}

func keptStream(dir *rundir.Dir) (k kept, err error) {
	name, o := dir.File(StreamDir), reclog.ReadOptions{FS: dir.FS}
	k.first, k.next, err = reclog.Extent(name, o)
	if errors.As(err, &k.damage) {
		err = nil
	}
	if err == nil && k.next > k.first {
		k.there = true
		k.about, _, err = reclog.ReadAbout(name, o)
	}
	return k, reclog.Finding(name, err)
}

func (k *kept) String() string {
	return fmt.Sprintf("the %s of the steps %d to %d", k.what(), k.first+1, k.next)
}

func (k *kept) what() string { return recorded(k.about.What, k.about.PerPart) }

// recorded says in words what is recorded.
func recorded(what string, perPart bool) string {
	if what == "gradients" && perPart {
		return "gradients by part"
	}
	return what
}

// mayRecord says whether a run that goes on from a checkpoint may write to the stream that is there. off: it has recorded nothing lately.
func (p *Plan) mayRecord(dir *rundir.Dir, k *kept, step int64, off bool) error {
	what, perPart, _ := p.Pipe.records()
	fork := fmt.Sprintf("begin a run with a stream of its own: vtpu fork %s --at %d --record %s", dir.Path, step, what)
	switch {
	case what == "none" || !k.there || step <= k.first: // nothing of it stays
		return nil
	case k.about.What != what || k.about.PerPart != perPart:
		return stages.Finding{File: dir.File(StreamDir), Msg: fmt.Sprintf("the stream holds %v: %s can't follow in it", k, recorded(what, perPart)), Fix: fork + "; or resume with --record none"}
	case off && k.next < step:
		return stages.Finding{File: dir.File(StreamDir), Msg: fmt.Sprintf("the stream holds %v, the run goes on after step %d: nothing was recorded between, and a stream has no gaps", k, step),
			Fix: fork + "; or move the stream away: a new one then begins here"}
	}
	return nil
}

// covered is the newest step up to which every stream that the plan writes is there; at most step. A stream that has not begun covers all: it begins now. The journal of a
// source that can't be read twice is a stream too.
func (p *Plan) covered(dir *rundir.Dir, k *kept, step int64) (int64, error) {
	if what, _, _ := p.Pipe.records(); what != "none" {
		if k.damage != nil && k.next < step { // what is behind the checkpoint goes anyway
			return 0, reclog.Finding(dir.File(StreamDir), k.damage)
		}
		if k.there {
			step = min(step, k.next)
		}
	}
	if p.Data != nil && p.Data.Online != nil {
		name := dir.File(JournalDir)
		first, next, err := reclog.Extent(name, reclog.ReadOptions{FS: dir.FS})
		if err != nil {
			return 0, reclog.Finding(name, err)
		}
		if next > first {
			step = min(step, next)
		}
	}
	return step, nil
}

// StartRecording makes the plan's stages write to a run directory; a nil file system is the operating system's.
func (p *Plan) StartRecording(fsys disk.FS, dir string) error {
	_, raw, err := p.About()
	if err != nil {
		return err
	}
	p.Recording = &stages.Recording{FS: fsys, Dir: dir, Run: filepath.Base(dir), About: raw}
	return nil
}
