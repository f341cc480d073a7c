"""EMMA on ELLA: a frozen U-Net whose context is made anew at every timestep, of a text and of conditions beside it.

Without conditions it is ELLA alone. Sources: Han et al. 2024, "EMMA: Your Text-to-Image Diffusion Model Can Secretly
Accept Multi-Modal Prompts"; Hu et al. 2024, "ELLA: Equip Diffusion Models with LLM for Enhanced Semantic Alignment".
Where they are silent, what is done here is ours and says so.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import count
from textwrap import shorten
from typing import Any

import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor, nn

from manifests.prompt import Insertion
from training.diffusion.objective import diffuse, squared_error
from training.diffusion.sampler import Guidance, sample_latents, set_steps
from training.diffusion.schedule import NoiseSchedule
from training.encoders.clip_pictures import ClipPictures, load_clip_pictures
from training.encoders.picture_features import PictureReader
from training.encoders.t5 import T5, T5Sizes, T5Text, empty_states
from training.encoders.t5_features import T5Features
from training.families.base import Composition, Conditions, FamilyConfig, Losses, SampleConfig, conditions_of
from training.families.branches import guidance_of
from training.modules.agpr import Assembled, Branch, EmmaCondition, GatedBlock, assemble
from training.modules.autoencoder import AutoencoderSource, Kl, Pixels, build_autoencoder, latent_shape
from training.modules.ella import Ella, EllaSizes, load_ella
from training.modules.unet import UnetSource, blocks_of, build_unet, check_channels
from training.noise import Noise
from training.plain import differences, to_plain
from training.stream.tensors import BatchTensors
from training.weights import Weights


@dataclass(frozen=True, slots=True, kw_only=True)
class EmmaConfig:
    """EMMA's sizes and choices.

    Attributes:
        text: What reads texts.
        text_feature: Name of the feature that its states are kept under.
        ella: The connector.
        ella_weights: A folder or a hub's repository with its safetensors; ``None``: fresh, or of the run that
            ``--start-from`` names.
        conditions: What is read beside the text: a prompt's first picture by the first, and so on. None: ELLA alone.
        unet: The denoiser.
        autoencoder: What latents are.
        size: Width and height of pictures drawn if none is asked for, pixels.
        schedule: Of noise.
        steps: Of DDIM, if no number is asked for. Ours.
        guidance_scale: If none is asked for. Ours; ELLA draws at 7.5 to 12.
    """

    text: T5
    ella: EllaSizes
    ella_weights: Weights | None
    conditions: tuple[EmmaCondition, ...]
    unet: UnetSource
    autoencoder: AutoencoderSource
    size: tuple[int, int]
    text_feature: str = "caption_t5_states"
    schedule: NoiseSchedule = field(default_factory=NoiseSchedule)
    steps: int = 50
    guidance_scale: float = 7.5

    def __post_init__(self) -> None:
        twice = [name for name, times in Counter(each.name for each in self.conditions).items() if times > 1]
        if twice:
            raise ValueError(f"several conditions are called {twice[0]!r}: give each a name of its own")

    @property
    def sees_targets(self) -> bool:
        """Always."""
        return True

    @property
    def contrasts_samples(self) -> bool:
        """Never."""
        return False

    def composed(self, others: Sequence[FamilyConfig], scales: Sequence[float]) -> Composition:
        """All conditions upon the same connector: equations 7 and 8.

        Of conditions that are called alike, the second gets a 2 behind its name. A run's scale is times its lambdas.

        Raises:
            ValueError: If another is no EMMA, or differs in more than conditions and how it draws.
        """
        conditions: list[EmmaCondition] = []
        names: list[Mapping[str, str]] = []
        for config, scale in zip((self, *others), scales, strict=True):
            self._check_same(config)
            assert isinstance(config, EmmaConfig)
            taken = [each.name for each in conditions]
            found = {each.name: _free_name(each.name, taken) for each in config.conditions}
            conditions += [replace(each, name=found[each.name], scale=scale * each.scale) for each in config.conditions]
            names.append({f"branches.{old}.": f"branches.{new}." for old, new in found.items()})
        return Composition(config=replace(self, conditions=tuple(conditions)), names=tuple(names))

    def _check_same(self, other: FamilyConfig) -> None:
        if not isinstance(other, EmmaConfig):
            raise ValueError(f"a {type(other).__name__.removesuffix('Config')} can't be put together with an Emma")
        alike = {name: getattr(self, name) for name in ("conditions", "size", "steps", "guidance_scale")}
        if changed := differences(to_plain(self), to_plain(replace(other, **alike))):
            raise ValueError(f"these runs don't stand on the same model: {'; '.join(changed)}")

    def build(self, *, load: bool = True) -> "Emma":
        """The family. Published networks that read texts and pictures are put off until something is read live.

        Raises:
            ValueError: If parts don't fit each other.
            OSError: If weights are not there.
        """
        unet, autoencoder = build_unet(self.unet, load), build_autoencoder(self.autoencoder, load)
        check_channels(unet.config, autoencoder)
        _check_widths(self, unet.config.cross_attention_dim, load)
        family = Emma(self, unet, autoencoder, load)
        if load and self.ella_weights is not None:
            load_ella(family.ella, self.ella_weights)
        return family


def _free_name(name: str, taken: Sequence[str]) -> str:
    """The name, or with the first number from 2 that is free."""
    return next(found for n in count(1) if (found := name if n == 1 else f"{name}{n}") not in taken)


def _check_widths(config: EmmaConfig, context_dim: int, load: bool) -> None:
    if context_dim != config.ella.width:
        raise ValueError(
            f"the U-Net's context is {context_dim} wide, the connector's latents are {config.ella.width}: make "
            "these the same, as nothing is between them"
        )
    if not load and isinstance(config.text.source, Weights):
        return
    if config.text.width() != config.ella.text_dim:
        raise ValueError(
            f"the text encoder's states are {config.text.width()} wide, the connector takes {config.ella.text_dim}"
        )


@dataclass(frozen=True, slots=True)
class Context:
    """What prompts say, of which the connector makes the U-Net's context.

    Attributes:
        text: T5's states.
        tokens: Of each condition, what its blocks read.
        scales: Of each condition, lambda by sample: 0 where it is left out.
        is_cut: Which texts were longer than is read.
    """

    text: Float[Tensor, "sample token state"]
    tokens: tuple[Float[Tensor, "sample condition width"], ...]
    scales: tuple[Float[Tensor, " sample"], ...]
    is_cut: Bool[Tensor, " sample"]

    def of_text(self) -> "Context":
        """The same without conditions."""
        return replace(self, scales=tuple(torch.zeros_like(scale) for scale in self.scales))

    def of_nothing(self, empty: Float[Tensor, "token state"]) -> "Context":
        """The empty text without conditions."""
        return replace(self.of_text(), text=empty.to(self.text).expand_as(self.text))


def _joined(parts: Sequence[Context]) -> Context:
    """Contexts one after another."""
    return Context(
        text=torch.cat([part.text for part in parts]),
        tokens=tuple(torch.cat(each) for each in zip(*(part.tokens for part in parts), strict=True)),
        scales=tuple(torch.cat(each) for each in zip(*(part.scales for part in parts), strict=True)),
        is_cut=torch.cat([part.is_cut for part in parts]),
    )


class Emma(nn.Module):
    """The family. Names of its parameters begin with ``t5``, ``ella``, ``branches.NAME``, ``unet`` or ``autoencoder``.

    A published T5 and CLIP are no parts of it: they are not trained, sharded or saved.
    """

    insertion: Insertion = "side"

    def __init__(self, config: EmmaConfig, unet: Any, autoencoder: Kl | Pixels, load: bool) -> None:
        super().__init__()
        self.config = config
        self.t5 = config.text.build() if isinstance(config.text.source, T5Sizes) else None
        self.ella = Ella(config.ella)
        self.branches = nn.ModuleDict({each.name: Branch(each, config.ella) for each in config.conditions})
        self.unet = unet
        self.autoencoder = autoencoder
        self.scheduler = config.schedule.ddim()
        self._loads = load
        self._outside: dict[str | Weights, Any] = {}
        self.register_buffer("empty", torch.zeros(config.text.length, config.ella.text_dim), persistent=False)
        if load and self.t5 is None:
            self.get_buffer("empty").copy_(empty_states(config.text))

    def forward(self, tensors: BatchTensors, noise: Noise) -> Losses:
        """``denoising``: squared error of eps or v; ``cut``: share of texts that were read live and too long.

        Raises:
            ValueError: If prompts have more pictures than there are conditions, or features are missing, or don't fit.
        """
        diffused = diffuse(self.autoencoder.encode(tensors.images, noise), noise, self.scheduler)
        context = self._context(conditions_of(tensors))
        predicted = self._predict(diffused.latents, diffused.timesteps, context)
        loss = squared_error(predicted, diffused.target).mean()
        return Losses(total=loss, terms={"denoising": loss.detach(), "cut": context.is_cut.float().mean()})

    @torch.no_grad()
    def sample(
        self, conditions: Conditions, config: SampleConfig, first: int = 0
    ) -> UInt8[Tensor, "picture height width 3"]:
        """Pictures by DDIM; conditions may be guided apart from the text.

        Raises:
            ValueError: If steps, scales or size are out of range, a text is too long, or a prompt has more pictures
                than there are conditions.
        """
        guidance = guidance_of(config, self.config.guidance_scale)
        scheduler = set_steps(self.scheduler, self.config.steps if config.steps is None else config.steps, self._device)
        shape = latent_shape(self.autoencoder, self.config.size if config.size is None else config.size)
        context = self._context(conditions)
        if not config.cuts:
            self._refuse_cut(conditions, context)
        branches = self._branches(context, guidance)
        noise = Noise(config.seed, 0, range(first, first + len(conditions)))
        denoise = guidance.apply(lambda latents, timestep: self._predict(latents, timestep, branches))
        return self.autoencoder.decode(sample_latents(denoise, scheduler, noise, shape, self._device))

    def units(self) -> Sequence[nn.Module]:
        """Residual blocks and transformers of the U-Net, blocks of the connector, halves of the conditions' blocks.

        A sample without a condition goes through its blocks as well, and takes nothing of them.
        """
        gated = [block for block in self.branches.modules() if isinstance(block, GatedBlock)]
        halves = [half for block in gated for half in (block.attention, block.feed_forward)]
        return (*blocks_of(self.unet), *self.ella.blocks, *halves)

    @property
    def _device(self) -> torch.device:
        return self.get_buffer("empty").device

    def _context(self, conditions: Conditions) -> Context:
        self._check_count(conditions)
        text = self._texts(conditions).states(self._device)
        tokens, scales = [], []
        for place, condition in enumerate(self.config.conditions):
            clip = partial(self._clip, condition)
            read = PictureReader(condition, place, clip).read(conditions, self._device)
            tokens.append(self._branch(condition)(read.vectors, read.local))
            scales.append(condition.scale * read.is_there)
        return Context(text.states, tuple(tokens), tuple(scales), text.is_cut)

    def _texts(self, conditions: Conditions) -> T5Features:
        return T5Features(
            conditions=conditions,
            name=self.config.text_feature,
            length=self.config.text.length,
            width=self.config.ella.text_dim,
            empty=self.get_buffer("empty") if self.t5 is None else None,
            t5=self._t5,
        )

    def _branches(self, context: Context, guidance: Guidance) -> Context:
        """The contexts of guidance's branches, one after another: null, text alone, full, as many as it has."""
        if guidance.branches == 1:
            return context
        empty = self.get_buffer("empty") if self.t5 is None else self.t5.read([""]).states[0]
        text = (context.of_text(),) if guidance.branches > 2 else ()
        return _joined((context.of_nothing(empty), *text, context))

    def _predict(
        self,
        latents: Float[Tensor, "sample channel height width"],
        timesteps: Int[Tensor, "*sample"],
        context: Context,
    ) -> Float[Tensor, "sample channel height width"]:
        """What the U-Net says; its context is of this timestep."""
        branches = [
            Assembled(self._branch(condition), tokens, scale)
            for condition, tokens, scale in zip(self.config.conditions, context.tokens, context.scales, strict=True)
        ]
        seen = self.ella(context.text, timesteps, partial(assemble, branches))
        dtype = self.unet.conv_in.weight.dtype
        predicted: Tensor = self.unet(
            latents.to(dtype), timesteps, encoder_hidden_states=seen.to(dtype), return_dict=False
        )[0]
        return predicted

    def _branch(self, condition: EmmaCondition) -> Branch:
        branch = self.branches[condition.name]
        assert isinstance(branch, Branch)
        return branch

    def _check_count(self, conditions: Conditions) -> None:
        names = [each.name for each in self.config.conditions]
        reads = f"one each for {', '.join(names)}, in this order" if names else "none"
        for prompt in conditions.prompts:
            if len(prompt.references) > len(names):
                said = shorten(prompt.interleaved.render(), 60, placeholder=" …")
                raise ValueError(
                    f"the prompt {said!r} shows {len(prompt.references)} pictures, but this model reads {reads}: leave "
                    "the others out, or put runs together with `python -m training compose`"
                )

    def _refuse_cut(self, conditions: Conditions, context: Context) -> None:
        for prompt, is_cut in zip(conditions.prompts, context.is_cut.tolist(), strict=True):
            if is_cut:
                said = shorten(prompt.text, 60, placeholder=" …")
                raise ValueError(
                    f"the prompt {said!r} is longer than the {self.config.text.length} tokens that are read: shorten it"
                )

    def _t5(self) -> T5Text:
        """The text encoder; a published one from the first time it is needed."""
        if self.t5 is not None:
            return self.t5
        if "t5" not in self._outside:
            self._outside["t5"] = self.config.text.build(self._loads, self._device)
        found: T5Text = self._outside["t5"]
        return found

    def _clip(self, condition: EmmaCondition) -> ClipPictures:
        """The condition's CLIP, from the first time it is needed; conditions of the same one share it."""
        assert condition.encoder is not None
        if condition.encoder not in self._outside:
            self._outside[condition.encoder] = load_clip_pictures(condition.encoder, self._device, self._loads)
        found: ClipPictures = self._outside[condition.encoder]
        return found
