"""λ-ECLIPSE: a prior in CLIP's space that reads text whose nouns are pictures, and Kandinsky 2.2, which draws.

Source: Patel et al. 2024, "λ-ECLIPSE: Multi-Concept Personalized Text-to-Image Diffusion Models by Leveraging CLIP
Latent Space", and its released code. Where both are silent, what is done here is ours and says so.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from textwrap import shorten
from typing import Any, Literal, TypeAlias

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from manifests.prompt import Insertion
from manifests.record import Span
from training.diffusion.objective import diffuse, squared_error
from training.diffusion.sampler import sample_latents, set_steps
from training.diffusion.schedule import NoiseSchedule
from training.encoders.clip import Clip, load_clip, load_clip_config, load_clip_tokenizer
from training.encoders.clip_features import ClipFeatures, Read
from training.encoders.no_picture import no_picture
from training.families.base import Conditions, Losses, SampleConfig, conditions_of
from training.families.branches import guidance_of
from training.modules.autoencoder import Pixels, latent_shape, size_of
from training.modules.kandinsky import (
    KandinskySource,
    Movq,
    MovqSource,
    build_kandinsky,
    build_movq,
    check_size,
    predict,
)
from training.modules.overwrite import Match, TokenisedText, overwrite, padded, places, tokenise
from training.modules.prior import Prior, PriorSizes
from training.modules.prior_loss import PriorLoss, prior_terms
from training.modules.prior_weights import load_prior
from training.noise import Noise
from training.stream.tensors import BatchTensors
from training.weights import Weights

Learns: TypeAlias = Literal["prior", "decoder", "both"]
"""``prior``: Eq. 1. ``decoder``: Eq. 2. ``both``: side by side, each with parameters of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoder:
    """How vectors become pictures.

    Attributes:
        unet: Kandinsky's.
        movq: What latents are.
        size: Width and height of pictures if none is asked for, pixels.
        schedule: Of noise. Source: Kandinsky 2.2's published scheduler.
        steps: Of DDIM, if no number is asked for. Source: section 4.
        guidance_scale: If none is asked for. Source: section 4.
        drop_rate: How often the vector gives way to that of no picture while the decoder learns. 0 there, as it learns
            one concept on top of Kandinsky; a decoder that learns from nothing needs some, to be guided.
    """

    unet: KandinskySource
    movq: MovqSource
    size: tuple[int, int]
    schedule: NoiseSchedule = field(default_factory=lambda: NoiseSchedule(kind="linear"))
    steps: int = 50
    guidance_scale: float = 7.5
    drop_rate: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LambdaEclipseConfig:
    """λ-ECLIPSE's sizes and choices.

    Attributes:
        prior: Its sizes.
        prior_weights: A folder or a hub's repository with the prior's safetensors; ``None``: fresh.
        clip: Its encoders. In training from features only the tokenizer and the vector of no picture are taken of it.
        network: Middle of the features' names, as in the stream's recipe.
        decoder: How pictures are drawn.
        learns: What is trained.
        loss: Of the prior.
        match: How nouns are found among tokens.
    """

    prior: PriorSizes
    prior_weights: Weights | None
    clip: Weights
    network: str
    decoder: Decoder
    learns: Learns
    loss: PriorLoss = field(default_factory=PriorLoss)
    match: Match = "span"

    @property
    def sees_targets(self) -> bool:
        """The decoder does."""
        return self.learns != "prior"

    @property
    def contrasts_samples(self) -> bool:
        """The prior's loss does, by Eq. 1's second term."""
        return self.learns != "decoder" and self.loss.contrastive_weight > 0

    def build(self, *, load: bool = True) -> "LambdaEclipse":
        """The family; the decoder is put off until it is needed, unless it learns.

        Raises:
            ValueError: If parts don't fit each other.
            OSError: If weights are not there.
        """
        return LambdaEclipse(self, load)


class LambdaEclipse(nn.Module):
    """The family. Names of its parameters begin with ``prior``, ``unet`` or ``movq``."""

    insertion: Insertion = "feature"

    def __init__(self, config: LambdaEclipseConfig, load: bool) -> None:
        super().__init__()
        self.config = config
        self.prior = Prior(config.prior)
        if config.prior_weights is not None and load:
            load_prior(self.prior, config.prior_weights)
        self.scheduler = config.decoder.schedule.ddim()
        self.unet: Any = None
        self.movq: Movq | Pixels | None = None
        self.tokenizer: Any = load_clip_tokenizer(config.clip) if load else None
        self._outside: list[Clip] = []  # no submodule: it is not trained, sharded or saved
        self._loads = load
        self.register_buffer("no_picture", torch.zeros(config.prior.dim), persistent=False)
        if config.learns != "prior":
            self._add_decoder(load)
        if load:
            self._take_from_clip()

    def forward(self, tensors: BatchTensors, noise: Noise) -> Losses:
        """``projection`` and ``contrastive`` (Eq. 1) where the prior learns, ``eps`` (Eq. 2) where the decoder does.

        ``cut`` is the share of captions that were too long.

        Raises:
            ValueError: If the prior learns and features are missing, or are of another width.
        """
        features = self._kept(tensors)
        target = self._target(tensors, features)
        terms: dict[str, Tensor] = {}
        total = target.new_zeros(())
        if self.config.learns != "decoder":
            read = self._read(features, self._tokenised(features.conditions))
            terms |= prior_terms(self._project(read, noise), target, read.pooled, self.config.loss)
            terms["cut"] = target.new_tensor(read.cut)
            total = terms["projection"] + self.config.loss.contrastive_weight * terms["contrastive"]
        if self.config.learns != "prior":
            terms["eps"] = self._denoising_loss(tensors.images, target, noise)
            total = total + terms["eps"]
        return Losses(total=total, terms={name: term.detach() for name, term in terms.items()})

    @torch.no_grad()
    def sample(
        self, conditions: Conditions, config: SampleConfig, first: int = 0
    ) -> UInt8[Tensor, "picture height width 3"]:
        """Pictures: one pass of the prior, then the decoder by DDIM.

        Raises:
            ValueError: If steps, scale or size are out of range, or a noun can't be overwritten.
        """
        noise = Noise(config.seed, 0, range(first, first + len(conditions)))
        return self.decode(self.vectors(conditions, noise, bool(config.cuts)), config, first)

    @torch.no_grad()
    def vectors(self, conditions: Conditions, noise: Noise, cuts: bool = False) -> Float[Tensor, "picture dim"]:
        """CLIP vectors of the pictures that are to be drawn.

        Args:
            conditions: Prompts.
            noise: One vector each.
            cuts: Take what is read of texts that are too long; nouns that are not overwritten are read as words.

        Raises:
            ValueError: If a text is too long and not to be cut, or a noun is not among its tokens.
        """
        texts = self._tokenised(conditions)
        if not cuts:
            self._check(conditions, texts)
        return self._project(self._read(self._features(conditions, self._clip), texts), noise)

    @torch.no_grad()
    def decode(
        self, vectors: Float[Tensor, "picture dim"], config: SampleConfig, first: int = 0
    ) -> UInt8[Tensor, "picture height width 3"]:
        """Pictures of CLIP vectors; they are guided away from the vector of no picture.

        Raises:
            ValueError: If steps, scale or size are out of range, or guidance of images apart is asked for.
        """
        if config.image_guidance_scale is not None:
            raise ValueError("λ-ECLIPSE draws from one vector: its images can't be guided apart from its text")
        chosen = self.config.decoder
        guidance = guidance_of(config, chosen.guidance_scale)
        unet, movq = self._decoder()
        device = vectors.device
        scheduler = set_steps(self.scheduler, chosen.steps if config.steps is None else config.steps, device)
        size = chosen.size if config.size is None else config.size
        check_size(unet, movq, size)
        shape = latent_shape(movq, size)
        null = self._no_picture(vectors).expand_as(vectors)
        seen = torch.cat([null, vectors] if guidance.branches > 1 else [vectors])
        denoise = guidance.apply(lambda latents, timestep: predict(unet, latents, timestep, seen))
        noise = Noise(config.seed, 0, range(first, first + len(vectors)))
        return movq.decode(sample_latents(denoise, scheduler, noise, shape, device))

    def doubt(self) -> str | None:
        """Whether the prior never learnt, in words: its positions, which all begin as 0, are still that."""
        if self.prior.positional_embedding.any():
            return None
        return (
            "this run's prior never learnt, so that its pictures follow no prompt: begin the run with the prior's, by "
            "--start-from, or name prior_weights in its recipe"
        )

    def units(self) -> Sequence[nn.Module]:
        """Blocks of the prior, and of the U-Net if it learns."""
        blocks = [] if self.unet is None else [*self.unet.down_blocks, self.unet.mid_block, *self.unet.up_blocks]
        return (*self.prior.transformer_blocks, *blocks)

    def _project(self, read: Read, noise: Noise) -> Float[Tensor, "sample dim"]:
        pooled = read.pooled
        eps = noise.normal("eps", (self.config.prior.dim,), pooled.device).to(pooled.dtype)
        vectors: Tensor = self.prior(read.states, read.mask, torch.stack([read.control, pooled, eps], 1))
        return vectors

    def _tokenised(self, conditions: Conditions) -> list[TokenisedText]:
        captions = [prompt.caption for prompt in conditions.prompts]
        self.tokenizer = self.tokenizer or load_clip_tokenizer(self.config.clip)
        return tokenise(self.tokenizer, captions, self.config.prior.text_tokens)

    def _read(self, features: ClipFeatures, texts: Sequence[TokenisedText]) -> Read:
        """Prompts as the prior sees them."""
        sizes, prompts = self.config.prior, features.conditions.prompts
        told = features.of_texts(texts)
        vectors = features.of_references().to(told.pooled.device)
        read = padded(told.states, texts, sizes.text_tokens)
        named = [(sample, reference) for sample, prompt in enumerate(prompts) for reference in prompt.references]
        controls = {sample: number for number, (sample, reference) in enumerate(named) if reference.role == "control"}
        found = {
            (sample, place): number
            for number, (sample, reference) in enumerate(named)
            if reference.role != "control"
            for place in self._places(texts[sample], reference.span)
        }
        control = self._no_picture(told.pooled).repeat(len(prompts), 1)
        control[list(controls)] = vectors[list(controls.values())]
        cut = sum(text.is_cut for text in texts) / len(texts)
        return Read(overwrite(read.states, found, vectors), read.mask, told.pooled, control, cut)

    def _check(self, conditions: Conditions, texts: Sequence[TokenisedText]) -> None:
        """Say what the prior would not be told; in training such a noun is read as the word that it is."""
        limit = self.config.prior.text_tokens
        for text, prompt in zip(texts, conditions.prompts, strict=True):
            if text.is_cut:
                said = shorten(text.text, 60, placeholder=" …")
                raise ValueError(f"the prompt {said!r} is longer than the {limit} tokens that are read: shorten it")
            for reference in prompt.references:
                if reference.role != "control" and not self._places(text, reference.span):
                    raise ValueError(
                        f"{text.text!r}: picture {reference.name} goes with no word; put its slot before its noun, or "
                        "name the noun in the slot"
                    )

    def _places(self, text: TokenisedText, span: Span | None) -> tuple[int, ...]:
        return () if span is None else places(text, span, self.config.match, self.tokenizer)

    def _features(self, conditions: Conditions, clip: Callable[[], Clip]) -> ClipFeatures:
        return ClipFeatures(conditions, self.config.network, self.config.prior.dim, clip)

    def _kept(self, tensors: BatchTensors) -> ClipFeatures:
        """Features as the engine kept them; the encoders are asked about nothing."""

        def refuse() -> Clip:
            raise ValueError(
                f"the prior learns from features, and {tensors.batch.keys[0]} has not all of the caption's, the "
                f"image's and the subjects' of {self.config.network}, only {sorted(tensors.features)}: let embed nodes "
                "of the manifest make them, and name their network in the recipe"
            )

        return self._features(conditions_of(tensors), refuse)

    def _target(self, tensors: BatchTensors, features: ClipFeatures) -> Float[Tensor, "sample dim"]:
        """The vectors of the pictures themselves."""
        kept = tensors.features.get(f"image_{self.config.network}_vector")
        if kept is not None:
            return features.stacked(kept)
        clip = self._clip() if self.config.learns == "decoder" else features.clip()
        return clip.see(list(tensors.images)).to(tensors.images.device)

    def _denoising_loss(
        self, images: UInt8[Tensor, "sample height width 3"], vectors: Float[Tensor, "sample dim"], noise: Noise
    ) -> Float[Tensor, ""]:
        """Eq. 2; some vectors give way to that of no picture, so that there is something to guide away from."""
        unet, movq = self._decoder()
        check_size(unet, movq, size_of(images))
        diffused = diffuse(movq.encode(images, noise), noise, self.scheduler)
        drop = noise.uniform("drop", (), images.device) < self.config.decoder.drop_rate
        seen = torch.where(drop[:, None], self._no_picture(vectors), vectors)
        said = predict(unet, diffused.latents, diffused.timesteps, seen)
        return squared_error(said, diffused.target).mean()

    def _no_picture(self, like: Tensor) -> Float[Tensor, " dim"]:
        return self.get_buffer("no_picture").to(like)

    def _decoder(self) -> tuple[Any, Movq | Pixels]:
        if self.movq is None:
            self._add_decoder(load=True)
            for part in (self.get_submodule("unet"), self.get_submodule("movq")):
                part.requires_grad_(False).eval().to(self.get_buffer("no_picture").device)
        assert self.movq is not None
        return self.unet, self.movq

    def _add_decoder(self, load: bool) -> None:
        decoder, dim = self.config.decoder, self.config.prior.dim
        self.unet, self.movq = build_kandinsky(decoder.unet, load), build_movq(decoder.movq, load)
        if self.unet.config.in_channels != self.movq.channels or self.unet.config.encoder_hid_dim != dim:
            raise ValueError(
                f"the decoder takes vectors of {self.unet.config.encoder_hid_dim} and latents of "
                f"{self.unet.config.in_channels} channels; the prior makes vectors of {dim}, the autoencoder latents "
                f"of {self.movq.channels} channels"
            )

    def _take_from_clip(self) -> None:
        config = load_clip_config(self.config.clip)
        dim, tokens = config.projection_dim, config.text_config.max_position_embeddings
        if dim != self.config.prior.dim or tokens < self.config.prior.text_tokens:
            raise ValueError(
                f"{self.config.clip.name} has vectors of {dim} and {tokens} tokens; the prior has "
                f"{self.config.prior.dim} and {self.config.prior.text_tokens}"
            )
        self.get_buffer("no_picture").copy_(no_picture(self.config.clip))

    def _clip(self) -> Clip:
        """The encoders, from the first time they are needed."""
        if not self._outside:
            self._outside.append(load_clip(self.config.clip, self.get_buffer("no_picture").device, self._loads))
        return self._outside[0]
