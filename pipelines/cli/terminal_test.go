package cli

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
)

// screen collects what a terminal shows, while it shows it.
type screen struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *screen) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// wait waits for a text on the screen.
func (s *screen) wait(t *testing.T, what *regexp.Regexp) string {
	t.Helper()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if m := what.FindString(s.String()); m != "" {
			return m
		}
	}
	t.Fatalf("%v does not come up on\n%s", what, s)
	return ""
}

// On a terminal a run draws a bar with the time that is left; Ctrl-C stops it after a step and says how to go on, and that works.
func TestATerminalShowsABarAndCtrlCSaysHowToGoOn(t *testing.T) {
	script, err := exec.LookPath("script")
	if err != nil {
		t.Skip("SKIP: no script (util-linux) here to make a terminal")
	}
	t.Chdir(t.TempDir())
	c := exec.Command(script, "-qfec", "exec '"+os.Args[0]+"' run names --steps 2000000 --set run.log_every=1000 --out r", "/dev/null")
	c.Env = append(os.Environ(), childEnv+"=1", "TERM=xterm")
	var s screen
	c.Stdout, c.Stderr = &s, &s
	keys, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	s.wait(t, regexp.MustCompile(`\r\x1b\[K█*░+ \d+/2000000  loss \d\.\d{4}  \d+ steps/s  (\d+h)?(\d+m)?\d+s left`))
	s.wait(t, regexp.MustCompile(`░ \d{4,}/2000000`)) // some lines of the log are there for the chart
	if _, err := io.WriteString(keys, "\x03"); err != nil {
		t.Fatal(err)
	}
	if err := c.Wait(); err != nil {
		t.Errorf("%v\n%s", err, &s)
	}
	out := s.String()
	m := regexp.MustCompile(`stopped after step (\d+); go on with: vtpu (run names --resume --out r --set "run.log_every=1000" --steps 2000000)\r\n`).FindStringSubmatch(out)
	if m == nil || !strings.Contains(out, "training loss, steps ") || !strings.Contains(out, "weights_sha256 ") {
		t.Fatalf("the screen ends with\n%s", out[max(0, len(out)-3000):])
	}
	args := append(strings.Fields(strings.ReplaceAll(m[2], `"`, "")), "--stop-after", m[1]+"0")
	if len(m[1]) > 5 { // it was quick: ten times as far would take long
		args[len(args)-1] = "1" + m[1]
	}
	if got := last1(events(t, args...)); got["event"] != "stopped" || got["first_loss"] == 0.0 {
		t.Errorf("vtpu %s ends as %v", strings.Join(args, " "), got)
	}
}
