#!/usr/bin/python3
"""Read a recorded stream of vTPU with msgpack and numpy alone, as the documentation of stages/wire describes it.

    read_stream.py runs/names-1/stream        prints a JSON line for each frame: kind, step, part, loss, and the name, shape and sum of each tensor
"""
import glob, json, os, struct, sys
import msgpack, numpy

HEADER = struct.Struct("<4sBBBBIIQQQIIQII")
KINDS = ["", "open", "inputs", "gradients", "work", "weights", "edge", "example", "step", "close", "control"]
TABLE = []
for i in range(256):
    for _ in range(8):
        i = i >> 1 ^ (0x82F63B78 if i & 1 else 0)
    TABLE.append(i)


def crc32c(b):
    """CRC-32C, RFC 3720."""
    c = 0xFFFFFFFF
    for x in b:
        c = TABLE[(c ^ x) & 255] ^ c >> 8
    return c ^ 0xFFFFFFFF


def up(n):
    return (n + 63) // 64 * 64


def frames(directory, check=True):
    """The frames of a stream: (kind, metadata, [(name, role, array)])."""
    seq, prev = None, None
    for name in sorted(glob.glob(os.path.join(directory, "*.rec"))):
        data = open(name, "rb").read()
        at = 0
        while at < len(data):
            head = data[at:at + 64]
            magic, version, kind, flags, _, m, n, d, raw, number, before, body, _, _, crc = HEADER.unpack(head)
            if magic != b"vTPU" or version != 1 or flags != 0:
                raise ValueError(f"{name}: no plain frame at {at}")
            end = at + 64 + up(m) + d
            if check and (crc32c(head[:60]) != crc or crc32c(data[at + 64:end]) != body or seq not in (None, number) or prev not in (None, before)):
                raise ValueError(f"{name}: damaged at {at}")
            seq, prev = number + 1, crc
            meta = msgpack.unpackb(data[at + 64:at + 64 + m])
            tensors, p = [], at + 64 + up(m)
            for tensor, role, dtype, *shape in meta["tensors"]:
                size = int(numpy.prod(shape, dtype=numpy.int64))
                values = numpy.frombuffer(data, "<i4" if dtype else "<f4", size, p).reshape(shape)
                tensors.append((tensor, role, values))
                p += up(4 * size)
            yield KINDS[kind], meta, tensors
            at = end


if __name__ == "__main__":
    for kind, meta, tensors in frames(sys.argv[1]):
        sums = [[name, list(v.shape), float(v.astype("f8").sum())] for name, _, v in tensors]
        print(json.dumps({"kind": kind, "step": meta["step"], "part": meta["part"], "loss": meta["loss"], "tensors": sums}))
