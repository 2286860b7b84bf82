"""Makes this folder with timm: a ViT for images of 32x24 pixels (height x width), and what it says of `input`, also at 16x40.

    python make.py
"""

import json
import pathlib

import timm
import torch
from safetensors.torch import save_file
from timm.layers import resample_abs_pos_embed
from timm.models.vision_transformer import VisionTransformer

here = pathlib.Path(__file__).parent
args = dict(patch_size=8, embed_dim=16, depth=1, num_heads=2, num_classes=3, mlp_ratio=2.0)
torch.manual_seed(0)
model = VisionTransformer(img_size=(32, 24), **args).eval()
torch.nn.init.normal_(model.pos_embed, std=0.5)
state = model.state_dict()
save_file({name: value.contiguous() for name, value in state.items()}, here / "model.safetensors")
config = {
    "architecture": "vit_base_patch16_224",
    "num_classes": 3,
    "model_args": {"img_size": [32, 24], **args},
    "pretrained_cfg": {"input_size": [3, 32, 24], "fixed_input_size": True, "num_classes": 3, "mean": [0.5] * 3, "std": [0.5] * 3},
}
(here / "config.json").write_text(json.dumps(config))
expected = {}
for height, width in [(32, 24), (16, 40)]:
    other = VisionTransformer(img_size=(height, width), **args).eval()
    positions = resample_abs_pos_embed(state["pos_embed"], new_size=[height // 8, width // 8], old_size=[4, 3])
    other.load_state_dict({**state, "pos_embed": positions})
    images = torch.randn(2, 3, height, width)
    with torch.no_grad():
        expected[f"input_{height}x{width}"], expected[f"logits_{height}x{width}"] = images, other(images)
save_file(expected, here / "expected.safetensors")
