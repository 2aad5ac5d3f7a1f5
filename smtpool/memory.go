package smtpool

import (
	"io/fs"
	"math"
	"strconv"
	"strings"
)

// Memory is the number of bytes that this process can have at most: what the machine has, the limit of its control group, and that of its address space. It is 0
// where nothing is known.
func Memory() int64 { return memory() }

// installed reads what the machine has, and the limits of control groups of both versions; 0 is unknown.
func installed(root fs.FS) int64 {
	least := int64(math.MaxInt64)
	if b, err := fs.ReadFile(root, "proc/meminfo"); err == nil {
		for line := range strings.Lines(string(b)) {
			if f := strings.Fields(line); len(f) == 3 && f[0] == "MemTotal:" && f[2] == "kB" {
				if n, err := strconv.ParseInt(f[1], 10, 53); err == nil && n > 0 {
					least = min(least, n<<10)
				}
			}
		}
	}
	for _, file := range []string{"sys/fs/cgroup/memory.max", "sys/fs/cgroup/memory/memory.limit_in_bytes"} {
		if b, err := fs.ReadFile(root, file); err == nil {
			if n, err := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64); err == nil && n > 0 { // it may be the word max
				least = min(least, n)
			}
		}
	}
	if least == math.MaxInt64 {
		return 0
	}
	return least
}
