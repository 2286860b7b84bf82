"""Writes zoo.json: what timm says of every ViT that `VitConfig` can express.

    python models/tests/references/zoo.py

For each architecture: the number of parameters, a hash (FNV-1a) of all names and shapes in their order, the floating-point
operations of a forward pass as PyTorch counts them, and every pretrained tag (the default one first) with its preprocessing and licence.
Written with timm 1.0.31 and torch 2.15. Nothing is downloaded and no weights are allocated.
"""

import inspect
import json
from functools import partial
from pathlib import Path

import timm
import torch
from timm.models import beit, deit, eva, resnetv2, vision_transformer as vit, vision_transformer_hybrid as hybrid, vision_transformer_relpos as relpos
from torch.utils.flop_counter import FlopCounterMode

# Keyword arguments that VitConfig knows under the same name.
KNOWN = set(
    """img_size patch_size in_chans num_classes global_pool embed_dim depth num_heads mlp_ratio qkv_bias qk_norm
    init_values class_token no_embed_class reg_tokens pre_norm final_norm fc_norm pool_include_prefix proj_bias""".split()
)
# These change nothing for an image of the stated size.
IDLE = {"dynamic_img_size", "weight_init", "fix_init"}

# What timm's classes Eva and Beit call otherwise.
OTHERWISE = {
    "num_reg_tokens": "reg_tokens",
    "use_pre_transformer_norm": "pre_norm",
    "use_post_transformer_norm": "final_norm",
    "use_fc_norm": "fc_norm",
}
KNOWN_TO_EVA = KNOWN | set(
    """qkv_fused scale_attn_inner swiglu_mlp swiglu_align_to scale_mlp rope_temperature rope_grid_offset rope_grid_indexing
    rope_rotate_half ref_feat_shape use_post_norm use_rel_pos_bias use_shared_rel_pos_bias attn_pool_num_heads
    attn_pool_mlp_ratio""".split()
)

captured = {}


def capturing(cls):
    original = cls.__init__
    signature = inspect.signature(original)

    def capture(self, *args, **kwargs):
        captured.clear()
        captured.update(signature.bind(self, *args, **kwargs).arguments)
        captured.pop("self")
        return original(self, *args, **kwargs)

    cls.__init__ = capture
    return signature


signature = capturing(vit.VisionTransformer)
signature_of_eva, signature_of_beit = capturing(eva.Eva), capturing(beit.Beit)
signature_of_relpos = capturing(relpos.VisionTransformerRelPos)


def config_of(arguments):
    """The arguments as VitConfig's fields; None if it cannot express them."""
    config = {}
    for name, value in arguments.items():
        if name in IDLE:
            continue
        if name in KNOWN:
            config[name] = value[0] if isinstance(value, tuple) else value
        elif name == "norm_layer" and isinstance(value, partial) and value.func.__name__ in ("LayerNorm", "RmsNorm"):
            config["norm_eps"] = value.keywords["eps"]
            if value.func.__name__ == "RmsNorm":
                config["norm_layer"] = "rmsnorm"
        elif name == "norm_layer" and value in ("rmsnorm", timm.layers.RmsNorm):
            config["norm_layer"] = "rmsnorm"
        elif name == "embed_norm_layer" and value.func is arguments["norm_layer"].func and value.keywords == arguments["norm_layer"].keywords:
            config["embed_norm"] = True
        elif name in ("scale_attn_norm", "scale_mlp_norm"):
            config[{"scale_attn_norm": "scale_attn_inner", "scale_mlp_norm": "scale_mlp"}[name]] = value
        elif name == "act_layer" and value in ("gelu_tanh", "quick_gelu"):
            config["act"] = value
        elif name == "mlp_layer" and value is timm.layers.SwiGLUPacked and arguments.get("act_layer") is torch.nn.SiLU:
            # timm's mlp_ratio counts the gate too.
            config |= {"swiglu_mlp": True, "act": "silu", "mlp_ratio": arguments["mlp_ratio"] / 2}
        elif name == "mlp_layer" and value is timm.layers.SwiGLU and arguments.get("act_layer") == "silu":
            # The gate comes from a layer of its own.
            config |= {"swiglu_mlp": True, "act": "silu", "swiglu_align_to": 1}
        elif name == "act_layer" and value in ("silu", torch.nn.SiLU) and "mlp_layer" in arguments:
            continue
        elif name == "attn_layer" and value == "diff":
            config["attn_layer"] = "diff"
        elif name == "block_fn" and value is vit.DiffParallelScalingBlock:
            config |= {"block_fn": "parallel_scaling", "attn_layer": "diff"}
        elif name == "block_fn" and value in (vit.ParallelScalingBlock, vit.ParallelThingsBlock):
            config["block_fn"] = "parallel_scaling" if value is vit.ParallelScalingBlock else "parallel_things"
        elif name == "block_fn" and value is vit.ResPostBlock:
            config["use_post_norm"] = True
        elif name == "embed_layer" and value.func is timm.layers.HybridEmbed:
            stem = stem_of(value.keywords)
            if stem is None:
                return None
            config["stem_layers"] = stem
        elif value != signature.parameters[name].default:
            return None
    if "stem_layers" not in config and config["img_size"] % config.get("patch_size", 16):
        config["trim"] = True  # timm leaves out the last pixels
    return config


def stem_of(arguments):
    """The bottlenecks of a hybrid's stages; none where it has another network than BiT's ResNet, or no projection behind it."""
    backbone = arguments["backbone"]
    if arguments.get("proj", True) is False:
        return None
    if isinstance(backbone, resnetv2.ResNetV2):
        return [len(stage.blocks) for stage in backbone.stages]
    return [] if "conv" in dict(backbone.named_children()) else None


def config_of_eva(arguments, signature):
    """The same of timm's classes Eva and Beit, whose keys have no bias but in Eva's attention of the type "rope"."""
    arguments = {"global_pool": "avg"} | arguments
    config = {"k_bias": arguments.get("attn_type") == "rope"}
    for name, value in arguments.items():
        name = OTHERWISE.get(name, name)
        if name in IDLE or name == "attn_type":
            continue
        if name in KNOWN_TO_EVA:
            config[name] = value[0] if isinstance(value, tuple) else value
        elif name == "norm_layer" and isinstance(value, partial) and value.func.__name__ == "LayerNorm":
            config["norm_eps"] = value.keywords["eps"]
        elif name == "use_abs_pos_emb":
            config["pos_embed"] = "learned" if value else "none"
        elif name == "use_rot_pos_emb":
            config["rope_type"] = arguments.get("rope_type", "cat")
        elif name != "rope_type" and value != signature.parameters[name].default:
            return None
    if config.get("swiglu_mlp"):
        config["act"] = "silu"
    if config["global_pool"] == "map":
        config["pool_include_prefix"] = True
    return config


def config_of_relpos(arguments):
    """The same of timm's VisionTransformerRelPos."""
    defaults = {name: parameter.default for name, parameter in signature_of_relpos.parameters.items() if name != "self"}
    arguments = defaults | arguments
    shared = arguments["shared_rel_pos"]
    config = {name: value for name, value in arguments.items() if name in KNOWN}
    size = arguments["img_size"]
    return config | {
        "img_size": size[0] if isinstance(size, tuple) else size,
        "pos_embed": "none",
        "use_rel_pos_bias": not shared,
        "use_shared_rel_pos_bias": shared,
        "rel_pos_dim": arguments["rel_pos_dim"] or 128,
        "use_post_norm": arguments["block_fn"] is relpos.ResPostRelPosBlock,
    }


def weights_of(name):
    default = timm.get_pretrained_cfg(name).tag
    for tag in sorted(timm.list_pretrained(f"{name}.*"), key=lambda tag: not tag.endswith(f".{default}")):
        cfg = timm.get_pretrained_cfg(tag)
        # Files in another project's layout, or no file on the hub at all.
        if not cfg.hf_hub_id or cfg.hf_hub_filename or cfg.custom_load == "hf":
            continue
        # Left out where it is timm's own for the name.
        hub = cfg.hf_hub_id if not cfg.hf_hub_id.endswith("/") else cfg.hf_hub_id + tag
        yield {
            "tag": cfg.tag,
            **({} if hub == f"timm/{tag}" else {"hub": hub}),
            "num_classes": cfg.num_classes,
            "input_size": list(cfg.input_size),
            "interpolation": cfg.interpolation,
            "crop_pct": cfg.crop_pct,
            "crop_mode": cfg.crop_mode,
            "mean": list(cfg.mean),
            "std": list(cfg.std),
            "license": cfg.license,
        }


def fnv1a(text):
    value = 0xCBF29CE484222325
    for byte in text:
        value = (value ^ byte) * 0x100000001B3 % 2**64
    return value


def operations(model, size):
    """On the meta device nothing is computed."""
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        model.eval()(torch.empty(1, 3, size, size))
    return counter.get_total_flops()


timm.layers.set_fused_attn(False)  # an attention counts as its two matmuls


def main():
    zoo = {}
    for name in timm.list_models():
        entrypoint = timm.models.model_entrypoint(name)
        if entrypoint.__module__ not in [module.__name__ for module in (vit, deit, eva, beit, relpos, hybrid)]:
            continue
        with torch.device("meta"):
            model = timm.create_model(name)
        if isinstance(model, eva.Eva):
            config = config_of_eva(captured, signature_of_eva)
        elif isinstance(model, beit.Beit):
            config = config_of_eva(captured, signature_of_beit)
        elif isinstance(model, relpos.VisionTransformerRelPos):
            config = config_of_relpos(captured)
        else:
            config = config_of(captured)
        if config is None:
            continue
        if isinstance(model, deit.VisionTransformerDistilled):
            config["distilled"] = True
        shapes = "".join(f"{n}{list(p.shape)}\n" for n, p in model.state_dict().items())
        zoo[name] = {
            "config": config,
            "parameters": sum(p.numel() for p in model.parameters()),
            "shapes": f"{fnv1a(shapes.encode()):016x}",
            "flops": operations(model, config["img_size"]),
            "weights": list(weights_of(name)),
        }
    text = "{\n" + ",\n".join(f"{json.dumps(k)}: {json.dumps(v, separators=(',', ':'))}" for k, v in zoo.items()) + "\n}\n"
    (Path(__file__).parent / "zoo.json").write_text(text)
    print(len(zoo), "architectures,", sum(len(a["weights"]) for a in zoo.values()), "weights")


main()
