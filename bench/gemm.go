package main

import (
	"fmt"
	"slices"
	"time"

	"vtpu/compute/kernel"
)

// product is one row of G.
type product struct {
	form    kernel.Form
	m, n, k int
	of      string // where it comes from
}

var forms = map[kernel.Form]string{kernel.NN: "NN", kernel.NT: "NT", kernel.TN: "TN"}

// products are square ones and those of W4 and W8: forward (NT), gradient of the input (NN), gradient of the weight (TN).
var products = []product{
	{kernel.NN, 64, 64, 64, "square"}, {kernel.NN, 128, 128, 128, "square"}, {kernel.NN, 256, 256, 256, "square"},
	{kernel.NN, 512, 512, 512, "square"}, {kernel.NN, 1024, 1024, 1024, "square"}, {kernel.NN, 2048, 2048, 2048, "square"},
	{kernel.NT, 768, 384, 128, "W4 qkv"}, {kernel.NT, 768, 512, 128, "W4 up"}, {kernel.NT, 768, 128, 512, "W4 down"},
	{kernel.NN, 768, 128, 512, "W4 up, d input"}, {kernel.TN, 512, 128, 768, "W4 up, d weight"},
	{kernel.NT, 256, 2304, 768, "W8 qkv"}, {kernel.NT, 256, 3072, 768, "W8 up"}, {kernel.NT, 256, 768, 3072, "W8 down"},
	{kernel.NN, 256, 768, 3072, "W8 up, d input"}, {kernel.TN, 3072, 768, 256, "W8 up, d weight"}, {kernel.NT, 256, 50257, 768, "W8 head"},
}

// name is how gemm.c calls it.
func (p product) name() string { return fmt.Sprintf("%s:%d,%d,%d", forms[p.form], p.m, p.n, p.k) }

func (p product) gflop() float64 { return 2e-9 * float64(p.m) * float64(p.n) * float64(p.k) }

// gemmSide is kernel.Gemm, one thread.
type gemmSide struct {
	product
	a, b, c []float32
}

// fill writes the same numbers as its twin in c/gemm.c. They are multiples of 1/8, so that sums are exact in any order.
func fill(n int, seed uint32) []float32 {
	x := make([]float32, n)
	for i := range x {
		seed = seed*1664525 + 1013904223
		x[i] = float32(seed>>28)/8 - 1
	}
	return x
}

func newGemmSide(p product) *gemmSide {
	return &gemmSide{p, fill(p.m*p.k, 1), fill(p.k*p.n, 2), fill(p.m*p.n, 3)}
}

func (g *gemmSide) run(steps int64) (seconds, loss float64, err error) {
	lda, ldb := g.k, g.n
	if g.form == kernel.TN {
		lda = g.m
	}
	if g.form == kernel.NT {
		ldb = g.k
	}
	start := time.Now()
	for range steps {
		kernel.Gemm(g.form, g.m, g.n, g.k, g.a, lda, g.b, ldb, g.c, g.n, false)
	}
	seconds = time.Since(start).Seconds()
	for i, v := range g.c {
		loss += float64(v) * float64(i%7+1)
	}
	return seconds, loss, nil
}

func (g *gemmSide) close() error { return nil }

// gemmRow is what was measured of a product.
type gemmRow struct {
	Product  string  `json:"product"`
	Of       string  `json:"of"`
	Own      float64 `json:"vtpu_gflops"`
	OpenBLAS float64 `json:"openblas_gflops,omitempty"`
	Share    spread  `json:"share_of_peak"`
	Ratio    *spread `json:"times_openblas,omitempty"`
	Gonum    float64 `json:"gonum_gflops,omitempty"`
	GoMLX    float64 `json:"gomlx_gflops,omitempty"`
	Must     bool    `json:"must"` // the row's demands hold from 256 on
}

// compareProducts measures row G. The peak is measured in every round, beside the products.
func (b *bench) compareProducts() ([]gemmRow, error) {
	vs, err := b.tools.variants("openblas", "peak")
	if err != nil {
		b.tools.missing["openblas"] = err.Error()
		return nil, nil
	}
	peak, err := pick(vs, b.seconds)
	if err != nil {
		return nil, err
	}
	defer func() { b.closed(peak.close()) }()
	if peak.loss == 0 {
		b.tools.missing["peak"] = "gcc knows no FMA on this CPU"
		return nil, nil
	}
	var rows []gemmRow
	for _, p := range products {
		b.say("G %s", p.name())
		row, err := b.compareProduct(p, peak)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", p.name(), err)
		}
		rows = append(rows, row)
	}
	return rows, nil
}

func (b *bench) compareProduct(p product, peak *runner) (gemmRow, error) {
	row := gemmRow{Product: p.name(), Of: p.of, Must: min(p.m, p.n, p.k) >= 256 && p.of == "square" || p.of != "square"}
	own := &runner{side: newGemmSide(p)}
	if err := own.calibrate(b.seconds); err != nil {
		return row, err
	}
	rs := []*runner{own, peak}
	vs, err := b.tools.variants("openblas", p.name())
	if err != nil {
		return row, err
	}
	if other, err := pick(vs, b.seconds); err == nil {
		defer func() { b.closed(other.close()) }()
		if other.loss != own.loss {
			return row, fmt.Errorf("the products differ: vTPU's sum is %v, OpenBLAS's %v", own.loss, other.loss)
		}
		rs = append(rs, other)
	} else {
		b.tools.missing["openblas"] = err.Error()
	}
	first := len(rs) // of the peers in Go
	var goPeers []string
	for _, name := range []string{"gonum", "gomlx"} {
		if p.gflop() > 5 || b.peers != nil && !slices.Contains(b.peers, name) { // beyond that a product of theirs takes a second
			continue
		}
		vs, err := b.tools.variants(name, p.name())
		if err == nil {
			var r *runner
			if r, err = pick(vs, b.seconds); err == nil {
				defer func() { b.closed(r.close()) }()
				if r.loss != own.loss {
					return row, fmt.Errorf("the products differ: vTPU's sum is %v, that of %s %v", own.loss, name, r.loss)
				}
				rs, goPeers = append(rs, r), append(goPeers, name)
			}
		}
		if err != nil {
			b.tools.missing[name] = err.Error()
		}
	}
	ts, err := alternate(rs, b.rounds, b.limit, func() {})
	if err != nil {
		return row, err
	}
	for i, name := range goPeers {
		rate := p.gflop() / median(ts[first+i])
		if name == "gonum" {
			row.Gonum = rate
		} else {
			row.GoMLX = rate
		}
	}
	rates := make([]float64, len(ts[0]))
	for i := range rates {
		rates[i] = p.gflop() / ts[0][i] / (peak.loss / ts[1][i])
	}
	row.Own, row.Share = p.gflop()/median(ts[0]), spreadOf(rates)
	if first > 2 {
		r := spreadOf(ratios(ts[2], ts[0]))
		row.OpenBLAS, row.Ratio = p.gflop()/median(ts[2]), &r
	}
	return row, nil
}
