package pipelines

import (
	"fmt"
	"regexp"
	"strings"

	"vtpu/stages/tensor"
	"vtpu/stages/tensorfile"
)

// gpt2Block are the names of a block's weights in files of GPT-2 and in the preset gpt2-124m. GPT-2 keeps the weights of its products as (in,out); here they are
// (out,in).
var gpt2Block = map[string]struct {
	name string
	turn bool
}{
	"ln_1.weight": {"layernorm.weight", false}, "ln_1.bias": {"layernorm.bias", false},
	"attn.c_attn.weight": {"attention.qkv", true}, "attn.c_attn.bias": {"attention.qkv_bias", false},
	"attn.c_proj.weight": {"attention.proj", true}, "attn.c_proj.bias": {"attention.proj_bias", false},
	"ln_2.weight": {"layernorm2.weight", false}, "ln_2.bias": {"layernorm2.bias", false},
	"mlp.c_fc.weight": {"dense.weight", true}, "mlp.c_fc.bias": {"dense.bias", false},
	"mlp.c_proj.weight": {"dense2.weight", true}, "mlp.c_proj.bias": {"dense2.bias", false},
}

var gpt2Top = map[string]string{"wte.weight": "embed.weight", "wpe.weight": "embed.positions", "ln_f.weight": "layernorm.weight", "ln_f.bias": "layernorm.bias"}

var gpt2Name = regexp.MustCompile(`^h\.(\d+)\.(.+)$`)

// fromGPT2 gives tensors with GPT-2's usual names (wte.weight, h.0.attn.c_attn.weight, ...; perhaps behind "transformer.") those of the preset gpt2-124m. Files
// without wte.weight are left alone. Masks, which some files hold beside the weights, are left out, and so is an output layer that is the embedding once more.
func fromGPT2(path string, es []tensorfile.Entry) ([]tensorfile.Entry, error) {
	const prefix = "transformer."
	var wte *tensor.Tensor
	for i := range es {
		if strings.TrimPrefix(es[i].Name, prefix) == "wte.weight" {
			wte = &es[i].T
		}
	}
	if wte == nil {
		return es, nil
	}
	var out []tensorfile.Entry
	for _, e := range es {
		name := strings.TrimPrefix(e.Name, prefix)
		if m := gpt2Name.FindStringSubmatch(name); m != nil {
			w, ok := gpt2Block[m[2]]
			if !ok {
				if m[2] == "attn.bias" || m[2] == "attn.masked_bias" {
					continue
				}
				return nil, finding(path, "tensor %s is none of GPT-2's", e.Name)
			}
			if w.turn {
				if e.T.Shape.Rank != 2 || e.T.DType != tensor.F32 {
					return nil, finding(path, "tensor %s is %v %v, want a matrix of floats", e.Name, e.T.DType, e.T.Shape)
				}
				e.T = turned(e.T)
			}
			e.Name = "h" + m[1] + "." + w.name
		} else if to, ok := gpt2Top[name]; ok {
			e.Name = to
		} else if name == "lm_head.weight" {
			if !equal(&e.T, wte) {
				return nil, finding(path, "the output layer lm_head.weight is not the embedding wte.weight; the preset ties them")
			}
			continue
		} else {
			return nil, finding(path, "tensor %s is none of GPT-2's", e.Name)
		}
		out = append(out, e)
	}
	return out, nil
}

func finding(path, format string, args ...any) error {
	return Place{File: path}.finding(fmt.Sprintf(format, args...), "")
}

// turned is the transpose of a matrix.
func turned(a tensor.Tensor) tensor.Tensor {
	r, c := a.Shape.Dims[0], a.Shape.Dims[1]
	t := tensor.New(tensor.F32, tensor.Of(c, r))
	for i := range r {
		for j, v := range a.F32[i*c : i*c+c] {
			t.F32[j*r+i] = v
		}
	}
	return t
}

func equal(a, b *tensor.Tensor) bool {
	if a.Shape != b.Shape || len(a.F32) != len(b.F32) {
		return false
	}
	for i, v := range a.F32 {
		if v != b.F32[i] {
			return false
		}
	}
	return true
}
