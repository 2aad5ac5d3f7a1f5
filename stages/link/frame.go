// Package link is what joins stages of different processes: frames with a fence around them, cut into chunks that a bus carries. What carries them
// is in the packages below: NATS, JetStream, any Watermill channel. A bus may lose, double, delay and reorder; nothing that it does changes a bit.
package link

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"sync"
)

// A Bus carries messages between processes by subject. A message may come late, twice, in another order, or never.
type Bus interface {
	// Publish sends one message of at most MaxPayload bytes. data may be used again when it returns.
	Publish(subject string, data []byte) error
	// Subscribe calls got for each message on the subject, one at a time, until stop. got may keep data, but must not change it.
	Subscribe(subject string, got func(data []byte)) (stop func() error, err error)
	// MaxPayload is the largest message in bytes, at least MinPayload.
	MaxPayload() int
	Close() error
}

// MinPayload is the smallest largest message that a bus may have.
const MinPayload = 1024

// Protocol is the number of the frame format and of the rules for workers. Peers with another number are refused.
const Protocol = 1

// HeadSize is the size of a head in bytes. A buffer to send begins with as much room.
const HeadSize = 128

// A Kind says what a frame is for.
type Kind uint8

// A Head says what a message is and to which run, epoch, step, part and version of the weights it belongs: the fence. It is repeated in each chunk.
type Head struct {
	Kind    Kind
	Run     [16]byte
	Epoch   uint64 // of the coordinator: grows with each start
	From    uint64 // number of the sending process, drawn at its start
	Step    int64
	Part    uint32
	Version int64 // of the weights
	Base    int64 // weights: the version that they are a change of; -1 is none
	Message uint64
}

var magic = [4]byte{'v', 'T', 'P', 'U'}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// chunk is the part of a head that differs between the chunks of a message.
type chunk struct {
	crc    uint32
	total  uint64
	offset uint64
	size   uint32 // of every chunk but the last
}

func put(b []byte, h *Head, c chunk) {
	_ = b[HeadSize-1]
	copy(b, magic[:])
	b[4], b[5], b[6], b[7] = Protocol, byte(h.Kind), 0, 0
	copy(b[8:], h.Run[:])
	le := binary.LittleEndian
	le.PutUint64(b[24:], h.Epoch)
	le.PutUint64(b[32:], h.From)
	le.PutUint64(b[40:], uint64(h.Step))
	le.PutUint32(b[48:], h.Part)
	le.PutUint32(b[52:], c.crc)
	le.PutUint64(b[56:], uint64(h.Version))
	le.PutUint64(b[64:], h.Message)
	le.PutUint64(b[72:], c.total)
	le.PutUint64(b[80:], c.offset)
	le.PutUint64(b[88:], uint64(h.Base))
	le.PutUint32(b[96:], c.size)
	clear(b[100:HeadSize])
}

// sum covers the head but itself. What follows has a checksum of its own where it matters (package wire), and those of TCP or TLS below.
func sum(b []byte) uint32 {
	c := crc32.Update(0, castagnoli, b[:52])
	return crc32.Update(c, castagnoli, b[56:HeadSize])
}

// Reasons for which a frame is refused.
var (
	ErrForeign  = errors.New("not a frame of vtpu")
	ErrProtocol = errors.New("another protocol version")
	ErrDamaged  = errors.New("damaged: wrong checksum of the head")
	ErrTooLarge = errors.New("claims more bytes than such a message can have")
	ErrChunk    = errors.New("chunks that don't fit together")
)

func parse(b []byte) (h Head, c chunk, err error) {
	if len(b) < HeadSize || [4]byte(b[:4]) != magic {
		return h, c, ErrForeign
	}
	if b[4] != Protocol {
		return h, c, ErrProtocol
	}
	le := binary.LittleEndian
	c = chunk{le.Uint32(b[52:]), le.Uint64(b[72:]), le.Uint64(b[80:]), le.Uint32(b[96:])}
	if sum(b) != c.crc {
		return h, c, ErrDamaged
	}
	h = Head{Kind: Kind(b[5]), Run: [16]byte(b[8:24]), Epoch: le.Uint64(b[24:]), From: le.Uint64(b[32:]), Step: int64(le.Uint64(b[40:])),
		Part: le.Uint32(b[48:]), Version: int64(le.Uint64(b[56:])), Message: le.Uint64(b[64:]), Base: int64(le.Uint64(b[88:]))}
	return h, c, nil
}

// piece is the size of the chunks of a message that does not go in one. A broker makes a sender wait a little after each that its receiver lags behind
// with; after few large ones it would cut the receiver off instead.
const piece = 512 << 10

// Send publishes a message. buf begins with HeadSize bytes of room for the head; what follows is the body. The body is whole again when Send
// returns, but must not be used while it runs. It returns the bytes that went out.
func Send(b Bus, subject string, h *Head, buf []byte) (sent int, err error) {
	size := b.MaxPayload() - HeadSize
	if size < 1 || len(buf) < HeadSize {
		return 0, fmt.Errorf("link: largest message %d, buffer %d bytes; a head takes %d", b.MaxPayload(), len(buf), HeadSize)
	}
	body := len(buf) - HeadSize
	if body > size {
		size = min(size, piece-HeadSize)
	}
	c := chunk{total: uint64(body), size: uint32(size)}
	var kept [HeadSize]byte
	for at := 0; at == 0 || at < body; at += size {
		n := min(size, body-at)
		c.offset, c.crc = uint64(at), 0
		data := buf[at : at+HeadSize+n] // the head lies over the end of the chunk before, which is on its way
		copy(kept[:], data)
		put(data, h, c)
		binary.LittleEndian.PutUint32(data[52:], sum(data))
		err := b.Publish(subject, data)
		copy(data, kept[:])
		if err != nil {
			return sent, err
		}
		sent += len(data)
	}
	return sent, nil
}

// keep is how many bytes of buffers an Assembler keeps, if more than one buffer.
const keep = 256 << 20

// An Assembler puts chunks together again. Its memory is bounded whatever arrives. It is used by one goroutine, but for Release.
type Assembler struct {
	// Limit is the largest body of a message of a kind in bytes; 0 refuses the kind.
	Limit func(Kind) int
	// Open is the largest number of messages in the making; the oldest gives way.
	Open int

	open []*partial // oldest first

	mu   sync.Mutex
	free [][]byte
}

type partial struct {
	head    Head
	total   uint64
	size    uint32
	missing int
	have    []uint64
	body    []byte
}

// Add takes a chunk. body is not nil when it completes a message: it may be the end of data, or a buffer that Release takes back.
func (a *Assembler) Add(data []byte) (h Head, body []byte, err error) {
	h, c, err := parse(data)
	if err != nil {
		return h, nil, err
	}
	limit := a.Limit(h.Kind)
	if limit == 0 {
		return h, nil, ErrForeign
	}
	if c.total > uint64(limit) {
		return h, nil, ErrTooLarge
	}
	piece := data[HeadSize:]
	if c.offset == 0 && uint64(len(piece)) == c.total {
		return h, piece[:len(piece):len(piece)], nil
	}
	size := uint64(c.size)
	if size == 0 || c.offset%size != 0 || c.offset >= c.total || uint64(len(piece)) != min(size, c.total-c.offset) {
		return h, nil, ErrChunk
	}
	p := a.find(&h, c)
	if p == nil {
		return h, nil, ErrChunk
	}
	i := c.offset / size
	if p.have[i/64]&(1<<(i%64)) != 0 {
		return h, nil, nil // twice
	}
	p.have[i/64] |= 1 << (i % 64)
	copy(p.body[c.offset:], piece)
	if p.missing--; p.missing > 0 {
		return h, nil, nil
	}
	for k := range a.open {
		if a.open[k] == p {
			a.open = append(a.open[:k], a.open[k+1:]...)
			break
		}
	}
	return h, p.body, nil
}

func (a *Assembler) find(h *Head, c chunk) *partial {
	for _, p := range a.open {
		if p.head.From == h.From && p.head.Message == h.Message {
			if p.head != *h || p.total != c.total || p.size != c.size {
				return nil
			}
			return p
		}
	}
	if len(a.open) >= max(a.Open, 1) {
		a.Release(a.open[0].body)
		a.open = append(a.open[:0], a.open[1:]...)
	}
	n := int((c.total + uint64(c.size) - 1) / uint64(c.size))
	p := &partial{head: *h, total: c.total, size: c.size, missing: n, have: make([]uint64, (n+63)/64), body: a.buffer(int(c.total))}
	a.open = append(a.open, p)
	return p
}

func (a *Assembler) buffer(n int) []byte {
	a.mu.Lock()
	defer a.mu.Unlock()
	for i, b := range a.free {
		if cap(b) >= n {
			a.free = append(a.free[:i], a.free[i+1:]...)
			return b[:n]
		}
	}
	return make([]byte, n)
}

// Release gives a body back. It must not be used any more.
func (a *Assembler) Release(body []byte) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if body == nil || len(a.free) >= max(a.Open, 1) {
		return
	}
	a.free = append(a.free, body)
	n := 0
	for _, b := range a.free {
		n += cap(b)
	}
	for n > keep && len(a.free) > 1 {
		n -= cap(a.free[0])
		a.free = append(a.free[:0], a.free[1:]...)
	}
}
