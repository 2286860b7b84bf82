"""Writes hybrids.json and hybrid.npz: what transformers and timm make of hybrid ViTs under the names that transformers, timm and the
original repository give to their tensors.

    python weights/tests/references/make_hybrids.py

Weights and images are `mixed` of models/tests/references/hybrids.py, by the place of the tensor in the list; of the npz, which holds its
own, only their signs, so that it is small. transformers 5 has BiT and ViT, but no more the class that put them together: what that
did is done here. Written with torch 2.15, timm 1.0.31 and transformers 5.24.
"""

import json
import math
import sys
from functools import partial
from pathlib import Path

import numpy as np
import timm
import torch
import transformers as hf

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parents[2] / "models/tests/references"))
from hybrids import mixed  # noqa: E402
from timm.layers import StdConv2dSame  # noqa: E402
from timm.models.resnetv2 import ResNetV2  # noqa: E402
from timm.models.vision_transformer import _load_weights  # noqa: E402
from timm.models.vision_transformer_hybrid import HybridEmbed, VisionTransformer  # noqa: E402

torch.set_grad_enabled(False)
IMAGES = (2, 3, 40, 24)


def fill(named):
    """By the places of names in their order."""
    for seed, (name, p) in enumerate(named.items()):
        if p.ndim == 1:
            p.copy_(mixed(p.shape, seed, 1) + (1 if name.endswith("weight") else 0))
        else:
            p.copy_(mixed(p.shape, seed, 3 / math.sqrt(p[0].numel())))


def facts(named, logits, **more):
    shapes = {name: list(p.shape) for name, p in named.items()}
    return dict(tensors=shapes, logits=[float(f"{value:.8g}") for value in logits.flatten().tolist()], **more)


def transformers():
    bit = dict(
        model_type="bit", embedding_size=32, hidden_sizes=[128, 256], depths=[1, 2], layer_type="bottleneck", global_padding="same",
        embedding_dynamic_padding=True, num_groups=32, out_features=["stage2"],
    )
    backbone = hf.BitBackbone(hf.BitConfig(**bit)).double().eval()
    sizes = dict(hidden_size=24, num_hidden_layers=2, num_attention_heads=3, intermediate_size=40, image_size=list(IMAGES[2:]))
    vit = hf.ViTForImageClassification(hf.ViTConfig(**sizes | dict(image_size=15, patch_size=1), num_channels=1, num_labels=5)).double().eval()
    # 5x3 patches as 15x1; the convolution over the maps takes the place of the one over pixels.
    vit.vit.embeddings.position_embeddings.data = torch.zeros(1, 16, 24).double()
    projection = torch.nn.Conv2d(256, 24, 1).double()
    named = {}
    for name, p in vit.state_dict(keep_vars=True).items():
        if name.endswith("patch_embeddings.projection.weight"):
            at = name.removesuffix("projection.weight")
            named |= {f"{at}backbone.{n}": q.data for n, q in backbone.state_dict(keep_vars=True).items()}
            named |= {name: projection.weight.data, name.replace("weight", "bias"): projection.bias.data}
        elif not name.endswith("patch_embeddings.projection.bias"):
            named[name] = p.data
    fill(named)
    images = mixed(IMAGES, 250, 4)
    maps = backbone(images).feature_maps[-1]
    x = projection(maps).flatten(2).transpose(1, 2)
    embeddings = vit.vit.embeddings
    x = torch.cat([embeddings.cls_token.expand(len(x), -1, -1), x], dim=1) + embeddings.position_embeddings
    embeddings.forward = lambda *_, **__: x
    logits = vit(images).logits
    config = sizes | dict(
        model_type="vit-hybrid", architectures=["ViTHybridForImageClassification"], backbone_config=bit, num_labels=5, layer_norm_eps=1e-12
    )
    return facts(named, logits, config=config)


def timms(name, **arguments):
    model = timm.create_model(name, img_size=IMAGES[2:], embed_dim=24, depth=2, num_heads=3, num_classes=5, **arguments).double().eval()
    named = model.state_dict()
    fill(named)
    images = mixed(IMAGES, 250, 4)
    config = dict(
        architecture=name, num_classes=5, model_args=dict(img_size=IMAGES[2:], embed_dim=24, depth=2, num_heads=3, **arguments),
        pretrained_cfg=dict(input_size=IMAGES[1:], mean=[0.5] * 3, std=[0.5] * 3, crop_pct=1.0, interpolation="bicubic"),
    )
    # The same weights for images in grey, as timm adapts them.
    grey = dict(named)
    first = model.pretrained_cfg["first_conv"] + ".weight"
    grey[first] = timm.models.adapt_input_conv(1, named[first])
    one = timm.create_model(name, **config["model_args"], num_classes=5, in_chans=1).double().eval()
    one.load_state_dict(grey)
    return facts(named, model(images), config=config, grey=one(images[:, :1]).flatten().tolist())


def original():
    """The original's npz, and what timm makes of it."""
    backbone = ResNetV2(
        layers=[2], width_factor=0.5, num_classes=0, global_pool="", preact=False, stem_type="same",
        conv_layer=partial(StdConv2dSame, eps=1e-8),
    )
    model = VisionTransformer(
        img_size=8, patch_size=1, embed_layer=partial(HybridEmbed, backbone=backbone), embed_dim=8, depth=1, num_heads=2, num_classes=3
    ).eval()
    arrays = {}

    def add(name, *shape, centre=0.0):
        values = mixed(shape, len(arrays), 1)
        arrays[name] = (centre + values.sign() / 4).float().numpy()

    def conv(name, *shape):
        add(f"{name}/kernel", *shape)

    def norm(name, *shape):
        add(f"{name}/scale", *shape, centre=1.0)
        add(f"{name}/bias", *shape)

    conv("conv_root", 7, 7, 3, 32)
    norm("gn_root", 1, 1, 1, 32)
    for unit, read in [("block1/unit1", 32), ("block1/unit2", 128)]:
        if read == 32:
            conv(f"{unit}/conv_proj", 1, 1, 32, 128)
            norm(f"{unit}/gn_proj", 128)
        for i, shape in enumerate([(1, 1, read, 32), (3, 3, 32, 32), (1, 1, 32, 128)], start=1):
            conv(f"{unit}/conv{i}", *shape)
            norm(f"{unit}/gn{i}", shape[-1])
    conv("embedding", 1, 1, 128, 8)
    add("embedding/bias", 8)
    add("cls", 1, 1, 8)
    block = "Transformer/encoderblock_0"
    add("Transformer/posembed_input/pos_embedding", 1, 5, 8)
    norm(f"{block}/LayerNorm_0", 8)
    norm(f"{block}/LayerNorm_2", 8)
    for part in ("query", "key", "value"):
        add(f"{block}/MultiHeadDotProductAttention_1/{part}/kernel", 8, 2, 4)
        add(f"{block}/MultiHeadDotProductAttention_1/{part}/bias", 2, 4)
    add(f"{block}/MultiHeadDotProductAttention_1/out/kernel", 2, 4, 8)
    add(f"{block}/MultiHeadDotProductAttention_1/out/bias", 8)
    for i, shape in enumerate([(8, 32), (32, 8)]):
        add(f"{block}/MlpBlock_3/Dense_{i}/kernel", *shape)
        add(f"{block}/MlpBlock_3/Dense_{i}/bias", shape[1])
    norm("Transformer/encoder_norm", 8)
    add("head/kernel", 8, 3)
    add("head/bias", 3)
    np.savez_compressed(HERE / "hybrid.npz", **arrays)
    _load_weights(model, str(HERE / "hybrid.npz"))
    logits = model.double()(mixed((2, 3, 8, 8), 250, 4))
    return dict(logits=[float(f"{value:.8g}") for value in logits.flatten().tolist()])


cases = dict(transformers=transformers(), timm=timms("vit_tiny_r_s16_p8_224", patch_size=2), original=original())
lines = (f"{json.dumps(k)}: {json.dumps(v, separators=(',', ':'))}" for k, v in cases.items())
(HERE / "hybrids.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")
