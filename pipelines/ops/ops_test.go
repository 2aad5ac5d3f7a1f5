package ops_test

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"vtpu/pipelines/ops"
	"vtpu/stages"
)

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	r, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Body.Close() }()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return r.StatusCode, string(b)
}

func TestWhatOperatorsSee(t *testing.T) {
	s, err := ops.Start("--metrics", "127.0.0.1:0", false)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	s.Counter("steps_total", "Steps.", func() float64 { return 7 })
	ready := errors.New("no workers")
	s.Ready(func() error { return ready })
	base := "http://" + s.Addr()
	for path, want := range map[string]string{"/metrics": "vtpu_steps_total 7", "/healthz": "ok", "/readyz": "no workers", "/debug/pprof/cmdline": "ops.test"} {
		if _, body := get(t, base+path); !strings.Contains(body, want) {
			t.Errorf("%s: %.200s, want %s", path, body, want)
		}
	}
	if code, _ := get(t, base+"/readyz"); code != http.StatusServiceUnavailable {
		t.Errorf("not ready, but %d", code)
	}
	ready = nil
	if code, _ := get(t, base+"/readyz"); code != http.StatusOK {
		t.Errorf("ready, but %d", code)
	}
}

func TestOthersMustNotLookInByThemselves(t *testing.T) {
	for _, addr := range []string{"0.0.0.0:0", ":0", "nowhere"} {
		if s, err := ops.Start("--metrics", addr, false); stages.ExitCode(err) != stages.ExitUser {
			t.Errorf("%s: %v", addr, err)
			if err == nil {
				_ = s.Close()
			}
		}
	}
}
