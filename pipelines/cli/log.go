package cli

import (
	"fmt"
	"math"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"vtpu/pipelines"
	"vtpu/stages"
	"vtpu/stages/reclog"
	"vtpu/stages/wire"
)

// streamLine is what ls and verify say of a stream.
type streamLine struct {
	Event    string `json:"event"` // stream
	Dir      string `json:"dir"`
	What     string `json:"what"`
	Of       string `json:"of"`    // steps, or examples where each frame is one
	First    int64  `json:"first"` // from 1; 0: none
	Last     int64  `json:"last"`
	Frames   int64  `json:"frames"`
	Segments int    `json:"segments"`
	Bytes    int64  `json:"bytes"`
	Ended    bool   `json:"ended"`
	Torn     string `json:"torn,omitempty"`
	Damage   string `json:"damage,omitempty"`
	Segment  string `json:"segment,omitempty"` // where the torn tail or the damage is
	Offset   int64  `json:"offset,omitempty"`
	After    int64  `json:"after,omitempty"` // step
	Weights  string `json:"weights_sha256,omitempty"`
}

func lineOf(dir string, rep *reclog.Report) streamLine {
	l := streamLine{Event: "stream", Dir: dir, What: rep.About.Name, Of: "steps", First: rep.First + 1, Last: rep.Last + 1, Frames: rep.Frames, Segments: len(rep.Segments), Bytes: rep.Bytes,
		Ended: rep.Ended, Weights: rep.Weights}
	if filepath.Base(dir) == pipelines.ExamplesDir {
		l.Of = "examples"
	}
	for _, d := range []*reclog.Damage{rep.Torn, rep.Damage} {
		if d != nil {
			l.Segment, l.Offset, l.After = d.Segment, d.Offset, d.Step+1
		}
	}
	if rep.Torn != nil {
		l.Torn = rep.Torn.Error()
	}
	if rep.Damage != nil {
		l.Damage = rep.Damage.Error()
	}
	return l
}

func (l *streamLine) text() string {
	end := "not ended: the run was stopped or is under way"
	if l.Ended {
		end = "ended"
	}
	what := l.What + ", " + l.Of
	if l.Of == l.What {
		what = l.What
	}
	return fmt.Sprintf("%s: %s %d to %d, %d frames in %d segments, %.1f MiB, %s", l.Dir, what, l.First, l.Last, l.Frames, l.Segments, float64(l.Bytes)/(1<<20), end)
}

func (a *app) log() *cobra.Command {
	cmd := &cobra.Command{
		Use: "log", Short: "Look at recorded streams and journals: ls, show, verify, cut, export", Args: args(cobra.NoArgs),
		Example: "  vtpu log ls runs/names-1\n  vtpu log verify runs/names-1",
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.logList(), a.logVerify(), a.logShow(), a.logCut(), a.logExport())
	return cmd
}

func (a *app) logList() *cobra.Command {
	return &cobra.Command{
		Use: "ls RUN", Short: "List the streams of a run", Args: args(cobra.ExactArgs(1)), Example: "  vtpu log ls runs/names-1",
		RunE: func(_ *cobra.Command, p []string) error {
			_, err := a.reports(p[0])
			return err
		},
	}
}

func (a *app) logVerify() *cobra.Command {
	return &cobra.Command{
		Use: "verify RUN", Short: "Read every byte of a run's streams and say what is wrong", Args: args(cobra.ExactArgs(1)), Example: "  vtpu log verify runs/names-1",
		RunE: func(_ *cobra.Command, p []string) error {
			bad, err := a.reports(p[0])
			if err == nil && len(bad) > 0 {
				return bad
			}
			return err
		},
	}
}

// reports prints what there is and returns what is wrong with it.
func (a *app) reports(dir string) (bad stages.Findings, err error) {
	all, err := pipelines.Streams(dir)
	if err != nil {
		return nil, err
	}
	for _, s := range all {
		rep, err := reclog.Verify(s, reclog.ReadOptions{})
		if err != nil {
			return nil, reclog.Finding(s, err)
		}
		l := lineOf(s, &rep)
		if a.json {
			a.line(l)
		} else {
			fmt.Fprintln(a.out, l.text())
		}
		if what := pipelines.Missing(dir, s, &rep); what != "" && l.Damage == "" {
			bad = append(bad, stages.Finding{File: s, Msg: what, Fix: "run --resume does the steps again that are missing"})
		}
		if d := l.Damage + l.Torn; d != "" {
			bad = append(bad, stages.Finding{File: s, Msg: d, Fix: reclog.Mending(s)})
		}
	}
	return bad, nil
}

// steps are flags for a range of steps, from 1.
type stepRange struct{ step, to int64 }

func (r *stepRange) add(cmd *cobra.Command, stream *string) {
	cmd.Flags().Int64Var(&r.step, "step", 0, "first step, from 1; the first of the stream if left out")
	cmd.Flags().Int64Var(&r.to, "to", 0, "last step; the same as --step if left out")
	cmd.Flags().StringVar(stream, "stream", "", "which of the run's streams, such as journal")
}

// bounds gives the steps as the stream counts them: from 0, the end excluded.
func (r *stepRange) bounds() (from, to int64, err error) {
	switch {
	case r.step < 0 || r.to < 0 || r.to > 0 && r.to < r.step:
		return 0, 0, stages.Finding{File: fmt.Sprintf("--step %d --to %d", r.step, r.to), Msg: "want steps from 1, the last not before the first"}
	case r.step == 0 && r.to == 0:
		return 0, math.MaxInt64, nil
	case r.to == 0:
		return r.step - 1, r.step, nil
	}
	return max(r.step-1, 0), r.to, nil
}

func (a *app) logShow() *cobra.Command {
	var r stepRange
	stream, values := "", 0
	cmd := &cobra.Command{
		Use: "show RUN", Short: "Print the frames of a stream", Args: args(cobra.ExactArgs(1)), Example: "  vtpu log show runs/names-1 --step 700 --values 4",
		RunE: func(_ *cobra.Command, p []string) error {
			from, to, err := r.bounds()
			if err != nil {
				return err
			}
			s, err := pipelines.Stream(p[0], stream)
			if err != nil {
				return err
			}
			type tensorLine struct {
				Name   string    `json:"name"`
				Role   string    `json:"role"`
				DType  string    `json:"dtype"`
				Shape  []int     `json:"shape"`
				Values []float64 `json:"values,omitempty"`
			}
			type frameLine struct {
				Event   string       `json:"event"` // frame
				Segment string       `json:"segment"`
				Offset  int64        `json:"offset"`
				Seq     uint64       `json:"seq"`
				Kind    string       `json:"kind"`
				Step    int64        `json:"step"`
				Part    int32        `json:"part"`
				Parts   int32        `json:"parts"`
				Loss    float64      `json:"loss"`
				Time    string       `json:"time,omitempty"`
				Name    string       `json:"name,omitempty"`
				Raw     int          `json:"raw_bytes,omitempty"`
				Tensors []tensorLine `json:"tensors,omitempty"`
			}
			some := false
			err = pipelines.Frames(s, from, to, func(seg string, off int64, f *wire.Frame) error {
				some = some || f.Kind != wire.Close
				l := frameLine{Event: "frame", Segment: seg, Offset: off, Seq: f.Seq, Kind: f.Kind.String(), Step: f.Step + 1, Part: f.Part + 1, Parts: f.Parts, Loss: f.Loss, Name: f.Name, Raw: len(f.Raw)}
				if f.Time > 0 {
					l.Time = time.Unix(0, f.Time).UTC().Format(time.RFC3339Nano)
				}
				for i := range f.Tensors {
					t := &f.Tensors[i]
					tl := tensorLine{Name: t.Name, Role: [...]string{"value", "ids", "rows"}[t.Role], DType: t.DType.String(), Shape: t.Shape.Slice()}
					for k := range values {
						if k < len(t.F32) {
							tl.Values = append(tl.Values, float64(t.F32[k]))
						} else if k < len(t.I32) {
							tl.Values = append(tl.Values, float64(t.I32[k]))
						}
					}
					l.Tensors = append(l.Tensors, tl)
				}
				if a.json {
					a.line(l)
					return nil
				}
				fmt.Fprintf(a.out, "%s %d: frame %d, %s, step %d, part %d of %d, loss %.6g %s\n", seg, off, f.Seq, l.Kind, l.Step, l.Part, l.Parts, l.Loss, l.Time)
				for _, t := range l.Tensors {
					fmt.Fprintf(a.out, "    %s %s %s (%s) %v\n", t.Name, t.Role, t.DType, strings.Trim(fmt.Sprint(t.Shape), "[]"), t.Values)
				}
				return nil
			})
			if err == nil && !some {
				err = pipelines.NoFrame(s, from, to)
			}
			return err
		},
	}
	r.add(cmd, &stream)
	cmd.Flags().IntVar(&values, "values", 0, "print so many values of each tensor")
	return cmd
}

func (a *app) logCut() *cobra.Command {
	stream, repair := "", false
	at := int64(0)
	cmd := &cobra.Command{
		Use: "cut RUN", Short: "Cut a stream off at a step, or where it is damaged; what is cut off is kept beside it", Args: args(cobra.ExactArgs(1)),
		Example: "  vtpu log cut runs/names-1 --repair\n  vtpu log cut runs/names-1 --at 700",
		RunE: func(_ *cobra.Command, p []string) error {
			if repair == (at > 0) || at < 0 {
				return stages.Finding{Msg: "log cut wants --repair, or --at with a step from 1", Fix: "--repair cuts at the first damage, --at 700 keeps the steps before 700"}
			}
			s, err := pipelines.Stream(p[0], stream)
			if err != nil {
				return err
			}
			d, err := pipelines.CutStream(s, repair, at-1)
			if err != nil {
				return err
			}
			msg := fmt.Sprintf("%s: cut off before step %d, kept with the ending %s", s, at, reclog.Broken)
			if repair {
				msg = s + ": sound, nothing was cut off"
				if d != nil {
					msg = fmt.Sprintf("%s; cut off, kept with the ending %s", d, reclog.Broken)
				}
			}
			if a.json {
				a.line(struct {
					Event string `json:"event"`
					Dir   string `json:"dir"`
					Msg   string `json:"msg"`
				}{"cut", s, msg})
				return nil
			}
			fmt.Fprintln(a.out, msg)
			return nil
		},
	}
	cmd.Flags().Int64Var(&at, "at", 0, "first step to cut off, from 1")
	cmd.Flags().BoolVar(&repair, "repair", false, "cut off at the first damage, or a torn tail")
	cmd.Flags().StringVar(&stream, "stream", "", "which of the run's streams, such as journal")
	return cmd
}

func (a *app) logExport() *cobra.Command {
	var r stepRange
	stream := ""
	cmd := &cobra.Command{
		Use: "export RUN FILE", Short: "Write tensors of a stream as .npz or .safetensors", Args: args(cobra.ExactArgs(2)),
		Example: "  vtpu log export runs/names-1 step700.npz --step 700",
		RunE: func(_ *cobra.Command, p []string) error {
			from, to, err := r.bounds()
			if err != nil {
				return err
			}
			s, err := pipelines.Stream(p[0], stream)
			if err != nil {
				return err
			}
			n, err := pipelines.ExportFrames(s, p[1], from, to)
			if err != nil {
				return err
			}
			if a.json {
				a.line(struct {
					Event  string `json:"event"`
					File   string `json:"file"`
					Frames int    `json:"frames"`
				}{"written", p[1], n})
				return nil
			}
			fmt.Fprintf(a.out, "%s: %d frames\n", p[1], n)
			return nil
		},
	}
	r.add(cmd, &stream)
	return cmd
}
