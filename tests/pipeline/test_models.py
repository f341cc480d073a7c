"""Models brought from a hub on 127.0.0.1 by the command line, in processes of their own, as the hub's client needs."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from manifests.dag import ManifestError, parse_manifest, read_manifest
from pipeline.hub import choose
from pipeline.local import run_local
from pipeline.models import describe
from pipeline.progress import LineProgress
from pipeline.run import execute, prepare
from stages.pixels import write_png
from tests.pipeline.fake_hub import COMMIT, FakeHub
from tests.stages.models.tiny_sam import sam

MANIFEST = """
name: m
source: {{kind: folder, path: nowhere}}
nodes:
- {{id: decode, stage: decode}}
- {{id: caption, stage: caption, needs: [decode]}}
- {{id: phrases, stage: phrases, needs: [caption]}}
- {{id: ground, stage: ground, needs: [phrases], params: {{require: false}}}}
- {{id: cut, stage: segment, needs: [ground], params: {{backend: sam, model: {model}, revision: {revision}}}}}
"""


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """A tiny SAM's files, and some that nobody needs."""
    folder = tmp_path_factory.mktemp("sam")
    sam().save_pretrained(folder)
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    return files | {"pytorch_model.bin": b"pickle", "README.md": b"# SAM", "onnx/model.onnx": b"onnx"}


@pytest.fixture
def hub(weights: dict[str, bytes]) -> Iterator[FakeHub]:
    with FakeHub({"tiny/sam": dict(weights)}).running() as hub:
        yield hub


def manifest(folder: Path, model: str = "tiny/sam", revision: str = "v1") -> Path:
    path = folder / "m.yaml"
    path.write_text(MANIFEST.format(model=model, revision=revision))
    return path


def call(hub: FakeHub, *arguments: object, **env: object) -> subprocess.CompletedProcess[str]:
    """A command in a process that knows no other hub and no other cache."""
    inherited = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    mine = {"HF_ENDPOINT": hub.url, "HF_HUB_DISABLE_XET": 1, "HF_HUB_CACHE": "/nonexistent/cache"} | env
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        env=inherited | {name: str(value) for name, value in mine.items()},
    )


def prefetch(hub: FakeHub, path: Path, into: Path, **env: object) -> subprocess.CompletedProcess[str]:
    return call(hub, "-m", "pipeline", "models", "prefetch", path, "--into", into, **env)


LOAD = """
import sys
from stages.base import Context, ModelRef
from stages.models.weights import model_use
from stages.segment import Segment, SegmentParams
params = SegmentParams(backend="sam", model="tiny/sam", revision=sys.argv[1])
print(Segment.models(params)[0].revision)
Segment.load(params, Context())
print("loaded")
"""


def test_a_model_is_downloaded_once_and_then_loads_without_network(hub: FakeHub, tmp_path: Path) -> None:
    path, cache = manifest(tmp_path), tmp_path / "models"
    listed = call(hub, "-m", "pipeline", "models", "list", path, HF_HUB_CACHE=cache)
    assert listed.returncode == 1 and f"cut: tiny/sam at v1: not in {cache}" in listed.stdout
    hub.cut_once.add("model.safetensors")
    done = prefetch(hub, path, cache)
    assert done.returncode == 0 and "%" not in done.stderr, done.stderr
    assert f"pin revision: {COMMIT}" in done.stdout and f"HF_HUB_CACHE={cache} HF_HUB_OFFLINE=1" in done.stdout
    assert sorted(hub.served) == ["config.json", "model.safetensors", "model.safetensors"], "the second is the rest"
    (record,) = json.loads((cache / "inlay-models.json").read_text())["models"]
    assert (record["model"], record["revision"], record["commit"]) == ("tiny/sam", "v1", COMMIT)
    assert {file["path"] for file in record["files"]} == set(hub.served)
    for file in record["files"]:
        data = hub.models["tiny/sam"][file["path"]]
        assert (file["size"], file["sha256"]) == (len(data), hashlib.sha256(data).hexdigest())

    asked = hub.asked
    again = prefetch(hub, path, cache, HF_HUB_OFFLINE=1)
    assert again.returncode == 0 and "as they should be" in again.stdout
    offline = {"HF_HUB_CACHE": cache, "HF_HUB_OFFLINE": 1}
    loaded = call(hub, "-c", LOAD, "v1", **offline)
    assert loaded.stdout.split() == [COMMIT, "loaded"], loaded.stderr
    listed = call(hub, "-m", "pipeline", "models", "list", path, **offline)
    assert listed.returncode == 0 and f"cut: tiny/sam at v1: in {cache}, commit {COMMIT}" in listed.stdout
    assert hub.asked == asked


def test_a_file_that_changed_or_is_missing_is_told_and_fetched_again(hub: FakeHub, tmp_path: Path) -> None:
    path, cache = manifest(tmp_path, revision=COMMIT), tmp_path / "models"
    first = prefetch(hub, path, cache)
    assert first.returncode == 0 and "pin revision" not in first.stdout
    whole = {file.name: file.read_bytes() for file in cache.glob("models--*/snapshots/*/*")}
    (weights,) = cache.glob("models--*/snapshots/*/model.safetensors")
    (config,) = cache.glob("models--*/snapshots/*/config.json")
    damaged = bytearray(weights.read_bytes())
    damaged[-1] ^= 1
    weights.write_bytes(damaged)
    config.resolve().write_bytes(b"{}")
    hub.served.clear()
    second = prefetch(hub, path, cache)
    assert second.returncode == 0, second.stderr
    assert "model.safetensors has other bytes than the hub's; downloading it anew" in second.stdout
    assert f"config.json has 2 bytes, not {len(whole['config.json']):,}" in second.stdout
    assert sorted(hub.served) == ["config.json", "model.safetensors"]
    assert {file.name: file.read_bytes() for file in cache.glob("models--*/snapshots/*/*")} == whole


def test_a_model_that_cannot_be_had_is_one_line_and_exit_code_2(hub: FakeHub, tmp_path: Path) -> None:
    path, cache = manifest(tmp_path, "no/model", "v1"), tmp_path / "models"
    path.write_text(
        path.read_text()
        + path.read_text()
        .splitlines()[-1]
        .replace("cut", "cut_more")
        .replace("no/model, revision: v1", "tiny/sam, revision: v9")
    )
    failed = prefetch(hub, path, cache)
    assert failed.returncode == 2
    first, second = failed.stderr.strip().splitlines()
    assert first.startswith(f"error: {path}:9: node 'cut', params: no model 'no/model' at revision 'v1'")
    assert second.startswith(f"{path}:10: node 'cut_more', params: no model 'tiny/sam' at revision 'v9'")
    assert "has no such model" in first and "no such revision" in second
    for line in (first, second):
        assert str(cache) in line and hub.url in line and f"python -m pipeline models prefetch {path}" in line
    nobody = FakeHub({}, url="http://127.0.0.1:9")
    failed = prefetch(nobody, manifest(tmp_path), cache)
    (line,) = failed.stderr.strip().splitlines()
    assert failed.returncode == 2 and "http://127.0.0.1:9 cannot be reached" in line
    assert f"then `python -m pipeline models prefetch {path} --into {tmp_path / 'models'}` goes on" in line
    assert not (cache / "inlay-models.json").exists()


def test_a_model_whose_weights_are_pickles_alone_is_refused_before_they_are_downloaded(
    hub: FakeHub, tmp_path: Path
) -> None:
    del hub.models["tiny/sam"]["model.safetensors"], hub.models["tiny/sam"]["onnx/model.onnx"]
    failed = prefetch(hub, manifest(tmp_path), tmp_path / "models")
    (line,) = failed.stderr.strip().splitlines()
    assert failed.returncode == 2 and hub.served == []
    assert "at 'v1' are pickles alone (pytorch_model.bin)" in line and "name a revision that has safetensors" in line


def test_a_run_needs_a_commit_or_a_cache_that_knows_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    (pictures / "a.png").write_bytes(write_png(np.zeros((8, 8, 3), np.uint8)).data)
    (pictures / "a.txt").write_text("a")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    text = MANIFEST.format(model="tiny/sam", revision="v1").replace("nowhere", str(pictures))
    prepared = prepare(parse_manifest(text, "m.yaml"))
    with pytest.raises(ManifestError, match=r"node 'cut': revision 'v1' of 'tiny/sam' .* models prefetch m.yaml"):
        execute(prepared, tmp_path / "out", run_local, LineProgress())
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("path", sorted(Path("manifests").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_manifest_that_comes_with_inlay_tells_its_models(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", "/nonexistent/cache")
    told = [line for line, _ in describe(read_manifest(path))]
    files = [line for line in told if ": weights/" in line]
    assert len(files) == path.read_text().count(": weights/")
    assert all("there is no file /" in line for line in files)


PART = """
import sys
from pathlib import Path
from pipeline.hub import download, look_up
from stages.base import ModelRef
from stages.models.weights import cached_commit
ref = ModelRef(name="tiny/sam", revision="v1", files=("model.*",))
print(cached_commit(ref))
download(look_up(ref.name, ref.revision, ref.files), ref.revision, Path(sys.argv[1]))
print(cached_commit(ref))
"""


def test_a_part_of_a_model_is_known_by_its_commit_though_the_rest_is_not_here(hub: FakeHub, tmp_path: Path) -> None:
    done = call(hub, "-c", PART, tmp_path, HF_HUB_CACHE=tmp_path)
    assert done.stdout.split() == ["None", COMMIT], done.stderr
    assert hub.served == ["model.safetensors"]


def test_weights_are_taken_in_one_format_and_never_pickles_beside_safetensors() -> None:
    common = ["config.json", "tokenizer.json", "README.md", "modeling.py"]
    both = [*common, "model.safetensors", "model.fp16.safetensors", "pytorch_model.bin", "onnx/model.onnx"]
    assert choose(both) == ["config.json", "tokenizer.json", "model.safetensors"]
    assert choose([*common, "pytorch_model.bin"]) == ["config.json", "tokenizer.json", "pytorch_model.bin"]
    parts = ["model_index.json", "sd.safetensors", "unet/config.json", "unet/w.fp16.safetensors", "unet/w.safetensors"]
    assert choose(parts) == ["model_index.json", "unet/config.json", "unet/w.safetensors"]


def test_patterns_narrow_the_choice_and_are_taken_at_their_word() -> None:
    paths = ["model_index.json", "vae/config.json", "vae/w.bin", "vae/w.safetensors", "vae/a.yaml", "unet/config.json"]
    assert choose(paths, ["vae/*"]) == ["vae/config.json", "vae/w.safetensors", "vae/a.yaml"]
    assert choose(paths, ["vae/w.bin"]) == ["vae/w.bin"]
    assert choose(["w.fp16.safetensors", "config.json"], ["*.fp16.safetensors"]) == ["w.fp16.safetensors"]
    assert choose(["README.md"]) == []
