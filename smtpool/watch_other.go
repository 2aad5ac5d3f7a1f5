//go:build !linux

package smtpool

import "time"

func threadUsage() usage { return usage{} }
func currentCPU() int    { return -1 }

// Steal is empty on this system.
func Steal() map[int]time.Duration { return nil }
