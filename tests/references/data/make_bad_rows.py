"""Writes `bad_rows.parquet` beside this script: eight rows of two classes, of which row 2 has no image and row 5 bytes that are none;
and `unlabelled_rows.parquet`: eight rows, of which row 1 has no label and row 6 neither label nor image.

    python make_bad_rows.py        (needs pyarrow, pillow)
"""

import io
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image


def png(level):
    out = io.BytesIO()
    Image.new("L", (3, 2), level).save(out, "PNG")
    return out.getvalue()


rows = [{"bytes": png(10 * i), "path": f"{i}.png"} for i in range(8)]
rows[2] = None
rows[5]["bytes"] = b"no image"
kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
table = pa.table({"image": pa.array(rows, kind), "label": pa.array([0, 1] * 4)})
pq.write_table(table, Path(__file__).parent / "bad_rows.parquet", row_group_size=4)

rows = [{"bytes": png(10 * i), "path": f"{i}.png"} for i in range(8)]
rows[6] = None
labels = pa.array([0, None, 0, 1, 0, 1, None, 1], pa.int64())
pq.write_table(pa.table({"image": pa.array(rows, kind), "label": labels}), Path(__file__).parent / "unlabelled_rows.parquet")
