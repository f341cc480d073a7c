import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from tests.training.painter import Painter, PainterConfig, fit_painter
from training.__main__ import app
from training.config import Group
from training.recipes import TYPES


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(TYPES, "PainterConfig", PainterConfig)
        yield fit_painter(tmp_path_factory.mktemp("painter"))


@pytest.fixture
def dog(tmp_path: Path) -> Path:
    Image.new("RGB", (30, 30), (200, 100, 50)).save(tmp_path / "dog.png")
    return tmp_path / "dog.png"


@pytest.fixture
def sampled(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """The numbers of the pictures of every call that drew some."""
    calls: list[tuple[int, ...]] = []
    sample = Painter.sample

    def noted(self, conditions, config, first=0):
        calls.append(tuple(range(first, first + len(conditions))))
        return sample(self, conditions, config, first)

    monkeypatch.setattr(Painter, "sample", noted)
    return calls


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["generate", *map(str, arguments)])


def drawn(result: Result) -> list[Path]:
    assert result.exit_code == 0, result.stderr
    return [Path(line) for line in result.stdout.splitlines()]


def pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path))


def test_a_picture_lies_beside_all_that_it_was_drawn_from(run: Path, dog: Path, tmp_path: Path):
    (path,) = drawn(call("--run", run, "--prompt", "a {0:dog}, red", "--image", dog, "--seed", 3, "--out", tmp_path))

    facts = json.loads(path.with_suffix(".json").read_text())
    assert path.name.startswith("a-0-dog-red-") and pixels(path).shape == (12, 8, 3)
    assert (pixels(path)[0] == (200, 100, 50)).all()
    assert facts["prompt"] == "a {0:dog}, red" and (facts["seed"], facts["number"], facts["step"]) == (3, 0, 2)
    assert facts["images"][0]["file"] == str(dog) and len(facts["images"][0]["sha256"]) == 64
    assert (facts["recipe"], facts["run"], facts["is_averaged"]) == ("painter", str(run), True)
    assert facts["size"] == [8, 12] and facts["steps"] is None


def test_an_image_may_have_a_name_that_is_no_text(run: Path, dog: Path, tmp_path: Path):
    image = dog.rename(tmp_path / os.fsdecode(b"d\xf6g.png"))
    (path,) = drawn(call("--run", run, "--prompt", "a {0:dog}", "--image", image, "--out", tmp_path / "out"))
    assert json.loads(path.with_suffix(".json").read_text("utf-8"))["images"][0]["file"] == str(image)


def test_a_size_of_one_number_is_a_squares_as_the_help_says(run: Path, tmp_path: Path):
    (path,) = drawn(call("--run", run, "--prompt", "a dog", "--size", "16", "--out", tmp_path))

    assert pixels(path).shape == (16, 16, 3)
    assert "512 of a square" in " ".join(call("--help").stdout.replace("│", " ").split())


def test_what_is_there_stays_and_the_rest_is_drawn(run: Path, tmp_path: Path, sampled):
    options = ("--run", run, "--prompt", "a dog", "--out", tmp_path, "--batch", 2)
    few = drawn(call(*options, "--num", 2))
    before = [path.stat().st_mtime_ns for path in few]

    many = drawn(call(*options, "--num", 5))

    assert many[:2] == few and [path.stat().st_mtime_ns for path in few] == before
    assert sampled == [(0, 1), (2, 3), (4,)]
    assert len({path.read_bytes() for path in many}) == 5


def test_a_run_made_anew_in_the_same_folder_draws_anew(run: Path, tmp_path: Path, sampled):
    """Its name, its folder and its step are what they were."""
    options = ("--run", tmp_path / "run", "--prompt", "a dog", "--out", tmp_path / "out")
    fit_painter(tmp_path)
    (before,) = drawn(call(*options))
    for folder in ("run", "data"):
        shutil.rmtree(tmp_path / folder)
    fit_painter(tmp_path, groups=(Group(names="*", mode="full", lr=0.2),))
    (after,) = drawn(call(*options))
    assert before != after and len(sampled) == 2


def test_a_picture_does_not_depend_on_those_drawn_with_it(run: Path, tmp_path: Path):
    options = ("--run", run, "--prompt", "a dog", "--num", 3)
    one = drawn(call(*options, "--batch", 1, "--out", tmp_path / "one"))
    all_ = drawn(call(*options, "--batch", 3, "--out", tmp_path / "all"))

    assert [path.read_bytes() for path in one] == [path.read_bytes() for path in all_]
    assert [path.name for path in one] == [path.name for path in all_]


@pytest.mark.parametrize(
    "change",
    [
        ("--seed", 1),
        ("--steps", 5),
        ("--guidance", 2),
        ("--image-guidance", 2),
        ("--size", "16"),
        ("--step", 1),
        ("--no-ema",),
    ],
    ids=lambda change: change[0],
)
def test_whatever_decides_a_picture_gives_it_another_file(run: Path, tmp_path: Path, change):
    options = ("--run", run, "--prompt", "a dog", "--out", tmp_path)

    assert drawn(call(*options)) != drawn(call(*options, *change))
    assert len(list(tmp_path.glob("*.png"))) == len(list(tmp_path.glob("*.json"))) == 2
    assert not list(tmp_path.glob(".*"))


def test_a_file_of_prompts_is_drawn_in_its_order_and_gone_on_with(run: Path, dog: Path, tmp_path: Path, sampled):
    file = tmp_path / "prompts.jsonl"
    lines = [
        {"prompt": "two {0:dogs}", "images": [dog.name], "name": "Two dogs!"},
        {"prompt": "a {0:dog} and {1}", "images": [dog.name, dog.name]},
        {"prompt": "狗", "seed": 9},
    ]
    file.write_text("\n".join(map(json.dumps, lines)))

    paths = drawn(call("--run", run, "--prompts", file, "--num", 2, "--out", tmp_path / "out"))
    paths[3].unlink()
    again = drawn(call("--run", run, "--prompts", file, "--num", 2, "--out", tmp_path / "out"))

    assert again == paths and sampled == [(0, 1)] * 4
    assert [re.split("-[0-9a-f]{10}", path.stem)[0] for path in paths[::2]] == ["two-dogs", "a-0-dog-and-1", "picture"]
    assert json.loads(paths[4].with_suffix(".json").read_text())["seed"] == 9


def test_pictures_go_beside_the_run_if_nothing_else_is_said(run: Path):
    (path,) = drawn(call("--run", run, "--prompt", "a dog"))

    assert path.parent == run / "pictures"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--prompt", "a {0} dog"), "the slot {0}, but no image is given"),
        (("--prompt", "a dog", "--image", "DOG"), "does not use image 0"),
        (("--prompt", " "), "the prompt is empty"),
        (("--prompt", "{0}", "--image", "none.png"), "there is no file none.png"),
        ((), "say what to draw"),
        (("--prompts", "DOG", "--prompt", "a"), "say what to draw"),
        (("--prompts", "DOG", "--image", "DOG"), "--image and --control go with --prompt"),
        (("--prompt", "a dog", "--size", "0x8"), "such as 512x768, or 512 of a square, got '0x8'"),
        (("--prompt", "a dog", "--steps", "1001"), "steps must be 1 to 1000, got 1001"),
        (("--prompt", "a dog", "--step", "7"), "no checkpoint at step 7; there are 1, 2"),
        (("--prompt", "a dog" * 20), "the prompt is longer than 60 characters: shorten it"),
        (("--prompt", "a dog", "--run", "none"), "none is no run of training"),
        (("--prompt", "a dog", "--run", "DOG"), "is no run of training"),
        (("--prompt", "a dog", "--size", "9000000x9000000"), "cpu has too little memory for one picture of this size"),
        (("--prompt", "a dog", "--num", "2", "--size", "9000000x9000000"), "for 2 pictures at once: take --batch 1"),
        (("--prompt", "a dog", "--along", "slerp"), "--along goes with --walk N"),
        (("--prompts", "DOG", "--walk", "3", "--num", "2"), "--walk draws one sheet: --num goes without it"),
        (("--prompt", "a dog", "--device", "gpu"), "there is no device 'gpu' that PyTorch can use here; there is cpu"),
    ],
)
def test_what_can_not_be_drawn_is_one_line_and_exit_code_2(run: Path, dog: Path, tmp_path: Path, arguments, message):
    given = [str(dog) if argument == "DOG" else argument for argument in arguments]

    result = call("--run", run, "--out", tmp_path / "out", *given)

    assert result.exit_code == 2 and message in result.stderr
    assert result.stderr.strip().count("\n") == 0
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "change",
    [("--guidance", "0.5"), ("--guidance", "nan"), ("--image-guidance", "-1"), ("--steps", "0"), ("--num", "0")],
)
def test_numbers_out_of_range_are_refused_by_their_option(run: Path, change):
    result = call("--run", run, "--prompt", "a dog", *change)

    assert result.exit_code == 2 and change[0] in result.stderr


def test_a_word_that_an_image_would_wrongly_overwrite_is_told(run: Path, dog: Path, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(Painter, "insertion", "feature")

    result = call("--run", run, "--prompt", "a {0} on the left", "--image", dog, "--out", tmp_path / "out")

    assert len(drawn(result)) == 1
    assert result.stderr.startswith("warning: the image of {0} goes with the word 'on' behind it")
    assert "name what it does, as in {0:dog}" in result.stderr


def test_a_mistake_in_the_last_line_shows_before_the_first_is_drawn(run: Path, dog: Path, tmp_path: Path, sampled):
    dog.write_bytes(b"no picture")
    file = tmp_path / "prompts.jsonl"
    file.write_text('{"prompt": "a cat"}\n{"prompt": "a {0:dog}", "images": ["dog.png"]}')

    result = call("--run", run, "--prompts", file, "--out", tmp_path / "out")

    assert result.exit_code == 2 and "prompts.jsonl:2: " in result.stderr and "dog.png" in result.stderr
    assert sampled == []


def test_a_run_that_has_no_checkpoint_yet_says_so(run: Path, tmp_path: Path):
    (tmp_path / "recipe.json").write_bytes((run / "recipe.json").read_bytes())

    result = call("--run", tmp_path, "--prompt", "a dog")

    assert result.exit_code == 2 and "no whole checkpoint" in result.stderr


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "recipe.json is damaged"),
        ("[]", "recipe.json holds no recipe of a run"),
        ('{"version": 1}', "recipe.json holds no recipe of a run"),
        ('{"version": 9, "recipe": {}}', "version 9 of a newer Inlay, 1 is known here; use that"),
    ],
)
def test_a_recipe_that_can_not_be_read_is_named(run: Path, tmp_path: Path, text: str, message: str):
    (tmp_path / "recipe.json").write_text(text)

    result = call("--run", tmp_path, "--prompt", "a dog")

    assert result.exit_code == 2 and message in result.stderr and result.stderr.count("\n") == 1


def test_a_file_is_no_folder_for_pictures(run: Path, dog: Path):
    result = call("--run", run, "--prompt", "a dog", "--out", dog)

    assert result.exit_code == 2 and f"{dog} is a file: --out takes a folder" in result.stderr


def test_the_help_shows_how():
    assert 'generate --run RUN --prompt "a {0:dog} on the beach" --image dog.jpg' in call("--help").stdout
