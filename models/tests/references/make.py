"""Writes vit.safetensors and vit.json: small ViTs with random weights, and what timm makes of them.

    python models/tests/references/make.py

For each case, in float64 and stored as float32: the weights, a batch of images, the tokens after the final norm, the
pre-logits, the logits, and the gradients of the cross-entropy for every parameter, in a row as the weights are. The JSON file has the configurations,
names and shapes in timm's order, and timm's layers for layer-wise decay of the learning rate. Written with timm 1.0.31 and torch 2.15.
"""

import json
from pathlib import Path

import timm
import torch
from safetensors.torch import save_file
from timm.models._manipulate import group_parameters
from timm.models.deit import VisionTransformerDistilled
from timm.models.vision_transformer import VisionTransformer
from torch.nn import functional as F

BASE = dict(img_size=16, patch_size=4, in_chans=3, num_classes=5, embed_dim=12, depth=1, num_heads=3, mlp_ratio=2.0)
CASES = {
    "classic": dict(depth=3),
    "registers": dict(depth=2, init_values=0.1, qk_norm=True, reg_tokens=2, global_pool="avg"),
    "clip": dict(pre_norm=True, act="quick_gelu", norm_eps=1e-5, in_chans=1, patch_size=8),
    "map": dict(class_token=False, global_pool="map", act="gelu_tanh", mlp_ratio=1.7),
    "map_with_prefix": dict(class_token=False, reg_tokens=1, global_pool="map", pool_include_prefix=True, init_values=0.2),
    "distilled": dict(distilled=True),
    "no_embed_class": dict(init_values=0.3, reg_tokens=3, no_embed_class=True),
    "max": dict(class_token=False, global_pool="max", fc_norm=False),
    "avgmax": dict(global_pool="avgmax", qkv_bias=False, pos_embed="none"),
    "no_pool": dict(global_pool="", reg_tokens=1, num_heads=1),
    "no_final_norm": dict(final_norm=False, img_size=8, depth=1),
    "token_fc_norm": dict(fc_norm=True),
    "token+avg": dict(global_pool="token+avg"),
}


def build(case):
    arguments = {**BASE, **case}
    arguments["norm_layer"] = lambda dim, eps=arguments.pop("norm_eps", 1e-6), **kw: torch.nn.LayerNorm(dim, eps=eps, **kw)
    arguments["act_layer"] = arguments.pop("act", "gelu")
    cls = VisionTransformerDistilled if arguments.pop("distilled", False) else VisionTransformer
    if arguments.get("global_pool") == "token+avg":
        arguments["global_pool"] = "token"
        model = cls(**arguments)
        # Hugging Face's DINOv2 classifier, which timm has not: a head on class token and mean of the patches.
        model.pool = lambda x: torch.cat([x[:, 0], x[:, 1:].mean(1)], dim=1)
        model.head = torch.nn.Linear(2 * model.embed_dim, arguments["num_classes"])
        return model
    return cls(**arguments)


def main():
    tensors, cases = {}, {}
    for index, (name, case) in enumerate(CASES.items()):
        torch.manual_seed(index)
        model = build(case).double().eval()
        with torch.no_grad():
            for parameter in model.parameters():
                # float32 values in float64: what the other side reads is exactly what was computed with.
                centre = 1.0 if parameter.ndim == 1 else 0.0
                parameter.copy_((centre + 0.4 * torch.randn_like(parameter)).float())
        config = {**BASE, **case}
        images = torch.randn(2, config["in_chans"], config["img_size"], config["img_size"]).double()
        tokens = model.forward_features(images)
        pooled = model.forward_head(tokens, pre_logits=True)
        logits = model.forward_head(tokens)
        rows = logits.reshape(-1, config["num_classes"])
        labels = torch.arange(len(rows)) % config["num_classes"]
        F.cross_entropy(rows, labels).backward()
        outputs = dict(images=images, tokens=tokens, pooled=pooled, logits=logits)
        for key, value in outputs.items():
            tensors[f"{name}/{key}"] = value.detach().float().contiguous()
        # All parameters in a row, in the order of the state_dict.
        flat = lambda parts: torch.cat([part.flatten() for part in parts]).float()
        tensors[f"{name}/weights"] = flat(p.detach() for p in model.parameters())
        tensors[f"{name}/gradients"] = flat(p.grad for p in model.parameters())
        layers = group_parameters(model, model.group_matcher(coarse=False), reverse=True)
        cases[name] = dict(config=config, parameters={n: list(p.shape) for n, p in model.named_parameters()}, layers=layers)
    here = Path(__file__).parent
    save_file(tensors, here / "vit.safetensors")
    lines = (f"{json.dumps(k)}: {json.dumps(v, separators=(',', ':'))}" for k, v in cases.items())
    (here / "vit.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")
    print(len(cases), "cases with timm", timm.__version__, "and torch", torch.__version__)


main()
