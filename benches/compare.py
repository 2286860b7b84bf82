#!/usr/bin/env python3
"""Tallow and its peers in turn on one machine, and a table of ratios in Markdown.

    cargo build --release
    python3 -m venv peer && peer/bin/pip install torch torchvision timm openvino
    python3 benches/compare.py --python peer/bin/python [--tallow target/release/tallow] [--rounds 3] [--only PATTERN]

Every round runs each side once, one after the other, in processes of their own; the table has the medians over the rounds.
`--only` takes the rows whose name matches a regular expression. What a side cannot do is "missing". Nothing else should run
on the machine meanwhile. It takes about five minutes a round on two cores.
"""
import argparse
import datetime
import json
import os
import pathlib
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).parent
SMALL, BASE = "vit_small_patch16_224", "vit_base_patch16_224"


class Work:
    """Something to measure: the arguments that `tallow bench` and `torch_peer.py` share."""

    def __init__(self, model, mode, batch_size, steps, *flags):
        self.arguments = [model, "--mode", mode, "--batch-size", str(batch_size), "--steps", str(steps), *flags]


TRAIN_16 = Work(SMALL, "train", 16, 5)
TRAIN_64 = Work(SMALL, "train", 64, 3)
CHECKPOINTING = Work(SMALL, "train", 64, 3, "--grad-checkpointing")
INFER_16 = Work(SMALL, "infer", 16, 10)
LOAD = Work(SMALL, "load", 32, 30, "--data", "PHOTOS")

# Name, what is compared, the two sides. A ratio is the first side's number by the second's.
ROWS = [
    ("ViT-S/16, training, batch 16", "speed", ("tallow", TRAIN_16), ("torch", TRAIN_16)),
    ("ViT-B/16, training, batch 8", "speed", ("tallow", Work(BASE, "train", 8, 4)), ("torch", Work(BASE, "train", 8, 4))),
    ("ViT-S/16, inference, batch 16", "speed", ("tallow", INFER_16), ("torch", INFER_16)),
    ("ViT-S/16, inference, batch 16", "speed", ("tallow", INFER_16), ("openvino", INFER_16)),
    ("ViT-S/16, inference, batch 1", "speed", ("tallow", Work(SMALL, "infer", 1, 50)), ("torch", Work(SMALL, "infer", 1, 50))),
    ("CNN on 32×32, training, batch 128", "speed",
     ("tallow", Work("cnn_cifar10", "train", 128, 50)), ("torch", Work("cnn_cifar10", "train", 128, 50))),
    ("ViT on 28×28, training, batch 128", "speed",
     ("tallow", Work("vit_mnist", "train", 128, 50)), ("torch", Work("vit_mnist", "train", 128, 50))),
    ("ViT-S/16, training in bf16, batch 16", "speed",
     ("tallow", Work(SMALL, "train", 16, 5, "--dtype", "bf16")), ("torch", Work(SMALL, "train", 16, 5, "--dtype", "bf16"))),
    ("peak memory of training ViT-S/16, batch 16", "memory", ("tallow", TRAIN_16), ("torch", TRAIN_16)),
    ("peak memory of training ViT-S/16, batch 64", "memory", ("tallow", TRAIN_64), ("torch", TRAIN_64)),
    ("gradient checkpointing, batch 64: memory", "memory", ("tallow", CHECKPOINTING), ("tallow", TRAIN_64)),
    ("gradient checkpointing, batch 64: speed", "speed", ("tallow", CHECKPOINTING), ("tallow", TRAIN_64)),
    ("gradient checkpointing, batch 64: memory", "memory", ("tallow", CHECKPOINTING), ("torch", CHECKPOINTING)),
    ("loading JPEGs of 500×400 for 224", "speed", ("tallow", LOAD), ("torch", LOAD)),
    ("loading digits of 28×28 for 224, against inference", "speed",
     ("tallow", Work(SMALL, "load", 32, 100, "--data", "mnist", "--set", "in_chans=1")), ("tallow", INFER_16)),
    ("start: --help", "seconds", ("tallow", "help"), None),
    ("start: ViT-B/16 from safetensors, first image", "seconds", ("tallow", "first"), ("torch", "first")),
]
PEERS = {"tallow": "Tallow", "torch": "PyTorch", "openvino": "OpenVINO"}


class Bench:
    """Runs the sides and keeps what they measured."""

    def __init__(self, a, folder):
        self.python, self.tallow, self.threads = a.python, a.tallow, str(a.threads)
        self.photos, self.checkpoint = a.photos or folder / "photos", folder / "checkpoint"
        self.measured = {}

    def peer(self, *arguments):
        return [self.python, str(HERE / "torch_peer.py"), *map(str, arguments)]

    def prepare(self, works):
        """Pictures and a checkpoint, where a row asks for them."""
        flags = {flag for work in works if isinstance(work, Work) for flag in work.arguments}
        if ("PHOTOS" in flags or "first" in works) and not self.photos.exists():
            output(self.peer(SMALL, "--mode", "photos", "--data", self.photos))
        if "first" in works:
            output(self.peer(BASE, "--mode", "checkpoint", "--data", self.checkpoint))

    def command(self, side, work):
        if work == "help":
            return [self.tallow, "--help"]
        if work == "first":
            picture = next(iter(sorted(self.photos.glob("*/*.jpg"))), "none.jpg")
            return ([self.tallow, "predict", str(self.checkpoint), str(picture)] if side == "tallow" else
                    self.peer(BASE, "--mode", "first", "--data", self.checkpoint, "--image", picture))
        arguments = [*work.arguments, "--threads", self.threads]
        if side == "tallow":
            return [self.tallow, "bench", *(f"folder:{self.photos}" if x == "PHOTOS" else x for x in arguments), "--json"]
        return self.peer(*(self.photos if x == "PHOTOS" else x for x in arguments), "--engine", side)

    def measure(self, side, work):
        command = self.command(side, work)
        start = time.perf_counter()
        text = output(command)
        seconds = time.perf_counter() - start
        if text is None:
            return
        result = {"seconds": seconds}
        if isinstance(work, Work):
            found = json.loads(text.strip().splitlines()[-1])
            result = {"speed": found["images_per_second"], "memory": found["peak_memory_bytes"]}
        self.measured.setdefault((side, work), []).append(result)

    def median(self, side, work, quantity):
        values = [result[quantity] for result in self.measured.get((side, work), [])]
        return statistics.median(values) if values else None


def output(command):
    """What a command prints; None, with its last words on stderr, if it fails."""
    try:
        ended = subprocess.run(command, capture_output=True, text=True)
    except OSError as error:
        print(f"{command[0]}: {error}", file=sys.stderr)
        return None
    if ended.returncode != 0:
        last = (ended.stderr.strip().splitlines() or ["no message"])[-1]
        print(f"{' '.join(map(str, command))}: {last}", file=sys.stderr)
        return None
    return ended.stdout


def shown(value, quantity):
    if value is None:
        return "missing"
    if quantity == "memory":
        return f"{value / 1e9:.2f} GB"
    if quantity == "seconds":
        return f"{value * 1000:.0f} ms" if value < 1 else f"{value:.2f} s"
    return f"{value:.3g} images/s" if value < 1000 else f"{value:.0f} images/s"


def table(bench, rows):
    lines = ["| work | Tallow | against | ratio |", "|---|---|---|---|"]
    for name, quantity, one, other in rows:
        mine = bench.median(*one, quantity)
        theirs = bench.median(*other, quantity) if other else None
        against = "" if other is None else shown(theirs, quantity)
        if other and other[0] != "tallow":
            against = f"{PEERS[other[0]]}: {against}"
        ratio = f"{mine / theirs:.2f}" if mine and theirs else ""
        lines.append(f"| {name} | {shown(mine, quantity)} | {against} | {ratio} |")
    return "\n".join(lines)


def machine(a):
    """Date, processor, versions: what a number means nothing without."""
    cpu = platform.processor()
    if pathlib.Path("/proc/cpuinfo").exists():
        found = re.search(r"model name\s*:\s*(.+)", pathlib.Path("/proc/cpuinfo").read_text())
        cpu = found.group(1) if found else cpu
    code = ("import importlib\nfor n in ['torch', 'torchvision', 'timm', 'PIL', 'openvino']:\n"
            "    try: print(n, importlib.import_module(n).__version__.split('-')[0])\n    except ImportError: print(n, 'missing')")
    versions = [(output([a.tallow, "--version"]) or "Tallow missing").strip(),
                *(output([a.python, "-c", code]) or "peers missing").strip().splitlines()]
    return f"{datetime.date.today()}, {cpu}, {a.threads} threads; {', '.join(versions)}; medians of {a.rounds} rounds."


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--python", default=sys.executable, help="a Python that has the peers")
    p.add_argument("--tallow", default=str(HERE.parent / "target/release/tallow"))
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--only", default="", metavar="PATTERN", help="rows whose name matches")
    p.add_argument("--threads", type=int, default=os.cpu_count())
    p.add_argument("--photos", type=pathlib.Path, metavar="DIR", help="images by class in place of made-up ones")
    a = p.parse_args()
    rows = [row for row in ROWS if re.search(a.only, row[0])]
    sides = list(dict.fromkeys(side for _, _, *both in rows for side in both if side))
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(a, pathlib.Path(folder))
        bench.prepare([work for _, work in sides])
        for number in range(a.rounds):
            for side, work in sides:
                name = work if isinstance(work, str) else " ".join(work.arguments)
                print(f"round {number + 1} of {a.rounds}: {PEERS[side]} {name}", file=sys.stderr)
                bench.measure(side, work)
        print(machine(a), table(bench, rows), sep="\n\n")


if __name__ == "__main__":
    main()
