import hashlib
import io
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stages.pixels import write_jpeg
from tests.training.stream.make import draw_record, draws, example_of, smooth
from training.generate.pictures import read_picture
from training.stream.buckets import Buckets
from training.stream.prepare import prepare
from training.stream.prompts.unimo_g import UnimoG
from training.stream.recipe import StreamRecipe

LOOK = UnimoG(side=48, fill=(10, 20, 30), replace_rate=1, text_only_rate=0, drop_rate=0)
ORIENTATION = 0x0112


@pytest.mark.parametrize(("width", "height"), [(300, 200), (31, 77), (48, 48), (700, 90)])
@pytest.mark.parametrize("side", [48, None])
def test_generation_shows_a_picture_to_the_last_bit_as_training_does(tmp_path: Path, width, height, side):
    crop = write_jpeg(smooth(np.random.default_rng(width), width, height))
    record = draw_record(subjects=1)
    record = replace(record, subjects=(replace(record.subjects[0], crop=crop),))
    look = replace(LOOK, side=side)
    recipe = StreamRecipe(builder=look, buckets=Buckets(ratios=(1.0,), base=64))
    (tmp_path / "crop.jpg").write_bytes(crop.data)

    (trained,) = prepare(example_of(record), recipe, (64, 64), draws()).references
    generated = read_picture(tmp_path / "crop.jpg", look)

    assert np.array_equal(generated.pixels, trained)
    assert generated.sha256 == hashlib.sha256(crop.data).hexdigest()


@pytest.mark.parametrize("suffix", ["png", "webp", "avif", "gif", "tiff", "bmp"])
def test_any_format_of_the_web_is_read(tmp_path: Path, suffix):
    path = tmp_path / f"a.{suffix}"
    Image.new("RGB", (60, 30), (200, 40, 90)).save(path)

    pixels = read_picture(path, LOOK).pixels

    assert pixels.shape == (48, 48, 3)
    assert np.abs(pixels[12:36].astype(int) - (200, 40, 90)).max() < 8
    assert (pixels[:12] == LOOK.fill).all() and (pixels[36:] == LOOK.fill).all()


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp"])
def test_a_picture_that_lies_on_its_side_is_put_upright(tmp_path: Path, suffix):
    upright = smooth(np.random.default_rng(0), 40, 90)
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    options = {"lossless": True} if suffix == "webp" else {"quality": 100, "subsampling": 0} if suffix == "jpg" else {}
    Image.fromarray(np.rot90(upright)).save(tmp_path / f"a.{suffix}", exif=exif, **options)

    pixels = read_picture(tmp_path / f"a.{suffix}", replace(LOOK, side=None)).pixels

    assert pixels.shape == upright.shape
    assert np.abs(pixels.astype(int) - upright).max() < 8


def cut_out(path: Path, alpha: np.ndarray, orientation: int = 1) -> None:
    rgba = np.dstack([np.broadcast_to(np.uint8([200, 40, 90]), (*alpha.shape, 3)), alpha])
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    Image.fromarray(rgba).save(path, exif=exif)


def test_alpha_is_the_mask_and_its_box_is_what_is_shown(tmp_path: Path):
    alpha = np.zeros((100, 200), np.uint8)
    alpha[20:44, 30:78] = 255
    alpha[30, 40] = 0
    alpha[31, 41] = 128
    cut_out(tmp_path / "a.png", alpha)

    pixels = read_picture(tmp_path / "a.png", LOOK).pixels

    assert (pixels[:12] == LOOK.fill).all() and (pixels[36:] == LOOK.fill).all()
    assert (pixels[12:36][0, 0] == (200, 40, 90)).all()
    assert (pixels[12 + 10, 10] == LOOK.fill).all()
    assert np.abs(pixels[12 + 11, 11] - np.array([105, 30, 60])).max() <= 1


def test_the_mask_is_turned_upright_with_its_picture(tmp_path: Path):
    alpha = np.zeros((20, 40), np.uint8)
    alpha[2:6, 10:30] = 255
    cut_out(tmp_path / "a.png", alpha, orientation=6)

    assert read_picture(tmp_path / "a.png", replace(LOOK, side=None)).pixels.shape == (20, 4, 3)


def test_transparency_of_a_palette_counts_too(tmp_path: Path):
    image = Image.new("P", (40, 40), 0)
    image.putpalette([0, 0, 0, 250, 0, 0])
    image.paste(1, (10, 10, 20, 30))
    image.save(tmp_path / "a.gif", transparency=0)

    pixels = read_picture(tmp_path / "a.gif", replace(LOOK, side=None)).pixels

    assert pixels.shape == (20, 10, 3) and (pixels == (250, 0, 0)).all()


def test_an_opaque_alpha_changes_nothing(tmp_path: Path):
    pixels = smooth(np.random.default_rng(3), 77, 50)
    Image.fromarray(pixels).save(tmp_path / "rgb.png")
    Image.fromarray(pixels).convert("RGBA").save(tmp_path / "rgba.png")

    plain, opaque = (read_picture(tmp_path / f"{name}.png", LOOK).pixels for name in ("rgb", "rgba"))

    assert np.array_equal(plain, opaque)


def png(width: int, height: int, mode: str = "1") -> bytes:
    sink = io.BytesIO()
    Image.new(mode, (width, height)).save(sink, "PNG")
    return sink.getvalue()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"no picture at all", "it is of no format of pictures that is read here; it must be a whole JPEG, PNG, WebP"),
        (b"", "it is empty; it must be a whole JPEG, PNG, WebP"),
        (png(64, 64, "RGB")[:-40], "it must be a whole JPEG, PNG, WebP"),
        (png(9000, 8000), "9000 x 8000 pixels, the limit is 64000000; shrink it first"),
        (png(20, 20, "RGBA"), "it is transparent everywhere"),
    ],
    ids=["text", "empty", "cut short", "huge", "transparent"],
)
def test_what_is_no_reference_image_is_refused_by_its_name(tmp_path: Path, data, message):
    (tmp_path / "reference.png").write_bytes(data)

    with pytest.raises(ValueError, match=rf"reference\.png: .*{re.escape(message)}"):
        read_picture(tmp_path / "reference.png", LOOK)


def test_a_file_that_is_not_there_is_an_error_of_the_system(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match=r"none\.png"):
        read_picture(tmp_path / "none.png", LOOK)
