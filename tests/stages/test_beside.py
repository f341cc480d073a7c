from collections.abc import Sequence
from typing import get_args

from hypothesis import given
from hypothesis import strategies as st

from manifests.record import Face, Picture, Region
from stages.base import Context, Drop, Fail
from stages.beside import Beside, BesideIn, BesideOut, BesideParams, Kind
from tests.strategies import captions, faces, regions

PICTURE = Picture(format="jpg", width=40, height=30, data=b"")
kinds = st.lists(st.sampled_from(get_args(Kind)), min_size=1, max_size=3, unique=True).map(tuple)


def run(record: BesideIn, images: Sequence[Kind], most: int = 4) -> BesideOut | Drop | Fail:
    params = BesideParams(images=tuple(images), max_images=most)
    return Beside.load(params, Context()).process([record])[0]


@given(
    captions,
    st.lists(faces(PICTURE), max_size=6).map(tuple),
    st.lists(regions(PICTURE), max_size=6).map(tuple),
    kinds,
    st.integers(1, 5),
)
def test_every_picture_that_was_cut_stands_beside_the_whole_caption(
    caption: str, some_faces: tuple[Face, ...], some_regions: tuple[Region, ...], images: tuple[Kind, ...], most: int
) -> None:
    outcome = run(BesideIn(caption=caption, faces=some_faces, regions=some_regions), images, most)
    cut = {
        "faces": [f"face{i}" for i, face in enumerate(some_faces) if face.crop],
        "regions": [f"region{i}" for i, region in enumerate(some_regions) if region.crop],
        "image": ["image"],
    }
    expected = [name for kind in images for name in cut[kind][:most]]
    if not expected:
        assert outcome == Drop("nothing_beside")
        return
    assert isinstance(outcome, BesideOut)
    assert [image.member for image in outcome.prompt.images] == expected
    assert {image.insertion for image in outcome.prompt.images} == {"side"}
    assert outcome.prompt.caption == caption


def test_a_manifest_that_never_looks_for_faces_is_told() -> None:
    outcome = run(BesideIn(caption="a man", faces=None, regions=()), ["faces"])
    assert outcome == Fail("not_looked_for", "put a faces node before this one")
