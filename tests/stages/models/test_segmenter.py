import pickle
from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from manifests.record import Box
from stages.base import ModelRef
from stages.models.canvas import Canvas
from stages.models.sam import Sam, Sam2, load_sam
from stages.models.sam_native import NativeSam, load_native
from stages.models.segmenter import Cut, Embedding, Network, best
from stages.pixels import Pixels, write_png
from tests.stages.models import tiny_sam
from tests.stages.models.tiny_sam import SIDE, as_transformers, native_sam, sam, sam2

SIZES = [(90, 120), (200, 64), (33, 33), (1, 150), (128, 128), (150, 1)]
COUNTS = [3, 1, 0, 2, 11, 1]


def picture(height: int, width: int, seed: int) -> Pixels:
    rng = np.random.default_rng(seed)
    return np.kron(rng.integers(0, 256, (-(-height // 8), -(-width // 8), 3)), np.ones((8, 8, 1)))[
        :height, :width
    ].astype(np.uint8)


def some_boxes(height: int, width: int, count: int, seed: int) -> list[Box]:
    rng = np.random.default_rng(seed)
    x, y = np.sort(rng.random((count, 2))) * width, np.sort(rng.random((count, 2))) * height
    return [Box(x0=a, y0=b, x1=c + 0.5, y1=d + 0.5) for (a, c), (b, d) in zip(x, y, strict=True)]


IMAGES = [picture(*size, seed) for seed, size in enumerate(SIZES)]
PICTURES = [write_png(image) for image in IMAGES]
BOXES = [some_boxes(*size, count, seed) for seed, (size, count) in enumerate(zip(SIZES, COUNTS, strict=True))]


@pytest.fixture(scope="module", params=["sam", "sam2", "sam_native"])
def network(request: pytest.FixtureRequest) -> Network:
    match request.param:
        case "sam":
            return Sam(sam())
        case "sam2":
            return Sam2(sam2())
        case _:
            return NativeSam(native_sam())


def flat(cuts: Iterable[Sequence[Cut]]) -> list[Cut]:
    return list(chain.from_iterable(cuts))


def assert_same(found: Sequence[Sequence[Cut]], expected: Sequence[Sequence[Cut]]) -> None:
    """Equal masks and predicted IoU within 1e-4."""
    assert [len(cuts) for cuts in found] == [len(cuts) for cuts in expected]
    for cut, other in zip(flat(found), flat(expected), strict=True):
        assert np.array_equal(cut.mask, other.mask)
        assert cut.iou == pytest.approx(other.iou, abs=1e-4)


def batched(network: Network, *args: Any, **kwargs: Any) -> Callable[..., list[list[Cut]]]:
    segmenter = tiny_sam.batched(network, *args, **kwargs)
    return lambda images, boxes: list(segmenter(images, boxes))


def test_batched_equals_one_by_one_in_any_order(network: Network) -> None:
    together = batched(network)(PICTURES, BOXES)
    alone = batched(network)
    assert_same(together, [alone([image], [boxes])[0] for image, boxes in zip(PICTURES, BOXES, strict=True)])
    assert_same(alone(PICTURES[::-1], BOXES[::-1])[::-1], together)


def test_other_call_sizes_move_next_to_nothing(network: Network) -> None:
    pairs = zip(flat(batched(network)(PICTURES, BOXES)), flat(batched(network, 1, 1)(PICTURES, BOXES)), strict=True)
    for one, other in pairs:
        assert (one.mask == other.mask).mean() > 0.999
        assert one.iou == pytest.approx(other.iou, abs=1e-5)


def test_one_picture_and_one_box_a_call_is_exact(network: Network) -> None:
    segmenter = batched(network, 1, 1)
    together, turned = segmenter(PICTURES, BOXES), segmenter(PICTURES[::-1], BOXES[::-1])[::-1]
    for one, other in zip(flat(together), flat(turned), strict=True):
        assert one.iou == other.iou and np.array_equal(one.mask, other.mask)


def test_masks_have_their_pictures_size_and_are_not_trivial(network: Network) -> None:
    cuts = batched(network)(PICTURES, BOXES)
    assert all(cut.mask.shape == size for size, mine in zip(SIZES, cuts, strict=True) for cut in mine)
    shares = [cut.mask.mean() for cut in cuts[0] + cuts[4]]
    assert any(0.02 < share < 0.98 for share in shares)
    assert len({cut.mask.tobytes() for cut in cuts[4]}) > 1


def test_nothing_is_cut_where_there_is_no_box(network: Network) -> None:
    assert batched(network)(PICTURES[:2], [[], []]) == [[], []]
    assert batched(network)([], []) == []


def test_many_boxes_are_decoded_in_parts(network: Network) -> None:
    boxes = some_boxes(*SIZES[0], 300, 1) * 3
    (cuts,) = batched(network, boxes=128)(PICTURES[:1], [boxes])
    assert len(cuts) == 900
    assert_same([cuts[:300]], [cuts[600:]])


def test_bfloat16_embeds_close_to_float32(network: Network) -> None:
    exact = batched(network)
    rough = batched(network, precision=torch.bfloat16)
    pairs = zip(flat(exact(PICTURES, BOXES)), flat(rough(PICTURES, BOXES)), strict=True)
    agreement = [(a.mask == b.mask).mean() for a, b in pairs]
    assert np.mean(agreement) > 0.9


def test_native_and_transformers_agree_down_to_the_masks() -> None:
    native = native_sam(3)
    ours, theirs = NativeSam(native), Sam(as_transformers(native))
    pixels = ours.canvas.normalise(ours.canvas.draw(IMAGES), SIZES)
    placed = torch.cat([ours.canvas.place(mine, *size) for mine, size in zip(BOXES, SIZES, strict=True)])
    which = torch.tensor([n for n, mine in enumerate(BOXES) for _ in mine])
    with torch.inference_mode():
        a, b = ours.embed(pixels), theirs.embed(pixels)
        torch.testing.assert_close(a[0], b[0], atol=1e-4, rtol=1e-4)
        for x, y in zip(ours.decode(a, which, placed), theirs.decode(b, which, placed), strict=True):
            torch.testing.assert_close(x, y, atol=1e-3, rtol=1e-4)
    pairs = zip(flat(batched(ours)(PICTURES, BOXES)), flat(batched(theirs)(PICTURES, BOXES)), strict=True)
    assert np.mean([(a.mask == b.mask).mean() for a, b in pairs]) > 0.9999


def test_cuts_are_those_of_the_packages_own_predictor() -> None:
    from segment_anything import SamPredictor

    model = native_sam(5)
    predictor = SamPredictor(model)
    for image, boxes, cuts in zip(IMAGES[:2], BOXES, batched(NativeSam(model))(PICTURES[:2], BOXES[:2]), strict=False):
        predictor.set_image(image)
        for box, cut in zip(boxes, cuts, strict=True):
            inside = np.clip(box.xyxy, 0, image.shape[1::-1] * 2)
            masks, ious, _ = predictor.predict(box=inside, multimask_output=True)
            assert np.mean(masks[ious.argmax()] == cut.mask) > 0.9999
            assert cut.iou == pytest.approx(ious.max(), abs=1e-4)


def test_sam2_sees_and_gives_what_its_processor_does() -> None:
    from transformers import Sam2ImageProcessor, Sam2Processor

    model, canvas = sam2(), Canvas(SIDE, is_padded=False)
    images = Sam2ImageProcessor(size={"height": SIDE, "width": SIDE}, mask_size={"height": 32, "width": 32})
    processor = Sam2Processor(images, target_size=SIDE)
    image, boxes = IMAGES[0], [Box(x0=10, y0=5, x1=90, y1=60), Box(x0=40, y0=30, x1=119, y1=89)]
    inputs = processor(images=image, input_boxes=[[list(box.xyxy) for box in boxes]], return_tensors="pt")
    drawn = canvas.normalise(canvas.draw([image]), [SIZES[0]])
    torch.testing.assert_close(drawn, inputs["pixel_values"], atol=1e-5, rtol=0)
    with torch.inference_mode():
        found = model(**inputs, multimask_output=True)
    (masks,) = processor.post_process_masks(found.pred_masks, inputs["original_sizes"])
    for number, cut in enumerate(batched(Sam2(model))(PICTURES[:1], [boxes])[0]):
        theirs = masks[number, found.iou_scores[0, number].argmax()].numpy()
        assert np.mean(theirs == cut.mask) > 0.9999


def test_sam_sees_what_its_processor_makes() -> None:
    from transformers.models.sam.image_processing_pil_sam import SamImageProcessorPil

    canvas = Canvas(SIDE, is_padded=True)
    pad = {"height": SIDE, "width": SIDE}
    processor = SamImageProcessorPil(size={"longest_edge": SIDE}, pad_size=pad)
    for image in (IMAGES[0], IMAGES[1], IMAGES[2]):
        inputs = processor(images=image, return_tensors="pt")
        drawn = canvas.normalise(canvas.draw([image]), [image.shape[:2]])
        torch.testing.assert_close(drawn, inputs["pixel_values"], atol=1e-5, rtol=0)


class Ink:
    """A network that marks what is white on its canvas: only geometry can move its masks."""

    def __init__(self, canvas: Canvas, shrink: int) -> None:
        self.canvas, self._shrink = canvas, shrink

    def embed(self, pixels: Tensor) -> Embedding:
        return (torch.nn.functional.avg_pool2d(pixels.mean(1, keepdim=True), self._shrink),)

    def decode(self, embedding: Embedding, pictures: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
        logits, n = embedding[0][pictures], len(boxes)
        ious = torch.tensor([0.1, 0.9, float("nan")]).expand(n, 3)
        return torch.cat([-logits, logits, -logits], 1), ious


class Frame(Ink):
    """A network that fills the box it is given."""

    def decode(self, embedding: Embedding, pictures: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
        along = (torch.arange(self.canvas.side // self._shrink) + 0.5) * self._shrink
        x0, y0, x1, y1 = boxes.T[:, :, None]
        columns, rows = torch.minimum(along - x0, x1 - along), torch.minimum(along - y0, y1 - along)
        return torch.minimum(rows[:, :, None], columns[:, None, :])[:, None], torch.ones(len(boxes), 1)


@st.composite
def windows(draw: st.DrawFn) -> tuple[int, int, Box]:
    height, width = draw(st.integers(20, 400)), draw(st.integers(20, 400))
    w, h = draw(st.integers(width // 4 + 1, width)), draw(st.integers(height // 4 + 1, height))
    x, y = draw(st.integers(0, width - w)), draw(st.integers(0, height - h))
    return height, width, Box(x0=x, y0=y, x1=x + w, y1=y + h)


@settings(deadline=None, max_examples=60)
@given(windows(), st.booleans(), st.sampled_from([Ink, Frame]))
def test_what_is_drawn_is_found_where_it_was_drawn(
    window: tuple[int, int, Box], is_padded: bool, kind: type[Ink]
) -> None:
    height, width, box = window
    image = np.zeros((height, width, 3), np.uint8)
    x0, y0, x1, y1 = map(int, box.xyxy)
    image[y0:y1, x0:x1] = 255
    network = kind(Canvas(256, is_padded), shrink=4)
    ((cut,),) = batched(network)([write_png(image)], [[box]])
    assert cut.mask.shape == (height, width)
    # No edge moves by more than a pixel of the coarse map; thin borders of that map cannot be told.
    covered_height, covered_width = network.canvas.covered(height, width)
    dy, dx = int(np.ceil(4 * height / covered_height)), int(np.ceil(4 * width / covered_width))
    near = np.zeros((height, width), bool)
    near[max(0, y0 - dy) : y1 + dy, max(0, x0 - dx) : x1 + dx] = True
    assert not (cut.mask & ~near).any()
    assert cut.mask[y0 + dy : max(0, y1 - dy), x0 + dx : max(0, x1 - dx)].all()


def test_the_mask_with_the_highest_predicted_iou_is_taken_and_nan_never() -> None:
    logits = torch.arange(6.0).reshape(2, 3, 1, 1)
    nan = float("nan")
    taken, ious = best(logits, torch.tensor([[nan, 0.2, 0.1], [0.5, nan, 0.7]]))
    assert taken.flatten().tolist() == [1, 5]
    assert ious.tolist() == pytest.approx([0.2, 0.7])


@pytest.mark.parametrize("kind", ["sam", "sam2"])
def test_a_saved_network_loads_the_same(kind: str, tmp_path: Path) -> None:
    model = sam() if kind == "sam" else sam2()
    model.save_pretrained(tmp_path)
    loaded = load_sam(kind, ModelRef(name=str(tmp_path)), "cpu")  # type: ignore[arg-type]
    wrapped = Sam(model) if kind == "sam" else Sam2(model)
    assert_same(batched(loaded)(PICTURES[:2], BOXES[:2]), batched(wrapped)(PICTURES[:2], BOXES[:2]))


def test_damaged_weights_are_refused(tmp_path: Path) -> None:
    sam().save_pretrained(tmp_path)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])
    with pytest.raises(ValueError, match="cannot load SamModel"):
        load_sam("sam", ModelRef(name=str(tmp_path)), "cpu")


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    sam().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="model_type 'sam'"):
        load_sam("sam2", ModelRef(name=str(tmp_path)), "cpu")


def test_weights_that_lack_a_part_are_refused(tmp_path: Path) -> None:
    model = sam()
    weights = {name: weight for name, weight in model.state_dict().items() if "iou_prediction_head" not in name}
    model.save_pretrained(tmp_path, state_dict=weights)
    with pytest.raises(ValueError, match=r"its weights lack mask_decoder\.iou_prediction_head"):
        load_sam("sam", ModelRef(name=str(tmp_path)), "cpu")


def test_a_folder_without_safetensors_is_refused(tmp_path: Path) -> None:
    model = sam()
    model.config.save_pretrained(tmp_path)
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(ValueError, match="safetensors"):
        load_sam("sam", ModelRef(name=str(tmp_path)), "cpu")


class Trap:
    """Unpickling it would write a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.write_text, (self.path, "ran"))


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    """The smallest native network under the name of the base one."""
    monkeypatch.setitem(load_native.__globals__["sam_model_registry"], "vit_b", native_sam)


@pytest.mark.usefixtures("registered")
def test_a_native_checkpoint_loads_the_same(tmp_path: Path) -> None:
    model, file = native_sam(9), tmp_path / "sam.pth"
    torch.save(model.state_dict(), file)
    loaded = load_native("vit_b", ModelRef(name=str(file)), "cpu")
    assert_same(batched(loaded)(PICTURES[:2], BOXES[:2]), batched(NativeSam(model))(PICTURES[:2], BOXES[:2]))


@pytest.mark.usefixtures("registered")
def test_a_pickle_that_wants_to_run_code_is_refused(tmp_path: Path) -> None:
    file, proof = tmp_path / "sam.pth", tmp_path / "proof"
    for save in (lambda trap: torch.save(trap, file), lambda trap: file.write_bytes(pickle.dumps(trap, protocol=2))):
        save({"weight": Trap(proof)})
        with pytest.raises(ValueError, match="cannot load checkpoint"):
            load_native("vit_b", ModelRef(name=str(file)), "cpu")
    assert not proof.exists()


@pytest.mark.usefixtures("registered")
def test_a_damaged_or_foreign_native_checkpoint_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "sam.pth"
    torch.save(native_sam().state_dict(), file)
    whole = file.read_bytes()
    torch.save({"weight": torch.zeros(2)}, file)
    for content in (whole[:1000], whole[: len(whole) // 2], b"", b"not a checkpoint", file.read_bytes()):
        file.write_bytes(content)
        with pytest.raises(ValueError, match=r"cannot load checkpoint .* as Sam"):
            load_native("vit_b", ModelRef(name=str(file)), "cpu")
    with pytest.raises(ValueError, match="there is no file /"):
        load_native("vit_b", ModelRef(name=str(tmp_path / "none.pth")), "cpu")


class Cramped(Frame):
    """Has room for two pictures and three boxes at once."""

    def __init__(self) -> None:
        super().__init__(Canvas(64, is_padded=True), 4)
        self.sizes: list[tuple[str, int]] = []

    def embed(self, pixels: Tensor) -> Embedding:
        self._take("embed", len(pixels), 2)
        return super().embed(pixels)

    def decode(self, embedding: Embedding, pictures: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
        self._take("decode", len(boxes), 3)
        return super().decode(embedding, pictures, boxes)

    def _take(self, what: str, count: int, room: int) -> None:
        self.sizes.append((what, count))
        if count > room:
            raise torch.OutOfMemoryError("CUDA out of memory")


def test_out_of_memory_halves_the_calls_once_and_gives_the_same() -> None:
    network = Cramped()
    assert_same(batched(network, 4, 6)(PICTURES, BOXES), batched(Frame(network.canvas, 4))(PICTURES, BOXES))
    assert network.sizes[:5] == [("embed", 4), ("embed", 2), ("decode", 6), ("decode", 3), ("decode", 3)]
    assert {count for _, count in network.sizes[3:]} == {2, 3}
    with pytest.raises(MemoryError, match="boxes_per_call = 4, which is halved already"):
        batched(network, 2, 8)(PICTURES, BOXES)
