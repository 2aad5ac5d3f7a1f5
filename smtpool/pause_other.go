//go:build !amd64 && !arm64

package smtpool

// Pause does nothing on this CPU.
func Pause(n uint32) {}
