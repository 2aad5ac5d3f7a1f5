"""Judges the preset shakespeare by nanoGPT's own model: the validation loss that its code gives for weights of vTPU's, or for a checkpoint of its own.

    git clone https://github.com/karpathy/nanoGPT
    DATA=input.txt vtpu run shakespeare --out run && vtpu export run w.npz
    python3 bench/nanogpt.py nanoGPT input.txt w.npz

Its own training, for comparison: its README's recipe for CPUs (python train.py config/train_shakespeare_char.py --device=cpu --compile=False --eval_iters=200
--block_size=64 --batch_size=12 --n_layer=4 --n_head=4 --n_embd=128 --max_iters=2000 --lr_decay_iters=2000 --dropout=0.0), then
python3 bench/nanogpt.py nanoGPT input.txt nanoGPT/out-shakespeare-char/ckpt.pt
"""
import sys

import numpy as np
import torch

BLOCK, BATCH = 64, 12


def weights(model, path):
    """vTPU's weights under nanoGPT's names; both keep a dense layer as (out, in)."""
    ours = np.load(path)
    names = {"transformer.wte": "embed.weight", "lm_head": "embed.weight", "transformer.wpe": "embed.positions", "transformer.ln_f": "layernorm.weight"}
    for i in range(4):
        for theirs, name in (("ln_1", "layernorm.weight"), ("ln_2", "layernorm2.weight"), ("attn.c_attn", "attention.qkv"), ("attn.c_proj", "attention.proj"),
                             ("mlp.c_fc", "dense.weight"), ("mlp.c_proj", "dense2.weight")):
            names[f"transformer.h.{i}.{theirs}"] = f"h{i}.{name}"
    with torch.no_grad():
        for name, p in model.named_parameters():
            v = ours[names[name.removesuffix(".weight")]]
            assert v.shape == tuple(p.shape), f"{name}: {v.shape}, want {tuple(p.shape)}"
            p.copy_(torch.from_numpy(v))


def main():
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    repo, text, path = sys.argv[1:]
    sys.path.insert(0, repo)
    from model import GPT, GPTConfig
    with open(text) as f:
        text = f.read()
    chars = {c: i for i, c in enumerate(sorted(set(text)))}
    valid = torch.tensor([chars[c] for c in text[int(len(text) * 0.9):]])
    if path.endswith(".pt"):
        saved = torch.load(path, map_location="cpu")
        model = GPT(GPTConfig(**saved["model_args"]))
        model.load_state_dict(saved["model"])
    else:
        model = GPT(GPTConfig(block_size=BLOCK, vocab_size=len(chars), n_layer=4, n_head=4, n_embd=128, dropout=0.0, bias=False))
        weights(model, path)
    model.eval()
    torch.manual_seed(1337)
    with torch.no_grad():
        some = 0.0
        for _ in range(200):
            at = torch.randint(len(valid) - BLOCK, (BATCH,))
            x, y = (torch.stack([valid[i + d:i + d + BLOCK] for i in at]) for d in (0, 1))
            some += model(x, y)[1].item() / 200
        n = (len(valid) - 1) // BLOCK * BLOCK
        x, y = valid[:n].view(-1, BLOCK), valid[1:n + 1].view(-1, BLOCK)
        every = sum(model(a, b)[1].item() * a.numel() for a, b in zip(x.split(64), y.split(64))) / n
    print(f"validation loss {some:.4f} over 200 random batches, {every:.4f} over all blocks")


if __name__ == "__main__":
    main()
