package stages

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"testing"
)

func TestExitCode(t *testing.T) {
	for _, c := range []struct {
		err  error
		want int
	}{
		{nil, ExitOK},
		{errors.New("x"), ExitInternal},
		{fmt.Errorf("waiting: %w", context.Canceled), ExitInterrupted},
		{fmt.Errorf("reading: %w", Finding{Msg: "m"}), ExitUser},
		{Findings{{Msg: "m"}}, ExitUser},
		{fmt.Errorf("saving: %w", &EnvError{Err: fs.ErrPermission}), ExitEnv},
	} {
		if got := ExitCode(c.err); got != c.want {
			t.Errorf("ExitCode(%v) = %d, want %d", c.err, got, c.want)
		}
	}
}

func TestFindingsInOrder(t *testing.T) {
	err := Findings{{File: "a.yaml", Line: 7, Msg: "second"}, {File: "a.yaml", Line: 3, Col: 5, Msg: "first", Fix: "mend it"}}.Err()
	want := "a.yaml:3:5: first (mend it)\na.yaml:7: second"
	if err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	if (Findings{}).Err() != nil {
		t.Error("no findings must be no error")
	}
}
