"""A condition's features: as they were kept, or as CLIP's half for pictures has them."""

import pytest
import torch

from training.encoders.clip import load_clip
from training.encoders.clip_pictures import ClipPictures, load_clip_pictures
from training.encoders.picture_features import PictureFeatures, PictureReader
from training.families.base import Conditions
from training.modules.agpr import EmmaCondition
from training.stream.prompts.base import Prompt, Reference, weave
from training.weights import Weights

CLIP = Weights(name="stages/data/shapes_clip")
OBJECT = EmmaCondition(name="object", vector_dim=128, local_dim=128, local_tokens=65, encoder=CLIP)
STYLE = EmmaCondition(name="style", vector_dim=128, vector_tokens=4, local_dim=None, encoder=CLIP)
FACE = EmmaCondition(name="face", network="adaface", vector_dim=8, vector_tokens=4, local_dim=None)
PIXELS = torch.randint(0, 256, (64, 64, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def clip() -> ClipPictures:
    return load_clip_pictures(CLIP)


def conditions(*pixels: torch.Tensor | None, names: tuple[str, ...] = ("region0",), **features) -> Conditions:
    """A prompt with its pictures, then one without any."""
    references = tuple(Reference(name=name, role="region", member=None) for name in names)
    prompt = Prompt(interleaved=weave("a dog", references, "side"), caption="a dog", references=references)
    bare = Prompt(interleaved=weave("a dog", (), "side"), caption="a dog")
    return Conditions(prompts=(prompt, bare), references=(pixels, ()), features=features)


def refuse() -> ClipPictures:
    raise AssertionError("CLIP was asked for")


def read(condition: EmmaCondition, given: Conditions, clip=refuse, place: int = 0) -> PictureFeatures:
    return PictureReader(condition, place, clip).read(given, CPU)


def test_its_vector_is_clips_and_its_tokens_are_those_of_the_last_layer(clip: ClipPictures) -> None:
    seen, whole = clip.see([PIXELS]), load_clip(CLIP)
    torch.testing.assert_close(seen.vectors, whole.see([PIXELS]))
    pixels = whole.processor([PIXELS.numpy()], return_tensors="pt")["pixel_values"]
    hidden = whole.network.vision_model(pixel_values=pixels, output_hidden_states=True).hidden_states
    torch.testing.assert_close(seen.tokens, hidden[-1])
    assert seen.tokens.shape == (1, 65, 128)


def test_pictures_are_read_live_and_absent_ones_are_zeros(clip: ClipPictures) -> None:
    found = read(OBJECT, conditions(PIXELS), lambda: clip)
    seen = clip.see([PIXELS])
    torch.testing.assert_close(found.vectors, torch.cat([seen.vectors, torch.zeros(1, 128)]))
    torch.testing.assert_close(found.local, torch.cat([seen.tokens, torch.zeros(1, 65, 128)]))
    assert found.is_there.tolist() == [1, 0]


def test_features_stand_for_pictures() -> None:
    vector, tokens = torch.randn(128).half(), torch.randn(65, 128).half()
    given = conditions(None, region0_clip_vector=(vector, None), region0_clip_tokens=(tokens, None))
    found = read(OBJECT, given)
    assert torch.equal(found.vectors[0], vector.float()) and torch.equal(found.local[0], tokens.float())
    assert read(STYLE, given).local is None
    assert not read(OBJECT, given, place=1).is_there.any()


def test_each_condition_reads_the_picture_of_its_place() -> None:
    given = conditions(
        None,
        None,
        names=("region0", "image"),
        region0_clip_vector=torch.ones(2, 128),
        image_clip_vector=torch.full((2, 128), 2.0),
    )
    assert read(STYLE, given, place=1).vectors[0, 0] == 2


def test_what_can_not_be_read_is_told_with_what_to_change() -> None:
    with pytest.raises(ValueError, match=r"face of the prompt .* lacks its features face0_adaface_vector, and Inlay's"):
        read(FACE, conditions(PIXELS, names=("face0",)))
    with pytest.raises(ValueError, match="neither its features region0_clip_vector and region0_clip_tokens nor pixels"):
        read(OBJECT, conditions(None, region0_clip_vector=torch.zeros(2, 128)))
    with pytest.raises(ValueError, match=r"are \(64,\), the condition style takes \(128,\)"):
        read(STYLE, conditions(None, region0_clip_vector=torch.zeros(2, 64)))
    vectors, tokens = torch.zeros(2, 128), torch.zeros(2, 50, 128)
    with pytest.raises(ValueError, match=r"are \(50, 128\), the condition object takes \(65, 128\)"):
        read(OBJECT, conditions(None, region0_clip_vector=vectors, region0_clip_tokens=tokens))
