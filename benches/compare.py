#!/usr/bin/env python3
"""Tallow and its peers in turn on one machine, and a table of ratios in Markdown.

    cargo build --release
    python3 -m venv peer && peer/bin/pip install torch torchvision timm openvino
    python3 benches/compare.py --python peer/bin/python [--tallow target/release/tallow] [--only PATTERN] [--json FILE]
    python3 benches/compare.py --against OLD_TALLOW

The two sides of a row of speed live at the same time: each builds its model and warms up, then they take turns of one to
two seconds, and the order is swapped from turn to turn. Each pair of turns has a ratio; the table has their median and
quartiles, and the medians of both speeds. Memory, loading and starts are measured in processes of their own, in rounds.

Where a row has a goal for this CPU, it is reached if three quarters of the ratios reach it, missed if three quarters do not,
and otherwise "not settled": take more turns, at a quieter time. What a side cannot do is "missing". The peak of multiply-adds
in registers is measured before and after; where the two differ, the machine itself has changed.

`--only` takes the rows whose name and peer match a regular expression. `--against` compares with an older binary of Tallow,
which must be able to take turns as well. Nothing else should run on the machine meanwhile. All rows take about half an hour
on two cores.
"""
import argparse
import contextlib
import json
import os
import pathlib
import re
import signal
import statistics
import sys
import tempfile
import time
from typing import NamedTuple

import machine
from machine import output
from turns import Died, Side, alternate

HERE = pathlib.Path(__file__).parent
SMALL, BASE = "vit_small_patch16_224", "vit_base_patch16_224"
PEERS = {"tallow": "Tallow", "torch": "PyTorch", "openvino": "OpenVINO", "old": "the old binary"}


class Work(NamedTuple):
    """Something to compute or load: the arguments that `tallow bench` and `torch_peer.py` share. The number of steps is for
    a process of its own; a turn has its number from the speed.
    """
    model: str
    mode: str
    batch_size: int
    steps: int = 1
    flags: tuple = ()

    def arguments(self):
        return [self.model, "--mode", self.mode, "--batch-size", str(self.batch_size), *self.flags]


class Row(NamedTuple):
    """What is compared, the two sides, and the goals for their ratio: on CPUs with AVX-512 or AMX, on those with AVX2. A ratio
    is the first side's number by the second's. Speed is to be higher, memory and seconds lower.
    """
    name: str
    quantity: str
    one: tuple
    other: tuple | None = None
    goals: tuple = (None, None)

    def __str__(self):
        return f"{self.name}, against {PEERS[self.other[0]]}" if self.other else self.name

    def takes_turns(self):
        return self.quantity == "speed" and all(side[1].mode in ("train", "infer") for side in (self.one, self.other))


def against(peer, name, work, *goals):
    return Row(name, "speed", ("tallow", work), (peer, work), goals or (None, None))


BF16 = ("--dtype", "bf16")
INFER_16, INFER_16_BF16 = Work(SMALL, "infer", 16, 10), Work(SMALL, "infer", 16, 10, BF16)
TRAIN_16, TRAIN_64, TRAIN_64_BF16 = Work(SMALL, "train", 16), Work(SMALL, "train", 64), Work(SMALL, "train", 64, 1, BF16)
CHECKPOINTING = Work(SMALL, "train", 64, 1, ("--grad-checkpointing",))
LOAD = Work(SMALL, "load", 32, 30, ("--data", "PHOTOS"))
LOAD_DIGITS = Work(SMALL, "load", 32, 100, ("--data", "mnist", "--set", "in_chans=1"))

ROWS = [
    against("torch", "ViT-S/16, training, batch 16", TRAIN_16, 1.4, 1.3),
    against("torch", "ViT-B/16, training, batch 8", Work(BASE, "train", 8), 1.4, 1.3),
    against("torch", "ViT-S/16, inference, batch 16", INFER_16, 1.5, 1.5),
    against("openvino", "ViT-S/16, inference, batch 16", INFER_16, 1.1, 1.1),
    against("torch", "ViT-S/16, inference, batch 1", Work(SMALL, "infer", 1), 1.4, 1.5),
    against("torch", "CNN on 32×32, training, batch 128", Work("cnn_cifar10", "train", 128), 1.7, 1.7),
    against("torch", "ViT on 28×28, training, batch 128", Work("vit_mnist", "train", 128), 1.7, 1.7),
    against("torch", "ViT-S/16, training in bf16, batch 16", Work(SMALL, "train", 16, 1, BF16), 2.0, None),
    against("torch", "ViT-S/16, inference in bf16, batch 16", INFER_16_BF16, 2.0, None),
    against("openvino", "ViT-S/16, inference in bf16, batch 16", INFER_16_BF16, 1.1, None),
    Row("peak memory of training ViT-S/16, batch 16", "memory", ("tallow", TRAIN_16), ("torch", TRAIN_16)),
    Row("peak memory of training ViT-S/16, batch 64", "memory", ("tallow", TRAIN_64), ("torch", TRAIN_64), (0.55, 0.55)),
    Row("peak memory of training ViT-S/16 in bf16, batch 64", "memory",
        ("tallow", TRAIN_64_BF16), ("torch", TRAIN_64_BF16), (0.45, None)),
    Row("gradient checkpointing, batch 64: memory", "memory", ("tallow", CHECKPOINTING), ("tallow", TRAIN_64)),
    Row("gradient checkpointing, batch 64: speed", "speed", ("tallow", CHECKPOINTING), ("tallow", TRAIN_64)),
    Row("gradient checkpointing, batch 64: memory", "memory", ("tallow", CHECKPOINTING), ("torch", CHECKPOINTING)),
    Row("loading JPEGs of 500×400 for 224", "speed", ("tallow", LOAD), ("torch", LOAD)),
    Row("loading digits of 28×28 for 224, and inference", "speed", ("tallow", LOAD_DIGITS), ("tallow", INFER_16)),
    Row("start: --help", "seconds", ("tallow", "help")),
    Row("start: ViT-B/16 from safetensors, first image", "seconds", ("tallow", "first"), ("torch", "first")),
]


def with_old(rows):
    """What Tallow does in these rows, against the same of an older binary."""
    works = dict.fromkeys((row.quantity, work) for row in rows for side, work in (row.one, row.other or row.one) if side == "tallow")
    names = {}
    for row in rows:
        names.setdefault((row.quantity, row.one[1]), row.name)
    return [Row(names.get(key, " ".join(key[1].arguments()) if isinstance(key[1], Work) else key[1]), key[0],
                ("tallow", key[1]), ("old", key[1])) for key in works]


class Bench:
    """Runs the sides and keeps what they measured: for every row its turns, as `alternate` gives them."""

    def __init__(self, a, folder):
        self.python, self.threads = a.python, str(a.threads)
        self.binaries = {"tallow": a.tallow, "old": a.against}
        self.photos, self.checkpoint = a.photos or folder / "photos", folder / "checkpoint"
        self.turns = {}

    def peer(self, *arguments):
        return [self.python, str(HERE / "torch_peer.py"), *map(str, arguments)]

    def prepare(self, works):
        """Pictures and a checkpoint, where a row asks for them."""
        flags = {flag for work in works if isinstance(work, Work) for flag in work.flags}
        if ("PHOTOS" in flags or "first" in works) and not self.photos.exists():
            output(self.peer(SMALL, "--mode", "photos", "--data", self.photos))
        if "first" in works:
            output(self.peer(BASE, "--mode", "checkpoint", "--data", self.checkpoint))

    def command(self, side, work, *more):
        binary = self.binaries.get(side)
        if work == "help":
            return [binary, "--help"]
        if work == "first":
            picture = next(iter(sorted(self.photos.glob("*/*.jpg"))), "none.jpg")
            return ([binary, "predict", str(self.checkpoint), str(picture)] if binary else
                    self.peer(BASE, "--mode", "first", "--data", self.checkpoint, "--image", picture))
        arguments = [*work.arguments(), "--threads", self.threads, *more]
        if binary:
            return [binary, "bench", *(f"folder:{self.photos}" if x == "PHOTOS" else x for x in arguments), "--json", "-q"]
        return self.peer(*(self.photos if x == "PHOTOS" else x for x in arguments), "--engine", side)

    def alternate(self, row, count):
        """Turns of both sides of a row."""
        try:
            with contextlib.ExitStack() as stack:
                sides = [stack.enter_context(Side(f"{row.name}: {PEERS[side]}", self.command(side, work, "--turns"), work.batch_size))
                         for side, work in (row.one, row.other)]
                self.turns[row], _ = alternate(sides, count)
        except Died as died:
            print(died, file=sys.stderr)

    def in_processes(self, rows, rounds):
        """Rows whose sides are processes of their own. What several rows have in common is measured once in a round."""
        sides = list(dict.fromkeys(side for row in rows for side in (row.one, row.other) if side))
        for number in range(rounds):
            measured = {}
            for side in sides if number % 2 == 0 else reversed(sides):
                if side[1] != "help":
                    name = side[1] if isinstance(side[1], str) else " ".join(side[1].arguments())
                    print(f"round {number + 1} of {rounds}: {PEERS[side[0]]} {name}", file=sys.stderr)
                measured[side] = self.measure(*side)
            for row in rows:
                values = [measured[side].get(row.quantity) for side in (row.one, row.other) if side]
                self.turns.setdefault(row, []).append({"first": number % 2, "values": values})

    def measure(self, side, work):
        start = time.perf_counter()
        text = output(self.command(side, work, *(["--steps", str(work.steps)] if isinstance(work, Work) else [])))
        seconds = time.perf_counter() - start
        if text is None:
            return {}
        if not isinstance(work, Work):
            return {"seconds": seconds}
        found = json.loads(text.strip().splitlines()[-1])
        return {"speed": found.get("images_per_second"), "memory": found.get("peak_memory_bytes")}


def outcome(row, turns, goal):
    """The medians of both sides, median and quartiles of the ratio, and what came of the goal."""
    sides = [[turn["values"][index] for turn in turns] for index in range(2 if row.other else 1)]
    medians = [statistics.median(values) if values and None not in values else None for values in sides]
    found = {"name": row.name, "quantity": row.quantity, "against": row.other and row.other[0], "medians": medians,
             "ratio": None, "quartiles": None, "goal": goal, "verdict": None, "turns": turns}
    if len(medians) == 2 and None not in medians:
        ratios = [turn["values"][0] / turn["values"][1] for turn in turns]
        low, middle, high = statistics.quantiles(ratios, n=4, method="inclusive") if len(ratios) > 1 else ratios * 3
        found.update(ratio=middle, quartiles=[low, high])
        if goal:
            # Every quantity but speed is better if it is lower.
            worse, better = (low, high) if row.quantity == "speed" else (-high, -low)
            aim = goal if row.quantity == "speed" else -goal
            found["verdict"] = "reached" if worse >= aim else "missed" if better < aim else "not settled"
    return found


def shown(value, quantity):
    if value is None:
        return "missing"
    if quantity == "memory":
        return f"{value / 1e9:.2f} GB"
    if quantity == "seconds":
        return f"{value * 1000:.0f} ms" if value < 1 else f"{value:.2f} s"
    return f"{value:.3g} images/s" if value < 1000 else f"{value:.0f} images/s"


def ratio(found):
    return "" if found["ratio"] is None else f"{found['ratio']:.2f} ({found['quartiles'][0]:.2f} to {found['quartiles'][1]:.2f})"


def verdict(found):
    return f"{found['goal']}: {found['verdict'] or 'missing'}" if found["goal"] else ""


def table(outcomes):
    lines = ["| work | Tallow | against | ratio (quartiles) | goal |", "|---|---|---|---|---|"]
    for found in outcomes:
        mine, theirs = (found["medians"] + [None])[:2]
        peer = found["against"]
        name = "" if peer in (None, "tallow") else f"{PEERS[peer]}: "
        other = "" if peer is None else name + shown(theirs, found["quantity"])
        lines.append(f"| {found['name']} | {shown(mine, found['quantity'])} | {other} | {ratio(found)} | {verdict(found)} |")
    return "\n".join(lines)


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--python", default=sys.executable, help="a Python that has the peers")
    p.add_argument("--tallow", default=str(HERE.parent / "target/release/tallow"))
    p.add_argument("--against", metavar="OLD_TALLOW", help="an older binary in place of the peers")
    p.add_argument("--turns", type=int, default=7, help="of each side of a row of speed, five at least (default 7)")
    p.add_argument("--rounds", type=int, default=3, help="of memory, loading and starts (default 3), ten times as many of --help")
    p.add_argument("--only", default="", metavar="PATTERN", help="rows whose name and peer match")
    p.add_argument("--threads", type=int, default=os.cpu_count())
    p.add_argument("--photos", type=pathlib.Path, metavar="DIR", help="images by class in place of made-up ones")
    p.add_argument("--json", type=pathlib.Path, metavar="FILE", help="where everything goes that was measured, with all turns")
    a = p.parse_args()
    if a.turns < 5 or a.rounds < 1:
        p.error(f"expected at least 5 turns and 1 round, got {a.turns} and {a.rounds}")
    rows = [row for row in ROWS if re.search(a.only, str(row))]
    if not rows:
        p.error(f"--only: no row matches {a.only!r}; the rows are\n" + "\n".join(map(str, ROWS)))
    rows = with_old(rows) if a.against else rows
    if any(row.takes_turns() for row in rows):
        for binary in filter(None, (a.tallow, a.against)):
            text = output([binary, "bench", "--help"])
            if text is None:
                p.error(f"{binary} is no Tallow that runs; cargo build --release makes one")
            if "--turns" not in text:
                p.error(f"{binary}: this Tallow cannot take turns (bench --turns); build one that can")
    return a, rows


def main():
    a, rows = arguments()
    # So that sides that were stopped do not stay behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    facts = machine.facts(a.tallow, a.python, a.threads)
    instructions = "avx512" if "avx512f" in facts["cpu"]["flags"] else "avx2" if "avx2" in facts["cpu"]["flags"] else None
    goal = lambda row: row.goals[instructions == "avx2"] if instructions else None
    found = lambda: [outcome(row, bench.turns.get(row, []), goal(row)) for row in rows]
    before = machine.peak(a.tallow, a.threads)
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(a, pathlib.Path(folder))
        bench.prepare([side[1] for row in rows for side in (row.one, row.other) if side])
        try:
            for number, row in enumerate(rows):
                if row.takes_turns():
                    bench.alternate(row, a.turns)
                    result = found()[number]
                    print(f"{row}: {ratio(result) or 'missing'} {verdict(result)}".strip(), file=sys.stderr)
            processes = [row for row in rows if not row.takes_turns()]
            # What takes milliseconds varies by more than half from one time to the next.
            bench.in_processes([row for row in processes if row.one[1] == "help"], 10 * a.rounds)
            bench.in_processes([row for row in processes if row.one[1] != "help"], a.rounds)
        except KeyboardInterrupt:
            print("interrupted: what was not measured yet is missing", file=sys.stderr)
    after = machine.peak(a.tallow, a.threads)
    if a.json:
        a.json.write_text(json.dumps({**facts, "peak_before": before, "peak_after": after, "rows": found()}, indent=1) + "\n")
    peaks = "\n".join([f"- peak in registers, on one thread (on {a.threads}): {machine.peak_in_words(before)}",
                       f"- the same afterwards: {machine.peak_in_words(after)}"])
    how = f"- medians of {a.turns} turns of each side; of memory, loading and starts, of {a.rounds} rounds"
    print(f"{machine.in_words(facts)}\n{peaks}\n{how}", table(found()), sep="\n\n")


if __name__ == "__main__":
    main()
