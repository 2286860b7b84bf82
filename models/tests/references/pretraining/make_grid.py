"""Grids resampled by PyTorch's bicubic interpolate with the scale factors of DINO's code, with gradients: grid.json."""
import json, os
import torch
import torch.nn.functional as F

torch.manual_seed(0)
cases = []
for (rows, columns), to, dim, offset in [((3, 3), (2, 2), 2, 0.1), ((4, 4), (1, 1), 1, 0.1), ((2, 3), (5, 4), 2, 0.1),
                                         ((4, 2), (3, 3), 1, 0.0), ((7, 7), (3, 3), 1, 0.1)]:
    x = torch.randn(rows * columns, dim, dtype=torch.float64).mul(1000).round().div(1000).requires_grad_()
    grid = x.reshape(1, rows, columns, dim).permute(0, 3, 1, 2)
    if offset:
        scale = ((to[0] + offset) / rows, (to[1] + offset) / columns)
        y = F.interpolate(grid, scale_factor=scale, mode="bicubic")
    else:
        y = F.interpolate(grid, size=to, mode="bicubic", align_corners=False)
    assert y.shape[-2:] == to, y.shape
    y = y.permute(0, 2, 3, 1).reshape(-1, dim)
    weights = torch.randn_like(y).mul(100).round().div(100)
    (y * weights).sum().backward()
    flat = lambda t: [float(v) for v in t.detach().flatten()]
    cases.append({"from": [rows, columns], "to": to, "dim": dim, "offset": offset, "x": flat(x), "weights": flat(weights),
                  "y": flat(y), "gradient": flat(x.grad)})
with open(os.path.join(os.path.dirname(__file__), "grid.json"), "w") as file:
    json.dump(cases, file)
