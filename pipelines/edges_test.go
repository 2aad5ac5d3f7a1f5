package pipelines_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rs/zerolog"

	"vtpu/pipelines"
	"vtpu/pipelines/pool"
	"vtpu/pipelines/presettest"
)

// cuts are ways to cut the walk, by the edges that are moved, with the legs that they leave to workers.
var cuts = []struct{ edges, legs string }{
	{"gather scatter", "gather"},
	{"backward", "gather,forward,loss,backward"},
	{"gather backward", "forward,loss,backward"},
	{"gather backward scatter", "gather; forward,loss,backward"},
	{"gather forward backward", "forward; loss,backward"},
	{"gather loss backward scatter", "gather; forward,loss; backward"},
	{"gather forward loss backward", "forward; loss; backward"},
	{"forward", "gather,forward"},
	{"gather forward", "forward"},
	{"forward backward", "loss,backward"},
	{"forward loss", "loss"},
	{"loss backward", "backward"},
	{"loss scatter", "gather,forward,loss"},
	{"gather forward loss backward scatter", "gather; forward; loss; backward"},
}

// moved sets edges to a kind of link.
func moved(edges, kind string) (sets []string) {
	for e := range strings.FieldsSeq(edges) {
		sets = append(sets, "links."+e+"="+kind)
	}
	return sets
}

func TestEveryCutHasTheSameBits(t *testing.T) {
	presettest.Short(t)
	for _, name := range []string{"digits", "names", "clicks", "linear"} {
		for _, parts := range []int{1, 3} {
			o := pipelines.Options{File: name, Steps: min(few[name], 25), Sets: append([]string{fmt.Sprintf("parts=%d", parts)}, fewer[name]...), LookAhead: -1}
			if name == "names" { // lines of several lengths, in parts of several sizes
				o.Sets = append(o.Sets, "stages.lines.batch=5")
			}
			want := train(t, o)
			for _, c := range cuts {
				t.Run(fmt.Sprintf("%s/%d/%s", name, parts, strings.ReplaceAll(c.edges, " ", "+")), func(t *testing.T) {
					o := o
					o.Sets = append(moved(c.edges, "nats"), o.Sets...)
					var cs []*pool.Coordinator
					o.Link = &pipelines.Link{Bus: core(t), Local: 2, Log: zerolog.Nop(), Joined: func(c *pool.Coordinator) { cs = append(cs, c) }}
					if got := train(t, o); bits(got) != bits(want) {
						t.Errorf("%s\nwant %s", bits(got), bits(want))
					}
					if len(cs) != strings.Count(c.legs, ";")+1 {
						t.Errorf("%d legs, want %s", len(cs), c.legs)
					}
					for _, c := range cs {
						if n := c.Counts(); n.Parts.Load() < o.Steps*int64(parts) || n.Foreign.Load() > 0 || n.Failed.Load() > 0 || n.Refused.Load() > 0 {
							t.Errorf("%d parts, %d foreign, %d failed, %d refused", n.Parts.Load(), n.Foreign.Load(), n.Failed.Load(), n.Refused.Load())
						}
					}
				})
			}
		}
	}
}

func TestRandomPipelinesHaveTheSameBitsOnEveryCut(t *testing.T) {
	n := 16
	if testing.Short() {
		n = 5
	}
	bus := core(t)
	for i := range n {
		r := rand.New(rand.NewPCG(uint64(i), 202))
		text := random(r)
		file := filepath.Join(t.TempDir(), "random.yaml")
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		o := pipelines.Options{File: file, LookAhead: r.IntN(4)}
		want := bits(train(t, o))
		for range 4 {
			c := cuts[r.IntN(len(cuts))]
			o.Sets = moved(c.edges, "nats")
			o.Link = &pipelines.Link{Bus: bus, Local: 1 + r.IntN(3), Log: zerolog.Nop()}
			if got := bits(train(t, o)); got != want {
				t.Errorf("%s\n%s\n%s\nwant %s", text, c.edges, got, want)
			}
			o.Sets, o.Link = nil, nil
		}
	}
}
