package ports

import (
	"math"
	"testing"

	"vtpu/smtpool"
	"vtpu/smtpool/ruler"
	"vtpu/smtpool/workload"
)

func near(a, b float64) bool { return math.Abs(a-b) < 1e-9 }

func alone(t *testing.T, m *Machine, th Thread, latency float64) Prediction {
	t.Helper()
	p, err := m.Alone(th, latency)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// Computed by hand for Golden Cove.
func TestAloneByHand(t *testing.T) {
	for _, c := range []struct {
		name   string
		th     Thread
		cycles float64
		limit  string
	}{
		{"32 multiplications on one port", Thread{Ops: []ruler.Op{{Name: "imul r,r", N: 32}, {Name: "dec/jnz", N: 1}}}, 32, "ports 1"},
		{"60 zeroings and a loop in 6 slots", Thread{Ops: []ruler.Op{{Name: "zero r", N: 60}, {Name: "dec/jnz", N: 1}}}, 61. / 6, "issue slots"},
		{"32 loads on three ports", Thread{Ops: []ruler.Op{{Name: "load r", N: 32}}}, 32. / 3, "ports 2,3,11"},
		// 10 FMAs on 0,1 and 10 additions on 1,5: each set alone needs 5, but 0,1,5 together 20/3.
		{"sets that overlap", Thread{Ops: []ruler.Op{{Name: "vfma ymm", N: 10}, {Name: "vadd ymm", N: 10}}}, 20. / 3, "ports 0,1,5"},
		{"a chain", Thread{Ops: []ruler.Op{{Name: "add r,r", N: 32}}, Chain: 32}, 32, "dependences"},
		{"one chase", Thread{Ops: []ruler.Op{{Name: "load r", N: 4}}, Serial: 4, Misses: 4}, 4 * 800, "memory latency"},
		{"independent misses, 16 at a time", Thread{Ops: []ruler.Op{{Name: "load r", N: 8}}, Misses: 8}, 8 * 800. / 16, "outstanding misses"},
		// 128 slots a miss: 4 misses fit into 512.
		{"independent misses, far apart", Thread{Ops: []ruler.Op{{Name: "load r", N: 1}, {Name: "zero r", N: 127}}, Misses: 1}, 800. / 4, "reorder window"},
		{"level 2", Thread{Ops: []ruler.Op{{Name: "load r", N: 16}}, L2: 16}, 16 / 0.75, "level 2 cache"},
	} {
		p := alone(t, GoldenCove, c.th, 800)
		if !near(p.Cycles, c.cycles) || p.Limit != c.limit {
			t.Errorf("%s: %v cycles by %s, want %v by %s", c.name, p.Cycles, p.Limit, c.cycles, c.limit)
		}
	}
	if _, err := GoldenCove.Alone(Thread{Ops: []ruler.Op{{Name: "cpuid", N: 1}}}, 1); err == nil {
		t.Error("an operation without an entry has a cost")
	}
}

func TestPairByHand(t *testing.T) {
	mul := Thread{Ops: []ruler.Op{{Name: "imul r,r", N: 32}}}
	mask := Thread{Ops: []ruler.Op{{Name: "vmovmskps", N: 32}}}
	chase := Thread{Ops: []ruler.Op{{Name: "load r", N: 1}}, Serial: 1, Misses: 1}
	zero := Thread{Ops: []ruler.Op{{Name: "zero r", N: 60}}}
	zeroMul := Thread{Ops: []ruler.Op{{Name: "zero r", N: 60}, {Name: "imul r,r", N: 20}}} // 20 cycles by port 1; 80/120 of the slots
	for _, c := range []struct {
		name  string
		a, b  Thread
		x, y  float64
		limit string
	}{
		{"one port, twice", mul, mul, 0.5, 0.5, "ports 1"},
		{"two ports", mul, mask, 1, 1, "nothing shared"},
		{"a chase and a port", chase, mul, 1, 1, "nothing shared"},
		{"all slots, twice", zero, zero, 0.5, 0.5, "issue slots"},
		// zero uses 1 of the slots, zeroMul 80/120: both slow down to 1/(1+2/3).
		{"slots and a port", zero, zeroMul, 0.6, 0.6, "issue slots"},
		// Misses 20 slots apart fill all 16 buffers even in half a window: each gets a half.
		{"buffers of misses", Thread{Ops: []ruler.Op{{Name: "zero r", N: 7}, {Name: "load r", N: 1}}, Misses: 1},
			Thread{Ops: []ruler.Op{{Name: "zero r", N: 7}, {Name: "load r", N: 1}}, Misses: 1}, 0.5, 0.5, "outstanding misses"},
		// 64 slots a miss: 8 fit alone, 4 into half a window, and those do not fill 16 buffers: the loss is the window's.
		{"half a window", Thread{Ops: []ruler.Op{{Name: "zero r", N: 63}, {Name: "load r", N: 1}}, Misses: 1}, chase, 0.5, 1, "nothing shared"},
	} {
		p, err := GoldenCove.Pair(c.a, c.b, 800)
		if err != nil {
			t.Fatal(err)
		}
		if !near(p.Rate[0], c.x) || !near(p.Rate[1], c.y) || p.Limit != c.limit || !near(p.WS, c.x+c.y) || !near(p.Conflict, 1-(c.x+c.y)/2) {
			t.Errorf("%s: %+v, want %v, %v by %s", c.name, p, c.x, c.y, c.limit)
		}
	}
}

// A resource that only one thread presses alone can be full for both together.
func TestPairOfOverlappingSets(t *testing.T) {
	fma := Thread{Ops: []ruler.Op{{Name: "vfma ymm", N: 20}}} // ports 0,1: 10 cycles
	add := Thread{Ops: []ruler.Op{{Name: "vadd ymm", N: 20}}} // ports 1,5: 10 cycles
	p, err := GoldenCove.Pair(fma, add, 1)
	if err != nil || !near(p.WS, 1.5) || p.Limit != "ports 0,1,5" { // 40 operations on three ports take 13.3 cycles
		t.Errorf("%+v, %v", p, err)
	}
}

// Every table has every operation that rulers and workloads use.
func TestTablesAreComplete(t *testing.T) {
	for _, m := range Machines() {
		rs := ruler.Rulers()
		for _, k := range ruler.Chases {
			rs = append(rs, ruler.Chase(k))
		}
		for _, r := range rs {
			if p := alone(t, m, OfRuler(r), 700); p.Cycles <= 0 {
				t.Errorf("%s, %s: %+v", m.Name, r.Name, p)
			}
		}
		for _, mix := range []workload.Mix{workload.Default, workload.Default.Swap()} {
			for _, v := range []workload.Vector{4, 8} {
				p, _ := workload.New(mix)
				if p := alone(t, m, m.OfProgram("mix", p, v), 700); p.Cycles <= 0 {
					t.Errorf("%s, %v: %+v", m.Name, mix, p)
				}
			}
		}
	}
}

func TestOfProgram(t *testing.T) {
	p, err := workload.New(workload.Mix{N: 24, D: 1, DOps: []workload.Kind{workload.DFMA}})
	if err != nil {
		t.Fatal(err)
	}
	th := GoldenCove.OfProgram("fma", p, 8) // two FMAs on each of 12 accumulators: a chain of 8 cycles, 12 cycles of two ports
	if th.Chain != 8 || th.Misses != 0 {
		t.Errorf("%+v", th)
	}
	if a := alone(t, GoldenCove, th, 1); a.Cycles != 12 || a.Limit != "ports 0,5" {
		t.Errorf("%+v", a)
	}
	c, _ := workload.Chains(3, 0)
	if th := GoldenCove.OfProgram("chase", c, 8); th.Serial != 1 || th.Misses != 3 {
		t.Errorf("%+v", th)
	}
}

func TestDetect(t *testing.T) {
	for _, c := range []struct {
		t    smtpool.Topology
		want *Machine
	}{
		{smtpool.Topology{Vendor: "GenuineIntel", Family: 6, ModelNo: 143}, GoldenCove}, {smtpool.Topology{Vendor: "GenuineIntel", Family: 6, ModelNo: 106}, SunnyCove}, {smtpool.Topology{Vendor: "GenuineIntel", Family: 6, ModelNo: 85}, SkylakeSP},
		{smtpool.Topology{Vendor: "AuthenticAMD", Family: 25, ModelNo: 17}, Zen4}, {smtpool.Topology{Vendor: "AuthenticAMD", Family: 26, ModelNo: 2}, Zen5},
		{smtpool.Topology{Vendor: "AuthenticAMD", Family: 25, ModelNo: 1}, nil}, {smtpool.Topology{Vendor: "0x41"}, nil},
	} {
		if m, why := Detect(&c.t); m != c.want || why == "" {
			t.Errorf("%+v: %v, %s", c.t, m, why)
		}
	}
}
