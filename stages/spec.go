package stages

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
)

// Spec is all that vTPU knows about a kind of stage. The one Spec feeds lint, defaults, docs, schema, plan and placement.
//
// C is a struct. Its fields carry tags: yaml (the key), doc (one sentence), min, max, above (largest excluded lower bound), enum (a|b), required.
type Spec[C any] struct {
	Name    string // as written in YAML
	Summary string // one sentence
	Source  string // paper and section, or ""
	Example string // YAML of one list item, such as "dense: {units: 16, act: relu}"
	Room    Room
	Pipe    Pipe
	Twin    string // Compute and Loss: the backward stage that is mirrored from this one; "" where no gradient flows

	Default func() C
	// Check finds what tags can't say; it is called before Contract. nil is fine.
	Check func(C) error
	// Contract is made from the config alone.
	Contract func(C) Contract
	// Data is Contract for gather stages, whose outputs the data decides.
	Data func(c C, d *Dataset, parts int) (Contract, error)
	New  func(env Env, c C) (Stage, error)
	// Fuse looks for stages that one stage can take the place of with the same bits: walk begins with this one, and what follows it in a training part comes
	// after. It returns the stage's New and the number of stages, or nil. It may be nil.
	Fuse func(walk []Planned) (n int, make func(*Team) (Stage, error))
}

// Planned is a stage of a plan: what New is called with.
type Planned struct {
	Def *Def
	Env Env
	Cfg any
}

// Def is a Spec with its config's type erased: NewConfig returns a pointer to a config that holds the defaults, and the other functions
// take such a pointer.
type Def struct {
	Name, Summary, Source, Example string
	Room                           Room
	Pipe                           Pipe
	Twin                           string

	NewConfig func() any
	Check     func(cfg any) error
	Contract  func(cfg any) Contract
	Data      func(cfg any, d *Dataset, parts int) (Contract, error) // nil except in gather
	New       func(env Env, cfg any) (Stage, error)
	Fuse      func(walk []Planned) (n int, make func(*Team) (Stage, error)) // nil: never
}

// SourceSpec describes a data source: what stands under data.source.
type SourceSpec[C any] struct {
	Name    string
	Summary string
	Example string // YAML of the data section
	Default func() C
	Load    func(env LoadEnv, c C) (*Dataset, error)
}

// SourceDef is a SourceSpec with its config's type erased.
type SourceDef struct {
	Name, Summary, Example string
	NewConfig              func() any
	Load                   func(env LoadEnv, cfg any) (*Dataset, error)
}

// The registry is the only global state: it is filled by init functions and read afterwards.
var registry struct {
	sync.Mutex
	stages  map[string]*Def
	sources map[string]*SourceDef
}

// GenericKeys are the keys that every stage has in a pipeline file; a config must not have one of its own by the same name.
func GenericKeys() []string {
	return []string{"name", "in", "out", "share", "init", "home", "freeze", "params"}
}

// MustRegister adds a stage. It panics on a name that is taken, a config with a generic key or a spec that is not complete: all are mistakes of the
// programmer.
func MustRegister[C any](s Spec[C]) {
	if reflect.TypeFor[C]().Kind() != reflect.Struct {
		panic(fmt.Sprintf("stages: %s: config is not a struct", s.Name))
	}
	if key := clash[C](GenericKeys()...); key != "" {
		panic(fmt.Sprintf("stages: %s: the key %q is one that every stage has; choose another for the config", s.Name, key))
	}
	if s.Name == "" || s.Summary == "" || s.New == nil || (s.Contract == nil) == (s.Data == nil) {
		panic(fmt.Sprintf("stages: spec of %q lacks a name, a summary, New, or exactly one of Contract and Data", s.Name))
	}
	d := &Def{Name: s.Name, Summary: s.Summary, Source: s.Source, Example: s.Example, Room: s.Room, Pipe: s.Pipe, Twin: s.Twin, Fuse: s.Fuse}
	d.NewConfig = func() any {
		c := new(C)
		if s.Default != nil {
			*c = s.Default()
		}
		return c
	}
	d.Check = func(cfg any) error {
		if s.Check == nil {
			return nil
		}
		return s.Check(*cfg.(*C))
	}
	if s.Contract != nil {
		d.Contract = func(cfg any) Contract { return s.Contract(*cfg.(*C)) }
	} else {
		d.Data = func(cfg any, ds *Dataset, parts int) (Contract, error) { return s.Data(*cfg.(*C), ds, parts) }
	}
	d.New = func(env Env, cfg any) (Stage, error) { return s.New(env, *cfg.(*C)) }

	registry.Lock()
	defer registry.Unlock()
	if registry.stages == nil {
		registry.stages = map[string]*Def{}
	}
	if registry.stages[s.Name] != nil {
		panic(fmt.Sprintf("stages: %q is registered twice", s.Name))
	}
	registry.stages[s.Name] = d
}

// clash is the first key of a config that is among those taken, or "".
func clash[C any](taken ...string) string {
	c := reflect.TypeFor[C]()
	if c.Kind() != reflect.Struct {
		return ""
	}
	for i := range c.NumField() {
		if key, _, _ := strings.Cut(c.Field(i).Tag.Get("yaml"), ","); slices.Contains(taken, key) {
			return key
		}
	}
	return ""
}

// MustRegisterSource adds a data source. It panics as MustRegister does.
func MustRegisterSource[C any](s SourceSpec[C]) {
	if key := clash[C]("source", "split"); key != "" {
		panic(fmt.Sprintf("stages: source %s: the key %q is one that every source has; choose another for the config", s.Name, key))
	}
	if s.Name == "" || s.Summary == "" || s.Load == nil {
		panic(fmt.Sprintf("stages: spec of source %q lacks a name, a summary or Load", s.Name))
	}
	d := &SourceDef{Name: s.Name, Summary: s.Summary, Example: s.Example}
	d.NewConfig = func() any {
		c := new(C)
		if s.Default != nil {
			*c = s.Default()
		}
		return c
	}
	d.Load = func(env LoadEnv, cfg any) (*Dataset, error) { return s.Load(env, *cfg.(*C)) }

	registry.Lock()
	defer registry.Unlock()
	if registry.sources == nil {
		registry.sources = map[string]*SourceDef{}
	}
	if registry.sources[s.Name] != nil {
		panic(fmt.Sprintf("stages: source %q is registered twice", s.Name))
	}
	registry.sources[s.Name] = d
}

// Find is the stage of that name, or nil.
func Find(name string) *Def {
	registry.Lock()
	defer registry.Unlock()
	return registry.stages[name]
}

// FindSource is the data source of that name, or nil.
func FindSource(name string) *SourceDef {
	registry.Lock()
	defer registry.Unlock()
	return registry.sources[name]
}

// Registered lists all stages by room and name.
func Registered() []*Def {
	registry.Lock()
	defer registry.Unlock()
	var ds []*Def
	for _, d := range registry.stages {
		ds = append(ds, d)
	}
	slices.SortFunc(ds, func(a, b *Def) int {
		if a.Room != b.Room {
			return int(a.Room) - int(b.Room)
		}
		return strings.Compare(a.Name, b.Name)
	})
	return ds
}

// RegisteredSources lists all data sources by name.
func RegisteredSources() []*SourceDef {
	registry.Lock()
	defer registry.Unlock()
	var ds []*SourceDef
	for _, d := range registry.sources {
		ds = append(ds, d)
	}
	slices.SortFunc(ds, func(a, b *SourceDef) int { return strings.Compare(a.Name, b.Name) })
	return ds
}

// CopyConfig copies the fields that dst and src (pointers to structs) share by yaml tag and type. It is how a backward twin gets the
// config of its forward stage although the two rooms don't know each other.
func CopyConfig(dst, src any) {
	d, s := reflect.ValueOf(dst).Elem(), reflect.ValueOf(src).Elem()
	for i := range d.NumField() {
		tag := d.Type().Field(i).Tag.Get("yaml")
		if tag == "" {
			continue
		}
		for j := range s.NumField() {
			if s.Type().Field(j).Tag.Get("yaml") == tag && s.Field(j).Type() == d.Field(i).Type() {
				d.Field(i).Set(s.Field(j))
			}
		}
	}
}
