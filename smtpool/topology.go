package smtpool

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
)

// A CPU is a logical CPU as the operating system tells it. Hypervisors hide or invent topology: all but ID is a claim, not a measurement.
type CPU struct {
	ID       int    `json:"id"`               // number of the operating system
	Siblings []int  `json:"siblings"`         // usable logical CPUs of the same core, itself included; just itself where nothing is known
	Core     int    `json:"core"`             // number of the core within the machine, from 0 in order of the CPUs
	Socket   int    `json:"socket"`           // physical package
	Node     int    `json:"node"`             // NUMA node
	Cluster  []int  `json:"cluster"`          // usable logical CPUs that share the last level of cache (a CCX on AMD)
	Kind     string `json:"kind,omitempty"`   // performance or efficiency on a hybrid machine
	Weight   int    `json:"weight,omitempty"` // relative speed as the system tells it (arm64: cpu_capacity, 1024 is the fastest), 0 if it does not
}

// A Cache is one kind of cache of the machine.
type Cache struct {
	Level int    `json:"level"`
	Type  string `json:"type"` // Data, Instruction or Unified
	Size  int    `json:"size"` // bytes
	Line  int    `json:"line"` // bytes
}

// A Topology is what is known of the logical CPUs, and which of them this process may use.
type Topology struct {
	CPUs   []CPU  `json:"cpus"`   // usable ones, ascending; never empty
	Source string `json:"source"` // sysfs, cpuid, or none where nothing but a number of CPUs is known

	Online   []int   `json:"online,omitempty"`   // of the machine
	Offline  []int   `json:"offline,omitempty"`  // present, switched off
	Excluded []int   `json:"excluded,omitempty"` // online, but not for this process: affinity mask or cpuset
	Quota    float64 `json:"quota,omitempty"`    // CPUs' worth of time that the cgroup allows; 0: no limit

	SMT        string  `json:"smt,omitempty"` // the system's word: on, off, forceoff, notsupported, notimplemented
	Model      string  `json:"model,omitempty"`
	Vendor     string  `json:"vendor,omitempty"`
	Family     int     `json:"family,omitempty"`
	ModelNo    int     `json:"model_number,omitempty"`
	Hypervisor bool    `json:"hypervisor"` // the CPU says that it is a guest's
	Caches     []Cache `json:"caches,omitempty"`

	Notes []string `json:"notes,omitempty"` // what contradicts itself or could not be read

	flags map[string]bool
}

// Has reports a feature flag of the CPU, spelled as in /proc/cpuinfo.
func (t *Topology) Has(flag string) bool { return t.flags[flag] }

// Pairs lists the cores that have at least two usable logical CPUs, as the first two of each: performance cores first, then ascending.
func (t *Topology) Pairs() [][2]int {
	var out [][2]int
	for _, c := range t.fastFirst() {
		if len(c.Siblings) >= 2 && c.Siblings[0] == c.ID {
			out = append(out, [2]int{c.Siblings[0], c.Siblings[1]})
		}
	}
	return out
}

// Separate lists one usable logical CPU of each core, performance cores first.
func (t *Topology) Separate() []int {
	var out []int
	for _, c := range t.fastFirst() {
		if len(c.Siblings) == 0 || c.Siblings[0] == c.ID {
			out = append(out, c.ID)
		}
	}
	return out
}

// fastFirst orders the CPUs: performance before efficiency, fast before slow, ascending.
func (t *Topology) fastFirst() []CPU {
	return slices.SortedStableFunc(slices.Values(t.CPUs), func(a, b CPU) int {
		if a.Kind != b.Kind && (a.Kind == kindE || b.Kind == kindE) {
			if a.Kind == kindE {
				return 1
			}
			return -1
		}
		return b.Weight - a.Weight
	})
}

const (
	kindP = "performance"
	kindE = "efficiency"
)

// Capacity is the number of threads that may spin at the same time without taking time from each other: the usable CPUs, or the whole CPUs of a
// cgroup's quota where that is less. At least 1.
func (t *Topology) Capacity() int {
	n := len(t.CPUs)
	if t.Quota > 0 {
		n = min(n, int(t.Quota))
	}
	return max(1, n)
}

// parseList reads the kernel's list format: 0,4 or 0-3,8. What is not in that format gives nil.
func parseList(s string) []int {
	var ids []int
	for part := range strings.SplitSeq(strings.TrimSpace(s), ",") {
		lo, hi, isRange := strings.Cut(part, "-")
		a, err := strconv.Atoi(lo)
		if err != nil || a < 0 || a > maxCPU {
			return nil
		}
		b := a
		if isRange {
			if b, err = strconv.Atoi(hi); err != nil || b < a || b > maxCPU {
				return nil
			}
		}
		for i := a; i <= b; i++ {
			ids = append(ids, i)
		}
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

// maxCPU bounds the CPU numbers that are believed. Linux knows 8192 at most.
const maxCPU = 1 << 16

const cpuDir = "sys/devices/system/cpu"

// A tree reads the small files of sysfs and procfs.
type tree struct{ fs.FS }

func (t tree) text(name string) string {
	b, err := fs.ReadFile(t, name)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

func (t tree) list(name string) []int { return parseList(t.text(name)) }

func (t tree) number(name string, otherwise int) int {
	n, err := strconv.Atoi(t.text(name))
	if err != nil {
		return otherwise
	}
	return n
}

// Read makes the topology from a file system that holds /sys and /proc. affinity are the CPUs that the thread's mask allows; nil: all. It never fails:
// what is not there is left out, and a machine of which nothing is known has fallback CPUs.
func Read(fsys fs.FS, affinity []int, fallback int) *Topology {
	f := tree{fsys}
	t := &Topology{Source: "none", SMT: f.text(cpuDir + "/smt/control")}
	f.cpuinfo(t)
	t.Online = f.list(cpuDir + "/online")
	t.Offline = f.list(cpuDir + "/offline")
	if present := f.list(cpuDir + "/present"); present != nil { // offline also lists CPUs that could be plugged in
		t.Offline = intersect(t.Offline, present)
	}
	usable := t.Online
	if usable == nil {
		usable = affinity
	}
	if usable == nil {
		for i := range max(1, fallback) {
			usable = append(usable, i)
		}
	}
	cs := f.cgroups()
	t.Quota = cs.quota
	all := usable
	usable = t.narrow(usable, affinity, "affinity mask")
	usable = t.narrow(usable, cs.cpus, "cpuset")
	t.Excluded = without(all, usable)
	f.describe(t, usable)
	f.caches(t)
	if len(t.CPUs) > 0 && t.Quota > 0 && t.Quota < float64(len(t.CPUs)) {
		t.note("the cgroup allows %g CPUs' worth of time on %d CPUs: lanes that wait must sleep, and times include throttling", t.Quota, len(t.CPUs))
	}
	return t
}

func (t *Topology) note(format string, args ...any) {
	t.Notes = append(t.Notes, fmt.Sprintf(format, args...))
}

// narrow keeps the CPUs that a mask allows. A mask that leaves none is wrong or from another name space: it is ignored, with a note.
func (t *Topology) narrow(usable, mask []int, name string) []int {
	if mask == nil {
		return usable
	}
	left := intersect(usable, mask)
	if len(left) == 0 {
		t.note("%s names no CPU that is online: ignored", name)
		return usable
	}
	return left
}

func intersect(a, b []int) []int {
	var out []int
	for _, x := range a {
		if slices.Contains(b, x) {
			out = append(out, x)
		}
	}
	return out
}

func without(a, b []int) []int {
	var out []int
	for _, x := range a {
		if !slices.Contains(b, x) {
			out = append(out, x)
		}
	}
	return out
}

// describe fills t.CPUs.
func (f tree) describe(t *Topology, usable []int) {
	fast, slow := f.list("sys/devices/cpu_core/cpus"), f.list("sys/devices/cpu_atom/cpus")
	nodes := f.nodes()
	cores := map[int]int{} // first CPU of a core -> number
	for _, id := range usable {
		dir := fmt.Sprintf("%s/cpu%d", cpuDir, id)
		c := CPU{ID: id, Socket: max(0, f.number(dir+"/topology/physical_package_id", 0)), Node: nodes[id], Weight: f.number(dir+"/cpu_capacity", 0)}
		switch {
		case slices.Contains(slow, id):
			c.Kind = kindE
		case slices.Contains(fast, id) && slow != nil:
			c.Kind = kindP
		}
		sib := f.list(dir + "/topology/core_cpus_list")
		if sib == nil {
			sib = f.list(dir + "/topology/thread_siblings_list") // its name before Linux 5.3
		}
		if sib != nil {
			t.Source = "sysfs"
		}
		if sib != nil && !slices.Contains(sib, id) {
			t.note("CPU %d is not among its own siblings %v: ignored", id, sib)
			sib = nil
		}
		first := id
		if len(sib) > 0 {
			first = sib[0]
		}
		if _, ok := cores[first]; !ok {
			cores[first] = len(cores)
		}
		c.Core = cores[first]
		c.Siblings = intersect(sib, usable)
		if len(c.Siblings) == 0 {
			c.Siblings = []int{id}
		}
		c.Cluster = intersect(f.lastLevel(dir), usable)
		if len(c.Cluster) == 0 {
			c.Cluster = []int{id}
		}
		t.CPUs = append(t.CPUs, c)
	}
	for _, c := range t.CPUs { // a relation that holds one way only is no relation
		for _, s := range c.Siblings {
			if i := slices.IndexFunc(t.CPUs, func(o CPU) bool { return o.ID == s }); i >= 0 && !slices.Contains(t.CPUs[i].Siblings, c.ID) {
				t.note("CPU %d names %d as its sibling, but not the other way round", c.ID, s)
			}
		}
	}
}

// indices lists the cache directories of a CPU.
func (f tree) indices(dir string) []string {
	var out []string
	for i := range 16 {
		d := fmt.Sprintf("%s/cache/index%d", dir, i)
		if f.text(d+"/level") == "" {
			break
		}
		out = append(out, d)
	}
	return out
}

// lastLevel lists the CPUs that share the highest level of cache with a CPU.
func (f tree) lastLevel(dir string) []int {
	best, level := []int(nil), 0
	for _, d := range f.indices(dir) {
		if l := f.number(d+"/level", 0); l > level {
			best, level = f.list(d+"/shared_cpu_list"), l
		}
	}
	return best
}

// caches fills t.Caches from the first usable CPU.
func (f tree) caches(t *Topology) {
	if len(t.CPUs) == 0 {
		return
	}
	for _, d := range f.indices(fmt.Sprintf("%s/cpu%d", cpuDir, t.CPUs[0].ID)) {
		t.Caches = append(t.Caches, Cache{Level: f.number(d+"/level", 0), Type: f.text(d + "/type"), Size: bytesOf(f.text(d + "/size")),
			Line: f.number(d+"/coherency_line_size", 64)})
	}
}

// bytesOf reads 48K or 2M; 0 where it is neither.
func bytesOf(s string) int {
	unit := 1
	switch {
	case strings.HasSuffix(s, "K"):
		unit = 1 << 10
	case strings.HasSuffix(s, "M"):
		unit = 1 << 20
	case strings.HasSuffix(s, "G"):
		unit = 1 << 30
	}
	n, err := strconv.Atoi(strings.TrimRight(s, "KMG"))
	if err != nil || n < 0 {
		return 0
	}
	return n * unit
}

// CacheSize is the size in bytes of the data cache of a level, or otherwise where the system does not tell.
func (t *Topology) CacheSize(level, otherwise int) int {
	for _, c := range t.Caches {
		if c.Level == level && c.Type != "Instruction" && c.Size > 0 {
			return c.Size
		}
	}
	return otherwise
}

// nodes maps CPUs to NUMA nodes.
func (f tree) nodes() map[int]int {
	out := map[int]int{}
	dirs, _ := fs.Glob(f, "sys/devices/system/node/node*")
	for _, d := range dirs {
		n, err := strconv.Atoi(strings.TrimPrefix(path.Base(d), "node"))
		if err != nil {
			continue
		}
		for _, id := range f.list(d + "/cpulist") {
			out[id] = n
		}
	}
	return out
}

// cpuinfo reads the first CPU's entry of /proc/cpuinfo.
func (f tree) cpuinfo(t *Topology) {
	t.flags = map[string]bool{}
	first, _, _ := strings.Cut(f.text("proc/cpuinfo"), "\n\n")
	for line := range strings.Lines(first) {
		k, v, _ := strings.Cut(line, ":")
		v = strings.TrimSpace(v)
		switch strings.TrimSpace(k) {
		case "vendor_id", "CPU implementer":
			t.Vendor = v
		case "cpu family":
			t.Family, _ = strconv.Atoi(v)
		case "model":
			t.ModelNo, _ = strconv.Atoi(v)
		case "model name":
			t.Model = v
		case "flags", "Features":
			for flag := range strings.FieldsSeq(v) {
				t.flags[flag] = true
			}
		}
	}
	t.Hypervisor = t.flags["hypervisor"]
}

// limits are what the cgroups of this process allow.
type limits struct {
	cpus  []int // nil: all
	quota float64
}

// cgroups reads the cpuset and the CPU quota, of version 2 and of version 1. Limits of outer groups hold too.
func (f tree) cgroups() limits {
	var l limits
	for line := range strings.Lines(f.text("proc/self/cgroup")) {
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(parts) != 3 {
			continue
		}
		controllers, group := strings.Split(parts[1], ","), path.Clean("/"+parts[2])
		if parts[1] == "" { // version 2
			for _, base := range []string{"sys/fs/cgroup", "sys/fs/cgroup/unified"} {
				f.climb(base, group, func(dir string) {
					l.cpu(f.list(dir + "/cpuset.cpus.effective"))
					quota, period, _ := strings.Cut(f.text(dir+"/cpu.max"), " ")
					l.time(quota, period)
				})
			}
			continue
		}
		for _, c := range controllers {
			for _, base := range []string{"sys/fs/cgroup/" + parts[1], "sys/fs/cgroup/" + c} {
				switch c {
				case "cpuset":
					f.climb(base, group, func(dir string) {
						cpus := f.list(dir + "/cpuset.effective_cpus")
						if cpus == nil {
							cpus = f.list(dir + "/cpuset.cpus")
						}
						l.cpu(cpus)
					})
				case "cpu":
					f.climb(base, group, func(dir string) { l.time(f.text(dir+"/cpu.cfs_quota_us"), f.text(dir+"/cpu.cfs_period_us")) })
				}
			}
		}
	}
	return l
}

// climb visits a group's directory and those around it, up to the mount. In a container the path may be the host's: what is not there is skipped.
func (f tree) climb(base, group string, visit func(dir string)) {
	for g := group; ; g = path.Dir(g) {
		dir := strings.TrimSuffix(base+g, "/")
		if _, err := fs.Stat(f, dir); err == nil || !errors.Is(err, fs.ErrNotExist) {
			visit(dir)
		}
		if g == "/" || g == "." {
			return
		}
	}
}

func (l *limits) cpu(ids []int) {
	switch {
	case ids == nil:
	case l.cpus == nil:
		l.cpus = ids
	default:
		if both := intersect(l.cpus, ids); len(both) > 0 {
			l.cpus = both
		}
	}
}

func (l *limits) time(quota, period string) {
	q, err1 := strconv.ParseFloat(quota, 64)
	p, err2 := strconv.ParseFloat(strings.TrimSpace(period), 64)
	if err1 != nil || err2 != nil || q <= 0 || p <= 0 {
		return // max, -1 or nothing: no limit
	}
	if l.quota == 0 || q/p < l.quota {
		l.quota = q / p
	}
}
