"""``embed`` with tiny networks of every kind, against the libraries called by hand."""

import dataclasses
import random
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import save_file

from manifests.record import Box, Control, Face, Feature, ModelUse, Picture, Point, Region, Span, Subject  # fmt: skip
from stages.alignment import SIDE, TEMPLATE, align_face, as_points
from stages.base import Context, Drop, Fail, ModelRef
from stages.embed import Embed, EmbedIn, EmbedOut, EmbedParams, feature_model
from stages.features import FaceIn, content_hash, values_of
from stages.models import clip_states
from stages.models.clip_hf import HfClip
from stages.models.clip_open import OpenClip
from stages.models.face_embedder import FaceNetwork, load_face_network
from stages.pixels import Pixels, read_picture, write_jpeg, write_png
from tests.stages.models import tiny_clip, tiny_encoders

from diffusers import AutoencoderKL, VQModel  # isort: skip
from transformers import AutoTokenizer, CLIPModel, Dinov2Model, T5EncoderModel, ViTModel  # isort: skip

Folder = Callable[[str], Path]
BOX = Box(x0=1, y0=1, x1=9, y1=9)
CAPTIONS = ["a dog", "", "the red cat sits on grass and a dog runs", "собака 狗 🐕", "a  dog\n"]


def adaface_file(folder: Path) -> Path:
    torch.manual_seed(0)
    network = FaceNetwork("ir18")
    with torch.no_grad():  # fresh statistics would leave what comes out almost the same for all faces
        network.train()(torch.randn(4, 3, SIDE, SIDE))
    save_file(network.state_dict(), folder / "adaface.safetensors")
    return folder / "adaface.safetensors"


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    """Folders of tiny networks, each made once."""
    make: Mapping[str, Callable[[Path], Path]] = {
        "t5": tiny_encoders.t5_folder,
        "vae": tiny_encoders.vae_folder,
        "movq": tiny_encoders.movq_folder,
        "dino": tiny_encoders.dino_folder,
        "dinov2": lambda path: tiny_encoders.dino_folder(path, "dinov2"),
        "clip": tiny_clip.hf_folder,
        "open_clip": tiny_clip.open_folder,
        "adaface": adaface_file,
    }
    made: dict[str, Path] = {}

    def get(name: str) -> Path:
        if name not in made:
            made[name] = make[name](tmp_path_factory.mktemp(name))
        return made[name]

    return get


@pytest.fixture(scope="session", autouse=True)
def _clip_is_loaded_once() -> Iterator[None]:
    """Its vocabulary takes a second to read."""
    made: dict[tuple[str | None, str], HfClip | OpenClip] = {}
    read = clip_states.load_clip

    def get(params: EmbedParams, device: str) -> HfClip | OpenClip:
        where = params.model, params.library
        return made[where] if where in made else made.setdefault(where, read(params, device))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clip_states, "load_clip", get)
        yield


def noise(height: int, width: int, seed: int) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def subject(crop: Picture | None, head: Picture | None = None) -> Subject:
    span = Span(start=0, end=1)
    return Subject(phrase="a", span=span, head="a", head_span=span, crop=crop, head_crop=head)


def landmarks(seed: int, side: int) -> tuple[Point, ...]:
    """A face's five, turned and shifted."""
    turn = cv2.getRotationMatrix2D((56, 56), 20.0 * seed, side / 112)
    return tuple(Point(x=x, y=y) for x, y in cv2.transform(TEMPLATE[None], turn)[0].tolist())


def record(number: int = 0) -> EmbedIn:
    """Pictures and captions of many sizes, the same for a number."""
    height, width = [(40, 60), (33, 33), (90, 20), (1, 70), (64, 64)][number % 5]
    crops = [write_jpeg(noise(10 + 7 * n, 30, 100 * number + n)) for n in range(number % 4)]
    return EmbedIn(
        caption=CAPTIONS[number % 5],
        image=write_jpeg(noise(height, width, number)),
        subjects=tuple(subject(crop, crop if n == 1 else None) for n, crop in enumerate(crops)),
        faces=tuple(Face(box=BOX, score=1, crop=crop, landmarks=landmarks(n, height)) for n, crop in enumerate(crops)),
        regions=tuple(Region(kind="random", box=BOX, crop=crop) for crop in crops[:2]),
        controls=(Control(kind="canny", picture=write_png(noise(height, width, number)[:, :, 0])),),
        features=(),
    )


@cache
def load(params: EmbedParams) -> Embed:
    return Embed.load(params, Context())


def loaded(**params: Any) -> Embed:
    return load(EmbedParams(**params))


def features(stage: Embed, given: EmbedIn) -> dict[str, Feature]:
    (out,) = stage.process([given])
    assert isinstance(out, EmbedOut), out
    return {feature.name: feature for feature in out.features}


def values(stage: Embed, given: EmbedIn) -> dict[str, np.ndarray]:
    return {name: values_of(feature) for name, feature in features(stage, given).items()}


KINDS: list[dict[str, Any]] = [
    dict(kind="t5", dtype="bfloat16"),
    dict(kind="clip_text", layer=-2),
    dict(kind="clip_text", library="open_clip", padding=True),
    dict(kind="clip_image", of=["image", "subjects", "heads", "canny"], outputs=["vector", "tokens"]),
    dict(kind="clip_image", library="open_clip", of=["faces", "regions"]),
    dict(kind="dino", of=["image", "subjects"], outputs=["tokens"]),
    dict(kind="adaface", architecture="ir18"),
    dict(kind="vae", side=32, multiple=8),
    dict(kind="movq", side=32, multiple=8),
]


def name_of(params: Mapping[str, Any]) -> str:
    kind: str = params["kind"]
    return params.get("library", "clip") if kind.startswith("clip") else kind


@pytest.mark.parametrize("params", KINDS, ids=name_of)
def test_bytes_are_the_same_however_records_are_batched(params: dict[str, Any], folder: Folder) -> None:
    stage = loaded(model=str(folder(name_of(params))), **params)
    records = [record(number) for number in range(7)]
    together = stage.process(records)
    assert all(isinstance(out, EmbedOut) for out in together), together
    assert [stage.process([one])[0] for one in records] == together
    order = random.Random(0).sample(range(7), 7)
    assert stage.process([records[n] for n in order]) == [together[n] for n in order]


@pytest.mark.parametrize("params", KINDS, ids=name_of)
def test_larger_calls_move_the_last_bits_only(params: dict[str, Any], folder: Folder) -> None:
    params = {**params, "dtype": "float32", "model": str(folder(name_of(params)))}
    one, many = loaded(**params), loaded(**params, per_call=3)
    compared = 0
    for alone, out in zip(map(record, range(5)), many.process([record(n) for n in range(5)]), strict=True):
        assert isinstance(out, EmbedOut)
        expected = values(one, alone)
        assert [feature.name for feature in out.features] == list(expected)
        compared += len(expected)
        for feature in out.features:
            np.testing.assert_allclose(values_of(feature), expected[feature.name], atol=2e-5, rtol=1e-4)
    assert compared >= 5


def test_t5_states_are_transformers_own(folder: Folder) -> None:
    where, caption = folder("t5"), CAPTIONS[2]
    tokenizer, model = AutoTokenizer.from_pretrained(where), T5EncoderModel.from_pretrained(where).eval()
    row = tokenizer(caption, padding="max_length", max_length=20, return_tensors="pt")
    with torch.inference_mode():
        expected = model(**row).last_hidden_state[0].numpy()
    params = dict(kind="t5", model=str(where), dtype="float32", max_length=20)
    (states,) = values(loaded(**params), dataclasses.replace(record(), caption=caption)).values()
    assert states.shape == (11, 16) and np.array_equal(states, expected[:11])
    (padded,) = values(loaded(**params, padding=True), dataclasses.replace(record(), caption=caption)).values()
    assert np.array_equal(padded, expected)


@pytest.mark.parametrize("layer", [-1, -2])
def test_clip_text_is_transformers_own_and_open_clip_s(folder: Folder, layer: int) -> None:
    where, caption = folder("clip"), CAPTIONS[2]
    tokenizer, model = AutoTokenizer.from_pretrained(where), CLIPModel.from_pretrained(where).eval()
    row = tokenizer(caption, padding="max_length", max_length=77, return_tensors="pt").input_ids
    with torch.inference_mode():
        found = model.text_model(row, output_hidden_states=True)
        pooled = model.get_text_features(row).pooler_output
    states = (found.last_hidden_state if layer == -1 else found.hidden_states[layer])[0].numpy()
    given = dataclasses.replace(record(), caption=caption)
    kept = values(loaded(kind="clip_text", model=str(where), dtype="float32", layer=layer), given)
    assert kept["caption_clip_states"].shape == (12, 16)
    np.testing.assert_allclose(kept["caption_clip_states"], states[:12], atol=1e-6)
    np.testing.assert_allclose(kept["caption_clip_pooled"], pooled[0], atol=1e-6)
    other = dict(kind="clip_text", library="open_clip", dtype="float32", layer=layer)
    for name, value in values(loaded(**other, model=str(folder("open_clip"))), given).items():
        np.testing.assert_allclose(value, kept[name], atol=2e-5)


@pytest.mark.parametrize("layer", [-1, -2])
def test_clip_pictures_are_transformers_own_and_open_clip_s(folder: Folder, layer: int) -> None:
    where, given = folder("clip"), dataclasses.replace(record(), image=write_jpeg(noise(32, 32, 5)))
    params = dict(kind="clip_image", outputs=["vector", "tokens"], dtype="float32", layer=layer)
    kept = values(loaded(**params, model=str(where)), given)
    model, processor = CLIPModel.from_pretrained(where).eval(), tiny_clip.CLIPImageProcessorPil.from_pretrained(where)
    pixels = processor(read_picture(given.image), return_tensors="pt").pixel_values
    with torch.inference_mode():
        tokens = model.vision_model(pixels, output_hidden_states=True).hidden_states[layer]
        vector = model.get_image_features(pixels).pooler_output
    assert kept["image_clip_tokens"].shape == (17, 32)
    np.testing.assert_allclose(kept["image_clip_tokens"], tokens[0], atol=1e-5)
    np.testing.assert_allclose(kept["image_clip_vector"], vector[0], atol=1e-5)
    other = loaded(**params, library="open_clip", model=str(folder("open_clip")))
    for name, value in values(other, given).items():
        np.testing.assert_allclose(value, kept[name], atol=2e-5)


@pytest.mark.parametrize("name", ["dino", "dinov2"])
def test_dino_is_transformers_own(folder: Folder, name: str) -> None:
    where, given = folder(name), record(0)
    kept = values(loaded(kind="dino", model=str(where), outputs=["vector", "tokens"], dtype="float32"), given)
    make = tiny_encoders.ViTImageProcessorPil if name == "dino" else tiny_encoders.CLIPImageProcessorPil
    pixels = make.from_pretrained(where)(read_picture(given.image), return_tensors="pt").pixel_values
    model = (ViTModel if name == "dino" else Dinov2Model).from_pretrained(where).eval()
    with torch.inference_mode():
        expected = model(pixels).last_hidden_state[0].numpy()
    np.testing.assert_allclose(kept["image_dino_tokens"], expected, atol=1e-5)
    np.testing.assert_allclose(kept["image_dino_vector"], expected[0], atol=1e-5)


@pytest.mark.parametrize("kind", ["vae", "movq"])
def test_latents_are_diffusers_own_of_the_bucket(folder: Folder, kind: str) -> None:
    where, given = folder(kind), dataclasses.replace(record(), image=write_png(noise(16, 32, 1)))
    (name, latent), *none = values(
        loaded(kind=kind, model=str(where), side=24, multiple=2, dtype="float32"), given
    ).items()
    assert not none and name == f"image_{kind}_latent"
    (cut,) = values(loaded(kind=kind, model=str(where), side=16, multiple=16, dtype="float32"), given).values()
    assert latent.shape[1:] == (8, 17) and cut.shape[1:] == (8, 8)
    pixels = torch.from_numpy(noise(16, 32, 1)[:, 8:24].copy()).permute(2, 0, 1)[None] / 127.5 - 1
    with torch.inference_mode():
        if kind == "vae":
            expected = AutoencoderKL.from_pretrained(where).eval().encode(pixels).latent_dist.mean[0]
        else:
            expected = VQModel.from_pretrained(where).eval().encode(pixels).latents[0]
    np.testing.assert_allclose(cut, expected, atol=1e-5)


def test_adaface_sees_aligned_faces_of_the_image(folder: Folder) -> None:
    where, given = folder("adaface"), record(3)
    assert given.faces and len(given.faces) == 3
    kept = values(loaded(kind="adaface", architecture="ir18", model=str(where), dtype="float32"), given)
    assert list(kept) == [f"face{n}_adaface_vector" for n in range(3)]
    network = load_face_network(ModelRef(name=str(where)), "ir18", "cpu")
    aligned = [align_face(read_picture(given.image), as_points(face.landmarks)) for face in given.faces]
    blue_first = torch.from_numpy(np.stack(aligned)[..., ::-1].copy()).permute(0, 3, 1, 2) / 255
    with torch.inference_mode():
        expected = network((blue_first - 0.5) / 0.5).numpy()
    np.testing.assert_allclose(np.stack(list(kept.values())), expected, atol=1e-5)


def test_a_face_is_known_by_picture_and_landmarks_and_left_out_where_it_cannot_be_aligned(folder: Folder) -> None:
    stage, given = loaded(kind="adaface", architecture="ir18", model=str(folder("adaface"))), record(3)
    assert given.faces
    one, two, three = given.faces
    nowhere = dataclasses.replace(two, landmarks=(Point(x=3, y=3),) * 5)
    nan = dataclasses.replace(three, landmarks=(Point(x=float("nan"), y=0), *three.landmarks[1:]))
    bare = dataclasses.replace(one, landmarks=())
    kept = features(stage, dataclasses.replace(given, faces=(bare, nowhere, nan, two)))
    assert list(kept) == ["face3_adaface_vector"]
    assert kept["face3_adaface_vector"].content == content_hash(FaceIn(given.image, two.landmarks))
    assert len({content_hash(FaceIn(given.image, face.landmarks)) for face in given.faces}) == 3
    (out,) = stage.process([dataclasses.replace(given, faces=None)])
    assert isinstance(out, Fail) and out.reason == "missing_input"


def test_features_say_what_they_are_of_and_from(folder: Folder) -> None:
    params = EmbedParams(kind="clip_image", model=str(folder("clip")), of=("image", "subjects"), name="clip_h")
    given = record(2)
    kept = features(Embed.load(params, Context()), given)
    assert list(kept) == ["image_clip_h_vector", "subject0_clip_h_vector", "subject1_clip_h_vector"]
    assert given.subjects and given.subjects[1].crop
    content, model = content_hash(given.subjects[1].crop), feature_model(params)
    assert model.revision.startswith("sha256:")
    feature = kept["subject1_clip_h_vector"]
    assert (feature.content, feature.model) == (content, model)
    found = values_of(feature)
    assert found.dtype == np.float16 and found.shape == (tiny_clip.DIM,)


def test_crops_are_seen_whole_and_pictures_as_the_network_s_own_preprocessing_cuts_them(folder: Folder) -> None:
    where = str(folder("clip"))
    edge = noise(32, 64, 0)
    edge[:, 16:48] = 128
    plain = write_png(np.full((32, 64, 3), 128, np.uint8))
    marked = write_png(edge)

    def vectors(picture: Picture, **params: Any) -> dict[str, np.ndarray]:
        given = dataclasses.replace(record(), image=picture, subjects=(subject(picture),))
        return values(loaded(kind="clip_image", model=where, of=["image", "subjects"], **params), given)

    auto = vectors(marked), vectors(plain)
    assert np.array_equal(auto[0]["image_clip_vector"], auto[1]["image_clip_vector"])
    assert not np.array_equal(auto[0]["subject0_clip_vector"], auto[1]["subject0_clip_vector"])
    own, pad, black = (vectors(marked, **fit) for fit in ({"fit": "own"}, {"fit": "pad"}, {"fill": (0, 0, 0)}))
    assert np.array_equal(own["subject0_clip_vector"], own["image_clip_vector"])
    assert np.array_equal(pad["image_clip_vector"], auto[0]["subject0_clip_vector"])
    assert not np.array_equal(black["subject0_clip_vector"], auto[0]["subject0_clip_vector"])


@pytest.mark.parametrize("kind", ["t5", "clip_text"])
@pytest.mark.parametrize("caption", ["dog " * 3000, "x" * 10_000, "dog" * 1000 + " " * 9000])
def test_a_long_caption_is_dropped_or_cut_as_told(folder: Folder, kind: str, caption: str) -> None:
    where, given = str(folder(kind if kind == "t5" else "clip")), dataclasses.replace(record(), caption=caption)
    params: dict[str, Any] = dict(kind=kind, model=where, max_length=20)
    if len(caption.split()) > 1 or kind == "clip_text":
        (out,) = loaded(**params).process([given])
        assert isinstance(out, Drop) and out.reason == "caption_too_long_for_encoder"
    if len(caption.split()) > 1:
        cut = values(loaded(**params, long_captions="truncate"), given)
        fits = dataclasses.replace(given, caption="dog " * (19 if kind == "t5" else 18))
        assert all(np.array_equal(cut[name], value) for name, value in values(loaded(**params), fits).items())


def test_a_caption_at_the_limit_is_kept(folder: Folder) -> None:
    stage = loaded(kind="clip_text", model=str(folder("clip")))
    kept = values(stage, dataclasses.replace(record(), caption="dog " * 75))
    assert kept["caption_clip_states"].shape == (77, 16)
    (out,) = stage.process([dataclasses.replace(record(), caption="dog " * 76)])
    assert isinstance(out, Drop)


@pytest.mark.parametrize(
    ("of", "changes", "says"),
    [
        ("subjects", {"subjects": None}, "no picture of subjects"),
        ("subjects", {"subjects": (subject(None),)}, "no picture of subject0"),
        ("heads", {"subjects": None}, "no picture of heads"),
        ("faces", {"faces": None}, "no picture of faces"),
        ("depth", {}, "no picture of depth"),
    ],
)
def test_what_is_missing_fails_its_record_alone(folder: Folder, of: str, changes: dict[str, Any], says: str) -> None:
    stage = loaded(kind="clip_image", model=str(folder("clip")), of=["image", of])
    lacking = dataclasses.replace(record(1), **changes)
    whole = dataclasses.replace(record(1), controls=(Control(kind="depth", picture=record(1).image),))
    out, other = stage.process([lacking, whole])
    assert isinstance(out, Fail) and out.reason == "missing_input" and says in out.message
    assert isinstance(other, EmbedOut)


def test_nothing_to_embed_is_no_failure(folder: Folder) -> None:
    stage = loaded(kind="clip_image", model=str(folder("clip")), of=["subjects", "heads"])
    assert features(stage, record(0)) == {}
    assert [name for name in features(stage, record(2))] == [
        "subject0_clip_vector", "subject1_clip_vector", "head1_clip_vector"
    ]  # fmt: skip


def test_a_feature_is_replaced_by_its_own_model_only(folder: Folder) -> None:
    stage = loaded(kind="clip_image", model=str(folder("clip")))
    first = features(stage, record(0))["image_clip_vector"]
    assert features(stage, dataclasses.replace(record(1), features=(first,)))["image_clip_vector"] != first
    foreign = dataclasses.replace(first, model=ModelUse(name="another", revision="1"))
    (out,) = stage.process([dataclasses.replace(record(1), features=(foreign,))])
    assert isinstance(out, Fail) and out.reason == "name_taken" and "set name to another" in out.message


def test_a_network_that_gives_no_numbers_fails_the_record(folder: Folder, tmp_path: Path) -> None:
    model = T5EncoderModel.from_pretrained(folder("t5"))
    model.encoder.final_layer_norm.weight.data *= 1e6
    model.save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(folder("t5")).save_pretrained(tmp_path)
    (out,) = loaded(kind="t5", model=str(tmp_path)).process([record()])
    assert isinstance(out, Fail) and out.reason == "not_finite"
    assert features(loaded(kind="t5", model=str(tmp_path), dtype="bfloat16"), record())


@pytest.mark.parametrize(
    ("kind", "other"), [("t5", "clip"), ("dino", "t5"), ("vae", "movq"), ("movq", "vae"), ("vae", "t5")]
)
def test_another_architecture_is_refused_by_name(folder: Folder, kind: str, other: str) -> None:
    with pytest.raises(ValueError, match=r"cannot load \w+ .*its config.json says"):
        loaded(kind=kind, model=str(folder(other)))


def test_a_corrupt_checkpoint_and_a_missing_tokenizer_are_refused(folder: Folder, tmp_path: Path) -> None:
    for path in folder("t5").iterdir():
        if "token" not in path.name:
            (tmp_path / path.name).write_bytes(path.read_bytes())
    with pytest.raises(ValueError, match="tokenizer"):
        loaded(kind="t5", model=str(tmp_path))
    (tmp_path / "model.safetensors").write_bytes(b"x" * 100)
    with pytest.raises(ValueError, match="cannot load T5EncoderModel"):
        loaded(kind="t5", model=str(tmp_path))


@pytest.mark.parametrize(
    ("params", "says"),
    [
        (dict(kind="t5", of=["image"]), "kind 't5' has no image: of may be caption"),
        (dict(kind="vae", of=["caption"]), "kind 'vae' has no caption: of may be image, subjects"),
        (dict(kind="vae", outputs=["vector"]), "kind 'vae' has no vector: outputs may be latent"),
        (dict(kind="t5", side=64), "kind 't5' heeds no side"),
        (dict(kind="vae", library="open_clip"), "kind 'vae' heeds no library"),
        (dict(architecture="ViT-B-32"), "architecture goes with library open_clip"),
        (dict(kind="adaface"), "kind 'adaface' needs architecture: ir18, ir34, ir50, ir101"),
        (dict(kind="adaface", architecture="ir18", of=["image"]), "kind 'adaface' has no image: of may be faces"),
        (dict(name="Clip"), "String should match pattern"),
        (dict(kind=["t5"]), "Input should be"),
    ],
)
def test_parameters_that_do_not_go_together_are_refused(params: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        EmbedParams(**params)


def test_parameters_survive_their_lineage() -> None:
    for params in KINDS:
        made = EmbedParams(**params)
        assert EmbedParams.model_validate(made.model_dump(mode="json")) == made


def test_a_layer_and_a_length_that_the_network_has_not_are_refused(folder: Folder) -> None:
    for name, library in (("clip", "transformers"), ("open_clip", "open_clip")):
        for kind in ("clip_text", "clip_image"):
            with pytest.raises(ValueError, match="layer -3 is none of the network's, which has 2"):
                loaded(kind=kind, library=library, model=str(folder(name)), layer=-3)
    with pytest.raises(ValueError, match="max_length 99 is more than the 77 tokens"):
        loaded(kind="clip_text", model=str(folder("clip")), max_length=99)


def test_a_network_in_a_folder_of_a_pipeline(folder: Folder, tmp_path: Path) -> None:
    (tmp_path / "vae").symlink_to(folder("vae"))
    inside = EmbedParams(kind="vae", model=str(tmp_path), subfolder="vae", side=16, multiple=8)
    assert features(Embed.load(inside, Context()), record())["image_vae_latent"].model == feature_model(inside)
    assert Embed.wants(EmbedParams(kind="vae", model="a/b", revision="c", subfolder="vae"))[0].files == ("vae/*",)


def test_without_a_model_the_plan_is_told() -> None:
    with pytest.raises(ValueError, match="no model: set model to"):
        Embed.models(EmbedParams())
