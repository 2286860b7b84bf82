"""Writes hybrids.json: what timm makes of hybrid ViTs with weights and images from a formula.

    python models/tests/references/hybrids.py

The weights lie around 0, those of norms around 1. For each case: some of the tokens, pooled features, logits, the loss, of every
gradient its 2-norm and the sum of its products with the formula's values, timm's layers for layer-wise decay (both in timm's order), and of the narrow ones
the losses of twenty steps of AdamW. The images are neither square nor, but for one case, of even sides, and of one case in grey.
Written with timm 1.0.31 and torch 2.15, in float64.
"""

import json
import math
from functools import partial
from pathlib import Path

import timm
import torch
from timm.layers import StdConv2dSame
from timm.models._manipulate import group_parameters
from timm.models.resnetv2 import ResNetV2
from timm.models.vision_transformer_hybrid import HybridEmbed, VisionTransformer
from torch.nn import functional as F

SMALL = dict(num_classes=5, embed_dim=24, depth=2, num_heads=3)
# Those of timm by name, made narrower behind the stem; the last one as it is.
NAMED = {
    "vit_tiny_r_s16_p8_224": dict(img_size=(40, 24), patch_size=2, **SMALL),
    "vit_small_r26_s32_224": dict(img_size=(70, 97), **SMALL),
    "vit_base_r50_s16_224": dict(img_size=(33, 40), in_chans=1, reg_tokens=1, global_pool="avg", **SMALL),
    "vit_small_r26_s32_384": dict(img_size=(384, 384), num_classes=1000, embed_dim=384, depth=12, num_heads=6),
}
LAYERS = {"tiny_r": [], "small_r26": [2, 2, 2, 2], "base_r50_s16": [3, 4, 9]}
# A stem half as wide, with even and odd sides.
NARROW = {"narrow": dict(img_size=(48, 32), stem_layers=[1, 2]), "narrow_odd": dict(img_size=(35, 29), stem_layers=[1, 1, 1])}


def mixed(shape, seed, scale):
    """Integers mixed as in MurmurHash3, as numbers from -scale / 2 to scale / 2, so that both sides have the same."""
    i = torch.arange(math.prod(shape), dtype=torch.int64) + (seed << 24)
    for factor in (0x85EBCA6B, 0xC2B2AE35):
        i = (i ^ i >> 16) % 2**32
        i = i * factor % 2**32
        i = i ^ i >> 13
    return (scale * ((i ^ i >> 16).double() / 2**32 - 0.5)).float().double().reshape(shape)


def narrow(img_size, stem_layers):
    backbone = ResNetV2(
        layers=stem_layers, width_factor=0.5, num_classes=0, global_pool="", preact=False, stem_type="same",
        conv_layer=partial(StdConv2dSame, eps=1e-8),
    )
    return VisionTransformer(img_size=img_size, patch_size=1, embed_layer=partial(HybridEmbed, backbone=backbone), **SMALL)


def fill(model):
    with torch.no_grad():
        for offset, (name, parameter) in enumerate(model.named_parameters()):
            if parameter.ndim == 1:
                values = mixed(parameter.shape, offset, 1) + (1 if name.endswith("weight") else 0)
            else:
                values = mixed(parameter.shape, offset, 3 / math.sqrt(parameter[0].numel()))
            parameter.copy_(values.float())


def losses(model, images, labels):
    fill(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.05)
    for _ in range(20):
        loss = F.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        yield loss.item()


def case(model, config, trains):
    model = model.double().eval()
    fill(model)
    batch = 1 if config["depth"] > 2 else 3
    images = mixed((batch, config["in_chans"], *config["img_size"]), 999, 4)
    labels = torch.arange(batch) % config["num_classes"]
    tokens = model.forward_features(images)
    pooled = model.forward_head(tokens, pre_logits=True)
    logits = model.forward_head(tokens)
    loss = F.cross_entropy(logits, labels)
    loss.backward()
    layers = group_parameters(model, model.group_matcher(coarse=False), reverse=True)
    gradients = [number for p in model.parameters() for number in (p.grad.norm(), (p.grad * mixed(p.shape, 998, 1)).sum())]
    digits = lambda values: [float(f"{value:.8g}") for value in values.flatten().tolist()]
    return dict(
        config=config,
        batch=batch,
        tokens=digits(tokens[-1, :, :6]),
        pooled=digits(pooled[:, :48]),
        logits=digits(logits[:, :48]),
        loss=loss.item(),
        gradients=digits(torch.stack(gradients)),
        layers=[layers[name] for name, _ in model.named_parameters()],
        **(dict(losses=list(losses(model, images, labels))) if trains else {}),
    )


def main():
    cases = {}
    for name, arguments in NAMED.items():
        layers = next(layers for key, layers in LAYERS.items() if key in name)
        config = dict(in_chans=3, patch_size=1, stem_layers=layers) | arguments
        cases[name] = case(timm.create_model(name, **arguments), config, False)
    for name, arguments in NARROW.items():
        config = dict(in_chans=3, patch_size=1, stem_width=32, **arguments, **SMALL)
        cases[name] = case(narrow(**arguments), config, True)
    lines = (f"{json.dumps(k)}: {json.dumps(v, separators=(',', ':'))}" for k, v in cases.items())
    (Path(__file__).parent / "hybrids.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")
    print(len(cases), "cases with timm", timm.__version__, "and torch", torch.__version__)


if __name__ == "__main__":
    main()
