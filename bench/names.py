#!/usr/bin/python3
"""The level of loss that microgpt reaches on names (W5): the mean over the last 200 of 1000 steps, by vTPU and by PyTorch.

    bench/names.py twin FILE --vtpu ./vtpu
                        vTPU learns the names of FILE, PyTorch from the same first weights through the same names; compares losses and last weights
    bench/names.py levels FILE --seeds 16 [--vtpu ./vtpu]
                        seeds 42, 43, ... by the Python original's recipe, drawn with Python's random as it does: the order of the names of FILE,
                        then the weights; and by vTPU

Needs python3-torch, python3-numpy, python3-msgpack.
"""
import argparse
import glob
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile

import numpy as np
import torch
import torch.nn.functional as F

STEPS, LAST = 1000, 200


def loss_of(w, doc):
    """Of a name between two marks. w: wte, wpe, qkv, wo, w1, w2, head."""
    T = len(doc) - 1
    norm = lambda x: x * (x.pow(2).mean(-1, keepdim=True) + 1e-5).rsqrt()
    x = norm(w["wte"][doc[:-1]] + w["wpe"][:T])
    q, k, v = F.linear(norm(x), w["qkv"]).view(T, 3, 4, 4).permute(1, 2, 0, 3)
    a = (q @ k.transpose(1, 2) * 0.5).masked_fill(torch.ones(T, T, dtype=torch.bool).triu(1), float("-inf"))
    x = x + F.linear((torch.softmax(a, -1) @ v).transpose(0, 1).reshape(T, 16), w["wo"])
    x = x + F.linear(F.relu(F.linear(norm(x), w["w1"])), w["w2"])
    return F.cross_entropy(F.linear(x, w["head"]), doc[1:])


def train(w, docs):
    """The losses; w is trained in place."""
    opt = torch.optim.Adam(w.values(), lr=0.01, betas=(0.85, 0.99), eps=1e-8)
    losses = []
    for step, doc in enumerate(docs):
        opt.param_groups[0]["lr"] = 0.01 * (1 - step / STEPS)
        loss = loss_of(w, doc)
        opt.zero_grad()
        loss.backward()
        opt.step()
        losses.append(loss.item())
    return losses


def level(losses):
    assert len(losses) == STEPS
    return sum(losses[-LAST:]) / LAST


def losses_of(run):
    with open(os.path.join(run, "metrics.jsonl")) as f:
        return [m["loss"] for m in map(json.loads, f) if m["event"] == "step"]


def checkpoint(run):
    """The tensors of the newest checkpoint: a safetensors file."""
    with open(sorted(glob.glob(os.path.join(run, "checkpoint-*.safetensors")))[-1], "rb") as f:
        data = f.read()
    n = int.from_bytes(data[:8], "little")
    head = json.loads(data[8:8 + n])
    return {k: np.frombuffer(data[8 + n:], "<f4", offset=v["data_offsets"][0], count=(v["data_offsets"][1] - v["data_offsets"][0]) // 4).reshape(v["shape"])
            for k, v in head.items() if k != "__metadata__" and v["dtype"] == "F32"}


NAMES = {"wte": "embed.weight", "wpe": "embed.positions", "qkv": "attention.qkv", "wo": "attention.proj", "w1": "dense.weight", "w2": "dense2.weight", "head": "dense3.weight"}


def learn(vtpu, path, run, seed, *args):
    subprocess.run([vtpu, "run", "names", "--set", f"data.path={os.path.abspath(path)}", "--set", f"seed={seed}", "--out", run, "--json", *args], check=True,
                   stdout=subprocess.DEVNULL)


def twin(path, vtpu, d):
    from read_stream import frames
    run, begin, docs = os.path.join(d, "run"), os.path.join(d, "begin"), []
    learn(vtpu, path, run, 42, "--record", "inputs")
    learn(vtpu, path, begin, 42, "--steps", "1", "--set", "stages.adam.lr=1e-30")  # a step that changes no weight: its checkpoint has the first ones
    first = checkpoint(begin)
    for kind, meta, tensors in frames(os.path.join(run, "stream")):
        if kind == "inputs":
            values = {name: v for name, _, v in tensors}
            docs.append(torch.tensor(np.append(values["x"], values["y"][0, -1])).long())
    for t in ("float32", "float64"):
        w = {k: torch.tensor(first[name].astype(t), requires_grad=True) for k, name in NAMES.items()}
        ours, theirs = losses_of(run), train(w, docs)
        far = [abs(a - b) for a, b in zip(ours, theirs)]
        last = checkpoint(run)
        weights = max(float(np.abs(w[k].detach().numpy() - last[name]).max()) for k, name in NAMES.items())
        print(f"vtpu {level(ours):.5f}, PyTorch {t} {level(theirs):.5f}; losses differ by {max(far[:100]):.2g} in 100 steps, {max(far):.2g} in all, last weights by {weights:.2g}")


def original(docs, seed):
    """Order and weights as the original draws them."""
    r = random.Random(seed)
    docs = list(docs)
    r.shuffle(docs)
    letters = sorted(set("".join(docs)))
    mark = len(letters)
    m = lambda n, c: torch.tensor([[r.gauss(0, 0.08) for _ in range(c)] for _ in range(n)])
    w = {k: m(n, 16) for k, n in (("wte", mark + 1), ("wpe", 16), ("head", mark + 1), ("wq", 16), ("wk", 16), ("wv", 16), ("wo", 16), ("w1", 64))}
    w["w2"] = m(16, 64)
    w["qkv"] = torch.cat([w.pop("wq"), w.pop("wk"), w.pop("wv")])
    tokens = [torch.tensor(([mark] + [letters.index(ch) for ch in d] + [mark])[:17]) for d in (docs[i % len(docs)] for i in range(STEPS))]
    return {k: v.requires_grad_() for k, v in w.items()}, tokens


def levels(path, seeds, vtpu):
    with open(path) as f:
        docs = [line.strip() for line in f if line.strip()]
    sides = {"original": lambda s: level(train(*original(docs, s)))}
    if vtpu:
        def ours(seed):
            with tempfile.TemporaryDirectory() as d:
                run = os.path.join(d, "run")
                learn(vtpu, path, run, seed)
                return level(losses_of(run))
        sides["vtpu"] = ours
    for name, f in sides.items():
        ls = [f(s) for s in range(42, 42 + seeds)]
        print(f"{name}: seed 42 {ls[0]:.4f}; {seeds} seeds: mean {statistics.mean(ls):.4f}, deviation {statistics.stdev(ls):.4f}, {min(ls):.4f} to {max(ls):.4f}")


def main():
    p = argparse.ArgumentParser()
    p.add_argument("what", choices=["twin", "levels"])
    p.add_argument("path")
    p.add_argument("--seeds", type=int, default=16)
    p.add_argument("--vtpu")
    args = p.parse_args()
    torch.set_num_threads(1)
    if args.what == "twin":
        if not args.vtpu:
            sys.exit("twin wants --vtpu")
        with tempfile.TemporaryDirectory() as d:
            twin(args.path, args.vtpu, d)
    elif args.seeds < 2:
        sys.exit("want at least 2 seeds")
    else:
        levels(args.path, args.seeds, args.vtpu)


if __name__ == "__main__":
    main()
