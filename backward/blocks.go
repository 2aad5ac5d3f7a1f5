package backward

import "vtpu/stages"

// blockLen is the number of elements of a block: it stays in the first cache while several passes go over it.
const blockLen = 4096

// teamGrain is the number of elements below which it doesn't pay to share a pass out.
const teamGrain = 16384

// block is a piece of the dense gradient of a parameter.
type block struct {
	p      *stages.ParamBinding
	lo, hi int
}

func (b *block) of(m *stages.Message) []float32 { return m.T(b.p.Grad).F32[b.lo:b.hi] }

// blocks are the dense gradients of a stage's parameters, cut by their shapes alone: a sum by blocks has the same bits on any number of lanes.
type blocks struct {
	list  []block
	first []int // of each parameter
	n     int   // elements
	team  *stages.Team
	f     func(i int, b *block)
	share func(lo, hi int)
}

// newBlocks makes the blocks and the work that run does on each of them, perhaps on several lanes at the same time.
func newBlocks(env stages.Env, f func(i int, b *block)) *blocks {
	s := &blocks{team: env.Team, f: f}
	for _, p := range env.All {
		if p.Sparse {
			continue
		}
		n := p.T.Len()
		if n > 0 {
			s.first = append(s.first, len(s.list))
		}
		for lo := 0; lo < n; lo += blockLen {
			hi := min(lo+blockLen, n)
			s.list = append(s.list, block{p, lo, hi})
			s.n += hi - lo
		}
	}
	s.share = s.some
	return s
}

// shared says whether run uses several lanes.
func (s *blocks) shared() bool { return s.team.Shares(s.n, teamGrain) }

func (s *blocks) run() { s.team.Split(s.n, teamGrain, s.share) }

// some works on those blocks of each parameter that begin in what corresponds to the share lo to hi of all elements.
func (s *blocks) some(lo, hi int) {
	for _, first := range s.first {
		from, to := stages.Of(s.list[first].p.T.Len(), lo, hi, s.n)
		for i := first + (from+blockLen-1)/blockLen; i < first+(to+blockLen-1)/blockLen; i++ {
			s.f(i, &s.list[i])
		}
	}
}
