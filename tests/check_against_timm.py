#!/usr/bin/env python3
"""Tallow's forward pass and training, through its command line, against timm, transformers and PyTorch on random checkpoints.

    python3 -m venv /path/to/venv && /path/to/venv/bin/pip install torch timm transformers safetensors pillow
    cargo build --release && /path/to/venv/bin/python tests/check_against_timm.py [forward|train|export] [NAME...]

Not part of the test command, which needs no Python. Every line prints the largest relative error, max|a-b| / max|b|; the exit
status is 1 if one is above its bound.
"""
import gzip, json, os, subprocess, sys, tempfile
from pathlib import Path

import numpy as np
import timm
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

ROOT = Path(__file__).resolve().parent.parent
TALLOW = os.environ.get("TALLOW", str(Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release" / "tallow"))
failed = []


def verdict(name, error, bound):
    print(f"{'ok  ' if error <= bound else 'FAIL'} {name:60} {error:.2e} (bound {bound:.0e})", flush=True)
    if not error <= bound:
        failed.append(name)


def relative(a, b):
    a, b = torch.as_tensor(a).double(), torch.as_tensor(b).double()
    if a.shape != b.shape:
        print(f"     shapes {tuple(a.shape)} and {tuple(b.shape)}")
        return float("inf")
    return ((a - b).abs().max() / b.abs().max()).item()


def tallow(*args):
    run = subprocess.run([TALLOW, *map(str, args)], capture_output=True, text=True)
    if run.returncode:
        raise RuntimeError(f"tallow {' '.join(map(str, args))}: exit {run.returncode}: {run.stderr.strip()}")
    return run.stdout


def randomise(model, seed):
    """Weights that a trained model could have: nothing at its initial zero or one."""
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if p.ndim > 1:
                p.copy_(torch.randn(p.shape, generator=g) * (0.02 if "token" in name or "pos" in name else 1.2 / p[0].numel() ** 0.5))
            elif "norm" in name and name.endswith("weight"):
                p.copy_(1 + 0.2 * torch.randn(p.shape, generator=g))
            elif "gamma" in name or "lambda" in name:
                p.copy_(0.3 * torch.randn(p.shape, generator=g))
            else:
                p.copy_(0.1 * torch.randn(p.shape, generator=g))
    return model.eval()


def save_timm(model, folder, arch, args, input_size, mean=(0.5,) * 3, std=(0.5,) * 3, **extra):
    folder.mkdir(parents=True, exist_ok=True)
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, folder / "model.safetensors", metadata={"format": "pt"})
    config = {
        "architecture": arch, "num_classes": model.num_classes, "num_features": model.num_features,
        "global_pool": model.global_pool, "model_args": args,
        "pretrained_cfg": {
            "tag": "random", "input_size": list(input_size), "fixed_input_size": True, "interpolation": "bicubic",
            "crop_pct": 1.0, "crop_mode": "center", "mean": list(mean), "std": list(std), "num_classes": model.num_classes,
            "first_conv": "patch_embed.proj", "classifier": "head", **extra,
        },
    }
    (folder / "config.json").write_text(json.dumps(config))


def pictures(folder, size, mode="RGB", n=3, seed=0):
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    paths = []
    for i in range(n):
        small = rng.integers(0, 256, (9, 9, 3) if mode == "RGB" else (9, 9), dtype=np.uint8)
        image = Image.fromarray(small).resize((size, size), Image.BICUBIC)
        paths.append(folder / f"{mode}{size}-{i}.png")
        image.save(paths[-1])
    return paths


def pixels(paths, chans, mean, std):
    out = []
    for p in paths:
        a = np.asarray(Image.open(p).convert("RGB" if chans == 3 else "L"), dtype=np.float32) / 255
        a = a[None] if a.ndim == 2 else a.transpose(2, 0, 1)
        out.append((a - np.array(mean, np.float32)[:, None, None]) / np.array(std, np.float32)[:, None, None])
    return torch.from_numpy(np.stack(out).astype(np.float32))


def embedded(model, images, kind, out, *flags):
    tallow("embed", model, *images, "--out", out, "--features", kind, "-q", *flags)
    return load_file(out)["features"]


TIMM = {  # name: (architecture, constructor arguments)
    "classic": ("vit_small_patch16_224", dict(num_classes=10)),
    "tiny-64px": ("vit_tiny_patch16_224", dict(num_classes=7, img_size=64, patch_size=8)),
    "layerscale-qknorm-reg-avg": ("vit_small_patch16_224", dict(num_classes=5, img_size=96, embed_dim=192, depth=4, num_heads=3, init_values=0.1,
                                  qk_norm=True, reg_tokens=4, global_pool="avg", class_token=True)),
    "avg-no-class-token": ("vit_small_patch16_224", dict(num_classes=5, img_size=64, embed_dim=96, depth=3, num_heads=4, global_pool="avg", class_token=False)),
    "max": ("vit_small_patch16_224", dict(num_classes=5, img_size=64, embed_dim=96, depth=2, num_heads=2, global_pool="max")),
    "avgmax": ("vit_small_patch16_224", dict(num_classes=5, img_size=64, embed_dim=96, depth=2, num_heads=2, global_pool="avgmax")),
    "avg-fc-norm-off": ("vit_small_patch16_224", dict(num_classes=5, img_size=64, embed_dim=96, depth=2, num_heads=2, global_pool="avg", fc_norm=False)),
    "token-fc-norm-on": ("vit_small_patch16_224", dict(num_classes=5, img_size=64, embed_dim=96, depth=2, num_heads=2, fc_norm=True)),
    "pre-norm-no-bias": ("vit_small_patch16_224", dict(num_classes=5, img_size=64, embed_dim=96, depth=2, num_heads=2, pre_norm=True, qkv_bias=False)),
    "no-embed-class-reg": ("vit_small_patch14_reg4_dinov2", dict(num_classes=4, img_size=70, depth=3)),
    "dinov2": ("vit_small_patch14_dinov2", dict(num_classes=4, img_size=98, depth=3)),
    "map-siglip": ("vit_base_patch16_siglip_224", dict(num_classes=3, img_size=64, embed_dim=96, depth=2, num_heads=3)),
    "clip-quickgelu": ("vit_base_patch16_clip_quickgelu_224", dict(num_classes=6, img_size=64, embed_dim=96, depth=2, num_heads=3)),
    "mlp-ratio-3": ("vit_small_patch16_224", dict(num_classes=5, img_size=48, embed_dim=72, depth=2, num_heads=3, mlp_ratio=3)),
    "deit-distilled": ("deit_tiny_distilled_patch16_224", dict(num_classes=10, depth=3)),
    "deit3": ("deit3_small_patch16_224", dict(num_classes=10, depth=3)),
    "no-head": ("vit_small_patch16_224", dict(num_classes=0, img_size=64, depth=2)),
    "test_vit": ("test_vit", dict(num_classes=10)),
    "test_vit2": ("test_vit2", dict(num_classes=10)),
    "test_vit3": ("test_vit3", dict(num_classes=10)),
    "rms-norm": ("test_vit4", dict(num_classes=10)),
    "parallel-scaling": ("vit_pwee_patch16_reg1_gap_256", dict(num_classes=5, img_size=64, embed_dim=96, depth=3)),
    "parallel-scaling-xp": ("vit_base_patch16_xp_224", dict(num_classes=5, img_size=64, embed_dim=96, depth=2, num_heads=3)),
    "parallel-things": ("vit_small_patch16_18x2_224", dict(num_classes=5, img_size=64, embed_dim=96, depth=2, num_heads=3)),
    "aimv2": ("aimv2_large_patch14_224", dict(num_classes=5, img_size=70, embed_dim=96, depth=2, num_heads=3)),
    "differential": ("vit_dwee_patch16_reg1_gap_256", dict(num_classes=5, img_size=64, embed_dim=96, depth=2, num_heads=3)),
    "differential-parallel": ("vit_dpwee_patch16_reg1_gap_256", dict(num_classes=5, img_size=64, embed_dim=96, depth=2, num_heads=3)),
    "beit3": ("beit3_base_patch16_224", dict(num_classes=5, img_size=64, embed_dim=96, depth=2, num_heads=3)),
}


def forward(work, only):
    for i, (name, (arch, args)) in enumerate(TIMM.items()):
        if only and name not in only:
            continue
        try:
            model = randomise(timm.create_model(arch, pretrained=False, **args), i)
            size = model.patch_embed.img_size[0]
            folder = work / name
            kept = {k: v for k, v in args.items() if k not in ("num_classes",)}
            save_timm(model, folder, arch, kept, (3, size, size))
            images = pictures(work / "images", size)
            x = pixels(images, 3, [0.5] * 3, [0.5] * 3)
            with torch.inference_mode():
                tokens = model.forward_features(x)
                pooled, logits = model.forward_head(tokens, pre_logits=True), model.forward_head(tokens)
                if name == "deit-distilled":
                    pooled = None
            verdict(f"{name} tokens", relative(embedded(folder, images, "tokens", work / "o.safetensors"), tokens), 2e-5)
            if pooled is not None:
                verdict(f"{name} pooled", relative(embedded(folder, images, "pooled", work / "o.safetensors"), pooled), 2e-5)
            if model.num_classes:
                verdict(f"{name} logits", relative(embedded(folder, images, "logits", work / "o.safetensors"), logits), 2e-5)
        except Exception as e:
            print(f"FAIL {name}: {e}")
            failed.append(name)
    if not only or "resampled" in only:
        resampled(work)
    if not only or "huggingface" in only:
        huggingface(work)


def resampled(work):
    """timm's own loading of a checkpoint into another size, patch or number of channels is the reference."""
    cases = {
        "img 224 to 96": ("vit_small_patch16_224", dict(depth=2), dict(img_size=96)),
        "img 64 to 160": ("vit_small_patch16_224", dict(depth=2, img_size=64), dict(img_size=160)),
        "no_embed_class 70 to 42": ("vit_small_patch14_reg4_dinov2", dict(depth=2, img_size=70), dict(img_size=42)),
        "patch 16 to 8": ("vit_small_patch16_224", dict(depth=2, img_size=64), dict(patch_size=8)),
        "patch 8 to 12, img 64 to 48": ("vit_small_patch16_224", dict(depth=2, img_size=64, patch_size=8), dict(patch_size=12, img_size=48)),
        "RGB to grey": ("vit_small_patch16_224", dict(depth=2, img_size=64), dict(in_chans=1)),
    }
    for i, (name, (arch, base, change)) in enumerate(cases.items()):
        try:
            model = randomise(timm.create_model(arch, num_classes=6, **base), 100 + i)
            folder = work / f"resampled{i}"
            size = model.patch_embed.img_size[0]
            save_timm(model, folder, arch, dict(base), (3, size, size))
            other = timm.create_model(arch, num_classes=6, pretrained=True, pretrained_cfg_overlay=dict(
                file=str(folder / "model.safetensors"), num_classes=6, custom_load=False), **{**base, **change}).eval()
            chans, target = change.get("in_chans", 3), other.patch_embed.img_size[0]
            images = pictures(work / "images", target, "RGB" if chans == 3 else "L", seed=5)
            with torch.inference_mode():
                tokens = other.forward_features(pixels(images, chans, [0.5] * chans, [0.5] * chans))
            flags = [f for k, v in change.items() for f in ("--" + k.replace("_", "-"), v)]
            verdict(name, relative(embedded(folder, images, "tokens", work / "o.safetensors", *flags), tokens), 2e-5)
        except Exception as e:
            print(f"FAIL {name}: {e}")
            failed.append(name)
    # An RGB model fed with grey pictures: the grey value goes to all three channels.
    model = randomise(timm.create_model("vit_small_patch16_224", num_classes=6, depth=2, img_size=64), 7)
    save_timm(model, work / "grey", "vit_small_patch16_224", dict(depth=2, img_size=64), (3, 64, 64))
    images = pictures(work / "images", 64, "L", seed=6)
    with torch.inference_mode():
        logits = model(pixels(images, 3, [0.5] * 3, [0.5] * 3))
    verdict("RGB model, grey pictures", relative(embedded(work / "grey", images, "logits", work / "o.safetensors"), logits), 2e-5)


def huggingface(work):
    import transformers as hf
    small = dict(hidden_size=96, num_hidden_layers=3, num_attention_heads=4, image_size=64, patch_size=16)
    labels = {i: f"class {i}" for i in range(5)}
    kinds = {
        "hf vit classifier": (hf.ViTForImageClassification, hf.ViTConfig(**small, intermediate_size=200, id2label=labels, hidden_dropout_prob=0.0)),
        "hf vit model": (hf.ViTModel, hf.ViTConfig(**small, intermediate_size=384)),
        "hf dinov2 classifier": (hf.Dinov2ForImageClassification, hf.Dinov2Config(**small, id2label=labels)),
        "hf dinov2 model": (hf.Dinov2Model, hf.Dinov2Config(**small)),
        "hf dinov2 registers classifier": (hf.Dinov2WithRegistersForImageClassification, hf.Dinov2WithRegistersConfig(**small, id2label=labels)),
    }
    for i, (name, (cls, config)) in enumerate(kinds.items()):
        try:
            model = randomise(cls(config), 200 + i)
            folder = work / name.replace(" ", "-")
            model.save_pretrained(folder)
            (folder / "preprocessor_config.json").write_text(json.dumps({
                "do_resize": True, "size": {"height": 64, "width": 64}, "resample": 2, "do_rescale": True, "rescale_factor": 1 / 255,
                "do_normalize": True, "image_mean": [0.5] * 3, "image_std": [0.5] * 3, "image_processor_type": "ViTImageProcessor"}))
            images = pictures(work / "images", 64, seed=20 + i)
            x = pixels(images, 3, [0.5] * 3, [0.5] * 3)
            with torch.inference_mode():
                base = getattr(model, "vit", getattr(model, "dinov2", getattr(model, "dinov2_with_registers", model)))
                tokens = base(x).last_hidden_state
                logits = model(x).logits if "classifier" in name else None
            verdict(f"{name} tokens", relative(embedded(folder, images, "tokens", work / "o.safetensors"), tokens), 2e-5)
            if logits is not None:
                verdict(f"{name} logits", relative(embedded(folder, images, "logits", work / "o.safetensors"), logits), 2e-5)
                top = json.loads(tallow("predict", folder, images[0], "--json", "-q"))
                assert labels[int(logits[0].argmax())] in json.dumps(top), f"label of {top}"
        except Exception as e:
            print(f"FAIL {name}: {e}")
            failed.append(name)


def digits(n):
    with gzip.open(ROOT / "data/mnist/train-images-idx3-ubyte.gz") as f:
        f.read(16)
        images = np.frombuffer(f.read(n * 784), np.uint8).reshape(n, 28, 28)
    with gzip.open(ROOT / "data/mnist/train-labels-idx1-ubyte.gz") as f:
        f.read(8)
        labels = np.frombuffer(f.read(n), np.uint8)
    return images, torch.from_numpy(labels.astype(np.int64))


def train(work, only):
    """Twenty steps on real digits in float64."""
    batch, steps = 16, 20
    images, y = digits(batch * steps)
    models = {
        "vit": ("vit_small_patch16_224", dict(img_size=28, patch_size=7, in_chans=1, embed_dim=64, depth=6, num_heads=4)),
        "vit-reg-ls": ("vit_small_patch16_224", dict(img_size=28, patch_size=4, in_chans=1, embed_dim=48, depth=3, num_heads=3, init_values=0.1,
                       qk_norm=True, reg_tokens=2, global_pool="avg")),
        "xp": ("vit_base_patch16_xp_224", dict(img_size=28, patch_size=7, in_chans=1, embed_dim=48, depth=3, num_heads=3)),
        "things": ("vit_small_patch16_18x2_224", dict(img_size=28, patch_size=7, in_chans=1, embed_dim=48, depth=2, num_heads=3)),
        "differential": ("vit_dpwee_patch16_reg1_gap_256", dict(img_size=28, patch_size=7, in_chans=1, embed_dim=48, depth=2, num_heads=3)),
    }
    optimisers = {
        "sgd": (["--optimizer", "sgd", "--lr", 0.05, "--momentum", 0.9, "--weight-decay", 0], lambda g: torch.optim.SGD(g, 0.05, 0.9)),
        "nesterov-wd": (["--optimizer", "sgd", "--lr", 0.02, "--momentum", 0.9, "--nesterov", "--weight-decay", 0.01],
                        lambda g: torch.optim.SGD(g, 0.02, 0.9, nesterov=True)),
        "adamw": (["--optimizer", "adamw", "--lr", 1e-3, "--weight-decay", 0.05], lambda g: torch.optim.AdamW(g, 1e-3)),
    }
    for mi, (mname, (arch, args)) in enumerate(models.items()):
        start = randomise(timm.create_model(arch, num_classes=10, **args), 300 + mi)
        save_timm(start, work / mname, arch, args, (1, 28, 28), (0.1307,), (0.3081,))
        for oname, (flags, make) in optimisers.items():
            model = timm.create_model(arch, num_classes=10, **args)
            model.load_state_dict(start.state_dict())
            model = model.double().train()
            wd = float(flags[flags.index("--weight-decay") + 1])
            never = ("pos_embed", "cls_token", "reg_token", "dist_token")
            groups = [{"params": [p for n, p in model.named_parameters() if p.ndim > 1 and n not in never], "weight_decay": wd},
                      {"params": [p for n, p in model.named_parameters() if p.ndim <= 1 or n in never], "weight_decay": 0.0}]
            opt = make(groups)
            x = (torch.from_numpy(images.astype(np.float64))[:, None] / 255 - 0.1307) / 0.3081
            losses, norms = [], []
            for s in range(steps):
                opt.zero_grad()
                at = slice(s * batch, (s + 1) * batch)
                loss = torch.nn.functional.cross_entropy(model(x[at]), y[at])
                loss.backward()
                norms.append(torch.nn.utils.clip_grad_norm_(model.parameters(), 1e9).item())
                losses.append(loss.item())
                opt.step()
            out = work / f"run-{mname}-{oname}"
            tallow("finetune", work / mname, "--data", "mnist", "--limit", batch * steps, "--test-limit", 50, "--epochs", 1, "--batch-size", batch,
                   "--head", "keep", "--shuffle", "false", "--augment", "none", "--schedule", "constant", "--warmup-steps", 0, "--clip-grad", 0,
                   "--out", out, "-q", *flags)
            lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
            ours = [line for line in lines if line["kind"] == "step"]
            assert len(ours) == steps, f"{len(ours)} steps"
            verdict(f"{mname} {oname} loss (absolute)", max(abs(o["loss"] - l) for o, l in zip(ours, losses)), 2e-4)
            verdict(f"{mname} {oname} gradient norm (relative)", max(abs(o["grad_norm"] - n) / n for o, n in zip(ours, norms)), 1e-3)


def export(work, only):
    """What Tallow writes, timm loads strictly and gives the same logits."""
    for i, name in enumerate(only or ["classic", "layerscale-qknorm-reg-avg", "map-siglip", "deit-distilled", "no-embed-class-reg", "clip-quickgelu",
                                      "rms-norm", "parallel-scaling", "parallel-scaling-xp", "parallel-things", "differential", "differential-parallel", "aimv2", "beit3"]):
        arch, args = TIMM[name]
        model = randomise(timm.create_model(arch, pretrained=False, **args), 400 + i)
        size = model.patch_embed.img_size[0]
        save_timm(model, work / name, arch, {k: v for k, v in args.items() if k != "num_classes"}, (3, size, size))
        tallow("export", work / name, "--format", "timm", "--out", work / f"{name}-out", "-q")
        back = timm.create_model(f"local-dir:{work / f'{name}-out'}", pretrained=True).eval()
        x = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(1))
        with torch.inference_mode():
            verdict(f"{name} exported, in timm", relative(back(x), model(x)), 1e-6)
    finetuned(work)
    out = work / "exported-run"
    tallow("train", "vit_mnist", "--data", "mnist", "--limit", 256, "--test-limit", 64, "--epochs", 1, "--out", out, "-q")
    for source, folder in (("export of a run", work / "run-out"), ("a run's checkpoint", out / "checkpoints/best")):
        if "export" in source:
            tallow("export", out, "--format", "timm", "--out", folder, "-q")
        back = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
        cfg = back.pretrained_cfg
        images = pictures(work / "images", 28, "L", seed=9)
        with torch.inference_mode():
            logits = back(pixels(images, 1, cfg["mean"], cfg["std"]))
        verdict(f"{source}, in timm", relative(embedded(out, images, "logits", work / "o.safetensors"), logits), 2e-5)


def finetuned(work):
    """A fine-tuned model keeps timm's name and what comes with it: DeiT's second token, CLIP's activation and epsilon."""
    for i, name in enumerate(["deit-distilled", "clip-quickgelu", "map-siglip", "dinov2", "deit3", "parallel-scaling-xp", "parallel-things", "aimv2"]):
        arch, args = TIMM[name]
        args = {**args, "depth": 2}
        model = randomise(timm.create_model(arch, pretrained=False, **args), 500 + i)
        size = model.patch_embed.img_size[0]
        folder, run, out = work / f"{name}-base", work / f"{name}-run", work / f"{name}-tuned"
        save_timm(model, folder, arch, {k: v for k, v in args.items() if k != "num_classes"}, (3, size, size))
        tallow("finetune", folder, "--data", "mnist", "--limit", 16, "--test-limit", 8, "--epochs", 1, "--batch-size", 8, "--out", run, "-q")
        tallow("export", run, "--format", "timm", "--out", out, "-q")
        assert json.loads((out / "config.json").read_text())["architecture"] == arch, f"the name of {name}"
        back = timm.create_model(f"local-dir:{out}", pretrained=True).eval()
        images = pictures(work / "images", size, seed=30 + i)
        with torch.inference_mode():
            logits = back(pixels(images, 3, [0.5] * 3, [0.5] * 3))
        verdict(f"{name} fine-tuned and exported, in timm", relative(embedded(run, images, "logits", work / "o.safetensors"), logits), 2e-5)


if __name__ == "__main__":
    what, only = (sys.argv[1:2] or ["all"])[0], set(sys.argv[2:])
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        for part in (forward, train, export):
            if what in ("all", part.__name__):
                part(Path(folder) / part.__name__, only)
    print(f"{len(failed)} failed" if failed else "all within bounds")
    sys.exit(bool(failed))
