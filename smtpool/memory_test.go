package smtpool

import (
	"runtime"
	"testing"
	"testing/fstest"
)

func TestInstalledMemory(t *testing.T) {
	file := func(s string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(s)} }
	const info = "MemTotal:       16384 kB\nMemFree:         512 kB\n"
	for _, c := range []struct {
		root fstest.MapFS
		want int64
	}{
		{fstest.MapFS{}, 0},
		{fstest.MapFS{"proc/meminfo": file("nothing\n")}, 0},
		{fstest.MapFS{"proc/meminfo": file(info)}, 16 << 20},
		{fstest.MapFS{"proc/meminfo": file(info), "sys/fs/cgroup/memory.max": file("max\n")}, 16 << 20},
		{fstest.MapFS{"proc/meminfo": file(info), "sys/fs/cgroup/memory.max": file("4096\n")}, 4096},
		{fstest.MapFS{"sys/fs/cgroup/memory/memory.limit_in_bytes": file("8192\n")}, 8192},
	} {
		if got := installed(c.root); got != c.want {
			t.Errorf("%v: %d, want %d", c.root, got, c.want)
		}
	}
	if n := Memory(); runtime.GOOS == "linux" && n < 1<<26 {
		t.Errorf("this machine has %d bytes", n)
	}
}
