import base64
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import simplejpeg

from tests.training.stream.make import draw_record
from tests.training.stream.runs import write_run, write_unit
from training.stream.options import StreamOptions
from training.stream.recipe import STREAM_RECIPES, StreamRecipe
from training.stream.show import data_uri, outline, view_batch, write_sheet
from training.stream.stream import PromptStream
from training.stream.world import World


def open_stream(folder: Path, recipe: StreamRecipe, batch_size: int = 4) -> PromptStream:
    options = StreamOptions(cache=folder / "cache", max_damaged=1.0)
    return PromptStream(str(folder / "a"), recipe=recipe, batch_size=batch_size, world=World(), options=options)


def decoded(uri: str):
    return simplejpeg.decode_jpeg(base64.b64decode(uri.removeprefix("data:image/jpeg;base64,")))


def test_the_page_has_every_sample_and_asks_the_network_for_nothing(tmp_path: Path) -> None:
    write_run(tmp_path / "a", units=1, rows=20)
    recipe = replace(STREAM_RECIPES["unimo_g"](64), controls=("canny",))

    with open_stream(tmp_path, recipe) as stream:
        page = write_sheet(stream, 3, tmp_path / "new" / "sheet.html").read_text()

    assert page.count("<article>") == 12
    assert set(re.findall(r'src="([a-z]+:)', page)) == {"data:"}
    assert not re.search(r"https?://|<script", page)
    assert page.count('alt="canny"') == 12


def test_a_view_shows_pictures_at_the_size_the_trainer_gets(tmp_path: Path) -> None:
    write_run(tmp_path / "a", units=1, rows=20)

    with open_stream(tmp_path, STREAM_RECIPES["unimo_g"](64)) as stream:
        batch = next(batch for batch in stream if len(batch.references))
    view = view_batch(batch)

    assert decoded(view.samples[0].target).shape == batch.images.shape[1:]
    shown = [reference for sample in view.samples for reference in sample.references if reference.picture]
    assert [decoded(reference.picture).shape for reference in shown] == list(batch.references.shapes)


def test_pieces_say_the_prompt_with_each_reference_in_its_place(tmp_path: Path) -> None:
    write_run(tmp_path / "a", units=1, rows=20)

    with open_stream(tmp_path, STREAM_RECIPES["mumu"](64)) as stream:
        batch = next(batch for batch in stream if len(batch.references))

    for prompt, sample in zip(batch.prompts, view_batch(batch).samples, strict=True):
        said = [p.text if p.reference is None else f"<{sample.references[p.reference].name}>" for p in sample.pieces]
        assert "".join(said).replace(" ", "") == prompt.interleaved.render().replace(" ", "")  # it sets markers apart


def test_markup_in_a_caption_stays_text(tmp_path: Path) -> None:
    evil = "<script>alert(1)</script>"
    write_unit(tmp_path / "a", 0, [replace(draw_record("x", subjects=0), caption=evil, alt_text=evil)])

    with open_stream(tmp_path, STREAM_RECIPES["plain"](64), batch_size=1) as stream:
        page = write_sheet(stream, 1, tmp_path / "sheet.html").read_text()

    assert "<script" not in page
    assert "&lt;script&gt;alert(1)" in page


def test_damaged_samples_are_told_of(tmp_path: Path) -> None:
    write_run(tmp_path / "a", units=2, rows=20)
    with open_stream(tmp_path, STREAM_RECIPES["plain"](64)) as stream:
        next(stream)
    tar = tmp_path / "a" / "shards" / "000001.tar"
    with tar.open("r+b") as file:
        file.truncate(tar.stat().st_size // 2)

    with open_stream(tmp_path, STREAM_RECIPES["plain"](64)) as stream:
        page = write_sheet(stream, 9, tmp_path / "sheet.html").read_text()

    assert re.search(r"Damaged samples were replaced:\s+\d+ truncated", page)


def test_an_outline_follows_its_mask_and_leaves_the_batch_alone() -> None:
    image = np.zeros((64, 64, 3), np.uint8)
    mask = np.zeros((64, 64), bool)
    mask[20:40, 20:40] = True

    drawn = outline(image, {0: mask})

    assert not image.any()
    assert drawn[20, 30].any()
    assert not drawn[30, 30].any() and not drawn[5, 5].any()


def test_a_grey_picture_is_shown_too() -> None:
    assert decoded(data_uri(np.full((8, 6), 200, np.uint8))).shape == (8, 6, 3)
