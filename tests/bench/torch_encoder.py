#!/usr/bin/env python3
"""The rival of bench_encoder: the same BERT in plain PyTorch, as its users write it.

    torch_encoder.py LAYERS HIDDEN HEADS full|lora SECONDS THREADS          16 sequences of 128, tokens per CPU second and per second
    torch_encoder.py --notes MODEL TRAIN EPOCHS THREADS                      real sentences, batches of 16 bucketed by length

AdamW, dropout 0.1, 9 labels; LoRA has rank 8 on query and value. Prints: tokens/CPU s, tokens/s, peak resident KiB.
"""
import json
import math
import os
import resource
import sys
import time

os.environ.setdefault("OMP_WAIT_POLICY", "passive")
import torch  # noqa: E402
from torch import nn  # noqa: E402
import torch.nn.functional as F  # noqa: E402


class LoRA(nn.Module):
    def __init__(self, base, rank=8, alpha=16):
        super().__init__()
        self.base, self.scale = base, alpha / rank
        self.a = nn.Parameter(torch.empty(rank, base.in_features).uniform_(-0.05, 0.05))
        self.b = nn.Parameter(torch.zeros(base.out_features, rank))

    def forward(self, x):
        return self.base(x) + (x @ self.a.T) @ self.b.T * self.scale


class Layer(nn.Module):
    def __init__(self, h, heads, inner, drop):
        super().__init__()
        self.heads, self.drop = heads, drop
        self.q, self.k, self.v, self.o = (nn.Linear(h, h) for _ in range(4))
        self.inner, self.out = nn.Linear(h, inner), nn.Linear(inner, h)
        self.n1, self.n2 = nn.LayerNorm(h, eps=1e-12), nn.LayerNorm(h, eps=1e-12)

    def forward(self, x, mask):
        b, t, h = x.shape
        q, k, v = (f(x).view(b, t, self.heads, -1).transpose(1, 2) for f in (self.q, self.k, self.v))
        p = q @ k.transpose(-1, -2) / math.sqrt(h // self.heads)
        if mask is not None:
            p = p + mask
        p = F.dropout(F.softmax(p, -1), self.drop, self.training)
        c = (p @ v).transpose(1, 2).reshape(b, t, h)
        x = self.n1(x + F.dropout(self.o(c), self.drop, self.training))
        return self.n2(x + F.dropout(self.out(F.gelu(self.inner(x))), self.drop, self.training))


class Bert(nn.Module):
    def __init__(self, layers, h, heads, inner, vocabulary=30522, positions=512, labels=9, drop=0.1):
        super().__init__()
        self.drop = drop
        self.word, self.position, self.segment = nn.Embedding(vocabulary, h), nn.Embedding(positions, h), nn.Embedding(2, h)
        self.norm = nn.LayerNorm(h, eps=1e-12)
        self.layers = nn.ModuleList(Layer(h, heads, inner, drop) for _ in range(layers))
        self.classifier = nn.Linear(h, labels)

    def forward(self, ids, mask=None):
        t = ids.shape[1]
        x = self.word(ids) + self.position.weight[:t] + self.segment.weight[0]
        x = F.dropout(self.norm(x), self.drop, self.training)
        for layer in self.layers:
            x = layer(x, mask)
        return self.classifier(F.dropout(x, self.drop, self.training))


def adapt(model):
    for p in model.parameters():
        p.requires_grad_(False)
    for layer in model.layers:
        layer.q, layer.v = LoRA(layer.q), LoRA(layer.v)
    for p in model.classifier.parameters():
        p.requires_grad_(True)


def step(model, optimiser, ids, labels, mask=None):
    optimiser.zero_grad()
    loss = F.cross_entropy(model(ids, mask).flatten(0, 1), labels.flatten(), ignore_index=-100)
    loss.backward()
    optimiser.step()


def report(tokens, cpu, wall):
    print(f"{tokens / cpu:.1f} {tokens / wall:.1f} {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}")


def equal_padding(layers, h, heads, mode, seconds):
    torch.manual_seed(1)
    model = Bert(layers, h, heads, 4 * h).train()
    if mode == "lora":
        adapt(model)
    optimiser = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4)
    ids, labels = torch.randint(30522, (16, 128)), torch.randint(9, (16, 128))
    step(model, optimiser, ids, labels)
    cpu, wall, steps = time.process_time(), time.perf_counter(), 0
    while time.process_time() - cpu < seconds:
        step(model, optimiser, ids, labels)
        steps += 1
    report(steps * 2048, time.process_time() - cpu, time.perf_counter() - wall)


def notes(folder, path, epochs):
    """Pieces come from the first line of standard input on: one sentence a line, as `concordat tool tokenize` prints them."""
    del path
    with open(os.path.join(folder, "config.json"), encoding="utf-8") as file:
        c = json.load(file)
    torch.manual_seed(1)
    sentences = [[101] + [int(i) for i in line.split()][:126] + [102] for line in sys.stdin if line.strip()]
    sentences.sort(key=len)
    batches = [sentences[i:i + 16] for i in range(0, len(sentences), 16)]
    model = Bert(c["num_hidden_layers"], c["hidden_size"], c["num_attention_heads"], c["intermediate_size"], labels=3).train()
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-4)
    cpu, wall, tokens = time.process_time(), time.perf_counter(), 0
    for _ in range(epochs):
        for b in torch.randperm(len(batches)).tolist():
            longest = max(map(len, batches[b]))
            ids = torch.tensor([s + [0] * (longest - len(s)) for s in batches[b]])
            labels = torch.where(ids > 0, ids % 3, torch.tensor(-100))
            mask = torch.where(ids > 0, 0.0, -1e9)[:, None, None, :]
            step(model, optimiser, ids, labels, mask)
            tokens += sum(map(len, batches[b]))
    report(tokens, time.process_time() - cpu, time.perf_counter() - wall)


if __name__ == "__main__":
    if sys.argv[1] == "--notes":
        torch.set_num_threads(int(sys.argv[5]))
        notes(sys.argv[2], sys.argv[3], int(sys.argv[4]))
    else:
        torch.set_num_threads(int(sys.argv[6]))
        equal_padding(*map(int, sys.argv[1:4]), sys.argv[4], float(sys.argv[5]))
