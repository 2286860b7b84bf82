"""Makes the images of this folder with Pillow 13: small files of every kind, and what Pillow makes of them.

    python make.py

`decode/NAME.EXT` is read as `decode/NAME.EXT.png` (mode L or RGB); `resize/SOURCE.png` resized is
`resize/SOURCE-FILTER-WxH.png`; `transform/SOURCE.png` becomes `transform/SOURCE-MODE-HxW-PERCENT.png` in timm's evaluation
transform without its normalisation; `augment/SOURCE.png` becomes `augment/SOURCE-OPERATION-PARAMETER.png` in torchvision's
functions on Pillow's images, the operations of RandAugment (`ra_…`) in those of torchvision's autoaugment. Each of these folders
is packed into a file of its name (`pack.py`). Examples of the documentation open the three images of `photos`.
"""

import io
import pathlib
import shutil
import struct
import zlib

import numpy as np
from PIL import Image, ImageDraw
from timm.data import create_transform
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as F
from torchvision.transforms.autoaugment import RandAugment, _apply_op

from pack import pack

here = pathlib.Path(__file__).parent
rng = np.random.default_rng(0)


def picture(width, height):
    """Smooth colours, sharp edges and a noisy corner."""
    y, x = np.mgrid[0:height, 0:width]
    values = np.stack([255 * x / width, 255 * y / height, 127 + 127 * np.sin(x * y / 40)], -1)
    values[: height // 3, : width // 3] = rng.integers(0, 256, (height // 3, width // 3, 3))
    image = Image.fromarray(values.astype(np.uint8))
    draw = ImageDraw.Draw(image)
    draw.ellipse((width // 2, height // 4, width - 3, height - 5), fill=(255, 255, 255), outline=(0, 0, 0))
    draw.line((0, height - 1, width - 1, 2), fill=(0, 0, 0))
    return image


def folder(name):
    path = here / name
    path.mkdir(exist_ok=True)
    return path


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width, height, depth, colour, rows, extra=b""):
    """A PNG that Pillow cannot write."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    data = zlib.compress(b"".join(b"\0" + row for row in rows), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + extra + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def decode():
    path = folder("decode")
    rgb = picture(23, 17)
    grey = rgb.convert("L")
    alpha = Image.fromarray(rng.integers(0, 256, (17, 23), dtype=np.uint8))
    rgba = rgb.copy()
    rgba.putalpha(alpha)
    la = grey.copy()
    la.putalpha(alpha)
    palette = rgb.quantize(31)
    other = picture(23, 17).quantize(16)

    def save(name, image, **options):
        image.save(path / name, **options)

    save("rgb.png", rgb)
    save("grey.png", grey)
    save("rgba.png", rgba)
    save("grey-alpha.png", la)
    save("palette.png", palette)
    save("palette-4-bits.png", rgb.quantize(13), bits=4)
    save("palette-transparent.png", palette, transparency=3)
    save("one-bit.png", grey.convert("1"))
    deep = np.asarray(rgb).astype(np.uint16) * 257 ^ 0x0055
    rows = [row.astype(">u2").tobytes() for row in deep]
    (path / "rgb-16-bits.png").write_bytes(png(23, 17, 16, 2, rows))
    key = chunk(b"tRNS", struct.pack(">HHH", 255, 255, 255))
    (path / "rgb-transparent.png").write_bytes(png(23, 17, 8, 2, [row.tobytes() for row in np.asarray(rgb)], key))
    save("rgb.bmp", rgb)
    save("grey.bmp", grey)
    save("palette.bmp", palette)
    save("first-of-two.gif", palette, save_all=True, append_images=[other], duration=50)
    save("transparent.gif", palette, transparency=3)
    save("lossless.webp", rgb, lossless=True)
    save("lossy.webp", picture(46, 34), quality=80)
    save("alpha.webp", rgba, lossless=True, exact=True)
    large = picture(61, 43)
    save("rgb.jpg", large, quality=90)
    save("rgb-444.jpg", large, quality=90, subsampling=0)
    save("progressive.jpg", large, quality=90, progressive=True)
    save("grey.jpg", large.convert("L"), quality=90)
    save("cmyk.jpg", large.convert("CMYK"), quality=95)
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned
    save("turned.jpg", large, quality=90, exif=exif)

    for file in sorted(path.iterdir()):
        if file.name.count(".") == 1:
            image = Image.open(file)
            grey_modes = ("L", "LA", "1")
            image = image.convert("L" if image.mode in grey_modes else "RGB")
            image.save(path / (file.name + ".png"), optimize=True)

    # what Pillow's convert clips to white: the upper 8 bits are meant
    values = rng.integers(0, 65536, (17, 23)).astype(np.uint16)
    Image.fromarray(values).save(path / "grey-16-bits.png")
    Image.fromarray((values >> 8).astype(np.uint8)).save(path / "grey-16-bits.png.png")


def resize():
    path = folder("resize")
    filters = {"nearest": 0, "bilinear": 2, "bicubic": 3, "lanczos": 1}
    sources = {
        "colour": picture(61, 43),
        "grey": picture(28, 28).convert("L"),
        "checks": Image.fromarray((rng.integers(0, 2, (37, 29, 3)) * 255).astype(np.uint8)),
    }
    sizes = {
        "colour": [(32, 32), (97, 71), (61, 19), (17, 43), (80, 20), (5, 90), (1, 1)],
        "grey": [(56, 56), (33, 33), (14, 15), (97, 3)],
        "checks": [(16, 16), (44, 40), (60, 9)],
    }
    for name, image in sources.items():
        image.save(path / f"{name}.png")
        for filter, number in filters.items():
            for width, height in sizes[name]:
                result = image.resize((width, height), number)
                result.save(path / f"{name}-{filter}-{width}x{height}.png", optimize=True)


def transform():
    path = folder("transform")
    cases = [("center", 32, 32, 100), ("center", 32, 32, 90), ("center", 31, 31, 84), ("center", 31, 31, 130),
             ("center", 24, 31, 90), ("squash", 32, 32, 100), ("squash", 24, 31, 88)]
    for width, height in [(61, 43), (43, 61), (50, 50), (20, 33), (100, 9)]:
        image = picture(width, height)
        image.save(path / f"{width}x{height}.png")
        for mode, h, w, percent in cases:
            steps = create_transform((3, h, w), crop_pct=percent / 100, crop_mode=mode, interpolation="bicubic",
                                     mean=(0.0,) * 3, std=(1.0,) * 3)
            values = (steps(image).numpy().transpose(1, 2, 0) * 255).round().astype(np.uint8)
            result = Image.fromarray(values)
            result.save(path / f"{width}x{height}-{mode}-{h}x{w}-{percent}.png", optimize=True)


def augment():
    path = folder("augment")
    colour = picture(40, 29)
    # neither black nor white in any channel, so that stretching contrast does something
    dull = Image.fromarray((np.asarray(picture(33, 30)) * 0.6 + [10, 30, 50]).astype(np.uint8))
    sources = {"colour": colour, "dull": dull, "grey": dull.convert("L")}

    def rotated(image, degrees):
        return F.rotate(image, degrees, InterpolationMode.BILINEAR)

    operations = {
        "brightness": (F.adjust_brightness, [0.63, 1.37]),
        "contrast": (F.adjust_contrast, [0.63, 1.37]),
        "saturation": (F.adjust_saturation, [0.63, 1.37]),
        "hue": (F.adjust_hue, [-0.09, 0.04]),
        "rotate": (rotated, [-14.2, 3.7]),
        "blur3": (lambda image, sigma: F.gaussian_blur(image, 3, sigma), [0.4, 1.9]),
        "blur5": (lambda image, sigma: F.gaussian_blur(image, 5, sigma), [0.4, 1.9]),
    }
    for name, image in sources.items():
        image.save(path / f"{name}.png")
        for operation, (function, parameters) in operations.items():
            for parameter in parameters:
                function(image, parameter).save(path / f"{name}-{operation}-{parameter}.png", optimize=True)
        for operation, (magnitudes, signed) in RandAugment()._augmentation_space(31, image.size[::-1]).items():
            magnitude = float(magnitudes[9]) if magnitudes.ndim else 0.0
            for sign in [1, -1] if signed else [1]:
                result = _apply_op(image, operation, sign * magnitude, InterpolationMode.NEAREST, None)
                result.save(path / f"{name}-ra_{operation}-{sign * magnitude!r}.png", optimize=True)


decode()
resize()
transform()
augment()
for name in ["rgb.png", "rgb.bmp", "grey.png"]:
    shutil.copy(here / "decode" / name, folder("photos"))
for name in ["decode", "resize", "transform", "augment"]:
    pack(here / name)
