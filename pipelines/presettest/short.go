// Package presettest makes the presets small enough for a test, and gives those that need files some.
package presettest

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"

	"vtpu/stages"
)

// Short sets the variables of the presets for the time of a test: narrow models, a folder of drawn digits as idx files.
func Short(tb testing.TB) {
	tb.Helper()
	dir := tb.TempDir()
	digits(tb, dir, 256)
	for k, v := range map[string]string{"WIDTH": "24", "HIDDEN": "40", "LAYERS": "1", "BATCH": "2", "VOCAB": "260", "POSITIONS": "64", "MNIST": dir} {
		tb.Setenv(k, v)
	}
}

// digits writes n drawn digits of 28x28 in MNIST's format.
func digits(tb testing.TB, dir string, n int) {
	tb.Helper()
	def := stages.FindSource("synthetic")
	if def == nil {
		tb.Fatal("the program lacks the room gather")
	}
	cfg := def.NewConfig()
	stages.CopyConfig(cfg, &struct {
		Task string `yaml:"task"`
		Rows int    `yaml:"rows"`
		Size int    `yaml:"size"`
	}{"digits", n, 28})
	d, err := def.Load(stages.LoadEnv{Seed: 1}, cfg)
	if err != nil {
		tb.Fatal(err)
	}
	write := func(name string, dims []int, values []byte) {
		b := []byte{0, 0, 8, byte(len(dims))}
		for _, d := range dims {
			b = binary.BigEndian.AppendUint32(b, uint32(d))
		}
		if err := os.WriteFile(filepath.Join(dir, name), append(b, values...), 0o644); err != nil {
			tb.Fatal(err)
		}
	}
	var pixels, classes []byte
	for _, v := range d.Table.Col("x").F32 {
		pixels = append(pixels, byte(max(0, min(255, v*255))))
	}
	for _, v := range d.Table.Col("y").I32 {
		classes = append(classes, byte(v))
	}
	write("train-images-idx3-ubyte", []int{n, 28, 28}, pixels)
	write("train-labels-idx1-ubyte", []int{n}, classes)
}
