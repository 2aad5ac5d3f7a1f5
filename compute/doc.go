// Package compute holds the forward half of the walk: layers and losses. One file is one stage; its backward twin has the same file name in
// package backward.
//
// Shapes are written as in llm.c: inp (B,T,C), weight (OC,C). "..." stands for any leading dimensions.
package compute

import (
	"math"

	"vtpu/stages"
	"vtpu/stages/tensor"
)

// fanIn is how PyTorch starts a linear layer and its bias: uniform in ±1/√C.
func fanIn(c string) func(map[string]int) stages.Init {
	return func(v map[string]int) stages.Init {
		return stages.Init{Kind: "uniform", Value: 1 / math.Sqrt(float64(v[c]))}
	}
}

func constant(x float64) func(map[string]int) stages.Init {
	return func(map[string]int) stages.Init { return stages.Init{Kind: "constant", Value: x} }
}

func normal(std float64) func(map[string]int) stages.Init {
	return func(map[string]int) stages.Init { return stages.Init{Kind: "normal", Value: std} }
}

// float is a float32 port.
func float(name, shape string) stages.Port { return stages.Port{Name: name, Shape: shape} }

// ids is an int32 port, which has no gradient.
func ids(name, shape string) stages.Port {
	return stages.Port{Name: name, Shape: shape, DType: tensor.I32, NoGrad: true}
}
