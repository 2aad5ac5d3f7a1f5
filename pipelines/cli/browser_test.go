package cli

import (
	"context"
	"image/png"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// browser finds a Chromium that runs without a screen.
func browser(t *testing.T) string {
	t.Helper()
	for _, b := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if p, err := exec.LookPath(b); err == nil {
			return p
		}
	}
	t.Skip("SKIP: no chromium here, so no browser looks at the report")
	return ""
}

// A browser shows the report: the tables in its document, the curve on its screen, wide or narrow, without a network.
func TestABrowserShowsTheReport(t *testing.T) {
	b := browser(t)
	if testing.Short() {
		t.Skip("SKIP: -short leaves out the browser")
	}
	t.Chdir(t.TempDir())
	run := last1(events(t, append([]string{"run", "--out", "a"}, small...)...))
	page, err := filepath.Abs("a/report.html")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	show := func(args ...string) string {
		t.Helper()
		c := exec.CommandContext(ctx, b, append([]string{"--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--user-data-dir=" + t.TempDir(),
			"--host-resolver-rules=MAP * ~NOTFOUND"}, append(args, "file://"+page)...)...)
		c.WaitDelay = 10 * time.Second
		out, err := c.Output()
		if err != nil {
			t.Skipf("SKIP: %s does not run here: %v", b, err)
		}
		return string(out)
	}
	dom := show("--dump-dom")
	for _, want := range []string{"<svg", run["weights_sha256"].(string), ">dense.backward<", ">accuracy<", "data.rows=100", "stages:"} {
		if !strings.Contains(dom, want) {
			t.Errorf("the document lacks %s", want)
		}
	}
	shot, err := filepath.Abs("shot.png")
	if err != nil {
		t.Fatal(err)
	}
	for _, width := range []string{"1000", "390"} {
		show("--window-size="+width+",1600", "--screenshot="+shot)
		f, err := os.Open(shot)
		if err != nil {
			t.Fatal(err)
		}
		img, err := png.Decode(f)
		if cerr := f.Close(); err != nil || cerr != nil {
			t.Fatal(err, cerr)
		}
		curve, text := 0, 0
		for y := range img.Bounds().Dy() {
			for x := range img.Bounds().Dx() {
				r, g, b, _ := img.At(x, y).RGBA()
				switch r, g, b := r>>8, g>>8, b>>8; {
				case r < 0x50 && g > 0x50 && b > 0x90 && b > r+0x60: // the blue of the curve
					curve++
				case r < 0x40 && g < 0x40 && b < 0x40:
					text++
				}
			}
		}
		if curve < 50 || text < 500 {
			t.Errorf("%s wide: %d dots of a curve and %d of text on the screen", width, curve, text)
		}
	}
}
