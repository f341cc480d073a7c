import json
from pathlib import Path

import numpy as np
from PIL import Image

from pipeline.demo.questions import write_questions
from training.generate.requests import checked, read_requests


def test_questions_are_prompts_that_the_trainer_reads(tmp_path: Path) -> None:
    questions = write_questions(tmp_path, 5)

    requests = checked(read_requests(questions.file, seed=0))
    assert len(requests) == len(questions.asked) == 5
    for request, question in zip(requests, questions.asked, strict=True):
        pictures = [piece for piece in question.pieces if isinstance(piece, Path)]
        assert list(request.images) == pictures and question.scene.is_file()
        words = "".join(part if isinstance(part, str) else part.words for part in request.template())
        assert words == "".join(piece for piece in question.pieces if isinstance(piece, str))


def test_a_subject_is_cut_out_of_its_scene(tmp_path: Path) -> None:
    (question,) = write_questions(tmp_path, 1).asked
    subject = next(piece for piece in question.pieces if isinstance(piece, Path))

    rgba = np.asarray(Image.open(subject))
    inside = rgba[rgba[:, :, 3] > 0][:, :3]
    scene = {tuple(pixel) for row in np.asarray(Image.open(question.scene)).tolist() for pixel in row}
    assert 0 < len(inside) < rgba.shape[0] * rgba.shape[1] and {tuple(pixel) for pixel in inside.tolist()} <= scene


def test_questions_are_always_the_same(tmp_path: Path) -> None:
    one, two = write_questions(tmp_path / "one", 2), write_questions(tmp_path / "two", 2)

    assert one.file.read_text() == two.file.read_text()
    assert [q.scene.read_bytes() for q in one.asked] == [q.scene.read_bytes() for q in two.asked]
    assert all("\n" not in json.dumps(line) for line in one.file.read_text().splitlines())
