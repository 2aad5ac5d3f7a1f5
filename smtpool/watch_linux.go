package smtpool

import (
	"os"
	"strconv"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

func threadUsage() usage {
	var r unix.Rusage
	var cpu unix.Timespec
	if unix.Getrusage(unix.RUSAGE_THREAD, &r) != nil || unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &cpu) != nil {
		return usage{}
	}
	return usage{cpu: time.Duration(cpu.Nano()), involuntary: r.Nivcsw, voluntary: r.Nvcsw, minor: r.Minflt, major: r.Majflt, ok: true}
}

func currentCPU() int {
	var cpu uint32
	if _, _, e := unix.RawSyscall(unix.SYS_GETCPU, uintptr(unsafe.Pointer(&cpu)), 0, 0); e != 0 {
		return -1
	}
	return int(cpu)
}

// userHZ is the unit of /proc/stat, 100 a second on every Linux that Go runs on.
const userHZ = 100

// Steal reads the time that the hypervisor has given to others while a CPU wanted to run, since boot, for each CPU. It is empty where
// the system does not tell. Its grain is 10 ms.
func Steal() map[int]time.Duration {
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		return nil
	}
	return parseSteal(string(b))
}

func parseSteal(stat string) map[int]time.Duration {
	out := map[int]time.Duration{}
	for line := range strings.Lines(stat) {
		f := strings.Fields(line)
		if len(f) < 9 || !strings.HasPrefix(f[0], "cpu") {
			continue
		}
		id, err1 := strconv.Atoi(f[0][3:])
		n, err2 := strconv.ParseInt(f[8], 10, 64)
		if err1 != nil || err2 != nil { // the first line, cpu, is the sum
			continue
		}
		out[id] = time.Duration(n) * time.Second / userHZ
	}
	return out
}
