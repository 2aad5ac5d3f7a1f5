package backward

import (
	"sort"

	"vtpu/stages"
)

// blockLen is the number of elements of a block: it stays in the first cache while several passes go over it.
const blockLen = 4096

// teamGrain is the number of elements below which it doesn't pay to share a pass out.
const teamGrain = 16384

// block is a piece of the dense gradient of a parameter.
type block struct {
	p      *stages.ParamBinding
	lo, hi int
	at     int // elements in the blocks before
}

func (b *block) of(m *stages.Message) []float32 { return m.T(b.p.Grad).F32[b.lo:b.hi] }

// blocks are the dense gradients of a stage's parameters, cut by their shapes alone: a sum by blocks has the same bits on any number of lanes.
type blocks struct {
	list  []block
	n     int // elements
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
		for lo := 0; lo < n; lo += blockLen {
			hi := min(lo+blockLen, n)
			s.list = append(s.list, block{p, lo, hi, s.n})
			s.n += hi - lo
		}
	}
	s.share = s.some
	return s
}

// shared says whether run uses several lanes.
func (s *blocks) shared() bool { return s.team.Shares(s.n, teamGrain) }

func (s *blocks) run() { s.team.Split(s.n, teamGrain, s.share) }

// some works on the blocks that begin at the elements lo to hi-1.
func (s *blocks) some(lo, hi int) {
	i := 0
	if lo > 0 {
		i = sort.Search(len(s.list), func(i int) bool { return s.list[i].at >= lo })
	}
	for ; i < len(s.list) && s.list[i].at < hi; i++ {
		s.f(i, &s.list[i])
	}
}
