import gzip
import hashlib
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.base import Context, Drop, Fail
from stages.fetch import Fetch, FetchIn, FetchOut
from stages.web.deletions import Deletions, read_deletions
from stages.web.manners import directives
from stages.web.params import FetchParams
from tests.stages.web.conftest import Wire
from tests.stages.web.pages import BODY


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("noai", {"noai"}),
        ("NoAI, noindex", {"noai", "noindex"}),
        ("none", {"none", "noindex", "nofollow"}),
        ("otherbot: noai", set()),
        ("inlay: noai", {"noai"}),
        ("otherbot: noindex, noai, inlay: nofollow", {"nofollow"}),
        ("noindex, otherbot: noai", {"noindex"}),
        ("max-image-preview: none", {"max-image-preview"}),
        ("unavailable_after: 25 Jun 2010 15:00:00 GMT", {"noindex"}),
        ("unavailable_after: Fri, 25 Jun 2010 15:00:00 GMT, noai", {"noindex", "noai"}),
        ("unavailable_after: 2010-06-25", {"noindex"}),
        ("unavailable_after: 25 Jun 2910 15:00:00 GMT", set()),
        ("unavailable_after: soon", set()),
        ("unavailable_after: Mon, 01 Jan 2020 00:00:00 +99999999999999999999, noai", {"noai"}),
    ],
)
def test_directives_for_all_and_for_us_count(value: str, expected: set[str]) -> None:
    assert directives(value, "inlay") == expected


@given(st.text())
def test_any_header_can_be_read(value: str) -> None:
    assert isinstance(directives(value, "inlay"), frozenset)


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        ("x-robots-tag/noimageai", "robots_tag"),
        ("x-robots-tag/Inlay:noai", "robots_tag"),
        ("tdm-reservation/1", "tdm_reservation"),
    ],
)
def test_who_asks_not_to_be_used_is_dropped(plain: Wire, header: str, reason: str) -> None:
    (result,) = plain.fetch(plain.url(f"tagged/{header}"), max_bytes=2**30)
    assert isinstance(result, Drop) and result.reason == reason


@pytest.mark.parametrize("header", ["x-robots-tag/otherbot:noai", "tdm-reservation/0", "x-robots-tag/nofollow"])
def test_who_does_not_is_fetched(plain: Wire, header: str) -> None:
    assert isinstance(plain.fetch(plain.url(f"tagged/{header}"), max_bytes=2**30)[0], FetchOut)


def test_manners_can_be_turned_off(plain: Wire) -> None:
    for header in ("x-robots-tag/noai", "tdm-reservation/1"):
        url = plain.url(f"tagged/{header}")
        results = plain.fetch(url, refused_tags=[], respect_tdm=False, max_bytes=2**30)
        assert isinstance(results[0], FetchOut)


def test_lists_name_urls_and_hashes_of_urls_and_files(tmp_path: Path) -> None:
    listed, body = "http://a.test/listed.jpg", b"a file"
    text, table = tmp_path / "list.txt", tmp_path / "list.parquet"
    text.write_text(f"{listed}\n\n{hashlib.sha256(b'http://a.test/hashed.jpg').hexdigest()}\n")
    pq.write_table(pa.table({"md5": [hashlib.md5(body).hexdigest(), None], "note": ["x", "y"]}), table)
    deletions = read_deletions([str(text), str(table)])
    assert deletions.has_url(listed) and deletions.has_url("http://a.test/hashed.jpg")
    assert not deletions.has_url("http://a.test/other.jpg")
    assert deletions.has_file(body, hashlib.sha256(body).hexdigest())
    assert not deletions.has_file(b"another", hashlib.sha256(b"another").hexdigest())


def test_lists_are_read_whatever_wrote_them(tmp_path: Path) -> None:
    """A byte-order mark before the first entry; URLs and hashes as bytes, of which ``sha256().digest()`` gives 32."""
    listed, body = "http://a.test/größe.jpg", b"a file"
    text, table = tmp_path / "list.txt", tmp_path / "list.parquet"
    text.write_bytes(f"{listed}\r\n".encode("utf-8-sig"))
    columns = {"sha256": [hashlib.sha256(body).digest()], "md5": [b"0" * 32], "url": [b"http://b.test/"]}
    pq.write_table(pa.table(columns), table)
    deletions = read_deletions([str(text), str(table)])
    assert len(deletions) == 4
    assert deletions.has_url(listed) and deletions.has_url("http://b.test/")
    assert deletions.has_file(body, hashlib.sha256(body).hexdigest())


@pytest.mark.parametrize("kind", [pa.int64(), pa.list_(pa.string())])
def test_a_column_that_would_match_nothing_is_refused(tmp_path: Path, kind: pa.DataType) -> None:
    path = tmp_path / "list.parquet"
    pq.write_table(pa.table({"hash": pa.nulls(1, kind)}), path)
    with pytest.raises(ValueError, match=r"list\.parquet: column 'hash' holds .*; URLs and hashes are text or bytes"):
        read_deletions([str(path)])


@pytest.mark.parametrize(("name", "separator"), [("list.csv", ","), ("list.TSV", "\t"), ("list.v2.csv.gz", ",")])
def test_tables_of_text_are_read_by_their_columns(tmp_path: Path, name: str, separator: str) -> None:
    digest = hashlib.sha256(b"a file").hexdigest()
    rows = [["id", "URL", "sha256"], ["1", '"http://a.test/x,y.jpg"', ""], ["2", "", digest], ["3"]]
    text = "".join(f"{separator.join(row)}\r\n" for row in rows).encode("utf-8-sig")
    (tmp_path / name).write_bytes(gzip.compress(text) if name.endswith("gz") else text)
    deletions = read_deletions([str(tmp_path / name)])
    assert len(deletions) == 2
    assert deletions.has_url("http://a.test/x,y.jpg") and deletions.has_file(b"a file", digest)


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("list.csv", "link,why\nhttp://a.test/,x\n", "has no column url, sha256, md5, hash; it has link, why"),
        ("list.csv", "hash\n123\n-45\n", "none of its 2 entries is a URL, SHA-256 or MD5, as '-45'"),
        ("list.jsonl", '{"url": "http://a.test/"}\n', "none of its 1 entries"),
        ("MD5SUMS", f"{'0' * 32}  a.jpg\n", "none of its 1 entries"),
    ],
)
def test_a_list_that_would_match_nothing_is_refused(tmp_path: Path, name: str, text: str, says: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=says):
        read_deletions([str(tmp_path / name)])


def test_an_empty_list_is_one(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("\n")
    assert len(read_deletions([str(tmp_path / "list.txt")])) == 0


def test_a_compressed_list_that_was_cut_off_is_named(tmp_path: Path) -> None:
    path = tmp_path / "list.txt.gz"
    path.write_bytes(gzip.compress(b"http://a.test/\n" * 99)[:-10])
    with pytest.raises(ValueError, match=r"list\.txt\.gz cannot be read"):
        read_deletions([str(path)])


@given(st.sets(st.text(alphabet="abc/:.0", min_size=1).map(str.strip).filter(bool), max_size=40))
def test_a_list_has_its_entries_and_no_others(entries: set[str]) -> None:
    deletions = Deletions(entries)
    assert all(deletions.has_url(entry) for entry in entries)
    assert not any(deletions.has_url(f"{entry}#") for entry in entries if f"{entry}#" not in entries)


def test_listed_urls_are_not_asked_for_and_listed_files_not_kept(plain: Wire, tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_text(f"{plain.url('chunked')}\n{hashlib.sha256(BODY).hexdigest()}\n")
    before = plain.site.asked["chunked"]
    params = FetchParams(allow_hosts=("127.0.0.1",), deletions=(str(path),), contact="t@example.org")
    stage = Fetch.load(params, Context())
    urls = [plain.url("chunked"), plain.url("good")]
    results = stage.process([FetchIn(key=url, url=url) for url in urls])
    stage.close()
    assert [result.reason for result in results if isinstance(result, Drop)] == ["deletion_list"] * 2
    assert plain.site.asked["chunked"] == before
    assert Fetch.models(params)[0].revision == hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_redirect_to_a_listed_url_is_not_followed(plain: Wire, tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_text(f"{plain.url('good')}\n")
    before = plain.site.asked["good"]
    stage = Fetch.load(FetchParams(allow_hosts=("127.0.0.1",), deletions=(str(path),), contact="t@e.org"), Context())
    (result,) = stage.process([FetchIn(key="k", url=plain.url("redirect/1"))])
    stage.close()
    assert isinstance(result, Drop) and result.reason == "deletion_list" and plain.url("good") in result.message
    assert plain.site.asked["good"] == before


def test_a_list_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"gone\.txt cannot be read.*name a whole file that is there"):
        Fetch.models(FetchParams(deletions=(str(tmp_path / "gone.txt"),)))


def test_a_list_in_a_store_that_asks_for_credentials_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, "/dev/null")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(ValueError, match=r"deletions: s3://b/l\.txt cannot be read: .*check the credentials"):
        Fetch.models(FetchParams(deletions=("s3://b/l.txt",)))


@pytest.mark.parametrize("path", ["nosuch://b/l.txt", "s3://"])
def test_a_list_by_a_url_that_nothing_opens_is_named(path: str) -> None:
    with pytest.raises(ValueError, match=f"deletions: {path}: "):
        Fetch.models(FetchParams(deletions=(path,)))


def test_a_host_that_gives_no_answer_is_asked_no_more(plain: Wire) -> None:
    urls = [plain.url("hang")] * 30 + [plain.url("good", host="one.test")]
    results = plain.fetch(*urls, first_byte_s=0.2, per_host=2, host_failures=4, retries=0)
    reasons = [result.reason if isinstance(result, Drop | Fail) else "fetched" for result in results]
    assert reasons[-1] == "fetched"
    assert set(reasons[:-1]) == {"timeout", "host_down"} and 4 <= reasons.count("timeout") <= 5


def test_a_host_that_is_slow_gets_no_more_of_the_batch(plain: Wire) -> None:
    urls = [plain.url("slow/0.2")] * 12 + [plain.url("good", host="one.test")]
    results = plain.fetch(*urls, per_host=1, max_host_s=0.5)
    reasons = [result.reason if isinstance(result, Drop | Fail) else "fetched" for result in results]
    assert reasons[0] == reasons[-1] == "fetched" and reasons[-2] == "host_slow"


def test_no_more_than_per_host_are_asked_of_one_at_once(plain: Wire) -> None:
    plain.site.most_at_once = 0
    plain.fetch(*[plain.url("slow/0.05")] * 12, per_host=3)
    assert 1 < plain.site.most_at_once <= 3


def test_retry_after_is_waited_for_within_the_deadline(plain: Wire) -> None:
    plain.site.asked.clear()
    assert isinstance(plain.fetch(plain.url("recovers/429/2/1"), retries=1)[0], FetchOut)
    assert plain.reason(plain.url("recovers/429/2/3600"), retries=1) == "http_429"
    assert plain.site.asked["recovers/429/2/3600"] == 1
