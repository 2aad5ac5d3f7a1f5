//go:build !amd64

package smtpool

const hasCPUID = false

func cpuid(uint32, uint32) (a, b, c, d uint32) { return }
