"""``python -m training generate``: draw pictures from prompts of text and images."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from training.commands.console import progress_bar, readable_errors
from training.commands.export import NoEma, Run, Step
from training.generate.requests import Request, checked, read_requests

if TYPE_CHECKING:  # torch stays out of what only prints help
    from training.families.base import Family, SampleConfig
    from training.generate.drawing import Drawing
    from training.generate.gallery import Gallery

HELP = """Draw pictures from a prompt of text and images, with a model that was trained here.

[bold]{0}[/bold] is the place of the first [bold]--image[/bold], [bold]{1}[/bold] of the second; [bold]{{[/bold] and \
[bold]}}[/bold] are braces. [bold]{0:dog}[/bold] also names the words that the image goes with. UNIMO-G is shown the \
image instead of them. λ-ECLIPSE draws these words after the image; without any it takes the word behind the slot. \
EMMA reads images beside the text, one for each condition of the run, in the order of the slots. An image with \
transparency is cut out along it.

[bold]Examples[/bold]

  generate --run RUN --prompt "a red ball on the grass"

  generate --run RUN --prompt "a {0:dog} on the beach" --image dog.jpg

  generate --run RUN --prompt "a {0:dog} and a {1:cat}" --image dog.jpg --image cat.png --num 4 --seed 7

  generate --run RUN --prompt "a {0:dog}" --image dog.jpg --control edges.png

  generate --run RUN --prompts prompts.jsonl --out pictures

  generate --run RUN --prompts four.jsonl --walk 5

A line of such a file: [bold]{"prompt": "a {0:dog} on the beach", "images": ["dog.jpg"], "control": "edges.png", \
"seed": 7, "name": "dog"}[/bold]; files are relative to it, and all but the prompt may be left out. Pictures that \
are there already stay, so the same command goes on where it was stopped. Beside each lies a JSON file that says what \
it was drawn from. [bold]--walk[/bold] draws one sheet of the pictures between four prompts, where a family draws from \
one vector, as λ-ECLIPSE does.
"""

_SIZE = re.compile(r"([1-9][0-9]*)(?:[x×]([1-9][0-9]*))?")

PromptText = Annotated[str | None, typer.Option(metavar="TEXT", help="What to draw, with a slot for every image")]
Images = Annotated[list[Path] | None, typer.Option("--image", metavar="FILE", help="For {0}; the next for {1}, …")]
Control = Annotated[Path | None, typer.Option(metavar="FILE", help="Edges to draw along, where a run learnt them")]
PromptFile = Annotated[Path | None, typer.Option(metavar="FILE", help="Many prompts, a JSON object a line")]
Seed = Annotated[int, typer.Option(min=0, help="Of the noise; the same seed draws the same picture")]
Num = Annotated[int, typer.Option(min=1, help="Pictures of each prompt")]
Steps = Annotated[int | None, typer.Option(min=1, help="Of the sampler; else the recipe's")]
Guidance = Annotated[float | None, typer.Option(min=1, max=100, help="How closely to follow the prompt; 1: unguided")]
ImageGuidance = Annotated[float | None, typer.Option(min=0, max=100, help="The same for the images, apart from text")]
Size = Annotated[
    str | None, typer.Option(metavar="WxH", help="In pixels, such as 512x768, or 512 of a square; else the recipe's")
]
Out = Annotated[Path | None, typer.Option(metavar="DIR", help="Folder of the pictures; else RUN/pictures")]
Batch = Annotated[int, typer.Option(min=1, help="Pictures drawn at once; fewer take less memory")]
Device = Annotated[str | None, typer.Option(help="Such as cuda:1 or cpu; else a GPU if there is one")]
Walk = Annotated[int | None, typer.Option(metavar="N", min=2, help="Of four prompts: N x N pictures between them")]
Along = Annotated[
    Literal["bilinear", "slerp"] | None, typer.Option(help="With --walk: lines, or arcs", show_default="bilinear")
]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Weights:
    """Which the user wants to draw with, and where."""

    run: Path
    step: int | None
    use_ema: bool
    device: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Target:
    """Where the user wants pictures, and how many; or a walk of so many rows between four."""

    folder: Path
    num: int
    batch: int
    walk: int | None
    along: Literal["bilinear", "slerp"]


def generate(
    run: Run,
    prompt: PromptText = None,
    image: Images = None,
    control: Control = None,
    prompts: PromptFile = None,
    seed: Seed = 0,
    num: Num = 1,
    steps: Steps = None,
    guidance: Guidance = None,
    image_guidance: ImageGuidance = None,
    size: Size = None,
    out: Out = None,
    step: Step = None,
    no_ema: NoEma = False,
    batch: Batch = 4,
    device: Device = None,
    walk: Walk = None,
    along: Along = None,
) -> None:
    """Draw pictures from prompts of text and images; the command's help is ``HELP``."""
    with readable_errors():
        from training.families.base import SampleConfig

        _refuse_idle(walk, along, num)
        requests = _requests(_asked(prompt, image, control, seed), prompts, seed)
        config = SampleConfig(
            steps=steps, guidance_scale=guidance, image_guidance_scale=image_guidance, size=_size(size), seed=seed
        )
        weights = _Weights(run=run, step=step, use_ema=not no_ema, device=device)
        target = _Target(folder=out or run / "pictures", num=num, batch=batch, walk=walk, along=along or "bilinear")
        _draw(requests, config, weights, target)


def _refuse_idle(walk: int | None, along: str | None, num: int) -> None:
    """Refuse what would have no effect."""
    if walk is None and along is not None:
        raise ValueError("--along goes with --walk N")
    if walk is not None and num != 1:
        raise ValueError("--walk draws one sheet: --num goes without it")


def _size(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    match = _SIZE.fullmatch(text)
    if match is None:
        raise ValueError(f"--size takes pixels as WIDTHxHEIGHT, such as 512x768, or 512 of a square, got {text!r}")
    return int(match[1]), int(match[2] or match[1])


def _asked(prompt: str | None, images: Sequence[Path] | None, control: Path | None, seed: int) -> Request | None:
    """What the options ask for themselves."""
    if prompt is not None:
        return Request(prompt=prompt, images=tuple(images or ()), control=control, seed=seed)
    if images or control:
        raise ValueError("--image and --control go with --prompt; a file of --prompts names those of each line itself")
    return None


def _requests(asked: Request | None, file: Path | None, seed: int) -> tuple[Request, ...]:
    match asked, file:
        case Request(), None:
            return checked((asked,))
        case None, Path():
            return checked(read_requests(file, seed))
        case _:
            raise ValueError('say what to draw: --prompt "a {0:dog} on the beach" --image dog.jpg, or --prompts FILE')


def _draw(requests: Sequence[Request], config: SampleConfig, weights: _Weights, target: _Target) -> None:
    from training.fit.checkpoint import digest
    from training.fit.runs import checkpoint_of, open_run, read_recipe, step_of
    from training.fit.world import device_of_rank
    from training.generate.drawing import prepare_drawings
    from training.generate.gallery import Gallery, Origin

    if target.folder.exists() and not target.folder.is_dir():
        raise ValueError(f"{target.folder} is a file: --out takes a folder")
    device = device_of_rank(weights.device)
    recipe = read_recipe(weights.run)
    checkpoint = checkpoint_of(weights.run, weights.step)
    step = step_of(checkpoint)
    _, family = open_run(weights.run, ema=weights.use_ema, step=step, device=str(device), recipe=recipe)
    gallery = Gallery(
        family=family,
        origin=Origin(
            recipe=recipe.name,
            run=str(weights.run.resolve()),
            step=step,
            is_averaged=weights.use_ema,
            weights=digest(checkpoint),
        ),
        folder=target.folder,
        count=target.num,
        batch=target.batch,
        device=device,
    )
    drawings = prepare_drawings(requests, family, recipe.builder, _merged(recipe.sample, config))
    _warn(requests, family)
    if target.walk is None:
        _print(gallery, drawings)
    else:
        print(_walk(gallery, drawings, target.walk, target.along))


def _warn(requests: Sequence[Request], family: Family) -> None:
    from training.families.base import Doubtful
    from training.generate.compose import doubts

    if isinstance(family, Doubtful) and (said := family.doubt()):
        typer.echo(f"warning: {said}", err=True)
    for request in requests:
        for doubt in doubts(request.template(), family.insertion):
            typer.echo(f"warning: {f'{request.where}: ' * bool(request.where)}{doubt}", err=True)


def _merged(recipe: SampleConfig, given: SampleConfig) -> SampleConfig:
    """As given, else as the recipe has it."""
    return replace(recipe, **{name: value for name, value in asdict(given).items() if value is not None})


def _print(gallery: Gallery, drawings: Sequence[Drawing]) -> None:
    """Draw all, and print the pictures' files."""
    total = len(drawings) * gallery.count
    with progress_bar("drawing", total) as tell:
        for done, path in enumerate(chain.from_iterable(map(gallery.draw, drawings)), 1):
            print(path, flush=True)
            tell(done, total, f"{done:,} of {total:,}")


def _walk(gallery: Gallery, corners: Sequence[Drawing], size: int, along: Literal["bilinear", "slerp"]) -> Path:
    """Draw one sheet of the pictures between four."""
    from training.generate.gallery import write_picture
    from training.generate.walk import walk

    sheet = walk(gallery.family, corners, size, along, gallery.device)
    path = gallery.folder / f"walk-{size}-{along}-{gallery.digest(corners)}.png"
    facts = {"corners": [corner.facts() for corner in corners], "walk": size, "along": along}
    write_picture(path, sheet, facts | asdict(gallery.origin))
    return path
