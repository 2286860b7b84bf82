#!/usr/bin/env python3
"""The reference for mixing and for the moving average of weights, by torchvision, PyTorch and timm.

    pip install torch torchvision timm safetensors      # made with torch 2.15, torchvision 0.29, timm 1.0.31
    python make_mix.py                                  # writes mix.json beside itself

torchvision's v2.MixUp and v2.CutMix on three images of 5 by 7 pixels with two channels, where λ and the box's centre are
given instead of drawn; the loss is torch's cross-entropy with the mixed targets, and its gradient. The average is
timm's ModelEmaV3 with a decay for each step.
"""
import json
from pathlib import Path

import torch
from timm.utils import ModelEmaV3
from torchvision.transforms import v2


class Given:
    def __init__(self, lam):
        self.lam = lam

    def sample(self, *_):
        return torch.tensor([self.lam], dtype=torch.float64)


torch.manual_seed(0)
images = torch.randn(3, 2, 5, 7, dtype=torch.float64)
labels = torch.tensor([0, 3, 1])
logits = torch.randn(3, 4, dtype=torch.float64)
cases = []
for transform, lam, centre, smoothing in [
    (v2.MixUp, 0.3, None, 0.0), (v2.MixUp, 0.85, None, 0.1),
    (v2.CutMix, 0.3, (1, 2), 0.0), (v2.CutMix, 0.7, (6, 4), 0.1), (v2.CutMix, 0.02, (3, 2), 0.0),
    (v2.CutMix, 0.99, (0, 0), 0.0),
]:
    mixer = transform(alpha=1.0, num_classes=4)
    mixer._dist = Given(lam)
    randint, torch.randint = torch.randint, lambda *a, it=iter(centre or ()), **k: torch.tensor([next(it)])
    mixed, targets = mixer(images.clone(), labels)
    torch.randint = randint
    x = logits.clone().requires_grad_()
    loss = torch.nn.functional.cross_entropy(x, targets.double(), label_smoothing=smoothing)
    loss.backward()
    cases.append({
        "kind": transform.__name__.lower(), "lambda": lam, "centre": centre, "smoothing": smoothing,
        "images": mixed.flatten().tolist(), "targets": targets.double().tolist(),
        "loss": loss.item(), "gradient": x.grad.flatten().tolist(),
    })

weight = torch.nn.Parameter(torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64))
model = torch.nn.Module()
model.weight = weight
ema = ModelEmaV3(model, decay=0.25, foreach=False)
values, averages = [], []
for step in range(30):
    with torch.no_grad():
        weight.add_(torch.randn(3, dtype=torch.float64))
    # timm's own warm-up is another one: the decay of every step is given.
    ema.decay = min(0.75, (1 + step) / (10 + step))
    ema.update(model)
    values.append(weight.tolist())
    averages.append(ema.module.weight.tolist())

text = json.dumps({
    "images": images.flatten().tolist(), "labels": labels.tolist(), "logits": logits.flatten().tolist(), "cases": cases,
    "start": [1.0, -2.0, 0.5], "decay": 0.75, "values": values, "averages": averages,
})
(Path(__file__).parent / "mix.json").write_text(text + "\n")
