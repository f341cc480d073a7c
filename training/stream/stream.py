"""The stream: shards in, training batches out, the same ones on any number of ranks, threads and restarts."""

from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import partial
from statistics import mean
from typing import Any, Self

from training.stream.collate import Batch, Place, allocate
from training.stream.features import LACKING
from training.stream.fill import Filler
from training.stream.making import Made, Maker, Part, ThreadMaker, open_fetchers
from training.stream.options import StreamOptions
from training.stream.order import BatchPlan, OrderParams
from training.stream.pixels import use_one_thread
from training.stream.readers import Readers
from training.stream.recipe import StreamRecipe, named_recipe
from training.stream.snapshot import DatasetError
from training.stream.source import Dataset, Source
from training.stream.state import Quarantined, State
from training.stream.tensors import allocate_pinned
from training.stream.timeline import Timeline
from training.stream.world import World

_SOME_DAMAGED = 16
"""Damaged samples that never stop a run, however few it has read."""
_UNKNOWN = 2
"""Batches in preparation while none has shown yet what references, masks, controls and features take."""
_AGREED_EVERY = 1024
"""Steps after which ranks tell each other what they found damaged, at the latest."""


@dataclass(frozen=True, slots=True)
class _Planned:
    """A batch whose samples are known, being made; ``size`` counts their bytes and its targets'."""

    made: Future[Made]
    size: int


class PromptStream(Iterator[Batch]):
    """Batches of one rank, without end; a global batch is the same for any world, accumulation and number of threads.

    Args:
        data: A folder or URL of shards, or several with their weights.
        recipe: What becomes of a sample, or the name of one in :data:`training.stream.recipe.STREAM_RECIPES`.
        batch_size: Samples in a global batch.
        seed: Of the order and of every random draw.
        world: Ranks that share the batch; by default what torchrun or Ray Train set up.
        options: How it reads.

    Raises:
        ValueError: If the ranks can't share the batch evenly, no data is given, or no recipe has that name.
        DatasetError: When data is missing or changed, or too much of it damaged.
    """

    def __init__(
        self,
        data: str | Dataset | Sequence[str | Dataset],
        *,
        recipe: StreamRecipe | str,
        batch_size: int,
        seed: int = 0,
        world: World | None = None,
        options: StreamOptions | None = None,
    ) -> None:
        self.recipe = named_recipe(recipe) if isinstance(recipe, str) else recipe
        self.options = options or StreamOptions()
        self.world = world or World.from_env()
        self.world.slots(batch_size, self.options.accumulation, 0)
        self.datasets = _datasets(data)
        order = OrderParams(seed=seed, batch_size=batch_size, block=self.options.block, window=self.options.window)
        sources = [Source(dataset.url, self.options.cache, self.options.cache_bytes) for dataset in self.datasets]
        self.timeline = Timeline(self.datasets, sources, self.recipe.buckets, order, self.world)
        self.timeline.follow = self.options.follow
        self.quarantine: dict[tuple[int, str, int], Quarantined] = {}
        storages = [source.storage for source in sources]
        filler = Filler(storages, self.recipe, seed, self.options.verify, self.quarantine)
        self.maker = _open_maker(filler, self.options)
        self.handed = 0  # parts of global batches
        self.beside = 0  # bytes of a batch beside its targets, at most so far
        self.asked = 0
        self.damaged = self.seen = 0  # on this rank
        self.found: list[Quarantined] = []  # on this rank, each time one came, since ranks last told each other
        self.agreed = 0  # those of all ranks before, since the run's first step
        self.ahead: deque[Future[_Planned]] = deque()
        self.planner = ThreadPoolExecutor(1, thread_name_prefix="inlay-plan")
        self.is_closed = False

    @property
    def step(self) -> int:
        """Global batches handed out whole."""
        return self.handed // self.options.accumulation

    @property
    def settings(self) -> dict[str, Any]:
        """What the batches depend on besides the data."""
        params = self.timeline.params
        return {
            "seed": params.seed,
            "batch_size": params.batch_size,
            "block": params.block,
            "window": params.window,
            "datasets": {
                str(number): {"repeats": dataset.repeats, "weight": dataset.weight}
                for number, dataset in enumerate(self.datasets)
            },
            "recipe": self.recipe.settings(),
        }

    def __next__(self) -> Batch:
        if self.is_closed:
            raise RuntimeError("the stream is closed; a new PromptStream goes on from its state_dict()")
        self._begin()
        if self.handed % self.options.accumulation == 0:
            self.timeline.settle(self.step)
            if _is_milestone(self.step):
                self._agree()
        self._top_up()
        made = self.ahead[0].result().made.result()  # left there if this fails or is interrupted: none is passed over
        self._judge(made)
        self.beside = max(self.beside, made.batch.nbytes - made.batch.images.nbytes)
        self.ahead.popleft()
        self.handed += 1
        return made.batch

    def state_dict(self) -> dict[str, Any]:
        """Where the stream stands: plain, small, and the same on every rank.

        Every rank must call it. A global batch that was handed out in part comes again whole.
        """
        self._begin()
        self._agree()
        state = State(
            settings=self.settings,
            step=self.step,
            eras=self.timeline.eras(self.step),
            damaged=self.agreed,
            quarantine=tuple(self.quarantine[place] for place in sorted(self.quarantine)),
        )
        return state.to_plain()

    def load_state_dict(self, plain: Mapping[str, Any]) -> None:
        """Go on where a state stands; before the first batch, on any number of ranks.

        Raises:
            StateError: If it was saved under other settings.
            DatasetError: If the data is not what it was.
            RuntimeError: If batches were already handed out.
        """
        if self.timeline.segments:
            raise RuntimeError("a state can only be loaded before the stream has begun; make a new PromptStream for it")
        state = State.from_plain(plain)
        state.check(self.settings)
        self.timeline.restore(state.eras, state.step)
        self.quarantine.update((sample.place, sample) for sample in state.quarantine)
        self.agreed = state.damaged
        self.handed = self.asked = state.step * self.options.accumulation

    def damage(self) -> dict[str, int]:
        """Quarantined samples that this rank knows of, by reason."""
        return dict(sorted(Counter(sample.reason for sample in self.quarantine.values()).items()))

    def close(self) -> None:
        """Stop reading. Batches handed out stay good."""
        self.is_closed = True
        self.planner.shutdown(wait=False, cancel_futures=True)
        self.maker.close()
        self.planner.shutdown(wait=True)
        self.ahead.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _begin(self) -> None:
        if not self.timeline.segments:
            self.timeline.begin()

    def settle(self) -> None:
        """Wait until nothing is being prepared."""
        wait([ahead.result().made for ahead in self.ahead])

    def _top_up(self) -> None:
        """Keep batches in preparation, as far as their data is settled and the bounds allow."""
        while not self.ahead or (len(self.ahead) < self.options.prefetch and self._has_room()):
            step, part = divmod(self.asked, self.options.accumulation)
            if step >= self.timeline.settled:
                return
            self.ahead.append(self.planner.submit(self._plan, step, part))
            self.asked += 1

    def _has_room(self) -> bool:
        """Whether the batches ahead leave bytes for one more; those not planned yet count as the others do."""
        if len(self.ahead) < self.options.readers:
            return True
        if not self.seen:
            return len(self.ahead) < _UNKNOWN
        wait([self.ahead[0]])
        planned = [ahead for ahead in self.ahead if ahead.done()]
        sizes = [future.result().size for future in planned if not (future.cancelled() or future.exception())]
        return not sizes or len(self.ahead) * (mean(sizes) + self.beside) < self.options.read_ahead_bytes

    def _plan(self, step: int, part: int) -> _Planned:
        """Find the samples of a batch, and have it made."""
        plan = self.timeline.plan(step)
        slots = self.world.slots(self.timeline.params.batch_size, self.options.accumulation, part)
        samples = self.timeline.places(plan, slots)
        wanted = Part.of(self._place(step, plan), self.recipe, plan.bucket, slots, samples)
        return _Planned(self.maker.make(wanted, partial(self.timeline.spare, plan)), wanted.size)

    def _place(self, step: int, plan: BatchPlan) -> Place:
        buckets, number = self.recipe.buckets, plan.bucket
        return Place(epoch=plan.epoch, step=step, ratio=buckets.ratios[number], size=buckets.sizes[number])

    def _agree(self) -> None:
        """Learn what was damaged on other ranks. Every rank does so at the same step."""
        for found in self.world.group.gather(self.found):
            self.quarantine.update((sample.place, sample) for sample in found)
            self.agreed += len(found)
        self.found = []

    def _judge(self, made: Made) -> None:
        """Take note of damaged samples, and stop when those of the run that this rank knows of are too many."""
        self.quarantine.update((sample.place, sample) for sample in made.damaged)
        self.found += made.damaged
        self.damaged += len(made.damaged)
        self.seen += len(made.batch)
        damaged, places = self.agreed + len(self.found), (self.step + 1) * self.timeline.params.batch_size
        if damaged > max(_SOME_DAMAGED, self.options.max_damaged * places):
            raise DatasetError(_diagnosis(damaged, places, list(self.quarantine.values()), self.options))


def _is_milestone(step: int) -> bool:
    """Whether ranks tell each other at a step: often at first, as a run that is all wrong should end soon."""
    return step > 0 and (step & (step - 1) == 0 or step % _AGREED_EVERY == 0)


def _open_maker(filler: Filler, options: StreamOptions) -> Maker:
    if options.readers:
        return Readers(filler, options)
    use_one_thread()
    memory = allocate_pinned if options.pin else allocate
    return ThreadMaker(filler, open_fetchers(filler.storages, options), options.threads, memory)


def _diagnosis(damaged: int, seen: int, quarantine: Sequence[Quarantined], options: StreamOptions) -> str:
    reasons = Counter(sample.reason for sample in quarantine).most_common()
    if LACKING.issuperset(reason for reason, _ in reasons):
        return (
            f"{damaged} of {seen} samples read are not what the recipe wants, more than max_damaged="
            f"{options.max_damaged} allows: {quarantine[0].message}"
        )
    return (
        f"{damaged} of {seen} samples read were damaged, more than max_damaged={options.max_damaged} allows: "
        f"{', '.join(f'{count} {reason}' for reason, count in reasons)}; first: {quarantine[0].message}. "
        "python -m training stream DIR --verify lists them all; a larger max_damaged goes on without them"
    )


def _datasets(data: str | Dataset | Sequence[str | Dataset]) -> tuple[Dataset, ...]:
    several = [data] if isinstance(data, str | Dataset) else data
    if not several:
        raise ValueError("no data is given; name at least one folder or URL of shards")
    return tuple(Dataset(url=each) if isinstance(each, str) else each for each in several)
