// Package gather is the entry of the walk: data sources, and the stages that fill a step's messages. What a step holds is a function of the step's
// number alone, so that a run resumes by seeking and looks ahead without harm.
package gather

import (
	"vtpu/stages"
	"vtpu/stages/rng"
)

// span is part of an epoch's order: which examples a message holds.
type span struct {
	first, n int // first example in the step, and how many
	count    int // examples in the step
}

// cut gives part p of parts of count examples; the first parts get one more where parts does not divide count.
func cut(count, part, parts int) span {
	each, more := count/parts, count%parts
	first := part*each + min(part, more)
	n := each
	if part < more {
		n++
	}
	return span{first, n, count}
}

// largest is the number of examples that the largest part of a batch has.
func largest(batch, parts int) int { return (batch + parts - 1) / parts }

// order is the walk through a split: epochs, shuffled or not.
type order struct {
	train, valid []int32
	batch        int
	shuffle      bool
	n            int64 // steps in an epoch
	r            rng.Stream

	// The permutations of two epochs: look-ahead stands in the next one while the end of the present one is still read.
	perm  [2][]int32
	epoch [2]int64
}

func newOrder(env stages.Env, batch int, shuffle, drop bool) *order {
	o := &order{train: env.Data.Train.Rows, valid: env.Data.Valid.Rows, batch: batch, shuffle: shuffle,
		r: rng.Named(env.Seed, "shuffle"), epoch: [2]int64{-1, -1}}
	n := (len(o.train) + batch - 1) / batch
	if drop {
		n = max(len(o.train)/batch, 1)
	}
	o.n = int64(n)
	if shuffle {
		o.perm[0], o.perm[1] = make([]int32, len(o.train)), make([]int32, len(o.train))
	}
	return o
}

func (o *order) evalSteps() int64 { return int64((len(o.valid) + o.batch - 1) / o.batch) }

// at gives the rows of message m's part and says where it stands. The slice is valid until the next call.
func (o *order) at(m *stages.Message) []int32 {
	rows, step := o.train, m.Step
	if m.Mode != stages.Train {
		rows = o.valid
	} else {
		e := step // epoch
		if o.n == 1 {
			step = 0
		} else {
			e /= o.n
			step -= e * o.n
		}
		if o.shuffle {
			rows = o.permuted(e)
		}
	}
	lo := int(step) * o.batch
	count := min(o.batch, len(rows)-lo)
	s := cut(count, int(m.Part), int(m.Parts))
	m.First, m.Rows, m.Count = s.first, s.n, s.count
	return rows[lo+s.first : lo+s.first+s.n]
}

// permuted is the order of an epoch.
func (o *order) permuted(e int64) []int32 {
	i := int(e & 1)
	if o.epoch[i] != e {
		o.epoch[i] = e
		if len(o.train) == 1 {
			o.perm[i][0] = o.train[0]
			return o.perm[i]
		}
		o.r.Perm(o.perm[i], uint64(e))
		for k, p := range o.perm[i] {
			o.perm[i][k] = o.train[p]
		}
	}
	return o.perm[i]
}
