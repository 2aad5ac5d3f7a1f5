package pipelines

import (
	"path/filepath"
	"testing"

	"vtpu/pipelines/presettest"
	"vtpu/pipelines/rundir"
	"vtpu/stages/disk"
)

// What readSound takes for weights and for state by the names is what the store calls so, in every preset: the hashes are those of the store.
func TestCheckpointsAreSound(t *testing.T) {
	presettest.Short(t)
	for _, name := range []string{"qkv", "weight", "attention", "names", "digits", "clicks"} {
		p, base, err := Load(name, nil)
		if err != nil {
			t.Fatal(err)
		}
		plan, err := NewPlan(p, base, nil)
		if err != nil {
			t.Fatal(err)
		}
		d, err := rundir.Create(disk.OS{}, filepath.Join(t.TempDir(), "run"))
		if err != nil {
			t.Fatal(err)
		}
		if err := plan.save(d, 0); err != nil {
			t.Fatal(err)
		}
		if es, err := readSound(disk.OS{}, d.File(rundir.CheckpointName(0)), 0); err != nil || len(es) != len(entries(plan.Store, true)) {
			t.Errorf("%s: %d entries, %v", name, len(es), err)
		}
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	}
}
