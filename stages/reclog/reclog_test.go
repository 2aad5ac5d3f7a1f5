package reclog_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"vtpu/stages/disk"
	"vtpu/stages/disk/crashfs"
	"vtpu/stages/reclog"
	"vtpu/stages/tensor"
	"vtpu/stages/wire"
)

// frame is what a test writes for part p of parts of a step: the content is a function of these alone.
func frame(step int64, p, parts, n int) *wire.Frame {
	v := make([]float32, n)
	for i := range v {
		v[i] = float32(step*31+int64(p)) + float32(i%13)
	}
	f := &wire.Frame{Kind: wire.Gradients, Tensors: []wire.Tensor{{Name: "w", Shape: tensor.Of(n), F32: v}}}
	f.Step, f.Part, f.Parts, f.Loss = step, int32(p), int32(parts), 1/float64(step+1)
	return f
}

// is says whether a frame that was read is the one that the test wrote.
func is(f *wire.Frame) error {
	want := frame(f.Step, int(f.Part), int(f.Parts), f.Tensors[0].Shape.Len())
	if f.Kind != wire.Gradients || f.Loss != want.Loss || f.Tensors[0].Name != "w" {
		return fmt.Errorf("step %d: %+v", f.Step, f.Meta)
	}
	for i, x := range f.Tensors[0].F32 {
		if x != want.Tensors[0].F32[i] {
			return fmt.Errorf("step %d: element %d is %v, want %v", f.Step, i, x, want.Tensors[0].F32[i])
		}
	}
	return nil
}

// steps reads a stream from the reader's place on and gives the steps of its frames.
func steps(r *reclog.Reader) (all []int64, err error) {
	for {
		f, err := r.Next()
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			return all, err
		}
		if f.Kind != wire.Gradients {
			continue
		}
		if err := is(f); err != nil {
			return all, err
		}
		all = append(all, f.Step)
	}
}

func open(t *testing.T, fsys disk.FS) *reclog.Reader {
	t.Helper()
	r, err := reclog.Open("s", reclog.ReadOptions{FS: fsys})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	return r
}

func TestWhatIsWrittenIsRead(t *testing.T) {
	for _, o := range []reclog.Options{
		{}, {Segment: 1}, {Segment: 5000}, {Segment: 5000, Zstd: true}, {Background: true}, {Segment: 3000, Background: true, Zstd: true, Sync: reclog.Sync{Always: true}},
		{Sync: reclog.Sync{Never: true}, FS: disk.OS{Direct: true}}, {Segment: 9000, Background: true, FS: disk.OS{Direct: true}},
	} {
		t.Run(fmt.Sprintf("%+v", o), func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "s")
			o.Name, o.About, o.Run = "test", []byte(`{"a":1}`), "run-1"
			w, err := reclog.Create(dir, o)
			if err != nil {
				t.Fatal(err)
			}
			const n, parts = 60, 2
			for s := range int64(n) {
				for p := range parts {
					if err := w.Append(frame(s, p, parts, int(s)*7+3)); err != nil {
						t.Fatal(err)
					}
				}
			}
			if err := w.End(n, "weights", "state"); err != nil {
				t.Fatal(err)
			}
			for range 2 {
				if err := w.Close(); err != nil {
					t.Fatal(err)
				}
			}
			r, err := reclog.Open(dir, reclog.ReadOptions{})
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			if a := r.About(); a.Name != "test" || string(a.Raw) != `{"a":1}` || a.Run != "run-1" {
				t.Errorf("about %+v", a)
			}
			all, err := steps(r)
			if err != nil || len(all) != n*parts || !r.Ended() {
				t.Fatalf("%v, ended %v: %v", err, r.Ended(), all)
			}
			for _, s := range []int64{0, 1, 17, 59, 42, 17} {
				if err := r.SeekStep(s); err != nil {
					t.Fatal(err)
				}
				if all, err := steps(r); err != nil || len(all) != int(n-s)*parts || all[0] != s {
					t.Fatalf("from step %d: %v %v", s, err, all)
				}
			}
			if err := r.SeekStep(n + 5); err != nil {
				t.Fatal(err)
			}
			if f, err := r.Next(); err == nil && f.Kind != wire.Close {
				t.Errorf("behind the end: %v", f.Kind)
			}
			rep, err := reclog.Verify(dir, reclog.ReadOptions{})
			if err != nil || rep.Damage != nil || rep.Torn != nil || !rep.Ended || rep.Weights != "weights" || rep.State != "state" || rep.First != 0 || rep.Last != n-1 {
				t.Errorf("%v %+v", err, rep)
			}
			if o.Segment > 0 && len(rep.Segments) < 3 {
				t.Errorf("%d segments", len(rep.Segments))
			}
			for _, s := range rep.Segments[:len(rep.Segments)-1] {
				if !s.Index {
					t.Errorf("%s has no index", s.File)
				}
			}
			if first, next, err := reclog.Extent(dir, reclog.ReadOptions{}); first != 0 || next != n || err != nil {
				t.Errorf("extent %d %d %v", first, next, err)
			}
		})
	}
}

func TestZstdMakesItSmallerAndNoIndexIsNeeded(t *testing.T) {
	size := map[bool]int64{}
	for _, z := range []bool{false, true} {
		fsys := crashfs.New(1)
		w, err := reclog.Create("s", reclog.Options{FS: fsys, Segment: 1 << 14, Zstd: z})
		if err != nil {
			t.Fatal(err)
		}
		for s := range int64(20) {
			if err := w.Append(frame(s, 0, 1, 1000)); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		names, err := fsys.List("s")
		if err != nil {
			t.Fatal(err)
		}
		for i, n := range names {
			if strings.HasSuffix(n, ".rec") {
				size[z] += int64(len(fsys.Read("s/" + n)))
			} else if i%3 > 0 {
				fsys.Corrupt("s/"+n, func(b []byte) []byte { b[len(b)-1]++; return b })
			} else if err := fsys.Remove("s/" + n); err != nil {
				t.Fatal(err)
			}
		}
		r := open(t, fsys)
		for s := range int64(20) {
			if err := r.SeekStep(s); err != nil {
				t.Fatal(err)
			}
			if all, err := steps(r); err != nil || all[0] != s || len(all) != int(20-s) {
				t.Fatalf("%v %v", err, all)
			}
		}
	}
	if size[true]*2 > size[false] {
		t.Errorf("%d bytes packed, %d not", size[true], size[false])
	}
}

func TestContinueFromAStep(t *testing.T) {
	for _, seg := range []int64{1, 2000, 1 << 20} {
		for from := range int64(12) {
			fsys := crashfs.New(2)
			o := reclog.Options{FS: fsys, Segment: seg}
			w, err := reclog.Create("s", o)
			if err != nil {
				t.Fatal(err)
			}
			for s := range int64(10) {
				for p := range 2 {
					if err := w.Append(frame(s, p, 2, 50)); err != nil {
						t.Fatal(err)
					}
				}
			}
			if err := errors.Join(w.End(10, "", ""), w.Close()); err != nil {
				t.Fatal(err)
			}
			o.From = from
			if w, err = reclog.Create("s", o); err != nil {
				t.Fatal(err)
			}
			if _, next, err := reclog.Extent("s", reclog.ReadOptions{FS: fsys}); next != min(from, 10) || err != nil {
				t.Errorf("segments of %d: the next step is %d, want %d: %v", seg, next, min(from, 10), err)
			}
			for s := min(from, 10); s < 14; s++ {
				for p := range 2 {
					if err := w.Append(frame(s, p, 2, 50)); err != nil {
						t.Fatal(err)
					}
				}
			}
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			rep, err := reclog.Verify("s", reclog.ReadOptions{FS: fsys})
			if err != nil || rep.Damage != nil || rep.Torn != nil || rep.First != 0 || rep.Last != 13 || rep.Ended {
				t.Fatalf("segments of %d from %d: %v %+v", seg, from, err, rep)
			}
			r := open(t, fsys)
			if all, err := steps(r); err != nil || len(all) != 28 {
				t.Errorf("%v %v", err, all)
			}
		}
	}
}

func TestRetentionBoundsTheDisk(t *testing.T) {
	fsys := crashfs.New(3)
	o := reclog.Options{FS: fsys, Segment: 10000, Keep: 40000}
	w, err := reclog.Create("s", o)
	if err != nil {
		t.Fatal(err)
	}
	used := func() (n int) {
		names, err := fsys.List("s")
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range names {
			n += len(fsys.Read("s/" + f))
		}
		return n
	}
	for s := range int64(500) {
		if err := w.Append(frame(s, 0, 1, 100)); err != nil {
			t.Fatal(err)
		}
		if n := used(); n > 42000 {
			t.Fatalf("%d bytes after step %d", n, s)
		}
		if s%97 == 96 {
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			o.From = s + 1
			if w, err = reclog.Create("s", o); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	rep, err := reclog.Verify("s", reclog.ReadOptions{FS: fsys})
	if err != nil || rep.Damage != nil || rep.Last != 499 || rep.First < 400 || rep.About.Step != rep.First {
		t.Errorf("%v %+v", err, rep)
	}
	first, next, err := reclog.Extent("s", reclog.ReadOptions{FS: fsys})
	if err != nil || first != rep.First || next != 500 {
		t.Errorf("extent %d %d %v", first, next, err)
	}
	r := open(t, fsys)
	if err := r.SeekStep(3); err != nil {
		t.Fatal(err)
	}
	if all, err := steps(r); err != nil || all[0] != rep.First {
		t.Errorf("%v %v", err, all)
	}
}

func TestAReaderFollowsAWriter(t *testing.T) {
	fsys := crashfs.New(4)
	w, err := reclog.Create("s", reclog.Options{FS: fsys, Segment: 2000})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Append(frame(0, 0, 1, 10)); err != nil {
		t.Fatal(err)
	}
	r := open(t, fsys)
	var all []int64
	for s := int64(1); s < 100; s++ {
		got, err := steps(r)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, got...)
		if int64(len(all)) != s {
			t.Fatalf("%d frames of %d: %v", len(all), s, all)
		}
		if err := w.Append(frame(s, 0, 1, 10+int(s))); err != nil {
			t.Fatal(err)
		}
	}
}

func TestAppendAllocatesNothing(t *testing.T) {
	for _, bg := range []bool{false, true} {
		w, err := reclog.Create(filepath.Join(t.TempDir(), "s"), reclog.Options{Background: bg, Segment: 1 << 30, Sync: reclog.Sync{Never: true}})
		if err != nil {
			t.Fatal(err)
		}
		f := frame(0, 0, 1, 4000)
		for range 100 {
			if err := w.Append(f); err != nil {
				t.Fatal(err)
			}
		}
		if n := testing.AllocsPerRun(300, func() {
			if err := w.Append(f); err != nil {
				t.Fatal(err)
			}
		}); n != 0 {
			t.Errorf("background %v: %v allocations a frame", bg, n)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestCrashes: whatever the system does when it loses power or a process is killed in any call, what the policy promised is there, what is there is a prefix of what was written, and
// the stream goes on.
func TestCrashes(t *testing.T) {
	n := 250
	if v, err := strconv.Atoi(os.Getenv("VTPU_LONG")); err == nil && v > 0 {
		n = 20000
	}
	torn, crashes := 0, 0
	for seed := range uint64(n) {
		r := rand.New(rand.NewPCG(seed, 5))
		fsys := crashfs.New(seed)
		o := reclog.Options{FS: fsys, Segment: int64(1 + r.IntN(6000)), Zstd: r.IntN(4) == 0, Background: r.IntN(2) == 0, From: reclog.KeepAll,
			Sync: []reclog.Sync{{Always: true}, {Every: time.Hour}, {Never: true}}[r.IntN(3)]}
		sizes := r.IntN(400)
		next := int64(0)  // step to write
		safe := int64(0)  // steps that must survive a power loss
		alive := int64(0) // steps that must survive a kill
		for life := range 6 {
			if life < 5 {
				fsys.CrashAt = 1 + r.IntN(60)
			}
			w, err := reclog.Create("s", o)
			if err != nil && !errors.Is(err, crashfs.ErrCrashed) {
				t.Fatalf("seed %d, life %d: %v\n%s", seed, life, err, fsys.Dump())
			}
			kill := r.IntN(3) == 0 && err == nil
			if err == nil {
				if kill {
					fsys.CrashAt = 0
				}
				if _, got, err := reclog.Extent("s", reclog.ReadOptions{FS: fsys}); err == nil && got < safe {
					t.Fatalf("seed %d: next step %d, %d are safe", seed, got, safe)
				}
				for range r.IntN(40) {
					if err = w.Append(frame(next, 0, 1, sizes)); err != nil {
						break
					}
					next++
					if o.Sync.Always {
						safe, alive = next, next
					}
					if !o.Background {
						alive = next
					}
					if r.IntN(10) == 0 {
						if err = w.Flush(); err != nil {
							break
						}
						alive = next
						if !o.Sync.Never {
							safe = next
						}
					}
				}
				if err != nil && !errors.Is(err, crashfs.ErrCrashed) {
					t.Fatalf("seed %d: %v", seed, err)
				}
			}
			if kill {
				fsys.Kill()
			} else {
				fsys.Crash()
				alive = safe
			}
			if w != nil {
				_ = w.Close() // the goroutine ends; the disk is gone
			}
			crashes++
			fsys.Restart()
			rd, err := reclog.Open("s", reclog.ReadOptions{FS: fsys})
			var all []int64
			if err == nil {
				all, err = steps(rd)
				if rd.Torn() != nil {
					torn++
				}
				_ = rd.Close() // only read
			} else if errors.Is(err, reclog.ErrNoStream) {
				err = nil
			}
			var d *reclog.Damage
			if errors.As(err, &d) && !kill {
				// A power loss may leave holes with frames behind them: that is damage, and must lie behind what was promised.
				if int64(len(all)) < safe {
					t.Fatalf("seed %d, life %d, %+v: damage after step %d of %d: %v\n%s", seed, life, o, len(all), safe, err, fsys.Dump())
				}
				if _, err := reclog.Repair("s", reclog.ReadOptions{FS: fsys}); err != nil {
					t.Fatalf("seed %d: repair: %v", seed, err)
				}
				err = nil
			}
			if err != nil {
				t.Fatalf("seed %d, life %d, %+v: %v\n%s", seed, life, o, err, fsys.Dump())
			}
			for i, s := range all {
				if s != int64(i) {
					t.Fatalf("seed %d: %v", seed, all)
				}
			}
			if int64(len(all)) < alive || int64(len(all)) > next+1 { // the one that failed may be there all the same
				t.Fatalf("seed %d, life %d, killed %v, %+v: %d steps of %d are there, %d were promised\n%s", seed, life, kill, o, len(all), next, alive, fsys.Dump())
			}
			next, safe, alive = int64(len(all)), 0, 0
			if kill {
				safe = 0 // what a kill left is not on the disk yet
			} else {
				safe, alive = next, next
			}
		}
	}
	t.Logf("%d crashes, %d torn tails", crashes, torn)
}

// TestFailures: a full disk in any call. The error comes back, what was promised is there, and when there is room again the stream goes on.
func TestFailures(t *testing.T) {
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 6))
		fsys := crashfs.New(seed)
		at := 1 + r.IntN(50)
		fsys.Fail = func(n int, op crashfs.Op, _ string) error {
			if n >= at && (op == crashfs.OpWrite || op == crashfs.OpCreate || op == crashfs.OpSync) {
				return crashfs.ErrInjected
			}
			return nil
		}
		o := reclog.Options{FS: fsys, Segment: int64(1 + r.IntN(4000)), Background: r.IntN(2) == 0, From: reclog.KeepAll, Sync: reclog.Sync{Always: r.IntN(2) == 0}}
		w, err := reclog.Create("s", o)
		if err != nil {
			t.Fatal(err)
		}
		var done int64
		for err == nil && done < 200 {
			if err = w.Append(frame(done, 0, 1, 60)); err == nil {
				done++
			}
		}
		if err == nil {
			err = w.Flush()
		}
		if !errors.Is(err, crashfs.ErrInjected) {
			t.Fatalf("seed %d: %v", seed, err)
		}
		if err := w.Close(); err != nil && !errors.Is(err, crashfs.ErrInjected) {
			t.Fatalf("seed %d: %v", seed, err)
		}
		fsys.Restart()
		if w, err = reclog.Create("s", o); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		_, next, err := reclog.Extent("s", reclog.ReadOptions{FS: fsys})
		if err != nil || !o.Background && next < done {
			t.Fatalf("seed %d: %d steps of %d are there: %v", seed, next, done, err)
		}
		for s := next; s < next+20; s++ {
			if err := w.Append(frame(s, 0, 1, 60)); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		all, err := steps(open(t, fsys))
		if err != nil || int64(len(all)) != next+20 {
			t.Fatalf("seed %d: %v, %d steps, want %d", seed, err, len(all), next+20)
		}
	}
}

// stream writes n steps in small segments and gives the frames' places: file and offset of each.
func stream(t testing.TB, n int, seg int64) (*crashfs.FS, []string) {
	t.Helper()
	fsys := crashfs.New(9)
	w, err := reclog.Create("s", reclog.Options{FS: fsys, Segment: seg})
	if err != nil {
		t.Fatal(err)
	}
	for s := range int64(n) {
		if err := w.Append(frame(s, 0, 1, 20)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(w.End(int64(n), "w", "s"), w.Close()); err != nil {
		t.Fatal(err)
	}
	names, err := fsys.List("s")
	if err != nil {
		t.Fatal(err)
	}
	var segs []string
	for _, n := range names {
		if strings.HasSuffix(n, ".rec") {
			segs = append(segs, "s/"+n)
		}
	}
	return fsys, segs
}

// cutUp cuts the bytes of a segment into its frames.
func cutUp(t testing.TB, b []byte) (frames [][]byte) {
	t.Helper()
	for len(b) > 0 {
		h, err := wire.ParseHeader(b, 1<<30)
		if err != nil {
			t.Fatal(err)
		}
		frames = append(frames, b[:h.Size()])
		b = b[h.Size():]
	}
	return frames
}

// harm does one thing to a stream at random and says where: the segment and the offset of the first frame that is not right any more.
func harm(t testing.TB, r *rand.Rand, fsys *crashfs.FS, segs []string) (what, seg string, off int64) {
	k := r.IntN(len(segs))
	seg = segs[k]
	fsys.Corrupt(seg, func(b []byte) []byte {
		fs := cutUp(t, b)
		i := r.IntN(len(fs))
		at := func(i int) (n int64) {
			for _, f := range fs[:i] {
				n += int64(len(f))
			}
			return n
		}
		off = at(i)
		switch r.IntN(6) {
		case 0:
			what = "bit"
			b[int(off)+r.IntN(len(fs[i]))] ^= 1 << r.IntN(8)
			return b
		case 1:
			what = "bytes cut out"
			p := int(off) + r.IntN(len(fs[i]))
			q := min(p+1+r.IntN(200), len(b))
			// The frame at off is harmed unless just zeros of padding stand where others did.
			return append(b[:p:p], b[q:]...)
		case 2:
			what = "frame doubled"
			off += int64(len(fs[i]))
			return bytes.Join([][]byte{bytes.Join(fs[:i+1], nil), fs[i], bytes.Join(fs[i+1:], nil)}, nil)
		case 3:
			if i+1 < len(fs) {
				what = "frames swapped"
				fs[i], fs[i+1] = fs[i+1], fs[i]
				return bytes.Join(fs, nil)
			}
			fallthrough
		case 4:
			what = "frame left out"
			return bytes.Join([][]byte{bytes.Join(fs[:i], nil), bytes.Join(fs[i+1:], nil)}, nil)
		default:
			what = "garbage put in"
			g := make([]byte, 64*(1+r.IntN(4)))
			for j := range g {
				g[j] = byte(r.Uint32())
			}
			off += int64(len(fs[i]))
			return bytes.Join([][]byte{bytes.Join(fs[:i+1], nil), g, bytes.Join(fs[i+1:], nil)}, nil)
		}
	})
	return what, seg, off
}

// TestHarmIsFoundAndLocated: whatever is done to a stream, the reader gives a prefix of what was written and names the place, or, at the very end, a torn tail or a stream that was not
// ended.
func TestHarmIsFoundAndLocated(t *testing.T) {
	frames, n := 0, 800
	if os.Getenv("VTPU_LONG") != "" {
		n = 1_000_000/42 + 1
	}
	for seed := range uint64(n) {
		r := rand.New(rand.NewPCG(seed, 8))
		fsys, segs := stream(t, 40, 3000)
		what, seg, off := harm(t, r, fsys, segs)
		rd, err := reclog.Open("s", reclog.ReadOptions{FS: fsys})
		var all []int64
		if err == nil {
			all, err = steps(rd)
		}
		frames += 42
		for i, s := range all {
			if s != int64(i) {
				t.Fatalf("seed %d, %s: steps %v were applied", seed, what, all)
			}
		}
		var d *reclog.Damage
		switch {
		case errors.As(err, &d):
		case errors.Is(err, reclog.ErrNoStream) && seg == segs[0]:
			continue
		case err != nil:
			t.Fatalf("seed %d, %s: %v", seed, what, err)
		case rd.Torn() != nil:
			d = rd.Torn()
		case !rd.Ended():
			continue // the end was cut off cleanly: nothing says that the stream is complete
		default:
			t.Fatalf("seed %d, %s at %s %d: not noticed", seed, what, seg, off)
		}
		// A frame that is gone shows at the place of the next one; where that is the next segment, it shows at its beginning.
		if next := d.Segment > seg && d.Offset == 0; d.Segment != seg && !next || d.Segment == seg && (d.Offset < off || d.Offset > off && (what != "bytes cut out" || d.Offset > off+1024)) {
			t.Errorf("seed %d, %s at %s %d: %v", seed, what, seg, off, d)
		}
		if d.Step != int64(len(all))-1 {
			t.Errorf("seed %d, %s: %d steps were read, the damage is said to be after step %d", seed, what, len(all), d.Step)
		}
		// Repair keeps what it cuts off, and what is left is sound.
		if seed%10 == 0 && rd != nil {
			before := fsys.Read(seg)
			got, err := reclog.Repair("s", reclog.ReadOptions{FS: fsys})
			if err != nil || got == nil {
				t.Fatalf("seed %d, %s: repair: %v %v", seed, what, got, err)
			}
			if b := fsys.Read(d.Segment + ".broken"); d.Segment == seg && !bytes.HasSuffix(before, b) {
				t.Errorf("seed %d: the broken piece is not kept", seed)
			}
			if rep, err := reclog.Verify("s", reclog.ReadOptions{FS: fsys}); err == nil && (rep.Damage != nil || rep.Torn != nil || rep.Last != d.Step) {
				t.Errorf("seed %d, %s: after repair %+v", seed, what, rep)
			}
		}
	}
	t.Logf("%d frames", frames)
}

func TestSyncPolicies(t *testing.T) {
	for text, want := range map[string]string{"always": "always", "never": "never", "every: 1s": "every: 1s", "every:250ms": "every: 250ms", " every 2m ": "every: 2m0s"} {
		var s reclog.Sync
		if err := s.UnmarshalText([]byte(text)); err != nil || s.String() != want {
			t.Errorf("%q: %v %v", text, s, err)
		}
	}
	for _, text := range []string{"", "sometimes", "every", "every: -1s", "every: x"} {
		var s reclog.Sync
		if err := s.UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q is taken for %v", text, s)
		}
	}
}

func TestNoStream(t *testing.T) {
	if _, err := reclog.Open(filepath.Join(t.TempDir(), "none"), reclog.ReadOptions{}); !errors.Is(err, reclog.ErrNoStream) {
		t.Error(err)
	}
	if first, next, err := reclog.Extent(t.TempDir(), reclog.ReadOptions{}); first != 0 || next != 0 || err != nil {
		t.Error(first, next, err)
	}
}

func BenchmarkAppend(b *testing.B) {
	for _, c := range []struct {
		name string
		o    reclog.Options
	}{{"buffered", reclog.Options{}}, {"direct", reclog.Options{FS: disk.OS{Direct: true}}}, {"background direct", reclog.Options{FS: disk.OS{Direct: true}, Background: true}}} {
		for _, n := range []int{16, 800_000} {
			b.Run(fmt.Sprintf("%s %d B", c.name, 4*n), func(b *testing.B) {
				o := c.o
				o.Keep = 1 << 29
				w, err := reclog.Create(filepath.Join(b.TempDir(), "s"), o)
				if err != nil {
					b.Fatal(err)
				}
				f := frame(0, 0, 1, n)
				b.SetBytes(int64(4 * n))
				for b.Loop() {
					f.Step++
					if err := w.Append(f); err != nil {
						b.Fatal(err)
					}
				}
				if err := w.Close(); err != nil {
					b.Fatal(err)
				}
			})
		}
	}
}

// FuzzStream reads a stream of two segments whose bytes are anything: no panic, and no allocation beyond what is there.
func FuzzStream(f *testing.F) {
	fsys, segs := stream(f, 12, 3000)
	a, b := fsys.Read(segs[0]), fsys.Read(segs[1])
	f.Add(a, b, uint16(0), byte(0))
	f.Add(a, b, uint16(200), byte(3))
	f.Add(b, a, uint16(0), byte(0))
	f.Add(a, []byte{}, uint16(64), byte(255))
	f.Fuzz(func(t *testing.T, a, b []byte, at uint16, x byte) {
		fsys, segs := stream(t, 12, 3000)
		if int(at) < len(a) {
			a = append([]byte(nil), a...)
			a[at] ^= x
		}
		fsys.Corrupt(segs[0], func([]byte) []byte { return a })
		fsys.Corrupt(segs[1], func([]byte) []byte { return b })
		var m0, m1 runtime.MemStats
		runtime.ReadMemStats(&m0)
		rep, err := reclog.Verify("s", reclog.ReadOptions{FS: fsys})
		runtime.ReadMemStats(&m1)
		if err != nil && !errors.Is(err, reclog.ErrNoStream) {
			t.Fatal(err)
		}
		if n := m1.TotalAlloc - m0.TotalAlloc; n > 16<<20+4096*uint64(len(a)+len(b)) { // buffers and the zstd decoder; packed data may grow by 1024
			t.Fatalf("%d bytes allocated for %d", n, len(a)+len(b))
		}
		if r, err := reclog.Open("s", reclog.ReadOptions{FS: fsys}); err == nil {
			_ = r.SeekStep(int64(at)) // an error is fine
			for range 100 {
				if _, err := r.Next(); err != nil {
					break
				}
			}
			_ = r.Close() // only read
		}
		_ = rep
	})
}
