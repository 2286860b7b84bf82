#!/usr/bin/env python3
"""Writes resize_reference.h: small images, Pillow's resizing of them, and the weights that it uses.

    python3 models/tests/cuda/resize_reference.py > models/tests/cuda/resize_reference.h      # needs pillow and numpy

The weights are computed here as `precompute_coeffs` of Pillow's Resample.c does it; the levels come from Pillow itself.
"""
import math

import numpy
from PIL import Image, __version__


def cubic(x, a=-0.5):
    x = abs(x)
    if x < 1:
        return ((a + 2) * x - (a + 3)) * x * x + 1
    return (((x - 5) * x + 8) * x - 4) * a if x < 2 else 0


def triangle(x):
    return max(1 - abs(x), 0)


FILTERS = {"bilinear": (Image.BILINEAR, triangle, 1), "bicubic": (Image.BICUBIC, cubic, 2)}


def weights(source, target, kernel, reach):
    scale = source / target
    stretch = max(scale, 1)
    support = reach * stretch
    taps = math.ceil(support) * 2 + 1
    starts, counts, table = [], [], []
    for at in range(target):
        centre = (at + 0.5) * scale
        start = int(max(centre - support + 0.5, 0))
        end = min(int(centre + support + 0.5), source)
        values = [kernel((x - centre + 0.5) / stretch) for x in range(start, end)]
        values = [value / sum(values) for value in values]
        starts.append(start)
        counts.append(end - start)
        table += [int(value * (1 << 22) + math.copysign(0.5, value)) for value in values] + [0] * (taps - len(values))
    return taps, starts, counts, table


def braces(values):
    return "{" + ",".join(map(str, values)) + "}"


print(f"// Made by resize_reference.py with Pillow {__version__}.")
print("static std::vector<Resized> resized() {\n    return {")
random = numpy.random.default_rng(1)
for name, height, width, channels, out_height, out_width in [
    ("bilinear", 5, 7, 1, 12, 9), ("bicubic", 7, 6, 3, 11, 13), ("bicubic", 12, 9, 1, 5, 4), ("bilinear", 10, 8, 3, 6, 5)
]:
    method, kernel, reach = FILTERS[name]
    pixels = random.integers(0, 2, (height, width, channels)) * 255
    pixels = numpy.where(random.random(pixels.shape) < 0.5, pixels, random.integers(0, 256, pixels.shape)).astype(numpy.uint8)
    image = Image.fromarray(pixels[..., 0] if channels == 1 else pixels)
    levels = numpy.asarray(image.resize((out_width, out_height), method))
    across, down = weights(width, out_width, kernel, reach), weights(height, out_height, kernel, reach)
    sizes = [height, width, channels, out_height, out_width, across[0], down[0]]
    lists = [pixels.ravel(), levels.ravel(), across[1], across[2], down[1], down[2], across[3], down[3]]
    print("        {" + ", ".join(map(str, sizes)) + ",\n         " + ",\n         ".join(map(braces, lists)) + "},")
print("    };\n}")
