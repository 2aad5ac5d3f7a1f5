package report

import (
	"bytes"
	"html/template"
	"io"
)

// A Section is a part of a report: text, a table, pictures.
type Section struct {
	Title    string
	Label    string   // what the figures are of, such as "not an SMT result"
	Text     []string // paragraphs
	Head     []string
	Rows     [][]string
	Pictures []Picture
}

// A Picture is an SVG that the program has drawn.
type Picture struct {
	Name string // file name without .svg
	Alt  string
	SVG  []byte
}

var sections = template.Must(template.New("sections").Funcs(template.FuncMap{
	"svg": func(b []byte) template.HTML { // an XML declaration has no place inside of HTML
		if i := bytes.Index(b, []byte("<svg")); i >= 0 {
			b = b[i:]
		}
		return template.HTML(b)
	},
}).Parse(`<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{.Title}}</title>
<style>
:root { color-scheme: light dark; --line: #8885; --soft: #8882; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 64rem; margin: 0 auto; padding: 1rem; }
table { border-collapse: collapse; width: 100%; font-size: 0.85rem; }
th, td { text-align: left; padding: 0.2rem 0.6rem 0.2rem 0; border-bottom: 1px solid var(--line); vertical-align: top; font-variant-numeric: tabular-nums; }
.label { background: var(--soft); padding: 0.2rem 0.6rem; display: inline-block; font-weight: 600; }
.wide { overflow-x: auto; }
figure { margin: 1rem 0; background: #fff; }
figure svg { max-width: 100%; height: auto; display: block; }
</style>
</head>
<body>
<h1>{{.Title}}</h1>
{{range .Text}}<p>{{.}}</p>
{{end}}<ul>{{range $i, $s := .Sections}}<li><a href="#s{{$i}}">{{$s.Title}}</a></li>{{end}}</ul>
{{range $i, $s := .Sections}}<h2 id="s{{$i}}">{{$s.Title}}</h2>
{{with $s.Label}}<p class="label">{{.}}</p>
{{end}}{{range $s.Text}}<p>{{.}}</p>
{{end}}{{range $s.Pictures}}<figure role="img" aria-label="{{.Alt}}">{{svg .SVG}}</figure>
{{end}}{{if $s.Rows}}<div class="wide"><table><thead><tr>{{range $s.Head}}<th>{{.}}</th>{{end}}</tr></thead><tbody>
{{range $s.Rows}}<tr>{{range .}}<td>{{.}}</td>{{end}}</tr>
{{end}}</tbody></table></div>
{{end}}{{end}}</body>
</html>
`))

// WriteSections writes a page of sections. All texts are escaped; pictures are the program's own and go in as they are.
func WriteSections(w io.Writer, title string, text []string, all []Section) error {
	return sections.Execute(w, struct {
		Title    string
		Text     []string
		Sections []Section
	}{title, text, all})
}
