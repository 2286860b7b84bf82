"""Makes the cases of this folder with transformers 5: what its image processors make of an image, and what a DINOv2 says of it.

    python make.py

`processors.safetensors` holds what processors make of `pattern(width, height)`, and in its metadata, by the same names, that size, the kind of the
model and the processor's file. They resize as torchvision does it, which transformers takes where it is installed.

`CASE/config.json` with `CASE/preprocessor_config.json` or `CASE/processor_config.json`; `CASE/expected.safetensors` holds `pixel_values
[1, channels, height, width]` (of 224 pixels every eighth) of `picture.png`, or of `square.png` for the cases that crop nothing. The case `dinov2` has weights too,
and `features`, the tokens after the last norm.

`transparent.safetensors` holds PNG files with transparency (`KIND.png`), and what a processor that converts to RGB (CLIP's), one that does not (ViT's, given
what Pillow converts) and open_clip's transform make of each (`white KIND`, `dropped KIND`, `resized KIND`).
"""

import io
import json
import pathlib

import numpy as np
import torch
from open_clip import image_transform
from PIL import Image
from safetensors.torch import save_file
from transformers import (
    BeitImageProcessor, BitImageProcessor, CLIPImageProcessor, ConvNextImageProcessor, DeiTImageProcessor, Dinov2Config, Dinov2Model,
    DINOv3ViTImageProcessor, SiglipImageProcessor, ViTImageProcessor, ViTImageProcessorPil,
)

here = pathlib.Path(__file__).parent
y, x = np.mgrid[0:45, 0:61]
values = np.stack([127 + 120 * np.sin(x / 5), 127 + 120 * np.sin(y / 4 + 1), 127 + 120 * np.sin((x + y) / 7)], -1)
picture = Image.fromarray(values.astype(np.uint8))
picture.save(here / "picture.png", optimize=True)
square = picture.crop((3, 2, 43, 42))
square.save(here / "square.png", optimize=True)

kept = ("do_resize", "size", "crop_size", "do_center_crop", "resample", "do_rescale", "rescale_factor", "do_normalize", "image_mean", "image_std", "image_processor_type")
vit = {"model_type": "vit", "image_size": 28, "patch_size": 14, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
dino = {**vit, "model_type": "dinov2", "image_size": 42}


def case(name, config, processor, image=picture, nested=False, leave_out=()):
    folder = here / name
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    said = {key: value for key, value in json.loads(processor.to_json_string()).items() if key in kept and key not in leave_out}
    file = "processor_config.json" if nested else "preprocessor_config.json"
    (folder / file).write_text(json.dumps({"image_processor": said, "processor_class": "X"} if nested else said))
    pixels = processor(image, return_tensors="pt")["pixel_values"]
    # Of large ones every eighth row and column.
    step = 8 if pixels.shape[-1] > 100 else 1
    save_file({"pixel_values": pixels[..., ::step, ::step].contiguous()}, folder / "expected.safetensors")
    return pixels


case("vit-squash", vit, ViTImageProcessor(size={"height": 28, "width": 28}))
case("vit-rectangle", {**vit, "image_size": [28, 42]}, ViTImageProcessor(size={"height": 28, "width": 42}))
case("deit-squash-and-crop", {**vit, "model_type": "deit"}, DeiTImageProcessor(size={"height": 33, "width": 33}, crop_size={"height": 28, "width": 28}))
case("no-center-crop", vit, DeiTImageProcessor(size={"height": 28, "width": 28}, do_center_crop=False))
case("dinov2-crop-below", dino, BitImageProcessor(size={"shortest_edge": 33}, crop_size={"height": 28, "width": 28}))
case("dinov2-nested", dino, BitImageProcessor(size={"shortest_edge": 33}, crop_size={"height": 28, "width": 28}), nested=True)
case("dinov2-unsaid", {**dino, "image_size": 224}, BitImageProcessor(image_mean=[0.5] * 3), leave_out=("size", "crop_size", "do_center_crop", "resample"))
case("dinov2-shortest-edge-no-crop", dino, BitImageProcessor(size={"shortest_edge": 28}, do_center_crop=False), image=square)
case("no-normalize", vit, ViTImageProcessor(size={"height": 28, "width": 28}, do_normalize=False))
case("no-rescale", vit, ViTImageProcessor(size={"height": 28, "width": 28}, do_rescale=False, image_mean=[127.5] * 3, image_std=[127.5] * 3))
case("rescale-to-one", vit, ViTImageProcessor(size={"height": 28, "width": 28}, rescale_factor=1 / 127.5, image_mean=[1.0] * 3, image_std=[1.0] * 3))
case("no-resize", {**vit, "image_size": 42}, ViTImageProcessor(do_resize=False), image=square.resize((42, 42)))
square.resize((42, 42)).save(here / "no-resize" / "picture.png", optimize=True)

torch.manual_seed(0)
processor = BitImageProcessor(size={"shortest_edge": 33}, crop_size={"height": 28, "width": 28})
config = Dinov2Config(**{key: value for key, value in dino.items() if key != "model_type"})
model = Dinov2Model(config).eval()
torch.nn.init.normal_(model.embeddings.position_embeddings, std=0.5)
pixels = case("dinov2", dino, processor)
model.save_pretrained(here / "dinov2")
with torch.no_grad():
    features = model(pixels).last_hidden_state
save_file({"pixel_values": pixels.contiguous(), "features": features}, here / "dinov2" / "expected.safetensors")


def pattern(width, height):
    y, x, c = np.mgrid[0:height, 0:width, 0:3]
    return Image.fromarray(((x * x * 7 + y * 31 + x * y * 3 + c * 83) % 256).astype(np.uint8))


both, shorter, crop = {"height": 7, "width": 7}, {"shortest_edge": 10}, {"height": 7, "width": 7}
made, about = {}, {}
for name, kind, processor, size in [
    ("DINOv3", "dinov3_vit", DINOv3ViTImageProcessor(size=both), (61, 45)),
    ("DINOv3, larger", "dinov3_vit", DINOv3ViTImageProcessor(size=both), (7, 5)),
    ("DINOv3, cubic", "dinov3_vit", DINOv3ViTImageProcessor(size=both, resample=3), (1201, 9)),
    ("DINOv3, cropped", "dinov3_vit", DINOv3ViTImageProcessor(size=shorter, crop_size=crop, do_center_crop=True), (30, 41)),
    ("DINOv3, levels", "dinov3_vit", DINOv3ViTImageProcessor(size=both, do_rescale=False, do_normalize=False), (61, 45)),
    ("ViT", "vit", ViTImageProcessor(size=both), (61, 9)),
    ("ViT, Pillow", "vit", ViTImageProcessorPil(size=both), (61, 9)),
    ("ViT, nearest", "vit", ViTImageProcessor(size=both, resample=0), (17, 25)),
    ("SigLIP", "siglip_vision_model", SiglipImageProcessor(size=both), (9, 61)),
    ("SigLIP, Lanczos", "siglip_vision_model", SiglipImageProcessor(size=both, resample=1), (33, 24)),
    ("CLIP", "clip_vision_model", CLIPImageProcessor(size=shorter, crop_size=crop), (57, 34)),
    ("BiT", "dinov2", BitImageProcessor(size=shorter, crop_size=crop), (9, 12)),
    ("BEiT", "beit", BeitImageProcessor(size=both), (37, 26)),
    ("ConvNeXt", "vit", ConvNextImageProcessor(size={"shortest_edge": 7}), (37, 26)),
]:
    said = {key: value for key, value in processor.to_dict().items() if key in (*kept, "crop_pct") and value is not None and value is not True}
    said["image_processor_type"] = type(processor).__name__
    made[name] = processor(pattern(*size), return_tensors="pt")["pixel_values"].float()
    about[name] = json.dumps({"image": size, "kind": kind, "processor": said})
save_file(made, here / "processors.safetensors", metadata=about)

colours = np.array(pattern(13, 11))
alpha = (np.mgrid[0:11, 0:13][0] * 23 + np.mgrid[0:11, 0:13][1] * 5).astype(np.uint8)
palette = Image.fromarray(colours).quantize(8)
transparent = {}
for name, image, said in [
    ("rgba", Image.fromarray(np.dstack([colours, alpha])), {}),
    ("la", Image.fromarray(np.dstack([colours[..., 0], alpha]), "LA"), {}),
    ("palette", palette, {"transparency": bytes(range(0, 256, 32))}),
    ("key", Image.fromarray(colours[..., 0] // 64 * 64), {"transparency": 64}),
]:
    file = io.BytesIO()
    image.save(file, "PNG", **said)
    transparent[f"{name}.png"] = torch.frombuffer(bytearray(file.getvalue()), dtype=torch.uint8)
    image = Image.open(file)
    clip, vit = CLIPImageProcessor(size=shorter, crop_size=crop), ViTImageProcessor(size=both)
    transparent[f"white {name}"] = clip(image, return_tensors="pt")["pixel_values"]
    transparent[f"dropped {name}"] = vit(image.convert("RGB"), return_tensors="pt")["pixel_values"]
    if name != "palette":  # which open_clip resizes by the nearest pixel
        transparent[f"resized {name}"] = image_transform(7, is_train=False)(image)[None]
save_file(transparent, here / "transparent.safetensors")
