"""Tiny models with random weights, of the classes that the recipes name: what their ``*_tiny.yaml`` twins run on.

``python -m tests.recipes.tiny_models [FOLDER]`` writes them to FOLDER, by default ``build/tiny``, where the twins in
``manifests/`` look for them. Their captioners always say the same, so that what follows them has something to do.
"""

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tests.stages.models import (  # first: they make torchvision importable
    tiny_captioner,
    tiny_clip,
    tiny_depth,
    tiny_encoders,
    tiny_sdxl,
)

import torch  # isort: skip

from pipeline.demo.photos import PHOTOS
from stages.models.face_embedder import FaceNetwork
from stages.models.pidinet import PiDiNet
from stages.shapes.grammar import caption
from stages.shapes.scene import SceneSettings, make_scene

FOLDER = Path("build/tiny")

CAPTION = "a red circle, a blue star and a man on a grass background"
DESCRIPTION = f'{{"caption": "{CAPTION}", "entities": ["red circle", "blue star", "man"]}}'


def captioner(name: str, answer: str) -> Callable[[Path], object]:
    """Writes a captioner of a class in ``tiny_captioner.TINY`` that says ``answer``, whatever it is shown."""

    def write(folder: Path) -> None:
        torch.manual_seed(0)
        model, image_processor, words = tiny_captioner.TINY[name]()
        words.add_tokens([answer])
        model.resize_token_embeddings(len(words), mean_resizing=False)
        said, stop = len(words) - 1, words.eos_token_id
        model.generation_config.sequence_bias = [[[said], 1e4], [[said, stop], 1e5]]
        model.generation_config.eos_token_id = stop
        for part in (model, image_processor, words):
            part.save_pretrained(folder)

    return write


def adaface(folder: Path) -> None:
    torch.manual_seed(0)
    state = {f"model.{name}": weight for name, weight in FaceNetwork("ir18").state_dict().items()}
    torch.save({"state_dict": state}, _in(folder, "adaface_ir18.ckpt"))


def pidinet(folder: Path) -> None:
    torch.manual_seed(0)
    torch.save({"state_dict": PiDiNet().state_dict()}, _in(folder, "table5_pidinet.pth"))


def aesthetic_head(folder: Path) -> None:
    torch.manual_seed(0)
    width = tiny_clip.hf_network().config.projection_dim
    torch.save({"weight": torch.randn(1, width), "bias": torch.tensor([7.0])}, _in(folder, "aesthetic.pth"))


def lists(folder: Path) -> None:
    """Contents and styles: what the shapes world has, in some styles."""
    _in(folder, "contents.txt").write_text("".join(f"{caption(make_scene(n, SceneSettings()))}\n" for n in range(3)))
    _in(folder, "styles.txt").write_text("as a photograph\nin watercolour\nas an engraving\n")


def portraits(folder: Path) -> None:
    """Photographs that packages carry, each in a folder of its own."""
    for photo in PHOTOS[:4]:
        photo.open().convert("RGB").save(_in(folder / photo.name, "0.jpg"))


def _in(folder: Path, name: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder / name


MODELS: Mapping[str, Callable[[Path], Any]] = {
    "blip2": captioner("blip2_t5", CAPTION),
    "llava": captioner("llava_next", CAPTION),
    "qwen": captioner("qwen2_5_vl", CAPTION),
    "qwen_json": captioner("qwen2_5_vl", DESCRIPTION),
    "clip": tiny_clip.hf_folder,
    "open_clip": tiny_clip.open_folder,
    "t5": tiny_encoders.t5_folder,
    "depth": lambda folder: tiny_depth.save(folder, "anything"),
    "sdxl": tiny_sdxl.save,
    "weights": lambda folder: [write(folder) for write in (adaface, pidinet, aesthetic_head)],
    "lists": lists,
    "portraits": portraits,
}
"""Folder -> what writes it."""


def build(root: Path) -> None:
    """Write all of them that are not there yet."""
    for name, write in MODELS.items():
        if not (root / name).exists():
            write(root / name)


if __name__ == "__main__":
    build(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER)
