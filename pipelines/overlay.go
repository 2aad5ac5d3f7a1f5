package pipelines

import (
	"cmp"
	"slices"

	"vtpu/stages"
	"vtpu/stages/tensor"
)

// The tensors of a body are far more than are needed at one time: most gradients, and what a stage keeps for its own use, live for a few stages. Those that
// are never needed together lie on each other, so that the backward half works in memory that is still in the caches.

// keeps is the kept port that may turn into the gradient of a port, or nil.
func (n *Node) keeps(port string) *stages.BoundPort {
	for i := range n.Bound.Keep {
		if k := &n.Bound.Keep[i]; k.Grad == port {
			return k
		}
	}
	return nil
}

// gradSlot is where the gradient of input j of n goes, which the twin t is the first to write: to the slot of the output's gradient where the twin passes
// that on, to what the stage kept for it, or to a slot of its own.
func (pl *planner) gradSlot(n, t *Node, j int) stages.Slot {
	v, p := pl.ins[n][j], n.Bound.In[j]
	if !pl.watched {
		if t.Contract.Passes && pl.passes(n, j) {
			out := pl.outs[n][0]
			v.passed, out.passed = true, true
			return out.grad
		}
		if k := n.keeps(p.Name); k != nil && k.Dims == v.shape {
			return n.Env.Ports[k.Name].Slot
		}
	}
	return pl.Layout.AddBody(stages.SlotInfo{Name: "d " + v.name, DType: tensor.F32, Shape: v.shape})
}

// passes says that the gradient of input j of n may lie in the slot of n's output's. Two inputs that both do, a branch and the trunk that it left, need an
// order: the twin of the branch's last stage has read the gradient before those of the trunk's other consumers add to it.
func (pl *planner) passes(n *Node, j int) bool {
	ins, outs := pl.ins[n], pl.outs[n]
	if len(ins) != 2 || len(outs) != 1 || ins[0] == ins[1] || ins[j].shape != outs[0].shape {
		return false
	}
	branch, trunk := 0, 1
	if pl.index(ins[0].producer) < pl.index(ins[1].producer) {
		branch, trunk = 1, 0
	}
	last := ins[branch].producer
	if j == branch {
		return len(pl.consumers(ins[branch])) == 1
	}
	if def := stages.Find(last.Def.Twin); def == nil || def.Contract == nil || len(pl.consumers(ins[branch])) != 1 {
		return false
	} else if cfg := def.NewConfig(); def.Contract(cfg).Passes {
		return false
	}
	for _, c := range pl.consumers(ins[trunk]) {
		if c != n && pl.index(c) >= pl.index(last) {
			return false
		}
	}
	return true
}

func (pl *planner) index(n *Node) int { return slices.Index(pl.Nodes, n) }

// consumers are the nodes of the forward half that read a value.
func (pl *planner) consumers(v *value) (ns []*Node) {
	for _, n := range pl.Nodes {
		if n.Twin == nil && slices.Contains(pl.ins[n], v) {
			ns = append(ns, n)
		}
	}
	return ns
}

// life is when a slot of a body is in use, in places of the walk, both ends included.
type life struct{ from, to int }

func (l life) meets(o life) bool { return l.from <= o.to && o.from <= l.to }

// overlay finds for each float32 tensor of a body when it is in use, and gives those that never are at the same time the same memory.
func (pl *planner) overlay() {
	lives := pl.lives()
	order := make([]int, len(pl.Layout.Body))
	for i := range order {
		order[i] = i
	}
	size := func(i int) int { return (pl.Layout.Body[i].Shape.Len() + 15) &^ 15 } // whole cache lines
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(size(b), size(a)) })
	at := make([]int, len(order))
	room := 0
	type placed struct{ lo, hi int }
	var done []int
	for _, i := range order {
		if pl.Layout.Body[i].DType != tensor.F32 {
			continue
		}
		var taken []placed
		for _, j := range done {
			if slices.ContainsFunc(lives[i], func(l life) bool { return slices.ContainsFunc(lives[j], l.meets) }) {
				taken = append(taken, placed{at[j], at[j] + size(j)})
			}
		}
		slices.SortFunc(taken, func(a, b placed) int { return cmp.Compare(a.lo, b.lo) })
		lo := 0
		for _, p := range taken {
			if lo+size(i) <= p.lo {
				break
			}
			lo = max(lo, p.hi)
		}
		at[i] = lo
		room = max(room, lo+size(i))
		done = append(done, i)
	}
	pl.Layout.Overlay(at, room)
}

// lives are the lives of the slots of a body. A value lives from the stage that makes it to the last that reads it, a gradient from the first twin that writes it
// to the last that has to do with it, the gradient of a parameter to the end. What a stage keeps and its twin does not read is room for the two stages' own
// use.
func (p *Plan) lives() [][]life {
	lives := make([][]life, len(p.Layout.Body))
	place := map[*Node]life{} // stages that are fused take place at the same time
	for i, n := range p.Nodes {
		place[n] = life{i, i}
	}
	for _, f := range p.fusions() {
		for _, n := range f.nodes {
			place[n] = life{place[f.nodes[0]].from, place[f.nodes[len(f.nodes)-1]].to}
		}
	}
	end := life{len(p.Nodes), len(p.Nodes)}
	use := func(s stages.Slot, l life, alone bool) {
		if s.IsData() {
			return
		}
		u := &lives[s.Index()]
		if alone || len(*u) == 0 {
			*u = append(*u, l)
			return
		}
		(*u)[0] = life{min((*u)[0].from, l.from), max((*u)[0].to, l.to)}
	}
	read := map[*Node]map[string]bool{} // ports of a forward stage whose values its twin reads
	for _, n := range p.Nodes {
		if n.Twin != nil {
			read[n.Twin] = n.reads()
		}
	}
	for _, n := range p.Nodes {
		switch n.segment() {
		case gathers, forwards:
			for _, list := range [][]stages.BoundPort{n.Bound.In, n.Bound.Out} {
				for _, port := range list {
					use(n.Env.Ports[port.Name].Slot, place[n], false)
				}
			}
			for _, k := range n.Bound.Keep {
				use(n.Env.Ports[k.Name].Slot, place[n], !read[n][k.Name])
			}
		case backwards:
			if n.Twin == nil {
				continue // it changes gradients of parameters
			}
			for _, list := range [][]stages.BoundPort{n.Bound.In, n.Bound.Out} {
				for _, port := range list {
					b := n.Env.Ports[port.Name]
					if read[n.Twin][port.Name] {
						use(b.Slot, place[n], false)
					}
					if b.HasGrad {
						use(b.Grad, place[n], false)
					}
				}
			}
			for _, k := range n.Bound.Keep {
				use(n.Env.Ports[k.Name].Slot, place[n], !read[n.Twin][k.Name])
			}
			for _, b := range n.Env.Params {
				if b.HasGrad {
					use(b.Grad, life{place[n].from, end.to}, false)
				}
			}
		case closes:
			for _, b := range n.Env.Ports {
				use(b.Slot, end, false)
				if b.HasGrad {
					use(b.Grad, end, false)
				}
			}
		}
	}
	return lives
}

// reads are the ports of its forward stage whose values a twin reads.
func (n *Node) reads() map[string]bool {
	ports := map[string]bool{}
	for _, name := range n.Contract.Reads {
		ports[name] = true
	}
	if in := n.Twin.Contract.In; len(in) > 0 && in[len(in)-1].Variadic && ports[in[len(in)-1].Name] {
		for _, p := range n.Bound.In[len(in)-1:] {
			ports[p.Name] = true
		}
	}
	return ports
}
