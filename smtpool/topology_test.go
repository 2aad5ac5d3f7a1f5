package smtpool

import (
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"
	"testing/fstest"
)

// recorded reads testdata/NAME.tree: each line is a path and the content of the file, with \n for a line break; @NAME includes another tree.
func recorded(t *testing.T, name string) fstest.MapFS {
	t.Helper()
	b, err := os.ReadFile("testdata/" + name + ".tree")
	if err != nil {
		t.Fatal(err)
	}
	fsys := fstest.MapFS{}
	for line := range strings.Lines(string(b)) {
		line = strings.TrimSuffix(line, "\n")
		if base, ok := strings.CutPrefix(line, "@"); ok {
			for k, v := range recorded(t, base) {
				fsys[k] = v
			}
			continue
		}
		if path, text, ok := strings.Cut(line, " "); ok && path != "#" {
			fsys[path] = &fstest.MapFile{Data: []byte(strings.ReplaceAll(text, `\n`, "\n") + "\n")}
		}
	}
	return fsys
}

func ids(cpus []CPU) (out []int) {
	for _, c := range cpus {
		out = append(out, c.ID)
	}
	return out
}

func TestRecordedTrees(t *testing.T) {
	for _, c := range []struct {
		tree     string
		affinity []int
		cpus     []int
		pairs    [][2]int
		separate []int
		quota    float64
		notes    int
	}{
		{tree: "intel-smt2", cpus: []int{0, 1, 2, 3, 4, 5, 6, 7}, pairs: [][2]int{{0, 4}, {1, 5}, {2, 6}, {3, 7}}, separate: []int{0, 1, 2, 3}},
		{tree: "intel-smt2", affinity: []int{1, 2, 5}, cpus: []int{1, 2, 5}, pairs: [][2]int{{1, 5}}, separate: []int{1, 2}},
		{tree: "intel-smt2", affinity: []int{4}, cpus: []int{4}, separate: []int{4}},
		{tree: "intel-smt2", affinity: []int{99}, cpus: []int{0, 1, 2, 3, 4, 5, 6, 7}, pairs: [][2]int{{0, 4}, {1, 5}, {2, 6}, {3, 7}}, separate: []int{0, 1, 2, 3}, notes: 1},
		{tree: "two-sockets", cpus: []int{0, 1, 2, 3, 4, 5, 6, 7}, pairs: [][2]int{{0, 4}, {1, 5}, {2, 6}, {3, 7}}, separate: []int{0, 1, 2, 3}},
		{tree: "amd-ccx", cpus: []int{0, 1, 2, 3, 4, 5, 6, 7}, pairs: [][2]int{{0, 4}, {1, 5}, {2, 6}, {3, 7}}, separate: []int{0, 1, 2, 3}},
		{tree: "smt-off", cpus: []int{0, 1, 2, 3}, separate: []int{0, 1, 2, 3}},
		{tree: "offline", cpus: []int{0, 2, 3, 4, 5, 7}, pairs: [][2]int{{0, 4}, {3, 7}}, separate: []int{0, 2, 3, 5}},
		{tree: "hybrid", cpus: []int{0, 1, 2, 3, 4, 5, 6, 7}, pairs: [][2]int{{0, 1}, {2, 3}}, separate: []int{0, 2, 4, 5, 6, 7}},
		{tree: "arm64", cpus: []int{0, 1, 2, 3}, separate: []int{2, 3, 0, 1}},
		{tree: "vm", cpus: []int{0, 1}, separate: []int{0, 1}},
		{tree: "container-v2", cpus: []int{2, 3, 6}, pairs: [][2]int{{2, 6}}, separate: []int{2, 3}, quota: 1.5, notes: 1},
		{tree: "nested-v2", cpus: []int{1, 5}, pairs: [][2]int{{1, 5}}, separate: []int{1}, quota: 4},
		{tree: "container-v1", cpus: []int{0, 4}, pairs: [][2]int{{0, 4}}, separate: []int{0}},
	} {
		t.Run(fmt.Sprint(c.tree, c.affinity), func(t *testing.T) {
			got := Read(recorded(t, c.tree), c.affinity, 3)
			if got.Source != "sysfs" {
				t.Errorf("source %q", got.Source)
			}
			if !reflect.DeepEqual(ids(got.CPUs), c.cpus) {
				t.Errorf("CPUs %v, want %v", ids(got.CPUs), c.cpus)
			}
			if !reflect.DeepEqual(got.Pairs(), c.pairs) {
				t.Errorf("pairs %v, want %v", got.Pairs(), c.pairs)
			}
			if !reflect.DeepEqual(got.Separate(), c.separate) {
				t.Errorf("separate %v, want %v", got.Separate(), c.separate)
			}
			if got.Quota != c.quota {
				t.Errorf("quota %v, want %v", got.Quota, c.quota)
			}
			if len(got.Notes) != c.notes {
				t.Errorf("notes %q, want %d", got.Notes, c.notes)
			}
		})
	}
}

func TestDetailsOfRecordedTrees(t *testing.T) {
	two := Read(recorded(t, "two-sockets"), nil, 1)
	if c := two.CPUs[6]; c.Socket != 1 || c.Node != 1 || c.Core != 2 || !reflect.DeepEqual(c.Cluster, []int{2, 3, 6, 7}) {
		t.Errorf("CPU 6 of two sockets: %+v", c)
	}
	if c := Read(recorded(t, "amd-ccx"), nil, 1).CPUs[0]; !reflect.DeepEqual(c.Cluster, []int{0, 1, 4, 5}) {
		t.Errorf("CCX of CPU 0: %v", c.Cluster)
	}
	if c := Read(recorded(t, "hybrid"), nil, 1).CPUs; c[0].Kind != kindP || c[4].Kind != kindE {
		t.Errorf("kinds %q, %q", c[0].Kind, c[4].Kind)
	}
	off := Read(recorded(t, "offline"), nil, 1)
	if !reflect.DeepEqual(off.Offline, []int{1, 6}) {
		t.Errorf("offline %v: CPUs that are not present do not count", off.Offline)
	}
	vm := Read(recorded(t, "vm"), nil, 1)
	if !vm.Hypervisor || vm.SMT != "notsupported" || vm.ModelNo != 167 || !vm.Has("amx_tile") || vm.CacheSize(2, 0) != 2<<20 || vm.CacheSize(4, 7) != 7 {
		t.Errorf("vm: %+v", vm)
	}
	c := Read(recorded(t, "container-v2"), nil, 1)
	if !reflect.DeepEqual(c.Excluded, []int{0, 1, 4, 5, 7}) || c.Capacity() != 1 {
		t.Errorf("container: excluded %v, capacity %d", c.Excluded, c.Capacity())
	}
}

func TestNothingKnown(t *testing.T) {
	got := Read(fstest.MapFS{}, nil, 3)
	if got.Source != "none" || !reflect.DeepEqual(ids(got.CPUs), []int{0, 1, 2}) || got.Pairs() != nil {
		t.Errorf("%+v", got)
	}
	if got := Read(fstest.MapFS{}, []int{5}, 0); !reflect.DeepEqual(ids(got.CPUs), []int{5}) {
		t.Errorf("%+v", got)
	}
	for _, bad := range []string{"", "x", "3-1", "-1", "1,,2", "0-99999999", "1-2-3"} {
		if l := parseList(bad); l != nil {
			t.Errorf("parseList(%q) = %v", bad, l)
		}
	}
	if l := parseList("8,0-2,1\n"); !reflect.DeepEqual(l, []int{0, 1, 2, 8}) {
		t.Errorf("%v", l)
	}
}

func TestPlace(t *testing.T) {
	for _, c := range []struct {
		tree   string
		d, s   int
		D, S   []int
		paired int
		fits   bool
	}{
		{"intel-smt2", 1, 1, []int{0}, []int{4}, 1, true},
		{"intel-smt2", 4, 4, []int{0, 1, 2, 3}, []int{4, 5, 6, 7}, 4, true},
		{"intel-smt2", 2, 0, []int{0, 1}, []int{}, 0, true},
		{"intel-smt2", 1, 2, []int{0}, []int{4, 1}, 1, true},
		{"intel-smt2", 5, 1, []int{0, 1, 2, 3, 4}, []int{5}, 0, true}, // D0's sibling is taken by D4
		{"intel-smt2", 5, 4, nil, nil, 0, false},
		{"vm", 1, 1, []int{0}, []int{1}, 0, true},
		{"smt-off", 2, 2, []int{0, 1}, []int{2, 3}, 0, true},
		{"hybrid", 2, 1, []int{0, 2}, []int{1}, 1, true},
		{"hybrid", 3, 1, []int{0, 2, 4}, []int{1}, 1, true},
		{"arm64", 2, 1, []int{2, 3}, []int{0}, 0, true},
		{"container-v2", 1, 1, nil, nil, 0, false}, // 1.5 CPUs of time
		{"container-v1", 1, 1, []int{0}, []int{4}, 1, true},
	} {
		got, fits := Read(recorded(t, c.tree), nil, 1).Place(c.d, c.s)
		if fits != c.fits || got.Why == "" {
			t.Errorf("%s d=%d s=%d: fits %v, %q", c.tree, c.d, c.s, fits, got.Why)
		}
		if fits && (!reflect.DeepEqual(got.D, c.D) || !reflect.DeepEqual(got.S, c.S) || got.Paired != c.paired) {
			t.Errorf("%s d=%d s=%d: %+v", c.tree, c.d, c.s, got)
		}
	}
}

// leaves answers cpuid from a table: the key is leaf, sub.
type leaves map[[2]uint32][4]uint32

func (l leaves) get(leaf, sub uint32) (a, b, c, d uint32) {
	v := l[[2]uint32{leaf, sub}]
	return v[0], v[1], v[2], v[3]
}

func TestCPUIDLeaves(t *testing.T) {
	intel := func(id, top, leaf uint32) leaves { // 2 threads a core, 8 cores a socket
		return leaves{{0, 0}: {top}, {leaf, 0}: {1, 2, 1 << 8, id}, {leaf, 1}: {4, 16, 2<<8 | 1, id}, {leaf, 2}: {0, 0, 2, id}}
	}
	for _, leaf := range []uint32{0x1F, 0xB} {
		a, ok := readAPIC(intel(0x25, leaf, leaf).get)
		if !ok || a != (apic{leaf: leaf, id: 0x25, core: 0x12, socket: 2, threads: 2}) {
			t.Errorf("leaf %#x: %+v, %v", leaf, a, ok)
		}
	}
	hidden := leaves{{0, 0}: {0xB}, {0xB, 0}: {0, 1, 1 << 8, 1}, {0xB, 1}: {1, 2, 2<<8 | 1, 1}} // a guest with cores of one thread
	if a, ok := readAPIC(hidden.get); !ok || a.core != 1 || a.socket != 0 || a.threads != 1 {
		t.Errorf("hidden: %+v, %v", a, ok)
	}
	amd := leaves{{0, 0}: {0xA}, {0x80000000, 0}: {0x8000001F}, {0x8000001E, 0}: {5, 1<<8 | 2}, {0x80000008, 0}: {0, 0, 4 << 12}}
	if a, ok := readAPIC(amd.get); !ok || a.leaf != 0x8000001E || a.id != 5 || a.core != 2 || a.threads != 2 {
		t.Errorf("AMD: %+v, %v", a, ok)
	}
	if _, ok := readAPIC(leaves{}.get); ok {
		t.Error("a CPU without leaves told a topology")
	}
	sib, _, ok := group(map[int]apic{0: {id: 0, core: 0}, 1: {id: 1, core: 0}, 2: {id: 2, core: 1}})
	if !ok || !reflect.DeepEqual(sib, map[int][]int{0: {0, 1}, 1: {0, 1}, 2: {2}}) {
		t.Errorf("%v, %v", sib, ok)
	}
	if _, _, ok := group(map[int]apic{0: {id: 3}, 1: {id: 3}}); ok {
		t.Error("two CPUs with one APIC id were believed")
	}
}

func TestCPUIDAgainstSysfs(t *testing.T) {
	top := Read(recorded(t, "vm"), nil, 1)
	top.merge(map[int][]int{0: {0, 1}, 1: {0, 1}}, 0xB)
	if len(top.Notes) != 2 || len(top.Pairs()) != 0 {
		t.Errorf("a contradiction: notes %q, pairs %v", top.Notes, top.Pairs())
	}
	top = Read(fstest.MapFS{}, nil, 2)
	top.merge(map[int][]int{0: {0, 1}, 1: {0, 1}}, 0xB)
	if top.Source != "cpuid" || !reflect.DeepEqual(top.Pairs(), [][2]int{{0, 1}}) {
		t.Errorf("without sysfs: %+v", top)
	}
}
