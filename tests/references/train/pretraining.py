"""Masked autoencoding and DINO of a small vision transformer in float64, written from the papers: pretraining.json.

The values of parameters, images and crops are sines, so that none have to be stored. Of gradients and of what twenty steps came to, the
file has for every parameter the length and the product with a vector of cosines.
"""
import json, math, os
import numpy as np
import torch
import torch.nn.functional as F

torch.set_default_dtype(torch.float64)
torch.manual_seed(0)
STEPS = 20


def wave(shape, seed, scale):
    """In float32, as the models hold their values."""
    count = int(np.prod(shape))
    values = scale * np.sin(1.37 * np.arange(1, count + 1) + 0.61 * seed)
    return torch.tensor(values.astype(np.float32).astype(np.float64)).reshape(shape)


def fill(shapes):
    """Parameters by name: norms' weights near 1, biases small, by their places in the sorted list of names."""
    params = {}
    for seed, name in enumerate(sorted(shapes)):
        values = wave(shapes[name], seed, 0.02 if name.endswith("bias") else 0.3)
        if "norm" in name and name.endswith("weight"):
            values = values + 1
        params[name] = values.float().double().requires_grad_()
    return params


def block_shapes(prefix, dim):
    return {f"{prefix}.norm1.weight": (dim,), f"{prefix}.norm1.bias": (dim,), f"{prefix}.attn.qkv.weight": (3 * dim, dim),
            f"{prefix}.attn.qkv.bias": (3 * dim,), f"{prefix}.attn.proj.weight": (dim, dim), f"{prefix}.attn.proj.bias": (dim,),
            f"{prefix}.norm2.weight": (dim,), f"{prefix}.norm2.bias": (dim,), f"{prefix}.mlp.fc1.weight": (4 * dim, dim),
            f"{prefix}.mlp.fc1.bias": (4 * dim,), f"{prefix}.mlp.fc2.weight": (dim, 4 * dim), f"{prefix}.mlp.fc2.bias": (dim,)}


def block(p, prefix, x, heads, mask=None):
    norm = lambda x, name: F.layer_norm(x, (x.shape[-1],), p[f"{prefix}.{name}.weight"], p[f"{prefix}.{name}.bias"], 1e-6)
    lin = lambda x, name: F.linear(x, p[f"{prefix}.{name}.weight"], p[f"{prefix}.{name}.bias"])
    b, n, d = x.shape
    q, k, v = lin(norm(x, "norm1"), "attn.qkv").reshape(b, n, 3, heads, d // heads).permute(2, 0, 3, 1, 4)
    scores = q @ k.transpose(-2, -1) / math.sqrt(d // heads)
    if mask is not None:
        scores = scores.masked_fill(~mask[:, None, None, :], -math.inf)
    x = x + lin((scores.softmax(-1) @ v).transpose(1, 2).reshape(b, n, d), "attn.proj")
    return x + lin(F.gelu(lin(norm(x, "norm2"), "mlp.fc1")), "mlp.fc2")


def patchify(images, p):
    b, c, h, w = images.shape
    return images.reshape(b, c, h // p, p, w // p, p).permute(0, 2, 4, 1, 3, 5).reshape(b, (h // p) * (w // p), c * p * p)


def told(tensors):
    """The length of every tensor, and its product with cosines."""
    return {name: [float(t.norm()), float((t.flatten() * torch.cos(0.9 * torch.arange(t.numel()) + 0.3)).sum())]
            for name, t in tensors.items()}


def adamw(params, betas, lr, decay):
    never = ["pos_embed", "cls_token", "mask_token"]
    decayed = [p for n, p in params.items() if p.ndim > 1 and n.split(".")[-1] not in never]
    plain = [p for n, p in params.items() if p.ndim <= 1 or n.split(".")[-1] in never]
    return torch.optim.AdamW([{"params": decayed, "weight_decay": decay}, {"params": plain, "weight_decay": 0.0}], lr=lr, betas=betas)


def sincos(dim, grid, prefix):
    """MAE's get_2d_sincos_pos_embed."""
    gw, gh = np.meshgrid(np.arange(grid[1], dtype=np.float64), np.arange(grid[0], dtype=np.float64))
    def one(dim, pos):
        omega = 1.0 / 10000 ** (np.arange(dim // 2, dtype=np.float64) / (dim / 2.0))
        out = np.einsum("m,d->md", pos.reshape(-1), omega)
        return np.concatenate([np.sin(out), np.cos(out)], axis=1)
    table = np.concatenate([one(dim // 2, gw), one(dim // 2, gh)], axis=1)
    table = np.concatenate([np.zeros([prefix, dim]), table]).astype(np.float32).astype(np.float64)
    return torch.tensor(table)[None]


# --- A masked autoencoder: 2 channels, 12 x 8 pixels, patches of 4, so 3 x 2; 3 of 6 seen.
def mae(norm_pix):
    dim, heads, ddim, dheads, patch, grid, seen = 8, 2, 12, 3, 4, (3, 2), 3
    shapes = {"cls_token": (1, 1, dim), "patch_embed.proj.weight": (dim, 2, 4, 4), "patch_embed.proj.bias": (dim,),
              "norm.weight": (dim,), "norm.bias": (dim,), "mae_decoder.embed.weight": (ddim, dim), "mae_decoder.embed.bias": (ddim,),
              "mae_decoder.mask_token": (1, 1, ddim), "mae_decoder.norm.weight": (ddim,), "mae_decoder.norm.bias": (ddim,),
              "mae_decoder.pred.weight": (32, ddim), "mae_decoder.pred.bias": (32,)}
    shapes |= block_shapes("blocks.0", dim) | block_shapes("blocks.1", dim) | block_shapes("mae_decoder.blocks.0", ddim)
    p = fill(shapes)
    positions, dpositions = sincos(dim, grid, 1), sincos(ddim, grid, 1)
    images = [wave((3, 2, 12, 8), 100 + step, 1.5) for step in range(STEPS)]
    noise = np.stack([np.abs(np.sin(np.arange(18) * 7.7 + 3.1 * step)).astype(np.float32).reshape(3, 6) for step in range(STEPS)])

    def loss(step):
        x, n = images[step], torch.tensor(noise[step].astype(np.float64))
        patches = patchify(x, patch)
        order = torch.argsort(n, dim=1)
        hidden = torch.ones(3, 6)
        hidden.scatter_(1, order[:, :seen], 0)
        tokens = patches @ p["patch_embed.proj.weight"].reshape(dim, -1).T + p["patch_embed.proj.bias"] + positions[:, 1:]
        tokens = torch.cat([(p["cls_token"] + positions[:, :1]).expand(3, -1, -1), tokens], 1)
        # All patches pass, and nobody attends to the hidden ones.
        mask = torch.cat([torch.ones(3, 1), 1 - hidden], 1).bool()
        for i in range(2):
            tokens = block(p, f"blocks.{i}", tokens, heads, mask)
        tokens = F.layer_norm(tokens, (dim,), p["norm.weight"], p["norm.bias"], 1e-6)
        y = tokens @ p["mae_decoder.embed.weight"].T + p["mae_decoder.embed.bias"]
        y = torch.cat([y[:, :1], torch.where(hidden[..., None].bool(), p["mae_decoder.mask_token"], y[:, 1:])], 1) + dpositions
        y = block(p, "mae_decoder.blocks.0", y, dheads)
        y = F.layer_norm(y, (ddim,), p["mae_decoder.norm.weight"], p["mae_decoder.norm.bias"], 1e-6)
        said = (y @ p["mae_decoder.pred.weight"].T + p["mae_decoder.pred.bias"])[:, 1:]
        target = patches
        if norm_pix:
            target = (target - target.mean(-1, keepdim=True)) / (target.var(-1, keepdim=True) + 1e-6) ** 0.5
        return (((said - target) ** 2).mean(-1) * hidden).sum() / hidden.sum(), tokens[mask].detach()

    first, tokens = loss(0)
    first.backward()
    out = {"noise": [[[round(float(v), 8) for v in row] for row in of] for of in noise], "gradients": told({n: v.grad for n, v in p.items()}),
           "tokens": told({"tokens": tokens})["tokens"]}
    optimizer, losses = adamw(p, (0.9, 0.95), 0.01, 0.05), []
    for step in range(STEPS):
        optimizer.zero_grad()
        value, _ = loss(step)
        value.backward()
        optimizer.step()
        losses.append(float(value))
    return out | {"losses": losses, "after": told({n: v.detach() for n, v in p.items()})}


# --- DINO: 2 channels, 12 x 12 pixels, patches of 4; two large crops and two of 8 x 8; 5 steps an epoch, 4 epochs.
def dino():
    dim, heads, hidden, bottleneck, out_dim, per_epoch = 8, 2, 12, 6, 10, 5
    shapes = {"cls_token": (1, 1, dim), "pos_embed": (1, 10, dim), "patch_embed.proj.weight": (dim, 2, 4, 4),
              "patch_embed.proj.bias": (dim,), "norm.weight": (dim,), "norm.bias": (dim,), "dino_head.mlp.0.weight": (hidden, dim),
              "dino_head.mlp.0.bias": (hidden,), "dino_head.mlp.2.weight": (hidden, hidden), "dino_head.mlp.2.bias": (hidden,),
              "dino_head.mlp.4.weight": (bottleneck, hidden), "dino_head.mlp.4.bias": (bottleneck,),
              "dino_head.last_layer.weight_v": (out_dim, bottleneck)}
    shapes |= block_shapes("blocks.0", dim)
    student = fill(shapes)
    teacher = {name: value.detach().clone() for name, value in student.items()}

    def backbone(p, x):
        tokens = patchify(x, 4) @ p["patch_embed.proj.weight"].reshape(dim, -1).T + p["patch_embed.proj.bias"]
        tokens = torch.cat([p["cls_token"].expand(len(x), -1, -1), tokens], 1)
        side, pos = x.shape[-1] // 4, p["pos_embed"]
        if side != 3:
            grid = pos[:, 1:].reshape(1, 3, 3, dim).permute(0, 3, 1, 2)
            scale = (side + 0.1) / 3
            grid = F.interpolate(grid, scale_factor=(scale, scale), mode="bicubic")
            assert grid.shape[-2:] == (side, side)
            pos = torch.cat([pos[:, :1], grid.permute(0, 2, 3, 1).reshape(1, -1, dim)], 1)
        x = block(p, "blocks.0", tokens + pos, heads)
        return F.layer_norm(x, (dim,), p["norm.weight"], p["norm.bias"], 1e-6)[:, 0]

    def head(p, x):
        for i, name in enumerate(["0", "2", "4"]):
            x = F.linear(F.gelu(x) if i else x, p[f"dino_head.mlp.{name}.weight"], p[f"dino_head.mlp.{name}.bias"])
        x = F.normalize(x, dim=-1)
        return F.linear(x, F.normalize(p["dino_head.last_layer.weight_v"], dim=1))

    def cosine(base, final, total):
        return final + 0.5 * (base - final) * (1 + np.cos(np.pi * np.arange(total) / total))

    momentum, decay = cosine(0.9, 1.0, STEPS), cosine(0.04, 0.4, STEPS)
    temperature = np.concatenate([np.linspace(0.04, 0.07, 3), np.ones(1) * 0.07])
    optimizer = adamw(student, (0.9, 0.999), 0.005, 0.04)
    centre, losses, first = torch.zeros(1, out_dim), [], None
    for step in range(STEPS):
        epoch = step // per_epoch
        optimizer.param_groups[0]["weight_decay"] = decay[step]
        large = [wave((3, 2, 12, 12), 200 + 7 * step + crop, 1.5) for crop in range(2)]
        small = [wave((3, 2, 8, 8), 203 + 7 * step + crop, 1.5) for crop in range(2)]
        with torch.no_grad():
            said = head(teacher, backbone(teacher, torch.cat(large)))
        features = torch.cat([backbone(student, torch.cat(large)), backbone(student, torch.cat(small))])
        scores = (head(student, features) / 0.1).chunk(4)
        targets = ((said - centre) / temperature[epoch]).softmax(-1).chunk(2)
        total, terms = 0.0, 0
        for iq, q in enumerate(targets):
            for v, score in enumerate(scores):
                if v != iq:
                    total, terms = total + (-q * F.log_softmax(score, -1)).sum(-1).mean(), terms + 1
        loss = total / terms
        optimizer.zero_grad()
        loss.backward()
        if first is None:
            first = told({n: v.grad for n, v in student.items()})
        torch.nn.utils.clip_grad_norm_(list(student.values()), 3.0)
        if epoch < 1:
            student["dino_head.last_layer.weight_v"].grad = None
        optimizer.step()
        with torch.no_grad():
            for name in teacher:
                teacher[name].mul_(momentum[step]).add_((1 - momentum[step]) * student[name])
            centre = centre * 0.9 + said.mean(0, keepdim=True) * 0.1
        losses.append(float(loss))
    return {"losses": losses, "gradients": first, "centre": centre[0].tolist(), "student": told({n: v.detach() for n, v in student.items()}),
            "teacher": told(teacher), "momentum": momentum.tolist(), "weight_decay": decay.tolist(), "temperature": temperature.tolist()}


with open(os.path.join(os.path.dirname(__file__), "pretraining.json"), "w") as file:
    json.dump({"mae": {"plain": mae(False), "norm_pix": mae(True)}, "dino": dino()}, file)
