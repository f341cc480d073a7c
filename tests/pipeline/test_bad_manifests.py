"""What users get wrong in manifests, through the command line: one message that helps, and never a traceback."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.pipeline.command import call, told

HEAD = "name: x\nsource: {kind: parquet, paths: [a.parquet]}\n"
NODES = "nodes: [{id: a, stage: fetch}]\n"
MANIFESTS = Path(__file__).parents[2] / "manifests"


def laughs(levels: int, item: str = "*") -> str:
    """Aliases that stand for 9^levels values."""
    lines = [f"  l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 9)}]" for n in range(1, levels)]
    return "\n".join(["laughs:", "  l0: &l0 [ha, ha, ha, ha, ha, ha, ha, ha, ha]", *lines]) + "\n"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (HEAD + "nodes: [{id: a, stage: fetch, batchsize: 3}]", "m.yaml:3: node 'a', batchsize: no such setting; did"),
        (HEAD + "nodes: [{id: a, stage: fetch, params: {timeout: 3}}]", "did you mean 'timeout_s'"),
        (HEAD + "nodes: [{id: a, stage: decode, needs: [b]}, {id: b, stage: fetch, needs: [a]}]", "in a circle: "),
        (HEAD + "nodes: [{id: a, stage: decode, needs: [a]}]", "in a circle: "),
        (
            HEAD + f"nodes: [{{id: {'x' * 5000}, stage: fetch}}]",
            "xxx…, id: String should have at most 40 characters, got",
        ),
        (HEAD + "nodes: &n [*n]", "m.yaml:3: not valid YAML: an anchor stands inside what it names"),
        (HEAD + f"seed: {10**30}\n" + NODES, "m.yaml:3: seed: Input should be less than"),
        (HEAD + f"seed: {'9' * 5000}\n" + NODES, "m.yaml:3: not valid YAML: a number of 5,000 characters"),
        (HEAD + f"seed: 0x{'f' * 5000}\n" + NODES, "m.yaml:3: not valid YAML: a number of 5,002 characters"),
        (HEAD + "seed: 1e999\n" + NODES, "m.yaml:3: seed: Input should be a valid integer"),
        (HEAD + "seed: .nan\n" + NODES, "m.yaml:3: seed: Input should be a finite number"),
        (HEAD + "seed: -1\n" + NODES, "m.yaml:3: seed: Input should be greater than or equal to 0"),
        (
            HEAD.replace("]}", "], unit_rows: 1000000000000}") + NODES,
            "m.yaml:2: source.unit_rows: Input should be",
        ),
        (HEAD + NODES + HEAD, "m.yaml:4: not valid YAML: key 'name' stands here twice"),
        (HEAD + "nodes: [{id: a, id: b, stage: fetch}]", "m.yaml:3: not valid YAML: key 'id' stands here twice"),
        (laughs(12) + HEAD + NODES, "not valid YAML: its aliases stand for more than 100,000 values"),
        (laughs(12) + "name: *l11", "not valid YAML: its aliases stand for more than 100,000 values"),
        (laughs(3) + HEAD + NODES, "laughs: no such setting"),
        (HEAD + "nodes: " + "[" * 2_000, "m.yaml: not valid YAML: nested deeper than 50 levels"),
        (HEAD + "nodes: " + "[" * 60 + "]" * 60, "m.yaml:3: not valid YAML: nested deeper than 50 levels"),
        (HEAD + "nodes:\n\t- id: a", "m.yaml:4: not valid YAML: found character '\\t'"),
        (HEAD + "#" * 2**20, "m.yaml: not valid YAML: more than 1,048,576 characters are no manifest"),
        (HEAD + "x: \0", "m.yaml:3: not valid YAML: character 0x0 is not allowed"),
        (HEAD + "seed: 2020-99-99", "m.yaml:3: not valid YAML: '2020-99-99' is no timestamp"),
        (HEAD + "on: 1", "m.yaml:3: not valid YAML: key True is no text; put on in quotes if it is meant"),
        (HEAD + "nodes: !!set {a}", "m.yaml:3: not valid YAML: a value of type set is not known here"),
        (HEAD + "nodes: !thing []", "m.yaml:3: not valid YAML: could not determine a constructor for the tag"),
        (HEAD + "nodes: *nowhere", "m.yaml:3: not valid YAML: found undefined alias 'nowhere'"),
        (HEAD + "--- {}", "m.yaml:3: not valid YAML: but found another document"),
        (
            (HEAD + NODES).encode("utf-16"),
            "m.yaml: cannot read the manifest: byte 0 is not UTF-8; save the file as UTF-8",
        ),
        ((HEAD + "# café").encode("latin-1"), "is not UTF-8; save the file as UTF-8"),
        ("", "m.yaml:1: a manifest maps name, source and nodes to values, got null"),
        ("PAR1", 'm.yaml:1: a manifest maps name, source and nodes to values, got "PAR1"'),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_a_mistake_in_a_manifest_is_one_message_with_file_line_value_and_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str | bytes, says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    pq.write_table(pa.table({"URL": ["http://a/0.jpg"]}), "a.parquet")
    Path("m.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())
    assert says in told(call("check", "m.yaml"))
    assert says in told(call("run", "m.yaml", "--out", "out", "--local"))
    assert not Path("out").exists()


def test_a_manifest_that_is_a_folder_or_not_there_is_told(tmp_path: Path) -> None:
    assert "cannot read the manifest: Is a directory" in told(call("check", tmp_path))
    assert "cannot read the manifest: No such file" in told(call("check", tmp_path / "m.yaml"))


def test_a_byte_order_mark_and_few_aliases_do_no_harm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    pq.write_table(pa.table({"URL": ["http://a/0.jpg"], "TEXT": ["a dog"]}), "a.parquet")
    nodes = (
        "nodes:\n"
        "- {id: a, stage: fetch, batch_size: &two 2, workers: *two}\n"
        "- {id: b, stage: decode, needs: [a]}\n"
        "- {id: c, stage: caption, needs: [b]}\n"
    )
    Path("m.yaml").write_bytes(b"\xef\xbb\xbf" + (HEAD + nodes).encode())
    result = call("check", "m.yaml")
    assert result.exit_code == 0, result.output


ODD: list[Any] = [
    *(None, True, -1, 0, 10**30, 1e-320, float("nan"), float("inf"), "", "\0", "a\tb", "x" * 5000, [], {}, [[[]]]),
    *({"a": 1}, {1: 2}, {None: 3}, "..", "*", "/", "~nobody", "memory://x", "nope://x", "2020-01-01", b"\xff", {1}),
]
SNIPPETS = [
    *(
        "\t",
        "*a",
        "&a ",
        "[",
        "{",
        "}",
        "!!set ",
        "- ",
        ": ",
        "\0",
        "|",
        "<<: ",
        "? ",
        "'",
        '"',
        "%",
        "---\n",
        "é",
        "\x85",
    )
]
TEXTS = [(MANIFESTS / f"{name}.yaml").read_text() for name in ("demo", "coco", "shapes", "unimo_g")]


def places(plain: Any) -> Iterator[tuple[Any, Any]]:
    """Every container in a plain value, with each of its keys."""
    keys = list(plain) if isinstance(plain, dict) else range(len(plain)) if isinstance(plain, list) else []
    for key in keys:
        yield plain, key
        yield from places(plain[key])


@st.composite
def changed_values(draw: st.DrawFn) -> str:
    plain = yaml.safe_load(draw(st.sampled_from(TEXTS)))
    for _ in range(draw(st.integers(1, 2))):
        container, key = draw(st.sampled_from(list(places(plain))))
        container[key] = draw(st.sampled_from(ODD))
    return yaml.safe_dump(plain, allow_unicode=True)


@st.composite
def changed_texts(draw: st.DrawFn) -> str:
    text = draw(st.sampled_from(TEXTS))
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, len(text)))
        text = text[:place] + draw(st.sampled_from(SNIPPETS)) + text[place + draw(st.integers(0, 20)) :]
    return text


@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.one_of(changed_values(), changed_texts()))
def test_no_change_to_a_manifest_ends_in_a_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("m.yaml").write_text(text)
    result = call("check", "m.yaml")
    if result.exit_code:
        told(result)
