package kernel

import (
	"fmt"
	"slices"
	"strings"
)

// ISAs lists the instruction sets that can be used here, the best last. All of them have the same bits.
func ISAs() []string { return isas() }

// ISA is the instruction set in use.
func ISA() string { return isa }

// SetISA chooses an instruction set: generic, avx2 or avx512. Call it before anything computes.
func SetISA(name string) error {
	if !slices.Contains(isas(), name) {
		return fmt.Errorf("instruction set %q can't be used here; there are %s", name, strings.Join(isas(), ", "))
	}
	isa = name
	use(name)
	return nil
}
