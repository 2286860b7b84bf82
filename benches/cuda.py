#!/usr/bin/env python3
"""Everything there is to check and to measure on a machine with an NVIDIA GPU, in one call, and a table in Markdown.

    CUDA_COMPUTE_CAP=90 cargo build --release --features cuda
    CUDA_COMPUTE_CAP=90 cargo test --release -p tallow-models --features cuda --test cuda --no-run
    python3 -m venv peer && peer/bin/pip install torch timm
    python3 benches/cuda.py --python peer/bin/python [--minutes 9.5] [--only checks|speed|data]

1. checks: every kernel against the CPU's, gradients by finite differences, the same bits twice (models/tests/cuda.rs); a
   training run on the device against the CPU's, and twice.
2. speed: `tallow bench` and torch_peer.py (eager, and compiled) in turn, each in a process of its own, with the goals of the
   roadmap; peak device memory.
3. data: one epoch of fine-tuning the bundled ViT-S on digits at 224 pixels, with the utilisation of the device.

What does not fit into --minutes is listed as left out; nothing is measured on a machine without a GPU. Exit status 1 if a
check failed.
"""
import argparse
import datetime
import json
import os
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time

HERE = pathlib.Path(__file__).parent
SMALL, BASE = "vit_small_patch16_224", "vit_base_patch16_224"
# Model, mode, batch size, dtype, steps, goals as multiples of compiled and of eager PyTorch. Compiling takes a minute a model:
# only where a goal is about it.
ROWS = [
    (SMALL, "train", 256, "bf16", 20, 1.0, 1.3),
    (BASE, "train", 128, "bf16", 20, 1.0, 1.2),
    (SMALL, "infer", 256, "bf16", 30, 1.0, None),
    (BASE, "infer", 256, "bf16", 30, 1.0, None),
    ("vit_mnist", "train", 512, "bf16", 100, None, 2.0),
    ("cnn_cifar10", "train", 512, "bf16", 100, None, 2.0),
    (SMALL, "train", 256, "f32", 10, None, None),
]


class Machine:
    """What runs things until the time is over."""

    def __init__(self, args):
        self.tallow, self.python = args.tallow, args.python
        self.end = time.monotonic() + 60 * args.minutes
        self.left_out, self.failed = [], []

    def run(self, what, command, least_seconds=20, **environment):
        """The finished process, or None if there was no time for it."""
        left = self.end - time.monotonic()
        if left < least_seconds:
            self.left_out.append(what)
            return None
        try:
            return subprocess.run(
                [str(part) for part in command], capture_output=True, text=True, timeout=left,
                env=os.environ | environment,
            )
        except subprocess.TimeoutExpired:
            self.left_out.append(what + " (did not end in time)")
            return None

    def check(self, what, fine, detail=""):
        print(f"{'ok   ' if fine else 'WRONG'} {what}{': ' + detail if detail else ''}", flush=True)
        if not fine:
            self.failed.append(what)


def last_line(text):
    return (text.strip().splitlines() or ["no output"])[-1][:200]


def checks(machine, args):
    tests = args.tests or newest(HERE.parent / "target/release/deps", r"cuda-[0-9a-f]{16}")
    if tests is None:
        machine.check("kernels", False, "no test binary; cargo test … --no-run makes it, or give --tests")
    else:
        done = machine.run("kernels on the device", [tests, "--ignored", "--test-threads", "1"])
        if done:
            for name, verdict in re.findall(r"^test (\S+) \.\.\. (\w+)", done.stdout, re.M):
                machine.check(name.replace("_", " "), verdict == "ok")
            machine.check("kernels on the device", done.returncode == 0, last_line(done.stdout))
            if done.returncode:
                print(done.stdout + done.stderr)
    training(machine)


def newest(folder, pattern):
    found = [path for path in folder.glob("cuda-*") if re.fullmatch(pattern, path.name)]
    return max(found, key=lambda path: path.stat().st_mtime, default=None)


def training(machine):
    """The losses of a run: on the CPU, twice on the device, and in bf16."""
    with tempfile.TemporaryDirectory() as folder:
        def losses(name, *flags, **environment):
            out = pathlib.Path(folder) / name
            command = [machine.tallow, "train", "vit_mnist", "--data", "mnist", "--limit", 2048, "--test-limit", 500,
                       "--epochs", 1, "--batch-size", 128, "--seed", 3, "--clip-grad", 1, "--out", out, "-q", *flags]
            done = machine.run(f"a training run ({name})", command, least_seconds=30, **environment)
            if done is None:
                return None
            if done.returncode:
                machine.check(f"a training run ({name})", False, last_line(done.stderr))
                return None
            if "warning" in done.stderr:
                print(done.stderr)
            lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
            return [line["loss"] for line in lines if line["kind"] == "step"]

        device, again = losses("cuda", "--device", "cuda"), losses("cuda again", "--device", "cuda")
        cpu = losses("cpu", "--device", "cpu")
        narrow = losses("bf16", "--device", "cuda", "--dtype", "bf16")
        plain = losses("compositions", "--device", "cuda", TALLOW_CUDA_KERNELS="off")
    if device and again:
        machine.check("a training run gives the same losses twice", device == again)
    for name, other, allowed in (("the CPU's", cpu, 0.02), ("that of the compositions", plain, 0.02), ("bf16's", narrow, 0.1)):
        if device and other:
            worst = max(abs(a - b) for a, b in zip(device, other))
            machine.check(f"a training run on the device is {name}", worst < allowed, f"losses differ by up to {worst:.1e}")


def measured(machine, what, command):
    """The JSON object that a benchmark prints, or why there is none."""
    done = machine.run(what, command)
    if done is None:
        return {"missing": "no time"}
    try:
        return json.loads(done.stdout.strip().splitlines()[-1])
    except (IndexError, ValueError):
        return {"missing": last_line(done.stderr)}


def speed(machine):
    lines = ["| work | Tallow | PyTorch | compiled | to eager | to compiled | goals | peak memory |",
             "|---|---|---|---|---|---|---|---|"]
    for model, mode, batch, dtype, steps, goal_compiled, goal_eager in ROWS:
        what = f"{model}, {mode}, batch {batch}, {dtype}"
        shared = [model, "--mode", mode, "--batch-size", batch, "--steps", steps, "--dtype", dtype, "--device", "cuda"]
        peer = [machine.python, HERE / "torch_peer.py", *shared]
        sides = [measured(machine, f"{what}: Tallow", [machine.tallow, "bench", *shared, "--json", "-q"]),
                 measured(machine, f"{what}: PyTorch", peer),
                 measured(machine, f"{what}: PyTorch compiled", [*peer, "--compile"]) if goal_compiled else {"missing": "not asked for"}]
        print(f"     {what}: " + "; ".join(number(side) for side in sides), flush=True)
        goals = [f"≥ {goal:.1f} × {name}" for name, goal in (("eager", goal_eager), ("compiled", goal_compiled)) if goal]
        lines.append("| " + " | ".join([
            what, *map(number, sides), ratio(sides[0], sides[1]), ratio(sides[0], sides[2]), ", ".join(goals) or "none",
            f"{memory(sides[0])} to {memory(sides[1])}",
        ]) + " |")
    return lines


def number(side):
    return f"{side['images_per_second']:,.0f} images/s" if "images_per_second" in side else f"missing ({side['missing']})"


def ratio(a, b):
    both = "images_per_second" in a and "images_per_second" in b
    return f"{a['images_per_second'] / b['images_per_second']:.2f}" if both else "missing"


def memory(side):
    peak = side.get("peak_memory_bytes")
    return f"{peak / 1e9:.2f} GB" if peak else "missing"


class Utilisation(threading.Thread):
    """The utilisation of the device, every half second, as nvidia-smi tells it."""

    def __init__(self):
        super().__init__(daemon=True)
        self.values, self.over = [], threading.Event()

    def run(self):
        query = ["nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits", "-i", "0"]
        while not self.over.wait(0.5):
            done = subprocess.run(query, capture_output=True, text=True)
            if done.returncode == 0:
                self.values.append(float(done.stdout.split()[0]))


def data(machine):
    """Whether loading keeps up with the device: the bundled ViT-S on digits at 224 pixels."""
    with tempfile.TemporaryDirectory() as folder:
        command = [machine.tallow, "finetune", "vit_small_patch14_dinov2.saliency", "--data", "mnist", "--img-size", 224,
                   "--epochs", 1, "--batch-size", 256, "--device", "cuda", "--dtype", "bf16", "--test-limit", 1000,
                   "--out", pathlib.Path(folder) / "run", "--json", "-q"]
        watch = Utilisation()
        watch.start()
        done = machine.run("MNIST at 224 pixels, one epoch", command, least_seconds=60)
        watch.over.set()
        if done is None:
            return ["MNIST at 224 pixels, one epoch: left out."]
        if done.returncode:
            return [f"MNIST at 224 pixels, one epoch: failed ({last_line(done.stderr)})."]
        summary = json.loads(done.stdout)
        used = statistics.median(watch.values) if watch.values else float("nan")
        return [f"MNIST at 224 pixels, one epoch of fine-tuning the bundled ViT-S: {summary['images_per_second']:,.0f} images/s, "
                f"{summary['seconds']:.0f} s, test accuracy {100 * summary['test_accuracy']:.2f} %; the device was in use "
                f"{used:.0f} % of the time (median)."]


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--python", default=sys.executable, help="a Python with torch and timm")
    p.add_argument("--tallow", default=HERE.parent / "target/release/tallow")
    p.add_argument("--tests", help="the test binary [default: the newest target/release/deps/cuda-*]")
    p.add_argument("--minutes", type=float, default=9.5)
    p.add_argument("--only", choices=["checks", "speed", "data"])
    args = p.parse_args()
    query = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
    try:
        gpu = subprocess.run(query, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError) as error:
        sys.exit(f"error: no GPU here (nvidia-smi: {error}); nothing was checked or measured")
    machine = Machine(args)
    print(f"{gpu}, {datetime.date.today()}")
    done = machine.run("doctor", [machine.tallow, "doctor"])
    print(done.stdout if done else "")
    table = []
    if args.only in (None, "checks"):
        checks(machine, args)
    if args.only in (None, "speed"):
        table += speed(machine)
    if args.only in (None, "data"):
        table += ["", *data(machine)]
    print(f"\n## {gpu}, {datetime.date.today()}\n")
    print("\n".join(table))
    for what in machine.left_out:
        print(f"left out for time: {what}")
    if machine.failed:
        sys.exit("checks that failed: " + "; ".join(machine.failed))


if __name__ == "__main__":
    main()
