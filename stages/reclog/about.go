package reclog

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"

	"vtpu/stages"
)

// About is what the frame that opens a recorded stream says of it, as JSON. It is enough to apply the stream without the data and the model that it came from.
type About struct {
	Version  string         `json:"version"` // of the program
	Pipeline string         `json:"pipeline"`
	What     string         `json:"what"` // gradients, inputs or edge
	Edge     []string       `json:"edge,omitempty"`
	PerPart  bool           `json:"per_part,omitempty"` // a frame for each part; else one for each step
	Identity string         `json:"identity"`
	Seed     uint64         `json:"seed"`
	Parts    int            `json:"parts"`
	Steps    int64          `json:"steps"` // planned
	Slots    []Slot         `json:"slots,omitempty"`
	Params   []Param        `json:"params,omitempty"`
	Facts    map[string]int `json:"facts,omitempty"`
}

// Slot is an input: a tensor that gather writes.
type Slot struct {
	Name  string `json:"name"`
	DType string `json:"dtype"`
	Shape []int  `json:"shape"` // the largest
}

// Param is a weight: how it begins, and what gradient it has.
type Param struct {
	Name   string  `json:"name"`
	Shape  []int   `json:"shape"`
	Home   string  `json:"home"`
	Init   string  `json:"init"` // normal, uniform, constant
	Value  float64 `json:"value"`
	Frozen bool    `json:"frozen,omitempty"`
	Grad   bool    `json:"grad,omitempty"`   // frames have its gradient
	Sparse bool    `json:"sparse,omitempty"` // as ids and rows
	Rows   int     `json:"rows,omitempty"`   // sparse: the most that occur
}

// Elements is the number of values that a step's gradients have at most.
func (a *About) Elements() (n int) {
	for _, p := range a.Params {
		if !p.Grad {
			continue
		}
		k := 1
		for _, d := range p.Shape {
			k *= d
		}
		if p.Sparse && len(p.Shape) > 0 {
			k = p.Rows * p.Shape[len(p.Shape)-1]
		}
		n += k
	}
	return n
}

// ReadAbout is the description of the stream in dir.
func ReadAbout(dir string, o ReadOptions) (a About, raw []byte, err error) {
	r, err := Open(dir, o)
	if err != nil {
		return a, nil, err
	}
	raw = r.About().Raw
	if err := r.Close(); err != nil {
		return a, nil, err
	}
	if err := json.Unmarshal(raw, &a); err != nil {
		return a, nil, fmt.Errorf("%s: the description can't be read: %w", dir, err)
	}
	return a, raw, nil
}

// Dataset makes a data set of a recorded stream, for the stage replay_stream. What the user can mend is a stages.Finding.
func Dataset(dir string) (*stages.Dataset, error) {
	a, raw, err := ReadAbout(dir, ReadOptions{})
	var first, next int64
	if err == nil {
		first, next, err = Extent(dir, ReadOptions{})
	}
	if err != nil {
		return nil, Finding(dir, err)
	}
	if next == first {
		return nil, stages.Finding{File: dir, Msg: "the recorded stream holds no step yet"}
	}
	sum := sha256.Sum256(raw)
	d := &stages.Dataset{Facts: a.Facts, Check: hex.EncodeToString(sum[:]), Stream: &stages.Stream{Dir: dir, First: first, Next: next, Seed: a.Seed}}
	d.SplitBy(1, 0)
	return d, nil
}

// Mending says how a damaged stream is mended.
func Mending(dir string) string {
	return fmt.Sprintf("vtpu log cut %s --repair --stream %s keeps what is sound and moves the rest aside", filepath.Dir(dir), filepath.Base(dir))
}

// Finding makes what is wrong with a stream a finding for the user.
func Finding(dir string, err error) error {
	var d *Damage
	switch {
	case errors.As(err, &d):
		return stages.Finding{File: dir, Msg: err.Error(), Fix: Mending(dir)}
	case errors.Is(err, ErrNoStream):
		return stages.Finding{File: dir, Msg: "holds no recorded stream", Fix: "record one with vtpu run --record gradients"}
	}
	var f stages.Finding
	var env *stages.EnvError
	if err == nil || errors.As(err, &f) || errors.As(err, &env) {
		return err
	}
	return &stages.EnvError{Err: err}
}
