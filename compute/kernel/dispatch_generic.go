//go:build !amd64 || purego

package kernel

var isa = "generic"

func isas() []string { return []string{"generic"} }
func use(string)     {}
