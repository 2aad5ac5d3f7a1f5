//go:build amd64 || arm64

package smtpool

// Pause tells the CPU n times (at least 1) that this thread is spinning, so that a hyperthread on the same core gets the ports and the exit from the
// loop is cheap.
func Pause(n uint32)
