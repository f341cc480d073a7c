"""What a manifest may say, and what each mistake is told."""

from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from manifests.dag import Manifest, ManifestError, parse_manifest

HEAD = "name: x\nsource: {kind: parquet, paths: [a.parquet]}\n"

GOOD = {
    "name": "x",
    "source": {"kind": "parquet", "paths": ["a.parquet"]},
    "nodes": [
        {"id": "a", "stage": "decode"},
        {"id": "b", "stage": "caption", "needs": ["a"]},
        {"id": "c", "stage": "phrases", "needs": ["a", "b"], "params": {"model": "m"}},
        {"id": "d", "stage": "ground", "needs": ["a"]},
    ],
}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (HEAD + "nodes:\n- {id: a, stage: s, batchsize: 3}", "m.yaml:4: node 'a', batchsize: no such setting; did you"),
        (HEAD + "nodes:\n- {id: a, stage: s}\nnods: 3", "m.yaml:5: nods: no such setting; did you mean 'nodes'?"),
        (HEAD + "nodes:\n- id: a\n  stage: s\n  batch_size: 0", "m.yaml:6: node 'a', batch_size: Input should be"),
        (HEAD + "nodes:\n- {id: A.b, stage: s}", "String should match pattern '^[a-z][a-z0-9_]*$', got \"A.b\""),
        (HEAD + "nodes:\n- {id: a, stage: s, needs: [z]}", "m.yaml:4: node 'a', needs: no node 'z'; there are a"),
        (
            HEAD + "nodes:\n- {id: abc, stage: s}\n- id: b\n  stage: s\n  needs: [abd]",
            "m.yaml:7: node 'b', needs: no node 'abd'; did you mean 'abc'?",
        ),
        (HEAD + "nodes:\n- {id: a, stage: s}\n- {id: a, stage: s}", "node id 'a' is used 2 times"),
        (
            HEAD + "nodes:\n- {id: a, stage: s, needs: [b]}\n- {id: b, stage: s, needs: [a]}",
            "nodes need each other in a circle: ",
        ),
        (HEAD + "nodes: []", "m.yaml:3: nodes: List should have at least 1 item"),
        (HEAD, "m.yaml:1: nodes: is missing"),
        ("name: x\nsource: {kind: parquet, paths: [a], url: b}\nnodes: [{id: a, stage: s}]", "source.url: no such"),
        (
            "name: x\nsource: {kind: ftp}\nnodes: [{id: a, stage: s}]",
            "source: no kind 'ftp'; there are parquet, coco, ",
        ),
        ("name: x\nsource: {paths: [a]}\nnodes: [{id: a, stage: s}]", "source: kind is missing; there are parquet, "),
        (HEAD + "name: y", "m.yaml:3: not valid YAML: key 'name' stands here twice"),
        ("name: [", "m.yaml:1: not valid YAML"),
        ("- a", "a manifest maps name, source and nodes to values"),
        ("", "a manifest maps name, source and nodes to values"),
        (
            HEAD + "nodes:\n- {id: a, stage: s, workers: [3, 1]}",
            "workers is a number from 1 to 100,000, or [least, most] of such",
        ),
        (HEAD + "seed: 1e30\nnodes: [{id: a, stage: s}]", "m.yaml:3: seed: "),
        (HEAD + "nodes: [{id: a, stage: s, batch_size: 99999999999999999999}]", "less than or equal to 65536"),
        ("a: &a [*a]", "m.yaml:"),
        ("name: &a [*a]", "m.yaml:"),
        ("? [a]\n: 1", "m.yaml:1: not valid YAML: a key is a plain word here"),
        ("seed: !!timestamp abc", "m.yaml:1: not valid YAML: 'abc' is no timestamp"),
        (HEAD + "nodes: [{id: a, stage: s}]\nsink: {buckets: [.inf]}", "sink.buckets.0: "),
        (HEAD + "nodes: [{id: source, stage: s}]", "id 'source' is taken"),
        (HEAD + "nodes: [{id: a, stage: s, num_gpus: 1.5}]", "neither a part of one GPU nor a number of whole ones"),
        (HEAD + "nodes: [{id: a, stage: s, resources: {x: -1}}]", "node 'a', resources.x: "),
        (HEAD + "nodes: [{id: a, stage: s, resources: {CPU: 1}}]", "resources names CPU: use num_cpus and num_gpus"),
        ("a: !!python/object/apply:os.system [true]", "not valid YAML"),
    ],
)
def test_a_mistake_is_told_with_file_line_place_and_remedy(text: str, says: str) -> None:
    with pytest.raises(ManifestError) as caught:
        parse_manifest(text, "m.yaml")
    assert says in str(caught.value)
    assert str(caught.value).startswith("m.yaml:")


def test_all_mistakes_are_told_at_once() -> None:
    with pytest.raises(ManifestError) as caught:
        parse_manifest("nmae: x\nnodes: [{id: a}]", "m.yaml")
    assert len(str(caught.value).splitlines()) == 4


@settings(deadline=None, max_examples=50)
@given(st.permutations(GOOD["nodes"]))
def test_the_order_of_nodes_in_the_file_does_not_matter(nodes: list[dict[str, object]]) -> None:
    manifest = Manifest.model_validate({**GOOD, "nodes": nodes})
    assert [node.id for node in manifest.sorted_nodes()] == ["a", "b", "c", "d"]


@st.composite
def dags(draw: st.DrawFn) -> list[dict[str, object]]:
    count = draw(st.integers(1, 8))
    ids = [f"n{i}" for i in range(count)]
    nodes = [
        {"id": name, "stage": "s", "needs": draw(st.lists(st.sampled_from(ids[:i]), unique=True)) if i else []}
        for i, name in enumerate(ids)
    ]
    return draw(st.permutations(nodes))


@settings(deadline=None, max_examples=100)
@given(dags())
def test_every_accepted_dag_is_sorted_so_that_needs_come_first(nodes: list[dict[str, object]]) -> None:
    manifest = Manifest.model_validate({**GOOD, "nodes": nodes})
    seen: set[str] = set()
    for node in manifest.sorted_nodes():
        assert set(node.needs) <= seen
        seen.add(node.id)
    assert len(seen) == len(nodes)


def _misspelled(plain: object) -> list[object]:
    """Every copy of a manifest with one key misspelled."""
    copies: list[object] = []
    if isinstance(plain, dict):
        for key, value in plain.items():
            if key == "params":
                continue
            copies.append({(k + "x" if k == key else k): v for k, v in plain.items()})
            copies += [{**plain, key: inner} for inner in _misspelled(value)]
    if isinstance(plain, list):
        for i, value in enumerate(plain):
            copies += [[*plain[:i], inner, *plain[i + 1 :]] for inner in _misspelled(value)]
    return copies


@pytest.mark.parametrize("plain", _misspelled(GOOD))
def test_a_misspelled_key_is_refused(plain: object) -> None:
    with pytest.raises(ManifestError):
        parse_manifest(yaml.safe_dump(plain), "m.yaml")


def test_merge_keys_share_settings() -> None:
    nodes = "nodes:\n- &first {id: a, stage: s, batch_size: 3}\n- {<<: *first, id: b}"
    assert [node.batch_size for node in parse_manifest(HEAD + nodes, "m.yaml").manifest.nodes] == [3, 3]


def test_an_unreadable_manifest_is_told(tmp_path: Path) -> None:
    from manifests.dag import read_manifest

    with pytest.raises(ManifestError, match="cannot read the manifest"):
        read_manifest(tmp_path / "none.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"name: \xff")
    with pytest.raises(ManifestError, match="cannot read the manifest"):
        read_manifest(tmp_path / "latin.yaml")
