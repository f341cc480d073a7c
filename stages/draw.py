"""Draw: a synthetic picture of each record's prompt, by SDXL."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, Protocol, Self

from pydantic import Field
from typing_extensions import override

from manifests.record import Synthesis
from stages.base import Context, Drop, Fail, ModelRef, Params, Stage
from stages.pixels import Pixels, write_jpeg, write_png

if TYPE_CHECKING:
    from stages.models.sdxl import Sdxl


@dataclass(frozen=True, slots=True, kw_only=True)
class DrawIn:
    """What ``draw`` reads."""

    synthesis: Synthesis


@dataclass(frozen=True, slots=True, kw_only=True)
class DrawOut:
    """What ``draw`` writes, as ``fetch`` would: a file, and its hex digest."""

    original: bytes
    sha256: str


class DrawParams(Params):
    """Which SDXL draws, and how."""

    model: str | None = Field(None, description="SDXL: folder or hub id in diffusers' layout, safetensors.")
    revision: str | None = Field(None, description="Commit or tag of a hub id; needed with one.")
    variant: str | None = Field(None, description="Part of its weights' file names, such as fp16.")
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="Type of all networks but the VAE; auto is bfloat16 on GPUs, float32 on CPUs."
    )
    sampler: Literal["checkpoint", "euler", "ddim"] = Field(
        "checkpoint", description="Its own scheduler, or Euler's or DDIM's with its settings."
    )
    steps: int = Field(30, ge=1, le=1000, description="Steps of the sampler.")
    guidance_scale: float = Field(5.0, ge=1, le=50, description="Classifier-free guidance; 1 is none.")
    negative_prompt: str | None = Field(
        None, description="What guidance leads away from; without it, the zero vectors that SDXL was trained with."
    )
    width: int = Field(1024, ge=64, le=4096, multiple_of=8, description="Pixels.")
    height: int = Field(1024, ge=64, le=4096, multiple_of=8, description="Pixels.")
    format: Literal["png", "jpg"] = Field("png", description="Of the file: PNG, or JPEG at quality 95.")
    images_per_call: int = Field(
        4, ge=1, le=256, description="Pictures drawn at once; calls with fewer are filled up, so that all are alike."
    )


class Artist(Protocol):
    """Draws prompts."""

    def fits(self, prompt: str) -> bool:
        """Whether it reads the whole prompt."""
        ...

    def __call__(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[Pixels | None]:
        """A picture for each prompt; ``None`` where it came to nothing. Pictures do not influence each other."""
        ...


class Draw(Stage[DrawIn, DrawOut]):
    """Draw a picture of each record's prompt, from its seed, as the file that later stages decode."""

    In, Out, Params = DrawIn, DrawOut, DrawParams
    reasons: ClassVar[Mapping[str, str]] = {
        "empty_prompt": "The prompt has no words.",
        "prompt_too_long": "The text encoders do not take the whole prompt; it is not cut.",
        "picture_not_a_number": "The networks gave no finite numbers.",
    }

    def __init__(self, params: DrawParams, artist: Artist) -> None:
        self.params = params
        self._artist = artist

    @override
    @classmethod
    def load(cls, params: DrawParams, context: Context) -> Self:
        return cls(params, _load(params, context.device))

    @override
    @classmethod
    def wants(cls, params: DrawParams) -> tuple[ModelRef, ...]:
        return (_model(params),)

    @override
    def process(self, batch: Sequence[DrawIn]) -> list[DrawOut | Drop | Fail]:
        unfit = [self._judge(record.synthesis.prompt) for record in batch]
        wanted = [record.synthesis for record, reason in zip(batch, unfit, strict=True) if not reason]
        drawn = self._artist([one.prompt for one in wanted], [one.seed for one in wanted]) if wanted else []
        pictures = iter(drawn)
        return [reason or self._out(next(pictures)) for reason in unfit]

    def _judge(self, prompt: str) -> Drop | None:
        if not prompt.strip():
            return Drop("empty_prompt")
        return None if self._artist.fits(prompt) else Drop("prompt_too_long", f"{len(prompt)} characters")

    def _out(self, pixels: Pixels | None) -> DrawOut | Fail:
        if pixels is None:
            return Fail("picture_not_a_number")
        file = (write_png(pixels) if self.params.format == "png" else write_jpeg(pixels, quality=95)).data
        return DrawOut(original=file, sha256=hashlib.sha256(file).hexdigest())


def _model(params: DrawParams) -> ModelRef:
    ending = f".{params.variant}.safetensors" if params.variant else ".safetensors"
    weights = [f"{part}/model{ending}" for part in ("text_encoder", "text_encoder_2")]
    weights += [f"{part}/diffusion_pytorch_model{ending}" for part in ("unet", "vae")]
    files = ("model_index.json", "*/*.json", "tokenizer*/merges.txt", *weights)
    return ModelRef(name=params.model, revision=params.revision, files=files)


def _load(params: DrawParams, device: str) -> "Sdxl":
    from stages.models.memory import CallSize
    from stages.models.precision import dtype_of
    from stages.models.sdxl import Drawing, Sdxl, load_sdxl

    dtype = dtype_of(params.precision, device)
    pipe = load_sdxl(_model(params), device, params.variant, params.sampler, dtype)
    drawing = Drawing(
        width=params.width,
        height=params.height,
        steps=params.steps,
        guidance_scale=params.guidance_scale,
        negative_prompt=params.negative_prompt,
    )
    return Sdxl(pipe, CallSize(params.images_per_call, "images_per_call"), drawing)
