//go:build !linux || !amd64 || purego

package workload

// A Loop is a compiled program; there is none here.
type Loop struct{ Program *Program }

// Compile returns ErrNone.
func Compile(*Program, *Table, func(string) bool) (*Loop, error) { return nil, ErrNone }

// Close does nothing.
func (l *Loop) Close() error { return nil }

// Block is never called: there is no loop.
func (l *Loop) Block() int { panic(ErrNone) }

// Run is never called: there is no loop.
func (l *Loop) Run(int) { panic(ErrNone) }

// Vector is the number of float64 of an accumulator.
func (l *Loop) Vector() Vector { return 4 }

// State is empty.
func (l *Loop) State() State { return State{} }

func words(n int) []uint64 { return make([]uint64, n) }
