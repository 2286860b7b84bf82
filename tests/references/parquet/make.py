"""Writes the Parquet files beside this script, laid out as the Hugging Face hub's data sets are.

    python tests/references/parquet/make.py        (needs pyarrow, pillow, numpy)

Every image is 5 wide and 3 high. Image i has the pixel value 40 * i + 10 * y + x in its first channel, and in RGB images
100 + x and 200 + y in the others, so that any exchange of axes or channels shows.
"""

import io
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

HERE = Path(__file__).parent
WIDTH, HEIGHT = 5, 3


def png(i, grey=False):
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    first = 40 * i + 10 * y + x
    pixels = first if grey else np.stack([first, 100 + x, 200 + y], axis=-1)
    out = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(out, "PNG")
    return out.getvalue()


def images(indices, **options):
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    return pa.array([{"bytes": png(i, **options), "path": f"{i}.png"} for i in indices], kind)


def note(features):
    return {"huggingface": json.dumps({"info": {"features": features}})}


def write(path, columns, features=None, **options):
    path = HERE / path
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.table(columns)
    if features:
        table = table.replace_schema_metadata(note(features))
    pq.write_table(table, path, **options)


names = ["cat", "dog", "newt"]
labelled = {"image": {"_type": "Image"}, "label": {"names": names, "_type": "ClassLabel"}}
write(
    "named/data/train-00000-of-00002.parquet",
    {"image": images(range(3)), "label": pa.array([2, 0, 1])},
    labelled,
    row_group_size=2,
)
write(
    "named/data/train-00001-of-00002.parquet",
    {"image": images([3, 4]), "label": pa.array([0, 2])},
    labelled,
    use_dictionary=False,
)
write("named/data/validation-00000-of-00001.parquet", {"image": images([5]), "label": pa.array([1])}, labelled)
# Secret test labels, as in ImageNet's.
write("named/data/test-00000-of-00001.parquet", {"image": images([5]), "label": pa.array([-1])}, labelled)

# As CIFAR-100: other column names, two labels, and bytes without a struct; version 2 pages; nothing declared.
write(
    "plain.parquet",
    {
        "img": pa.array([png(i, grey=True) for i in range(6)], pa.binary()),
        "fine_label": pa.array([7, 3, 7, 11, 3, 11], pa.int32()),
        "coarse_label": pa.array(["b", "a", "b", "a", "a", "b"]),
        "id": pa.array([f"{i}" for i in range(6)]),
    },
    data_page_version="2.0",
)
write("no_images.parquet", {"text": pa.array(["a", "b"]), "label": pa.array([0, 1])})
write(
    "linked.parquet",
    {
        "image": pa.array(
            [{"bytes": None, "path": f"/data/{i}.png"} for i in range(4)],
            pa.struct([("bytes", pa.binary()), ("path", pa.string())]),
        ),
        "label": pa.array([0, 1, 0, 1]),
    },
    labelled,
)
write("unlabelled_row.parquet", {"image": images(range(3)), "label": pa.array([0, None, 1])}, labelled)
write("wrong_label.parquet", {"image": images(range(3)), "label": pa.array([0, 3, 1])}, labelled)
write("zstd.parquet", {"image": images(range(2)), "label": pa.array([0, 1])}, labelled, compression="zstd")

# A test part that names its classes in another order, one whose labels are text, and one that names another class.
five = {"image": images(range(5)), "label": pa.array([2, 0, 1, 0, 2])}
for folder, label, declared in [
    ("mapped", pa.array([0, 1, 2]), ["newt", "cat", "dog"]),
    ("text_test", pa.array(["newt", "cat", "dog"]), None),
    ("further", pa.array([0, 1, 1]), ["cat", "wasp"]),
]:
    features = declared and {**labelled, "label": {"names": declared, "_type": "ClassLabel"}}
    write(f"{folder}/train.parquet", five, labelled)
    write(f"{folder}/test.parquet", {"image": images(range(3)), "label": label}, features)

# Numbers without names for training, text for testing; labels as floats of both widths, and one that is no whole number.
write("two_kinds/train.parquet", five)
write("two_kinds/test.parquet", {"image": images(range(2)), "label": pa.array(["0", "1"])})
write("floats/train.parquet", {"image": images(range(3)), "label": pa.array([2.0, 0.0, 1.0], pa.float32())}, labelled)
write("floats/test.parquet", {"image": images(range(2)), "label": pa.array([1.0, 2.0], pa.float64())}, labelled)
write("fraction.parquet", {"image": images(range(3)), "label": pa.array([1.0, 0.5, 0.0])})
# Test images without a column of labels.
write("no_labels/train.parquet", five, labelled)
write("no_labels/test.parquet", {"image": images(range(2))})
