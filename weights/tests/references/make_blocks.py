"""Writes the references of ViTs with other blocks than the first one's: DINOv3, EVA-02, BEiT, Data2Vec-Vision, DINOv2's giant,
Perception Encoder, learned rotary positions, relative positions through an MLP, parallel blocks, AIMv2, BEiT-3. As make.py: small random checkpoints in the real layouts, and what timm and
transformers compute from them.

    pip install torch timm transformers safetensors && python make_blocks.py
"""

from pathlib import Path

import timm
import torch
import transformers as hf
from safetensors.torch import save_file
from timm.models import save_for_hf

HERE = Path(__file__).parent
EXPECTED = HERE / "expected"
SIZES = dict(img_size=6, patch_size=2, embed_dim=8, depth=2, num_heads=2, num_classes=3, mlp_ratio=2.0)
OF_HF = dict(
    image_size=6, patch_size=2, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=12, num_labels=3
)
generator = torch.Generator().manual_seed(0)


def random_weights(model):
    """Values large enough that every part of the model shows in its output."""
    for name, p in model.named_parameters():
        noise = torch.randn(p.shape, generator=generator)
        scale = 0.5 if p.ndim == 1 or "token" in name or "pos" in name or "freqs" in name else p.shape[-1] ** -0.5
        one = p.ndim == 1 and "bias" not in name
        p.data = noise * scale + (1.0 if one else 0.0)
    return model.eval()


def images(height=6, width=6):
    return torch.randn((1, 3, height, width), generator=generator)


def expect(case, **tensors):
    tensors = {name: value.detach().contiguous().clone() for name, value in tensors.items()}
    save_file(tensors, EXPECTED / f"{case}.safetensors")


def expect_timm(case, model, x):
    tokens = model.forward_features(x)
    expect(case, images=x, tokens=tokens, pooled=model.forward_head(tokens, pre_logits=True), logits=model.forward_head(tokens))


@torch.no_grad()
def timm_cases(cases):
    for case, name, args, other in cases:
        args = SIZES | args
        model = random_weights(timm.create_model(name, **args))
        model.pretrained_cfg.update(tag="made", input_size=(3, 6, 6), num_classes=3, label_names=None)
        save_for_hf(model, HERE / case, model_args=args, safe_serialization=True)
        expect_timm(case, model, images())
        if other:
            model = timm.create_model(f"local-dir:{HERE / case}", pretrained=True, img_size=other).eval()
            expect_timm(f"{case}_other", model, images(*other))


CASES = [
    ("timm_dinov3", "vit_small_plus_patch16_dinov3_qkvb", {}, (4, 10)),
    ("timm_eva02", "eva02_base_patch16_clip_224", {"depth": 1}, (8, 4)),
    ("timm_beit", "beit_base_patch16_224", {"use_shared_rel_pos_bias": True}, (10, 4)),
    ("timm_rope_mixed", "vit_small_patch16_rope_mixed_ape_224", {"depth": 1}, (4, 8)),
    ("timm_pe", "vit_pe_core_tiny_patch16_384", {"depth": 1, "attn_pool_num_heads": 2, "attn_pool_mlp_ratio": 1.0}, None),
    ("timm_post_norm", "eva02_enormous_patch14_clip_224", {"depth": 1}, None),
]
# After the others, whose values come from the same generator.
RELATIVE = [("timm_relpos", "vit_relpos_medium_patch16_cls_224", {"rel_pos_dim": 4, "init_values": 0.5}, (4, 8))]
# Attention and MLP side by side, other norms; after these.
PARALLEL = [
    ("timm_pwee", "vit_pwee_patch16_reg1_gap_256", {"init_values": 0.5}, (8, 4)),
    ("timm_xp", "vit_base_patch16_xp_224", {"depth": 1}, None),
    ("timm_things", "vit_small_patch16_18x2_224", {"depth": 1}, None),
    ("timm_aimv2", "aimv2_large_patch14_224", {"depth": 1}, None),
    ("timm_dpwee", "vit_dpwee_patch16_reg1_gap_256", {"depth": 1}, None),
    ("timm_beit3", "beit3_base_patch16_224", {"depth": 1}, None),
]


@torch.no_grad()
def metas_dinov3():
    """The original names: a bias of the keys behind a mask, registers as storage tokens, periods of the angles."""
    args = SIZES | dict(num_classes=0, depth=1, global_pool="token")
    model = random_weights(timm.create_model("vit_small_patch16_dinov3_qkvb", **args))
    state = {}
    for name, value in model.state_dict().items():
        name = name.replace("gamma_1", "ls1.gamma").replace("gamma_2", "ls2.gamma").replace("reg_token", "storage_tokens")
        if name.endswith("q_bias"):
            block = name.removesuffix("q_bias")
            v = model.state_dict()[name.replace("q_bias", "v_bias")]
            state[f"{block}qkv.bias"] = torch.cat([value, torch.randn(value.shape, generator=generator), v])
            state[f"{block}qkv.bias_mask"] = torch.cat([torch.ones(8), torch.zeros(8), torch.ones(8)])
        elif not name.endswith("v_bias"):
            state[name] = value
    state["rope_embed.periods"] = torch.ones(1)
    state["mask_token"] = torch.zeros(1, 8)
    torch.save(state, HERE / "dinov3.pth")
    expect_timm("dinov3", model, images())


@torch.no_grad()
def hugging_face_cases():
    dinov3 = hf.DINOv3ViTConfig(**OF_HF, num_register_tokens=2, use_gated_mlp=True, hidden_act="silu", layerscale_value=0.5)
    beit = hf.BeitConfig(**OF_HF, use_relative_position_bias=True, use_mask_token=True)
    data2vec = hf.Data2VecVisionConfig(**OF_HF, use_shared_relative_position_bias=True, use_absolute_position_embeddings=True)
    giant = hf.Dinov2Config(**{k: v for k, v in OF_HF.items() if k != "intermediate_size"}, use_swiglu_ffn=True, mlp_ratio=2)
    for case, model in [
        ("hf_dinov3", hf.DINOv3ViTModel(dinov3)),
        ("hf_beit_classifier", hf.BeitForImageClassification(beit)),
        ("hf_data2vec", hf.Data2VecVisionModel(data2vec)),
        ("hf_dinov2_giant", hf.Dinov2Model(giant)),
    ]:
        random_weights(model).save_pretrained(HERE / case)
        x = images()
        inner = getattr(model, model.base_model_prefix) if hasattr(model, "classifier") else model
        out = inner(x)
        more = {} if out.pooler_output is None else {"pooled": out.pooler_output}
        if hasattr(model, "classifier"):
            more["logits"] = model(x).logits
        expect(case, images=x, tokens=out.last_hidden_state, **more)


timm_cases(CASES)
metas_dinov3()
hugging_face_cases()
timm_cases(RELATIVE)
timm_cases(PARALLEL)
