package gather

import (
	"fmt"
	"math"
	"strings"
	"testing"

	"vtpu/stages"
	"vtpu/stages/rng"
)

func synthetic(t testing.TB, f func(*SyntheticConfig)) *stages.Dataset {
	t.Helper()
	return mustLoad(t, "synthetic", "", f)
}

// The tasks have the same bits on every machine: the checks were pinned once.
func TestSyntheticIsPinned(t *testing.T) {
	for _, c := range []struct {
		cfg   SyntheticConfig
		facts string
		cols  string
		check string
	}{
		{SyntheticConfig{Task: "weight", Rows: 1, Features: 1}, "map[features:1 rows:1]", "x(1) y(1)",
			"48b60d93dc0c70fe2b6aa92ee9ab1d369e2794640f79540a6936ef54d58f37a6"},
		{SyntheticConfig{Task: "linear", Rows: 5, Features: 7, Outputs: 2, Noise: 0.1}, "map[features:7 outputs:2 rows:5]", "x(7) y(2)",
			"b652b96595ce05d36e47630a996bee6acda22d4a1def9b46f11403445c817767"},
		{SyntheticConfig{Task: "mlp", Rows: 5, Features: 7, Outputs: 2, Hidden: 9, Noise: 0.1}, "map[features:7 outputs:2 rows:5]", "x(7) y(2)",
			"fe8f0c49a3d09d84cbe5a805c5fd625dacdab4d7232613c42c1d3be5e98ec0bb"},
		{SyntheticConfig{Task: "attention", Rows: 2, Features: 4, Length: 3}, "map[features:4 length:3 rows:2]", "x(3,4) y(3,4)",
			"1bc60ffb73404630d1837e6c4d311eab76c8ee2296d6ba5b2b375c75aea842ed"},
		{SyntheticConfig{Task: "clusters", Rows: 6, Features: 3, Classes: 4, Noise: 0.3}, "map[classes:4 features:3 rows:6]", "x(3) y()",
			"48cde774effc9bf1c64a4a1bf869cc87a5ba742da86d17308426576acc6b45e6"},
		{SyntheticConfig{Task: "spirals", Rows: 9, Classes: 3, Noise: 0.05}, "map[classes:3 features:2 rows:9]", "x(2) y()",
			"554cc8d81b3e8165770ea4d85f4819c9382cc529569478630344cf934b79573a"},
		{SyntheticConfig{Task: "digits", Rows: 4, Size: 10, Noise: 0.2}, "map[classes:10 features:100 rows:4]", "x(100) y()",
			"bc149726f21160eeab4d88083995022038be8cf6a5ac638c2f99239d5deca628"},
		{SyntheticConfig{Task: "recommender", Rows: 5, Features: 3, Tables: 4, IDs: 100}, "map[cat_rows:100 features:3 rows:5 tables:4]", "x(3) cats(4) y(1)",
			"2a9269c417d35b7dd09414d8074faeab309bc4984ea504acf21e376927a966ad"},
	} {
		t.Run(c.cfg.Task, func(t *testing.T) {
			d := synthetic(t, func(x *SyntheticConfig) { *x = c.cfg })
			var cols []string
			for _, k := range d.Table.Cols {
				cols = append(cols, k.Name+fmt.Sprint(k.Shape))
			}
			if got := strings.Join(cols, " "); got != c.cols {
				t.Errorf("columns %s, want %s", got, c.cols)
			}
			if got := fmt.Sprint(d.Facts); got != c.facts {
				t.Errorf("facts %s, want %s", got, c.facts)
			}
			if d.Check != c.check {
				t.Errorf("check %s, want %s", d.Check, c.check)
			}
			wellFormed(t, d, nil)
			if again := synthetic(t, func(x *SyntheticConfig) { *x = c.cfg }); again.Check != d.Check {
				t.Error("drawn again, the data is another")
			}
			if c.cfg.Task != "weight" {
				def := stages.FindSource("synthetic")
				other, err := def.Load(stages.LoadEnv{Seed: 4}, &c.cfg)
				if err != nil {
					t.Fatal(err)
				}
				if other.Check == d.Check {
					t.Error("another seed gives the same data")
				}
			}
		})
	}
}

// A row does not depend on how many there are.
func TestSyntheticRowsAreIndependent(t *testing.T) {
	for _, task := range []string{"linear", "mlp", "attention", "clusters", "spirals", "digits", "recommender"} {
		few := synthetic(t, func(c *SyntheticConfig) { c.Task, c.Rows, c.Features, c.Length, c.Noise = task, 5, 6, 3, 0.1 })
		many := synthetic(t, func(c *SyntheticConfig) { c.Task, c.Rows, c.Features, c.Length, c.Noise = task, 11, 6, 3, 0.1 })
		for _, a := range few.Table.Cols {
			b := many.Table.Col(a.Name)
			for i := range a.F32 {
				if a.F32[i] != b.F32[i] {
					t.Fatalf("%s: value %d of %s is %v and %v", task, i, a.Name, a.F32[i], b.F32[i])
				}
			}
			for i := range a.I32 {
				if a.I32[i] != b.I32[i] {
					t.Fatalf("%s: value %d of %s is %v and %v", task, i, a.Name, a.I32[i], b.I32[i])
				}
			}
		}
	}
}

func TestSyntheticDistributions(t *testing.T) {
	d := synthetic(t, func(c *SyntheticConfig) { c.Task, c.Rows, c.Features = "linear", 2000, 50 })
	for _, c := range []struct {
		name string
		tol  float64
	}{{"x", 0.02}, {"y", 0.35}} { // the teacher's length varies around 1
		var sum, sq float64
		v := d.Table.Col(c.name).F32
		for _, x := range v {
			sum += float64(x)
			sq += float64(x) * float64(x)
		}
		n := float64(len(v))
		if mean, std := sum/n, math.Sqrt(sq/n); math.Abs(mean) > 0.1 || math.Abs(std-1) > c.tol {
			t.Errorf("linear: %s has mean %.3f and deviation %.3f", c.name, mean, std)
		}
	}
	d = synthetic(t, func(c *SyntheticConfig) { c.Task, c.Rows, c.Tables, c.Features = "recommender", 4000, 4, 5 })
	clicks := 0.0
	for _, v := range d.Table.Col("y").F32 {
		clicks += float64(v)
	}
	if share := clicks / 4000; share < 0.3 || share > 0.7 {
		t.Errorf("recommender: %.2f of the examples are clicks", share)
	}
	d = synthetic(t, func(c *SyntheticConfig) { c.Task, c.Rows, c.Size = "digits", 1000, 12 })
	var count [10]int
	x := d.Table.Col("x").F32
	for i, k := range d.Table.Col("y").I32 {
		count[k]++
		lit := 0
		for _, v := range x[i*144 : i*144+144] {
			if v > 0.5 {
				lit++
			}
		}
		if lit < 7 || lit > 40 {
			t.Fatalf("image %d of a %d has %d lit dots", i, k, lit)
		}
	}
	for k, n := range count {
		if n < 60 || n > 140 {
			t.Errorf("%d of 1000 digits are a %d", n, k)
		}
	}
}

// An example of class k lies on arm k.
func TestSpirals(t *testing.T) {
	d := synthetic(t, func(c *SyntheticConfig) { c.Task, c.Rows, c.Classes = "spirals", 500, 3 })
	x := d.Table.Col("x").F32
	for i, k := range d.Table.Col("y").I32 {
		a, b := float64(x[2*i]), float64(x[2*i+1])
		r := math.Hypot(a, b)
		want := 2 * math.Pi * (float64(k)/3 + 1.25*r)
		if e := math.Hypot(a-r*math.Cos(want), b-r*math.Sin(want)); e > 1e-5 || r > 1 {
			t.Fatalf("example %d of class %d lies %g off its arm", i, k, e)
		}
	}
}

func TestTurn(t *testing.T) {
	for i := range 4001 {
		u := float64(i) / 1000
		sin, cos := turn(u)
		if e := math.Max(math.Abs(sin-math.Sin(2*math.Pi*u)), math.Abs(cos-math.Cos(2*math.Pi*u))); e > 1e-12 {
			t.Fatalf("%v turns: %v, %v is %g off", u, sin, cos, e)
		}
	}
	for i, want := range [][2]float64{{0, 1}, {1, 0}, {0, -1}, {-1, 0}} {
		if sin, cos := turn(float64(i) / 4); sin != want[0] || cos != want[1] {
			t.Errorf("%d quarters: %v, %v, want %v", i, sin, cos, want)
		}
	}
}

// A config that asks for more than a table may hold is an error before anything is allocated.
func TestSyntheticIsBounded(t *testing.T) {
	for _, f := range []func(*SyntheticConfig){
		func(c *SyntheticConfig) { c.Task, c.Rows, c.Features = "linear", 1<<24, 1<<20 },
		func(c *SyntheticConfig) { c.Task, c.Features, c.Outputs = "linear", 1<<20, 1<<16 },
		func(c *SyntheticConfig) { c.Task, c.Features, c.Hidden = "mlp", 1<<20, 1<<16 },
		func(c *SyntheticConfig) { c.Task, c.Features, c.Length = "attention", 1<<20, 1 },
		func(c *SyntheticConfig) { c.Task, c.Features, c.Length = "attention", 1, 1<<16 },
		func(c *SyntheticConfig) { c.Task, c.Features, c.Classes = "clusters", 1<<20, 1<<16 },
		func(c *SyntheticConfig) { c.Task, c.Rows, c.Size = "digits", 1<<24, 64 },
		func(c *SyntheticConfig) { c.Task, c.Rows, c.Tables = "recommender", 1<<24, 1024 },
	} {
		if _, err := load(t, "synthetic", "", f); err == nil || !strings.Contains(err.Error(), "are more than") {
			t.Errorf("error %v", err)
		}
	}
}

// Ids follow the law that they promise: id k of n is drawn with the probability of k+1..k+2 under a density that falls as 1/x^skew on 1..n+1.
func TestIDLaw(t *testing.T) {
	const n, draws = 50, 200000
	for _, skew := range []float64{0, 0.5, 1, 1.05, 2, 4} {
		law := idLaw(rng.Named(9, "law"), n, skew)
		var count [n]float64
		for i := range draws {
			count[law(uint64(i), 3)]++
		}
		below := func(x float64) float64 { // share of 1..x
			if skew == 1 {
				return math.Log(x) / math.Log(n+1)
			}
			return (math.Pow(x, 1-skew) - 1) / (math.Pow(n+1, 1-skew) - 1)
		}
		for k := range n {
			want := draws * (below(float64(k+2)) - below(float64(k+1)))
			if e := math.Abs(count[k] - want); e > 5*math.Sqrt(want)+3 {
				t.Errorf("skew %g: id %d came %v times, want about %.0f", skew, k, count[k], want)
			}
		}
	}
}
