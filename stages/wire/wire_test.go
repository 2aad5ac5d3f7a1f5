package wire

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"flag"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"unsafe"

	"vtpu/stages"
	"vtpu/stages/tensor"
)

var update = flag.Bool("update", false, "write the golden files anew")

func f32(name string, v []float32, dims ...int) Tensor {
	return Tensor{Name: name, DType: tensor.F32, Shape: tensor.Of(dims...), F32: v}
}

func i32(name string, v []int32, dims ...int) Tensor {
	return Tensor{Name: name, DType: tensor.I32, Shape: tensor.Of(dims...), I32: v}
}

// samples are frames of every kind with every field.
func samples() map[string]*Frame {
	nan := math.Float32frombits(0x7fc12345) // a NaN with a payload: bits are kept
	ids := i32("embed.weight", []int32{0, 7, 1 << 30}, 3)
	ids.Role = IDs
	rows := f32("embed.weight", []float32{1, 2, 3, 4, 5, 6}, 3, 2)
	rows.Role = Rows
	head := stages.Head{Step: 1 << 40, Gathered: 3, Part: 1, Parts: 2, First: 6, Rows: 6, Count: 12, Targets: 768, Loss: 4.25, Hits: 9, Seen: 768, Mode: stages.Eval, Skip: true}
	return map[string]*Frame{
		"open":      {Kind: Open, Meta: Meta{Run: "names-1", Name: "gradients", Raw: []byte(`{"seed":1}`)}},
		"inputs":    {Kind: Inputs, Seq: 1, Prev: 0xdeadbeef, Meta: Meta{Head: head}, Tensors: []Tensor{i32("x", []int32{-1, 2, 3, 4, 5, 6}, 2, 3), f32("y", []float32{nan}, 1)}},
		"gradients": {Kind: Gradients, Seq: 1<<64 - 1, Meta: Meta{Head: head, Run: "r", Version: 8}, Tensors: []Tensor{f32("dense.bias", []float32{0, float32(math.Copysign(0, -1)), 3}, 3), ids, rows}},
		"weights":   {Kind: Weights, Meta: Meta{Version: 9, Base: Snapshot, Epoch: 2, Time: 1700000000000000000}, Tensors: []Tensor{f32("scalar", []float32{42}), f32("empty", nil, 0, 5)}},
		"example":   {Kind: Example, Meta: Meta{Raw: bytes.Repeat([]byte{0, 255}, 40)}},
		"control":   {Kind: Control, Meta: Meta{Name: strings.Repeat("n", maxName), Run: strings.Repeat("r", maxRun)}},
	}
}

// same compares frames bit by bit.
func same(a, b *Frame) bool {
	norm := func(f *Frame) (Frame, []uint32) {
		c := *f
		c.Raw = append([]byte(nil), f.Raw...)
		c.Tensors = nil
		var w []uint32
		for _, t := range f.Tensors {
			for _, x := range t.F32 {
				w = append(w, math.Float32bits(x))
			}
			for _, x := range t.I32 {
				w = append(w, uint32(x))
			}
			t.F32, t.I32 = nil, nil
			c.Tensors = append(c.Tensors, t)
		}
		return c, w
	}
	ca, wa := norm(a)
	cb, wb := norm(b)
	return reflect.DeepEqual(ca, cb) && reflect.DeepEqual(wa, wb)
}

func TestGoldenFiles(t *testing.T) {
	for name, f := range samples() {
		var e Encoder
		b, err := e.Encode(f)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		file := filepath.Join("testdata", name+".hex")
		if *update {
			if err := os.WriteFile(file, []byte(hex.Dump(b)), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if hex.Dump(b) != string(want) {
			t.Errorf("%s: the bytes of the format have changed:\n%s", name, hex.Dump(b))
		}
		var d Decoder
		var got Frame
		if n, err := d.Decode(b, &got); err != nil || n != len(b) || !same(f, &got) {
			t.Errorf("%s: %d of %d bytes, %v\n%+v\nwant\n%+v", name, n, len(b), err, got, f)
		}
	}
}

// TestTheTemplateChangesNoByte encodes frames that differ in numbers alone with one encoder, and each with a new one.
func TestTheTemplateChangesNoByte(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	var e Encoder
	for i := range 2000 {
		f := random(r, 3)
		f.Skip, f.Hits, f.Time = r.IntN(2) == 0, r.Int64(), r.Int64()
		switch r.IntN(20) {
		case 0:
			f.Run = "run"
		case 1:
			f.Name = "name"
		case 2:
			f.Raw = []byte{1, 2}
		}
		var fresh Encoder
		a, err := e.Encode(f)
		if err != nil {
			t.Fatal(err)
		}
		b, err := fresh.Encode(f)
		if err != nil || !bytes.Equal(a, b) {
			t.Fatalf("frame %d: %v\n%s\n%s", i, err, hex.Dump(a), hex.Dump(b))
		}
	}
}

func TestTensorsAreViewsWhereTheyCanBe(t *testing.T) {
	var e Encoder
	f := samples()["gradients"]
	b, err := e.Encode(f)
	if err != nil {
		t.Fatal(err)
	}
	var d Decoder
	var got Frame
	for off := range 5 {
		buf := Buffer(len(b) + 8)[off : off+len(b)]
		copy(buf, b)
		if _, err := d.Decode(buf, &got); err != nil || !same(f, &got) {
			t.Fatalf("offset %d: %v", off, err)
		}
		p := uintptr(unsafe.Pointer(&got.Tensors[2].F32[0]))
		lo := uintptr(unsafe.Pointer(&buf[0]))
		inside := p >= lo && p < lo+uintptr(len(buf))
		if want := off%4 == 0; inside != want {
			t.Errorf("offset %d: view is %v", off, inside)
		}
		if off == 0 && p%Align != 0 {
			t.Errorf("a tensor in an aligned buffer begins at %x", p)
		}
	}
}

func TestEncodeAndDecodeAllocateNothing(t *testing.T) {
	var e Encoder
	var d Decoder
	var got Frame
	fs := samples()
	one := func() {
		for _, name := range []string{"inputs", "gradients", "example", "open"} {
			b, err := e.Encode(fs[name])
			if err != nil {
				t.Fatal(err)
			}
			if _, err := d.Decode(b, &got); err != nil {
				t.Fatal(err)
			}
		}
	}
	one()
	if n := testing.AllocsPerRun(100, one); n != 0 {
		t.Errorf("%v allocations a frame", n)
	}
}

func TestEveryBitCounts(t *testing.T) {
	var e Encoder
	var d Decoder
	var got Frame
	for name, f := range samples() {
		b, err := e.Encode(f)
		if err != nil {
			t.Fatal(err)
		}
		for i := range b {
			for bit := range 8 {
				b[i] ^= 1 << bit
				var bad *BadFrame
				if _, err := d.Decode(b, &got); !errors.As(err, &bad) && !errors.Is(err, ErrShort) {
					t.Fatalf("%s: bit %d of byte %d flipped: %v", name, bit, i, err)
				}
				b[i] ^= 1 << bit
			}
		}
		for n := range b {
			if _, err := d.Decode(b[:n], &got); !errors.Is(err, ErrShort) {
				t.Fatalf("%s: cut after %d bytes: %v", name, n, err)
			}
		}
	}
}

// sealed gives a frame that was changed by hand the checksums that fit, so that what lies behind them is tried.
func sealed(b []byte) []byte {
	binary.LittleEndian.PutUint32(b[44:], CRC(b[HeaderSize:]))
	binary.LittleEndian.PutUint32(b[60:], CRC(b[:60]))
	return b
}

func TestClaimsAreCheckedBeforeAnythingIsAllocated(t *testing.T) {
	var e Encoder
	good, err := e.Encode(samples()["gradients"])
	if err != nil {
		t.Fatal(err)
	}
	le := binary.LittleEndian
	for _, c := range []struct {
		name, want string
		set        func(h []byte)
	}{
		{"version", "version 9", func(h []byte) { h[4] = 9 }},
		{"kind 0", "unknown kind", func(h []byte) { h[5] = 0 }},
		{"kind", "unknown kind", func(h []byte) { h[5] = byte(kinds) }},
		{"flags", "flags", func(h []byte) { h[6] = 2 }},
		{"reserved", "flags", func(h []byte) { h[56] = 1 }},
		{"meta", "metadata", func(h []byte) { le.PutUint32(h[8:], 1<<31) }},
		{"no meta", "metadata", func(h []byte) { le.PutUint32(h[8:], 0) }},
		{"tensors", "tensors", func(h []byte) { le.PutUint32(h[12:], 60000) }},
		{"one tensor more", "the metadata 3", func(h []byte) { le.PutUint32(h[12:], 4) }},
		{"4 GiB", "at most", func(h []byte) { le.PutUint64(h[16:], 4<<30); le.PutUint64(h[24:], 4<<30) }},
		{"2^64", "at most", func(h []byte) { le.PutUint64(h[16:], 1<<64-64); le.PutUint64(h[24:], 1<<64-64) }},
		{"odd", "multiples", func(h []byte) { le.PutUint64(h[16:], 65); le.PutUint64(h[24:], 65) }},
		{"raw", "not packed", func(h []byte) { le.PutUint64(h[24:], 640) }},
		{"packed", "packed data of", func(h []byte) { h[6] = 1 }},
		{"bomb", "packed data of", func(h []byte) { h[6] = 1; le.PutUint64(h[48:], 150); le.PutUint64(h[24:], 1<<29) }},
	} {
		b := append([]byte(nil), good...)
		c.set(b)
		var d Decoder
		var got Frame
		var m0, m1 runtime.MemStats
		runtime.ReadMemStats(&m0)
		_, err := d.Decode(sealed(b), &got)
		runtime.ReadMemStats(&m1)
		var bad *BadFrame
		if !errors.As(err, &bad) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
		if n := m1.TotalAlloc - m0.TotalAlloc; n > 1<<16 {
			t.Errorf("%s: %d bytes allocated", c.name, n)
		}
	}
}

// metadata replaces the metadata of a frame.
func metadata(frame []byte, meta []byte, data int) []byte {
	b := append([]byte(nil), frame[:HeaderSize]...)
	b = pad(append(b, meta...), 0)
	b = append(b, make([]byte, data)...)
	binary.LittleEndian.PutUint32(b[8:], uint32(len(meta)))
	binary.LittleEndian.PutUint64(b[16:], uint64(data))
	binary.LittleEndian.PutUint64(b[24:], uint64(data))
	return sealed(b)
}

func TestMetadataIsStrict(t *testing.T) {
	var e Encoder
	one := &Frame{Kind: Edge, Tensors: []Tensor{f32("a", []float32{1, 2}, 2)}}
	frame, err := e.Encode(one)
	if err != nil {
		t.Fatal(err)
	}
	tens := "\xa7tensors\x91"
	for _, c := range []struct{ meta, want string }{
		{"\x81" + tens + "\x94\xa1a\x00\x00\x02", ""},
		{"\x81" + tens + "\x94\xa1a\x00\x00\xce\x00\x00\x00\x02", ""},
		{"\xc0\xc0\xc0\xc0", "nil"},
		{"\x90\x90\x90\x90", "map"},
		{"\x81\xa4step\x01", "missing"},
		{"\x81" + tens + "\x94\xa1a\x00\x00\x02\x00", "follow"},
		{"\x82" + tens + "\x94\xa1a\x00\x00\x02" + tens + "\x94\xa1a\x00\x00\x02", "twice"},
		{"\x82\xa3foo\x01" + tens + "\x94\xa1a\x00\x00\x02", "unknown key"},
		{"\xdf\xff\xff\xff\xff" + tens + "\x94\xa1a\x00\x00\x02", "EOF"},
		{"\x81\xdb\xff\xff\xff\xff", "at most"},
		{"\x81\xa7tensors\xdd\xff\xff\xff\xff", "the header says 1"},
		{"\x81" + tens + "\x98\xa1a\x00\x00\x02\x02\x02\x02\x02", "array of 8"},
		{"\x81" + tens + "\x92\xa1a\x00", "array of 2"},
		{"\x81" + tens + "\x94\xc0\x00\x00\x02", "nil"},
		{"\x81" + tens + "\x94\xa1a\x03\x00\x02", "role 3"},
		{"\x81" + tens + "\x94\xa1a\x00\x02\x02", "dtype 2"},
		{"\x81" + tens + "\x94\xa1a\x01\x01\x02", "does not fit"},
		{"\x81" + tens + "\x94\xa1a\x02\x00\x02", "does not fit"},
		{"\x81" + tens + "\x94\xa1a\x00\x00\xff", "out of range"},
		{"\x81" + tens + "\x94\xa1a\x00\x00\x11", "need 128 bytes"},
		{"\x81" + tens + "\x94\xa1a\x00\x00\x00", "need 0 bytes"},
		{"\x81" + tens + "\x96\xa1a\x00\x00\xce\x7f\xff\xff\xff\xce\x7f\xff\xff\xff\x02", "elements"},
		{"\x82\xa4mode\x03" + tens + "\x94\xa1a\x00\x00\x02", "mode: 3"},
		{"\x82\xa4part\xff" + tens + "\x94\xa1a\x00\x00\x02", "part: -1"},
		{"\x82\xa3raw\xc6\xff\xff\xff\xff" + tens + "\x94\xa1a\x00\x00\x02", "at most"},
		{"\x82\xa3run\xd9\xff" + tens + "\x94\xa1a\x00\x00\x02", "at most"},
	} {
		b := metadata(frame, []byte(c.meta), 64)
		var d Decoder
		var got Frame
		_, err := d.Decode(b, &got)
		switch {
		case c.want == "" && err != nil:
			t.Errorf("%q: %v", c.meta, err)
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%q: %v, want %q", c.meta, err, c.want)
		}
	}
}

func TestPaddingIsZero(t *testing.T) {
	var e Encoder
	b, err := e.Encode(&Frame{Kind: Edge, Tensors: []Tensor{f32("a", []float32{1, 2}, 2)}})
	if err != nil {
		t.Fatal(err)
	}
	for _, at := range []int{len(b) - 1, len(b) - 56, len(b) - 65} {
		c := append([]byte(nil), b...)
		c[at] = 1
		var d Decoder
		var got Frame
		if _, err := d.Decode(sealed(c), &got); err == nil || !strings.Contains(err.Error(), "padding") {
			t.Errorf("byte %d: %v", at, err)
		}
	}
}

func TestMistakesOfTheCaller(t *testing.T) {
	for _, f := range []*Frame{
		{}, {Kind: kinds}, {Kind: Edge, Meta: Meta{Run: strings.Repeat("x", maxRun+1)}}, {Kind: Edge, Meta: Meta{Raw: make([]byte, MaxMeta)}},
		{Kind: Edge, Tensors: []Tensor{f32("a", []float32{1}, 2)}}, {Kind: Edge, Tensors: []Tensor{{Name: "ids", Role: IDs, DType: tensor.I32, Shape: tensor.Of(0)}}},
	} {
		var e Encoder
		if _, err := e.Encode(f); err == nil {
			t.Errorf("%+v was encoded", f)
		}
	}
}

// random makes a frame that is as large as n allows.
func random(r *rand.Rand, n int) *Frame {
	f := &Frame{Kind: Kind(1 + r.IntN(int(kinds)-1)), Seq: r.Uint64(), Prev: r.Uint32(), Meta: Meta{Head: stages.Head{Step: r.Int64(), Loss: r.Float64()}, Base: -r.Int64()}}
	for range r.IntN(4) {
		s := tensor.Of(r.IntN(n), 1+r.IntN(3))
		if r.IntN(2) == 0 {
			v := make([]float32, s.Len())
			for i := range v {
				v[i] = math.Float32frombits(r.Uint32())
			}
			f.Tensors = append(f.Tensors, Tensor{Name: "t", Shape: s, F32: v})
		} else {
			v := make([]int32, s.Len())
			for i := range v {
				v[i] = int32(r.Uint32())
			}
			f.Tensors = append(f.Tensors, Tensor{Name: "i", DType: tensor.I32, Shape: s, I32: v})
		}
	}
	return f
}

func TestRandomFramesComeBack(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	var e Encoder
	var d Decoder
	var all []byte
	var fs []*Frame
	for range 500 {
		f := random(r, 50)
		var err error
		if all, err = e.Append(all, f); err != nil {
			t.Fatal(err)
		}
		fs = append(fs, f)
	}
	for i, f := range fs {
		var got Frame
		n, err := d.Decode(all, &got)
		if err != nil || !same(f, &got) {
			t.Fatalf("frame %d: %v\n%+v\n%+v", i, err, f, got)
		}
		all = all[n:]
	}
	if len(all) > 0 {
		t.Errorf("%d bytes are left", len(all))
	}
}

// FuzzDecode: no panic, no allocation beyond the input, and what is accepted comes back the same when it is written again and read.
func FuzzDecode(f *testing.F) {
	var e Encoder
	for _, s := range samples() {
		b, err := e.Encode(s)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(append([]byte(nil), b...), false)
		f.Add(append([]byte(nil), b...), true)
	}
	var d Decoder
	var got, again Frame
	f.Fuzz(func(t *testing.T, b []byte, seal bool) {
		if seal && len(b) >= HeaderSize {
			b = sealed(append([]byte(nil), b...))
		}
		var m0, m1 runtime.MemStats
		runtime.ReadMemStats(&m0)
		n, err := d.Decode(b, &got)
		runtime.ReadMemStats(&m1)
		if m1.TotalAlloc-m0.TotalAlloc > uint64(64*len(b)+1<<16) { // a tensor in memory takes more than its four bytes of metadata
			t.Fatalf("%d bytes allocated for %d", m1.TotalAlloc-m0.TotalAlloc, len(b))
		}
		if err != nil {
			return
		}
		c, err := e.Append(nil, &got)
		if err != nil {
			t.Fatalf("what was read (%d bytes) can't be written: %v", n, err)
		}
		if _, err := d.Decode(c, &again); err != nil || !same(&got, &again) {
			t.Fatalf("%v\n%+v\n%+v", err, got, again)
		}
	})
}

func BenchmarkFrame(b *testing.B) {
	for _, c := range []struct {
		name string
		n    int
	}{{"64 B", 16}, {"4 KiB", 1 << 10}, {"4 MiB", 1 << 20}} {
		f := &Frame{Kind: Gradients, Tensors: []Tensor{f32("dense.weight", make([]float32, c.n), c.n)}}
		var e Encoder
		var d Decoder
		var got Frame
		buf, err := e.Encode(f)
		if err != nil {
			b.Fatal(err)
		}
		buf = append(Buffer(len(buf))[:0], buf...)
		b.Run("encode "+c.name, func(b *testing.B) {
			b.SetBytes(int64(4 * c.n))
			b.ReportAllocs()
			for b.Loop() {
				_, err = e.Encode(f)
			}
		})
		b.Run("decode "+c.name, func(b *testing.B) {
			b.SetBytes(int64(4 * c.n))
			b.ReportAllocs()
			for b.Loop() {
				_, err = d.Decode(buf, &got)
			}
		})
		if err != nil {
			b.Fatal(err)
		}
	}
}

// TestSumsOnTheWay: a draft that sums the tensors where they are is sealed to the same bytes as one that is summed afterwards, with a copy of one's own too.
func TestSumsOnTheWay(t *testing.T) {
	f := &Frame{Kind: Gradients}
	f.Step, f.Parts = 3, 1
	for n := range 200 {
		x := Tensor{Name: "a", Shape: tensor.Of(n), F32: make([]float32, n)}
		y := Tensor{Name: "b", DType: tensor.I32, Shape: tensor.Of(2 * n), I32: make([]int32, 2*n)}
		for i := range x.F32 {
			x.F32[i], y.I32[i] = float32(i)+0.5, int32(-i)
		}
		f.Tensors = []Tensor{x, y, x}
		var plain Encoder
		want, err := plain.Append(Buffer(1 << 14)[:0], f)
		if err != nil {
			t.Fatal(err)
		}
		copied := 0
		e := Encoder{Sums: true, Copy: func(dst, src []float32) { copied += copy(dst, src) }}
		got, err := e.Draft(Buffer(1 << 14)[:0], f)
		if err != nil {
			t.Fatal(err)
		}
		Chain(got, f.Seq, f.Prev)
		if !bytes.Equal(got, want) {
			t.Fatalf("%d elements: other bytes", n)
		}
		if n >= copyLeast && copied != 4*n {
			t.Errorf("%d elements: %d were copied as asked", n, copied)
		}
	}
}
