package stages

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
)

type probeConfig struct {
	Size int     `yaml:"size"`
	Rate float64 `yaml:"rate"`
}

type probe struct{}

func (probe) Process(_ context.Context, m *Message, out Outbox) error { return out.Send(m) }

func probeSpec(name string) Spec[probeConfig] {
	return Spec[probeConfig]{Name: name, Summary: "Does nothing.", Room: Scatter, Twin: "", Default: func() probeConfig { return probeConfig{Size: 3} },
		Contract: func(c probeConfig) Contract { return Contract{Vars: map[string]Dim{"S": N(c.Size)}} },
		Check: func(c probeConfig) error {
			if c.Size == 13 {
				return errors.New("13 brings bad luck")
			}
			return nil
		},
		New: func(Env, probeConfig) (Stage, error) { return probe{}, nil }}
}

// ownRegistry gives a test an empty registry of its own.
func ownRegistry(t *testing.T) {
	st, so := registry.stages, registry.sources
	registry.stages, registry.sources = nil, nil
	t.Cleanup(func() { registry.stages, registry.sources = st, so })
}

// panics runs f and returns what it panics with.
func panics(f func()) (what string) {
	defer func() {
		if r := recover(); r != nil {
			what = fmt.Sprint(r)
		}
	}()
	f()
	return ""
}

func TestRegistry(t *testing.T) {
	ownRegistry(t)
	if Find("probe") != nil || len(Registered()) > 0 || FindSource("probe") != nil {
		t.Fatal("nothing is registered yet")
	}
	MustRegister(probeSpec("probe"))
	d := Find("probe")
	if d == nil || d.Name != "probe" || d.Room != Scatter || d.Data != nil {
		t.Fatalf("found %+v", d)
	}
	cfg := d.NewConfig().(*probeConfig)
	if cfg.Size != 3 {
		t.Errorf("the default is lost: %+v", cfg)
	}
	cfg.Size = 5
	if again := d.NewConfig().(*probeConfig); again.Size != 3 {
		t.Error("configs share memory")
	}
	if c := d.Contract(cfg); c.Vars["S"] != N(5) {
		t.Errorf("the contract does not follow the config: %+v", c)
	}
	if err := d.Check(cfg); err != nil {
		t.Error(err)
	}
	cfg.Size = 13
	if err := d.Check(cfg); err == nil || err.Error() != "13 brings bad luck" {
		t.Errorf("check says %v", err)
	}
	if s, err := d.New(Env{}, cfg); err != nil || s != (probe{}) {
		t.Errorf("%v, %v", s, err)
	}
	if !slices.Contains(Registered(), d) {
		t.Error("Registered leaves it out")
	}
}

func TestRegistryPanics(t *testing.T) {
	ownRegistry(t)
	MustRegister(probeSpec("probe_twice"))
	incomplete := func(change func(*Spec[probeConfig])) func() {
		s := probeSpec("probe_incomplete")
		change(&s)
		return func() { MustRegister(s) }
	}
	lacks := `stages: spec of "probe_incomplete" lacks a name, a summary, New, or exactly one of Contract and Data`
	for _, x := range []struct {
		name string
		f    func()
		want string
	}{
		{"taken", func() { MustRegister(probeSpec("probe_twice")) }, `stages: "probe_twice" is registered twice`},
		{"no name", func() { MustRegister(probeSpec("")) }, `stages: spec of "" lacks a name, a summary, New, or exactly one of Contract and Data`},
		{"no summary", incomplete(func(s *Spec[probeConfig]) { s.Summary = "" }), lacks},
		{"no New", incomplete(func(s *Spec[probeConfig]) { s.New = nil }), lacks},
		{"no contract", incomplete(func(s *Spec[probeConfig]) { s.Contract = nil }), lacks},
		{"two contracts", incomplete(func(s *Spec[probeConfig]) {
			s.Data = func(probeConfig, *Dataset, int) (Contract, error) { return Contract{}, nil }
		}), lacks},
		{"no struct", func() { MustRegister(Spec[int]{Name: "probe_int"}) }, "stages: probe_int: config is not a struct"},
		{"a generic key", func() {
			MustRegister(Spec[struct {
				Size int    `yaml:"size"`
				Out  string `yaml:"out"`
			}]{Name: "probe_out", Summary: "None."})
		}, `stages: probe_out: the key "out" is one that every stage has; choose another for the config`},
		{"a generic key of a source", func() {
			MustRegisterSource(SourceSpec[struct {
				Split float64 `yaml:"split"`
			}]{Name: "probe_split", Summary: "None."})
		}, `stages: source probe_split: the key "split" is one that every source has; choose another for the config`},
		{"a source that loads nothing", func() { MustRegisterSource(SourceSpec[probeConfig]{Name: "probe_source", Summary: "None."}) },
			`stages: spec of source "probe_source" lacks a name, a summary or Load`},
	} {
		if got := panics(x.f); got != x.want {
			t.Errorf("%s panics with %q, want %q", x.name, got, x.want)
		}
	}
	if Find("probe_incomplete") != nil || Find("probe_int") != nil || Find("probe_out") != nil || FindSource("probe_source") != nil {
		t.Error("a spec was refused and registered")
	}
}

func TestRegisteredIsInTheOrderOfTheWalk(t *testing.T) {
	ownRegistry(t)
	for _, x := range []struct {
		name string
		room Room
	}{{"b", Update}, {"a", Update}, {"z", Gather}, {"c", Compute}} {
		s := probeSpec(x.name)
		s.Room = x.room
		MustRegister(s)
	}
	var names string
	for _, d := range Registered() {
		names += d.Name
	}
	if names != "zcab" {
		t.Errorf("the order is %s, want zcab", names)
	}
}

func TestSourceRegistry(t *testing.T) {
	ownRegistry(t)
	s := SourceSpec[probeConfig]{Name: "probe_data", Summary: "Counts.", Default: func() probeConfig { return probeConfig{Size: 2} },
		Load: func(_ LoadEnv, c probeConfig) (*Dataset, error) {
			return &Dataset{Facts: map[string]int{"rows": c.Size}}, nil
		}}
	MustRegisterSource(s)
	d := FindSource("probe_data")
	if d == nil || !slices.Contains(RegisteredSources(), d) {
		t.Fatal("not found")
	}
	cfg := d.NewConfig().(*probeConfig)
	cfg.Size++
	if ds, err := d.Load(LoadEnv{}, cfg); err != nil || ds.Facts["rows"] != 3 {
		t.Errorf("%+v, %v", ds, err)
	}
	if got := panics(func() { MustRegisterSource(s) }); got != `stages: source "probe_data" is registered twice` {
		t.Errorf("panics with %q", got)
	}
}

func TestCopyConfig(t *testing.T) {
	type forward struct {
		Act   string `yaml:"act"`
		Units Dim    `yaml:"units"`
		Heads int    `yaml:"heads"`
		Free  int
	}
	type twin struct {
		Renamed string  `yaml:"act"`
		Units   Dim     `yaml:"units"`
		Heads   float64 `yaml:"heads"` // another type
		Own     int     `yaml:"own"`
		Free    int     // no tag
	}
	dst := twin{Heads: 1.5, Own: 7, Free: 8}
	CopyConfig(&dst, &forward{"relu", N(4), 2, 3})
	if want := (twin{"relu", N(4), 1.5, 7, 8}); dst != want {
		t.Errorf("copied %+v, want %+v", dst, want)
	}
}
