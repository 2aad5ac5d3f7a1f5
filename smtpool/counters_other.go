//go:build !linux

package smtpool

// Counters count events of one thread; there are none here.
type Counters struct{}

// OpenCounters returns ErrNoPMU.
func OpenCounters([]Event) (*Counters, error) { return nil, ErrNoPMU }

// Read returns nothing.
func (*Counters) Read() ([]Count, error) { return nil, ErrNoPMU }

// Close does nothing.
func (*Counters) Close() {}
