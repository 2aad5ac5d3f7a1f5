// Command bench compares vTPU with its peers: the same work, one side after the other, on the same machine. README.md says how.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	_ "vtpu/backward"
	_ "vtpu/compute"
	"vtpu/compute/kernel"
	_ "vtpu/gather"
	"vtpu/pipelines"
	_ "vtpu/scatter"
	"vtpu/smtpool"
	_ "vtpu/update"
)

// bench is one call of the command.
type bench struct {
	tools   *toolbox
	sets    []string // assignments for works on a text
	peers   []string // those wanted; nil: all
	rounds  int
	seconds float64
	limit   time.Duration
	log     io.Writer
	ended   []error // of sides that did not end well
}

// workRow is what was measured of a work and a peer. Ratio is the peer's time by vTPU's. Peak is that of the lanes that the work may use, so that Needs says which demands
// this machine can't meet: above 1 the arithmetic of a step alone takes longer.
type workRow struct {
	Work    string  `json:"work"`
	Rounds  int     `json:"rounds"`
	Lanes   string  `json:"lanes"`
	Bytes   int64   `json:"bytes"`
	Own     float64 `json:"vtpu_seconds"`
	OwnLoss float64 `json:"vtpu_loss"`
	Peer    string  `json:"peer,omitempty"`
	Setting string  `json:"setting,omitempty"`
	Time    float64 `json:"peer_seconds,omitempty"`
	Loss    float64 `json:"peer_loss,omitempty"`
	Ratio   *spread `json:"ratio,omitempty"`
	Must    float64 `json:"must,omitempty"`
	Peak    float64 `json:"fma_gflops,omitempty"`          // measured before and after the rounds, the larger of both
	Share   float64 `json:"share_of_fma,omitempty"`        // of Peak, by Own
	Needs   float64 `json:"needed_share_of_fma,omitempty"` // that Must would take, by the peer's time
	Line    *spread `json:"line_ns,omitempty"`             // pipelines.LineNS in the rounds, where two lanes are possible
}

// machine is where it was measured.
type machine struct {
	CPU   string            `json:"cpu"`
	CPUs  int               `json:"cpus"`
	Go    string            `json:"go"`
	OS    string            `json:"os"`
	ISA   string            `json:"isa"`
	Peers map[string]string `json:"peers"`
	Not   map[string]string `json:"missing,omitempty"`
}

// result is all that was measured.
type result struct {
	Machine  machine        `json:"machine"`
	Works    []workRow      `json:"works,omitempty"`
	Products []gemmRow      `json:"products,omitempty"`
	Hops     []hopRow       `json:"hops,omitempty"`
	Pauses   []pauseRow     `json:"pauses,omitempty"`
	Streams  []streamRow    `json:"streams,omitempty"`
	Workers  []workersRow   `json:"workers,omitempty"`
	Links    []predictedRow `json:"links,omitempty"`
}

func (b *bench) say(format string, args ...any) { fmt.Fprintf(b.log, format+"\n", args...) }

func (b *bench) closed(err error) {
	if err != nil {
		b.ended = append(b.ended, err)
	}
}

// compareWork measures one work against all its peers that are here.
func (b *bench) compareWork(w work) (rows []workRow, err error) {
	b.say("%s vTPU", w.id)
	var sets []string
	if w.usesText() {
		sets = b.sets
	}
	mine, err := pick(w.variants(b.tools.root, sets), b.seconds)
	if err != nil {
		return nil, err
	}
	rs := []*runner{mine}
	defer func() {
		for _, r := range rs {
			b.closed(r.close())
		}
	}()
	var rivals []rival
	for _, rv := range w.rivals {
		if b.peers != nil && !slices.Contains(b.peers, rv.peer) {
			continue
		}
		vs, err := b.tools.variants(rv.peer, w.id)
		if errors.Is(err, errMissing) {
			b.tools.missing[rv.peer] = err.Error()
			continue
		}
		if err != nil {
			return nil, err
		}
		b.say("%s %s", w.id, rv.peer)
		r, err := pick(vs, b.seconds)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", rv.peer, err)
		}
		rs, rivals = append(rs, r), append(rivals, rv)
	}
	b.say("%s rounds", w.id)
	row := workRow{Work: w.id, Lanes: mine.label, Bytes: mine.side.(*own).bytes}
	n := w.most()
	peak, _ := pipelines.MeasureFMA(n) // 0 where there is no loop for this CPU
	var lines []float64
	ts, err := alternate(rs, b.rounds, b.limit, func() {
		if n > 1 {
			lines = append(lines, pipelines.LineNS())
		}
	})
	if err != nil {
		return nil, err
	}
	again, _ := pipelines.MeasureFMA(n)
	row.Rounds, row.Own, row.OwnLoss, row.Peak = len(ts[0]), median(ts[0]), mine.loss, max(peak, again)
	if n > 1 {
		l := spreadOf(lines)
		row.Line = &l
	}
	share := func(seconds float64) float64 {
		if row.Peak == 0 {
			return 0
		}
		return mine.side.(*own).flops / seconds / 1e9 / row.Peak
	}
	row.Share = share(row.Own)
	if len(rivals) == 0 {
		return []workRow{row}, nil
	}
	for i, rv := range rivals {
		r := spreadOf(ratios(ts[i+1], ts[0]))
		row.Peer, row.Setting, row.Time, row.Loss, row.Ratio, row.Must = rv.peer, rs[i+1].label, median(ts[i+1]), rs[i+1].loss, &r, rv.must
		if row.Needs = 0; rv.must > 0 {
			row.Needs = share(row.Time / rv.must)
		}
		rows = append(rows, row)
	}
	return rows, nil
}

// cpuName is the name that Linux gives, or the architecture.
func cpuName() string {
	b, err := os.ReadFile("/proc/cpuinfo")
	if err == nil {
		for line := range strings.Lines(string(b)) {
			if k, v, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(k) == "model name" {
				return strings.TrimSpace(v)
			}
		}
	}
	return runtime.GOARCH
}

// findRoot is the directory of the module, from the working directory upwards.
func findRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		up := filepath.Dir(dir)
		if up == dir {
			return "", errors.New("no go.mod here or above: run it in the repository")
		}
		dir = up
	}
}

// list splits a flag; nil means everything.
func list(s string, known []string) ([]string, error) {
	if s == "" {
		return nil, nil
	}
	out := strings.Split(s, ",")
	for _, x := range out {
		if !slices.Contains(known, x) {
			return nil, fmt.Errorf("%q is none of %s", x, strings.Join(known, ", "))
		}
	}
	return out, nil
}

// known lists the works, with the products, the hops, the pauses, the recorded streams, the workers over a link and what the plan says of them, and the peers.
func known() (ids, peers []string) {
	for _, w := range works {
		ids = append(ids, w.id)
		for _, r := range w.rivals {
			if !slices.Contains(peers, r.peer) {
				peers = append(peers, r.peer)
			}
		}
	}
	return append(ids, "G", "M", "P", "R", "L", "N"), append(peers, "openblas", "gonum", "gomlx")
}

// run is the command without its flags' parsing and the process around it.
func (b *bench) run(ids []string) (res result, err error) {
	wanted := func(id string) bool { return ids == nil || slices.Contains(ids, id) }
	for _, w := range works {
		if !wanted(w.id) {
			continue
		}
		rows, err := b.compareWork(w)
		if err != nil {
			return res, fmt.Errorf("%s: %w", w.id, err)
		}
		res.Works = append(res.Works, rows...)
	}
	if wanted("G") {
		if res.Products, err = b.compareProducts(); err != nil {
			return res, fmt.Errorf("G: %w", err)
		}
	}
	if wanted("M") {
		if res.Hops, err = b.compareHops(); err != nil {
			return res, fmt.Errorf("M: %w", err)
		}
	}
	if wanted("P") {
		if res.Pauses, err = b.comparePauses(); err != nil {
			return res, fmt.Errorf("P: %w", err)
		}
	}
	if wanted("R") {
		if res.Streams, err = b.compareStreams(); err != nil {
			return res, fmt.Errorf("R: %w", err)
		}
	}
	if wanted("L") {
		if res.Workers, err = b.compareWorkers(); err != nil {
			return res, fmt.Errorf("L: %w", err)
		}
	}
	if wanted("N") {
		if res.Links, err = b.comparePredictions(); err != nil {
			return res, fmt.Errorf("N: %w", err)
		}
	}
	res.Machine = machine{cpuName(), len(smtpool.CPUs()), runtime.Version(), runtime.GOOS + "/" + runtime.GOARCH, kernel.ISA(), b.tools.versions, b.tools.missing}
	return res, errors.Join(b.ended...)
}

func command() (err error) {
	allWorks, allPeers := known()
	onlyWorks := flag.String("works", "", "works to measure, of "+strings.Join(allWorks, ",")+"; all if left out")
	onlyPeers := flag.String("peers", "", "peers to measure, of "+strings.Join(allPeers, ",")+"; all if left out")
	rounds := flag.Int("rounds", 15, "rounds: in each, every side has its turn")
	seconds := flag.Float64("seconds", 0.2, "about how long a side computes in a round")
	limit := flag.Duration("limit", 2*time.Minute, "end the rounds of a work after this time, three being done")
	text := flag.String("text", "", "text for W4 and W8, of the characters of tiny Shakespeare; the names of W5 if left out")
	asJSON := flag.Bool("json", false, "print one JSON object")
	flag.Parse()
	if flag.NArg() > 0 || *rounds < 1 || *seconds <= 0 {
		return errors.New("want -rounds of at least 1, -seconds above 0 and no arguments")
	}
	ids, err := list(*onlyWorks, allWorks)
	if err != nil {
		return err
	}
	peers, err := list(*onlyPeers, allPeers)
	if err != nil {
		return err
	}
	root, err := findRoot()
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "vtpu-bench-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	b := &bench{peers: peers, rounds: *rounds, seconds: *seconds, limit: *limit, log: os.Stderr}
	if *text == "" {
		*text = filepath.Join(root, names)
	} else if *text, err = filepath.Abs(*text); err != nil {
		return err
	}
	b.sets = []string{"data.path=" + *text}
	b.tools = newToolbox(root, *text, dir)
	res, err := b.run(ids)
	if err != nil {
		return err
	}
	if *asJSON {
		return json.NewEncoder(os.Stdout).Encode(res)
	}
	return res.print(os.Stdout)
}

func main() {
	if err := command(); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}
