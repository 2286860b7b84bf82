"""What a measurement means nothing without: the CPU, its caches, its peak in registers, and the versions of what runs on it."""
import datetime
import json
import os
import pathlib
import platform
import re
import subprocess
import sys

# What the kernels choose between.
FLAGS = ["avx2", "avx512f", "avx512_bf16", "amx_bf16", "asimd"]


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


def cpu():
    """Name, family, model and stepping, and which of FLAGS it has; what Linux tells."""
    info = pathlib.Path("/proc/cpuinfo")
    text = info.read_text() if info.exists() else ""

    def field(name):
        found = re.search(rf"^{name}\s*:\s*(.+)$", text, re.MULTILINE)
        return found and found.group(1)

    flags = (field("flags") or field("Features") or "").split()
    return {"name": field("model name") or platform.processor() or platform.machine(), "family": field("cpu family"),
            "model": field("model"), "stepping": field("stepping"), "flags": [flag for flag in FLAGS if flag in flags]}


def caches():
    """The caches of the first core, and how many cores share each."""
    found = []
    for index in sorted(pathlib.Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        level, kind, size = ((index / name).read_text().strip() for name in ("level", "type", "size"))
        if kind != "Instruction":
            sharing = bin(int((index / "shared_cpu_map").read_text().replace(",", ""), 16)).count("1")
            found.append({"level": int(level), "size": size, "shared_by": sharing})
    return found


def peak(tallow, threads):
    """The instruction sets with their peaks, as `tallow bench --mode peak` has them."""
    text = output([tallow, "bench", "--mode", "peak", "--json", "--threads", str(threads)])
    return json.loads(text)["instructions"] if text else []


def peak_in_words(rows):
    product = lambda row: f", {row['nanoseconds']:.1f} ns a product of tiles" if row["instructions"] == "amx" else ""
    each = [f"{row['instructions']} {row['gflops_one_thread']:,.0f} ({row['gflops_all_threads']:,.0f}) GFLOP/s{product(row)}"
            for row in rows]
    return "; ".join(each) or "missing"


def versions(tallow, python):
    code = ("import importlib\nfor n in ['torch', 'torchvision', 'timm', 'PIL', 'openvino']:\n"
            "    try: print(n, importlib.import_module(n).__version__.split('-')[0])\n    except ImportError: print(n, 'missing')")
    return [(output([tallow, "--version"]) or "Tallow missing").strip(),
            *(output([python, "-c", code]) or "peers missing").strip().splitlines()]


def facts(tallow, python, threads):
    return {"day": str(datetime.date.today()), "cpu": cpu(), "caches": caches(), "threads": threads,
            "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None, "versions": versions(tallow, python)}


def in_words(facts):
    """A few lines of Markdown."""
    cpu = facts["cpu"]
    number = f" (family {cpu['family']}, model {cpu['model']}, stepping {cpu['stepping']})" if cpu["family"] else ""
    shared = lambda cache: f" shared by {cache['shared_by']}" if cache["shared_by"] > 1 else ""
    caches = ", ".join(f"L{cache['level']} {cache['size']}{shared(cache)}" for cache in facts["caches"])
    load = "" if facts["load"] is None else f", load {facts['load']:.1f} at the start"
    return "\n".join([f"- {facts['day']}, {cpu['name']}{number}; {', '.join(cpu['flags']) or 'instruction sets unknown'}",
                      f"- caches: {caches or 'unknown'}; {facts['threads']} threads{load}", f"- {', '.join(facts['versions'])}"])
