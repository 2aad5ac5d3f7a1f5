package pipelines

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"vtpu/pipelines/rundir"
	"vtpu/stages"
	"vtpu/stages/disk"
	"vtpu/stages/reclog"
	"vtpu/stages/tensorfile"
	"vtpu/stages/wire"
)

// Streams lists the streams of a run directory: the directories in it that hold segments. A directory that is a stream itself is the only one.
func Streams(dir string) ([]string, error) {
	var found []string
	seen := false
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		seen = true
		if !d.IsDir() && strings.HasSuffix(p, ".rec") {
			if s := filepath.Dir(p); len(found) == 0 || found[len(found)-1] != s {
				found = append(found, s)
			}
		}
		return nil
	})
	if !seen || os.IsNotExist(err) {
		return nil, stages.Finding{File: dir, Msg: "no such directory"}
	}
	if err == nil && len(found) == 0 {
		return nil, stages.Finding{File: dir, Msg: "holds no recorded stream", Fix: "record one with vtpu run --record gradients"}
	}
	return found, err
}

// Stream chooses one of a directory's streams by its name below the directory; "" is the only one, or the one called stream.
func Stream(dir, name string) (string, error) {
	all, err := Streams(dir)
	if err != nil {
		return "", err
	}
	var names []string
	for _, s := range all {
		rel, err := filepath.Rel(dir, s)
		if err != nil {
			return "", err
		}
		if rel == name || name == "" && (len(all) == 1 || rel == StreamDir) {
			return s, nil
		}
		names = append(names, rel)
	}
	if name == "" {
		return "", stages.Finding{File: dir, Msg: "there are several streams", Fix: "choose one with --stream: " + strings.Join(names, ", ")}
	}
	return "", stages.Finding{File: "--stream " + name, Msg: "there is no such stream in " + dir, Fix: Suggest(name, names)}
}

// Frames calls f with the frames of a stream from step from to before step to.
func Frames(stream string, from, to int64, f func(segment string, offset int64, fr *wire.Frame) error) error {
	r, err := reclog.Open(stream, reclog.ReadOptions{})
	if err != nil {
		return reclog.Finding(stream, err)
	}
	defer r.Close()
	if from > 0 {
		if err := r.SeekStep(from); err != nil {
			return reclog.Finding(stream, err)
		}
	}
	for {
		seg, off := r.Place()
		fr, err := r.Next()
		if errors.Is(err, io.EOF) {
			if d := r.Torn(); d != nil {
				return reclog.Finding(stream, d)
			}
			return nil
		}
		if err != nil {
			return reclog.Finding(stream, err)
		}
		if now, end := r.Place(); now != seg {
			seg, off = now, 0
			_ = end
		}
		if fr.Step >= to && fr.Kind != wire.Close {
			return nil
		}
		if err := f(seg, off, fr); err != nil {
			return err
		}
	}
}

// ExportFrames writes the tensors of some steps of a stream to a .npz or .safetensors file, as STEP/NAME, STEP.PART/NAME where a step has several parts, with :ids for the row numbers of
// sparse gradients. Steps count from 1 as everywhere.
func ExportFrames(stream, file string, from, to int64) (n int, err error) {
	var es []tensorfile.Entry
	err = Frames(stream, from, to, func(_ string, _ int64, f *wire.Frame) error {
		if f.Kind == wire.Open || f.Kind == wire.Close {
			return nil
		}
		at := fmt.Sprintf("%09d", f.Step+1)
		if f.Parts > 1 {
			at += fmt.Sprintf(".%d", f.Part+1)
		}
		for i := range f.Tensors {
			t := f.Tensors[i].Tensor()
			t.F32, t.I32 = append([]float32(nil), t.F32...), append([]int32(nil), t.I32...)
			name := at + "/" + f.Tensors[i].Name
			if f.Tensors[i].Role == wire.IDs {
				name += ":ids"
			}
			es = append(es, tensorfile.Entry{Name: name, T: t})
		}
		n++
		return nil
	})
	if err != nil {
		return 0, err
	}
	if n == 0 {
		return 0, NoFrame(stream, from, to)
	}
	return n, tensorfile.Save(file, es, nil)
}

// NoFrame says that a stream has nothing of the steps from step from to before step to.
func NoFrame(stream string, from, to int64) error {
	what, has := fmt.Sprintf("no frame of the steps %d to %d", from+1, to), "nothing else is in it"
	if to == from+1 {
		what = fmt.Sprintf("no frame of step %d", to)
	}
	if first, next, err := reclog.Extent(stream, reclog.ReadOptions{}); err == nil && next > first {
		has = fmt.Sprintf("it holds the steps %d to %d", first+1, next)
	}
	return stages.Finding{File: stream, Msg: what, Fix: has}
}

// Missing says whether a run has a checkpoint of a step that its stream does not reach: frames at its end are gone, which the stream itself can't know. "" is the answer where
// nothing is missing.
func Missing(run, stream string, rep *reclog.Report) string {
	if filepath.Base(stream) != StreamDir && filepath.Base(stream) != JournalDir {
		return ""
	}
	steps, err := rundir.Checkpoints(disk.OS{}, run)
	if err != nil || len(steps) == 0 || steps[len(steps)-1] <= rep.Last+1 {
		return ""
	}
	return fmt.Sprintf("frames are missing: the stream ends with step %d, there is a checkpoint of step %d", rep.Last+1, steps[len(steps)-1])
}

// CutStream removes from a stream: with repair what is behind its first damage, else all frames of step at and later. What is cut off is kept beside the segments. Nobody may be
// writing to the run.
func CutStream(stream string, repair bool, at int64) (d *reclog.Damage, err error) {
	if dir := filepath.Dir(stream); fileExists(filepath.Join(dir, rundir.RunFile)) {
		lock, err := rundir.Open(disk.OS{}, dir)
		if err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, lock.Close()) }()
	}
	if repair {
		d, err = reclog.Repair(stream, reclog.ReadOptions{})
	} else if _, next, xerr := reclog.Extent(stream, reclog.ReadOptions{}); xerr == nil && at >= next {
		err = stages.Finding{File: stream, Msg: fmt.Sprintf("it ends with step %d: there is nothing to cut off from step %d on", next, at+1)}
	} else {
		err = reclog.CutAt(stream, at, reclog.ReadOptions{})
	}
	return d, reclog.Finding(stream, err)
}

func fileExists(name string) bool {
	_, err := os.Stat(name)
	return err == nil
}
