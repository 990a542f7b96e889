#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Times the training step of `retrain` in torch, for a model of SmolLM2-135M's shape unless told otherwise.

    python3 bench/torch_retrain.py --threads 2 --steps 5 [--bf16] [--compile]

A step is what `retrain --loss kl` does: the dense teacher forward, the student forward and backward through masked
weights with straight-through gradients, two thirds divergence from the teacher and one third cross-entropy, the norm
of the gradient clipped, AdamW on all weights (torch's fused one, without the decay of masked weights: less work than
AST's). Weights are random, which changes no time. Prints tokens/s of the median step after the first two.
"""
import argparse
import resource
import statistics
import time

import torch
import torch.nn.functional as F


class StraightThrough(torch.autograd.Function):
    """W * mask forward, the gradient unchanged backward."""

    @staticmethod
    def forward(ctx, weight, mask):
        return weight * mask

    @staticmethod
    def backward(ctx, gradient):
        return gradient, None


def nm_mask(weight, n=2, m=4):
    groups = weight.detach().abs().reshape(-1, m)
    kept = torch.zeros_like(groups)
    kept.scatter_(1, groups.topk(n, dim=1).indices, 1.0)
    return kept.reshape(weight.shape)


class Linear(torch.nn.Module):
    def __init__(self, inputs, outputs, masked):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.randn(outputs, inputs) / inputs**0.5)
        self.register_buffer("mask", nm_mask(self.weight) if masked else None)

    def forward(self, x):
        w = self.weight if self.mask is None else StraightThrough.apply(self.weight, self.mask)
        return F.linear(x, w)


def turn(x, cos, sin):
    a, b = x.chunk(2, -1)
    return x * cos + torch.cat((-b, a), -1) * sin


class Block(torch.nn.Module):
    def __init__(self, o, masked):
        super().__init__()
        self.heads, self.kv, self.dim = o.heads, o.kv_heads, o.width // o.heads
        self.norms = torch.nn.ParameterList([torch.ones(o.width), torch.ones(o.width)])
        kv = self.kv * self.dim
        self.q, self.k, self.v = (Linear(o.width, n, masked) for n in (o.width, kv, kv))
        self.out = Linear(o.width, o.width, masked)
        self.gate, self.up = Linear(o.width, o.ffn, masked), Linear(o.width, o.ffn, masked)
        self.down = Linear(o.ffn, o.width, masked)

    def forward(self, x, cos, sin):
        b, n, _ = x.shape
        y = F.rms_norm(x, x.shape[-1:], self.norms[0], 1e-5)
        q, k, v = (w(y).view(b, n, -1, self.dim).transpose(1, 2) for w in (self.q, self.k, self.v))
        y = F.scaled_dot_product_attention(turn(q, cos, sin), turn(k, cos, sin), v, is_causal=True, enable_gqa=True)
        x = x + self.out(y.transpose(1, 2).reshape(b, n, -1))
        y = F.rms_norm(x, x.shape[-1:], self.norms[1], 1e-5)
        return x + self.down(F.silu(self.gate(y)) * self.up(y))


class Model(torch.nn.Module):
    def __init__(self, o, masked):
        super().__init__()
        self.embedding = torch.nn.Parameter(torch.randn(o.vocab, o.width) * 0.02)
        self.blocks = torch.nn.ModuleList(Block(o, masked) for _ in range(o.layers))
        self.norm = torch.nn.Parameter(torch.ones(o.width))
        dim = o.width // o.heads
        angles = torch.outer(torch.arange(o.context), 1e5 ** (-torch.arange(0, dim, 2) / dim)).repeat(1, 2)
        self.register_buffer("cos", angles.cos())
        self.register_buffer("sin", angles.sin())

    def forward(self, ids):
        x = self.embedding[ids]
        for block in self.blocks:
            x = block(x, self.cos, self.sin)
        return F.linear(F.rms_norm(x, x.shape[-1:], self.norm, 1e-5), self.embedding)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    shape = {"layers": 30, "width": 576, "heads": 9, "kv-heads": 3, "ffn": 1536, "vocab": 49152, "context": 512,
             "batch": 4}
    for name, value in shape.items():
        p.add_argument(f"--{name}", type=int, default=value)
    p.add_argument("--steps", type=int, default=5)
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--bf16", action="store_true", help="autocast matrix products to bfloat16")
    p.add_argument("--compile", action="store_true", help="torch.compile the student and the teacher")
    o = p.parse_args()
    torch.set_num_threads(o.threads)
    torch.manual_seed(1)

    student, teacher = Model(o, masked=True), Model(o, masked=False).requires_grad_(False)
    optimizer = torch.optim.AdamW(student.parameters(), lr=1e-4, weight_decay=0, fused=True)
    run, teach = (torch.compile(m) if o.compile else m for m in (student, teacher))
    seconds = []
    for _ in range(o.steps + 2):
        ids = torch.randint(o.vocab, (o.batch, o.context + 1))
        begin = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=o.bf16):
            with torch.no_grad():
                target = F.log_softmax(teach(ids[:, :-1]).float() / 2, -1).flatten(0, 1)
            logits = run(ids[:, :-1]).float().flatten(0, 1)
        kl = F.kl_div(F.log_softmax(logits / 2, -1), target, reduction="batchmean", log_target=True) * 4
        loss = 2 / 3 * kl + 1 / 3 * F.cross_entropy(logits, ids[:, 1:].flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(student.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        seconds.append(time.perf_counter() - begin)
        assert loss.isfinite(), "the loss is no number: this timing means nothing"
    typical = statistics.median(seconds[2:])
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(f"torch {torch.__version__}: {o.batch * o.context / typical:.0f} tokens/s, {typical:.2f} s per step of "
          f"{o.batch} x {o.context} (smallest {min(seconds[2:]):.2f}), peak memory {memory / 1e9:.2f} GB")


if __name__ == "__main__":
    main()
