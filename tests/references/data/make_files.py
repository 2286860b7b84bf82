"""Makes `files/` with Pillow 13 and libjpeg-turbo's `cjpeg` and `jpegtran`: files as people have them that decoders disagree about.

    python make_files.py

`files/read/NAME.EXT` is read as `files/read/NAME.EXT.png`, which is Pillow's `convert("RGB")` (or `"L"`). `files/whole/*` lack their end, but
no pixel; `files/refused/*` are cut, or of a kind that is not read, and Pillow may read them. `files/alpha/SOURCE.png` resized or
rotated by Pillow with its alpha channel is `files/alpha/SOURCE-OPERATION.png`. All of them are packed into `files.zip`.
"""

import io
import pathlib
import struct
import subprocess
import tempfile
import zlib

import numpy as np
from PIL import Image

from pack import pack

here = pathlib.Path(__file__).parent / "files"
rng = np.random.default_rng(0)


def picture(width, height):
    y, x = np.mgrid[0:height, 0:width]
    values = np.stack([127 + 120 * np.sin(x / 5), 127 + 120 * np.sin(y / 4 + 1), 127 + 120 * np.sin((x + y) / 7)], -1)
    values[height // 4 : height // 2, width // 4 : width // 2] = [220, 30, 40]
    return Image.fromarray(values.clip(0, 255).astype(np.uint8))


def tool(*command, scans=None):
    with tempfile.TemporaryDirectory() as folder:
        source, script = pathlib.Path(folder, "source"), pathlib.Path(folder, "scans")
        *command, image = command
        source.write_bytes(image)
        if scans:
            script.write_text(scans)
            command += ["-scans", str(script)]
        return subprocess.run([*command, str(source)], capture_output=True, check=True).stdout


def ppm(image):
    out = io.BytesIO()
    image.save(out, "PPM")
    return out.getvalue()


def jpeg(image, **options):
    out = io.BytesIO()
    image.save(out, "JPEG", quality=90, **options)
    return out.getvalue()


def gif(frame, screen, left, top, transparent=None, local=True, background=3):
    """A GIF whose first frame covers a part of its screen."""
    out = io.BytesIO()
    frame = frame.quantize(16)
    frame.save(out, "GIF")
    with Image.open(io.BytesIO(out.getvalue())) as opened:
        data = out.getvalue()[opened.tile[0].offset - 1 :]
    palette = bytes((frame.getpalette() + [0] * 48)[:48])
    shared = bytes(37 * i % 256 for i in range(48))
    file = b"GIF89a" + struct.pack("<HHBBB", *screen, 0xF3, background, 0) + shared
    if transparent is not None:
        file += b"\x21\xf9\x04" + struct.pack("<BHB", 1, 0, transparent) + b"\0"
    file += b"\x2c" + struct.pack("<HHHHB", left, top, *frame.size, 0x83 if local else 0)
    return file + (palette if local else b"") + data


each = "0;\n1;\n2;\n"
image = picture(37, 29)
source = ppm(image)
read, whole, refused, alpha = {}, {}, {}, {}
for name, sample in [("420", "2x2"), ("440", "1x2"), ("411", "4x1")]:
    read[f"scans-{name}.jpg"] = tool("cjpeg", "-quality", "90", "-sample", sample, source, scans=each)
read["scans-444-restarts.jpg"] = tool("cjpeg", "-quality", "90", "-sample", "1x1", "-restart", "3B", source, scans=each)
read["scans-two.jpg"] = tool("cjpeg", "-quality", "90", "-sample", "2x2", source, scans="0;\n1 2;\n")
read["chroma-finer.jpg"] = tool("cjpeg", "-quality", "90", "-sample", "1x1,2x1,2x1", source)
read["chroma-finer-progressive.jpg"] = tool("cjpeg", "-quality", "90", "-sample", "1x1,2x2,2x2", "-progressive", source)
read["chroma-mixed.jpg"] = tool("cjpeg", "-quality", "90", "-sample", "1x2,2x1,1x1", source)
read["thirds.jpg"] = tool("cjpeg", "-quality", "90", "-sample", "3x1", source)
inks = jpeg(image.convert("CMYK"), subsampling=2)
read["cmyk-scans.jpg"] = tool("jpegtran", inks, scans="0;\n1;\n2;\n3;\n")
ycck = bytearray(read["cmyk-scans.jpg"])
ycck[ycck.index(b"Adobe") + 11] = 2
read["ycck-scans.jpg"] = bytes(ycck)
read["ordinary-420.jpg"] = jpeg(image)
read["ordinary-progressive.jpg"] = jpeg(image, progressive=True)

frame = picture(20, 15)
read["small-frame.gif"] = gif(frame, (32, 24), 5, 6)
read["small-frame-transparent.gif"] = gif(frame, (32, 24), 5, 6, transparent=4)
read["small-frame-shared-palette.gif"] = gif(frame, (32, 24), 5, 6, transparent=7, local=False)
read["large-frame.gif"] = gif(frame, (10, 10), 5, 6)


def tiff(image, **options):
    out = io.BytesIO()
    image.save(out, "TIFF", **options)
    return out.getvalue()


read["rgb.tif"] = tiff(image, compression="tiff_lzw")
read["grey.tif"] = tiff(image.convert("L"))
read["one-bit.tif"] = tiff(image.convert("1"), compression="group4")
read["cmyk.tif"] = tiff(image.convert("CMYK"), compression="tiff_lzw")
# Colours that were multiplied by their alpha, as much software writes them: a field of RGBA's TIFF says so (338, ExtraSamples).
multiplied = image.copy()
multiplied.putalpha(Image.linear_gradient("L").resize(image.size))
plain = tiff(multiplied)
at = plain.index(struct.pack("<HHIH", 338, 3, 1, 2))
read["multiplied.tif"] = plain[: at + 8] + struct.pack("<H", 1) + plain[at + 10 :]
read["big.tif"] = tiff(image, compression="tiff_lzw", big_tiff=True)
read["ascii.ppm"] = b"P3\n# made by hand\n2 2\n255\n255 0 0  0 255 0\n0 0 255  10 20 30\n"
read["to-100.pgm"] = b"P5 3 1 100\n" + bytes([0, 50, 99])
read["16-bits.ppm"] = b"P6 2 1 65535\n" + np.array([0, 255, 256, 30000, 65535, 1], ">u2").tobytes()
read["bits.pbm"] = b"P4 10 1\n" + bytes([0b10110010, 0b01000000])

baseline, progressive = jpeg(image, subsampling=0), jpeg(image, progressive=True)
png = io.BytesIO()
image.save(png, "PNG")
png = png.getvalue()
whole["padded.jpg"] = baseline[:-2] + bytes(512)
whole["bare.jpg"] = baseline[:-2]
whole["half-a-marker.jpg"] = baseline[:-1]
whole["progressive.jpg"] = progressive[:-2] + bytes(16)
whole["no-iend.png"] = png[:-12]
whole["half-an-iend.png"] = png[:-6]
whole["no-checksum.png"] = png[:-16]
whole["no-checksums.png"] = png[:-19]
# The pixels in pieces of six bytes, cut in one of the last: what it lacks is no checksum.
start = png.index(b"IDAT") - 4
length = struct.unpack(">I", png[start : start + 4])[0]
pixels = png[start + 8 : start + 8 + length]
pieces = [b"IDAT" + pixels[at : at + 6] for at in range(0, length, 6)]
pieces = [struct.pack(">I", len(piece) - 4) + piece + struct.pack(">I", zlib.crc32(piece)) for piece in pieces]
refused["cut-piece.png"] = png[:start] + b"".join(pieces[:-1])[:-7]
refused["cut.jpg"] = baseline[:-40]
refused["cut-and-padded.jpg"] = baseline[:-40] + bytes(4096)
refused["cut-late.jpg"] = baseline[:-6] + bytes(64)
refused["cut-progressive.jpg"] = progressive[:-40] + bytes(64)
refused["cut.png"] = png[:-60]
refused["between.jpg"] = tool("cjpeg", "-quality", "50", "-sample", "4x1,2x1,2x1", source, scans=each)
refused["arithmetic.jpg"] = tool("cjpeg", "-arithmetic", source)
refused["float.tif"] = tiff(Image.fromarray(np.asarray(image.convert("L")).astype(np.float32)), compression="tiff_lzw")
refused["camera.nef"] = tiff(picture(8, 8))
refused["picture.heic"] = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"
refused["picture.avif"] = b"\0\0\0\x1cftypavif\0\0\0\0avifmif1miaf"
refused["page.jpg"] = b"<!DOCTYPE html><html><body>404</body></html>"
refused["pointer.png"] = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"

for folder, files in [("read", read), ("whole", whole), ("refused", refused)]:
    (here / folder).mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (here / folder / name).write_bytes(content)
        if folder == "read":
            with Image.open(io.BytesIO(content)) as opened:
                grey = opened.mode in ("1", "L") and not name.endswith(".gif")
                opened.convert("L" if grey else "RGB").save(here / folder / f"{name}.png", optimize=True)
# What those without an end show.
Image.open(io.BytesIO(baseline)).save(here / "whole" / "baseline.png", optimize=True)
Image.open(io.BytesIO(progressive)).save(here / "whole" / "progressive.png", optimize=True)

folder = here / "alpha"
folder.mkdir(exist_ok=True)
rgba = picture(30, 22)
mask = rng.integers(0, 256, (22, 30), dtype=np.uint8)
mask[:8], mask[:, 20:] = 255, 0
rgba.putalpha(Image.fromarray(mask))
rgba.save(folder / "rgba.png", optimize=True)
for size in [(14, 10), (45, 40), (30, 9), (7, 22)]:
    for name in ["nearest", "bilinear", "bicubic", "lanczos"]:
        out = rgba.resize(size, getattr(Image.Resampling, name.upper()))
        out.save(folder / f"rgba-{name}-{size[0]}x{size[1]}.png", optimize=True)
pack(here)
