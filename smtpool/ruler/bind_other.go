//go:build !amd64 || purego

package ruler

func (i *Instance) bind(*Buffers) bool { return false }
