#!/usr/bin/env python3
"""The peers of `tallow bench`: the same work in PyTorch with timm and torchvision, and in OpenVINO.

    python3 -m venv peer && peer/bin/pip install torch torchvision timm openvino
    peer/bin/python benches/torch_peer.py vit_small_patch16_224 --mode train --batch-size 16 [--dtype bf16] [--device cuda]
    peer/bin/python benches/torch_peer.py vit_small_patch16_224 --mode infer --batch-size 16 [--engine openvino]
    peer/bin/python benches/torch_peer.py vit_small_patch16_224 --mode load --data photos --batch-size 32

One step of training is forward, cross-entropy, backward, AdamW (SGD with momentum for the CNN), on noise. Prints one JSON
object: images per second of the median step after warm-up, and the peak memory of the process or, on CUDA, of the device.
With --turns it waits after the warm-up, as `tallow bench --turns` does: every line of standard input is a number of steps,
answered by a line with their images per second, and the end of the input by a line with the peak memory.
`compare.py` lets it take turns with Tallow. Three more modes are for its sake: `photos` writes pictures of 500x400 pixels into
the folder --data, `checkpoint` a ViT with random weights, and `first` loads that and classifies one picture of --data.
"""
import argparse
import itertools
import json
import os
import pathlib
import resource
import statistics
import sys
import time

WARM_UP = 3


def build(name, img_size):
    """The model and the shape of its input."""
    from torch import nn
    if name == "cnn_cifar10":
        conv = lambda i, o: [nn.Conv2d(i, o, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)]
        return nn.Sequential(*conv(3, 32), *conv(32, 64), *conv(64, 64), nn.Flatten(),
                             nn.Linear(1024, 1000), nn.ReLU(), nn.Linear(1000, 10)), (3, 32, 32)
    import timm
    if name == "vit_mnist":
        from timm.models.vision_transformer import VisionTransformer
        return VisionTransformer(img_size=28, patch_size=7, in_chans=1, embed_dim=64, depth=6, num_heads=4,
                                 num_classes=10), (1, 28, 28)
    return timm.create_model(name, num_classes=10, img_size=img_size), (3, img_size, img_size)


def median_seconds(step, steps):
    times = []
    for _ in range(steps):
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def say(**facts):
    print(json.dumps(facts), flush=True)


def compute(a):
    """What computes, and one step of it."""
    import torch
    from torch import nn
    torch.set_num_threads(a.threads)
    torch.manual_seed(0)
    model, shape = build(a.model, a.img_size)
    if a.grad_checkpointing:
        model.set_grad_checkpointing(True)
    model = model.to(a.device).train(a.mode == "train")
    x = torch.randn(a.batch_size, *shape, device=a.device)
    y = torch.randint(0, 10, (a.batch_size,), device=a.device)
    opt = (torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9) if a.model == "cnn_cifar10"
           else torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True))
    f = torch.compile(model) if a.compile else model
    amp = lambda: torch.autocast(a.device.split(":")[0], torch.bfloat16, enabled=a.dtype == "bf16")

    def train():
        opt.zero_grad(set_to_none=True)
        with amp():
            loss = nn.functional.cross_entropy(f(x), y)
        loss.backward()
        opt.step()

    def infer():
        with torch.inference_mode(), amp():
            f(x)

    one = train if a.mode == "train" else infer

    def step():
        one()
        if a.device.startswith("cuda"):
            torch.cuda.synchronize()

    return f"torch {torch.__version__}" + (" compiled" if a.compile else ""), step


def peak_memory(a):
    """Of the process or, on CUDA, of the device."""
    if a.device.startswith("cuda"):
        import torch
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def openvino_infer(a):
    import openvino
    import torch
    model, shape = build(a.model, a.img_size)
    x = torch.randn(a.batch_size, *shape)
    hints = {"INFERENCE_PRECISION_HINT": a.dtype, "INFERENCE_NUM_THREADS": a.threads, "PERFORMANCE_HINT": "LATENCY"}
    compiled = openvino.compile_model(openvino.convert_model(model.eval(), example_input=x), "CPU", hints)
    request, values = compiled.create_infer_request(), x.numpy()
    return f"openvino {openvino.__version__}", lambda: request.infer([values])


def load(a):
    """Images of a folder in evaluation, as `timm` prepares them for the ViT-S of the zoo."""
    import torch
    import torchvision
    from torchvision import transforms as t
    prepare = t.Compose([t.Resize(int(a.img_size / 0.9), t.InterpolationMode.BICUBIC), t.CenterCrop(a.img_size),
                         t.ToTensor(), t.Normalize([0.5] * 3, [0.5] * 3)])
    images = torchvision.datasets.ImageFolder(a.data, prepare)
    order = list(itertools.islice(itertools.cycle(range(len(images))), (WARM_UP + a.steps) * a.batch_size))
    batches = torch.utils.data.DataLoader(images, a.batch_size, sampler=order, num_workers=a.threads)
    for step, _ in enumerate(batches):
        if step + 1 == WARM_UP:
            start = time.perf_counter()
    return f"torchvision {torchvision.__version__}", a.steps * a.batch_size / (time.perf_counter() - start)


def photos(a):
    """Noise, coarse and fine, as JPEGs of the size that photographs have (50 kB): decoding them is as much work."""
    import numpy
    from PIL import Image
    random = numpy.random.default_rng(0)
    scales = [2 ** n for n in range(8)]
    weights = [scale ** 0.25 for scale in scales]
    for index in range(128):
        picture = numpy.zeros((400, 500, 3))
        for scale, weight in zip(scales, weights):
            coarse = random.integers(0, 256, (400 // scale + 2, 500 // scale + 2, 3), dtype=numpy.uint8)
            fine = Image.fromarray(coarse).resize((500, 400), Image.BICUBIC)
            picture += numpy.asarray(fine, float) * weight / sum(weights)
        folder = pathlib.Path(a.data) / f"class{index % 2}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture.clip(0, 255).astype(numpy.uint8)).save(folder / f"{index:03}.jpg", quality=90)


def checkpoint(a):
    import timm
    model = timm.create_model(a.model)
    timm.models.save_for_hf(model, a.data, safe_serialization=True)


def first(a):
    """What a program does that classifies one picture: load the libraries and the weights, then one forward pass."""
    import timm
    import torch
    from PIL import Image
    model = timm.create_model(f"local-dir:{a.data}", pretrained=True).eval()
    transform = timm.data.create_transform(**timm.data.resolve_data_config(model.pretrained_cfg))
    with torch.inference_mode():
        model(transform(Image.open(a.image).convert("RGB"))[None]).softmax(-1).topk(5)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("model")
    p.add_argument("--mode", choices=["train", "infer", "load", "photos", "checkpoint", "first"], default="train")
    p.add_argument("--engine", choices=["torch", "openvino"], default="torch", help="what computes --mode infer")
    p.add_argument("--batch-size", type=int, default=16)
    p.add_argument("--img-size", type=int, default=224)
    p.add_argument("--dtype", choices=["f32", "bf16"], default="f32")
    p.add_argument("--steps", type=int, default=10)
    p.add_argument("--turns", action="store_true", help="measure when a line of standard input asks for it")
    p.add_argument("--threads", type=int, default=os.cpu_count())
    p.add_argument("--device", default="cpu")
    p.add_argument("--compile", action="store_true")
    p.add_argument("--grad-checkpointing", action="store_true")
    p.add_argument("--data", help="a folder: of images by class, or where photos and checkpoint write")
    p.add_argument("--image", help="the picture for --mode first")
    a = p.parse_args()
    if a.mode in ("photos", "checkpoint", "first"):
        return {"photos": photos, "checkpoint": checkpoint, "first": first}[a.mode](a)
    facts = {"model": a.model, "mode": a.mode, "dtype": a.dtype, "batch_size": a.batch_size, "threads": a.threads}
    if a.mode == "load":
        peer, speed = load(a)
        return say(peer=peer, **facts, images_per_second=speed, peak_memory_bytes=peak_memory(a))
    peer, step = openvino_infer(a) if a.engine == "openvino" else compute(a)
    median_seconds(step, WARM_UP)
    if not a.turns:
        speed = a.batch_size / median_seconds(step, a.steps)
        return say(peer=peer, **facts, images_per_second=speed, peak_memory_bytes=peak_memory(a))
    say(peer=peer, **facts)
    for line in sys.stdin:
        say(steps=int(line), images_per_second=a.batch_size / median_seconds(step, int(line)))
    say(peak_memory_bytes=peak_memory(a))


if __name__ == "__main__":
    main()
