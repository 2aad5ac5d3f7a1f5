"""Weights after 1, 2 and 20 steps of PyTorch's optimizers in float64, and learning rates of its schedules, for update/update_test.go.

    python3 bench/optimizers.py > update/testdata/pytorch.json

Needs python3-torch. Lion, which torch.optim lacks, is written down from its paper. Weights and gradients are exact in float32, so that both sides start
from the same numbers.
"""
import json

import torch

torch.set_default_dtype(torch.float64)
STEPS, N = 20, 12


class Lion(torch.optim.Optimizer):
    """Chen et al. 2023, arXiv:2302.06675, Algorithm 2."""

    def __init__(self, params, lr, betas=(0.9, 0.99), weight_decay=0.0):
        super().__init__(params, dict(lr=lr, betas=betas, weight_decay=weight_decay))

    @torch.no_grad()
    def step(self):
        for g in self.param_groups:
            b1, b2 = g["betas"]
            for p in g["params"]:
                m = self.state[p].setdefault("m", torch.zeros_like(p))
                c = b1 * m + (1 - b1) * p.grad
                p -= g["lr"] * (torch.sign(c) + g["weight_decay"] * p)
                m.copy_(b2 * m + (1 - b2) * p.grad)


def first(i):
    return ((i * 37) % 23 - 11) / 8


def grad(t, i):
    return ((t * 31 + i * 17) % 29 - 14) / 16 + (1 / 64 if i % 3 == 0 else 0)


CASES = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1),
    "sgd, weight decay": lambda p: torch.optim.SGD(p, lr=0.1, weight_decay=0.05),
    "sgd, momentum": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
    "sgd, momentum, dampening": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.8, dampening=0.25),
    "sgd, nesterov, weight decay": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.05),
    "adam": lambda p: torch.optim.Adam(p, lr=0.01),
    "adam, weight decay": lambda p: torch.optim.Adam(p, lr=0.01, betas=(0.85, 0.99), eps=1e-6, weight_decay=0.11),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.01, betas=(0.9, 0.99), weight_decay=0.1),
    "adagrad": lambda p: torch.optim.Adagrad(p, lr=0.1),
    "adagrad, weight decay": lambda p: torch.optim.Adagrad(p, lr=0.1, weight_decay=0.05, eps=1e-3),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=0.01),
    "rmsprop, momentum, weight decay": lambda p: torch.optim.RMSprop(p, lr=0.01, alpha=0.9, eps=1e-4, momentum=0.5, weight_decay=0.05),
    "lion": lambda p: Lion(p, lr=0.01),
    "lion, weight decay": lambda p: Lion(p, lr=0.01, betas=(0.8, 0.95), weight_decay=0.1),
}


def optimizer(make):
    w = torch.tensor([first(i) for i in range(N)]).requires_grad_()
    opt = make([w])
    out = {}
    for t in range(STEPS):
        w.grad = torch.tensor([grad(t, i) for i in range(N)])
        opt.step()
        if t + 1 in (1, 2, STEPS):
            out[t + 1] = w.detach().tolist()
    return out


def rates(make, steps):
    w = torch.zeros(1).requires_grad_()
    opt = torch.optim.SGD([w], lr=0.5)
    s = make(opt)
    out = []
    for _ in range(steps):
        out.append(opt.param_groups[0]["lr"])
        opt.step()
        s.step()
    return out


S = torch.optim.lr_scheduler
SCHEDULES = {
    "linear to 0": lambda o: S.LinearLR(o, start_factor=1.0, end_factor=1e-300, total_iters=40),
    "linear to 0.1": lambda o: S.LinearLR(o, start_factor=1.0, end_factor=0.2, total_iters=40),
    "cosine to 0.1": lambda o: S.CosineAnnealingLR(o, T_max=40, eta_min=0.1),
    "step 7 by 0.5": lambda o: S.StepLR(o, step_size=7, gamma=0.5),
}

print(json.dumps({"torch": torch.__version__, "weights": {k: optimizer(v) for k, v in CASES.items()},
                  "rates": {k: rates(v, 40) for k, v in SCHEDULES.items()}}, indent=1))
