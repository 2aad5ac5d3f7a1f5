"""First losses of four presets in PyTorch, from vtpu's initial weights and batches.

    go test ./pipelines -run PyTorch -args -dump /tmp/peers
    python3 bench/pytorch.py /tmp/peers > pipelines/testdata/pytorch.json

Needs python3-torch and python3-numpy. The models are written with PyTorch's own layers and optimizers where it has them.
"""
import json
import math
import sys

import numpy as np
import torch
import torch.nn.functional as F

torch.set_num_threads(1)
STEPS = 10


def load(path):
    z = np.load(path)
    w = {k[2:]: torch.tensor(z[k]).requires_grad_() for k in z.files if k.startswith("w.")}
    batch = lambda k, s: torch.tensor(z[f"{k}{s}"])
    return w, batch


def train(w, batch, loss, opt, rate=None):
    out = []
    for s in range(STEPS):
        if rate:
            for g in opt.param_groups:
                g["lr"] = rate(s)
        l = loss(w, batch("x", s), batch("y", s))
        opt.zero_grad()
        l.backward()
        opt.step()
        out.append(l.item())
    return out


def linear(path):
    w, b = load(path)
    loss = lambda w, x, y: F.mse_loss(F.linear(x, w["dense.weight"], w["dense.bias"]), y)
    return train(w, b, loss, torch.optim.SGD(w.values(), lr=0.02))


def attention(path):
    w, b = load(path)

    def loss(w, x, y):
        q, k, v = F.linear(x, w["attention.qkv"]).chunk(3, -1)
        a = torch.softmax(q @ k.transpose(1, 2) / math.sqrt(q.shape[-1]), -1)
        return F.mse_loss(a @ v, y)

    return train(w, b, loss, torch.optim.Adam(w.values(), lr=1e-2))


def digits(path):
    w, b = load(path)

    def loss(w, x, y):
        h = F.relu(F.linear(x, w["dense.weight"], w["dense.bias"]))
        return F.cross_entropy(F.linear(h, w["dense2.weight"], w["dense2.bias"]), y.long())

    groups = [{"params": [p for p in w.values() if p.dim() > 1], "weight_decay": 0.01},
              {"params": [p for p in w.values() if p.dim() == 1], "weight_decay": 0.0}]
    # Warm-up of 50 steps, as nanoGPT: the cosine begins after the steps that are pinned.
    return train(w, b, loss, torch.optim.AdamW(groups, lr=2e-3), lambda s: 2e-3 * (s + 1) / 51)


def names(path):
    w, b = load(path)
    norm = lambda x: x / torch.sqrt((x * x).mean(-1, keepdim=True) + 1e-5)

    def loss(w, x, y):
        x, y = x.long(), y.long()
        B, T = x.shape
        h = norm(w["embed.weight"][x] + w["embed.positions"][:T])
        q, k, v = (t.view(B, T, 4, 4).transpose(1, 2) for t in F.linear(norm(h), w["attention.qkv"]).chunk(3, -1))
        a = q @ k.transpose(2, 3) / math.sqrt(4)
        a = a.masked_fill(torch.triu(torch.ones(T, T, dtype=torch.bool), 1), float("-inf"))
        c = (torch.softmax(a, -1) @ v).transpose(1, 2).reshape(B, T, 16)
        h = h + F.linear(c, w["attention.proj"])
        h = h + F.linear(F.relu(F.linear(norm(h), w["dense.weight"])), w["dense2.weight"])
        z = F.linear(h, w["dense3.weight"])
        return F.cross_entropy(z.view(-1, z.shape[-1]), y.view(-1), ignore_index=-1)

    return train(w, b, loss, torch.optim.Adam(w.values(), lr=0.01, betas=(0.85, 0.99), eps=1e-8), lambda s: 0.01 * (1 - s / 1000))


if __name__ == "__main__":
    d = sys.argv[1]
    losses = {f.__name__: f(f"{d}/{f.__name__}.npz") for f in (linear, attention, digits, names)}
    json.dump({"torch": torch.__version__, "losses": losses}, sys.stdout, indent=1)
    print()
