package pipelines

import (
	"fmt"
	"slices"

	"vtpu/pipelines/exec"
	"vtpu/stages"
)

// inside finds which weights can be updated inside the backward walk: behind the last stage that reads the weight or adds to its gradient. why says, for people, why
// there are none. Where a stage needs or changes gradients as a whole, the update must wait for all of them. at gives the place of each node in the walk.
func (p *Plan) inside(at map[*Node]int) (cuts []exec.Cut, why string) {
	if p.Pipe.Parts > 1 {
		return nil, "the parts are summed first"
	}
	last := map[string]int{} // of each weight: the place of the last backward node that knows it
	walked, updates := 0, 0
	var params []*stages.ParamBinding
	for _, n := range p.Nodes {
		switch {
		case n.segment() == gathers:
			for _, pb := range n.Env.Params {
				last[pb.Name] = -1 // gather may be reading it for a later step
			}
		case n.segment() == backwards:
			walked = max(walked, at[n])
			if n.Twin == nil {
				return nil, fmt.Sprintf("%s changes all gradients", n.Name)
			}
			for _, pb := range n.Env.Params {
				if last[pb.Name] >= 0 {
					last[pb.Name] = max(last[pb.Name], at[n])
				}
			}
		case n.Def.Room == stages.Update:
			if !n.piecewise {
				return nil, fmt.Sprintf("%s takes all gradients at once", n.Name)
			}
			updates++
			params = append(params, n.Env.All...)
		case n.Contract.Grads == stages.GradWrite && n.Contract.Replicas == stages.One:
			return nil, fmt.Sprintf("%s needs all gradients", n.Name)
		case n.Def.Room > stages.Loss && updates == 0 && n.Contract.Grads != stages.GradRead:
			return nil, fmt.Sprintf("%s stands before the update", n.Name)
		}
	}
	if walked == 0 || updates == 0 {
		return nil, "there is no backward walk"
	}
	by := make([]exec.Cut, walked+1)
	for _, pb := range params {
		if i := last[pb.Name]; i > 0 && !pb.Sparse {
			by[i].After = i
			by[i].Params = append(by[i].Params, pb)
		}
	}
	cuts = slices.DeleteFunc(by, func(c exec.Cut) bool { return c.After == 0 })
	if len(cuts) == 0 {
		return nil, "only rows of tables are learnt"
	}
	return cuts, ""
}

// WhenUpdated says, for people, whether weights are updated while backward goes on.
func (p *Plan) WhenUpdated() string {
	at := map[*Node]int{} // here only their order counts
	for i, n := range p.Nodes {
		at[n] = i + 1
	}
	cuts, why := p.inside(at)
	if why != "" {
		return "after backward: " + why
	}
	n := 0
	for _, c := range cuts {
		n += len(c.Params)
	}
	return fmt.Sprintf("inside backward on one D lane, of %d weights: each once its gradient is complete", n)
}
