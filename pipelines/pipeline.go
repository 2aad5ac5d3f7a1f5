// Package pipelines turns a YAML file into a run: strict reading, the plan (shapes, gradients, memory, lanes), training, checkpoints and the
// run directory. What the plan accepts, the run starts.
package pipelines

import (
	"slices"

	"vtpu/stages"
	"vtpu/stages/weights"
)

// A Place is where something stands in what the user wrote.
type Place struct {
	File      string
	Line, Col int
}

func (p Place) finding(msg, fix string) stages.Finding {
	return stages.Finding{File: p.File, Line: p.Line, Col: p.Col, Msg: msg, Fix: fix}
}

// A Pipeline is what a file says, checked as far as that is possible without the data. `repeat` and `residual` are unfolded.
type Pipeline struct {
	Name    string
	Comment string // the comment that opens the file
	Seed    uint64
	Parts   int
	Data    *DataSection // nil: a pipeline without data
	Items   []Item       // forward half and what follows it, in the order of the walk
	Run     RunSection
	Place   PlaceSection
	Links   LinkSection
	Sample  *SampleSection // nil: no samples

	File string // as the user named it
	Text []byte // the file as it was read
	Sets []string
	Vars map[string]string // environment variables that the text names and that are set

	linkAt map[string]Place // where the keys of links stand

	estimated bool // a stage of each part that corrects an estimate is not among Items, its work has been done
}

// DataSection is where the examples come from.
type DataSection struct {
	Place  Place
	Source *stages.SourceDef
	Cfg    any     // pointer to the source's config
	Split  float64 // share for training
}

// An Item is one stage of a pipeline, unfolded.
type Item struct {
	Place  Place
	Def    *stages.Def
	Cfg    any    // pointer to the stage's config
	Name   string // unique, such as h0.dense2
	Scope  string // prefix of the repeat that it stands in, such as "h0."
	In     []Ref  // inputs by position; nil: defaults
	Out    []Ref  // names of the outputs by position; nil: defaults
	Share  map[string]string
	Init   map[string]stages.Init // by parameter; "" is for all
	At     map[string]weights.Coord
	Freeze bool
	Marks  []string // names under which the plan keeps what this stage reads, for a residual that ends later
	Skip   string   // residual_add: the mark of its branch
	Match  string   // update: glob over the names of the parameters in its care; "" is all
}

// estimator is the config of a stage of each part that keeps corrections of an estimate instead of a gradient.
type estimator interface{ EstimateOf(weight string) string }

// corrected says whether what the parts send corrects an estimate of the gradient.
func (p *Pipeline) corrected() bool {
	return p.estimated || slices.ContainsFunc(p.Items, func(it Item) bool {
		e, ok := it.Cfg.(estimator)
		return ok && e.EstimateOf("") != ""
	})
}

// changesParts says whether the stage changes the gradients of each part.
func (it *Item) changesParts() bool {
	if it.Def.Room != stages.Backward || it.Def.Contract == nil {
		return false
	}
	c := it.Def.Contract(it.Cfg)
	return c.Grads == stages.GradWrite && c.Replicas == stages.PerPart
}

// Ref is a name of a slot and where it was written.
type Ref struct {
	Name  string
	Place Place
}

// RunSection says how long to run and what to do on the way.
type RunSection struct {
	Steps       int64 `yaml:"steps" min:"0" doc:"Steps to run; 0 where epochs says it."`
	Epochs      int64 `yaml:"epochs" min:"0" doc:"Walks over the training data, instead of steps."`
	EvalEvery   int64 `yaml:"eval_every" min:"0" doc:"Evaluate on the validation data every so many steps and at the end; 0 is at the end only."`
	EvalBatches int64 `yaml:"eval_batches" min:"0" doc:"Batches of one evaluation; 0 is all of the validation data."`
	Checkpoint  int64 `yaml:"checkpoint_every" min:"0" doc:"Save a checkpoint every so many steps; one is saved at the end in any case."`
	Keep        int   `yaml:"keep" min:"1" doc:"Checkpoints to keep."`
	LogEvery    int64 `yaml:"log_every" min:"0" doc:"Write the loss every so many steps; 0 chooses, so that the log stays below some 10,000 lines."`
}

// PlaceSection is the placement on lanes, apart from the model: it changes no bit.
type PlaceSection struct {
	DLanes    AutoInt `yaml:"d_lanes" doc:"Lanes that compute parts; auto takes what the machine has and the pipeline can use."`
	SLanes    AutoInt `yaml:"s_lanes" doc:"Lanes for gather and update; 0 leaves them to the first D lane."`
	LookAhead int     `yaml:"look_ahead" min:"0" max:"64" doc:"Steps that gather may run ahead of the computation."`
	Pin       string  `yaml:"pin" enum:"auto|off" doc:"Bind lanes to CPUs where the system allows it."`
}

// LinkSection says what joins the rooms of the walk. An edge has the name of the room that it leaves.
type LinkSection struct {
	Default  string `yaml:"default" enum:"ring" doc:"What joins two lanes, and the edges that are not named."`
	Gather   string `yaml:"gather" enum:"ring|nats|jetstream|gochannel" doc:"The edge gather to forward, in the words of work. Edges that are moved cut the walk into pieces, and each piece has processes of its own: the one with update is vtpu run, the others are vtpu worker --stages. Where one edge alone is moved, scatter is too."`
	Forward  string `yaml:"forward" enum:"ring|nats|jetstream|gochannel" doc:"The edge forward to loss."`
	Loss     string `yaml:"loss" enum:"ring|nats|jetstream|gochannel" doc:"The edge loss to backward."`
	Backward string `yaml:"backward" enum:"ring|nats|jetstream|gochannel" doc:"The edge backward to update."`
	Update   string `yaml:"update" enum:"ring|nats|jetstream|gochannel" doc:"The edge update to scatter. It can't be moved: both write the store, which has one writer."`
	Scatter  string `yaml:"scatter" enum:"ring|nats|jetstream|gochannel" doc:"The token that goes from scatter back to gather; where it is moved, gather is not with update."`
	Work     string `yaml:"work" enum:"ring|nats|jetstream|gochannel" doc:"The edges gather and backward together, where they are not named. ring computes the parts in this process; the others give them to workers: over NATS, over JetStream, or to workers in this process over Watermill's GoChannel."`
	Replicas int    `yaml:"replicas" min:"1" max:"5" doc:"jetstream: servers of the broker's cluster that keep what is under way."`
	Publish  int64  `yaml:"publish_every" min:"0" doc:"Publish the weights on the broker every so many steps, for vtpu serve; 0 is never."`
	ISA      string `yaml:"isa" enum:"same|any" doc:"Workers to take: those with the coordinator's instruction set, or any, as all have the same bits."`
}

// SampleSection says how samples are drawn at the end of a run and by the sample command.
type SampleSection struct {
	Count       int     `yaml:"count" min:"1" max:"10000" doc:"Samples to draw."`
	Tokens      int     `yaml:"tokens" min:"0" doc:"Largest length; 0 is the block of the model."`
	Temperature float64 `yaml:"temperature" min:"0" doc:"Divides the logits; 0 takes the likeliest token."`
	TopK        int     `yaml:"top_k" min:"0" doc:"Draw from the k likeliest tokens only; 0 is all."`
	Prompt      string  `yaml:"prompt" doc:"Text that every sample continues."`
}
