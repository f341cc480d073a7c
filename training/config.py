"""A recipe: everything that decides what a run learns, in plain values."""

from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from training.families.base import FamilyConfig, SampleConfig
from training.stream.prompts.base import Builder
from training.stream.recipe import StreamRecipe

Precision: TypeAlias = Literal["float32", "bfloat16"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Lora:
    """Low-rank updates of linear layers.

    Attributes:
        rank: Of each update.
        alpha: The update is scaled by ``alpha / rank``.
        targets: Last names of the layers that get one, such as ``to_q`` or ``to_out.0``.
    """

    rank: int
    alpha: float
    targets: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Parameters that train alike.

    Attributes:
        names: Glob over the names of the family's parameters, as :func:`fnmatch.fnmatchcase` has it: ``unet.*``.
        mode: With ``lora`` the parameters stay frozen, and linear layers among them get updates.
        lr: Peak learning rate.
        lora: For that mode.
    """

    names: str
    mode: Literal["frozen", "full", "lora"]
    lr: float = 0.0
    lora: Lora | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Optimiser:
    """AdamW; gradients are clipped to ``max_norm`` all together."""

    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.01
    max_norm: float = 1.0

    def __post_init__(self) -> None:
        if not self.max_norm > 0:
            raise ValueError(f"max_norm must be above 0, got {self.max_norm}; float('inf') clips nothing")


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """Of the learning rate: linear warm-up over ``warmup`` steps, then as ``kind`` says until the last step.

    Attributes:
        kind: What comes after the warm-up.
        warmup: Its steps.
        warmup_from: Share of the peak that it begins at, 0 to 1; ``None``: nothing.
    """

    kind: Literal["constant", "cosine", "linear"] = "constant"
    warmup: int = 0
    warmup_from: float | None = None

    def __post_init__(self) -> None:
        _at_least(0, warmup=self.warmup)
        if not 0 <= (self.warmup_from or 0) <= 1:
            raise ValueError(f"warmup_from must be a share of the peak, 0 to 1, got {self.warmup_from}")


@dataclass(frozen=True, slots=True, kw_only=True)
class SkipRule:
    """Steps that are not taken.

    Attributes:
        spike: A step is skipped if its gradient norm is over so many times the running mean, or no finite number.
        most: So many skipped in a row stop the run.
    """

    spike: float = 20.0
    most: int = 10

    def __post_init__(self) -> None:
        _at_least(1, spike=self.spike, most=self.most)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """A run of training.

    Attributes:
        name: As ``--recipe`` says it.
        family: What is trained, and its sizes.
        stream: What becomes of samples.
        batch_size: Samples in a global batch, whatever the number of ranks.
        micro_batch: Samples a rank takes at once, at most; it accumulates over as many parts as that needs.
        steps: Global batches, those that no step was taken on too.
        groups: The first whose glob matches a parameter decides; parameters of none are frozen.
        optimiser: How parameters move.
        schedule: Of the learning rates.
        precision: Of the computation; parameters that train, and sums of gradients, are float32 in any case.
        recompute: Compute units' activations again in the backward pass, which saves memory.
        compile: Compile the units.
        ema: Decay of the moving average of trained parameters, once it is warm; ``None``: none is kept.
        skip: Which steps are not taken.
        seed: Of the order, of all draws and of fresh parameters.
        save_every: Steps between checkpoints.
        keep: Checkpoints kept, the newest; the last one always.
        log_every: Steps between lines of the log.
        sample_every: Steps between grids of samples; ``None``: none are drawn.
        sample: How those are drawn.
        prompts: How people's prompts are made into the family's, where it reads others than this run trains on;
            ``None``: as the stream makes them.
    """

    name: str
    family: FamilyConfig
    stream: StreamRecipe
    batch_size: int
    micro_batch: int
    steps: int
    groups: tuple[Group, ...]
    optimiser: Optimiser = field(default_factory=Optimiser)
    schedule: Schedule = field(default_factory=Schedule)
    precision: Precision = "bfloat16"
    recompute: bool = False
    compile: bool = False
    ema: float | None = 0.9999
    skip: SkipRule = field(default_factory=SkipRule)
    seed: int = 0
    save_every: int = 1000
    keep: int = 3
    log_every: int = 10
    sample_every: int | None = None
    sample: SampleConfig = field(default_factory=SampleConfig)
    prompts: Builder | None = None

    def __post_init__(self) -> None:
        _at_least(1, batch_size=self.batch_size, micro_batch=self.micro_batch, steps=self.steps, keep=self.keep)
        _at_least(1, save_every=self.save_every, log_every=self.log_every)
        if self.sample_every is not None:
            _at_least(1, sample_every=self.sample_every)
        if not (isinstance(self.seed, int) and -(2**63) <= self.seed < 2**64):
            raise ValueError(f"seed must be a whole number from -2**63 to 2**64 - 1, as torch takes, got {self.seed!r}")

    @property
    def family_name(self) -> str:
        """That of the family's class."""
        return type(self.family).__name__.removesuffix("Config")

    @property
    def builder(self) -> Builder:
        """How people's prompts are made into the family's."""
        return self.prompts or self.stream.builder


def _at_least(least: int, **values: float) -> None:
    for name, value in values.items():
        if not value >= least:
            raise ValueError(f"{name} must be at least {least}, got {value}")
