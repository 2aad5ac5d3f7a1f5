package pipelines

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"vtpu/pipelines/strict"
	"vtpu/stages"
	"vtpu/stages/weights"
)

// suggest is what the strict reader says of a misspelt word.
func suggest(word string, all []string) string { return strict.Suggest(word, all) }

// Load reads a pipeline: a file, or the name of an embedded preset. sets are assignments of --set. dir is where the pipeline's relative paths start.
func Load(name string, sets []string) (p *Pipeline, dir string, err error) {
	src, rerr := os.ReadFile(name)
	dir = filepath.Dir(name)
	if rerr != nil {
		b, ok := preset(name)
		switch {
		case ok:
			src, dir = b, "."
		case os.IsNotExist(rerr):
			return nil, "", stages.Finding{File: name, Msg: "no such file, and no preset of that name", Fix: strict.Suggest(name, PresetNames())}
		default:
			return nil, "", stages.Finding{File: name, Msg: "can't be read: " + rerr.Error()}
		}
	}
	p, err = Parse(name, src, sets)
	return p, dir, err
}

// reader collects findings while a pipeline is read.
type reader struct {
	p     *Pipeline
	found stages.Findings
	names map[string]bool // of stages
	slots int             // names made up for residual branches
}

func (r *reader) fault(n *strict.Node, fix, format string, args ...any) {
	r.found = append(r.found, n.Finding(fmt.Sprintf(format, args...), fix))
}

func placeOf(n *strict.Node) Place {
	f := n.Finding("", "")
	return Place{f.File, f.Line, f.Col}
}

// Parse reads the text of a pipeline. file is its name in findings.
func Parse(file string, src []byte, sets []string) (*Pipeline, error) {
	return parse(file, src, sets, os.LookupEnv)
}

// parse is Parse with the values of variables from lookup.
func parse(file string, src []byte, sets []string, lookup func(string) (string, bool)) (*Pipeline, error) {
	vars := map[string]string{}
	root, fs := strict.Parse(file, src, func(name string) (string, bool) {
		v, ok := lookup(name)
		if ok {
			vars[name] = v
		}
		return v, ok
	})
	if err := fs.Err(); err != nil {
		return nil, err
	}
	if !root.IsMap() {
		return nil, root.Finding("want a map with the keys data, stages and run", "vtpu new writes a pipeline to start from")
	}
	for _, s := range sets {
		if f := strict.Set(root, s); f != nil {
			return nil, *f
		}
	}
	p := &Pipeline{File: file, Text: src, Sets: sets, Vars: vars, Comment: opening(src), Parts: 1,
		Name:  strings.TrimSuffix(filepath.Base(file), filepath.Ext(file)),
		Run:   RunSection{Keep: 3},
		Place: PlaceSection{DLanes: AutoInt{Auto: true}, SLanes: AutoInt{Auto: true}, LookAhead: 1, Pin: "auto"},
		Links: noLinks(), linkAt: map[string]Place{},
	}
	r := &reader{p: p, names: map[string]bool{}}
	r.top(root)
	if err := r.found.Err(); err != nil {
		return nil, err
	}
	return p, nil
}

// opening is the comment at the top of a file, without the marks.
func opening(src []byte) string {
	var lines []string
	for line := range strings.Lines(string(src)) {
		text, ok := strings.CutPrefix(strings.TrimSpace(line), "#")
		if !ok {
			break
		}
		lines = append(lines, strings.TrimSpace(text))
	}
	return strings.Join(lines, "\n")
}

// head is the part of a pipeline that plain fields describe.
type head struct {
	Name  string `yaml:"name" doc:"Name of the pipeline; the file's if left out."`
	Seed  uint64 `yaml:"seed" doc:"Seed of all randomness."`
	Parts int    `yaml:"parts" min:"1" max:"4096" doc:"Micro-batches that a step is cut into. It belongs to the model: sums are taken in part order on any number of lanes."`
}

var topKeys = []string{"name", "seed", "parts", "data", "stages", "run", "place", "links", "sample"}

func (r *reader) top(root *strict.Node) {
	h := head{Name: r.p.Name, Seed: 1337, Parts: 1}
	for _, pr := range root.Pairs() {
		if !slices.Contains(topKeys, pr.Key.Text()) {
			fix := strict.Suggest(pr.Key.Text(), topKeys)
			if stages.Find(pr.Key.Text()) != nil {
				fix = "it is a stage: write it into the list under stages"
			}
			r.fault(pr.Key, fix, "unknown key %s", pr.Key.Text())
		}
	}
	var plain []string
	for _, pr := range root.Pairs() {
		if k := pr.Key.Text(); k != "name" && k != "seed" && k != "parts" {
			plain = append(plain, k)
		}
	}
	r.add(strict.Decode(root.Without(plain...), &h))
	r.p.Name, r.p.Seed, r.p.Parts = h.Name, h.Seed, h.Parts
	if n := root.Get("data"); n != nil && !n.IsNull() {
		r.data(n)
	}
	for _, s := range []struct {
		key string
		dst any
	}{{"run", &r.p.Run}, {"place", &r.p.Place}, {"links", &r.p.Links}} {
		if n := root.Get(s.key); n != nil {
			r.add(strict.Decode(n, s.dst))
		}
	}
	if n := root.Get("links"); n != nil {
		for _, pr := range n.Pairs() {
			r.p.linkAt[pr.Key.Text()] = placeOf(pr.Val)
		}
	}
	if n := root.Get("sample"); n != nil {
		r.p.Sample = &SampleSection{Count: 10, Temperature: 1}
		r.add(strict.Decode(n, r.p.Sample))
	}
	n := root.Get("stages")
	if n == nil || !n.IsList() || len(n.Items()) == 0 {
		at := root
		if n != nil {
			at = n
		}
		r.fault(at, "vtpu list shows the stages", "stages: want a list of stages")
		return
	}
	r.stages(n.Items(), "")
}

func (r *reader) add(fs stages.Findings) { r.found = append(r.found, fs...) }

// dataHead are the keys of the data section that all sources share.
type dataHead struct {
	Split float64 `yaml:"split" above:"0" max:"1" doc:"Share of the data for training; the rest is for validation."`
}

func (r *reader) data(n *strict.Node) {
	if !n.IsMap() {
		r.fault(n, "data: {source: csv, path: file.csv}", "data: want a map with the key source")
		return
	}
	var names []string
	for _, s := range stages.RegisteredSources() {
		names = append(names, s.Name)
	}
	src := n.Get("source")
	if src == nil || !src.IsScalar() {
		r.fault(n, "one of "+strings.Join(names, ", "), "data: source is missing")
		return
	}
	def := stages.FindSource(src.Text())
	if def == nil {
		r.fault(src, strict.Suggest(src.Text(), names), "unknown source %s", src.Text())
		return
	}
	h := dataHead{Split: 1}
	var rest []string
	for _, pr := range n.Pairs() {
		if pr.Key.Text() != "split" {
			rest = append(rest, pr.Key.Text())
		}
	}
	r.add(strict.Decode(n.Without(rest...), &h))
	cfg := def.NewConfig()
	r.add(strict.Decode(n.Without("source", "split"), cfg))
	r.p.Data = &DataSection{Place: placeOf(n), Source: def, Cfg: cfg, Split: h.Split}
}

// stages unfolds a list: repeat and residual become the stages that they stand for. scope is the prefix of names, such as "h0.".
func (r *reader) stages(items []*strict.Node, scope string) {
	for _, it := range items {
		switch {
		case it.IsScalar():
			r.stage(it, it.Text(), nil, scope, nil)
		case it.IsMap() && it.Get("repeat") != nil:
			r.repeat(it, scope)
		case it.IsMap() && len(it.Pairs()) == 1:
			pr := it.Pairs()[0]
			if pr.Key.Text() == "residual" {
				r.residual(pr.Val, scope)
			} else {
				r.stage(pr.Key, pr.Key.Text(), pr.Val, scope, nil)
			}
		case it.IsMap() && len(it.Pairs()) > 1:
			r.fault(it, "begin each stage with a dash; indent its keys below it", "an element of stages names one stage, this one has the keys %s", keysOf(it))
		default:
			r.fault(it, "", "want a stage such as dense: {units: 8}")
		}
	}
}

func keysOf(n *strict.Node) string {
	var ks []string
	for _, p := range n.Pairs() {
		ks = append(ks, p.Key.Text())
	}
	return strings.Join(ks, ", ")
}

// repeatHead is what a user may write beside stages in a repeat.
type repeatHead struct {
	Repeat int    `yaml:"repeat" min:"1" max:"1024" required:"true" doc:"How often the stages follow one another."`
	Name   string `yaml:"name" doc:"Prefix of the names inside: h gives h0.dense, h1.dense, ..."`
}

func (r *reader) repeat(n *strict.Node, scope string) {
	h := repeatHead{Name: "h"}
	list := n.Get("stages")
	before := len(r.found)
	r.add(strict.Decode(n.Without("stages"), &h))
	if list == nil || !list.IsList() {
		r.fault(n, "repeat: 4 and, below it, stages: [...]", "repeat: stages is missing or not a list")
	}
	if len(r.found) > before {
		return
	}
	for i := range h.Repeat {
		prefix := scope + h.Name + strconv.Itoa(i) + "."
		if r.names[prefix] {
			r.fault(n, "give one of them a name", "the stages of two repeats would be called %s...", prefix)
			return
		}
		r.names[prefix] = true
		before := len(r.found)
		r.stages(list.Items(), prefix)
		if len(r.found) > before {
			return // the same findings would come again for each
		}
	}
}

// residual unfolds a branch and the addition of what went into it.
func (r *reader) residual(n *strict.Node, scope string) {
	def := stages.Find("residual_add")
	if !n.IsList() || len(n.Items()) == 0 || def == nil {
		r.fault(n, "residual: [layernorm: {}, dense: {units: 8}]", "residual: want a list of stages")
		return
	}
	first := len(r.p.Items)
	r.stages(n.Items(), scope)
	if len(r.p.Items) == first {
		return
	}
	// The branch reads what its first stage reads; that is marked and found when the plan binds it.
	mark := fmt.Sprintf("%sresidual%d", scope, r.slots)
	r.slots++
	r.p.Items[first].Marks = append(r.p.Items[first].Marks, mark)
	r.p.Items = append(r.p.Items, Item{Place: placeOf(n), Def: def, Cfg: def.NewConfig(), Name: r.name(scope, "residual"), Scope: scope,
		Skip: mark})
}

// name makes an instance name: the kind, numbered from the second one on.
func (r *reader) name(scope, kind string) string {
	for i := 1; ; i++ {
		name := scope + kind
		if i > 1 {
			name += strconv.Itoa(i)
		}
		if !r.names[name] {
			r.names[name] = true
			return name
		}
	}
}

// genericKeys are the keys that every stage takes beside its own.
var genericKeys = stages.GenericKeys()

func (r *reader) stage(key *strict.Node, kind string, cfg *strict.Node, scope string, _ *Item) {
	def := stages.Find(kind)
	if def == nil || strings.HasSuffix(kind, "_backward") {
		var names []string
		for _, d := range stages.Registered() {
			if !strings.HasSuffix(d.Name, "_backward") {
				names = append(names, d.Name)
			}
		}
		r.fault(key, strict.Suggest(kind, append(names, "residual", "repeat")), "unknown stage %s", kind)
		return
	}
	it := Item{Place: placeOf(key), Def: def, Cfg: def.NewConfig(), Scope: scope}
	before := len(r.found)
	if cfg == nil || cfg.IsNull() {
		r.add(r.complete(key, it.Cfg))
	} else if !cfg.IsMap() {
		r.fault(cfg, fmt.Sprintf("write %s: {...}", kind), "%s: want a map of keys and values", kind)
		return
	} else {
		r.add(locate(strict.Decode(cfg.Without(genericKeys...), it.Cfg), kind))
		r.generic(cfg, &it)
	}
	if it.Name == "" {
		it.Name = r.name(scope, kind)
	}
	if len(r.found) > before {
		return
	}
	if err := def.Check(it.Cfg); err != nil {
		r.fault(key, "", "%s: %v", kind, err)
		return
	}
	r.p.Items = append(r.p.Items, it)
}

// locate names the stage in a finding about one of its keys.
func locate(fs stages.Findings, kind string) stages.Findings {
	for i := range fs {
		fs[i].Msg = kind + ": " + fs[i].Msg
	}
	return fs
}

// complete checks a config that has no keys at all for keys that it must have.
func (r *reader) complete(at *strict.Node, cfg any) stages.Findings {
	var fs stages.Findings
	for _, f := range strict.Fields(cfg) {
		if f.Required {
			fs = append(fs, at.Finding(fmt.Sprintf("%s: %s is missing", at.Text(), f.Name), strings.TrimSuffix(f.Doc, ".")))
		}
	}
	return fs
}

// generic reads the keys that every stage takes.
func (r *reader) generic(cfg *strict.Node, it *Item) {
	if n := cfg.Get("name"); n != nil {
		if !n.IsScalar() || !plainName(n.Text()) {
			r.fault(n, "letters, digits and underscores", "name: want a plain name")
		} else if it.Name = it.Scope + n.Text(); r.names[it.Name] {
			r.fault(n, "", "name: there is a stage %s already", it.Name)
		} else {
			r.names[it.Name] = true
		}
	}
	it.In = r.refs(cfg.Get("in"), "in")
	it.Out = r.refs(cfg.Get("out"), "out")
	if n := cfg.Get("share"); n != nil {
		it.Share = map[string]string{}
		if n.IsScalar() {
			it.Share["weight"] = n.Text()
		}
		for _, p := range n.Pairs() {
			it.Share[p.Key.Text()] = p.Val.Text()
		}
		if n.IsList() || len(it.Share) == 0 {
			r.fault(n, "share: embed.weight, or share: {weight: embed.weight}", "share: want the name of a weight")
		}
	}
	if n := cfg.Get("init"); n != nil {
		it.Init = map[string]stages.Init{}
		if in, ok := r.init(n, false); ok {
			it.Init[""] = in
		} else {
			for _, p := range n.Pairs() {
				if in, ok := r.init(p.Val, true); ok {
					it.Init[p.Key.Text()] = in
				}
			}
			if !n.IsMap() {
				r.fault(n, "init: {normal: 0.02}, or init: {weight: {normal: 0.02}, bias: {constant: 0}}", "init: want a distribution")
			}
		}
	}
	if n := cfg.Get("home"); n != nil {
		it.At = map[string]weights.Coord{}
		pairs := n.Pairs()
		if n.IsScalar() {
			pairs = []strict.Pair{{Key: nil, Val: n}}
		}
		for _, p := range pairs {
			c, err := weights.ParseCoord(p.Val.Text())
			if err != nil {
				r.fault(p.Val, "", "home: %v", err)
				continue
			}
			name := "weight"
			if p.Key != nil {
				name = p.Key.Text()
			}
			it.At[name] = c
		}
	}
	if n := cfg.Get("freeze"); n != nil {
		var f struct {
			Freeze bool `yaml:"freeze"`
		}
		var rest []string
		for _, p := range cfg.Pairs() {
			if p.Key.Text() != "freeze" {
				rest = append(rest, p.Key.Text())
			}
		}
		r.add(strict.Decode(cfg.Without(rest...), &f))
		it.Freeze = f.Freeze
	}
	if n := cfg.Get("params"); n != nil {
		if it.Def.Room != stages.Update && it.Def.Room != stages.Backward {
			r.fault(n, "remove it", "params: %s is not a stage that works on weights", it.Def.Name)
		} else if !n.IsScalar() {
			r.fault(n, `params: "embed.*"`, "params: want a pattern of names")
		}
		it.Match = n.Text()
	}
}

func plainName(s string) bool {
	for _, c := range s {
		if c != '_' && (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') {
			return false
		}
	}
	return s != ""
}

// refs reads a name or a list of names of slots.
func (r *reader) refs(n *strict.Node, key string) []Ref {
	if n == nil {
		return nil
	}
	items := n.Items()
	if n.IsScalar() {
		items = []*strict.Node{n}
	}
	if len(items) == 0 {
		r.fault(n, key+": [a, b]", "%s: want the name of a slot, or a list of names", key)
	}
	var out []Ref
	for _, it := range items {
		if !it.IsScalar() {
			r.fault(it, "", "%s: want the name of a slot", key)
			continue
		}
		out = append(out, Ref{it.Text(), placeOf(it)})
	}
	return out
}

// init reads {normal: 0.02}, {uniform: 0.1}, {constant: 0} or a number.
func (r *reader) init(n *strict.Node, must bool) (stages.Init, bool) {
	kind, val := "", n // a map of several pairs is one of weights, not a distribution
	if ps := n.Pairs(); len(ps) == 1 {
		kind, val = ps[0].Key.Text(), ps[0].Val
	} else if n.IsScalar() {
		kind = "constant"
	}
	ok := slices.Contains([]string{"normal", "uniform", "constant"}, kind)
	x, err := strconv.ParseFloat(val.Text(), 64)
	if !ok || err != nil || !val.IsScalar() {
		if must || ok {
			r.fault(n, "{normal: 0.02}, {uniform: 0.1} or {constant: 0}", "init: want a distribution with a number")
			return stages.Init{}, ok
		}
		return stages.Init{}, false
	}
	return stages.Init{Kind: kind, Value: x}, true
}

// Identity is the SHA-256 of everything in the pipeline that decides the bits of a run: not the name, nor the placement, nor what a run writes and when.
func (p *Pipeline) Identity() string {
	type item struct {
		Name, Kind, Match string
		Cfg               any
		In, Out           []string
		Share             map[string]string
		Init              map[string]stages.Init
		At                map[string]weights.Coord
		Freeze            bool
		Marks             []string
		Skip              string
	}
	id := struct {
		Seed  uint64
		Parts int
		Data  any
		Split float64
		From  string
		Items []item
	}{Seed: p.Seed, Parts: p.Parts}
	if p.Data != nil {
		id.Data, id.Split, id.From = p.Data.Cfg, p.Data.Split, p.Data.Source.Name
	}
	for _, it := range p.Items {
		x := item{Name: it.Name, Kind: it.Def.Name, Match: it.Match, Cfg: it.Cfg, Share: it.Share, Init: it.Init, At: it.At, Freeze: it.Freeze, Marks: it.Marks, Skip: it.Skip}
		for _, ref := range it.In {
			x.In = append(x.In, ref.Name)
		}
		for _, ref := range it.Out {
			x.Out = append(x.Out, ref.Name)
		}
		switch it.Def.Name {
		case "checkpoint", "tap", "commit": // what is saved and recorded; --record puts in a commit where the file has none
			continue
		}
		id.Items = append(id.Items, x)
	}
	b, err := json.Marshal(id)
	if err != nil {
		panic(fmt.Sprintf("pipelines: config that JSON can't hold: %v", err))
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}
