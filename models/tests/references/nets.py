"""Writes nets.json: what PyTorch makes of the CNN and of MLPs with weights and images from a formula.

    python models/tests/references/nets.py

Value i of a tensor is `scale * (((i + offset) * 2654435761 mod 2^32) / 2^32 - 0.5)`, in integers up to the division, so that
both sides have the same. Of every gradient the file has its 2-norm and the sum of its products with such values. Written
with torch 2.15, in float64.
"""

import json
import math
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F


def formula(shape, offset, scale):
    i = torch.arange(math.prod(shape), dtype=torch.int64) + offset
    values = (i * 2654435761 % 2**32).double() / 2**32 - 0.5
    return (scale * values).float().double().reshape(shape)


class Cnn(nn.Module):
    def __init__(self, img_size, in_chans, num_classes, batch_norm):
        super().__init__()
        size = math.ceil(img_size // 4 / 2)
        for i, (a, b) in enumerate([(in_chans, 32), (32, 64), (64, 64)], start=1):
            setattr(self, f"conv{i}", nn.Conv2d(a, b, 5, padding=2))
            if batch_norm:
                setattr(self, f"bn{i}", nn.BatchNorm2d(b))
        self.fc4 = nn.Linear(64 * size * size, 1000)
        self.fc5 = nn.Linear(1000, num_classes)

    def forward(self, x):
        for i in (1, 2, 3):
            x = getattr(self, f"conv{i}")(x)
            if hasattr(self, f"bn{i}"):
                x = getattr(self, f"bn{i}")(x)
            x = F.max_pool2d(F.relu(x), 2, ceil_mode=i == 3)
        return self.fc5(F.relu(self.fc4(x.flatten(1))))


class Mlp(nn.Module):
    def __init__(self, widths, act):
        super().__init__()
        self.act, self.depth = act, len(widths) - 1
        for i in range(self.depth):
            setattr(self, f"fc{i + 1}", nn.Linear(widths[i], widths[i + 1]))

    def forward(self, x):
        x = x.flatten(1)
        for i in range(1, self.depth):
            x = self.act(getattr(self, f"fc{i}")(x))
        return getattr(self, f"fc{self.depth}")(x)


def case(model, config, images):
    model = model.double().train()
    with torch.no_grad():
        for offset, parameter in enumerate(model.parameters()):
            fan = max(1, parameter[0].numel())
            parameter.copy_(formula(parameter.shape, 1000 * offset, 3 / math.sqrt(fan)))
    logits = model(images)
    labels = torch.arange(len(images)) % logits.shape[1]
    loss = F.cross_entropy(logits, labels)
    loss.backward()
    return dict(
        config=config,
        batch=len(images),
        logits=logits.tolist(),
        loss=loss.item(),
        gradients={
            name: [p.grad.norm().item(), (p.grad * formula(p.shape, 7, 1)).sum().item()]
            for name, p in model.named_parameters()
        },
        buffers={n: b.tolist() for n, b in model.named_buffers() if b.ndim},
        evaluated=model.eval()(images).tolist(),
    )


def main():
    cases = {}
    for name, size, chans, norm in [("cnn", 8, 3, False), ("cnn_batch_norm", 12, 1, True), ("cnn_28", 28, 3, True)]:
        config = dict(family="cnn", img_size=size, in_chans=chans, num_classes=4, batch_norm=norm)
        images = formula((3, chans, size, size), 5, 2)
        cases[name] = case(Cnn(size, chans, 4, norm), config, images)
    for name, act, hidden in [("tanh", torch.tanh, [7]), ("relu", F.relu, [9, 5]), ("gelu", F.gelu, [6, 6, 6])]:
        config = dict(family="mlp", img_size=5, in_chans=2, num_classes=3, hidden=hidden, act=name)
        cases[f"mlp_{name}"] = case(Mlp([50, *hidden, 3], act), config, formula((4, 2, 5, 5), 5, 2))
    lines = (f"{json.dumps(k)}: {json.dumps(v)}" for k, v in cases.items())
    (Path(__file__).parent / "nets.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")


main()
