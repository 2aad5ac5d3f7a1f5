// Package wire turns messages into bytes and back: the frames of recorded streams, of journals and of links between processes. It is the only
// importer of msgpack.
//
// # The format, version 1
//
// A frame is a header of 64 bytes, metadata, and tensors. All numbers are little-endian, except within msgpack. Every section begins at a multiple of
// 64 bytes from the start of the frame and the whole frame is a multiple of 64 long, so that in a buffer, a file or a mapping that is aligned itself
// every tensor is aligned for vector loads and reading it is a view, not a copy.
//
//	offset  size
//	     0     4  magic, the bytes "vTPU"
//	     4     1  version, 1
//	     5     1  kind (Kind)
//	     6     1  flags: bit 0, the data is packed with zstd; all others 0
//	     7     1  0
//	     8     4  M, bytes of metadata without padding, 1 to 1,048,576
//	    12     4  N, number of tensors, at most 65,536
//	    16     8  D, bytes of data in the frame, padding included: a multiple of 64
//	    24     8  R, bytes of data once unpacked: a multiple of 64; D where it is not packed, at most 1024 P where it is
//	    32     8  sequence number in the stream, from 0
//	    40     4  CRC of the header of the frame before (its bytes 60 to 63); 0 for the first of a stream and where there is no stream
//	    44     4  CRC of the body: of all bytes of the frame from 64 on, padding included
//	    48     8  P, bytes of packed data without padding; 0 where the data is not packed
//	    56     4  0
//	    60     4  CRC of bytes 0 to 59
//	    64     M  metadata, msgpack
//	     …        zeros up to a multiple of 64
//	     …     D  data
//
// CRC is CRC-32C (Castagnoli; RFC 3720, appendix B.4), not inverted again. As the header covers the body's CRC and names that of the header before, one bit anywhere in a
// stream changes all that follows: frames that are flipped, cut, left out, doubled or put in another order are noticed.
//
// The metadata is one msgpack map with text keys. Integers have 9 bytes (d3), floats 9 (cb), so that a frame of a stream differs from the one before
// in place only. Keys that are missing stand for 0 or "". Unknown keys are an error: a reader must not pass over what it does not understand.
//
//	step, gathered, part, parts, first, rows, count, targets, hits, seen   integers: the message's Head, see stages.Head
//	loss       float
//	mode       integer: 0 train, 1 evaluate, 2 sample
//	skip       boolean
//	run        text, at most 256 bytes: the run that the frame belongs to
//	epoch      integer: a fence; of two writers of a run the one with the larger epoch is right
//	version    integer: version of the weights after the frame has been applied, or that work is to be done with
//	base       integer: version that a delta applies to; -1 in a snapshot
//	time       integer: nanoseconds since 1970, UTC
//	name       text, at most 4096 bytes; what it means is the kind's to say
//	raw        binary, up to the limit of the metadata; likewise
//	tensors    array of N arrays [name, role, dtype, dim, ...]
//
// A tensor's name is at most 4096 bytes of text; its role and dtype are one-byte integers (positive fixint), followed by at most 4 dimensions, each a
// 32-bit unsigned integer (ce). Role 0 is a plain value; role 1 are ids, an int32 vector of row numbers that belongs to the tensor after it; role 2 are
// the rows for the ids before it. dtype 0 is float32, 1 is int32. The tensors lie in the data in the same order, row-major, each padded with zeros to a
// multiple of 64 bytes. The unpacked data holds them and nothing else.
package wire
