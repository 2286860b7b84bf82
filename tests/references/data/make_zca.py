#!/usr/bin/env python3
"""The reference of tests/data_whitening.rs: ZCA whitening by NumPy's eigendecomposition in float64.

    pip install numpy safetensors        # made with numpy 2
    python make_zca.py                   # writes zca.safetensors beside itself

- images: 120 images of 3 by 4 pixels in 3 channels, interleaved, whose neighbours are correlated
- mean: of every value, channel by channel, of pixels in [0, 1]
- matrix.E, whitened.E, covariance.E for ε = 1e-2 and 1e-5: U (Λ + ε)^(-1/2) Uᵀ; the first five images through it; and
  U Λ (Λ + ε)^(-1) Uᵀ, the covariance of all 120 after it
"""
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

rng = np.random.default_rng(0)
smooth = rng.normal(size=(120, 5, 6, 3))
smooth = sum(smooth[:, i:i + 3, j:j + 4] for i in range(3) for j in range(3)) / 3
smooth = smooth + 0.8 * smooth.mean(axis=3, keepdims=True)
images = np.clip(128 + 45 * smooth, 0, 255).astype(np.uint8)

x = images.transpose(0, 3, 1, 2).reshape(120, -1) / 255.0
mean = x.mean(axis=0)
centred = x - mean
variances, directions = np.linalg.eigh(centred.T @ centred / len(x))
out = {"images": images, "mean": mean}
for eps in (1e-2, 1e-5):
    matrix = directions @ np.diag((variances + eps) ** -0.5) @ directions.T
    out[f"matrix.{eps:g}"] = matrix.astype(np.float32)
    out[f"whitened.{eps:g}"] = (centred @ matrix)[:5]
    out[f"covariance.{eps:g}"] = (directions @ np.diag(variances / (variances + eps)) @ directions.T).astype(np.float32)
save_file({name: np.ascontiguousarray(value) for name, value in out.items()}, Path(__file__).parent / "zca.safetensors")
