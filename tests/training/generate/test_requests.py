import json
import re
from pathlib import Path

import pytest

from training.generate.requests import Request, checked, read_requests


def write(folder: Path, *lines: object) -> Path:
    path = folder / "prompts.jsonl"
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines))
    return path


def test_a_file_gives_a_request_a_line_with_images_beside_it(tmp_path: Path):
    path = write(
        tmp_path, {"prompt": "a {0} dog", "images": ["dog.png"], "seed": 4, "name": "rex"}, "", {"prompt": "é"}
    )

    assert read_requests(path, seed=7) == (
        Request(prompt="a {0} dog", images=(tmp_path / "dog.png",), seed=4, name="rex", where=f"{path}:1"),
        Request(prompt="é", seed=7, where=f"{path}:3"),
    )


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("a dog", "prompts.jsonl:2: no JSON"),
        ('["a dog"]', 'prompts.jsonl:2: expected an object with a "prompt"'),
        ({"prompt": 3}, 'expected an object with a "prompt"'),
        ({"prompt": "a", "image": "a.png"}, "no field 'image'; there are control, images, name, prompt, seed"),
        ({"prompt": "a", "images": "a.png"}, "images must be a list of files, got 'a.png'"),
        ({"prompt": "a", "images": [1]}, "images must be a list of files"),
        ({"prompt": "a", "seed": -1}, "seed must be a whole number from 0, got -1"),
        ({"prompt": "a", "seed": True}, "seed must be a whole number from 0, got True"),
        ({"prompt": "a", "name": 1}, "name must be a text, got 1"),
    ],
)
def test_a_line_that_is_no_request_is_named(tmp_path: Path, line, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        read_requests(write(tmp_path, {"prompt": "a dog"}, line), seed=0)


def test_a_file_without_a_line_or_of_no_text_says_so(tmp_path: Path):
    with pytest.raises(ValueError, match="there is no prompt in it"):
        read_requests(write(tmp_path, "", " "), seed=0)
    (tmp_path / "latin.jsonl").write_bytes(b'{"prompt": "\xe9"}')
    with pytest.raises(ValueError, match="no text in UTF-8"):
        read_requests(tmp_path / "latin.jsonl", seed=0)


def test_requests_are_checked_before_anything_is_loaded(tmp_path: Path):
    good = Request(prompt="a dog")
    assert checked((good,)) == (good,)
    with pytest.raises(ValueError, match=r"here:3: image 0: there is no file .*none\.png"):
        checked((good, Request(prompt="{0}", images=(tmp_path / "none.png",), where="here:3")))
    with pytest.raises(ValueError, match=r"^the prompt is empty"):
        checked((Request(prompt=""),))
