package exec

import (
	"context"
	"fmt"

	"vtpu/stages"
)

// A Worker computes parts for an engine in another process: the middle segment alone.
type Worker struct {
	e   *Engine
	us  []unit
	out outbox
	m   *stages.Message
}

// NewWorker makes the instances of forward and backward, and one message. Call Close.
func NewWorker(p Program) (*Worker, error) {
	w := &Worker{e: &Engine{prog: p}}
	var err error
	if w.us, err = instantiate(p.training(), nil); err != nil {
		return nil, err
	}
	w.m = p.Layout.NewMessage()
	w.m.Attach(p.Layout.NewBody())
	return w, nil
}

// Message is what the next part is to be written to, and where its gradients are afterwards.
func (w *Worker) Message() *stages.Message { return w.m }

// Compute runs the part in Message.
func (w *Worker) Compute(ctx context.Context) (err error) {
	defer caught("a worker", &err)
	w.e.ctx = ctx
	got, err := w.e.walk(w.us, w.m, &w.out)
	if err == nil && got != w.m {
		err = fmt.Errorf("exec: part %d ended with another message than it began with", w.m.Part)
	}
	return err
}

// Close closes the stages. Closing twice is fine.
func (w *Worker) Close() error { return closeUnits(w.us) }
