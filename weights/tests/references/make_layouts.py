"""Writes the references of `layouts`: tiny random ViTs in the names and files of CLIP, SigLIP, open_clip, torchvision, mmpretrain, vit-pytorch and
transformers' ViT-MSN and I-JEPA, and what those libraries compute from them.

    pip install torch timm transformers open_clip_torch torchvision vit-pytorch safetensors && python make_layouts.py

Every case is a folder `layouts/CASE` as the library writes it and `layouts/CASE/expected.safetensors` with `images` and, as far as they
apply, `pooled` and `logits` (of a CLIP the projected embedding). mmpretrain's are timm's values under its names.
"""

import json
import shutil
from functools import partial
from pathlib import Path

import open_clip
import timm
import torch
import torchvision
import transformers as hf
from safetensors.torch import save_file
from timm.models.vision_transformer import VisionTransformer
from vit_pytorch import ViT

HERE = Path(__file__).parent / "layouts"
SIZE, PATCH, WIDTH, DEPTH, HEADS, HIDDEN = 8, 4, 8, 2, 2, 10
torch.set_grad_enabled(False)
generator = torch.Generator().manual_seed(0)
VISION = dict(
    hidden_size=WIDTH, intermediate_size=HIDDEN, num_hidden_layers=DEPTH, num_attention_heads=HEADS, image_size=SIZE, patch_size=PATCH
)
ONE = dict(VISION, num_hidden_layers=1)
TEXT = dict(hidden_size=4, intermediate_size=4, num_hidden_layers=1, num_attention_heads=1, vocab_size=8, max_position_embeddings=4)
TEXT |= dict(bos_token_id=0, eos_token_id=1, pad_token_id=1)
TIMM = dict(img_size=SIZE, patch_size=PATCH, embed_dim=WIDTH, depth=1, num_heads=HEADS, mlp_ratio=HIDDEN / WIDTH)
TIMM |= dict(norm_layer=partial(torch.nn.LayerNorm, eps=1e-6))


def random_weights(model):
    """Values large enough that every part of the model shows in its output."""
    for name, p in model.named_parameters():
        small = p.ndim < 2 or any(word in name for word in ("token", "pos", "embedding"))
        one = p.ndim == 1 and "bias" not in name and "class" not in name
        values = torch.randn(p.shape, generator=generator) * (0.5 if small else p.shape[-1] ** -0.5) + (1.0 if one else 0.0)
        # Files hold half precision, to be small.
        p.data = values.half().float()
    return model.eval()


def images():
    return torch.randn((2, 3, SIZE, SIZE), generator=generator)


def folder(case):
    shutil.rmtree(HERE / case, ignore_errors=True)
    (HERE / case).mkdir(parents=True)
    return HERE / case


def halved(state):
    return {k: v.contiguous().half() for k, v in state.items()}


def expect(case, **tensors):
    save_file({k: v.detach().contiguous().float() for k, v in tensors.items()}, HERE / case / "expected.safetensors")


def transformers():
    clip = hf.CLIPModel(hf.CLIPConfig(text_config=TEXT, vision_config=dict(VISION, hidden_act="gelu"), projection_dim=6))
    chosen = dict(
        clip=clip,
        clip_vision=hf.CLIPVisionModelWithProjection(hf.CLIPVisionConfig(**ONE, projection_dim=6)),
        clip_classifier=hf.CLIPForImageClassification(hf.CLIPConfig(text_config=TEXT, vision_config=ONE, num_labels=3)),
        siglip=hf.SiglipModel(hf.SiglipConfig(text_config=TEXT, vision_config=ONE)),
        siglip_classifier=hf.SiglipForImageClassification(hf.SiglipConfig(text_config=TEXT, vision_config=ONE, num_labels=3)),
        ijepa=hf.IJepaModel(hf.IJepaConfig(**ONE)),
        msn_classifier=hf.ViTMSNForImageClassification(hf.ViTMSNConfig(**ONE, num_labels=3)),
    )
    for case, model in chosen.items():
        random_weights(model).half().save_pretrained(folder(case))
        model.float()
        x = images()
        if case in ("clip", "clip_vision"):
            pooled = model.vision_model(x).pooler_output
            expect(case, images=x, pooled=pooled, logits=model.visual_projection(pooled))
        elif case == "siglip":
            expect(case, images=x, pooled=model.vision_model(x).pooler_output)
        elif case == "ijepa":
            expect(case, images=x, pooled=model(x).last_hidden_state.mean(1))
        else:
            expect(case, images=x, logits=model(x).logits)
    hf.CLIPImageProcessor(size=dict(shortest_edge=10), crop_size=dict(height=SIZE, width=SIZE)).save_pretrained(HERE / "clip")
    hf.SiglipImageProcessor(size=dict(height=SIZE, width=SIZE)).save_pretrained(HERE / "siglip")


def of_open_clip():
    text = dict(context_length=4, vocab_size=8, width=4, heads=1, layers=1)
    vision = dict(image_size=SIZE, patch_size=PATCH, width=WIDTH, layers=DEPTH, head_width=WIDTH // HEADS, mlp_ratio=HIDDEN / WIDTH)
    clipa = dict(vision, layers=1, no_ln_pre=True, pool_type="avg", final_ln_after_pool=True)
    for case, quick, vision in [("open_clip", True, vision), ("clipa", False, clipa)]:
        model = random_weights(open_clip.CLIP(embed_dim=6, quick_gelu=quick, vision_cfg=vision, text_cfg=text))
        made = folder(case)
        # Both towers, or the vision tower alone.
        kept = "" if quick else "visual."
        save_file(halved({k: v for k, v in model.state_dict().items() if k.startswith(kept)}), made / "open_clip_model.safetensors")
        config = dict(embed_dim=6, vision_cfg=vision, text_cfg=text) | (dict(quick_gelu=True) if quick else {})
        preprocess = dict(mean=[0.1, 0.2, 0.3], std=[0.4, 0.5, 0.6], interpolation="bicubic", resize_mode="squash")
        (made / "open_clip_config.json").write_text(json.dumps(dict(model_cfg=config, preprocess_cfg=preprocess)))
        x = images()
        expect(case, images=x, logits=model.encode_image(x))


def trunk():
    """A tower of timm's inside of open_clip, with its linear projection."""
    model = random_weights(VisionTransformer(**TIMM, num_classes=0, class_token=False, global_pool="map"))
    projection = random_weights(torch.nn.Linear(WIDTH, 6, bias=False))
    state = {f"visual.trunk.{k}": v for k, v in model.state_dict().items()}
    state |= {"visual.head.proj.weight": projection.weight.data, "text.ln_final.weight": torch.ones(WIDTH), "logit_scale": torch.ones(())}
    save_file(halved(state), folder("trunk") / "open_clip_model.safetensors")
    x = images()
    expect("trunk", images=x, pooled=model(x), logits=projection(model(x)))


def of_torchvision():
    model = torchvision.models.VisionTransformer(SIZE, PATCH, 1, HEADS, WIDTH, HIDDEN, num_classes=3)
    state, x = random_weights(model).state_dict(), images()
    torch.save(halved(state), folder("torchvision") / "vit_b_16-0123abcd.pth")
    logits = model(x)
    model.heads = torch.nn.Identity()
    expect("torchvision", images=x, pooled=model(x), logits=logits)
    # The names of SWAG's own repository, whose positions have the batch in the middle.
    for ours, theirs in [("encoder_layer_", "layer_"), ("mlp.0.", "mlp.linear_1."), ("mlp.3.", "mlp.linear_2."), ("heads.", "head.layers.")]:
        state = {k.replace(ours, theirs): v for k, v in state.items()}
    state["encoder.pos_embedding"] = state["encoder.pos_embedding"].transpose(0, 1).contiguous()
    save_file(halved(state), folder("swag") / "vit_b16_in1k.safetensors")
    expect("swag", images=x, logits=logits)


def mmpretrain():
    """As mmpretrain names it, and mmseg, which has PyTorch's own attention and no classifier."""
    model = random_weights(VisionTransformer(**TIMM, num_classes=3, init_values=0.1))
    state = {}
    blocks = [("norm1", "ln1"), ("norm2", "ln2"), ("mlp.fc1", "ffn.layers.0.0"), ("mlp.fc2", "ffn.layers.1"), ("blocks.", "layers.")]
    blocks += [("ls1.gamma", "attn.gamma1.weight"), ("ls2.gamma", "ffn.gamma2.weight")]
    for name, value in model.state_dict().items():
        for ours, theirs in blocks if name.startswith("blocks.") else [("norm.", "ln1."), ("embed.proj", "embed.projection")]:
            name = name.replace(ours, theirs)
        state[f"head.layers.{name}" if name.startswith("head.") else f"backbone.{name}"] = value
    torch.save(dict(meta=dict(epoch=1), state_dict=halved(state)), folder("mmpretrain") / "vit.pth", _use_new_zipfile_serialization=False)
    x = images()
    pooled = model.forward_head(model.forward_features(x), pre_logits=True)
    expect("mmpretrain", images=x, pooled=pooled, logits=model(x))
    attention = [("attn.qkv.", "attn.attn.in_proj_"), ("attn.proj", "attn.attn.out_proj")]
    state = {k: v for k, v in state.items() if k.startswith("backbone.")} | {"decode_head.conv_seg.weight": torch.zeros(2, WIDTH, 1, 1)}
    for ours, theirs in attention:
        state = {k.replace(ours, theirs): v for k, v in state.items()}
    save_file(halved(state), folder("mmseg") / "vit.safetensors")
    expect("mmseg", images=x, pooled=pooled)


def of_vit_pytorch():
    for case, pool in [("vit_pytorch", "cls"), ("vit_pytorch_mean", "mean")]:
        sizes = dict(image_size=SIZE, patch_size=PATCH, dim=WIDTH, depth=1, heads=HEADS, dim_head=WIDTH // HEADS, mlp_dim=HIDDEN)
        model = random_weights(ViT(**sizes, num_classes=3, pool=pool))
        save_file(halved(model.state_dict()), folder(case) / "vit.safetensors")
        x = images()
        expect(case, images=x, logits=model(x))


if __name__ == "__main__":
    for make in [transformers, of_open_clip, trunk, of_torchvision, mmpretrain, of_vit_pytorch]:
        make()
