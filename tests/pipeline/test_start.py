"""What a run takes before its first unit, however many rows there are."""

import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

MANIFEST = """
name: many
source: {{kind: parquet, paths: ["{paths}"]}}
nodes:
- {{id: fetch, stage: fetch}}
- {{id: decode, stage: decode, needs: [fetch]}}
- {{id: caption, stage: caption}}
"""

CODE = """
import sys
from pathlib import Path
from manifests.dag import read_manifest
from pipeline.run import prepare

def held():
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("RssAnon")).split()[1]) // 1024

few, many = map(Path, sys.argv[1:])
prepare(read_manifest(few))
before = held()
prepared = prepare(read_manifest(many))
print(len(prepared.units), prepared.info.rows, held() - before)
"""


def write(folder: Path, rows: int) -> Path:
    folder.mkdir()
    urls = pa.DictionaryArray.from_arrays(pa.nulls(rows, pa.int32()).fill_null(0), ["http://example.com/0.jpg"])
    table = pa.table({"URL": urls.cast(pa.string()), "TEXT": urls.cast(pa.string())})
    pq.write_table(table, folder / "rows.parquet", row_group_size=100_000)
    path = folder / "many.yaml"
    path.write_text(MANIFEST.format(paths=folder / "*.parquet"))
    return path


def test_five_million_rows_are_cut_into_units_without_being_held(tmp_path: Path) -> None:
    few, many = write(tmp_path / "few", 1000), write(tmp_path / "many", 5_000_000)
    done = subprocess.run([sys.executable, "-c", CODE, few, many], capture_output=True, text=True, check=True)
    units, rows, mib = map(int, done.stdout.split())
    assert (units, rows) == (19_532, 5_000_000)
    assert mib < 25
