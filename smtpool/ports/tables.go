package ports

import (
	"fmt"
	"strings"

	"vtpu/smtpool"
)

// table builds a machine's costs from lines "name | issue slots | micro-operations | latency", where micro-operations are COUNT*PORT,PORT joined by +.
func (m *Machine) table(lines string) *Machine {
	m.ops = map[string]cost{}
	for line := range strings.Lines(strings.TrimSpace(lines)) {
		f := strings.Split(line, "|")
		var c cost
		if len(f) != 4 {
			panic("ports: " + line)
		}
		scan := func(s string, v *float64) {
			if _, err := fmt.Sscan(strings.TrimSpace(s), v); err != nil {
				panic("ports: " + line)
			}
		}
		scan(f[1], &c.issue)
		scan(f[3], &c.latency)
		for _, part := range strings.Split(strings.TrimSpace(f[2]), "+") {
			n, ports, ok := strings.Cut(part, "*")
			if !ok {
				continue // none
			}
			set, _ := m.portSet("ports " + ports)
			u := use{ports: set}
			scan(n, &u.n)
			c.uses = append(c.uses, u)
		}
		m.ops[strings.TrimSpace(f[0])] = c
	}
	return m
}

// GoldenCove is the performance core of Alder Lake, Sapphire Rapids, Emerald Rapids; Redwood Cove (Granite Rapids) is its near twin.
//
// Ports: OSACA's model of Sapphire Rapids (spr.yml, measured with ibench and asmbench) for the vectors, VPERMD, IMUL, ADD, loads and stores; uops.info
// (Alder Lake-P) for VMOVMSKPS, SHR, the prefetch and the zeroing of registers. Width, window and outstanding misses: Intel 64 Optimization Reference
// Manual, Golden Cove. Level 1: two lines a cycle, its rate for 64-byte loads; level 2: 48 bytes a cycle sustained, the same manual.
var GoldenCove = (&Machine{Name: "Golden Cove", Sources: "OSACA spr.yml, uops.info Alder Lake-P, Intel optimization manual",
	Width: 6, Ports: strings.Fields("0 1 5 6 10 2 3 11 4 9 7 8"), L1Lines: 2, L2Lines: 0.75, Misses: 16, Window: 512}).table(`
add r,r    | 1 | 1*0,1,5,6,10         | 1
add r,i    | 1 | 1*0,1,5,6,10         | 1
and r,r    | 1 | 1*0,1,5,6,10         | 1
xor r,r    | 1 | 1*0,1,5,6,10         | 1
mov r,r    | 1 | none                 | 0
shr r,i    | 1 | 1*0,6                | 1
zero r     | 1 | none                 | 0
imul r,r   | 1 | 1*1                  | 3
dec/jnz    | 1 | 1*6                  | 1
sub/jnz    | 1 | 1*6                  | 1
load r     | 1 | 1*2,3,11             | 5
add r,m    | 1 | 1*2,3,11+1*0,1,5,6,10| 1
add m,i    | 2 | 1*2,3,11+1*0,1,5,6,10+1*7,8+1*4,9 | 1
store r    | 1 | 1*7,8+1*4,9          | 1
prefetch   | 1 | 1*2,3,11             | 0
vmovmskps  | 1 | 1*0                  | 3
vpermd ymm | 1 | 1*5                  | 3
vadd ymm   | 1 | 1*1,5                | 3
vadd zmm   | 1 | 1*0,5                | 3
vmul ymm   | 1 | 1*0,1                | 4
vmul zmm   | 1 | 1*0,5                | 4
vfma ymm   | 1 | 1*0,1                | 4
vfma zmm   | 1 | 1*0,5                | 4
`)

// SunnyCove is the core of Ice Lake, client and server.
//
// Ports and latencies: LLVM's X86SchedIceLake.td and OSACA's icx.yml, which agree but for the numbering of the store ports (LLVM's is here) and for MOV between
// registers: its elimination is switched off by microcode (erratum ICL065), so it takes a port, as in OSACA. uops.info (Ice Lake) for the prefetch, the fused forms and
// that a taken branch is port 6's. Width, window and outstanding misses: Intel 64 Optimization Reference Manual, Ice Lake Client; level 1 and 2 as Golden Cove.
var SunnyCove = (&Machine{Name: "Sunny Cove", Sources: "LLVM X86SchedIceLake.td, OSACA icx.yml, uops.info Ice Lake, Intel optimization manual",
	Width: 5, Ports: strings.Fields("0 1 5 6 2 3 4 9 7 8"), L1Lines: 2, L2Lines: 0.75, Misses: 12, Window: 352}).table(`
add r,r    | 1 | 1*0,1,5,6            | 1
add r,i    | 1 | 1*0,1,5,6            | 1
and r,r    | 1 | 1*0,1,5,6            | 1
xor r,r    | 1 | 1*0,1,5,6            | 1
mov r,r    | 1 | 1*0,1,5,6            | 1
shr r,i    | 1 | 1*0,6                | 1
zero r     | 1 | none                 | 0
imul r,r   | 1 | 1*1                  | 3
dec/jnz    | 1 | 1*6                  | 1
sub/jnz    | 1 | 1*6                  | 1
load r     | 1 | 1*2,3                | 5
add r,m    | 1 | 1*2,3+1*0,1,5,6      | 1
add m,i    | 2 | 1*2,3+1*0,1,5,6+1*7,8+1*4,9 | 1
store r    | 1 | 1*7,8+1*4,9          | 1
prefetch   | 1 | 1*2,3                | 0
vmovmskps  | 1 | 1*0                  | 3
vpermd ymm | 1 | 1*5                  | 3
vadd ymm   | 1 | 1*0,1                | 4
vadd zmm   | 1 | 1*0,5                | 4
vmul ymm   | 1 | 1*0,1                | 4
vmul zmm   | 1 | 1*0,5                | 4
vfma ymm   | 1 | 1*0,1                | 4
vfma zmm   | 1 | 1*0,5                | 4
`)

// SkylakeSP is the core of Skylake-SP, Cascade Lake and Cooper Lake.
//
// Ports and latencies: LLVM's X86SchedSkylakeServer.td; uops.info (Skylake-X) for the prefetch, the fused forms and that 4 slots are issued a cycle. Window,
// outstanding misses and bandwidths: Intel 64 Optimization Reference Manual, Skylake Server.
var SkylakeSP = (&Machine{Name: "Skylake-SP", Sources: "LLVM X86SchedSkylakeServer.td, uops.info Skylake-X, Intel optimization manual",
	Width: 4, Ports: strings.Fields("0 1 5 6 2 3 4 7"), L1Lines: 2, L2Lines: 0.75, Misses: 12, Window: 224}).table(`
add r,r    | 1 | 1*0,1,5,6            | 1
add r,i    | 1 | 1*0,1,5,6            | 1
and r,r    | 1 | 1*0,1,5,6            | 1
xor r,r    | 1 | 1*0,1,5,6            | 1
mov r,r    | 1 | none                 | 0
shr r,i    | 1 | 1*0,6                | 1
zero r     | 1 | none                 | 0
imul r,r   | 1 | 1*1                  | 3
dec/jnz    | 1 | 1*6                  | 1
sub/jnz    | 1 | 1*6                  | 1
load r     | 1 | 1*2,3                | 5
add r,m    | 1 | 1*2,3+1*0,1,5,6      | 1
add m,i    | 2 | 1*2,3+1*0,1,5,6+1*2,3+1*4 | 1
store r    | 1 | 1*2,3,7+1*4          | 1
prefetch   | 1 | 1*2,3                | 0
vmovmskps  | 1 | 1*0                  | 3
vpermd ymm | 1 | 1*5                  | 3
vadd ymm   | 1 | 1*0,1                | 4
vadd zmm   | 1 | 1*0,5                | 4
vmul ymm   | 1 | 1*0,1                | 4
vmul zmm   | 1 | 1*0,5                | 4
vfma ymm   | 1 | 1*0,1                | 4
vfma zmm   | 1 | 1*0,5                | 4
`)

// Zen4 is AMD's core of Genoa and Raphael. Vectors of 512 bit are one slot and two passes.
//
// Ports: OSACA's zen4.yml (A0-A3 are the integer units, S0-S2 address units, F0-F3 the vector units, ST the store data). Multiplications: uops.info (Zen 4).
// Width, window, outstanding misses and bandwidths: AMD Software Optimization Guide 57647. Not checked on a machine by vTPU yet.
var Zen4 = (&Machine{Name: "Zen 4", Sources: "OSACA zen4.yml, uops.info Zen 4, AMD SOG 57647",
	Width: 6, Ports: strings.Fields("A0 A1 A2 A3 B S0 S1 S2 F0 F1 F2 F3 F4 ST"), L1Lines: 2, L2Lines: 0.5, Misses: 24, Window: 320}).table(`
add r,r    | 1 | 1*A0,A1,A2,A3        | 1
add r,i    | 1 | 1*A0,A1,A2,A3        | 1
and r,r    | 1 | 1*A0,A1,A2,A3        | 1
xor r,r    | 1 | 1*A0,A1,A2,A3        | 1
mov r,r    | 1 | none                 | 0
shr r,i    | 1 | 1*A1,A2              | 1
zero r     | 1 | none                 | 0
imul r,r   | 1 | 1*A1                 | 3
dec/jnz    | 1 | 1*A0,B               | 1
sub/jnz    | 1 | 1*A0,B               | 1
load r     | 1 | 1*S0,S1,S2           | 4
add r,m    | 1 | 1*S0,S1,S2+1*A0,A1,A2,A3 | 1
add m,i    | 1 | 1*S0,S1+1*A0,A1,A2,A3+1*F4,ST | 1
store r    | 1 | 1*S0,S1+1*F4,ST      | 1
prefetch   | 1 | 1*S0,S1,S2           | 0
vmovmskps  | 1 | 1*F4                 | 5
vpermd ymm | 1 | 1*F1,F2              | 4
vadd ymm   | 1 | 1*F2,F3              | 3
vadd zmm   | 1 | 2*F2,F3              | 3
vmul ymm   | 1 | 1*F0,F1              | 3
vmul zmm   | 1 | 2*F0,F1              | 3
vfma ymm   | 1 | 1*F0,F1              | 4
vfma zmm   | 1 | 2*F0,F1              | 4
`)

// Zen5 is AMD's core of Turin and Granite Ridge, with full 512-bit units.
//
// Ports: OSACA's zen5.yml and LLVM's X86ScheduleZnver5.td. Width, window and bandwidths: AMD Software Optimization Guide 58455; outstanding misses as Zen 4.
// Not checked on a machine by vTPU yet.
var Zen5 = (&Machine{Name: "Zen 5", Sources: "OSACA zen5.yml, LLVM X86ScheduleZnver5.td, AMD SOG 58455",
	Width: 8, Ports: strings.Fields("A0 A1 A2 A3 A4 A5 S0 S1 S2 S3 F0 F1 F2 F3 F4 F5"), L1Lines: 2, L2Lines: 1, Misses: 24, Window: 448}).table(`
add r,r    | 1 | 1*A0,A1,A2,A3,A4,A5  | 1
add r,i    | 1 | 1*A0,A1,A2,A3,A4,A5  | 1
and r,r    | 1 | 1*A0,A1,A2,A3,A4,A5  | 1
xor r,r    | 1 | 1*A0,A1,A2,A3,A4,A5  | 1
mov r,r    | 1 | none                 | 0
shr r,i    | 1 | 1*A0,A1,A2           | 1
zero r     | 1 | none                 | 0
imul r,r   | 1 | 1*A0,A1,A2           | 3
dec/jnz    | 1 | 1*A3,A4,A5           | 1
sub/jnz    | 1 | 1*A3,A4,A5           | 1
load r     | 1 | 1*S0,S1,S2,S3        | 4
add r,m    | 1 | 1*S0,S1,S2,S3+1*A0,A1,A2,A3,A4,A5 | 1
add m,i    | 1 | 2*S0,S1,S2,S3+1*A0,A1,A2,A3,A4,A5+1*F4,F5 | 1
store r    | 1 | 1*S0,S1,S2,S3+1*F4,F5 | 1
prefetch   | 1 | 1*S0,S1,S2,S3        | 0
vmovmskps  | 1 | 1*F4,F5              | 5
vpermd ymm | 1 | 1*F1,F2              | 4
vadd ymm   | 1 | 1*F1,F3              | 2
vadd zmm   | 1 | 1*F1,F3              | 2
vmul ymm   | 1 | 1*F0,F2              | 3
vmul zmm   | 1 | 1*F0,F2              | 3
vfma ymm   | 1 | 1*F0,F2              | 4
vfma zmm   | 1 | 1*F0,F2              | 4
`)

// Machines lists the kinds of core that have a table.
func Machines() []*Machine { return []*Machine{GoldenCove, SunnyCove, SkylakeSP, Zen4, Zen5} }

// Detect finds the table for a machine, and says how it was found or why there is none.
func Detect(t *smtpool.Topology) (m *Machine, why string) {
	switch {
	case t.Vendor == "GenuineIntel" && t.Family == 6:
		switch t.ModelNo {
		case 85:
			return SkylakeSP, "by family 6, model 85"
		case 106, 108, 125, 126, 140, 141, 167:
			return SunnyCove, fmt.Sprintf("by family 6, model %d", t.ModelNo)
		case 143, 151, 154, 170, 172, 173, 174, 183, 186, 191, 207:
			return GoldenCove, fmt.Sprintf("by family 6, model %d", t.ModelNo)
		}
		if t.Has("amx_tile") {
			return GoldenCove, fmt.Sprintf("by its AMX: model %d is not one of that core, a hypervisor may have changed it", t.ModelNo)
		}
	case t.Vendor == "AuthenticAMD" && t.Family == 25 && (t.ModelNo >= 0x10 && t.ModelNo <= 0x1f || t.ModelNo >= 0x60 && t.ModelNo <= 0x7f || t.ModelNo >= 0xa0 && t.ModelNo <= 0xaf):
		return Zen4, fmt.Sprintf("by family 25, model %d", t.ModelNo)
	case t.Vendor == "AuthenticAMD" && t.Family == 26:
		return Zen5, fmt.Sprintf("by family 26, model %d", t.ModelNo)
	}
	names := make([]string, 0, len(Machines()))
	for _, m := range Machines() {
		names = append(names, m.Name)
	}
	return nil, fmt.Sprintf("no table for %s family %d model %d; there are %s", t.Vendor, t.Family, t.ModelNo, strings.Join(names, ", "))
}
