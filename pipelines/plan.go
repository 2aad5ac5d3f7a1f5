package pipelines

import (
	"errors"
	"fmt"
	"maps"
	"path"
	"runtime"
	"slices"
	"strings"
	"sync"

	"vtpu/pipelines/exec"
	"vtpu/smtpool"
	"vtpu/stages"
	"vtpu/stages/rng"
	"vtpu/stages/tensor"
	"vtpu/stages/weights"
)

// A Plan is a pipeline with everything decided and nothing started: shapes, slots, gradients, coordinates, lanes, memory and FLOPs.
type Plan struct {
	Pipe   *Pipeline
	Data   *stages.Dataset // nil without data
	Store  *weights.Store
	Layout *stages.Layout
	Nodes  []*Node // in the order of the walk, mirrored and implicit stages included
	Steps  int64
	Lanes  Lanes

	PerEpoch int64 // steps in an epoch; 0 where the data has none

	// For sampling: the model's first input and the prediction of the loss.
	TokenIn, Logits stages.Slot
	Samples         bool // the model reads tokens and predicts tokens

	Recording *stages.Recording // where stages that record write to; nil: nowhere

	inits map[string]stages.Init // how each parameter begins
}

// A Node is one stage of a plan.
type Node struct {
	Name     string
	Def      *stages.Def
	Cfg      any
	Env      stages.Env
	Bound    *stages.Bound
	Place    Place
	Implicit bool  // not written by the user
	Twin     *Node // the forward stage that this one is the backward twin of
	In, Out  []string
	Flops    int64 // of one part at the largest shapes
	Contract stages.Contract

	piecewise bool // it can work on a gradient before backward is through
}

// value is a named tensor while the plan is made.
type value struct {
	name     string
	slot     stages.Slot
	dtype    tensor.DType
	shape    tensor.Shape
	producer *Node
	learns   bool // a trainable parameter is upstream and can be reached backwards
	noGrad   bool
	grad     stages.Slot
	reached  bool // its gradient is written by a twin walked so far
	passed   bool // its gradient's slot is that of another value too
}

type planner struct {
	*Plan
	found  stages.Findings
	lack   error // of memory; nothing more is planned then
	facts  map[string]int
	values map[string]*value
	marks  map[string]*value // what the branch of a residual reads
	last   *value            // output of the stage before
	ins    map[*Node][]*value
	outs   map[*Node][]*value
	params map[string]*stages.ParamBinding // by full name
	used   map[string]*use
	order  []string // parameters in the order of their first use
	given  bool     // gradients come from gather

	watched bool // a stage after the update reads tensors: each has a slot of its own
}

// use collects how a parameter is used.
type use struct {
	n       int
	sparse  int // uses that can make a sparse gradient
	reached bool
	rows    int // rows that a sparse gradient can have in one part
	place   Place
}

// NewPlan checks everything. Its error is a stages.Findings with all that is wrong, or an error of the environment. loaded is a data
// set that was loaded for the same pipeline before, or nil.
func NewPlan(p *Pipeline, dir string, loaded *stages.Dataset) (*Plan, error) {
	room := smtpool.Memory()
	pl := &planner{
		Plan:   &Plan{Pipe: p, Store: weights.NewStore(), Layout: &stages.Layout{}, Data: loaded, inits: map[string]stages.Init{}},
		values: map[string]*value{}, marks: map[string]*value{}, ins: map[*Node][]*value{}, outs: map[*Node][]*value{},
		params: map[string]*stages.ParamBinding{}, used: map[string]*use{}, facts: map[string]int{},
	}
	pl.Store.Room = room
	if p.Data != nil && loaded == nil {
		d, err := p.Data.Source.Load(stages.LoadEnv{Seed: p.Seed, Dir: dir, Embedded: embedded}, p.Data.Cfg)
		if err != nil {
			var f stages.Finding
			var fs stages.Findings
			var env *stages.EnvError
			if errors.As(err, &f) || errors.As(err, &fs) || errors.As(err, &env) {
				return nil, err
			}
			return nil, p.Data.Place.finding(err.Error(), "")
		}
		d.SplitBy(p.Data.Split, p.Seed)
		pl.Data = d
	}
	if pl.Data != nil {
		pl.facts = pl.Data.Facts
		if pl.Data.Train.Len() == 0 && pl.Data.Live == nil {
			return nil, p.Data.Place.finding("no example is left for training", "more data, or a larger data.split")
		}
	}
	pl.forward()
	if len(pl.found) == 0 {
		pl.mirror()
	}
	if len(pl.found) == 0 {
		pl.tail()
	}
	if len(pl.found) == 0 {
		pl.finish()
	}
	if pl.lack != nil {
		return nil, pl.lack
	}
	if err := pl.found.Err(); err != nil {
		return nil, err
	}
	if store, messages := pl.Bytes(); room > 0 && store+messages > room {
		return nil, tooLarge(fmt.Errorf("weights and state of %d bytes and messages of %d: %w", store, messages, weights.ErrRoom), room)
	}
	return pl.Plan, nil
}

// refuse notes why something can't be made: a finding about the file, or a lack of memory, which no other place in the file can mend.
func (pl *planner) refuse(at Place, err error) {
	if errors.Is(err, weights.ErrRoom) {
		err = tooLarge(errors.New(at.finding(err.Error(), "").String()), pl.Store.Room)
		if pl.lack == nil {
			pl.lack = err
		}
	}
	pl.fault(at, "", "%v", err)
}

func tooLarge(err error, room int64) error {
	return &stages.EnvError{Err: err, Fix: fmt.Sprintf("this process can have %.1f GiB: a smaller model, or a machine with more memory", float64(room)/(1<<30))}
}

func (pl *planner) fault(at Place, fix, format string, args ...any) {
	pl.found = append(pl.found, at.finding(fmt.Sprintf(format, args...), fix))
}

// lookup finds a slot by name, in the scope of a repeat first.
func (pl *planner) lookup(scope, name string) *value {
	if v := pl.values[scope+name]; v != nil {
		return v
	}
	return pl.values[name]
}

// forward binds the forward half: gather, compute and loss, in the order written.
func (pl *planner) forward() {
	for i := range pl.Pipe.Items {
		it := &pl.Pipe.Items[i]
		if it.Def.Room == stages.Scatter && pl.hasInputs(it) {
			pl.watched = true
			continue // a scatter stage that reads a tensor is bound in tail
		}
		if it.Def.Room > stages.Loss {
			continue
		}
		if n := pl.bind(it); n != nil {
			pl.Nodes = append(pl.Nodes, n)
		}
	}
}

func (pl *planner) hasInputs(it *Item) bool {
	return it.Def.Contract != nil && len(it.Def.Contract(it.Cfg).In) > 0
}

// bind makes the node of an item: contract, inputs, shapes, slots, parameters. It returns nil after a finding.
func (pl *planner) bind(it *Item) *Node {
	n := &Node{Name: it.Name, Def: it.Def, Cfg: it.Cfg, Place: it.Place}
	if it.Def.Data != nil {
		if pl.Data == nil {
			pl.fault(it.Place, "add a data section, see vtpu list sources", "%s needs data", it.Def.Name)
			return nil
		}
		c, err := it.Def.Data(it.Cfg, pl.Data, pl.Pipe.Parts)
		if err != nil {
			pl.fault(it.Place, "", "%s: %v", it.Name, err)
			return nil
		}
		n.Contract = c
	} else {
		n.Contract = it.Def.Contract(it.Cfg)
	}
	ins, ok := pl.inputs(it, n)
	if !ok {
		return nil
	}
	for _, mark := range it.Marks {
		if len(ins) == 0 {
			pl.fault(it.Place, "", "%s reads nothing, a residual can't begin with it", it.Name)
			return nil
		}
		pl.marks[mark] = ins[0]
	}
	if it.Skip != "" {
		ins[1] = pl.marks[it.Skip]
	}
	shapes := make([]tensor.Shape, len(ins))
	for i, v := range ins {
		shapes[i] = v.shape
	}
	b, err := n.Contract.Bind(pl.facts, shapes)
	if err != nil {
		pl.fault(it.Place, "", "%s: %v", it.Name, err)
		return nil
	}
	for i, p := range b.In {
		if ins[i].dtype != p.DType && !p.AnyType {
			pl.fault(it.Place, "", "%s: input %s is %v, slot %s holds %v", it.Name, p.Name, p.DType, ins[i].name, ins[i].dtype)
			return nil
		}
	}
	n.Bound, n.Flops = b, b.Flops
	if it.Def.Room == stages.Gather && n.Contract.Flops == nil {
		n.Flops = 0 // it copies
	}
	n.Env = stages.Env{Name: it.Name, Seed: pl.Pipe.Seed, Ports: map[string]stages.Binding{}, Inputs: len(ins),
		Params: map[string]*stages.ParamBinding{}, Vars: b.Vars, Store: pl.Store, Data: pl.Data, Parts: pl.Pipe.Parts}
	for i, p := range b.In {
		n.Env.Ports[p.Name] = stages.Binding{Name: ins[i].name, Slot: ins[i].slot, DType: ins[i].dtype, Shape: ins[i].shape, HasGrad: ins[i].reached, Grad: ins[i].grad}
		n.In = append(n.In, ins[i].name)
	}
	learns := false
	for i, p := range b.In {
		learns = learns || ins[i].learns && !p.NoGrad && p.DType == tensor.F32
	}
	if !pl.bindParams(it, n) {
		return nil
	}
	for _, pb := range n.Env.Params {
		learns = learns || !pb.Frozen()
	}
	if it.Def.Twin == "" {
		learns = false
	}
	pl.ins[n] = ins
	for i, p := range b.Out {
		name := pl.outName(it, p.Port, i, len(b.Out))
		at := it.Place
		if i < len(it.Out) {
			at = it.Out[i].Place
		}
		if old := pl.values[name]; old != nil {
			pl.fault(at, "choose another name with out:", "slot %s is written by %s already", name, old.producer.Name)
			return nil
		}
		v := &value{name: name, dtype: p.DType, shape: p.Dims, producer: n, learns: learns && p.DType == tensor.F32 && !p.NoGrad, noGrad: p.NoGrad}
		info := stages.SlotInfo{Name: name, DType: p.DType, Shape: p.Dims}
		if it.Def.Room == stages.Gather {
			v.slot = pl.Layout.AddData(info)
		} else {
			v.slot = pl.Layout.AddBody(info)
		}
		n.Env.Ports[p.Name] = stages.Binding{Name: name, Slot: v.slot, DType: p.DType, Shape: p.Dims}
		n.Out = append(n.Out, name)
		if pb := pl.params[p.GradOf]; pb != nil {
			pb.HasGrad, pb.Grad, pl.given = true, v.slot, true
		}
		if pb := pl.params[p.IDsOf]; pb != nil {
			pb.IDs, pb.Sparse = v.slot, true
		}
		pl.values[name] = v
		pl.outs[n] = append(pl.outs[n], v)
	}
	if len(it.Out) > len(b.Out) {
		pl.fault(it.Out[len(b.Out)].Place, "", "%s has %d outputs, %d are named", it.Name, len(b.Out), len(it.Out))
		return nil
	}
	for _, k := range b.Keep {
		slot := pl.Layout.AddBody(stages.SlotInfo{Name: it.Name + "." + k.Name, DType: k.DType, Shape: k.Dims})
		n.Env.Ports[k.Name] = stages.Binding{Slot: slot, DType: k.DType, Shape: k.Dims}
	}
	if outs := pl.outs[n]; len(outs) > 0 {
		pl.last = outs[0]
	}
	return n
}

// outName is the name of output i: what the user wrote, the slot that the contract names, or the name of the stage.
func (pl *planner) outName(it *Item, p stages.Port, i, n int) string {
	switch {
	case i < len(it.Out):
		return it.Scope + it.Out[i].Name
	case p.Slot != "":
		return it.Scope + p.Slot
	case n > 1:
		return it.Name + "." + p.Name
	}
	return it.Name
}

// inputs finds the values that an item reads.
func (pl *planner) inputs(it *Item, n *Node) ([]*value, bool) {
	ports := n.Contract.In
	if it.In != nil {
		var vs []*value
		for _, r := range it.In {
			v := pl.lookup(it.Scope, r.Name)
			if v == nil {
				pl.fault(r.Place, suggest(r.Name, slices.Collect(maps.Keys(pl.values))), "no stage before %s writes a slot %q", it.Name, r.Name)
				return nil, false
			}
			vs = append(vs, v)
		}
		return pl.fill(it, ports, vs)
	}
	return pl.fill(it, ports, nil)
}

// fill adds the defaults of the inputs that were not named.
func (pl *planner) fill(it *Item, ports []stages.Port, vs []*value) ([]*value, bool) {
	for i := len(vs); i < len(ports); i++ {
		p := ports[i]
		v := pl.last
		if p.Slot != "" {
			v = pl.lookup(it.Scope, p.Slot)
		}
		if v == nil && p.Slot == "" && len(pl.found) > 0 {
			return nil, false // what should have brought it has been found fault with: that is told once
		}
		if v == nil {
			what := "the output of a stage before"
			if p.Slot != "" {
				what = "slot " + p.Slot
			}
			pl.fault(it.Place, "name a slot with in:", "%s: input %s wants %s, and there is none", it.Name, p.Name, what)
			return nil, false
		}
		vs = append(vs, v)
	}
	return vs, true
}

// bindParams makes or finds the parameters of a node.
func (pl *planner) bindParams(it *Item, n *Node) bool {
	names := map[string]bool{}
	for _, p := range n.Bound.Params {
		names[p.Name] = true
		full := it.Name + "." + p.Name
		if p.Full {
			full = p.Name
		}
		shared := it.Share[p.Name]
		if shared != "" {
			if pl.params[it.Scope+shared] != nil {
				shared = it.Scope + shared
			}
			full = shared
			if pl.params[full] == nil {
				pl.fault(it.Place, suggest(full, slices.Collect(maps.Keys(pl.params))), "share: no stage before %s has a weight %q", it.Name, full)
				return false
			}
		}
		pb := pl.params[full]
		if pb == nil {
			at := it.At[p.Name]
			if at == (weights.Coord{}) && p.At != "" {
				c, err := weights.ParseCoord(p.At)
				if err != nil {
					pl.fault(it.Place, "", "%s: %v", it.Name, err)
					return false
				}
				at = c
			}
			if p.Dims.Len() == 0 {
				pl.fault(it.Place, "", "weight %s would be empty, its shape is %v", full, p.Dims)
				return false
			}
			w, err := pl.Store.Add(full, weights.Weight, tensor.F32, p.Dims, at)
			if err != nil {
				pl.refuse(it.Place, err)
				return false
			}
			if it.Freeze || p.Frozen {
				w.Freeze()
			}
			in := stages.Init{Kind: "constant"}
			if p.Init != nil {
				in = p.Init(n.Bound.Vars)
			}
			if over, ok := it.Init[p.Name]; ok {
				in = over
			} else if over, ok := it.Init[""]; ok && p.Dims.Rank > 1 {
				in = over
			}
			seed := pl.Pipe.Seed
			if n.Def.Name == "replay_stream" { // what was recorded belongs to these weights
				seed = pl.Data.Stream.Seed
			}
			fillParam(w, in, seed)
			pl.inits[full] = in
			pb = &stages.ParamBinding{Param: w, Decay: p.Dims.Rank > 1}
			pl.params[full] = pb
			pl.order = append(pl.order, full)
			pl.used[full] = &use{place: it.Place}
		} else if pb.T.Shape != p.Dims {
			pl.fault(it.Place, "", "%s: weight %s has shape %v, here it is used as %v", it.Name, full, pb.T.Shape, p.Dims)
			return false
		}
		u := pl.used[full]
		u.n++
		if p.Sparse {
			u.sparse++
			u.rows = sparseRows(n)
		}
		n.Env.Params[p.Name] = pb
	}
	for _, m := range []map[string]bool{keys(it.Share), keys(it.Init), keys(it.At)} {
		for k := range m {
			if k != "" && !names[k] {
				pl.fault(it.Place, suggest(k, slices.Collect(maps.Keys(names))), "%s has no weight %q", it.Name, k)
				return false
			}
		}
	}
	return true
}

func keys[V any](m map[string]V) map[string]bool {
	ks := map[string]bool{}
	for k := range m {
		ks[k] = true
	}
	return ks
}

// sparseRows is the largest number of ids that one part brings to a node: the elements of its integer inputs.
func sparseRows(n *Node) int {
	rows := 0
	for _, p := range n.Bound.In {
		if p.DType == tensor.I32 {
			rows += p.Dims.Len()
		}
	}
	return rows
}

// fillParam gives a parameter its first values: draw i of the stream that the seed and the parameter's name choose.
func fillParam(p *weights.Param, in stages.Init, seed uint64) {
	v := p.T.F32
	s := rng.Named(seed, p.Name)
	switch in.Kind {
	case "normal":
		fillBy(v, func(i int) float32 { return float32(s.Normal(uint64(i)>>32, uint32(i)) * in.Value) })
	case "uniform":
		fillBy(v, func(i int) float32 { return float32((float64(s.Uniform(uint64(i)>>32, uint32(i)))*2 - 1) * in.Value) })
	default:
		fillBy(v, func(int) float32 { return float32(in.Value) })
	}
}

// fillBy sets v[i] = f(i). A large table is filled by all processors: value i depends on i alone.
func fillBy(v []float32, f func(i int) float32) {
	const share = 1 << 18
	var wg sync.WaitGroup
	gate := make(chan struct{}, runtime.GOMAXPROCS(0))
	for lo := 0; lo < len(v); lo += share {
		fill := func(v []float32) {
			for i := range v {
				v[i] = f(lo + i)
			}
		}
		if len(v) <= share {
			fill(v)
			return
		}
		gate <- struct{}{}
		wg.Go(func() {
			fill(v[lo:min(lo+share, len(v))])
			<-gate
		})
	}
	wg.Wait()
}

// mirror appends the backward twins: the forward stages in reverse, as far as a gradient reaches.
func (pl *planner) mirror() {
	forward := slices.Clone(pl.Nodes)
	var losses []*Node
	for _, n := range forward {
		if n.Def.Room == stages.Loss {
			losses = append(losses, n)
		}
	}
	if len(losses) > 1 {
		pl.fault(losses[1].Place, "", "a pipeline has one loss, %s is a second one after %s", losses[1].Name, losses[0].Name)
		return
	}
	for i, n := range forward {
		if n.Def.Room == stages.Loss && i != len(forward)-1 {
			pl.fault(forward[i+1].Place, "", "%s stands after the loss", forward[i+1].Name)
			return
		}
		if n.Def.Room == stages.Gather && i > 0 && forward[i-1].Def.Room != stages.Gather {
			pl.fault(n.Place, "gather stages come first", "%s stands after a stage that computes", n.Name)
			return
		}
	}
	if len(losses) == 0 {
		return
	}
	loss := losses[0]
	if pl.given {
		pl.fault(loss.Place, "remove it, or replay a stream of inputs", "the gradients come from a recorded stream: there is nothing to compute them from")
		return
	}
	// Which parameters are used how decides whether their gradient is sparse.
	for _, name := range pl.order {
		u, pb := pl.used[name], pl.params[name]
		if u.sparse > 0 && u.n > 1 {
			pl.fault(u.place, "set sparse: false where the weight is tied", "weight %s is used %d times and has a sparse gradient", name, u.n)
			return
		}
		pb.Sparse = u.sparse > 0
	}
	ins := pl.ins[loss]
	if len(ins) == 0 || !ins[0].learns {
		pl.fault(loss.Place, "", "nothing before %s can learn: no weight that is not frozen, or a stage without a backward twin in between", loss.Name)
		return
	}
	for i := len(forward) - 1; i >= 0; i-- {
		n := forward[i]
		if n.Def.Twin == "" {
			continue
		}
		if n != loss && !slices.ContainsFunc(pl.outs[n], func(v *value) bool { return v.reached }) {
			continue
		}
		def := stages.Find(n.Def.Twin)
		if def == nil {
			pl.fault(n.Place, "", "%s names a backward twin %q that is not registered", n.Def.Name, n.Def.Twin)
			return
		}
		cfg := def.NewConfig()
		stages.CopyConfig(cfg, n.Cfg)
		t := &Node{Name: n.Name + ".backward", Def: def, Cfg: cfg, Place: n.Place, Implicit: true, Twin: n, Bound: n.Bound, Contract: def.Contract(cfg)}
		t.Env = n.Env
		t.Env.Ports = maps.Clone(n.Env.Ports)
		t.Env.Params = map[string]*stages.ParamBinding{}
		for j, v := range pl.outs[n] {
			b := t.Env.Ports[n.Bound.Out[j].Name]
			b.HasGrad, b.Grad = v.reached, v.grad
			if k := n.keeps(n.Bound.Out[j].Name); k != nil && v.reached && !v.passed && !pl.watched {
				kept := t.Env.Ports[k.Name]
				kept.Slot = v.grad
				t.Env.Ports[k.Name] = kept
			}
			t.Env.Ports[n.Bound.Out[j].Name] = b
			t.In = append(t.In, "d "+v.name)
		}
		for j, v := range pl.ins[n] {
			p := n.Bound.In[j]
			if !v.learns || p.NoGrad || p.DType != tensor.F32 {
				continue
			}
			if !v.reached {
				v.grad = pl.gradSlot(n, t, j)
			}
			b := t.Env.Ports[p.Name]
			b.HasGrad, b.Grad, b.Acc = true, v.grad, v.reached
			v.reached = true
			t.Env.Ports[p.Name] = b
			t.Out = append(t.Out, "d "+v.name)
		}
		for _, p := range n.Bound.Params { // in the order of the contract
			pb := n.Env.Params[p.Name]
			c := *pb
			if !pb.Frozen() {
				u := pl.used[pb.Name]
				if !u.reached {
					pl.addGrad(pb, u)
				}
				c = *pb
				c.HasGrad, c.Acc = true, u.reached
				u.reached = true
				t.Out = append(t.Out, "d "+pb.Name)
			}
			t.Env.Params[p.Name] = &c
		}
		t.Flops = t.gradFlops(n.Bound)
		pl.Nodes = append(pl.Nodes, t)
	}
	for _, name := range pl.order {
		if u, pb := pl.used[name], pl.params[name]; !u.reached && !pb.Frozen() {
			pl.fault(u.place, "connect it to the loss, or freeze: true", "weight %s gets no gradient", name)
		}
	}
}

// addGrad gives a parameter its gradient slots.
func (pl *planner) addGrad(pb *stages.ParamBinding, u *use) {
	shape := pb.T.Shape
	pb.HasGrad = true
	if pb.Sparse {
		rows := min(u.rows*pl.Pipe.Parts, shape.Dims[0])
		pb.IDs = pl.Layout.AddBody(stages.SlotInfo{Name: "ids of d " + pb.Name, DType: tensor.I32, Shape: tensor.Of(rows)})
		shape.Dims[0] = rows
	}
	pb.Grad = pl.Layout.AddBody(stages.SlotInfo{Name: "d " + pb.Name, DType: tensor.F32, Shape: shape})
}

// trained lists the parameters with a gradient whose name matches, sorted by name.
func (pl *planner) trained(pattern string) []*stages.ParamBinding {
	var all []*stages.ParamBinding
	for _, name := range slices.Sorted(slices.Values(pl.order)) {
		if pb := pl.params[name]; pb.HasGrad && (pattern == "" || match(pattern, name)) {
			all = append(all, pb)
		}
	}
	return all
}

func match(pattern, name string) bool {
	ok, err := path.Match(pattern, name)
	return err == nil && ok
}

// tail appends what follows the backward walk: reduction and guard, then what the user wrote for gradients, update and scatter, then commit.
func (pl *planner) tail() {
	learning := len(pl.trained("")) > 0
	for i := range pl.Pipe.Items {
		if it := &pl.Pipe.Items[i]; it.eachPart() {
			if n := pl.bind(it); n != nil {
				pl.Nodes = append(pl.Nodes, n)
			}
		}
	}
	what, perPart, cfg := pl.Pipe.records()
	aside := what != "none" && pl.recordsAside(perPart)
	if aside {
		defer pl.record(what, cfg)
	}
	if what != "none" && perPart && !aside {
		pl.record(what, cfg)
	}
	if learning {
		if pl.Pipe.Parts > 1 {
			pl.implicit("reduce")
		}
		if what != "none" && !perPart && !aside {
			pl.record(what, cfg)
		}
		if pl.Pipe.corrected() {
			pl.implicit("error_feedback")
		}
		pl.implicit("guard")
	} else if pl.Pipe.Parts > 1 {
		pl.fault(Place{File: pl.Pipe.File}, "remove parts", "parts: %d, but nothing is learnt: there is no gradient to sum", pl.Pipe.Parts)
		return
	}
	updates, commits := 0, 0
	for i := range pl.Pipe.Items {
		it := &pl.Pipe.Items[i]
		if it.Def.Room < stages.Backward || it.eachPart() {
			continue
		}
		if it.Def.Room == stages.Update {
			updates++
			if !learning {
				pl.fault(it.Place, "add a loss", "%s has nothing to update: no weight gets a gradient", it.Name)
				continue
			}
		}
		if it.Def.Name == "commit" {
			commits++
		}
		n := pl.bind(it)
		if n == nil {
			continue
		}
		n.Env.All = pl.trained(it.Match)
		if it.Match != "" && len(n.Env.All) == 0 {
			pl.fault(it.Place, "weights are "+strings.Join(pl.order, ", "), "params: %q matches no weight that learns", it.Match)
			continue
		}
		if it.Def.Room == stages.Scatter {
			n.Env.All = pl.everything()
		}
		pl.Nodes = append(pl.Nodes, n)
	}
	if learning && updates == 0 {
		pl.fault(Place{File: pl.Pipe.File}, "add one after the loss, such as sgd: {lr: 0.1}", "there is a loss but no update stage")
	}
	if commits == 0 {
		pl.implicit("commit")
	}
	// The commit ends a step: what stands after it may look at what was committed.
}

// everything lists all parameters, for stages that read them.
func (pl *planner) everything() []*stages.ParamBinding {
	var all []*stages.ParamBinding
	for _, name := range slices.Sorted(slices.Values(pl.order)) {
		all = append(all, pl.params[name])
	}
	return all
}

func (pl *planner) implicit(name string) {
	def := stages.Find(name)
	if def == nil {
		pl.fault(Place{File: pl.Pipe.File}, "", "stage %q is not registered; the program lacks one of its rooms", name)
		return
	}
	n := &Node{Name: name, Def: def, Cfg: def.NewConfig(), Implicit: true, Bound: &stages.Bound{}, Contract: def.Contract(def.NewConfig())}
	n.Env = stages.Env{Name: name, Seed: pl.Pipe.Seed, Store: pl.Store, Data: pl.Data, Parts: pl.Pipe.Parts, All: pl.trained("")}
	pl.Nodes = append(pl.Nodes, n)
}

// finish checks that the stages can be made, counts the steps, and finds the slots that sampling needs.
// share lets gather stages hand out views of the data where no stage changes them.
func (pl *planner) share() {
	changed := map[stages.Slot]bool{}
	for _, n := range pl.Nodes {
		for _, port := range n.Contract.Mutates {
			changed[n.Env.Ports[port].Slot] = true
		}
	}
	for _, n := range pl.Nodes {
		if n.Def.Room != stages.Gather {
			continue
		}
		for _, v := range pl.outs[n] {
			for name, b := range n.Env.Ports {
				if b.Slot == v.slot && !changed[b.Slot] {
					b.Shared = true
					n.Env.Ports[name] = b
				}
			}
		}
	}
}

func (pl *planner) finish() {
	pl.share()
	pl.overlay()
	for _, n := range pl.Nodes {
		n.Env.Steps = pl.Steps
	}
	if err := pl.countSteps(); err != nil {
		pl.found = append(pl.found, *err)
		return
	}
	for _, n := range pl.Nodes {
		n.Env.Steps = pl.Steps
		s, err := n.Def.New(n.Env, n.Cfg)
		if err != nil {
			pl.refuse(n.Place, fmt.Errorf("%s: %w", n.Name, err))
			if pl.lack != nil {
				return
			}
			continue
		}
		_, n.piecewise = s.(stages.Piecewise)
		if c, ok := s.(interface{ Close() error }); ok {
			if err := c.Close(); err != nil {
				pl.fault(n.Place, "", "%s: %v", n.Name, err)
			}
		}
	}
	for _, n := range pl.Nodes {
		if n.Def.Room == stages.Loss && pl.Data != nil && pl.Data.Text != nil && pl.Nodes[0].Def.Room == stages.Gather {
			logits := pl.ins[n][0]
			first := pl.outs[pl.Nodes[0]]
			if len(first) > 0 && first[0].dtype == tensor.I32 && logits.shape.Last() == len(pl.Data.Text.Vocab) {
				pl.TokenIn, pl.Logits, pl.Samples = first[0].slot, logits.slot, true
			}
		}
	}
	if pl.Pipe.Sample != nil && !pl.Samples {
		pl.fault(Place{File: pl.Pipe.File}, "remove the sample section", "samples can be drawn only from a model that reads and predicts tokens")
	}
	pl.Lanes = place(pl.Plan)
	pl.links()
}

// stepper is a gather stage that knows how many steps make an epoch.
type stepper interface{ StepsPerEpoch() int64 }

func (pl *planner) countSteps() *stages.Finding {
	r := pl.Pipe.Run
	for _, n := range pl.Nodes {
		if n.Def.Room != stages.Gather {
			break
		}
		s, err := n.Def.New(n.Env, n.Cfg)
		if err != nil {
			f := n.Place.finding(fmt.Sprintf("%s: %v", n.Name, err), "")
			return &f
		}
		if e, ok := s.(stepper); ok {
			pl.PerEpoch = e.StepsPerEpoch()
		}
	}
	pl.Steps = r.Steps
	if r.Epochs > 0 {
		if pl.PerEpoch == 0 {
			f := Place{File: pl.Pipe.File}.finding("run.epochs: this data has no epochs", "use run.steps")
			return &f
		}
		if r.Steps > 0 {
			f := Place{File: pl.Pipe.File}.finding("run.steps and run.epochs are both set", "keep one of them")
			return &f
		}
		pl.Steps = r.Epochs * pl.PerEpoch
	}
	if pl.Steps == 0 {
		f := Place{File: pl.Pipe.File}.finding("run says neither steps nor epochs", "add run: {steps: 1000}")
		return &f
	}
	return nil
}

// segment says to which part of the walk a node belongs: gather, forward (the loss included), backward, or what sees whole steps.
func (n *Node) segment() segment {
	switch {
	case n.Def.Room == stages.Gather:
		return gathers
	case n.Def.Room == stages.Compute, n.Def.Room == stages.Loss:
		return forwards
	case n.Twin != nil || n.Def.Room == stages.Backward && n.Contract.Grads == stages.GradWrite && n.Contract.Replicas == stages.PerPart:
		return backwards
	}
	return closes
}

type segment uint8

const (
	gathers segment = iota
	forwards
	backwards
	closes
)

// fusions are runs of nodes of a training part that one stage takes the place of.
func (p *Plan) fusions() []fusion {
	var walk []stages.Planned
	var nodes []*Node
	for _, n := range p.Nodes {
		if s := n.segment(); s == forwards || s == backwards {
			walk = append(walk, stages.Planned{Def: n.Def, Env: n.Env, Cfg: n.Cfg})
			nodes = append(nodes, n)
		}
	}
	var all []fusion
	for i := 0; i < len(walk); i++ {
		if fuse := walk[i].Def.Fuse; fuse != nil {
			if n, make := fuse(walk[i:]); n > 0 {
				all = append(all, fusion{nodes[i : i+n], make})
				i += n - 1
			}
		}
	}
	return all
}

type fusion struct {
	nodes []*Node
	make  func(*stages.Team) (stages.Stage, error)
}

// Program is the plan as the executor wants it. pause is called by a checkpoint stage.
func (p *Plan) Program(checkpoint func()) exec.Program {
	pr := exec.Program{Layout: p.Layout, Store: p.Store, Parts: p.Pipe.Parts}
	fusions := p.fusions()
	var training []exec.Node
	at := map[*Node]int{} // of each node of a part: stages of training that have been walked when it is through
	for _, n := range p.Nodes {
		env := n.Env
		env.Checkpoint = checkpoint
		env.Record = p.Recording
		env.Aside = p.aside(n)
		node := exec.Node{Name: n.Name, New: func(t *stages.Team) (stages.Stage, error) {
			env := env
			env.Team = t
			return n.Def.New(env, n.Cfg)
		}}
		switch n.segment() {
		case gathers:
			pr.Gather = append(pr.Gather, node)
			continue
		case forwards:
			pr.Forward = append(pr.Forward, node)
			pr.HasLoss = pr.HasLoss || n.Def.Room == stages.Loss
		case backwards:
			pr.Backward = append(pr.Backward, node)
		default:
			if env.Aside {
				pr.Aside = append(pr.Aside, node)
			} else {
				pr.Close = append(pr.Close, node)
			}
			continue
		}
		i := slices.IndexFunc(fusions, func(f fusion) bool { return slices.Contains(f.nodes, n) })
		switch {
		case i < 0:
			training = append(training, node)
		case fusions[i].nodes[0] == n: // times are told of the first of them
			training = append(training, exec.Node{Name: n.Name, New: fusions[i].make})
		}
		at[n] = len(training)
	}
	if len(fusions) > 0 {
		pr.Training = training
	}
	pr.Early, _ = p.inside(at)
	return pr
}

// Bytes is the memory that a run takes for weights and state, and for messages on the planned lanes.
func (p *Plan) Bytes() (store, messages int64) {
	store = p.storeBytes()
	messages = int64((p.Pipe.Place.LookAhead+1)*p.Pipe.Parts)*p.Layout.DataBytes() + int64(exec.Bodies(p.Pipe.Parts, p.Lanes.D, slices.ContainsFunc(p.Nodes, p.aside)))*p.Layout.BodyBytes()
	return store, messages
}

// Unread names what gather brings and no stage reads, such as the categories of a table whose stages begin at its numbers.
func (p *Plan) Unread() (names []string) {
	if p.Data == nil || p.Data.Stream != nil { // recorded gradients are read by name
		return nil
	}
	read := map[string]bool{}
	for _, n := range p.Nodes {
		for _, in := range n.In {
			read[in] = true
		}
	}
	for _, n := range p.Nodes {
		for _, out := range n.Out {
			if n.Def.Room == stages.Gather && len(n.In) == 0 && !read[out] {
				names = append(names, out)
			}
		}
	}
	return names
}

// storeBytes is the size of weights and state.
func (p *Plan) storeBytes() (n int64) {
	for _, k := range []weights.Kind{weights.Weight, weights.State} {
		for _, w := range p.Store.All(k) {
			n += 4 * int64(w.T.Len())
		}
	}
	return n
}

// Flops is the arithmetic of one step at the largest shapes.
func (p *Plan) Flops() int64 {
	var f int64
	for _, n := range p.Nodes {
		f += n.Flops
	}
	return f * int64(p.Pipe.Parts)
}

// gradFlops is the arithmetic of a twin whose forward stage is bound to b: only gradients that somebody wants are computed.
func (n *Node) gradFlops(b *stages.Bound) int64 {
	if n.Contract.GradFlops == nil {
		return 2 * b.Flops
	}
	return n.Contract.GradFlops(b.Vars, func(name string) bool {
		p := n.Env.Params[name]
		return n.Env.Ports[name].HasGrad || p != nil && p.HasGrad
	})
}

// MeanFlops is the arithmetic of a step on average, where messages have different lengths; Flops elsewhere.
func (p *Plan) MeanFlops() float64 {
	for _, n := range p.Nodes {
		if n.Contract.Lengths == nil {
			continue
		}
		mean := 0.0
		for _, length := range slices.Sorted(maps.Keys(n.Contract.Lengths)) {
			f, err := p.flopsAt(length)
			if err != nil { // a stage that takes the largest shapes only
				return float64(p.Flops())
			}
			mean += n.Contract.Lengths[length] * float64(f)
		}
		return mean
	}
	return float64(p.Flops())
}

// flopsAt is Flops where the second dimension of what gather gives is length.
func (p *Plan) flopsAt(length int) (total int64, err error) {
	shapes, bound := map[string]tensor.Shape{}, map[*Node]*stages.Bound{}
	var facts map[string]int
	if p.Data != nil {
		facts = p.Data.Facts
	}
	for _, n := range p.Nodes {
		f := n.Flops
		switch {
		case n.Twin != nil:
			f = n.gradFlops(bound[n.Twin])
		case n.Def.Room == stages.Gather:
			for i, name := range n.Out {
				s := n.Bound.Out[i].Dims
				if s.Rank > 1 {
					s.Dims[1] = length
				}
				shapes[name] = s
			}
			bound[n] = n.Bound
		case n.Def.Room <= stages.Loss:
			in := make([]tensor.Shape, len(n.In))
			for i, name := range n.In {
				in[i] = shapes[name]
			}
			b, err := n.Contract.Bind(facts, in)
			if err != nil {
				return 0, err
			}
			for i, name := range n.Out {
				shapes[name] = b.Out[i].Dims
			}
			bound[n], f = b, b.Flops
		}
		total += f
	}
	return total * int64(p.Pipe.Parts), nil
}
