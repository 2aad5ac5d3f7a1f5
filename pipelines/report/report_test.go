package report

import (
	"bytes"
	"regexp"
	"strings"
	"testing"
)

func TestReportStandsAloneAndEscapes(t *testing.T) {
	evil := `<script>alert("x")</script>`
	var b bytes.Buffer
	err := Write(&b, Report{Title: evil, Summary: evil, Facts: []Fact{{"weights_sha256", "abc"}, {evil, evil}}, Chart: []byte("<?xml version=\"1.0\"?>\n<svg><path/></svg>"),
		Stages: []Stage{{Name: evil, Share: -1}, {Name: "dense", Share: 0.25}, {Name: "mse", Share: -1, With: "dense"}}, Params: []Param{{Name: evil}}, Samples: []string{evil}, Pipeline: evil, Command: evil})
	if err != nil {
		t.Fatal(err)
	}
	s := b.String()
	if strings.Contains(s, "<script") || strings.Contains(s, "<?xml") {
		t.Error("something went in that is not escaped")
	}
	if m := regexp.MustCompile(`(?i)(src|href)=|url\(|@import`).FindString(s); m != "" {
		t.Errorf("the page refers to something outside: %s", m)
	}
	for _, want := range []string{"<h1>", "lang=\"en\"", "<svg><path/></svg>", "25.0 %", ">in dense<", "not measured", "weights_sha256", "</html>"} {
		if !strings.Contains(s, want) {
			t.Errorf("%s is missing", want)
		}
	}
}
