package strict

import (
	"encoding"
	"fmt"
	"reflect"
	"strings"
)

// A Field describes one key of a config for documentation.
type Field struct {
	Name     string  `json:"name"`
	Type     string  `json:"type"`
	Default  string  `json:"default,omitempty"`
	Doc      string  `json:"doc"`
	Required bool    `json:"required,omitempty"`
	Children []Field `json:"children,omitempty"`
}

// Fields describes the keys of the config that v points to; v holds the defaults.
func Fields(v any) []Field {
	return fields(reflect.ValueOf(v).Elem())
}

func fields(v reflect.Value) []Field {
	var out []Field
	for _, f := range fieldsOf(v.Type()) {
		x := v.FieldByIndex(f.Index)
		d := Field{Name: f.Tag.Get("yaml"), Type: typeName(f.Type, f.Tag), Doc: f.Tag.Get("doc"), Required: f.Tag.Get("required") == "true"}
		if !d.Required {
			d.Default = defaultText(x)
		}
		t := f.Type
		for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice {
			t = t.Elem()
		}
		if t.Kind() == reflect.Struct && !reflect.PointerTo(t).Implements(textUnmarshaler) {
			d.Children = fields(reflect.New(t).Elem())
		}
		out = append(out, d)
	}
	return out
}

func defaultText(x reflect.Value) string {
	if m, ok := x.Interface().(encoding.TextMarshaler); ok {
		if x.IsZero() {
			return ""
		}
		b, err := m.MarshalText()
		if err != nil {
			return ""
		}
		return string(b)
	}
	switch x.Kind() {
	case reflect.Pointer, reflect.Struct:
		return ""
	case reflect.Slice:
		if x.Len() == 0 {
			return ""
		}
		return strings.ReplaceAll(fmt.Sprint(x.Interface()), " ", ", ")
	}
	return fmt.Sprint(x.Interface())
}

func typeName(t reflect.Type, tag reflect.StructTag) string {
	if e := tag.Get("enum"); e != "" {
		return strings.ReplaceAll(e, "|", " | ")
	}
	if reflect.PointerTo(t).Implements(textUnmarshaler) {
		switch t.Name() {
		case "Dim":
			return "whole number or fact"
		case "Coord":
			return "coordinate"
		case "AutoInt":
			return "whole number or auto"
		}
		return "text"
	}
	switch t.Kind() {
	case reflect.Pointer:
		return typeName(t.Elem(), tag)
	case reflect.Slice:
		return "list of " + typeName(t.Elem(), tag)
	case reflect.Bool:
		return "true or false"
	case reflect.Int, reflect.Int64, reflect.Uint64:
		return "whole number"
	case reflect.Float64:
		return "number"
	case reflect.Struct:
		return "map"
	}
	return "text"
}

// Schema is a JSON schema (draft 2020-12) in the order of the fields.
type Schema struct {
	Ref         string             `json:"$ref,omitempty"`
	Description string             `json:"description,omitempty"`
	Type        any                `json:"type,omitempty"`
	Enum        []string           `json:"enum,omitempty"`
	Pattern     string             `json:"pattern,omitempty"`
	Properties  map[string]*Schema `json:"properties,omitempty"`
	Required    []string           `json:"required,omitempty"`
	Additional  any                `json:"additionalProperties,omitempty"`
	MaxProps    int                `json:"maxProperties,omitempty"`
	Items       *Schema            `json:"items,omitempty"`
	AnyOf       []*Schema          `json:"anyOf,omitempty"`
	Minimum     any                `json:"minimum,omitempty"`
	Maximum     any                `json:"maximum,omitempty"`
	Above       any                `json:"exclusiveMinimum,omitempty"`
	Below       any                `json:"exclusiveMaximum,omitempty"`
	Default     any                `json:"default,omitempty"`
}

// variableSchema is a value that is put in from the environment.
func variableSchema() *Schema { return &Schema{Type: "string", Pattern: `\$\{`} }

// SchemaOf is the schema of the config that v points to; v holds the defaults.
func SchemaOf(v any) *Schema { return schemaOf(reflect.ValueOf(v).Elem()) }

func schemaOf(v reflect.Value) *Schema {
	s := &Schema{Type: []string{"object", "null"}, Properties: map[string]*Schema{}, Additional: false}
	for _, f := range fieldsOf(v.Type()) {
		key := f.Tag.Get("yaml")
		p := typeSchema(f.Type, f.Tag)
		p.Description = f.Tag.Get("doc")
		if f.Tag.Get("required") == "true" {
			s.Required = append(s.Required, key)
		} else if x := v.FieldByIndex(f.Index); x.Kind() != reflect.Pointer && x.Kind() != reflect.Struct && x.Kind() != reflect.Slice && (f.Tag.Get("enum") == "" || !x.IsZero()) {
			p.Default = x.Interface()
		}
		s.Properties[key] = p
	}
	return s
}

func number(s string) any {
	if s == "" {
		return nil
	}
	return jsonNumber(s)
}

type jsonNumber string

// MarshalJSON writes the number as it stands.
func (n jsonNumber) MarshalJSON() ([]byte, error) { return []byte(n), nil }

func typeSchema(t reflect.Type, tag reflect.StructTag) *Schema {
	or := func(s *Schema) *Schema { return &Schema{AnyOf: []*Schema{s, variableSchema()}} }
	if reflect.PointerTo(t).Implements(textUnmarshaler) {
		return &Schema{Type: []string{"string", "integer"}}
	}
	switch t.Kind() {
	case reflect.Pointer:
		return typeSchema(t.Elem(), tag)
	case reflect.Slice:
		item := typeSchema(t.Elem(), tag)
		if t.Elem().Kind() == reflect.String {
			return &Schema{AnyOf: []*Schema{{Type: "array", Items: item}, item}}
		}
		return &Schema{Type: "array", Items: item}
	case reflect.Struct:
		return schemaOf(reflect.New(t).Elem())
	case reflect.Bool:
		return or(&Schema{Type: "boolean"})
	case reflect.Int, reflect.Int64, reflect.Uint64, reflect.Float64:
		typ := "integer"
		if t.Kind() == reflect.Float64 {
			typ = "number"
		}
		return or(&Schema{Type: typ, Minimum: number(tag.Get("min")), Maximum: number(tag.Get("max")), Above: number(tag.Get("above")), Below: number(tag.Get("below"))})
	}
	if e := tag.Get("enum"); e != "" {
		return or(&Schema{Enum: strings.Split(e, "|")})
	}
	return &Schema{Type: []string{"string", "number", "boolean"}}
}
