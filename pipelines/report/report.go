// Package report writes the report of a run: one HTML file that needs nothing else.
package report

import (
	"fmt"
	"html/template"
	"io"
)

// A Report is what is known of a run.
type Report struct {
	Title, Summary string
	Facts          []Fact
	Chart          []byte // SVG
	Stages         []Stage
	Params         []Param
	Samples        []string
	Pipeline       string // YAML
	Command        string
}

// A Fact is a line of the table at the top.
type Fact struct{ Key, Value string }

// A Stage is a line of the table of stages.
type Stage struct {
	Name, Kind, Room, Pipe, In, Out string
	Flops                           int64
	Share                           float64 // measured part of the time; below 0 where it was not measured
	With                            string  // stage that does this one's work too, in one walk, and whose Share holds its time
}

// A Param is a line of the table of weights.
type Param struct {
	Name, Shape, Coord string
	Count              int
}

var page = template.Must(template.New("report").Funcs(template.FuncMap{
	"percent": func(f float64) string {
		if f < 0 {
			return "not measured"
		}
		return fmt.Sprintf("%.1f %%", 100*f)
	},
}).Parse(`<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{.Title}} - vTPU run</title>
<style>
:root { color-scheme: light dark; --line: #8885; --soft: #8882; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 0 auto; padding: 1rem; }
table { border-collapse: collapse; width: 100%; font-size: 0.9rem; }
caption { text-align: left; font-weight: 600; padding: 1rem 0 0.3rem; font-size: 1.1rem; }
th, td { text-align: left; padding: 0.2rem 0.6rem 0.2rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
.facts td { overflow-wrap: anywhere; }
th.n, td.n { text-align: right; padding-left: 0.6rem; font-variant-numeric: tabular-nums; white-space: nowrap; }
pre { background: var(--soft); padding: 0.8rem; overflow-x: auto; font-size: 0.85rem; }
.wide { overflow-x: auto; }
figure { margin: 1rem 0; background: #fff; }
figure svg { width: 100%; height: auto; display: block; }
</style>
</head>
<body>
<h1>{{.Title}}</h1>
{{with .Summary}}<p style="white-space: pre-line">{{.}}</p>{{end}}
<div class="wide"><table class="facts"><caption>Result</caption><tbody>
{{range .Facts}}<tr><th scope="row">{{.Key}}</th><td>{{.Value}}</td></tr>
{{end}}</tbody></table></div>
<h2>Loss</h2>
<figure role="img" aria-label="Loss over the steps of the run">{{.SVG}}</figure>
{{with .Samples}}<h2>Samples</h2><pre>{{range .}}{{.}}
{{end}}</pre>{{end}}
<div class="wide"><table><caption>Stages</caption>
<thead><tr><th>Name</th><th>Kind</th><th>Room</th><th>Pipe</th><th>Reads</th><th>Writes</th><th class="n">FLOP a part</th><th class="n">Time</th></tr></thead><tbody>
{{range .Stages}}<tr><th scope="row">{{.Name}}</th><td>{{.Kind}}</td><td>{{.Room}}</td><td>{{.Pipe}}</td><td>{{.In}}</td><td>{{.Out}}</td><td class="n">{{.Flops}}</td><td class="n">{{if .With}}in {{.With}}{{else}}{{percent .Share}}{{end}}</td></tr>
{{end}}</tbody></table></div>
<div class="wide"><table><caption>Weights</caption>
<thead><tr><th>Name</th><th>Shape</th><th>Home</th><th class="n">Numbers</th></tr></thead><tbody>
{{range .Params}}<tr><th scope="row">{{.Name}}</th><td>{{.Shape}}</td><td>{{.Coord}}</td><td class="n">{{.Count}}</td></tr>
{{end}}</tbody></table></div>
<h2>To repeat it</h2>
<pre>{{.Command}}</pre>
<h2>Pipeline</h2>
<pre>{{.Pipeline}}</pre>
</body>
</html>
`))

// Write writes the page. All texts are escaped; the chart is the program's own and goes in as it is.
func Write(w io.Writer, r Report) error {
	svg := r.Chart
	for i := range svg { // an XML declaration has no place inside of HTML
		if i+4 < len(svg) && string(svg[i:i+4]) == "<svg" {
			svg = svg[i:]
			break
		}
	}
	return page.Execute(w, struct {
		Report
		SVG template.HTML
	}{r, template.HTML(svg)})
}
