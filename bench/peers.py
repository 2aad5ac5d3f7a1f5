"""The peers in Python: the works of pipelines/works with plain Python, NumPy and PyTorch.

    peers.py python|numpy|torch|torch-sparse --threads N [--text FILE] [--names FILE]
    peers.py check      the same works in two of them must have the same losses
    peers.py check-c PROGRAM        gradients and weights of c/gpt.c, built as PROGRAM, against PyTorch's
    peers.py judge --text FILE      the validation loss that PyTorch reaches with W4 in 2000 steps, as nanoGPT estimates it: what preset shakespeare is held to
    peers.py judge --text FILE --weights W.safetensors      the same of weights that vtpu export wrote of a run of preset shakespeare, by PyTorch's model

Reads lines "WORK STEPS", does so many steps of the work, and answers each with one line {"seconds": ..., "loss": ...}, the time by a monotonic clock
around the loop. The state of a work is kept until another work is asked for, or until its run ends (W5).

A step is what a user would write: batch, forward, loss, backward, update. Batches are slices of an array, in order, without a loader's cost.
"""
import argparse
import json
import math
import os
import platform
import random
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ALPHABET = "\n !$&',-.3:;?ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
NAMES = os.path.join(HERE, "..", "pipelines", "data", "names.txt")
FOREVER = 1 << 40  # steps of a schedule: rates stay at their beginning
RUN = 1000  # steps of W5, after which it begins anew, outside of the time

# Data and first weights, the same for all peers.


def arrays(seed):
    import numpy as np
    r = np.random.RandomState(seed)
    return lambda *shape, std=1.0: (r.standard_normal(shape) * std).astype(np.float32)


def w2_data():
    """Ten batches of 32 and a layer 1024 to 1."""
    a = arrays(2)
    x, w = a(320, 1024), a(1024, std=1 / 32)
    return x, x @ w, a(1024, std=0.01)


def w3_data():
    """64 sequences, the output of a teacher's head, and first weights of query, key and value."""
    import numpy as np
    a = arrays(3)
    x, teacher = a(64, 64, 64), a(192, 64, std=1 / 8)
    q, k, v = np.split(x @ teacher.T, 3, -1)
    s = q @ k.transpose(0, 2, 1) / 8
    e = np.exp(s - s.max(-1, keepdims=True))
    return x, ((e / e.sum(-1, keepdims=True)) @ v).astype(np.float32), a(192, 64, std=1 / 8)


def w7_data():
    import numpy as np
    a = arrays(7)
    y = np.random.RandomState(8).randint(0, 10, 4096)
    return a(10, 784)[y] * 0.5 + a(4096, 784, std=0.5), y, a(128, 784, std=1 / 28), a(10, 128, std=1 / 11)


def w5_names(path):
    """Names as numbers, between two marks: a-z are 0..25, the mark is 26; at most 16 predictions."""
    with open(path) as f:
        names = [line.strip() for line in f if line.strip()]
    docs = [([26] + [ord(c) - 97 for c in n] + [26])[:17] for n in names]
    random.Random(42).shuffle(docs)
    return docs


def w5_weights():
    r = random.Random(5)
    shapes = dict(wte=(27, 16), wpe=(16, 16), wq=(16, 16), wk=(16, 16), wv=(16, 16), wo=(16, 16), w1=(64, 16), w2=(16, 64), head=(27, 16))
    return {k: [[r.gauss(0, 0.08) for _ in range(c)] for _ in range(n)] for k, (n, c) in shapes.items()}


def batches(n, size):
    """Starts of the batches of n examples, again and again."""
    while True:
        yield from range(0, n - size + 1, size)


# Each work is a function that returns a function: steps -> loss of the last step.


class Python:
    version = "Python " + platform.python_version()

    def W1(self, args):
        w = 0.0

        def run(steps):
            nonlocal w
            x, y, lr = 1.0, 3.0, 0.1
            loss = 0.0
            for _ in range(steps):
                d = w * x - y
                loss = d * d
                w -= lr * 2 * d * x
            return loss
        return run

    def W5(self, args):
        """Scalars that know where they come from: each result is put on a tape with its inputs and the derivatives by them."""
        weights = {k: [[Scalar(v) for v in row] for row in m] for k, m in w5_weights().items()}
        flat = [v for m in weights.values() for row in m for v in row]
        docs, m1, m2 = w5_names(args.names), [0.0] * len(flat), [0.0] * len(flat)
        done = 0

        def run(steps):
            nonlocal done
            for _ in range(steps):
                doc = docs[done % len(docs)]
                Scalar.tape = []
                loss = microgpt(weights, doc)
                loss.grad = 1.0
                for v in reversed(Scalar.tape):
                    g = v.grad
                    if g:
                        for u, d in v.of:
                            u.grad += d * g
                rate = 0.01 * (1 - done / RUN)
                done += 1
                c1, c2 = 1 - 0.85 ** done, 1 - 0.99 ** done
                for i, p in enumerate(flat):
                    g, p.grad = p.grad, 0.0
                    m1[i] = a = 0.85 * m1[i] + 0.15 * g
                    m2[i] = b = 0.99 * m2[i] + 0.01 * g * g
                    p.x -= rate * (a / c1) / (math.sqrt(b / c2) + 1e-8)
            return loss.x
        return run


class Scalar:
    __slots__ = ("x", "grad", "of")
    tape = []

    def __init__(self, x, of=()):
        self.x, self.grad, self.of = x, 0.0, of
        if of:
            Scalar.tape.append(self)

    def __add__(self, b):
        return Scalar(self.x + b.x, ((self, 1.0), (b, 1.0)))

    def __mul__(self, b):
        return Scalar(self.x * b.x, ((self, b.x), (b, self.x)))

    def times(self, c):
        return Scalar(self.x * c, ((self, c),))

    def plus(self, c):
        return Scalar(self.x + c, ((self, 1.0),))

    def exp(self):
        e = math.exp(self.x)
        return Scalar(e, ((self, e),))

    def log(self):
        return Scalar(math.log(self.x), ((self, 1 / self.x),))

    def power(self, p):
        return Scalar(self.x ** p, ((self, p * self.x ** (p - 1)),))

    def relu(self):
        return Scalar(self.x, ((self, 1.0),)) if self.x > 0 else Scalar(0.0, ((self, 0.0),))


def total(terms):
    s = terms[0]
    for t in terms[1:]:
        s = s + t
    return s


def microgpt(w, doc):
    """The mean loss of a document, token by token: keys and values of the tokens before are kept."""
    linear = lambda m, x: [total([a * b for a, b in zip(row, x)]) for row in m]
    add = lambda a, b: [p + q for p, q in zip(a, b)]

    def norm(x):
        r = total([v * v for v in x]).times(1 / len(x)).plus(1e-5).power(-0.5)
        return [v * r for v in x]

    def softmax(x):
        top = max(v.x for v in x)
        e = [v.plus(-top).exp() for v in x]
        r = total(e).power(-1)
        return [v * r for v in e]

    keys, values, losses = [], [], []
    for t in range(len(doc) - 1):
        x = norm(add(w["wte"][doc[t]], w["wpe"][t]))
        n = norm(x)
        q = linear(w["wq"], n)
        keys.append(linear(w["wk"], n))
        values.append(linear(w["wv"], n))
        out = []
        for h in range(0, 16, 4):
            att = softmax([total([q[h + j] * k[h + j] for j in range(4)]).times(0.5) for k in keys])
            out += [total([a * v[h + j] for a, v in zip(att, values)]) for j in range(4)]
        x = add(x, linear(w["wo"], out))
        x = add(x, linear(w["w2"], [v.relu() for v in linear(w["w1"], norm(x))]))
        losses.append(softmax(linear(w["head"], x))[doc[t + 1]].log().times(-1))
    return total(losses).times(1 / len(losses))


class NumPy:
    def __init__(self):
        import numpy
        self.version = "NumPy " + numpy.__version__

    def W1(self, args):
        import numpy as np
        w, x, y = np.zeros(1, np.float32), np.ones(1, np.float32), np.full(1, 3, np.float32)

        def run(steps):
            nonlocal w
            for _ in range(steps):
                d = w * x - y
                loss = d @ d
                w -= np.float32(0.2) * d * x
            return float(loss)
        return run

    def W2(self, args):
        import numpy as np
        x, y, w = w2_data()
        b, at, lr = np.float32(0), batches(320, 32), np.float32(0.02)

        def run(steps):
            nonlocal w, b
            for _ in range(steps):
                i = next(at)
                xb = x[i:i + 32]
                d = xb @ w + b - y[i:i + 32]
                loss = d @ d / 32
                d *= np.float32(2 / 32)
                w -= lr * (d @ xb)
                b -= lr * d.sum()
            return float(loss)
        return run

    def W3(self, args):
        import numpy as np
        x, y, w = w3_data()
        m, v, at, done = np.zeros_like(w), np.zeros_like(w), batches(64, 16), 0

        def run(steps):
            nonlocal w, m, v, done
            for _ in range(steps):
                i = next(at)
                xb, yb = x[i:i + 16], y[i:i + 16]
                qkv = xb.reshape(-1, 64) @ w.T
                q, k, u = (p.reshape(16, 64, 64) for p in np.split(qkv, 3, 1))
                s = q @ k.transpose(0, 2, 1)
                s *= np.float32(1 / 8)
                s -= s.max(-1, keepdims=True)
                a = np.exp(s)
                a /= a.sum(-1, keepdims=True)
                d = a @ u - yb
                loss = np.mean(d * d)
                d *= np.float32(2 / d.size)
                du = a.transpose(0, 2, 1) @ d
                da = d @ u.transpose(0, 2, 1)
                ds = a * (da - (da * a).sum(-1, keepdims=True))
                ds *= np.float32(1 / 8)
                g = np.concatenate([p.reshape(-1, 64) for p in (ds @ k, ds.transpose(0, 2, 1) @ q, du)], 1).T @ xb.reshape(-1, 64)
                done += 1
                m += np.float32(0.1) * (g - m)
                v += np.float32(0.001) * (g * g - v)
                root = np.sqrt(v)
                root *= np.float32(1 / math.sqrt(1 - 0.999 ** done))
                root += np.float32(1e-8)
                w -= np.float32(1e-3 / (1 - 0.9 ** done)) * m / root
            return float(loss)
        return run

    def W7(self, args):
        import numpy as np
        x, y, w1, w2 = w7_data()
        b1, b2, at, rows, lr = np.zeros(128, np.float32), np.zeros(10, np.float32), batches(4096, 64), np.arange(64), np.float32(0.1)

        def run(steps):
            nonlocal w1, b1, w2, b2
            for _ in range(steps):
                i = next(at)
                xb, yb = x[i:i + 64], y[i:i + 64]
                h = np.maximum(xb @ w1.T + b1, 0)
                z = h @ w2.T + b2
                z -= z.max(1, keepdims=True)
                e = np.exp(z)
                s = e.sum(1, keepdims=True)
                loss = np.mean(np.log(s[:, 0]) - z[rows, yb])
                dz = e / s
                dz[rows, yb] -= 1
                dz *= np.float32(1 / 64)
                dh = dz @ w2
                dh *= h > 0
                w2 -= lr * (dz.T @ h)
                b2 -= lr * dz.sum(0)
                w1 -= lr * (dh.T @ xb)
                b1 -= lr * dh.sum(0)
            return float(loss)
        return run


class Torch:
    def __init__(self):
        import torch
        self.version = "PyTorch " + torch.__version__

    def train(self, opt, loss_of, clip=None, rate=None):
        """The loop of every work: zero_grad, forward, backward, step."""
        import torch
        done = 0
        params = [p for g in opt.param_groups for p in g["params"]]

        def run(steps):
            nonlocal done
            for _ in range(steps):
                if rate:
                    lr = rate(done)
                    for g in opt.param_groups:
                        g["lr"] = lr
                opt.zero_grad(set_to_none=True)
                loss = loss_of()
                loss.backward()
                if clip:
                    torch.nn.utils.clip_grad_norm_(params, clip)
                opt.step()
                done += 1
            return loss.item()
        return run

    def W1(self, args):
        import torch
        from torch import nn
        model, x, y = nn.Linear(1, 1, bias=False), torch.ones(1, 1), torch.full((1, 1), 3.0)
        with torch.no_grad():
            model.weight.zero_()
        return self.train(torch.optim.SGD(model.parameters(), lr=0.1), lambda: nn.functional.mse_loss(model(x), y))

    def W2(self, args):
        import torch
        from torch import nn
        x, y, w = map(torch.tensor, w2_data())
        y = y[:, None]
        model, at = nn.Linear(1024, 1), batches(320, 32)
        with torch.no_grad():
            model.weight.copy_(w)
            model.bias.zero_()

        def loss():
            i = next(at)
            return nn.functional.mse_loss(model(x[i:i + 32]), y[i:i + 32])
        return self.train(torch.optim.SGD(model.parameters(), lr=0.02), loss)

    def W3(self, args):
        import torch
        from torch import nn
        x, y, w = map(torch.tensor, w3_data())
        model, at = nn.Linear(64, 192, bias=False), batches(64, 16)
        with torch.no_grad():
            model.weight.copy_(w)

        def loss():
            i = next(at)
            q, k, v = model(x[i:i + 16]).chunk(3, -1)
            a = torch.softmax(q @ k.transpose(1, 2) * (1 / 8), -1)
            return nn.functional.mse_loss(a @ v, y[i:i + 16])
        return self.train(torch.optim.Adam(model.parameters(), lr=1e-3), loss)

    def W4(self, args):
        import torch
        ids = {c: i for i, c in enumerate(ALPHABET)}
        with open(args.text) as f:
            tokens = torch.tensor([ids[c] for c in f.read()])
        tokens, self.valid = tokens[:int(0.9 * len(tokens))], tokens[int(0.9 * len(tokens)):]
        self.model = model = gpt(vocab=65, positions=64, layers=4, heads=4, width=128, bias=False, gelu="none")
        opt = torch.optim.AdamW(groups(model, 0.1), lr=1e-3, betas=(0.9, 0.99))

        def rate(step):
            if step < 100:
                return 1e-3 * (step + 1) / 101
            return 1e-4 + 0.5 * (1 + math.cos(math.pi * (step - 100) / (args.steps - 100))) * 9e-4
        return self.train(opt, blocks(model, tokens, 12, 64), clip=1.0, rate=rate)

    def W5(self, args):
        import torch
        import torch.nn.functional as F
        w = {k: torch.tensor(m, requires_grad=True) for k, m in w5_weights().items()}
        docs = [torch.tensor(d) for d in w5_names(args.names)]
        mask = torch.triu(torch.full((16, 16), float("-inf")), 1)
        norm = lambda x: x * (x.pow(2).mean(-1, keepdim=True) + 1e-5).rsqrt()
        qkv = torch.cat([w.pop("wq"), w.pop("wk"), w.pop("wv")]).detach().requires_grad_()
        done = 0

        def loss():
            nonlocal done
            doc = docs[done % len(docs)]
            done += 1
            T = len(doc) - 1
            x = norm(w["wte"][doc[:-1]] + w["wpe"][:T])
            q, k, v = F.linear(norm(x), qkv).view(T, 3, 4, 4).permute(1, 2, 0, 3)
            a = torch.softmax(q @ k.transpose(1, 2) * 0.5 + mask[:T, :T], -1)
            x = x + F.linear((a @ v).transpose(0, 1).reshape(T, 16), w["wo"])
            x = x + F.linear(F.relu(F.linear(norm(x), w["w1"])), w["w2"])
            return F.cross_entropy(F.linear(x, w["head"]), doc[1:])
        opt = torch.optim.Adam([*w.values(), qkv], lr=0.01, betas=(0.85, 0.99), eps=1e-8)
        return self.train(opt, loss, rate=lambda step: 0.01 * (1 - step / RUN))

    def W7(self, args):
        import torch
        from torch import nn
        x, y, w1, w2 = map(torch.tensor, w7_data())
        model, at = nn.Sequential(nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 10)), batches(4096, 64)
        with torch.no_grad():
            for layer, w in ((model[0], w1), (model[2], w2)):
                layer.weight.copy_(w)
                layer.bias.zero_()

        def loss():
            i = next(at)
            return nn.functional.cross_entropy(model(x[i:i + 64]), y[i:i + 64])
        return self.train(torch.optim.SGD(model.parameters(), lr=0.1), loss)

    def W8(self, args):
        import torch
        with open(args.text, "rb") as f:
            tokens = torch.tensor(list(f.read()))
        model = gpt(vocab=50257, positions=1024, layers=12, heads=12, width=768, bias=True, gelu="tanh")
        assert sum(p.numel() for p in model.parameters()) == 124439808
        return self.train(torch.optim.AdamW(groups(model, 0.1), lr=3e-4, betas=(0.9, 0.95)), blocks(model, tokens, 4, 64))


class TorchSparse(Torch):
    def W6(self, args):
        import torch
        from torch import nn
        rows, width, tables, batch, pool = args.table_rows, 16, 26, 128, 2048
        bags = nn.ModuleList(nn.EmbeddingBag(rows, width, mode="sum", sparse=True, _weight=torch.full((rows, width), 0.001)) for _ in range(tables))
        mlp = lambda *sizes: [m for i, o in zip(sizes, sizes[1:]) for m in (nn.Linear(i, o), nn.ReLU())]
        bottom, top = nn.Sequential(*mlp(13, 512, 256, 64, 16)), nn.Sequential(*mlp(367, 512, 256), nn.Linear(256, 1))
        g = torch.Generator().manual_seed(6)
        dense = torch.randn(pool, batch, 13, generator=g)
        ids = torch.randint(rows, (pool, tables, batch), generator=g)
        click = torch.randint(2, (pool, batch, 1), generator=g).float()
        offsets, at = torch.arange(batch), batches(pool, 1)
        i, j = torch.tril_indices(tables + 1, tables + 1, -1)

        def loss():
            b = next(at)
            x = bottom(dense[b])
            u = torch.stack([x] + [bag(k, offsets) for bag, k in zip(bags, ids[b])], 1)
            dots = torch.bmm(u, u.transpose(1, 2))[:, i, j]
            return nn.functional.binary_cross_entropy_with_logits(top(torch.cat([x, dots], 1)), click[b])
        params = [p for m in (bags, bottom, top) for p in m.parameters()]
        return self.train(torch.optim.SGD(params, lr=0.1), loss)


def gpt(vocab, positions, layers, heads, width, bias, gelu):
    """A GPT with pre-norm blocks and a head tied to the embedding; weights from N(0, 0.02), those before a residual at 0.02/√(2·layers)."""
    import torch
    from torch import nn
    F = nn.functional

    class Norm(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(width))
            self.bias = nn.Parameter(torch.zeros(width)) if bias else None

        def forward(self, x):
            return F.layer_norm(x, (width,), self.weight, self.bias, 1e-5)

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm1, self.norm2 = Norm(), Norm()
            self.qkv, self.proj = nn.Linear(width, 3 * width, bias=bias), nn.Linear(width, width, bias=bias)
            self.up, self.down = nn.Linear(width, 4 * width, bias=bias), nn.Linear(4 * width, width, bias=bias)

        def forward(self, x, future):
            B, T, _ = x.shape
            q, k, v = self.qkv(self.norm1(x)).view(B, T, 3, heads, width // heads).permute(2, 0, 3, 1, 4)
            a = q @ k.transpose(2, 3) * (1 / math.sqrt(width // heads))
            a = F.softmax(a.masked_fill(future[:T, :T], float("-inf")), -1)
            x = x + self.proj((a @ v).transpose(1, 2).reshape(B, T, width))
            return x + self.down(F.gelu(self.up(self.norm2(x)), approximate=gelu))

    class GPT(nn.Module):
        def __init__(self):
            super().__init__()
            self.tokens, self.positions = nn.Embedding(vocab, width), nn.Embedding(positions, width)
            self.blocks, self.norm = nn.ModuleList(Block() for _ in range(layers)), Norm()
            self.register_buffer("future", torch.ones(positions, positions, dtype=torch.bool).triu(1))
            for name, p in self.named_parameters():
                if p.dim() > 1:
                    small = name.endswith(("proj.weight", "down.weight"))
                    nn.init.normal_(p, 0, 0.02 / math.sqrt(2 * layers) if small else 0.02)
                elif name.endswith("bias"):
                    nn.init.zeros_(p)

        def forward(self, ids, targets):
            x = self.tokens(ids) + self.positions.weight[:ids.shape[1]]
            for b in self.blocks:
                x = b(x, self.future)
            z = F.linear(self.norm(x), self.tokens.weight)
            return F.cross_entropy(z.view(-1, vocab), targets.view(-1))

    return GPT()


def groups(model, decay):
    """Matrices decay, vectors don't."""
    ps = list(model.parameters())
    return [{"params": [p for p in ps if p.dim() > 1], "weight_decay": decay}, {"params": [p for p in ps if p.dim() < 2], "weight_decay": 0.0}]


def blocks(model, tokens, batch, block):
    """The loss of a batch of blocks at random places of a text."""
    import torch

    def loss():
        at = torch.randint(len(tokens) - block, (batch,)).tolist()
        x = torch.stack([tokens[i:i + block] for i in at])
        y = torch.stack([tokens[i + 1:i + 1 + block] for i in at])
        return model(x, y)
    return loss


PEERS = {"python": Python, "numpy": NumPy, "torch": Torch, "torch-sparse": TorchSparse}


def check(args):
    """Two peers with the same data and weights must go the same way."""
    bad = 0
    for work, a, b, steps in (("W1", Python, Torch, 20), ("W1", NumPy, Torch, 20), ("W2", NumPy, Torch, 25), ("W3", NumPy, Torch, 25),
                              ("W5", Python, Torch, 4), ("W7", NumPy, Torch, 25)):
        x, y = (getattr(peer(), work)(args)(steps) for peer in (a, b))
        far = abs(x - y) > 1e-4 * max(abs(x), abs(y))
        bad += far
        print(f"{work} after {steps} steps: {a.__name__} {x:.7g}, {b.__name__} {y:.7g}{'  DIFFERENT' if far else ''}")
    return bad


def check_c(args):
    """bench/c/gpt.c from the same weights and tokens: loss, each gradient, and each weight after three steps. Shapes that no block of rows divides."""
    import subprocess
    import tempfile
    import numpy as np
    import torch
    bad = 0
    for bias, gelu, clip, flags in ((False, "none", 0.5, []), (True, "tanh", 0.0, []), (False, "none", 0.5, ["--blas"]), (True, "tanh", 0.0, ["--blas"])):
        if flags and subprocess.run([args.program, "--blas", "--there"], capture_output=True).returncode:
            print("without OpenBLAS")
            continue
        batch, block, steps = 3, 7, 3
        model = gpt(vocab=37, positions=9, layers=2, heads=3, width=24, bias=bias, gelu=gelu)
        with torch.no_grad():
            for p in model.parameters():  # vectors begin as 0 or 1, which would hide a lot
                p += torch.randn_like(p) * 0.3
        begin = torch.cat([p.detach().flatten() for p in model.parameters()]).numpy()
        ids = torch.randint(37, (steps, 2, batch, block))
        with tempfile.NamedTemporaryFile() as f:
            np.array([37, 9, 2, 3, 24, bias, gelu == "tanh", batch, block], np.int32).tofile(f)
            np.array([1e-2, 0.9, 0.95, 0.1, clip], np.float32).tofile(f)
            np.array([steps], np.int32).tofile(f)
            begin.tofile(f)
            ids.numpy().astype(np.int32).tofile(f)
            f.flush()
            got = np.frombuffer(subprocess.run([args.program, "--steps", f.name, *flags], capture_output=True, check=True).stdout, np.float32)
        opt = torch.optim.AdamW(groups(model, 0.1), lr=1e-2, betas=(0.9, 0.95))
        for s in range(steps):
            opt.zero_grad()
            loss = model(ids[s, 0], ids[s, 1])
            loss.backward()
            if s == 0:
                first, grads = loss.item(), [p.grad.clone() for p in model.parameters()]
            if clip:
                assert torch.nn.utils.clip_grad_norm_(model.parameters(), clip) > clip
            opt.step()
        n = len(begin)
        assert len(got) == 1 + 2 * n
        worst = abs(got[0] - first) / first
        at = 0
        for (name, p), d in zip(model.named_parameters(), grads):
            for what, c, t in (("gradient", got[1 + at:][:p.numel()], d), ("weight", got[1 + n + at:][:p.numel()], p)):
                t = t.detach().flatten().numpy()
                if what == "weight" and name.endswith("qkv.bias"):  # the same for all keys changes no softmax: its gradient is 0 but for rounding, and Adam makes steps of that
                    c, t = np.delete(c, range(24, 48)), np.delete(t, range(24, 48))
                far = abs(c - t).max() / abs(t).max()
                worst = max(worst, far)
                if not far < 1e-4:
                    bad += 1
                    print(f"{what} of {name} is {far:.2g} off")
            at += p.numel()
        print(f"bias {bias}, gelu {gelu}, clip {clip} {' '.join(flags)}: loss {first:.6f}, furthest {worst:.2g}{'' if worst < 1e-4 else '  DIFFERENT'}")
        bad += not worst < 1e-4
    return bad


def validation(model, v):
    """The mean over 200 batches of 12 random blocks, as nanoGPT estimates it, and over all blocks one after another."""
    import torch
    with torch.no_grad():
        loss = blocks(model, v, 12, 64)
        some = sum(loss().item() for _ in range(200)) / 200
        x = v[:(len(v) - 1) // 64 * 64].view(-1, 64)
        y = v[1:x.numel() + 1].view(-1, 64)
        every = sum(model(a, b).item() * a.numel() for a, b in zip(x.split(64), y.split(64)))
    return {"validation_random": some, "validation_all": every / x.numel()}


def load(model, path):
    """Weights of vTPU's preset shakespeare, as vtpu export writes them, into PyTorch's model."""
    import numpy as np
    import torch
    with open(path, "rb") as f:
        data = f.read()
    n = int.from_bytes(data[:8], "little")
    head = {k: v for k, v in json.loads(data[8:8 + n]).items() if k != "__metadata__"}
    names = {"tokens.weight": "embed.weight", "positions.weight": "embed.positions", "norm.weight": "layernorm.weight"}
    for i in range(len(model.blocks)):
        for theirs, ours in (("norm1.weight", "layernorm.weight"), ("norm2.weight", "layernorm2.weight"), ("qkv.weight", "attention.qkv"), ("proj.weight", "attention.proj"),
                             ("up.weight", "dense.weight"), ("down.weight", "dense2.weight")):
            names[f"blocks.{i}.{theirs}"] = f"h{i}.{ours}"
    with torch.no_grad():
        for name, p in model.named_parameters():
            v = head.pop(names[name])
            assert v["dtype"] == "F32" and tuple(v["shape"]) == p.shape, f"{name}: {v}"
            from_, to = v["data_offsets"]
            p.copy_(torch.tensor(np.frombuffer(data[8 + n + from_:8 + n + to], "<f4").reshape(v["shape"])))
    assert not head, f"the model has no {sorted(head)}"


def judge(args):
    """W4 as a run of 2000 steps, or the weights of such a run of vTPU's."""
    args.steps = 2000
    peer = Torch()
    run = peer.W4(args)
    if args.weights:
        load(peer.model, args.weights)
        print(json.dumps(validation(peer.model, peer.valid)))
        return
    for done in range(0, args.steps, 250):
        last = run(250)
        print(json.dumps({"step": done + 250, "loss": last, **validation(peer.model, peer.valid)}), flush=True)


def main():
    p = argparse.ArgumentParser()
    p.add_argument("peer", choices=[*PEERS, "check", "check-c", "judge"])
    p.add_argument("program", nargs="?")
    p.add_argument("--weights")
    p.add_argument("--threads", type=int, default=1)
    p.add_argument("--text", default=NAMES)
    p.add_argument("--names", default=NAMES)
    p.add_argument("--table-rows", type=int, default=1000000)
    p.add_argument("--seed", type=int, default=1)
    args = p.parse_args()
    args.steps = FOREVER
    if args.peer != "python":
        for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
            os.environ.setdefault(name, str(args.threads))
    if args.peer.startswith("torch") or args.peer in ("check", "check-c", "judge"):
        import torch
        torch.manual_seed(args.seed)
        torch.set_num_threads(args.threads)
    if args.peer == "check":
        sys.exit(1 if check(args) else 0)
    if args.peer == "check-c":
        sys.exit(1 if check_c(args) else 0)
    if args.peer == "judge":
        sys.exit(judge(args))
    peer = PEERS[args.peer]()
    say = lambda **kw: print(json.dumps(kw), flush=True)
    say(version=peer.version)
    name, run = None, None
    for line in sys.stdin:
        work, steps = line.split()
        if work != name:
            make = getattr(peer, work, None)
            if make is None:
                say(error=f"{args.peer} has no {work}")
                continue
            run = None  # free it first
            name, run = work, make(args)
            left = RUN if work == "W5" else FOREVER
        seconds, steps = 0.0, int(steps)
        while steps:
            if not left:
                run, left = make(args), RUN
            n = min(steps, left)
            start = time.perf_counter()
            loss = run(n)
            seconds += time.perf_counter() - start
            steps, left = steps - n, left - n
        say(seconds=seconds, loss=loss)


if __name__ == "__main__":
    main()
