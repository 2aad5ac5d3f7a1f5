package stages

// Piecewise is a stage of the last segment (guard, update) that can work on a parameter as soon as the backward walk has completed its gradient, while the
// walk goes on with the layers below: the update inside backward. Stages that need all gradients at once, such as clip_norm, are not, and keep the update
// behind the walk.
type Piecewise interface {
	Stage

	// Ahead says, once and before the first step, which parameters come by Piece in every step. Process then does the others.
	Ahead(ps []*ParamBinding)

	// Open begins the pieces of a step. Loss and Head of m are complete.
	Open(m *Message) error

	// Piece works on the elements lo to hi of parameter i of Ahead. Several lanes may be in it at the same time, with ranges that do not overlap.
	Piece(m *Message, i, lo, hi int) error
}
