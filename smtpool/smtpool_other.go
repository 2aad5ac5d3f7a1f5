//go:build !linux

package smtpool

import (
	"embed"
	"runtime"
)

// Discover reads the topology of this machine. On this system no more than the number of CPUs is known.
func Discover() *Topology {
	t := Read(embed.FS{}, nil, runtime.NumCPU())
	t.note("topology and pinning are known on Linux only")
	return t
}

func pin(int) (func(), error) { return nil, ErrNoPin }
