#!/usr/bin/env python3
"""The references of tests/train*.rs, computed with PyTorch and timm in float64.

    pip install torch timm safetensors        # made with torch 2.15, timm 1.0.31
    python make.py                            # writes beside itself

- schedules.json: learning rates, step by step, of PyTorch's schedulers
- optimizers.json: two parameters over six steps of PyTorch's optimisers along given gradients
- clipping.json: torch.nn.utils.clip_grad_norm_
- vit.safetensors, curves.json: a small timm ViT and its loss and gradient norm over twenty steps on the first MNIST digits
- dinov3.safetensors, beit.safetensors, curves_of_blocks.json: the same of small ViTs with rotary and with relative positions
"""
import gzip, json
from pathlib import Path

import numpy as np
import timm
import torch
from safetensors.torch import save_file
from timm.models.vision_transformer import VisionTransformer

here = Path(__file__).parent


def write(name, value):
    (here / name).write_text(json.dumps(value, indent=1) + "\n")


def schedules():
    def rates(make, steps_per_epoch, epochs, every_step):
        p = torch.nn.Parameter(torch.zeros(1))
        opt = torch.optim.SGD([p], lr=0.1)
        schedule, lrs = make(opt), []
        for _ in range(epochs):
            for _ in range(steps_per_epoch):
                lrs.append(opt.param_groups[0]["lr"])
                opt.step()
                if every_step:
                    schedule.step()
            if not every_step:
                schedule.step()
        return lrs

    s = torch.optim.lr_scheduler
    write("schedules.json", {
        "steps_per_epoch": 5, "epochs": 6, "lr": 0.1,
        "constant": rates(lambda o: s.ConstantLR(o, factor=1.0), 5, 6, False),
        "cosine": rates(lambda o: s.CosineAnnealingLR(o, T_max=30, eta_min=0.01), 5, 6, True),
        "exponential": rates(lambda o: s.ExponentialLR(o, gamma=0.8), 5, 6, False),
        "step": rates(lambda o: s.StepLR(o, step_size=2, gamma=0.3), 5, 6, False),
    })


def optimizers():
    rng = np.random.default_rng(0)
    weight, bias = rng.normal(size=(2, 3)), rng.normal(size=3)
    gradients = [[rng.normal(size=(2, 3)), rng.normal(size=3)] for _ in range(6)]
    groups = lambda w, b, decay: [{"params": [w], "weight_decay": decay}, {"params": [b], "weight_decay": 0.0}]
    makers = {
        "sgd": ({"optimizer": "sgd", "momentum": 0.0, "weight_decay": 0.0},
                lambda w, b: torch.optim.SGD(groups(w, b, 0.0), lr=0.1)),
        "sgd_decay": ({"optimizer": "sgd", "momentum": 0.9, "weight_decay": 0.05},
                      lambda w, b: torch.optim.SGD(groups(w, b, 0.05), lr=0.1, momentum=0.9)),
        "nesterov": ({"optimizer": "sgd", "momentum": 0.9, "nesterov": True, "weight_decay": 0.05},
                     lambda w, b: torch.optim.SGD(groups(w, b, 0.05), lr=0.1, momentum=0.9, nesterov=True)),
        "adam": ({"optimizer": "adam", "weight_decay": 0.05, "betas": [0.8, 0.99], "eps": 1e-6},
                 lambda w, b: torch.optim.Adam(groups(w, b, 0.05), lr=0.1, betas=(0.8, 0.99), eps=1e-6)),
        "adamw": ({"optimizer": "adamw", "weight_decay": 0.05},
                  lambda w, b: torch.optim.AdamW(groups(w, b, 0.05), lr=0.1)),
    }
    cases = {}
    for name, (settings, make) in makers.items():
        w, b = (torch.nn.Parameter(torch.tensor(v)) for v in (weight, bias))
        opt, steps = make(w, b), []
        for gw, gb in gradients:
            w.grad, b.grad = torch.tensor(gw), torch.tensor(gb)
            opt.step()
            steps.append({"weight": w.detach().flatten().tolist(), "bias": b.detach().tolist()})
        cases[name] = {"settings": settings, "steps": steps}
    write("optimizers.json", {
        "lr": 0.1, "weight": weight.flatten().tolist(), "bias": bias.tolist(),
        "gradients": [{"weight": gw.flatten().tolist(), "bias": gb.tolist()} for gw, gb in gradients],
        "cases": cases,
    })


def clipping():
    cases = []
    for largest in (0.5, 1.0, 5.0, 100.0):
        p = torch.nn.Parameter(torch.zeros(3, dtype=torch.float64))
        p.grad = torch.tensor([3.0, 4.0, 12.0], dtype=torch.float64)
        norm = torch.nn.utils.clip_grad_norm_([p], largest)
        cases.append({"largest": largest, "norm": norm.item(), "factor": p.grad[0].item() / 3.0})
    write("clipping.json", cases)


def digits():
    data = here.parents[2] / "data" / "mnist"
    read = lambda name, skip: np.frombuffer(gzip.open(data / name).read(), np.uint8, offset=skip)
    images = read("train-images-idx3-ubyte.gz", 16).reshape(-1, 1, 28, 28)[:320]
    labels = torch.tensor(read("train-labels-idx1-ubyte.gz", 8)[:320].astype(np.int64))
    return torch.tensor(images.astype(np.float64) / 255.0), labels


def train(make, first, optimizer):
    """Loss and gradient norm over twenty steps."""
    images, labels = digits()
    model = make().double().train()
    model.load_state_dict(first)
    unchanged = ("pos_embed", "cls_token", "reg_token", "relative_position_bias_table")
    undecayed = lambda n, p: p.ndim <= 1 or n.split(".")[-1] in unchanged
    named = list(model.named_parameters())
    opt = optimizer([
        {"params": [p for n, p in named if not undecayed(n, p)], "weight_decay": 0.05},
        {"params": [p for n, p in named if undecayed(n, p)], "weight_decay": 0.0},
    ])
    losses, norms = [], []
    for x, y in zip(images.split(16), labels.split(16)):
        opt.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(x), y)
        loss.backward()
        norms.append(torch.nn.utils.clip_grad_norm_(model.parameters(), float("inf")).item())
        losses.append(loss.item())
        opt.step()
    return {"loss": losses, "grad_norm": norms}


def blocks():
    """timm's smallest of DINOv3's kind with a gate, and BEiT with a bias of every block and one of all."""
    sizes = dict(img_size=28, patch_size=7, in_chans=1, embed_dim=8, depth=2, num_heads=2, num_classes=10, mlp_ratio=2.0)
    curves = {}
    for name, architecture, more in [
        ("dinov3", "vit_small_plus_patch16_dinov3_qkvb", {"dynamic_img_size": False}),
        ("beit", "beit_base_patch16_224", {"use_shared_rel_pos_bias": True}),
    ]:
        torch.manual_seed(0)
        make = lambda: timm.create_model(architecture, **sizes, **more)
        # Larger than timm draws them, so that every parameter matters from the first step.
        first = {k: v + torch.randn_like(v) * 0.3 for k, v in make().state_dict().items()}
        save_file(first, here / f"{name}.safetensors")
        curves[name] = train(make, first, lambda groups: torch.optim.AdamW(groups, lr=1e-3))
    write("curves_of_blocks.json", curves)


def curves():
    torch.manual_seed(0)
    make = lambda: VisionTransformer(img_size=28, patch_size=7, in_chans=1, embed_dim=32, depth=3, num_heads=4, num_classes=10)
    first = {k: v.clone() for k, v in make().state_dict().items()}
    # Larger than timm draws them, so that every parameter matters from the first step.
    for name in ("cls_token", "pos_embed", "head.weight", "head.bias"):
        first[name] = torch.randn_like(first[name]) * 0.1
    save_file(first, here / "vit.safetensors")

    run = lambda optimizer: train(make, first, optimizer)
    write("curves.json", {
        "sgd": run(lambda groups: torch.optim.SGD(groups, lr=0.05, momentum=0.9)),
        "nesterov": run(lambda groups: torch.optim.SGD(groups, lr=0.05, momentum=0.9, nesterov=True)),
        "adamw": run(lambda groups: torch.optim.AdamW(groups, lr=1e-3)),
    })


if __name__ == "__main__":
    torch.set_num_threads(2)
    schedules(), optimizers(), clipping(), curves(), blocks()
