"""Writes perceptron.json: what PyTorch makes of perceptrons with weights and inputs from the formula of nets.py.

    python models/tests/references/perceptron.py

Loss, logits and all gradients of a batch, and the loss at each of ten steps of torch.optim.SGD on it. In the case `huge` the
logits are so large that exp overflows. Written with torch 2.15, in float64.
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


def case(img_size, in_chans, hidden, classes, batch, lr, scale):
    inputs = in_chans * img_size**2
    model = nn.Sequential()
    model.fc1, model.act, model.fc2 = nn.Linear(inputs, hidden), nn.Tanh(), nn.Linear(hidden, classes)
    model = model.double()
    with torch.no_grad():
        for offset, (name, p) in enumerate(model.named_parameters()):
            p.copy_(formula(p.shape, 1000 * offset, scale if name == "fc2.weight" else 2))
    x = formula((batch, in_chans, img_size, img_size), 5, 4).flatten(1)
    y = torch.arange(batch) % classes
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    losses, first = [], None
    for _ in range(10):
        optimizer.zero_grad()
        logits = model(x)
        loss = F.cross_entropy(logits, y)
        loss.backward()
        losses.append(loss.item())
        if first is None:
            first = dict(logits=logits.tolist(), gradients={n: p.grad.tolist() for n, p in model.named_parameters()})
        optimizer.step()
    config = dict(img_size=img_size, in_chans=in_chans, num_classes=classes, hidden=[hidden], act="tanh")
    return dict(config=config, batch=batch, lr=lr, scale=scale, losses=losses, **first)


cases = dict(
    points=case(1, 2, 10, 2, 9, 0.5, 2),
    images=case(4, 3, 6, 5, 7, 0.1, 2),
    huge=case(1, 2, 4, 3, 5, 0.1, 3000),
)
lines = (f"{json.dumps(k)}: {json.dumps(v)}" for k, v in cases.items())
(Path(__file__).parent / "perceptron.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")
