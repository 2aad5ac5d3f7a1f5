//go:build !linux

package smtpool

func memory() int64 { return 0 }
