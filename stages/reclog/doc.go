// Package reclog keeps streams of frames (package wire) on disk: recorded gradients and inputs, taps, journals of sources that can't be read twice.
//
// # The format
//
// A stream is a directory. Its segments are files NNNNNNNNNNNNNNNN.rec, numbered by the sequence number of their first frame, and hold frames, one after another,
// nothing else. The first frame of a segment is of the kind open and says what the stream is, in every segment the same. Sequence numbers go up by one from frame to frame and
// from segment to segment, and each frame names the CRC of the one before: a frame that was flipped, cut out, doubled or moved breaks the chain, and the place is known. Steps never go
// down. A stream that was ended in order has a frame of the kind close at its end; without one, frames may be missing after the last.
//
// Beside a segment that is full there is an index, NNNNNNNNNNNNNNNN.idx: where each step begins. It is a convenience: a missing or damaged one is made anew
// from the segment.
//
// # Torn tails
//
// A process that is killed while it writes leaves a frame that is not whole at the end of the last segment; after a power loss anything may stand behind the last byte that was synced.
// So bytes at the end of the last segment that are no valid frame, and that no valid frame follows, are a torn tail: they are no part of the stream, and who opens it to append
// cuts them off. After a power loss a sound frame may follow a hole, of what was not synced; who goes on from a step before that (Options.From) cuts it off as well. Anything else that is
// wrong is damage: it is reported with its place, never passed over, and nothing but Repair removes it, which keeps what it cuts off beside the
// segment.
package reclog

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// Sync says when written frames are brought to the disk itself. A killed process loses at most what is still in the Writer's own buffer (see Options.Background), whatever the
// policy; a power loss or a crash of the system loses more:
//
//   - always: nothing that Append has returned for. Each Append waits for the disk.
//   - every: 1s: what was appended in the last second before the crash (or whatever duration is given), and what is appended while the disk is busy.
//   - never: whatever the operating system has not written by itself: on Linux usually up to 30 seconds.
//
// Flush syncs under every policy but never.
type Sync struct {
	Always bool
	Never  bool
	Every  time.Duration
}

// UnmarshalText reads always, never, or "every: 1s"; every:1s and "every 1s" are the same.
func (s *Sync) UnmarshalText(b []byte) error {
	text := strings.TrimSpace(string(b))
	switch text {
	case "always":
		*s = Sync{Always: true}
		return nil
	case "never":
		*s = Sync{Never: true}
		return nil
	}
	if d, ok := strings.CutPrefix(text, "every"); ok {
		v, err := time.ParseDuration(strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(d), ":")))
		if err == nil && v > 0 {
			*s = Sync{Every: v}
			return nil
		}
	}
	return fmt.Errorf(`%q is none of always, never, "every: 1s"`, text)
}

// MarshalText is the opposite of UnmarshalText.
func (s Sync) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

func (s Sync) String() string {
	switch {
	case s.Always:
		return "always"
	case s.Never:
		return "never"
	}
	return "every: " + s.every().String()
}

func (s Sync) every() time.Duration {
	if s.Every > 0 {
		return s.Every
	}
	return time.Second
}

// A Damage is a place where a stream is not what was written.
type Damage struct {
	Segment string // file
	Offset  int64  // in the file
	Seq     uint64 // of the frame that should be there
	Step    int64  // of the last good frame before; -1 if there is none
	Torn    bool   // a torn tail: nothing valid follows, and it is the last segment
	Err     error
}

func (d *Damage) Error() string {
	what := "damaged"
	if d.Torn {
		what = "torn tail"
	}
	return fmt.Sprintf("%s: %s at offset %d (frame %d, after step %d): %v", d.Segment, what, d.Offset, d.Seq, d.Step+1, d.Err)
}

func (d *Damage) Unwrap() error { return d.Err }

// ErrNoStream says that a directory holds no stream.
var ErrNoStream = errors.New("no stream")

// errNoOpen says that a segment does not begin as one must.
var errNoOpen = errors.New("a segment begins with a frame of the kind open")
