"""Writes the references of this folder: small random checkpoints as timm, transformers and the original repositories write
them, and what those libraries compute from them.

    pip install torch timm transformers safetensors gguf numpy && python make.py

Every case is a checkpoint (a folder or a file) and `expected/CASE.safetensors` with `images` and, as far as they apply,
`tokens`, `pooled` and `logits`.
"""

from functools import partial
from pathlib import Path

import gguf
import numpy as np
import timm
import torch
import transformers as hf
from safetensors.torch import save_file
from timm.layers import resample_abs_pos_embed, resample_patch_embed
from timm.models import save_for_hf
from timm.models.vision_transformer import VisionTransformer, checkpoint_filter_fn

HERE = Path(__file__).parent
EXPECTED = HERE / "expected"
SIZES = dict(img_size=16, patch_size=4, embed_dim=24, depth=2, num_heads=3, num_classes=5)
generator = torch.Generator().manual_seed(0)


def random_weights(model):
    """Values large enough that every part of the model shows in its output."""
    for name, p in model.named_parameters():
        noise = torch.randn(p.shape, generator=generator)
        scale = 0.5 if p.ndim == 1 or "token" in name or "pos" in name else p.shape[-1] ** -0.5
        one = p.ndim == 1 and "bias" not in name
        p.data = noise * scale + (1.0 if one else 0.0)
    return model.eval()


def images(channels=3, size=16):
    return torch.randn((2, channels, size, size), generator=generator)


def expect(case, **tensors):
    save_file({k: v.detach().contiguous().float() for k, v in tensors.items()}, EXPECTED / f"{case}.safetensors")


@torch.no_grad()
def expect_timm(case, model, x):
    tokens = model.forward_features(x)
    expect(case, images=x, tokens=tokens, pooled=model.forward_head(tokens, pre_logits=True), logits=model.forward_head(tokens))


def timm_cases():
    model = random_weights(timm.create_model("vit_tiny_patch16_224", **SIZES))
    model.pretrained_cfg.update(tag="made", input_size=(3, 16, 16), num_classes=5, label_names=None)
    labels = ["ant", "bee", "cat", "dog", "elk"]
    save_for_hf(model, HERE / "timm", model_config=dict(label_names=labels), model_args=SIZES, safe_serialization=True)
    expect_timm("timm", model, images())
    load = partial(timm.create_model, f"local-dir:{HERE / 'timm'}", pretrained=True)
    for case, args in dict(
        timm_img_24=dict(img_size=24),
        timm_img_8=dict(img_size=8),
        timm_patch_8=dict(patch_size=8, img_size=32),
        timm_patch_2=dict(patch_size=2, img_size=8),
        timm_in_chans_1=dict(in_chans=1),
        timm_in_chans_4=dict(in_chans=4),
    ).items():
        model = load(**args).eval()
        expect_timm(case, model, images(args.get("in_chans", 3), args.get("img_size", 16)))

    full = dict(SIZES, qk_norm=True, init_values=1e-5, reg_tokens=2, no_embed_class=True, global_pool="avg", mlp_ratio=3.0)
    model = random_weights(timm.create_model("vit_tiny_patch16_224", **full))
    model.pretrained_cfg.update(input_size=(3, 16, 16), num_classes=5)
    save_for_hf(model, HERE / "timm_full", model_args=full, safe_serialization=True)
    expect_timm("timm_full", model, images())


def deit3():
    model = random_weights(VisionTransformer(**SIZES, no_embed_class=True, init_values=1e-6))
    state = {k.replace("ls1.gamma", "gamma_1").replace("ls2.gamma", "gamma_2"): v for k, v in model.state_dict().items()}
    torch.save({"model": state, "epoch": 3, "args": None}, HERE / "deit3.pth")
    expect_timm("deit3", model, images())


def dinov2():
    """Original names: blocks in chunks, a mask token, registers; teacher and student side by side."""
    model = random_weights(VisionTransformer(**{**SIZES, "num_classes": 0}, init_values=1e-5, reg_tokens=4, no_embed_class=True))
    state = {}
    for k, v in model.state_dict().items():
        chunk = k.startswith("blocks.") and f"blocks.{int(k.split('.')[1])}.{k[len('blocks.'):]}"
        state[chunk or k] = v
    state["register_tokens"] = state.pop("reg_token")
    first = torch.randn((1, 1, 24), generator=generator)
    state["cls_token"] = state["cls_token"] - first
    state["pos_embed"] = torch.cat([first, state["pos_embed"]], 1)
    state["mask_token"] = torch.zeros(1, 24)
    wrapped = {f"module.backbone.{k}": v for k, v in state.items()}
    wrapped["module.dino_head.mlp.0.weight"] = torch.ones(4, 4)
    student = {"module.backbone.patch_embed.proj.weight": torch.zeros(24, 3, 4, 4)}
    torch.save({"student": student, "teacher": wrapped}, HERE / "dinov2.pth")
    expect_timm("dinov2", model, images())


def npz(model, stacked):
    """The names of the original ViT repository, or of Big Vision with the blocks stacked."""
    w = {k: v.numpy() for k, v in model.state_dict().items()}
    dim, heads = 24, 3
    mha, mlp, ln = ("0", "0", "1") if stacked else ("1", "3", "2")

    def block(i):
        b = f"blocks.{i}."
        q, k, v = np.split(w[b + "attn.qkv.weight"], 3)
        qb, kb, vb = np.split(w[b + "attn.qkv.bias"], 3)
        out = {"LayerNorm_0/scale": w[b + "norm1.weight"], "LayerNorm_0/bias": w[b + "norm1.bias"]}
        out |= {f"LayerNorm_{ln}/scale": w[b + "norm2.weight"], f"LayerNorm_{ln}/bias": w[b + "norm2.bias"]}
        for n, kernel, bias in [("query", q, qb), ("key", k, kb), ("value", v, vb)]:
            out[f"MultiHeadDotProductAttention_{mha}/{n}/kernel"] = kernel.T.reshape(dim, heads, dim // heads)
            out[f"MultiHeadDotProductAttention_{mha}/{n}/bias"] = bias.reshape(heads, dim // heads)
        out[f"MultiHeadDotProductAttention_{mha}/out/kernel"] = w[b + "attn.proj.weight"].T.reshape(heads, dim // heads, dim)
        out[f"MultiHeadDotProductAttention_{mha}/out/bias"] = w[b + "attn.proj.bias"]
        for r in (0, 1):
            out[f"MlpBlock_{mlp}/Dense_{r}/kernel"] = w[b + f"mlp.fc{r + 1}.weight"].T
            out[f"MlpBlock_{mlp}/Dense_{r}/bias"] = w[b + f"mlp.fc{r + 1}.bias"]
        return out

    out = {"embedding/kernel": w["patch_embed.proj.weight"].transpose(2, 3, 1, 0), "embedding/bias": w["patch_embed.proj.bias"]}
    out["cls"] = w["cls_token"]
    out["pos_embedding" if stacked else "Transformer/posembed_input/pos_embedding"] = w["pos_embed"]
    out |= {"Transformer/encoder_norm/scale": w["norm.weight"], "Transformer/encoder_norm/bias": w["norm.bias"]}
    out |= {"head/kernel": w["head.weight"].T, "head/bias": w["head.bias"]}
    blocks = [block(i) for i in range(2)]
    if stacked:
        out |= {f"Transformer/encoderblock/{k}": np.stack([b[k] for b in blocks]) for k in blocks[0]}
        return {f"params/{k}": v for k, v in out.items()}
    out |= {"pre_logits/kernel": np.ones((4, 4), np.float32), "pre_logits/bias": np.ones(4, np.float32)}
    return out | {f"Transformer/encoderblock_{i}/{k}": v for i, b in enumerate(blocks) for k, v in b.items()}


def jax_cases():
    for case, stacked, save in [("jax", False, np.savez), ("big_vision", True, np.savez_compressed)]:
        model = random_weights(VisionTransformer(**SIZES))
        save(HERE / f"{case}.npz", **npz(model, stacked))
        # What timm reads from the file.
        read = VisionTransformer(**SIZES).eval()
        read.load_pretrained(str(HERE / f"{case}.npz"))
        expect_timm(case, read, images())


@torch.no_grad()
def jax_resized():
    """The same files in models of another image size and of another patch size."""
    for file, case, args in [("jax", "jax_img_8", dict(img_size=8)), ("big_vision", "big_vision_patch_8", dict(patch_size=8))]:
        read = VisionTransformer(**{**SIZES, **args}).eval()
        read.load_pretrained(str(HERE / f"{file}.npz"))
        x = images(size=args.get("img_size", 16))[:1]
        expect(case, images=x, tokens=read.forward_features(x))


@torch.no_grad()
def hugging_face_cases():
    sizes = dict(hidden_size=24, num_hidden_layers=2, num_attention_heads=3, image_size=16, patch_size=4)
    vit = dict(sizes, intermediate_size=72)
    names = {i: name for i, name in enumerate(["ant", "bee", "cat", "dog", "elk"])}
    labels = dict(id2label=names, label2id={name: i for i, name in names.items()})
    for case, model in dict(
        hf_vit=hf.ViTModel(hf.ViTConfig(**vit)),
        hf_vit_classifier=hf.ViTForImageClassification(hf.ViTConfig(**vit, **labels, hidden_act="gelu_new", qkv_bias=False)),
        hf_deit_classifier=hf.DeiTForImageClassification(hf.DeiTConfig(**vit, **labels)),
        hf_deit_teacher=hf.DeiTForImageClassificationWithTeacher(hf.DeiTConfig(**vit, **labels)),
        hf_dinov2=hf.Dinov2Model(hf.Dinov2Config(**sizes)),
        hf_dinov2_classifier=hf.Dinov2ForImageClassification(hf.Dinov2Config(**sizes, **labels)),
        hf_dinov2_registers=hf.Dinov2WithRegistersForImageClassification(
            hf.Dinov2WithRegistersConfig(**sizes, **labels, num_register_tokens=3)
        ),
        hf_mae=hf.ViTMAEForPreTraining(
            hf.ViTMAEConfig(
                **vit, mask_ratio=0.0, decoder_hidden_size=8, decoder_num_hidden_layers=1, decoder_intermediate_size=8,
                decoder_num_attention_heads=2,
            )
        ),
    ).items():
        random_weights(model)
        model.save_pretrained(HERE / case)
        x = images()
        if case == "hf_mae":
            order = torch.arange(16.0).expand(2, 16)
            expect(case, images=x, tokens=model.vit(x, noise=order).last_hidden_state)
        elif case in ("hf_vit", "hf_dinov2"):
            expect(case, images=x, tokens=model(x).last_hidden_state)
        else:
            expect(case, images=x, logits=model(x).logits)
    processor = hf.ViTImageProcessor(size=dict(height=16, width=16), image_mean=[0.4, 0.5, 0.6], image_std=[0.1, 0.2, 0.3])
    processor.save_pretrained(HERE / "hf_vit_classifier")
    processor = hf.BitImageProcessor(size=dict(shortest_edge=20), crop_size=dict(height=16, width=16), resample=3)
    processor.save_pretrained(HERE / "hf_dinov2_classifier")

    # The names that transformers 5 gives to modules, as `torch.save(model.state_dict())` and shards write them.
    model = random_weights(hf.ViTForImageClassification(hf.ViTConfig(**vit, **labels)))
    case = HERE / "hf_vit_v5"
    case.mkdir(exist_ok=True)
    model.config.architectures = ["ViTForImageClassification"]
    model.config.save_pretrained(case)
    torch.save(model.state_dict(), case / "pytorch_model.bin")
    x = images()
    expect("hf_vit_v5", images=x, logits=model(x).logits)
    model.save_pretrained(HERE / "hf_sharded", max_shard_size="40KB")
    expect("hf_sharded", images=x, logits=model(x).logits)


def formats():
    """Tensors of many types and layouts, and their values in float32."""
    base = torch.randn((6, 8), generator=generator)
    state = dict(
        f32=base.clone(), f16=base.half(), bf16=base.bfloat16(), f64=base.double(), i64=torch.arange(5),
        transposed=base.clone().t(), slice=base.clone()[1:5:2, 2:7], scalar=torch.tensor(3.5),
        parameter=torch.nn.Parameter(base.clone()), shared=base.clone().view(-1)[3:9],
    )
    state["twin"] = state["f32"]
    torch.save(state, HERE / "types.pth")
    torch.save(dict(state_dict=state), HERE / "types_legacy.pth", _use_new_zipfile_serialization=False)
    torch.save(dict(state_dict=state), HERE / "types_protocol_4.pth", pickle_protocol=4)
    expect("types", **{k: v.clone() for k, v in state.items()})
    np.savez(
        HERE / "types.npz", f32=base.numpy(), f16=base.half().numpy(), f64=base.double().numpy(),
        transposed=np.asfortranarray(base.numpy()), i64=np.arange(5), scalar=np.float32(3.5),
    )
    writer = gguf.GGUFWriter(HERE / "quantised.gguf", "vit")
    writer.add_array("some.array", [1, 2, 3])
    writer.add_array("some.names", ["a", "b"])
    writer.add_float32("some.number", 1.5)
    values = torch.randn((4, 64), generator=generator).numpy()
    out = {}
    for kind in ["F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0"]:
        kind = gguf.GGMLQuantizationType[kind]
        data = gguf.quants.quantize(values, kind)
        writer.add_tensor(kind.name, data, raw_dtype=kind)
        out[kind.name] = torch.from_numpy(gguf.quants.dequantize(data, kind).astype(np.float32).reshape(4, 64))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    expect("quantised", **out)


def adaptations():
    positions = torch.randn((1, 1 + 14 * 14, 4), generator=generator)
    kernels = torch.randn((3, 2, 16, 16), generator=generator)
    grid = torch.randn((1, 2 + 6 * 10, 4), generator=generator)
    out = dict(positions=positions, kernels=kernels, grid=grid)
    for new in [(7, 7), (24, 24), (10, 13), (1, 1), (15, 14)]:
        out[f"positions_{new[0]}x{new[1]}"] = resample_abs_pos_embed(positions, new, num_prefix_tokens=1)
    out["grid_9x4"] = resample_abs_pos_embed(grid, (9, 4), old_size=(6, 10), num_prefix_tokens=2)
    for new in [8, 14, 15, 17, 32]:
        out[f"kernels_{new}"] = resample_patch_embed(kernels, (new, new))
    expect("adaptations", **out)


@torch.no_grad()
def bundled():
    """What PyTorch computes from the weights that the bundled GGUF holds, on a small picture of smooth waves and one of noise."""
    reader = gguf.GGUFReader(HERE.parents[1] / "bundled" / "vit_small_patch14_dinov2.saliency.gguf")
    state = {}
    for t in reader.tensors:
        values = gguf.quants.dequantize(t.data, t.tensor_type).astype(np.float32)
        state[t.name] = torch.from_numpy(values.reshape([int(n) for n in reversed(t.shape)]))
    model = timm.create_model("vit_small_patch14_dinov2", img_size=56, num_classes=0).eval()
    model.load_state_dict(checkpoint_filter_fn(state, model), strict=True)
    y, x = torch.meshgrid(torch.arange(56.0), torch.arange(56.0), indexing="ij")
    waves = torch.stack([torch.sin(x / 5), torch.cos(y / 7), torch.sin((x + y) / 9)])
    x = torch.stack([waves, torch.randn((3, 56, 56), generator=generator)])
    tokens = model.forward_features(x)
    expect("bundled", images=x, tokens=tokens[:, ::4], pooled=model.forward_head(tokens))


def torch_objects():
    """What only PyTorch writes: parameters, also with attributes, expanded and transposed tensors; in protocol 4 with a set, a large
    number and bytes beside them."""
    values = torch.arange(12.0).reshape(3, 4)
    marked = torch.nn.Parameter(values + 1)
    marked.is_shared = True
    tensors = dict(parameter=torch.nn.Parameter(values), with_attributes=marked, expanded=torch.full((1,), 7.0).expand(2, 5), transposed=values.t())
    beside = dict(tags=frozenset([1, 2]), names={"a", "b"}, large=10**40, raw=bytearray(b"abc"), long=b"x" * 300, type=torch.float32)
    torch.save({"model": tensors, **beside}, HERE / "torch_objects.pth", pickle_protocol=4)
    save_file({k: v.detach().contiguous().clone() for k, v in tensors.items()}, EXPECTED / "torch_objects.safetensors")


if __name__ == "__main__":
    EXPECTED.mkdir(exist_ok=True)
    for make in [timm_cases, deit3, dinov2, jax_cases, hugging_face_cases, formats, adaptations, bundled, torch_objects, jax_resized]:
        make()
