"""Parquet that is wrong, through the command line: one message that helps, or rows that are counted; none is lost."""

import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from benchmarks.bad_input.pictures import make
from pipeline.ledger import Layout
from tests.pipeline.command import call, told


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    """A server of one good picture, whatever is asked for."""

    class Picture(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            data = make("jpeg", int(self.path.rpartition("/")[2])).data
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Picture)
    thread = threading.Thread(target=partial(server.serve_forever, poll_interval=0.01))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with a manifest for ``a.parquet`` and ``b.parquet``."""
    monkeypatch.chdir(tmp_path)
    fetch = {"id": "fetch", "stage": "fetch", "batch_size": 2, "workers": 2, "params": {"allow_hosts": ["127.0.0.1"]}}
    decode = {"id": "decode", "stage": "decode", "needs": ["fetch"]}
    caption = {"id": "caption", "stage": "caption", "needs": ["decode"]}
    source = {"kind": "parquet", "paths": ["?.parquet"], "unit_rows": 5}
    manifest = {"name": "bad", "source": source, "nodes": [fetch, decode, caption]}
    Path("m.yaml").write_text(yaml.safe_dump(manifest))
    return tmp_path


def write(columns: Mapping[str, Any], name: str = "a.parquet", **options: Any) -> None:
    pq.write_table(pa.table(dict(columns)), name, **options)


def counts() -> Counter[str]:
    """Rows of the finished run in ``out``, by reason; kept ones under ``kept``."""
    result = call("run", "m.yaml", "--out", "out", "--local")
    assert result.exit_code == 0, result.output
    found: Counter[str] = Counter()
    for record in Layout(Path("out")).unit_records():
        found["kept"] += record.kept
        for rejection in record.rejections:
            found[rejection.reason] += rejection.count
    return found


def good(site: str, count: int) -> dict[str, list[Any]]:
    return {"URL": [f"{site}/{n}" for n in range(count)], "TEXT": [f"picture number {n}" for n in range(count)]}


def test_nulls_everywhere_are_counted_and_cost_no_good_row(rows: Path, site: str) -> None:
    write(good(site, 2))
    write({"URL": pa.nulls(3, pa.string()), "TEXT": pa.nulls(3), "WIDTH": pa.nulls(3), "id": pa.nulls(3)}, "b.parquet")
    assert counts() == {"kept": 2, "no_url": 3}


def test_words_that_are_no_words_are_counted_and_cost_no_good_row(rows: Path, site: str) -> None:
    columns = good(site, 6)
    columns["TEXT"][1:] = ["", " \n ", None, "a" * 1_000_000, "ok"]
    write(columns)
    assert counts() == {"kept": 1, "no_caption": 3, "too_long": 1, "too_short": 1}


def test_numbers_that_are_none_and_ids_that_repeat_cost_no_row(rows: Path, site: str) -> None:
    sizes = pa.array([float("nan"), float("inf"), -1.0, 1e300])
    write(good(site, 4) | {"id": [7] * 4, "WIDTH": sizes, "similarity": sizes, "punsafe": sizes})
    assert counts() == {"kept": 4}
    keys = pq.read_table(Path("out/shards/000000.parquet"), columns=["key"]).column("key").to_pylist()
    assert len(set(keys)) == 4


def test_text_that_is_no_unicode_is_counted_and_costs_no_good_row(rows: Path, site: str) -> None:
    columns = good(site, 3)
    write(columns | {"TEXT": pa.array([b"caf\xe9", b"caf\xc3\xa9 noir", b"\xff\xfe"], pa.binary())})
    assert counts() == {"kept": 1, "bad_text": 2}


def test_a_damaged_row_group_is_counted_and_costs_no_other(rows: Path, site: str) -> None:
    write(good(site, 12), row_group_size=4, use_dictionary=False, compression="zstd", write_page_checksum=True)
    chunk = pq.read_metadata("a.parquet").row_group(1).column(0)
    data = bytearray(Path("a.parquet").read_bytes())
    data[chunk.data_page_offset + chunk.total_compressed_size - 9] ^= 1
    Path("a.parquet").write_bytes(data)
    assert counts() == {"kept": 8, "unreadable_row_group": 4}
    assert "unreadable_row_group" in call("status", "out").output
    assert call("verify", "out").exit_code == 0


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ({"link": ["http://a"], "TEXT": ["a"]}, "b.parquet: no URL column; the file has link, TEXT; name it"),
        ({"URL": [1], "TEXT": ["a"]}, "b.parquet: column 'URL' holds int64, but url is a text"),
        (
            {"URL": ["http://a"], "TEXT": [["a"]]},
            "b.parquet: column 'TEXT' holds list<element: string>, but alt",
        ),
        (
            {"URL": ["http://a"], "WIDTH": ["512"]},
            "b.parquet: column 'WIDTH' holds string, but stated_width",
        ),
        ({"URL": ["http://a"], "id": [{"a": 1}]}, "b.parquet: column 'id' holds struct<a: int64>, but source_id is a"),
        (
            {"url": ["http://a"], "noun_chunks": ["[]"]},
            "b.parquet: column 'noun_chunks' holds string, but anno",
        ),
    ],
)
def test_columns_that_cannot_be_used_are_told_before_anything_starts(
    rows: Path, columns: Mapping[str, Any], says: str
) -> None:
    write({"URL": ["http://a"], "TEXT": ["a"]})
    write(columns, "b.parquet")
    assert says in told(call("check", "m.yaml"))
    assert says in told(call("run", "m.yaml", "--out", "out", "--local"))
    assert not Path("out").exists()


def test_files_that_are_no_parquet_are_told(rows: Path) -> None:
    write({"URL": ["http://a"] * 100})
    whole = Path("a.parquet").read_bytes()
    for content, says in [
        (whole[: len(whole) // 2], "a.parquet: ends with"),
        (whole[:-1], "a.parquet: ends with"),
        (b"", "a.parquet: ends with b''"),
        (b"URL,TEXT\nhttp://a,b\n", "it is no Parquet file, or was cut off: fetch or write it again"),
        (
            whole[:-60] + bytes(52) + whole[-8:],
            "a.parquet: the Parquet footer is damaged; fetch or write",
        ),
    ]:
        Path("a.parquet").write_bytes(content)
        assert says in told(call("check", "m.yaml"))


@pytest.mark.parametrize(
    ("name", "text"),
    [("a.csv", "URL,TEXT\nhttp://a,b\n"), ("a.TSV", "URL\tTEXT\nhttp://a\tb\n"), ("a.jsonl", '{"URL": "http://a"}\n')],
)
def test_a_table_of_another_kind_is_told_the_command_that_makes_it_parquet(rows: Path, name: str, text: str) -> None:
    Path(name).write_text(text)
    Path("m.yaml").write_text(Path("m.yaml").read_text().replace("?.parquet", name))
    message = told(call("check", "m.yaml"))
    command = message.partition("write it as one: python ")[2].strip()
    subprocess.run(f"{sys.executable} {command}", shell=True, check=True)
    assert pq.read_table("a.parquet")["URL"].to_pylist() == ["http://a"]


def test_a_folder_in_place_of_files_is_told(rows: Path) -> None:
    Path("tables").mkdir()
    Path("m.yaml").write_text(Path("m.yaml").read_text().replace("?.parquet", "tables"))
    assert "tables: is a folder; give a file, or a pattern of files such as tables/*" in told(call("check", "m.yaml"))


def test_no_rows_and_no_files_are_told(rows: Path) -> None:
    assert "?.parquet: matches no file; give a file, or a pattern" in told(call("check", "m.yaml"))
    write({"URL": pa.array([], pa.string())})
    assert "?.parquet: no rows in 1 files; nothing to do" in told(call("check", "m.yaml"))
