import re
from pathlib import Path

import pytest

from stages.base import ModelRef
from stages.models.weights import cached_commit, is_on_hub, is_pinned, locate, model_use

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def test_a_folder_is_known_by_its_bytes(tmp_path: Path) -> None:
    revisions = set()
    for name, content in [("a", b"1"), ("a", b"2"), ("b", b"2")]:
        folder = tmp_path / str(len(revisions))
        (folder / "sub").mkdir(parents=True)
        (folder / "sub" / name).write_bytes(content)
        (folder / ".lock").write_bytes(bytes([len(revisions)]))
        use = model_use(ModelRef(name=str(folder)))
        assert use.name == str(folder)
        revisions.add(use.revision)
    assert len(revisions) == 3
    copy = tmp_path / "copy"
    (copy / "sub").mkdir(parents=True)
    (copy / "sub" / "b").write_bytes(b"2")
    assert model_use(ModelRef(name=str(copy))).revision in revisions


def test_a_file_is_known_by_its_bytes(tmp_path: Path) -> None:
    file = tmp_path / "sam.pth"
    file.write_bytes(b"weights")
    assert model_use(ModelRef(name=str(file))).revision.startswith("sha256:")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A hub's cache that has ``a/b`` at one commit, which it knows as ``v1`` too."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    for file, text in [("refs/v1", COMMIT), (f"snapshots/{COMMIT}/config.json", "{}")]:
        path = tmp_path / "models--a--b" / file
        path.parent.mkdir(parents=True)
        path.write_text(text)
    return tmp_path


def test_a_hub_id_is_known_by_its_commit_where_the_cache_knows_it(cache: Path) -> None:
    for revision, known in [("v1", COMMIT), (COMMIT, COMMIT), ("v2", "v2"), ("f" * 40, "f" * 40)]:
        ref = ModelRef(name="a/b", revision=revision)
        assert model_use(ref).revision == known
        assert is_pinned(ref) == (len(known) == 40)
    assert cached_commit(ModelRef(name="a/b", revision="v2")) is None
    assert is_pinned(ModelRef(name="en_caption")) and is_pinned(ModelRef(name=str(cache)))


def test_a_hub_model_that_is_not_cached_is_refused_offline(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert model_use(ModelRef(name="a/b", revision="v1")).revision == COMMIT
    with pytest.raises(ValueError, match="HF_HUB_OFFLINE is set; download it once with `python -m pipeline") as caught:
        model_use(ModelRef(name="a/b", revision="c"))
    assert str(cache) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("model", ["facebook/sam-vit-base", "no_folder", "./no/folder", "/no/folder"])
def test_a_model_that_is_not_there_or_not_pinned_is_refused_in_a_line(model: str) -> None:
    with pytest.raises(ValueError, match="there is no /") as caught:
        model_use(ModelRef(name=model))
    assert model in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("model", ["weights/sac+logos+ava1.pth", "weights/table5_pidinet.pth"])
def test_a_checkpoint_file_is_not_asked_of_the_hub(model: str) -> None:
    ref = ModelRef(name=model, revision="main")
    assert not is_on_hub(ref)
    with pytest.raises(ValueError, match=f"there is no file {re.escape(str(Path(model).absolute()))}; put it there"):
        locate(ref)


def test_a_bundled_model_is_known_by_its_name() -> None:
    assert (Path(locate(ModelRef(name="en_caption"))) / "meta.json").is_file()
    assert model_use(ModelRef(name="en_caption")).name == "en_caption"
