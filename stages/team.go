package stages

// A Team lends lanes that have nothing else to do to a stage, for work on elements that do not depend on each other: to the stages of the last segment
// (reduce, clip, update) once all parts are done, and to every stage where a step has one part and there are more lanes. Which lane does what changes no
// bit. A nil Team works alone. It is used by one stage at a time.
type Team struct {
	lanes int
	call  func() // makes every lane run Part and waits for them
	ready bool
	n     int
	unit  int // shares begin at multiples of it
	f     func(lo, hi int)
}

// NewTeam makes a team of that many lanes. call must run Part(0..lanes-1), each on a lane of its own, and return when all have.
func NewTeam(lanes int, call func()) *Team { return &Team{lanes: lanes, call: call} }

// Ready says whether the lanes are idle from now on. The owner of the lanes calls it.
func (t *Team) Ready(yes bool) {
	if t != nil {
		t.ready = yes
	}
}

// Lanes is the number of lanes that share work at most.
func (t *Team) Lanes() int {
	if t == nil {
		return 1
	}
	return t.lanes
}

// Shares says whether Split would use several lanes.
func (t *Team) Shares(n, grain int) bool { return t != nil && t.ready && t.lanes > 1 && n >= 2*grain }

// Split calls f on ranges that cover 0..n, each once, perhaps at the same time: f must allow that. Fewer than two grains stay on the caller's lane. It
// allocates nothing if f was made beforehand.
func (t *Team) Split(n, grain int, f func(lo, hi int)) {
	if !t.Shares(n, grain) {
		f(0, n)
		return
	}
	t.share(n, 64, f)
}

// Units is Split for few things that are large: rows, examples, tiles of a product. Shares begin at multiples of unit. worth says whether the work as a whole
// pays for the two hops that it takes to share it out.
func (t *Team) Units(n, unit int, worth bool, f func(lo, hi int)) {
	if !worth || !t.Shares(n, unit) {
		f(0, n)
		return
	}
	t.share(n, unit, f)
}

func (t *Team) share(n, unit int, f func(lo, hi int)) {
	t.n, t.unit, t.f = n, unit, f
	t.call()
	t.f = nil
}

// Of is the part lo to hi of n elements that corresponds to the share lo to hi of total: the shares of a stage that works on several tensors cut each of them in
// the same places as the shares of the stage that made it, so that a lane finds in its caches what it wrote there. Parts begin at multiples of 64.
func Of(n, lo, hi, total int) (from, to int) {
	at := func(i int) int {
		if i == total {
			return n
		}
		at := int(int64(n) * int64(i) / int64(total))
		return at - at%64
	}
	return at(lo), at(hi)
}

// Part does the share of one lane. Shares of Split begin at multiples of 64, so that two lanes don't write to one cache line.
func (t *Team) Part(lane int) {
	at := func(i int) int {
		if i == t.lanes {
			return t.n
		}
		at := t.n * i / t.lanes
		return at - at%t.unit
	}
	if lo, hi := at(lane), at(lane+1); lo < hi {
		t.f(lo, hi)
	}
}
