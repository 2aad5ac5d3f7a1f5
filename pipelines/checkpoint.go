package pipelines

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"vtpu/pipelines/rundir"
	"vtpu/stages"
	"vtpu/stages/disk"
	"vtpu/stages/tensor"
	"vtpu/stages/tensorfile"
	"vtpu/stages/weights"
)

// entries lists what the store holds: the weights, and with all set the optimizer state too.
func entries(s *weights.Store, all bool) []tensorfile.Entry {
	var es []tensorfile.Entry
	for _, p := range s.All(weights.Weight) {
		es = append(es, tensorfile.Entry{Name: p.Name, T: p.T, Coord: p.Coord})
	}
	if all {
		for _, p := range s.All(weights.State) {
			es = append(es, tensorfile.Entry{Name: p.Name, T: p.T, Coord: p.Coord})
		}
	}
	return es
}

// save writes a checkpoint of a drained pipeline and removes the oldest ones.
func (p *Plan) save(d *rundir.Dir, step int64) error {
	w, st := p.Store.Hashes()
	meta := map[string]string{"vtpu.step": strconv.FormatInt(step, 10), "vtpu.pipeline": p.Pipe.Name, "vtpu.identity": p.Identity(),
		"vtpu.weights_sha256": w, "vtpu.state_sha256": st}
	if p.Data != nil && p.Data.Text != nil {
		b, err := json.Marshal(p.Data.Text.Vocab)
		if err != nil {
			return err
		}
		meta["vtpu.vocab"] = string(b)
	}
	err := d.Write(rundir.CheckpointName(step), func(out io.Writer) error {
		return tensorfile.WriteSafetensors(out, entries(p.Store, true), meta)
	})
	if err != nil {
		return err
	}
	return d.Prune(p.Pipe.Run.Keep, step)
}

const olderFix = "move it away: the newest that is left is used then"

// Identity is that of the pipeline and of the data that it found.
func (p *Plan) Identity() string {
	id := p.Pipe.Identity()
	if p.Data != nil {
		id += "/" + p.Data.Check
	}
	return id
}

// restore reads a checkpoint into the store: everything must be there, with the right shapes, and give the hashes that the file names.
func (p *Plan) restore(fsys disk.FS, path string) (step int64, err error) {
	return p.restoreAs(fsys, path, p.Identity())
}

// restoreAs is restore for a checkpoint of a pipeline with another identity, which the caller knows to fit.
func (p *Plan) restoreAs(fsys disk.FS, path, identity string) (step int64, err error) {
	es, meta, err := tensorfile.ReadSafetensorsOf(fsys, path)
	var f stages.Finding
	if errors.As(err, &f) && f.Fix == "" {
		f.Fix = olderFix
		return 0, f
	}
	if err != nil {
		return 0, err
	}
	bad := func(fix, format string, args ...any) error {
		return stages.Finding{File: path, Msg: fmt.Sprintf(format, args...), Fix: fix}
	}
	step, err = strconv.ParseInt(meta["vtpu.step"], 10, 64)
	if err != nil || step < 0 {
		return 0, bad("vtpu import takes weights from other tools", "not a checkpoint of vtpu: it does not say after which step it was written")
	}
	if id := meta["vtpu.identity"]; id != identity {
		return 0, bad("resume with the pipeline, the --set and the data that the run began with: its run.json names them", "the checkpoint belongs to another pipeline, seed or data")
	}
	if err := p.fill(path, es, true); err != nil {
		return 0, err
	}
	p.Store.SetVersion(step)
	if w, st := p.Store.Hashes(); w != meta["vtpu.weights_sha256"] || st != meta["vtpu.state_sha256"] {
		return 0, bad(olderFix, "damaged: the weights or the optimizer state have another SHA-256 than when they were written")
	}
	return step, nil
}

// readSound reads the checkpoint of a step for a pipeline that need not be its own: what the file holds must give the hashes that it names.
func readSound(fsys disk.FS, path string, step int64) ([]tensorfile.Entry, error) {
	es, meta, err := tensorfile.ReadSafetensorsOf(fsys, path)
	if err != nil {
		return nil, err
	}
	ps := make([]*weights.Param, len(es))
	for i := range es {
		ps[i] = &weights.Param{Name: es[i].Name, T: es[i].T}
		if strings.Contains(es[i].Name, "/") { // as Store.State names it; names of weights have no slash
			ps[i].Kind = weights.State
		}
	}
	slices.SortFunc(ps, func(a, b *weights.Param) int { return strings.Compare(a.Name, b.Name) })
	if w, st := weights.Hashes(ps, step); w != meta["vtpu.weights_sha256"] || st != meta["vtpu.state_sha256"] {
		return nil, stages.Finding{File: path, Msg: "damaged: the weights or the optimizer state have another SHA-256 than when they were written", Fix: olderFix}
	}
	return es, nil
}

// fill copies entries into the store. all wants the optimizer state too; otherwise entries that the model lacks are passed over if they are state.
func (p *Plan) fill(path string, es []tensorfile.Entry, all bool) error {
	byName := map[string]*tensor.Tensor{}
	for i := range es {
		byName[es[i].Name] = &es[i].T
	}
	var fs stages.Findings
	fault := func(format string, args ...any) {
		fs = append(fs, stages.Finding{File: path, Msg: fmt.Sprintf(format, args...)})
	}
	kinds := []weights.Kind{weights.Weight}
	if all {
		kinds = append(kinds, weights.State)
	}
	for _, k := range kinds {
		for _, w := range p.Store.All(k) {
			t := byName[w.Name]
			switch {
			case t == nil:
				fault("tensor %s is missing", w.Name)
			case t.Shape != w.T.Shape || t.DType != w.T.DType:
				fault("tensor %s is %v %v, the model has %v %v", w.Name, t.DType, t.Shape, w.T.DType, w.T.Shape)
			}
		}
	}
	if err := fs.Err(); err != nil {
		return err
	}
	for _, k := range kinds {
		for _, w := range p.Store.All(k) {
			copy(w.T.F32, byName[w.Name].F32)
			copy(w.T.I32, byName[w.Name].I32)
		}
	}
	return nil
}

// Import takes the weights of a file of any format into the store; optimizer state starts anew.
func (p *Plan) Import(path string) error {
	es, _, err := tensorfile.Load(path)
	if err == nil && p.Store.Get("wte.weight") == nil {
		es, err = fromGPT2(path, es)
	}
	if err != nil {
		return err
	}
	return p.fill(path, es, false)
}

// Export writes the weights, and with state the optimizer state, in the format that the extension names.
func (p *Plan) Export(path string, state bool) error {
	w, _ := p.Store.Hashes()
	return tensorfile.Save(path, entries(p.Store, state), map[string]string{"vtpu.pipeline": p.Pipe.Name, "vtpu.weights_sha256": w})
}
