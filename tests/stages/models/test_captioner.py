"""Every architecture, from a checkpoint folder to text."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from stages.base import ModelRef
from stages.models.captioner import Answer, BatchCaptioner, Settings
from stages.models.captioners import ARCHITECTURES, load_captioner
from stages.pixels import Pixels
from tests.stages.models.tiny_captioner import TINY, save

from transformers import (  # isort: skip
    AutoModelForImageTextToText,
    AutoTokenizer,
    Blip2Processor,
    BlipImageProcessorPil,
    CLIPImageProcessorPil,
    Florence2Processor,
    LlavaNextImageProcessorPil,
    LlavaNextProcessor,
    Qwen2VLImageProcessorPil,
)

SIZES = [(60, 90), (90, 60), (60, 90), (200, 40), (30, 30)]
PROMPTS = ["a photo of", "a dog and the cat on grass", "a red hat", "", "two dog"]


def picture(height: int, width: int, seed: int) -> Pixels:
    coarse = Image.fromarray(np.random.default_rng(seed).integers(0, 256, (4, 4, 3), np.uint8))
    return np.asarray(coarse.resize((width, height)))


IMAGES = [picture(*size, seed) for seed, size in enumerate(SIZES)]


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {name: save(name, tmp_path_factory.mktemp(name, numbered=False)) for name in TINY}


@pytest.fixture(scope="module", params=TINY)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def load(folder: Path, **settings: Any) -> BatchCaptioner:
    settings = {"max_new_tokens": 6, "images_per_call": 3, **settings}
    return load_captioner(ModelRef(name=str(folder)), "cpu", Settings(**settings))


@pytest.fixture(scope="module")
def captioner(folders: dict[str, Path], name: str) -> BatchCaptioner:
    return load(folders[name])


def prompts(captioner: BatchCaptioner) -> Sequence[str]:
    """Prompts of mixed length that it takes."""
    known = captioner.architecture.only_prompts
    return (known * 2)[: len(SIZES)] or PROMPTS


def ask(captioner: BatchCaptioner, places: Sequence[int] = range(len(SIZES))) -> list[Answer]:
    asked = prompts(captioner)
    return captioner([IMAGES[n] for n in places], [asked[n] for n in places], list(places))


def assert_alone_as_together(captioner: BatchCaptioner) -> None:
    together = ask(captioner)
    assert len({answer.text for answer in together}) > 1
    order = [4, 0, 2, 1, 3]
    assert ask(captioner, order) == [together[n] for n in order]
    assert [ask(captioner, [n])[0] for n in order[:3]] == [together[n] for n in order[:3]]


def test_batched_equals_one_by_one_in_any_order(captioner: BatchCaptioner) -> None:
    assert_alone_as_together(captioner)


@pytest.mark.parametrize(
    "settings",
    [{"num_beams": 3}, {"temperature": 1.5, "top_p": 0.9}, {"precision": torch.bfloat16}, {"image_side": 56}],
    ids=str,
)
@pytest.mark.parametrize("name", ["blip2_t5", "qwen2_5_vl"])
def test_so_it_is_with_beams_sampled_in_half_precision_and_on_squares(
    folders: dict[str, Path], name: str, settings: dict[str, Any]
) -> None:
    assert_alone_as_together(load(folders[name], **settings))


def by_hand(name: str, folder: Path, image: Image.Image, prompt: str) -> Any:
    """The inputs as the library's documentation has them made."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    part = {"images": image, "return_tensors": "pt"}
    if name.startswith("blip2"):
        return Blip2Processor(BlipImageProcessorPil.from_pretrained(folder), tokenizer, 4)(text=prompt, **part)
    if name == "florence2":
        return Florence2Processor(CLIPImageProcessorPil.from_pretrained(folder), tokenizer)(text=prompt, **part)
    if name == "llava_next":
        pixels = LlavaNextImageProcessorPil.from_pretrained(folder)
        processor = LlavaNextProcessor(pixels, tokenizer, 14, "default", num_additional_image_tokens=1)
        return processor(text=f"USER : <image>\n{prompt} ASSISTANT :", **part)
    pixels = Qwen2VLImageProcessorPil.from_pretrained(folder)(**part)
    pads = "<|image_pad|>" * int(pixels["image_grid_thw"].prod() // 4)
    text = f"USER : <|vision_start|>{pads}<|vision_end|>{prompt} ASSISTANT :"
    ids = tokenizer(text, return_tensors="pt")
    kinds = (ids["input_ids"] == tokenizer.convert_tokens_to_ids("<|image_pad|>")).int()
    return {**ids, **pixels, "mm_token_type_ids": kinds}


def test_an_answer_is_what_the_library_writes_by_hand(
    folders: dict[str, Path], name: str, captioner: BatchCaptioner
) -> None:
    image, prompt = IMAGES[1], prompts(captioner)[1]
    model = AutoModelForImageTextToText.from_pretrained(folders[name]).eval()
    inputs = by_hand(name, folders[name], Image.fromarray(image), prompt)
    model.generation_config.max_new_tokens = 6
    (tokens,) = model.generate(**inputs, generation_config=model.generation_config)
    new = tokens[1 if model.config.is_encoder_decoder else inputs["input_ids"].shape[1] :]
    assert captioner([image], [prompt], [0])[0].text == captioner.processor.tokenizer.decode(
        new, skip_special_tokens=True
    )


def test_an_answer_knows_whether_it_came_to_its_stop(folders: dict[str, Path]) -> None:
    short, long = load(folders["qwen2_5_vl"]), load(folders["qwen2_5_vl"], max_new_tokens=40)
    for cut, whole in zip(ask(short), ask(long), strict=True):
        assert whole.text.startswith(cut.text)
        assert (cut.end == "stop") == (cut.text == whole.text and whole.end == "stop")
    assert {answer.end for answer in ask(short)} == {"stop", "cut"}


@pytest.mark.parametrize("size", [(1, 200), (200, 1), (1, 1), (2, 1)])
def test_the_thinnest_and_smallest_pictures_get_an_answer(captioner: BatchCaptioner, size: tuple[int, int]) -> None:
    (answer,) = captioner([picture(*size, 0)], [prompts(captioner)[0]], [0])
    assert answer.text


def test_a_prompt_longer_than_the_model_costs_no_other_its_answer(folders: dict[str, Path]) -> None:
    for name in ("blip2_opt", "llava_next"):
        captioner = load(folders[name])
        found = captioner(IMAGES[:3], ["a red hat", "dog " * 10_000, "a red hat"], [0, 1, 2])
        assert found[1] == Answer("", "no_room")
        assert found[::2] == captioner([IMAGES[0], IMAGES[2]], ["a red hat"] * 2, [0, 0])


def test_special_tokens_and_other_scripts_in_a_prompt_are_words_at_most(folders: dict[str, Path]) -> None:
    for name, token in (("blip2_t5", "<image>"), ("llava_next", "<image>"), ("qwen3_vl", "<|image_pad|></s>")):
        captioner = load(folders[name])
        odd, plain = captioner(IMAGES[:1] * 2, [f"a{token}red hat", "a red hat"], [0, 0])
        assert odd == plain
        assert captioner(IMAGES[:1], ["犬 🐕 हिन्दी \u0301"], [0])[0].text


def copy_of(folder: Path, target: Path, **config: Any) -> Path:
    shutil.copytree(folder, target)
    (target / "config.json").write_text(json.dumps({**json.loads((folder / "config.json").read_text()), **config}))
    return target


@pytest.mark.parametrize("settings", [{}, {"num_beams": 2}, {"temperature": 1.0}], ids=str)
def test_scores_that_are_no_numbers_give_no_text(
    folders: dict[str, Path], tmp_path: Path, settings: dict[str, Any]
) -> None:
    folder = copy_of(folders["qwen3_vl"], tmp_path / "nan")
    weights = load_file(folder / "model.safetensors")
    weights["model.language_model.norm.weight"][0] = torch.nan
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    assert ask(load(folder, **settings)) == [Answer("", "nan")] * len(SIZES)


def test_calls_that_run_out_of_memory_are_halved(captioner: BatchCaptioner, monkeypatch: pytest.MonkeyPatch) -> None:
    expected, generate = ask(captioner), captioner.network.generate
    asked: list[int] = []

    def small(**inputs: Any) -> Any:
        asked.append(len(inputs["input_ids"]))
        if asked[-1] > 1:
            raise torch.OutOfMemoryError("of memory")
        return generate(**inputs)

    monkeypatch.setattr(captioner.network, "generate", small)
    monkeypatch.setattr(captioner.calls, "size", captioner.calls.size)
    assert ask(captioner) == expected
    assert asked == [3] + [1] * len(SIZES)


def test_florence_takes_its_tasks_and_nothing_else(folders: dict[str, Path]) -> None:
    captioner = load(folders["florence2"])
    assert captioner.prompt(None) == "<CAPTION>" and captioner.prompt("<DETAILED_CAPTION>") == "<DETAILED_CAPTION>"
    with pytest.raises(ValueError, match="takes no prompt 'What is this\\?'; it knows <CAPTION>, <DETAILED_CAPTION>"):
        captioner.prompt("What is this?")
    assert load(folders["blip2_opt"]).prompt("What is this?") == "What is this?"


def failure(folder: Path, **settings: Any) -> str:
    with pytest.raises(ValueError) as error:
        load(folder, **settings)
    return str(error.value)


def test_what_is_no_captioner_is_told_what_is(folders: dict[str, Path], tmp_path: Path) -> None:
    folder = copy_of(folders["blip2_opt"], tmp_path / "other", model_type="unheard_of")
    assert "model_type 'unheard_of', not " + " or ".join(ARCHITECTURES) in failure(folder)
    (folder / "config.json").write_text("{")
    assert f"cannot read what kind of model '{folder}' is" in failure(folder)
    (folder / "config.json").unlink()
    assert "model_type 'None', not blip-2" in failure(folder)


def test_what_the_hub_does_not_give_is_told_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*args: object, **kwargs: object) -> None:
        raise OSError("cannot connect")

    monkeypatch.setattr("transformers.PreTrainedConfig.get_config_dict", unreachable)
    with pytest.raises(ValueError, match=r"no model 'owner/none' at revision 'v1': .*\(cannot connect\).*prefetch"):
        load_captioner(ModelRef(name="owner/none", revision="v1"), "cpu", Settings(max_new_tokens=3))


def test_damaged_checkpoints_are_refused_by_name(folders: dict[str, Path], tmp_path: Path) -> None:
    folder = copy_of(folders["blip2_t5"], tmp_path / "cut")
    data = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(data[: len(data) // 2])
    assert f"cannot load Blip2ForConditionalGeneration '{folder}'" in failure(folder)
    (folder / "model.safetensors").unlink()
    torch.save({}, folder / "pytorch_model.bin")
    assert f"cannot load Blip2ForConditionalGeneration '{folder}'" in failure(folder)
    wrong = copy_of(folders["qwen3_vl"], tmp_path / "wrong", model_type="qwen2_5_vl")
    assert "cannot load Qwen2_5_VLForConditionalGeneration" in failure(wrong)


def test_missing_and_foreign_tokenizers_are_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    bare = copy_of(folders["qwen2_5_vl"], tmp_path / "bare")
    (bare / "chat_template.jinja").unlink()
    assert "has no chat template" in failure(bare)
    (bare / "tokenizer.json").unlink()
    assert f"cannot load the AutoTokenizer of '{bare}'" in failure(bare)
    foreign = copy_of(folders["llava_next"], tmp_path / "foreign", image_token_index=9)
    assert "that of pictures 4; the network knows" in failure(foreign)


def test_more_tokens_than_there_are_positions_are_refused(folders: dict[str, Path]) -> None:
    assert "max_new_tokens is 128;" in failure(folders["florence2"], max_new_tokens=128)
