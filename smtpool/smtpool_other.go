//go:build !linux

package smtpool

func allowed() []int          { return nil }
func siblings(int) []int      { return nil }
func pin(int) (func(), error) { return nil, ErrNoPin }
