"""URL to shard by Ray Data's own operators: ``python -m benchmarks.fetch.ray_data TABLE OUT``."""

import hashlib
import io
import sys
from typing import Any

import ray
from PIL import Image
from ray.data.expressions import download

SIDE = 256
BLOCK_ROWS = 250
"""As many however long the table is, so that what a block costs is part of what a row costs."""


def shrink(row: dict[str, Any]) -> dict[str, Any]:
    """The picture with a longer side of ``SIDE``, as a JPEG, with its caption and digest."""
    with Image.open(io.BytesIO(row["bytes"])) as picture:
        picture.draft("RGB", (SIDE, SIDE))
        small = picture.convert("RGB")
    small.thumbnail((SIDE, SIDE), Image.Resampling.BOX)
    file = io.BytesIO()
    small.save(file, "JPEG", quality=95)
    digest = hashlib.sha256(row["bytes"]).hexdigest()
    return {"__key__": digest[:16] + row["URL"][-6:], "jpg": file.getvalue(), "txt": row["TEXT"], "sha256": digest}


def encode(sample: dict[str, Any]) -> dict[str, Any]:
    """Words as bytes; the picture is encoded already, which Ray Data's own encoder does not take."""
    return {
        name: value.encode() if isinstance(value, str) and name != "__key__" else value
        for name, value in sample.items()
    }


def main() -> None:
    """Read, download, shrink, write."""
    ray.init(address="local", num_cpus=2, include_dashboard=False, object_store_memory=512 * 2**20)
    rows = ray.data.read_parquet(sys.argv[1]).repartition(target_num_rows_per_block=BLOCK_ROWS)
    rows = rows.with_column("bytes", download("URL"))
    rows.map(shrink).write_webdataset(sys.argv[2], encoder=encode)
    ray.shutdown()


if __name__ == "__main__":
    main()
