"""Makes the images of `exif` with Pillow 13: one picture with every orientation noted in every way that Pillow's `exif_transpose` hears.

    python make_exif.py

`exif/WAY-VALUE.EXT` is read as `exif/VALUE.png`, which is the picture after `exif_transpose`: VALUE is the orientation that counts, 1
where none does. The folder is packed into `exif.zip`. `turned_rows.parquet` has the eight PNGs of one way, with labels 0 and 1 in turn. The script checks that Pillow reads every file so; where Pillow fails on what is damaged, as without it.
"""

import io
import pathlib
import struct
import warnings
import zlib

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image, ImageOps

from pack import pack

here = pathlib.Path(__file__).parent / "exif"
here.mkdir(exist_ok=True)
warnings.simplefilter("ignore")

# Six plain blocks, so that JPEG changes them little.
blocks = np.array([[[200, 40, 40], [40, 200, 40], [40, 40, 200]], [[220, 220, 40], [230, 230, 230], [20, 20, 20]]])
values = blocks.repeat(8, 0).repeat(8, 1).astype(np.uint8)
picture = Image.fromarray(values)


def saved(image, kind, **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


plain_jpeg = saved(picture, "JPEG", quality=90, subsampling=0)
plain_png = saved(picture, "PNG", optimize=True)
plain_webp = saved(picture, "WEBP", lossless=True)


def exif(entries, order="<", count=None, following=b""):
    """A directory of (tag, type, count, four bytes of value), in a byte order; what follows begins with where the next one is."""
    head = {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(order + "L", 8)
    body = b"".join(struct.pack(order + "HHL", *entry[:3]) + entry[3] for entry in entries)
    return head + struct.pack(order + "H", count if count is not None else len(entries)) + body + (following or bytes(4))


def short(value, order="<"):
    return (274, 3, 1, struct.pack(order + "HH", value, 0))


def oriented(value, order="<"):
    return exif([short(value, order)], order)


def segment(content, marker=0xE1):
    return bytes([0xFF, marker]) + struct.pack(">H", len(content) + 2) + content


def jpeg(*contents):
    return plain_jpeg[:2] + b"".join(map(segment, contents)) + plain_jpeg[2:]


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(*chunks, behind=False):
    at = len(plain_png) - 12 if behind else 33
    return plain_png[:at] + b"".join(chunks) + plain_png[at:]


def webp(exif=b"", xmp=b""):
    def piece(kind, data):
        return kind + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2) if data else b""

    size = struct.pack("<I", picture.width - 1)[:3] + struct.pack("<I", picture.height - 1)[:3]
    flags = (8 if exif else 0) | (4 if xmp else 0)
    body = piece(b"VP8X", bytes([flags, 0, 0, 0]) + size) + plain_webp[12:] + piece(b"EXIF", exif) + piece(b"XMP ", xmp)
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body


def tiff(entries, order="<", xmp=b""):
    shorts = {256: picture.width, 257: picture.height, 259: 1, 262: 2, 277: 3, 278: picture.height}
    entries = entries + [(tag, 3, 1, struct.pack(order + "HH", value, 0)) for tag, value in shorts.items()]
    count = len(entries) + 3 + bool(xmp)
    depths = 8 + 2 + 12 * count + 4
    text = depths + 6
    pixels = text + len(xmp)
    entries += [(258, 3, 3, struct.pack(order + "L", depths)), (273, 4, 1, struct.pack(order + "L", pixels))]
    entries += [(279, 4, 1, struct.pack(order + "L", values.size))]
    entries += [(700, 1, len(xmp), struct.pack(order + "L", text))] if xmp else []
    end = bytes(4) + struct.pack(order + "HHH", 8, 8, 8) + xmp + values.tobytes()
    return exif(sorted(entries), order, following=end)


def xmp(value):
    return f'<rdf:Description tiff:Orientation="{value}"/>'.encode()


IN_JPEG, XMP_IN_JPEG = b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0"
files = {}
for value in range(1, 9):
    for order, name in [("<", "little"), (">", "big")]:
        files[f"{name}-{value}.jpg"] = jpeg(IN_JPEG + oriented(value, order))
    order = "<>"[value % 2]
    files[f"chunk-{value}.png"] = png(chunk(b"eXIf", oriented(value, order)))
    files[f"chunk-{value}.webp"] = webp(oriented(value, order))
    files[f"tag-{value}.tif"] = tiff([short(value, order)], order)

camera = (271, 2, 4, b"Me\0\0")
thumbnail = struct.pack("<L", 26) + struct.pack("<H", 1) + b"".join([struct.pack("<HHL", 274, 3, 1), struct.pack("<HH", 6, 0), bytes(4)])
profile = IN_JPEG + oriented(6)
profile = f"\nexif\n{len(profile):8}\n{profile.hex()}\n".encode()
files |= {
    "zero-1.jpg": jpeg(IN_JPEG + oriented(0)),
    "nine-1.jpg": jpeg(IN_JPEG + oriented(9)),
    "nine-1.tif": tiff([short(9)]),
    "xmp-before-6.jpg": jpeg(XMP_IN_JPEG + xmp(3), IN_JPEG + oriented(6)),
    "xmp-behind-6.jpg": jpeg(IN_JPEG + oriented(6), XMP_IN_JPEG + xmp(3)),
    "xmp-beside-upright-1.jpg": jpeg(IN_JPEG + oriented(1), XMP_IN_JPEG + xmp(3)),
    "xmp-alone-8.jpg": jpeg(XMP_IN_JPEG + xmp(8)),
    "xmp-as-element-3.jpg": jpeg(XMP_IN_JPEG + b"<tiff:Orientation>3</tiff:Orientation>"),
    "xmp-alone-5.png": png(chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp(5))),
    "xmp-packed-7.png": png(chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0en\0name\0" + zlib.compress(xmp(7)))),
    "xmp-alone-4.webp": webp(xmp=xmp(4)),
    "xmp-alone-2.tif": tiff([], ">", xmp(2)),
    "in-two-segments-6.jpg": jpeg(IN_JPEG + oriented(6)[:15], IN_JPEG + oriented(6)[15:]),
    "other-segment-1.jpg": plain_jpeg[:2] + segment(IN_JPEG + oriented(6), 0xE2) + plain_jpeg[2:],
    "of-thumbnail-1.jpg": jpeg(IN_JPEG + exif([camera], following=thumbnail)),
    "as-long-6.jpg": jpeg(IN_JPEG + exif([(274, 4, 1, struct.pack("<L", 6))])),
    "two-values-6.jpg": jpeg(IN_JPEG + exif([(274, 3, 2, struct.pack("<HH", 6, 8))])),
    "as-letter-1.jpg": jpeg(IN_JPEG + exif([(274, 2, 2, b"6\0\0\0")])),
    "twice-6.jpg": jpeg(IN_JPEG + exif([short(6), short(3)])),
    "cut-behind-6.jpg": jpeg(IN_JPEG + exif([short(6), camera], count=9)[:-14]),
    "cut-before-1.jpg": jpeg(IN_JPEG + exif([camera, short(6)])[:-10]),
    "far-before-1.jpg": jpeg(IN_JPEG + exif([(271, 2, 8, b"\xff\xff\xff\x00"), short(6)])),
    "huge-before-6.jpg": jpeg(IN_JPEG + exif([(271, 2, 1 << 30, bytes(4)), short(6)])),
    "nowhere-1.jpg": jpeg(IN_JPEG + oriented(6)[:4] + b"\xff\xff\xff\xff" + oriented(6)[8:]),
    "no-tiff-1.jpg": jpeg(IN_JPEG + b"XX" + oriented(6)[2:]),
    "empty-1.jpg": jpeg(IN_JPEG),
    "empty-1.png": png(chunk(b"eXIf", b"")),
    "named-6.png": png(chunk(b"eXIf", IN_JPEG + oriented(6))),
    "named-6.webp": webp(IN_JPEG + oriented(6)),
    "behind-pixels-6.png": png(chunk(b"eXIf", oriented(6)), behind=True),
    "profile-6.png": png(chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(profile))),
    "profile-that-is-none-1.png": png(chunk(b"tEXt", b"Raw profile type exif\0" + profile.replace(b"4", b"x"))),
}

for value in range(1, 9):
    turned = ImageOps.exif_transpose(Image.open(io.BytesIO(files[f"chunk-{value}.png"])))
    Image.fromarray(np.asarray(turned)).save(here / f"{value}.png", optimize=True)
rows = [{"bytes": files[f"chunk-{value}.png"], "path": None} for value in range(1, 9)]
kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
pq.write_table(pa.table({"image": pa.array(rows, kind), "label": pa.array([0, 1] * 4)}), here.parent / "turned_rows.parquet")
for name, content in files.items():
    (here / name).write_bytes(content)
    image = Image.open(here / name)
    image.load()
    try:
        turned = ImageOps.exif_transpose(image)
    except (SyntaxError, ValueError, struct.error):
        turned = image
    want = np.asarray(Image.open(here / f"{name.rsplit('.', 1)[0].rsplit('-', 1)[1]}.png")).astype(int)
    got = np.asarray(turned.convert("RGB")).astype(int)
    assert got.shape == want.shape and abs(got - want).max() <= (12 if name.endswith("jpg") else 0), name
pack(here)
