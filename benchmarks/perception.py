"""Ground, segment and crop: Inlay's batched stages against the one-picture-at-a-time loop of released pipelines.

Both run the same networks with the same random weights, which measure speed as well as trained ones do: Grounding DINO
and SAM of transformers, from JPEG files to JPEG crops. As random weights find nothing sensible, what is grounded is
thrown away, and boxes drawn at random are segmented and cropped, one for each phrase. Rounds are interleaved.

On a GPU the loop runs in float32, as released, and in bfloat16, as the stages do; CPU figures are float32 throughout.
"""

import dataclasses
import json
import random
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import numpy as np
import torch
import typer
from PIL import Image
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.measure import Cost, machine, measure
from benchmarks.perception_loop import Loop
from benchmarks.perception_networks import SIZES, WORDS, Size, save_networks
from manifests.record import Box, Record, Span, Subject
from stages.base import Context, Stage
from stages.crop import Crop, CropParams
from stages.detected import phrasing
from stages.ground import Ground, GroundParams
from stages.models.ahead import ahead
from stages.pixels import write_jpeg
from stages.segment import Segment, SegmentParams

RESULTS = Path(__file__).parent / "results"
_SHAPES = ((480, 640), (640, 480), (427, 640), (640, 427), (480, 640), (640, 640), (360, 640), (480, 640))
"""Heights and widths of the pictures, in turn: about as often as in COCO."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How much work, in what portions."""

    device: str
    pictures: int
    rounds: int
    batch_size: int
    images_per_call: int
    boxes_per_call: int


def draw_records(count: int) -> list[Record]:
    """Pictures of several shapes with two to four subjects each, whose boxes are drawn at random."""
    return [_record(number, *_SHAPES[number % len(_SHAPES)]) for number in range(count)]


def _record(number: int, height: int, width: int) -> Record:
    rng = random.Random(number)
    coarse = np.random.default_rng(number).integers(0, 256, (12, 12, 3)).astype(np.uint8)
    image = write_jpeg(np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)))
    phrases = [" ".join(rng.sample(WORDS, 2)) for _ in range(rng.randint(2, 4))]
    caption = ", ".join(phrases)
    return Record(
        key=f"{number:06d}",
        source="drawn",
        row=number,
        original=image.data,
        original_width=width,
        original_height=height,
        image=image,
        caption=caption,
        subjects=tuple(_subject(caption, phrase, rng, height, width) for phrase in phrases),
    )


def _subject(caption: str, phrase: str, rng: random.Random, height: int, width: int) -> Subject:
    span = Span(start=caption.index(phrase), end=caption.index(phrase) + len(phrase))
    x0, y0 = rng.uniform(0, 0.6) * width, rng.uniform(0, 0.6) * height
    box = Box(x0=x0, y0=y0, x1=x0 + rng.uniform(0.15, 0.4) * width, y1=y0 + rng.uniform(0.15, 0.4) * height)
    return Subject(phrase=phrase, span=span, head=phrase, head_span=span, box=box)


class Batched:
    """Inlay's stages; on a GPU each works while the others do, as a run's actors do, but in threads of one process."""

    def __init__(self, folders: tuple[Path, Path], settings: Settings, threshold: float) -> None:
        """Load them as a worker does."""
        detector, segmenter = map(str, folders)
        ground = GroundParams(
            backend="grounding_dino",
            model=detector,
            box_threshold=threshold,
            text_threshold=threshold,
            max_boxes_per_phrase=900,
            images_per_call=settings.images_per_call,
        )
        segment = SegmentParams(
            backend="sam",
            model=segmenter,
            images_per_call=settings.images_per_call,
            boxes_per_call=settings.boxes_per_call,
        )
        context = Context(device=settings.device)
        self._settings = settings
        self._ground = Ground.load(ground, context)
        self._segment = Segment.load(segment, context)
        self._crop = Crop.load(CropParams(), context)

    def __call__(self, records: Sequence[Record]) -> int:
        """How many crops there are in the end."""
        size, device = self._settings.batch_size, self._settings.device
        batches: Iterable[Sequence[Record]] = (records[start : start + size] for start in range(0, len(records), size))
        for work in (self._look, partial(_grown, self._segment), partial(_grown, self._crop)):
            batches = ahead(work, batches, 1, device, threads=1)
        return sum(_crops(batch) for batch in batches)

    def _look(self, records: Sequence[Record]) -> Sequence[Record]:
        """The same records: what random weights ground is of no use."""
        _process(self._ground, records)
        return records


def _grown(stage: Stage[Any, Any], records: Sequence[Record]) -> Sequence[Record]:
    return [_with(record, out) for record, out in zip(records, _process(stage, records), strict=True)]


def _crops(records: Sequence[Record]) -> int:
    return sum(subject.crop is not None for record in records for subject in record.subjects or ())


def _process(stage: Stage[Any, Any], records: Sequence[Record]) -> list[Any]:
    names = [field.name for field in dataclasses.fields(stage.In)]
    return stage.process([stage.In(**{name: getattr(record, name) for name in names}) for record in records])


def _with(record: Record, out: Any) -> Record:
    return dataclasses.replace(record, **{field.name: getattr(out, field.name) for field in dataclasses.fields(out)})


def threshold_of(detector: Path, records: Sequence[Record], device: str) -> float:
    """The score that one of fifty boxes passes, as with trained weights at usual thresholds."""
    from stages.base import ModelRef
    from stages.models.detector import BatchDetector
    from stages.models.grounding_dino import load_grounding_dino
    from stages.models.memory import CallSize

    loaded = load_grounding_dino(ModelRef(name=str(detector)), device)
    parts = {name: getattr(loaded, name) for name in ("network", "frame", "writer")}
    detect = BatchDetector(**parts, device=device, precision=torch.float32, calls=CallSize(1, "images_per_call"))
    images = [record.image for record in records if record.image]
    found = detect(images, [list(phrasing(record.subjects or ())) for record in records])
    return float(np.quantile(np.concatenate([mine.scores.max(axis=1) for mine in found]), 0.98))


def run_loop(loop: Loop, records: Sequence[Record]) -> int:
    """The loop over all records; how many crops there are in the end."""
    crops = 0
    for record in records:
        assert record.original and record.subjects
        boxes = [subject.box for subject in record.subjects if subject.box]
        crops += len(loop(record.original, [subject.phrase for subject in record.subjects], boxes))
    return crops


def contenders(size: Size, folder: Path, settings: Settings, records: Sequence[Record]) -> dict[str, Callable[[], int]]:
    """What is measured, by name; the loops first."""
    folders = save_networks(size, folder)
    threshold = threshold_of(folders[0], records[:8], settings.device)
    precisions = {"float32": torch.float32} | ({"bfloat16": torch.bfloat16} if settings.device == "cuda" else {})
    loops = {name: Loop.load(folders, settings.device, kind, threshold) for name, kind in precisions.items()}
    batched = Batched(folders, settings, threshold)
    found: dict[str, Callable[[], int]] = {
        f"loop, {name}": lambda loop=loop: run_loop(loop, records)  # type: ignore[misc]
        for name, loop in loops.items()
    }
    return found | {"Inlay": lambda: batched(records)}


def run(work: Mapping[str, Callable[[], int]], settings: Settings) -> dict[str, list[Cost]]:
    """The cost of each contender in each round, after one that warms up."""
    crops = {name: call() for name, call in work.items()}
    if len(set(crops.values())) > 1:
        raise RuntimeError(f"the contenders did not do the same work: {crops} crops")
    costs: dict[str, list[Cost]] = {name: [] for name in work}
    for _ in track(range(settings.rounds), "rounds"):
        for name, call in work.items():
            costs[name].append(measure(call, settings.device))
    return costs


def summary(costs: Sequence[Cost], pictures: int) -> dict[str, Any]:
    """CPU milliseconds a picture (median, least, most), pictures a second, and the share of time the GPU was busy."""
    cpu = [1000 * cost.cpu_s / pictures for cost in costs]
    busy = [cost.gpu_busy for cost in costs if cost.gpu_busy is not None]
    return {
        "cpu_ms_per_picture": {"median": median(cpu), "min": min(cpu), "max": max(cpu)},
        "pictures_per_s": median(pictures / cost.wall_s for cost in costs),
        "gpu_busy": median(busy) if busy else None,
    }


def show(found: Mapping[str, Mapping[str, Any]], size: Size, settings: Settings) -> None:
    """The table; the ratio is of pictures a second on a GPU, of CPU time on a CPU, to the first loop."""
    table = Table("", "CPU ms/picture", "min - max", "pictures/s", "GPU busy", "x the loop", title=size.name)
    for name, figures in found.items():
        cpu, busy = figures["cpu_ms_per_picture"], figures["gpu_busy"]
        table.add_row(
            name,
            f"{cpu['median']:.1f}",
            f"{cpu['min']:.1f} - {cpu['max']:.1f}",
            f"{figures['pictures_per_s']:.2f}",
            "-" if busy is None else f"{busy:.0%}",
            f"{speedup(found, name, settings.device):.2f}",
        )
    Console().print(table)


def speedup(found: Mapping[str, Mapping[str, Any]], name: str, device: str) -> float:
    """How many times as fast as the first contender one is."""
    first, one = next(iter(found.values())), found[name]
    if device == "cuda":
        return float(one["pictures_per_s"] / first["pictures_per_s"])
    return float(first["cpu_ms_per_picture"]["median"] / one["cpu_ms_per_picture"]["median"])


def main(
    device: Annotated[str, typer.Option(help="cpu or cuda")] = "cpu",
    size: Annotated[str, typer.Option(help="real or reduced; by default real on a GPU, reduced on a CPU")] = "",
    pictures: Annotated[int, typer.Option(help="Pictures a round")] = 32,
    rounds: Annotated[int, typer.Option(help="Rounds, after one that warms up")] = 5,
    batch_size: Annotated[int, typer.Option(help="Records a stage gets at once, as a node's batch_size")] = 32,
    images_per_call: Annotated[int, typer.Option(help="Pictures a network gets at once")] = 8,
    boxes_per_call: Annotated[int, typer.Option(help="Boxes SAM decodes at once")] = 32,
    out: Annotated[
        Path | None, typer.Option(help="JSON file; by default benchmarks/results/perception_DEVICE.json")
    ] = None,
) -> None:
    """Measure ground + segment + crop, batched and one picture at a time, with random weights."""
    chosen = SIZES[size or ("real" if device == "cuda" else "reduced")]
    settings = Settings(
        device=device,
        pictures=pictures,
        rounds=rounds,
        batch_size=batch_size,
        images_per_call=images_per_call,
        boxes_per_call=boxes_per_call,
    )
    records = draw_records(pictures)
    with tempfile.TemporaryDirectory() as folder:
        costs = run(contenders(chosen, Path(folder), settings, records), settings)
    found = {name: summary(mine, pictures) for name, mine in costs.items()}
    found = {name: figures | {"speedup": speedup(found, name, device)} for name, figures in found.items()}
    file = out or RESULTS / f"perception_{device}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    result = {"networks": chosen.name, "settings": dataclasses.asdict(settings), "machine": machine(device)}
    file.write_text(json.dumps(result | {"contenders": found}, indent=1) + "\n")
    show(found, chosen, settings)


if __name__ == "__main__":
    typer.run(main)
