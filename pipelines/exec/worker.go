package exec

import (
	"context"
	"fmt"

	"vtpu/stages"
)

// A Worker walks parts through some stages, for an engine in another process or as a part of what its Remote does.
type Worker struct {
	e   *Engine
	us  []unit
	out outbox
	m   *stages.Message
}

// NewWorker makes the instances of forward and backward, and one message. Call Close.
func NewWorker(p Program) (*Worker, error) { return NewWorkerOf(p, p.Middle(), true) }

// NewWorkerOf makes the instances of these nodes of a program, and one message, with a body where they are more than gather. Call Close.
func NewWorkerOf(p Program, nodes []Node, body bool) (*Worker, error) {
	w, err := NewSegment(p, nodes)
	if err != nil {
		return nil, err
	}
	w.m = p.Layout.NewMessage()
	if body {
		w.m.Attach(p.Layout.NewBody())
	}
	return w, nil
}

// NewSegment makes the instances of these nodes of a program, for messages of others: Walk. Call Close.
func NewSegment(p Program, nodes []Node) (*Worker, error) {
	us, err := instantiate(nodes, nil)
	if err != nil {
		return nil, err
	}
	return &Worker{e: &Engine{prog: p}, us: us}, nil
}

// Message is what the next part is to be written to, and where its gradients are afterwards.
func (w *Worker) Message() *stages.Message { return w.m }

// Compute runs the part in Message.
func (w *Worker) Compute(ctx context.Context) error { return w.Walk(ctx, w.m) }

// Walk takes a message through the stages.
func (w *Worker) Walk(ctx context.Context, m *stages.Message) (err error) {
	defer caught("a worker", &err)
	w.e.ctx = ctx
	got, err := w.e.walk(w.us, m, &w.out)
	if err == nil && got != m {
		err = fmt.Errorf("exec: part %d ended with another message than it began with", m.Part)
	}
	return err
}

// Close closes the stages. Closing twice is fine.
func (w *Worker) Close() error { return closeUnits(w.us) }
