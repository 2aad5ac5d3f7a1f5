package update

import (
	"context"
	"fmt"
	"path"
	"strings"

	"vtpu/compute/kernel"
	"vtpu/stages"
	"vtpu/stages/tensor"
	"vtpu/stages/weights"
)

// Group changes settings for some of the parameters.
type Group struct {
	Match       string   `yaml:"match" required:"true" doc:"Names of parameters; * stands for any text between dots and slashes."`
	LR          *float64 `yaml:"lr" above:"0" doc:"Learning rate of these parameters, before the schedule."`
	WeightDecay *float64 `yaml:"weight_decay" min:"0" doc:"Weight decay of these parameters."`
}

// contract is that of every optimizer.
func contract() stages.Contract {
	return stages.Contract{Grads: stages.GradRead, Replicas: stages.One}
}

// item is a parameter in an optimizer's care.
type item struct {
	*stages.ParamBinding
	lr    float64 // before the schedule
	scale float64 // lr relative to the stage's
	wd    float32
	state []*weights.Param
	early bool // comes by Piece
	step  int  // adam: which of the steps
}

// settings are what every optimizer takes from its config.
type settings struct {
	lr, wd float64
	decay  string // matrices or all
	groups []Group
	sched  Schedule
	pieces []string // names of the state tensors
}

// base is the part that all optimizers share: the parameters, their groups and the learning rate.
type base struct {
	items []item
	lr    float64
	sched Schedule
	steps int64
	flat  bool // constant rate
	team  *stages.Team
	total int // elements of the parameters with a dense gradient
	// The present update: what apply works on.
	m        *stages.Message
	rate     float64 // of the stage, in this step
	apply    func(it *item, w, g []float32, lo int)
	whole    func() bool                                   // apply to all parameters with a dense gradient at once; nil or false: one by one
	rows     func(it *item, g []float32, ids []int32) bool // apply to all rows of a sparse gradient at once; nil or false: one by one
	some     func(lo, hi int)
	table    *item // with a sparse gradient
	someRows func(lo, hi int)
	count    *weights.Param // updates made, in the store
	ready    func(t int64)  // what an optimizer works out once an update, the t-th from 1; nil: nothing
	ahead    []*item        // come by Piece; nil where a parameter is another stage's
	open     bool           // the present step's update has begun
}

func newBase(env stages.Env, s settings) (*base, error) {
	b := &base{lr: s.lr, team: env.Team, sched: s.sched, steps: env.Steps, flat: s.sched.Linear == nil && s.sched.Cosine == nil && s.sched.Step == nil}
	used := make([]bool, len(s.groups))
	for _, p := range env.All {
		if err := p.Claim(env.Name); err != nil {
			return nil, err
		}
		it := item{ParamBinding: p, lr: s.lr, wd: float32(s.wd)}
		if !p.Sparse {
			b.total += len(p.T.F32)
		}
		if s.decay == "matrices" && !p.Decay {
			it.wd = 0
		}
		for i, g := range s.groups {
			ok, err := path.Match(g.Match, p.Name)
			if err != nil {
				return nil, fmt.Errorf("groups: match %q: %w", g.Match, err)
			}
			if !ok {
				continue
			}
			used[i] = true
			if g.LR != nil {
				it.lr = *g.LR
			}
			if g.WeightDecay != nil {
				it.wd = float32(*g.WeightDecay)
			}
		}
		it.scale = it.lr / s.lr
		for _, piece := range s.pieces {
			st, err := env.Store.State(p.Name, env.Name, piece, tensor.F32, p.T.Shape)
			if err != nil {
				return nil, err
			}
			it.state = append(it.state, st)
		}
		b.items = append(b.items, it)
	}
	for i, u := range used {
		if !u {
			var names []string
			for _, p := range env.All {
				names = append(names, p.Name)
			}
			return nil, fmt.Errorf("groups: match %q fits no weight; there are %s", s.groups[i].Match, strings.Join(names, ", "))
		}
	}
	var err error
	b.some, b.someRows = b.dense, b.sparse
	b.count, err = env.Store.State(env.Name, env.Name, "updates", tensor.I32, tensor.Of(1))
	return b, err
}

// begin counts an update and finds the rate of the stage in this step.
func (b *base) begin(m *stages.Message) {
	if b.open {
		return
	}
	b.open = true
	b.count.T.I32[0]++
	b.rate = b.lr
	if !b.flat {
		b.rate = b.sched.rate(b.lr, m.Step, b.steps)
	}
	if b.ready != nil {
		b.ready(int64(b.count.T.I32[0]))
	}
}

// Process updates every parameter that has not come by Piece. See the optimizer's kernel for the formula.
func (b *base) Process(_ context.Context, m *stages.Message, out stages.Outbox) error {
	if m.Skip {
		return out.Send(m)
	}
	b.begin(m)
	b.each(m)
	b.open = false
	return out.Send(m)
}

// Ahead is of stages.Piecewise.
func (b *base) Ahead(ps []*stages.ParamBinding) {
	b.ahead = make([]*item, len(ps))
	for i, p := range ps {
		for k := range b.items {
			if it := &b.items[k]; it.ParamBinding == p {
				b.ahead[i], it.early = it, true
			}
		}
	}
	b.total = 0
	for k := range b.items {
		if it := &b.items[k]; !it.early && !it.Sparse {
			b.total += len(it.T.F32)
		}
	}
}

// Open is of stages.Piecewise.
func (b *base) Open(m *stages.Message) error {
	b.begin(m)
	return nil
}

// Piece updates some elements of a parameter whose gradient is complete.
func (b *base) Piece(m *stages.Message, i, lo, hi int) error {
	if it := b.ahead[i]; it != nil {
		b.apply(it, it.T.F32[lo:hi], m.T(it.Grad).F32[lo:hi], lo)
	}
	return nil
}

// lrOf is the rate of a parameter in this step.
func (b *base) lrOf(it *item) float32 { return float32(b.rate * it.scale) }

// grain is the number of elements below which it doesn't pay to share an update out.
const grain = 8192

// rowGrain is the same for rows of a sparse gradient, which lie anywhere in memory.
const rowGrain = 256

// each calls apply with the elements of each parameter and its gradient, and where these elements begin: in pieces, perhaps on several lanes, for dense
// gradients, row by row, ids ascending, for a sparse one; rows without a gradient are not touched, nor is their state (as PyTorch's SparseAdam).
func (b *base) each(m *stages.Message) {
	b.m = m
	b.team.Split(b.total, grain, b.some)
	for i := range b.items {
		it := &b.items[i]
		if !it.Sparse {
			it.MarkAll(m.Step + 1)
			continue
		}
		ids := m.T(it.IDs).I32
		b.table = it
		b.team.Split(len(ids), rowGrain, b.someRows)
		it.MarkRows(ids, m.Step+1)
	}
	b.m, b.table = nil, nil
}

// sparse updates the rows that the ids lo to hi-1 of a sparse gradient name; none is named twice.
func (b *base) sparse(lo, hi int) {
	it := b.table
	d := it.T.Last()
	ids, g := b.m.T(it.IDs).I32[lo:hi], b.m.T(it.Grad).F32[lo*d:hi*d]
	if b.rows == nil || !b.rows(it, g, ids) {
		b.each1(it, g, ids, d)
	}
}

// each1 applies row by row, and asks for the rows some time before their turn.
func (b *base) each1(it *item, g []float32, ids []int32, d int) {
	const group = 16
	kernel.PrefetchRows(it.T.F32, ids[:min(group, len(ids))], d)
	for r, id := range ids {
		if r%group == 0 {
			next := ids[min(r+group, len(ids)):min(r+2*group, len(ids))]
			kernel.PrefetchRows(it.T.F32, next, d)
			for _, st := range it.state {
				kernel.PrefetchRows(st.T.F32, next, d)
			}
		}
		lo := int(id) * d
		b.apply(it, it.T.F32[lo:lo+d], g[r*d:r*d+d], lo)
	}
}

// dense updates of every parameter with a dense gradient what corresponds to the share lo to hi of all their elements.
func (b *base) dense(lo, hi int) {
	if b.whole != nil && lo == 0 && hi == b.total && b.whole() {
		return
	}
	for i := range b.items {
		it := &b.items[i]
		if it.Sparse || it.early {
			continue
		}
		from, to := 0, len(it.T.F32)
		if lo > 0 || hi < b.total {
			from, to = stages.Of(to, lo, hi, b.total)
		}
		if from < to {
			b.apply(it, it.T.F32[from:to], b.m.T(it.Grad).F32[from:to], from)
		}
	}
}

// piece is the state tensor i for the n elements from lo on.
func (it *item) piece(i, lo, n int) []float32 { return it.state[i].T.F32[lo : lo+n] }
