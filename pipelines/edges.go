package pipelines

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"vtpu/pipelines/pool"
	"vtpu/stages"
	"vtpu/stages/weights"
)

// The rooms of the walk, which is a circle: a token goes back from scatter to gather. An edge has the name of the room that it leaves. Edges that are
// moved to a link cut the circle into pieces, each of which has processes of its own. The piece with update is the run: it owns the store. The others, legs, are
// what workers walk.
var rooms = [...]string{"gather", "forward", "loss", "backward", "update", "scatter"}

const (
	toGather = iota
	toForward
	toLoss
	toBackward
	toUpdate
	toScatter
)

// ring is the kind of an edge within a process.
const ring = "ring"

// noLinks is a section of links that says nothing.
func noLinks() LinkSection { return LinkSection{Default: ring, Work: ring, Replicas: 1, ISA: "same"} }

// Edges is what each edge of the walk is made of, in the order of the rooms that they leave: ring within a process, else the kind of a link.
func (s *LinkSection) Edges() (kinds [len(rooms)]string) {
	or := func(all ...string) string { return all[slices.IndexFunc(all, func(k string) bool { return k != "" })] }
	kinds = [...]string{or(s.Gather, s.Work), or(s.Forward, ring), or(s.Loss, ring), or(s.Backward, s.Work), or(s.Update, ring), or(s.Scatter, ring)}
	if s.Scatter != "" {
		return kinds
	}
	moved := ""
	for _, k := range kinds {
		switch {
		case k == ring:
		case moved != "":
			return kinds
		default:
			moved = k
		}
	}
	if moved != "" && kinds[toUpdate] == ring { // one cut leaves a circle in one piece: the token crosses too
		kinds[toScatter] = moved
	}
	return kinds
}

// Kinds are the kinds of links that the file names, each once, in the order of the walk.
func (s *LinkSection) Kinds() (kinds []string) {
	for _, k := range s.Edges() {
		if k != ring && !slices.Contains(kinds, k) {
			kinds = append(kinds, k)
		}
	}
	return kinds
}

// A Leg is a run of neighbouring rooms whose stages workers walk. Any worker of a leg may walk any part.
type Leg struct {
	From, To int    // first and last room
	In, Out  string // kinds of the edges that lead to it and from it; "" is the one link of the run
}

// String is the value of --stages: the rooms with commas between.
func (l Leg) String() string { return strings.Join(rooms[l.From:l.To+1], ",") }

// work is the leg that a link has where the file moves no edge.
var work = Leg{From: toForward, To: toBackward}

// Legs are the pieces of the walk that the file moves to workers.
func (s *LinkSection) Legs() (legs []Leg) {
	kinds := s.Edges()
	for to, k := range kinds[:toUpdate] {
		if k == ring {
			continue
		}
		from := to
		for from > 0 && kinds[from-1] == ring {
			from--
		}
		in := kinds[(from+len(kinds)-1)%len(kinds)]
		if from == 0 && in == ring { // the piece goes on to the left: it is the run's
			continue
		}
		legs = append(legs, Leg{from, to, in, k})
	}
	return legs
}

// legs are those of a run that is joined to workers.
func (p *Plan) legs() []Leg {
	if legs := p.Pipe.Links.Legs(); len(legs) > 0 {
		return legs
	}
	return []Leg{work}
}

// Leg finds what a worker is to do. names is the value of --stages; "" is what the file leaves to workers, if that is one thing.
func (p *Plan) Leg(names string) (Leg, error) {
	legs := p.legs()
	var all []string
	for _, l := range legs {
		all = append(all, "--stages "+l.String())
	}
	if names == "" {
		if len(legs) > 1 {
			return Leg{}, stages.Finding{File: "--stages", Msg: "the file moves several pieces of the walk, a worker does one of them", Fix: strings.Join(all, ", or ")}
		}
		return legs[0], nil
	}
	fault := func(fix, format string, args ...any) (Leg, error) {
		return Leg{}, stages.Finding{File: "--stages " + names, Msg: fmt.Sprintf(format, args...), Fix: fix}
	}
	var set [len(rooms)]bool
	for name := range strings.SplitSeq(names, ",") {
		name = strings.TrimSpace(name)
		i := slices.Index(rooms[:], name)
		switch {
		case i < 0:
			return fault(suggest(name, rooms[:]), "there is no room %q in the walk", name)
		case i >= toUpdate:
			return fault("start it with vtpu run FILE --nats URL; links: {gather: nats, backward: nats, scatter: nats} leaves nothing but update and scatter to it",
				"update and scatter write the store, which has one writer: the run itself")
		}
		set[i] = true
	}
	l := Leg{From: slices.Index(set[:], true)}
	for l.To = l.From; set[l.To+1]; l.To++ {
	}
	if slices.Contains(set[l.To+1:], true) {
		return fault("give a run of neighbours: gather, forward, loss, backward", "the stages are not neighbours in the walk")
	}
	for _, have := range legs {
		if have.From == l.From && have.To == l.To {
			return have, nil
		}
	}
	if len(p.Pipe.Links.Legs()) > 0 {
		return fault(strings.Join(all, ", or "), "the file's links leave other stages to workers")
	}
	keys := rooms[l.To] + ": nats"
	if l.From > toGather {
		keys = rooms[l.From-1] + ": nats, " + keys
	}
	return fault("links: {"+keys+"} in the file, for the run too", "the file moves no edge: its workers do %s", work)
}

// room is where a node stands in the walk; what sees whole steps counts as update.
func (n *Node) room() int {
	switch n.segment() {
	case gathers:
		return toGather
	case forwards:
		if n.Def.Room == stages.Loss {
			return toLoss
		}
		return toForward
	case backwards:
		return toBackward
	}
	return toUpdate
}

// links finds fault with edges that can't be moved.
func (pl *planner) links() {
	s := &pl.Pipe.Links
	kinds := s.Edges()
	at := func(keys ...string) Place {
		for _, k := range keys {
			if p, ok := pl.Pipe.linkAt[k]; ok {
				return p
			}
		}
		return Place{File: pl.Pipe.File}
	}
	if kinds[toUpdate] != ring {
		pl.fault(at("update"), "links: {gather: "+kinds[toUpdate]+", backward: "+kinds[toUpdate]+", scatter: "+kinds[toUpdate]+"} leaves update and scatter alone to vtpu run",
			"links: update → scatter can't be moved: commit, checkpoint and ema end the step in the store that update writes, and a store has one writer")
		return
	}
	moved := s.Kinds()
	if len(moved) == 0 {
		return
	}
	if len(moved) > 1 && slices.Contains(moved, "gochannel") {
		pl.fault(at("gather", "forward", "loss", "backward", "work"), "one of them for all edges", "links: gochannel stays within this process, %s leaves it", moved[(slices.Index(moved, "gochannel")+1)%2])
	}
	legs := s.Legs()
	if len(legs) == 0 { // one cut
		i := slices.IndexFunc(kinds[:], func(k string) bool { return k != ring })
		pl.fault(at(rooms[i], "work"), "move another edge too: gather, forward, loss or backward", "links: with one moved edge, %s → %s, the walk is still in one piece", rooms[i], rooms[(i+1)%len(rooms)])
		return
	}
	for _, l := range legs {
		where := at(rooms[l.To], "work", "scatter")
		if l.From == toGather {
			switch d := pl.Data; {
			case d != nil && (d.Live != nil || d.Online != nil || d.Stream != nil):
				pl.fault(where, "links: {work: "+l.Out+"} moves the rest", "links: gather stays with the run: its examples come one after another, and are written down, where they come in")
				continue
			case l.To == toGather && len(pl.loads()) == 0:
				pl.fault(where, "links: {work: "+l.Out+"} moves the rest", "links: gather reads nothing but weights here, which are with the run")
				continue
			}
		}
		if l.To > toGather && !slices.ContainsFunc(pl.Nodes, func(n *Node) bool { return n.Twin != nil }) {
			pl.fault(where, "run it without a link", "links: nothing is learnt: there is no work for other processes")
		}
	}
}

// loads are the gather stages that a worker can take over: those before the first that reads weights, which an update may change until the step is due.
func (p *Plan) loads() (ns []*Node) {
	for _, n := range p.Nodes {
		if n.room() != toGather || len(n.Env.Params) > 0 {
			break
		}
		ns = append(ns, n)
	}
	return ns
}

// of are the nodes of a leg.
func (p *Plan) of(l Leg) (ns []*Node) {
	if l.To == toGather {
		return p.loads()
	}
	for _, n := range p.Nodes {
		if r := n.room(); l.From <= r && r <= l.To {
			ns = append(ns, n)
		}
	}
	return ns
}

// slots are those that a node reads or writes, those that it writes, and those whose shapes alone it may look at: a backward stage sizes what it writes by tensors that
// it does not read.
func (n *Node) slots() (all, writes, shapes map[stages.Slot]bool) {
	all, writes, shapes = map[stages.Slot]bool{}, map[stages.Slot]bool{}, map[stages.Slot]bool{}
	use := func(s stages.Slot, w bool) {
		all[s] = true
		if w {
			writes[s] = true
		}
	}
	grad := func(b *stages.ParamBinding) {
		if b.HasGrad {
			use(b.Grad, true)
			if b.Sparse {
				use(b.IDs, true)
			}
		}
	}
	seg := n.segment()
	if seg == closes {
		for _, b := range n.Env.Ports {
			use(b.Slot, false)
			if b.HasGrad {
				use(b.Grad, false)
			}
		}
		return all, writes, shapes
	}
	if n.Twin == nil {
		for _, b := range n.Env.All { // it changes gradients
			grad(b)
		}
		if seg == backwards {
			return all, writes, shapes
		}
	}
	var read map[string]bool
	if n.Twin != nil {
		read = n.reads()
		for _, b := range n.Env.Params {
			grad(b)
		}
	}
	for i, list := range [][]stages.BoundPort{n.Bound.In, n.Bound.Out, n.Bound.Keep} {
		for _, p := range list {
			b := n.Env.Ports[p.Name]
			if i == 2 || n.Twin == nil || read[p.Name] || b.Slot.IsData() {
				use(b.Slot, i == 2 || i == 1 && n.Twin == nil || slices.Contains(n.Contract.Mutates, p.Name))
			} else {
				shapes[b.Slot] = true
			}
			if n.Twin != nil && b.HasGrad {
				use(b.Grad, true)
			}
		}
	}
	return all, writes, shapes
}

// sorted are the slots of a set.
func sorted(set map[stages.Slot]bool) []stages.Slot { return slices.Sorted(maps.Keys(set)) }

// cut says what crosses the ends of a leg.
func (p *Plan) cut(l Leg) (*pool.Cut, error) {
	c := &pool.Cut{Layout: p.Layout, Store: p.Store, Parts: p.Pipe.Parts, Gathers: l.From == toGather}
	learns := slices.ContainsFunc(p.Nodes, func(n *Node) bool { return n.Twin != nil })
	if l.To > toGather && !learns {
		return nil, Place{File: p.Pipe.File}.finding("nothing is learnt: there is no work for other processes", "run it without a link")
	}
	mine := p.of(l)
	// What is alive at an edge crosses it: from the place of the last stage before it to that of the first one after it. Other tensors of a body may lie on what is not.
	lives := p.lives()
	alive := func(s stages.Slot, room int) bool {
		at := slices.IndexFunc(p.Nodes, func(n *Node) bool { return n.room() > room })
		if at < 0 {
			at = len(p.Nodes)
		}
		return slices.ContainsFunc(lives[s.Index()], func(l life) bool { return l.from < at && at <= l.to })
	}
	type set = map[stages.Slot]bool
	used, wrote, sized := set{}, set{}, set{}        // by the leg
	before, after, sizedAfter := set{}, set{}, set{} // written before it, used after it
	params := map[string]*weights.Param{}
	for _, n := range p.Nodes {
		all, writes, shapes := n.slots()
		switch {
		case slices.Contains(mine, n):
			maps.Copy(used, all)
			maps.Copy(wrote, writes)
			maps.Copy(sized, shapes)
			if n.Twin == nil || n.Twin.Def.Room != stages.Gather { // a table that gather reads goes where gather is
				for _, b := range n.Env.Params {
					params[b.Name] = b.Param
				}
			}
		case n.room() < l.From:
			maps.Copy(before, writes)
		default:
			maps.Copy(after, all)
			maps.Copy(sizedAfter, shapes)
		}
	}
	in, out := set{}, set{}
	for s := range used {
		if before[s] && (s.IsData() || alive(s, l.From-1)) {
			in[s] = true
		}
	}
	for s := range wrote {
		if s.IsData() && after[s] || !s.IsData() && alive(s, l.To) {
			out[s] = true
		}
	}
	maps.DeleteFunc(sized, func(s stages.Slot, _ bool) bool { return in[s] || !before[s] || s.IsData() })
	maps.DeleteFunc(sizedAfter, func(s stages.Slot, _ bool) bool { return out[s] || !wrote[s] || s.IsData() })
	c.InShapes, c.OutShapes = sorted(sized), sorted(sizedAfter)
	c.In = sorted(in)
	for _, n := range p.Nodes {
		if n.Def.Name != "guard" {
			continue
		}
		for _, b := range n.Env.All {
			if b.Sparse && params[b.Name] == b.Param {
				c.Rows = append(c.Rows, b.Param)
			}
			if l.To == toBackward {
				c.Out = append(c.Out, pool.Gradient{Param: b.Param, Slot: b.Grad, Sparse: b.Sparse, IDs: b.IDs})
				delete(out, b.Grad)
				if b.Sparse {
					delete(out, b.IDs)
				}
			}
		}
	}
	c.Extra = sorted(out)
	if l.To == toBackward {
		for _, e := range p.shorten(c) {
			params[e.Name] = e
		}
	}
	for _, name := range slices.Sorted(maps.Keys(params)) {
		c.Params = append(c.Params, params[name])
	}
	if l.To == toGather {
		const room, most = 16 << 20, 64 // bytes and steps that may be under way
		step := int64(c.Parts) * c.Sizes().Result
		c.Ahead = int(min(max(room/step, 2, int64(p.Lanes.Look)+1), most))
	}
	return c, nil
}

// shorten notes which gradients travel in fewer bytes, and returns the state that workers need for it.
func (p *Plan) shorten(c *pool.Cut) (state []*weights.Param) {
	for _, n := range p.Nodes {
		h, half := n.Cfg.(interface{ HalfScale() float32 })
		k, few := n.Cfg.(interface{ Kept(int) int })
		est, _ := n.Cfg.(estimator)
		if !half && !few {
			continue
		}
		for i := range c.Out {
			g := &c.Out[i]
			if !slices.ContainsFunc(n.Env.All, func(b *stages.ParamBinding) bool { return b.Param == g.Param }) {
				continue
			}
			if half {
				g.Scale = h.HalfScale()
			}
			if n := g.T.Len(); few && !g.Sparse && 2*k.Kept(n) < n { // an index is as long as an element
				g.Kept = k.Kept(n)
			}
			if est != nil {
				if e := p.Store.Get(est.EstimateOf(g.Name)); e != nil {
					state = append(state, e)
					c.Estimates = append(c.Estimates, pool.Estimate{Param: e, Changes: min(p.Pipe.Parts*k.Kept(g.T.Len()), g.T.Len())})
				}
			}
		}
	}
	return state
}

// Cut says what crosses the edges gather → forward and backward → update of the plan.
func (p *Plan) Cut() (*pool.Cut, error) { return p.cut(work) }

// An Edge is what crosses between processes in a step.
type Edge struct {
	From, To string // rooms; From is "store" for weights, which go To the stages of a leg
	Over     string // kind of the link
	Bytes    int64  // a step, heads included: weights once for all workers, what goes from one leg to another twice, by way of the run
}

// EdgesMoved lists what crosses between processes: the edges that the file moves, in the order of the walk, and the weights for each leg that needs any.
func (p *Plan) EdgesMoved() ([]Edge, error) {
	kinds := p.Pipe.Links.Edges()
	bytes := [len(rooms)]int64{}
	var weights []Edge
	for _, l := range p.Pipe.Links.Legs() {
		c, err := p.cut(l)
		if err != nil {
			return nil, err
		}
		s := c.Sizes()
		bytes[(l.From+len(rooms)-1)%len(rooms)] += int64(p.Pipe.Parts) * s.Work
		bytes[l.To] += int64(p.Pipe.Parts) * s.Result
		if len(c.Params) > 0 {
			weights = append(weights, Edge{"store", l.String(), l.In, s.Weights})
		}
	}
	var all []Edge
	for i, k := range kinds {
		if k != ring && bytes[i] > 0 {
			all = append(all, Edge{rooms[i], rooms[(i+1)%len(rooms)], k, bytes[i]})
		}
	}
	return append(all, weights...), nil
}

// Where says where a stage runs: on which lanes of the run, or in workers.
func (p *Plan) Where(n *Node) string {
	for _, l := range p.Pipe.Links.Legs() {
		if slices.Contains(p.of(l), n) {
			return "worker"
		}
	}
	return p.LaneOf(n)
}
