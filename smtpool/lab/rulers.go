package lab

import (
	"errors"
	"math"

	"vtpu/smtpool/measure"
	"vtpu/smtpool/ruler"
)

// A RulerRow is what a ruler measures on one thread, and what the port model says of it.
type RulerRow struct {
	Ruler     string         `json:"ruler"`
	Resource  string         `json:"resource"`
	Unit      string         `json:"unit"`
	PerCycle  measure.Figure `json:"per_cycle"`
	PerNS     measure.Figure `json:"per_ns"`
	Predicted float64        `json:"predicted_per_cycle"` // 0: there is no table for this CPU, or the model takes this row as its input
	Limit     string         `json:"limit,omitempty"`     // the resource that the model names
	Error     float64        `json:"error"`               // predicted / measured - 1
	Input     bool           `json:"input,omitempty"`     // the model takes this figure as it is measured
	Missing   string         `json:"missing,omitempty"`   // why it was not measured
}

// A Rulers is the result of all rulers.
type Rulers struct {
	Label   string          `json:"label"`
	Bracket Bracket         `json:"probe"`
	Quality measure.Quality `json:"quality"`
	Rows    []RulerRow      `json:"rows"`
	Worst   string          `json:"worst"`        // the row with the largest error of the model
	Clock   float64         `json:"clock_ghz"`    // by the chain of additions
	Check   float64         `json:"clock_check"`  // cycles of a multiplication by that clock: 3
	Memory  int             `json:"memory_bytes"` // of the buffer that stands for memory
	Cache   int             `json:"last_cache_bytes"`
	Model   string          `json:"model"`
}

// ErrorLimit is the largest error of the model that is taken for right.
const ErrorLimit = 0.10

// Rulers measures all rulers on the D lane, alone.
func (l *Lab) Rulers() (Rulers, error) {
	r := Rulers{Label: "one thread alone", Memory: l.buffers().Bytes(), Cache: l.Top.CacheSize(3, 0), Model: l.Found}
	if l.Machine != nil {
		r.Model = l.Machine.Name + ", " + l.Found + "; " + l.Machine.Sources
	}
	var err error
	r.Bracket, err = l.bracket(func() error {
		latency, err := l.Latency()
		if err != nil {
			return err
		}
		all := ruler.Rulers()
		for _, k := range ruler.Chases[1:] {
			all = append(all, ruler.Chase(k))
		}
		r.Quality.Pinned, r.Quality.Steal = true, true
		for _, rr := range all {
			if err := l.stopped(); err != nil {
				return err
			}
			row := RulerRow{Ruler: rr.Name, Resource: rr.Resource, Unit: rr.Unit}
			i, err := ruler.New(rr, l.buffers(), 1, l.Top.Has)
			if errors.Is(err, ruler.ErrNone) {
				return err
			}
			if err != nil {
				row.Missing = err.Error()
				r.Rows = append(r.Rows, row)
				continue
			}
			perCycle, perNS, q, err := l.cycles(l.D, i.Block)
			if err != nil {
				return err
			}
			row.PerCycle, row.PerNS = measure.Of(perCycle), measure.Of(perNS)
			r.Quality = r.Quality.Add(q)
			l.model(rr, latency, &row)
			if rr.Name == "clock" {
				r.Clock = l.clock
			}
			if rr.Name == "clock3" {
				r.Check = 1 / row.PerCycle.Median
			}
			r.Rows = append(r.Rows, row)
		}
		return nil
	})
	worst := 0.0
	for _, row := range r.Rows {
		if math.Abs(row.Error) > worst {
			worst, r.Worst = math.Abs(row.Error), row.Ruler
		}
	}
	return r, err
}

// model adds what the port model says.
func (l *Lab) model(rr ruler.Ruler, latency float64, row *RulerRow) {
	if rr.Name == "clock" || rr.Memory == "dram" && rr.Parallel == 1 {
		row.Input = true
		return
	}
	if l.Machine == nil {
		return
	}
	t := portsThread(rr)
	p, err := l.Machine.Alone(t, latency)
	if err != nil {
		row.Missing = err.Error()
		return
	}
	row.Predicted, row.Limit = t.Units/p.Cycles, p.Limit
	row.Error = row.Predicted/row.PerCycle.Median - 1
}

// A Losses is what each ruler loses beside each other one: what SMiTe calls sensitivity and contentiousness. On siblings it stands for the counters that
// a machine may lack.
type Losses struct {
	Label   string          `json:"label"`
	Bracket Bracket         `json:"probe"`
	Quality measure.Quality `json:"quality"`
	Names   []string        `json:"names"`
	Loss    [][]float64     `json:"loss"`      // Loss[i][j]: share of its rate that ruler i loses beside ruler j
	WS      [][]float64     `json:"ws"`        // weighted speedup of the two
	Model   [][]float64     `json:"model_ws"`  // what the port model says of siblings; empty without a table
	Counter string          `json:"counters"`  // why rulers and not counters, or that there are counters
	Reps    int             `json:"reps_each"` // of a cell
}

// lossRulers are those of the matrix: one a resource.
var lossRulers = []string{"p0", "p1", "p5", "fma256", "fma512", "load", "store", "issue", "l1", "l2", "lfb", "dram"}

// Losses measures the matrix, each cell in a third of the repetitions.
func (l *Lab) Losses() (Losses, error) {
	r := Losses{Label: l.Label(), Reps: max(min(5, l.opt.Reps), l.opt.Reps/3), Counter: "hardware counters are there; vtpu smt pair prints them"}
	if l.Counter != nil {
		r.Counter = "the rulers' losses stand for counters: " + l.Counter.Error()
	}
	if l.S == nil {
		return r, ErrOneCPU
	}
	var err error
	r.Bracket, err = l.bracket(func() error {
		var is [2][]*ruler.Instance
		for _, n := range lossRulers {
			rr, _ := ruler.Find(n)
			a, err := ruler.New(rr, l.buffers(), 1, l.Top.Has)
			if errors.Is(err, ruler.ErrNone) {
				return err
			}
			if err != nil {
				continue // what this CPU lacks is not a row
			}
			b, err := ruler.New(rr, l.buffers(), 2, l.Top.Has)
			if err != nil {
				return err
			}
			is[0], is[1] = append(is[0], a), append(is[1], b)
			r.Names = append(r.Names, n)
		}
		n := len(r.Names)
		square := func() [][]float64 {
			m := make([][]float64, n)
			for i := range m {
				m[i] = make([]float64, n)
			}
			return m
		}
		r.Loss, r.WS = square(), square()
		if l.Machine != nil {
			r.Model = square()
		}
		latency, err := l.Latency()
		if err != nil {
			return err
		}
		r.Quality.Pinned, r.Quality.Steal = true, true
		for i := range n {
			for j := i; j < n; j++ {
				if err := l.stopped(); err != nil {
					return err
				}
				a, b := is[0][i], is[1][j]
				rates, q := measure.Alternate(l.lanes(), []measure.Case{
					{Name: "a", Loops: []measure.Loop{a.Block, nil}}, {Name: "b", Loops: []measure.Loop{nil, b.Block}}, {Name: "pair", Loops: []measure.Loop{a.Block, b.Block}},
				}, r.Reps, l.opt.Window/2)
				r.Quality = r.Quality.Add(q)
				k := kept(rates)
				r.Loss[i][j], r.Loss[j][i] = 1-k.Rate[0].Median, 1-k.Rate[1].Median
				r.WS[i][j], r.WS[j][i] = k.WS.Median, k.WS.Median
				if l.Machine != nil {
					p, err := l.Machine.Pair(portsThread(a.Ruler), portsThread(b.Ruler), latency)
					if err != nil {
						return err
					}
					r.Model[i][j], r.Model[j][i] = p.WS, p.WS
				}
			}
		}
		return nil
	})
	return r, err
}
