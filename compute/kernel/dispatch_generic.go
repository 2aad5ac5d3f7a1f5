//go:build !amd64 || purego

package kernel

var isa = "generic"

func isas() []string { return []string{"generic"} }
func use(string)     {}

func dot(x, y []float32) float32               { return dotGeneric(x, y) }
func axpy(a float32, x, y []float32)           { axpyGeneric(a, x, y) }
func adam(w, g, m, v []float32, p *AdamParams) { adamGeneric(w, g, m, v, p) }
