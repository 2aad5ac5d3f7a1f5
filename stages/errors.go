package stages

import (
	"context"
	"errors"
	"fmt"
	"sort"
	"strings"
)

// A Finding is one thing that is wrong in what the user gave: what, where, and how to mend it.
type Finding struct {
	File string `json:"file,omitempty"` // file as the user named it, or a flag such as "--set"
	Line int    `json:"line,omitempty"` // 1-based; 0 where the place is not a line
	Col  int    `json:"col,omitempty"`  // 1-based; 0 where unknown
	Msg  string `json:"msg"`            // what is wrong, lower case, no full stop
	Fix  string `json:"fix,omitempty"`  // how to mend it, or ""
}

// String gives file:line:col: msg (fix).
func (f Finding) String() string {
	var b strings.Builder
	if f.File != "" {
		b.WriteString(f.File)
		if f.Line > 0 {
			fmt.Fprintf(&b, ":%d", f.Line)
			if f.Col > 0 {
				fmt.Fprintf(&b, ":%d", f.Col)
			}
		}
		b.WriteString(": ")
	}
	b.WriteString(f.Msg)
	if f.Fix != "" {
		b.WriteString(" (" + f.Fix + ")")
	}
	return b.String()
}

// Error makes a single finding an error of the user's (exit code 2).
func (f Finding) Error() string { return f.String() }

// Findings are all findings of one check; they are reported at once. An empty list is no error: return it through Err.
type Findings []Finding

// Error gives one finding a line.
func (fs Findings) Error() string {
	lines := make([]string, len(fs))
	for i, f := range fs {
		lines[i] = f.String()
	}
	return strings.Join(lines, "\n")
}

// Err is nil for an empty list and fs, in the order of file, line and column, otherwise.
func (fs Findings) Err() error {
	if len(fs) == 0 {
		return nil
	}
	sort.SliceStable(fs, func(i, j int) bool {
		a, b := fs[i], fs[j]
		if a.File != b.File {
			return a.File < b.File
		}
		if a.Line != b.Line {
			return a.Line < b.Line
		}
		return a.Col < b.Col
	})
	return fs
}

// An EnvError says that the environment lacks something that the user did not write: a full disk, a directory that can't be
// written, a CPU feature (exit code 3).
type EnvError struct {
	Err error
	Fix string // how to mend it, or ""
}

func (e *EnvError) Error() string {
	if e.Fix == "" {
		return e.Err.Error()
	}
	return e.Err.Error() + " (" + e.Fix + ")"
}

func (e *EnvError) Unwrap() error { return e.Err }

// Exit codes of the command (ARCHITECTURE.md, the command).
const (
	ExitOK       = 0
	ExitInternal = 1
	ExitUser     = 2
	ExitEnv      = 3

	ExitInterrupted = 130 // by a signal, before there was a step to stop after: what shells say of Ctrl-C
)

// ExitCode maps an error to the exit code of the command.
func ExitCode(err error) int {
	var (
		f  Finding
		fs Findings
		e  *EnvError
	)
	switch {
	case err == nil:
		return ExitOK
	case errors.As(err, &e):
		return ExitEnv
	case errors.As(err, &f), errors.As(err, &fs):
		return ExitUser
	case errors.Is(err, context.Canceled):
		return ExitInterrupted
	}
	return ExitInternal
}
