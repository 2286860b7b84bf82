"""Writes vit.safetensors and vit.json: small ViTs with random weights, and what timm makes of them; blocks.safetensors and blocks.json,
the same of other blocks and norms; and small_data.safetensors and small_data.json, the same with the two parts of Lee et al. 2021 put into timm's ViT as their paper describes them.

    python models/tests/references/make.py

For each case, in float64 and stored as float32: the weights, a batch of images, the tokens after the final norm, the
pre-logits, the logits, and the gradients of the cross-entropy for every parameter, in a row as the weights are; in the second
pair of files also the last block's attention, the rollout and the operations that PyTorch counts. The JSON file has the configurations,
names and shapes in timm's order, and timm's layers for layer-wise decay of the learning rate. Written with timm 1.0.31 and torch 2.15.
"""

import json
from pathlib import Path

import timm
import torch
from safetensors.torch import save_file
from timm.layers import RmsNorm, SwiGLU
from timm.models._manipulate import group_parameters
from timm.models.deit import VisionTransformerDistilled
from timm.models.vision_transformer import Block, DiffParallelScalingBlock, ParallelScalingBlock, ParallelThingsBlock, VisionTransformer
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

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
# Shifted patch tokenisation and locality self-attention; and where attention goes, with timm's own.
SMALL_DATA = {
    "flow": dict(depth=3, img_size=8, patch_size=2, embed_dim=6, mlp_ratio=0.5),
    "spt": dict(spt=True, img_size=9, patch_size=3, in_chans=1, num_heads=1, mlp_ratio=0.5),
    "lsa": dict(lsa=True, depth=2, img_size=6, patch_size=2, mlp_ratio=0.5),
    "both": dict(spt=True, lsa=True, img_size=6, patch_size=2, embed_dim=6, depth=2, init_values=0.3, mlp_ratio=1.0),
    "lsa_with_norms": dict(lsa=True, img_size=4, qk_norm=True, reg_tokens=2, class_token=False, global_pool="avg", mlp_ratio=0.5),
}
# Other blocks and norms than the first ViT's.
BLOCKS = {
    "parallel_scaling": dict(block_fn="parallel_scaling", depth=2, init_values=0.3, class_token=False, reg_tokens=1, global_pool="avg"),
    "xp": dict(block_fn="parallel_scaling", norm_layer="rmsnorm", pre_norm=True, no_embed_class=True, qkv_bias=False, qk_norm=True),
    "parallel_things": dict(block_fn="parallel_things", depth=2, init_values=0.3),
    "parallel_things_plain": dict(block_fn="parallel_things", norm_layer="rmsnorm", qk_norm=True),
    "rmsnorm": dict(norm_layer="rmsnorm", class_token=False, reg_tokens=1, global_pool="avg", init_values=0.3),
    "rmsnorm_map": dict(norm_layer="rmsnorm", class_token=False, global_pool="map", norm_eps=1e-5),
    "aimv2": dict(
        norm_layer="rmsnorm", norm_eps=1e-5, embed_norm=True, class_token=False, global_pool="avg", fc_norm=False, qkv_bias=False,
        proj_bias=False, swiglu_mlp=True, swiglu_align_to=1, act="silu", mlp_ratio=1.7,
    ),
    "diff": dict(attn_layer="diff", depth=2, num_heads=1, qk_norm=True, class_token=False, reg_tokens=1, global_pool="avg", init_values=0.3),
    "diff_parallel": dict(attn_layer="diff", block_fn="parallel_scaling", depth=2, qkv_bias=False, init_values=0.3),
    "beit3": dict(scale_attn_inner=True, scale_mlp=True, global_pool="avg", norm_eps=1e-5),
}
BLOCKS = {name: dict(img_size=6, patch_size=2, embed_dim=6) | case for name, case in BLOCKS.items()}


class ShiftedPatchEmbed(torch.nn.Module):
    """The image and its four diagonal shifts by half a patch as channels; patches; LayerNorm; a linear layer."""

    def __init__(self, patch_size, in_chans, embed_dim):
        super().__init__()
        self.size = patch_size
        self.patch_norm = torch.nn.LayerNorm(5 * in_chans * patch_size**2, eps=1e-6)
        self.proj = torch.nn.Conv2d(5 * in_chans, embed_dim, patch_size, patch_size)

    def forward(self, x):
        # Left up, right up, left down and right down in the paper: which way the window moves over the padded image.
        s = self.size // 2
        shifts = [F.pad(x, pads) for pads in [(s, -s, s, -s), (-s, s, s, -s), (s, -s, -s, s), (-s, s, -s, s)]]
        patches = F.unfold(torch.cat([x, *shifts], dim=1), self.size, stride=self.size).transpose(1, 2)
        return F.linear(self.patch_norm(patches), self.proj.weight.flatten(1), self.proj.bias)


class LocalityAttention(torch.nn.Module):
    """timm's attention with a learned scale for every head, and without the diagonal."""

    def __init__(self, attention):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.full((attention.num_heads,), attention.head_dim**-0.5))
        self.qkv, self.q_norm, self.k_norm, self.proj = attention.qkv, attention.q_norm, attention.k_norm, attention.proj
        self.attn_drop = torch.nn.Identity()

    def forward(self, x, **_):
        batch, tokens, dim = x.shape
        q, k, v = self.qkv(x).reshape(batch, tokens, 3, len(self.scale), -1).permute(2, 0, 3, 1, 4)
        scores = self.q_norm(q) @ self.k_norm(k).transpose(-2, -1) * self.scale[:, None, None]
        scores = scores.masked_fill(torch.eye(tokens, dtype=torch.bool), -torch.inf)
        return self.proj((self.attn_drop(scores.softmax(-1)) @ v).transpose(1, 2).reshape(batch, tokens, dim))


def build(case):
    arguments = {**BASE, **case}
    spt, lsa = arguments.pop("spt", False), arguments.pop("lsa", False)
    norm = RmsNorm if arguments.pop("norm_layer", "layernorm") == "rmsnorm" else torch.nn.LayerNorm
    arguments["norm_layer"] = lambda dim, eps=arguments.pop("norm_eps", 1e-6), **kw: norm(dim, eps=eps, **kw)
    if arguments.pop("embed_norm", False):
        arguments["embed_norm_layer"] = arguments["norm_layer"]
    if arguments.pop("swiglu_mlp", False):
        arguments.pop("swiglu_align_to")
        arguments["mlp_layer"] = SwiGLU
    blocks = {"block": Block, "parallel_scaling": ParallelScalingBlock, "parallel_things": ParallelThingsBlock}
    arguments["block_fn"] = blocks[arguments.pop("block_fn", "block")]
    if arguments.get("attn_layer") == "diff" and arguments["block_fn"] is ParallelScalingBlock:
        arguments["block_fn"] = DiffParallelScalingBlock
    for ours, theirs in [("scale_attn_inner", "scale_attn_norm"), ("scale_mlp", "scale_mlp_norm")]:
        arguments[theirs] = arguments.pop(ours, False)
    arguments["act_layer"] = arguments.pop("act", "gelu")
    cls = VisionTransformerDistilled if arguments.pop("distilled", False) else VisionTransformer
    if arguments.get("global_pool") == "token+avg":
        arguments["global_pool"] = "token"
        model = cls(**arguments)
        # Hugging Face's DINOv2 classifier, which timm has not: a head on class token and mean of the patches.
        model.pool = lambda x: torch.cat([x[:, 0], x[:, 1:].mean(1)], dim=1)
        model.head = torch.nn.Linear(2 * model.embed_dim, arguments["num_classes"])
        return model
    model = cls(**arguments)
    if spt:
        model.patch_embed = ShiftedPatchEmbed(arguments["patch_size"], arguments["in_chans"], arguments["embed_dim"])
    for block in model.blocks if lsa else []:
        block.attn = LocalityAttention(block.attn)
    return model


def rollout(maps):
    """Abnar and Zuidema 2020: the product over blocks of half the identity and half the mean attention of the heads."""
    total = torch.eye(maps[0].shape[-1], dtype=maps[0].dtype)
    for attention in maps:
        total = (0.5 * attention.mean(1) + 0.5 * torch.eye(attention.shape[-1], dtype=attention.dtype)) @ total
    return total


def write(stem, given, with_flow=False):
    tensors, cases = {}, {}
    for index, (name, case) in enumerate(given.items()):
        torch.manual_seed(index)
        model = build(case).double().eval()
        with torch.no_grad():
            for parameter in model.parameters():
                # float32 values in float64: what the other side reads is exactly what was computed with.
                centre = 1.0 if parameter.ndim == 1 else 0.0
                parameter.copy_((centre + 0.4 * torch.randn_like(parameter)).float())
        config = {**BASE, **case}
        images = torch.randn(2, config["in_chans"], config["img_size"], config["img_size"]).double()
        maps = []
        if with_flow:
            for block in model.blocks:
                block.attn.fused_attn = False
                block.attn.attn_drop.register_forward_hook(lambda _module, _inputs, output: maps.append(output.detach()))
        tokens = model.forward_features(images)
        pooled = model.forward_head(tokens, pre_logits=True)
        logits = model.forward_head(tokens)
        rows = logits.reshape(-1, config["num_classes"])
        labels = torch.arange(len(rows)) % config["num_classes"]
        F.cross_entropy(rows, labels).backward()
        outputs = dict(images=images, tokens=tokens, pooled=pooled, logits=logits)
        if with_flow:
            outputs |= dict(last_attention=maps[-1], rollout=rollout(maps))
        for key, value in outputs.items():
            tensors[f"{name}/{key}"] = value.detach().float().contiguous()
        # All parameters in a row, in the order of the state_dict.
        flat = lambda parts: torch.cat([part.flatten() for part in parts]).float()
        tensors[f"{name}/weights"] = flat(p.detach() for p in model.parameters())
        tensors[f"{name}/gradients"] = flat(p.grad for p in model.parameters())
        layers = group_parameters(model, model.group_matcher(coarse=False), reverse=True)
        cases[name] = dict(config=config, parameters={n: list(p.shape) for n, p in model.named_parameters()}, layers=layers)
        if with_flow:
            with FlopCounterMode(display=False) as counter:
                model(images[:1])
            cases[name]["flops"] = counter.get_total_flops()
    here = Path(__file__).parent
    save_file(tensors, here / f"{stem}.safetensors")
    lines = (f"{json.dumps(k)}: {json.dumps(v, separators=(',', ':'))}" for k, v in cases.items())
    (here / f"{stem}.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")
    print(len(cases), "cases with timm", timm.__version__, "and torch", torch.__version__)


write("vit", CASES)
write("blocks", BLOCKS)
write("small_data", SMALL_DATA, with_flow=True)
