"""Files as NumPy writes them, for the tests of stages/tensorfile and for programs that read vTPU's exports.

    python3 bench/numpy_files.py write stages/tensorfile/testdata   # arrays of all kinds, and what they should read as
    python3 bench/numpy_files.py read model.safetensors model.npz   # what NumPy finds in files that vTPU wrote

Needs python3-numpy and nothing else; safetensors is read and written from its description (github.com/huggingface/safetensors, "Format").
"""
import gzip
import hashlib
import io
import json
import os
import struct
import sys

import numpy as np

KINDS = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1", "U8": "u1", "BOOL": "?"}


def read_safetensors(path):
    b = open(path, "rb").read()
    (n,) = struct.unpack("<Q", b[:8])
    head, data = json.loads(b[8 : 8 + n]), b[8 + n :]
    assert (8 + n) % 8 == 0, "the data should begin at a multiple of 8"
    meta, out, end = head.pop("__metadata__", {}), {}, 0
    assert all(isinstance(v, str) for v in meta.values())
    for name, t in sorted(head.items(), key=lambda i: i[1]["data_offsets"]):
        lo, hi = t["data_offsets"]
        assert lo == end, f"{name} begins at {lo}, want {end}"
        out[name] = np.frombuffer(data[lo:hi], KINDS[t["dtype"]]).reshape(t["shape"])
        end = hi
    assert end == len(data), "bytes are left over"
    return out, meta


def write_safetensors(path, arrays, meta):
    kinds = {np.dtype(v): k for k, v in KINDS.items()}
    head, data = {"__metadata__": meta}, b""
    for name, a in arrays.items():
        b = np.ascontiguousarray(a).tobytes()
        head[name] = {"dtype": kinds[a.dtype], "shape": list(a.shape), "data_offsets": [len(data), len(data) + len(b)]}
        data += b
    h = json.dumps(head).encode()
    h += b" " * (-len(h) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(h)) + h + data)


def load(path):
    if path.endswith(".safetensors"):
        return read_safetensors(path)[0]
    z = np.load(path, allow_pickle=False)
    return {k: z[k] for k in z.files}


def read(paths):
    """Prints each array and, a line a file, the SHA-256 over all of them sorted by name: vTPU's weights_sha256 where there is no state among them."""
    for path in paths:
        h = hashlib.sha256()
        for name, a in sorted(load(path).items()):
            h.update(np.ascontiguousarray(a, a.dtype.newbyteorder("<")).tobytes())
            print(json.dumps({"event": "array", "file": path, "name": name, "dtype": a.dtype.name, "shape": list(a.shape)}))
        print(json.dumps({"event": "file", "file": path, "sha256": h.hexdigest()}))


def double(src, out):
    """Writes the weights of a file times two in other kinds of files, as other tools would."""
    w = {k: v * np.float32(2) for k, v in load(src).items()}
    np.savez(os.path.join(out, "double.npz"), **w)
    np.savez_compressed(os.path.join(out, "packed.npz"), **{k: np.asfortranarray(v.astype(">f8")) for k, v in w.items()})
    write_safetensors(os.path.join(out, "double.safetensors"), dict(reversed(sorted(w.items()))), {"format": "np"})


def write(out):
    rng = np.random.default_rng(7)
    want = {}

    def npy(name, a, version=None):
        with open(os.path.join(out, name + ".npy"), "wb") as f:
            np.lib.format.write_array(f, a, version=version, allow_pickle=False)
        want[name + ".npy"] = {"dtype": "float32" if a.dtype.kind == "f" else "int32", "shape": list(a.shape), "values": a.astype(float).ravel().tolist()}

    for kind in ("<f2", "<f4", ">f4", "<f8", ">f8"):
        npy("f_" + kind.replace("<", "l").replace(">", "b"), (rng.integers(-64, 64, (2, 3)) / 16).astype(kind))
    for kind in ("|i1", "|u1", "<i2", ">i2", "<u2", "<i4", ">i4", "<u4", "<i8", ">i8", "<u8"):
        lo = 0 if "u" in kind else -100
        npy("i_" + kind.replace("<", "l").replace(">", "b").replace("|", ""), rng.integers(lo, 100, (5,)).astype(kind))
    npy("bool", np.array([True, False, True]))
    npy("scalar", np.array(2.5, "<f4"))
    npy("empty", np.zeros((0, 3), "<f4"))
    npy("fortran", np.asfortranarray(np.arange(24, dtype="<f4").reshape(2, 3, 4)))
    npy("version2", np.arange(4, dtype="<f4"), (2, 0))
    npy("version3", np.arange(4, dtype="<i4"), (3, 0))
    parts = {"a": np.arange(6, dtype="<f4").reshape(2, 3), "h0.dense.weight": np.arange(3, dtype="<f8")}
    np.savez(os.path.join(out, "plain.npz"), **parts)
    np.savez_compressed(os.path.join(out, "packed.npz"), **parts)
    write_safetensors(os.path.join(out, "numpy.safetensors"), {"b": np.arange(4, dtype="<f2"), "a": np.arange(6, dtype="<i8").reshape(3, 2)}, {"format": "np"})
    images = rng.integers(0, 256, (2, 3, 4)).astype("u1")
    idx = bytes([0, 0, 8, 3]) + struct.pack(">3I", 2, 3, 4) + images.tobytes()
    open(os.path.join(out, "images.idx"), "wb").write(idx)
    g = io.BytesIO()
    with gzip.GzipFile(fileobj=g, mode="wb", mtime=0) as f:
        f.write(idx)
    open(os.path.join(out, "images.idx.gz"), "wb").write(g.getvalue())
    want["images.idx"] = want["images.idx.gz"] = {"dtype": "int32", "shape": [2, 3, 4], "values": images.astype(float).ravel().tolist()}
    with open(os.path.join(out, "want.json"), "w") as f:
        json.dump(want, f, indent=None, separators=(",", ":"))


if len(sys.argv) > 2 and sys.argv[1] == "read":
    read(sys.argv[2:])
elif len(sys.argv) == 4 and sys.argv[1] == "double":
    double(sys.argv[2], sys.argv[3])
elif len(sys.argv) == 3 and sys.argv[1] == "write":
    write(sys.argv[2])
else:
    sys.exit(__doc__)
