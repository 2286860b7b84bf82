"""Converts reference checkpoints with Tallow and loads them into timm, strictly: the logits must be those of the library that
wrote the reference.

    pip install torch timm safetensors && python timm_reads_what_is_written.py
"""

import subprocess
import tempfile
from pathlib import Path

import timm
import torch
from safetensors.torch import load_file

HERE = Path(__file__).parent
CASES = ["timm", "timm_full", "hf_vit_classifier", "hf_deit_classifier", "hf_vit_v5", "hf_dinov2"]
convert = ["cargo", "run", "--quiet", "--release", "--package", "tallow-weights", "--example", "convert", "--"]

for case in CASES:
    with tempfile.TemporaryDirectory() as out:
        subprocess.run([*convert, str(HERE / "references" / case), out], check=True, cwd=HERE, stdout=subprocess.DEVNULL)
        # timm is strict here: the number of classes is the config's.
        model = timm.create_model(f"local-dir:{out}", pretrained=True).eval()
        expected = load_file(HERE / "references" / "expected" / f"{case}.safetensors")
        with torch.no_grad():
            tokens = model.forward_features(expected["images"])
            got = dict(tokens=tokens, logits=model.forward_head(tokens))
        for name in expected.keys() & got.keys():
            error = ((got[name] - expected[name]).abs().max() / expected[name].abs().max()).item()
            print(f"{case:20} {name:7} relative error {error:.1e}")
            assert error <= 2e-5, case
