package pipelines

import (
	"embed"
	"fmt"
	"path"
	"strings"
)

// The presets, the works of the benchmark, and the sample data that they name.
//
//go:embed *.yaml works/*.yaml data
var files embed.FS

// embedded reads a file that the program carries, for presets that run where the files are not.
func embedded(p string) ([]byte, error) {
	b, err := files.ReadFile(path.Clean(p))
	if err != nil {
		return nil, fmt.Errorf("not embedded: %w", err)
	}
	return b, nil
}

// PresetNames lists the embedded presets.
func PresetNames() []string {
	return yamlNames(".")
}

func yamlNames(dir string) []string {
	es, err := files.ReadDir(dir)
	if err != nil {
		return nil
	}
	var names []string
	for _, e := range es {
		if n, ok := strings.CutSuffix(e.Name(), ".yaml"); ok {
			names = append(names, n)
		}
	}
	return names
}

// preset is the text of an embedded preset: names, names.yaml or pipelines/names.yaml.
func preset(name string) ([]byte, bool) {
	name = strings.TrimSuffix(strings.TrimPrefix(name, "pipelines/"), ".yaml")
	if strings.ContainsAny(name, "/\\") {
		return nil, false
	}
	b, err := files.ReadFile(name + ".yaml")
	if err != nil {
		b, err = files.ReadFile("works/" + name + ".yaml")
	}
	return b, err == nil
}

// WorkNames lists the works of the benchmark, w1, w2, ...; they can be used like presets.
func WorkNames() []string { return yamlNames("works") }

// Preset is the text of an embedded preset.
func Preset(name string) ([]byte, bool) { return preset(name) }
