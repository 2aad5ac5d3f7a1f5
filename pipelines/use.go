package pipelines

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"vtpu/pipelines/exec"
	"vtpu/pipelines/rundir"
	"vtpu/pipelines/strict"
	"vtpu/stages"
	"vtpu/stages/disk"
	"vtpu/stages/weights"
)

// Suggest names what a misspelt word most likely means, or all there is.
func Suggest(word string, all []string) string { return strict.Suggest(word, all) }

// ParamCount is the number of weights.
func (p *Plan) ParamCount() int {
	n := 0
	for _, w := range p.Store.All(weights.Weight) {
		n += w.T.Len()
	}
	return n
}

// TensorCount is the number of weight tensors.
func (p *Plan) TensorCount() int { return len(p.Store.All(weights.Weight)) }

// LaneOf names the lanes that a stage runs on.
func (p *Plan) LaneOf(n *Node) string {
	middle := n.Def.Room == stages.Compute || n.Def.Room == stages.Loss || n.Twin != nil
	switch {
	case middle && p.Lanes.D == 1:
		return "D0"
	case middle:
		return fmt.Sprintf("D0-D%d", p.Lanes.D-1)
	case p.Lanes.S == 0:
		return "D0"
	case p.Lanes.S == 2 && n.Def.Room != stages.Gather:
		return "S1"
	}
	return "S0"
}

// Writes names what a stage writes, with the shapes.
func (p *Plan) Writes(n *Node) string {
	if n.Twin != nil || n.Bound == nil || len(n.Bound.Out) == 0 {
		return strings.Join(n.Out, ", ")
	}
	var out []string
	for i, o := range n.Bound.Out {
		out = append(out, n.Out[i]+o.Dims.String())
	}
	return strings.Join(out, ", ")
}

// PresetSummary is the first sentence of a preset's comment.
func PresetSummary(name string) string {
	b, _ := preset(name)
	s, _, _ := strings.Cut(opening(b), "\n")
	return s
}

// OpenRun loads the pipeline of a run directory and one of its checkpoints, the newest for step -1, to sample, evaluate or export.
func OpenRun(dir string, step int64) (*Plan, *exec.Engine, error) {
	var info RunInfo
	if err := readRun(disk.OS{}, dir, &info); err != nil {
		return nil, nil, err
	}
	p, err := info.pipe(nil)
	if err != nil {
		return nil, nil, err
	}
	plan, err := NewPlan(p, info.Dir, nil)
	if err != nil {
		return nil, nil, err
	}
	steps, err := rundir.Checkpoints(disk.OS{}, dir)
	if err != nil {
		return nil, nil, err
	}
	if len(steps) == 0 {
		return nil, nil, stages.Finding{File: dir, Msg: "the run has no checkpoint yet", Fix: "wait for the first one (vtpu serve --wait does), or for the end of the run"}
	}
	if step < 0 {
		step = steps[len(steps)-1]
	}
	if !slices.Contains(steps, step) {
		return nil, nil, stages.Finding{File: dir, Msg: fmt.Sprintf("there is no checkpoint of step %d", step), Fix: fmt.Sprintf("there are %v", steps)}
	}
	if _, err := plan.restore(disk.OS{}, filepath.Join(dir, rundir.CheckpointName(step))); err != nil {
		return nil, nil, err
	}
	e, err := exec.New(plan.Program(nil), exec.Placement{D: 1})
	return plan, e, err
}

// Import begins a run with the weights of a file: the run directory then holds a checkpoint of step 0, from which run --resume goes on.
func Import(o Options, file string) (*Plan, string, error) {
	plan, base, err := Prepare(o)
	if err != nil {
		return nil, "", err
	}
	if err := plan.Import(file); err != nil {
		return nil, "", err
	}
	r := &run{plan: plan, o: o, last: -1, base: new(int64)}
	if err := r.open(base); err != nil {
		return nil, "", err
	}
	err = plan.save(r.dir, 0)
	return plan, r.dir.Path, also(err, r.close())
}

// Schema is the JSON schema of a pipeline file.
func Schema() any {
	type object = map[string]any
	generic := object{
		"name": object{"type": "string"}, "in": nameOrList, "out": nameOrList,
		"share": object{"type": []string{"string", "object"}}, "init": object{"type": []string{"number", "object"}},
		"home": object{"type": []string{"string", "object"}}, "freeze": object{"type": "boolean"}, "params": object{"type": "string"},
	}
	kinds := object{"residual": object{"$ref": "#/$defs/stages"}}
	var names []string
	for _, d := range stages.Registered() {
		if strings.HasSuffix(d.Name, "_backward") {
			continue
		}
		s := strict.SchemaOf(d.NewConfig())
		s.Description = d.Summary
		all := object{}
		for k, v := range s.Properties {
			all[k] = v
		}
		for k, v := range generic {
			all[k] = v
		}
		o := object{"type": s.Type, "description": d.Summary, "properties": all, "additionalProperties": false}
		if len(s.Required) > 0 {
			o["required"] = s.Required
		}
		kinds[d.Name] = o
		names = append(names, d.Name)
	}
	var sources []any
	for _, d := range stages.RegisteredSources() {
		s := strict.SchemaOf(d.NewConfig())
		s.Type, s.Description = "object", d.Summary
		all := object{"source": object{"const": d.Name}, "split": strict.SchemaOf(&dataHead{}).Properties["split"]}
		for k, v := range s.Properties {
			all[k] = v
		}
		sources = append(sources, object{"type": "object", "description": d.Summary, "properties": all, "additionalProperties": false,
			"required": append([]string{"source"}, s.Required...)})
	}
	top := strict.SchemaOf(&head{}).Properties
	links := noLinks()
	return object{
		"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "vtpu pipeline", "type": "object", "additionalProperties": false,
		"required": []string{"stages"},
		"properties": object{
			"name": top["name"], "seed": top["seed"], "parts": top["parts"],
			"data":   object{"anyOf": sources},
			"stages": object{"$ref": "#/$defs/stages"},
			"run":    strict.SchemaOf(&RunSection{Keep: 3}), "place": strict.SchemaOf(&PlaceSection{}), "links": strict.SchemaOf(&links),
			"sample": strict.SchemaOf(&SampleSection{Count: 10, Temperature: 1}),
		},
		"$defs": object{"stages": object{"type": "array", "minItems": 1, "items": object{"anyOf": []any{
			object{"type": "string", "enum": names},
			object{"type": "object", "required": []string{"repeat", "stages"}, "additionalProperties": false, "properties": object{
				"repeat": object{"type": []string{"integer", "string"}}, "name": object{"type": "string"}, "stages": object{"$ref": "#/$defs/stages"}}},
			object{"type": "object", "minProperties": 1, "maxProperties": 1, "additionalProperties": false, "properties": kinds},
		}}}},
	}
}

var nameOrList = map[string]any{"anyOf": []any{map[string]any{"type": "string"}, map[string]any{"type": "array", "items": map[string]any{"type": "string"}}}}
