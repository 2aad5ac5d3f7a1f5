package cli

import (
	"os"
	"path/filepath"
	"testing"
)

// TestAReportThatCannotBeWrittenIsAnError: neither a folder that can't be filled nor a name that is taken may look like success.
func TestAReportThatCannotBeWrittenIsAnError(t *testing.T) {
	dir := t.TempDir()
	if err := publish(filepath.Join(dir, "missing"), filepath.Join(dir, "out"), "t", []string{"x"}, nil); err == nil {
		t.Error("a folder that is not there was filled")
	}
	tmp, out := filepath.Join(dir, "tmp"), filepath.Join(dir, "taken")
	for _, d := range []string{tmp, filepath.Join(out, "full")} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := publish(tmp, out, "t", []string{"x"}, nil); err == nil {
		t.Error("a folder that holds something was replaced")
	}
	if err := publish(tmp, filepath.Join(dir, "new"), "t", []string{"x"}, nil); err != nil {
		t.Error(err)
	}
}
