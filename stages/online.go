package stages

import (
	"context"
	"errors"

	"vtpu/stages/tensor"
)

// An Online source brings examples one after another that can't be asked for again: lines of a pipe, messages of a subject. The stage feed_batches takes them, writes them to the
// run's journal before anybody uses them, and reads them from there when the run is resumed. It is used by one goroutine.
type Online interface {
	// Begin is called once, before Take: taken examples were journalled in earlier lives of the run. One that begins again at its beginning passes over them.
	Begin(ctx context.Context, taken int64) error

	// Take waits for examples and writes them to the rows lo to hi-1 of the columns, one tensor for each column of the table in their order. It returns the row up to which
	// it got: hi, or less with io.EOF when the source has ended for good, with ctx.Err() when it was interrupted, or with another error.
	Take(ctx context.Context, cols []*tensor.Tensor, lo, hi int) (int, error)

	// Ack says that all that was taken is in the journal, as durable as its policy makes it: who sent it need not keep it. Without a run directory it follows Take at once.
	Ack() error

	// Close ends the source. Closing twice is fine.
	Close() error
}

// ErrEnd is what a gather stage returns where there is no further step: the run ends in order, however many steps were planned.
var ErrEnd = errors.New("the data has ended")
