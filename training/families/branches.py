"""Guidance as it is asked for, and the prompts of its branches where they lead away from an empty one."""

from dataclasses import replace

from manifests.prompt import InterleavedPrompt, TextSegment
from training.diffusion.sampler import Guidance
from training.families.base import Conditions, SampleConfig
from training.stream.prompts.base import Prompt


def guidance_of(config: SampleConfig, usual: float) -> Guidance:
    """The guidance that is asked for; where no scale is, that of a family's ``usual`` one.

    Raises:
        ValueError: If a scale is out of range.
    """
    scale = usual if config.guidance_scale is None else config.guidance_scale
    return Guidance(scale=scale, image_scale=config.image_guidance_scale)


def in_branches(conditions: Conditions, guidance: Guidance) -> Conditions:
    """The conditions of guidance's branches, one after another: null, text alone, full, as many as it has."""
    empty = Prompt(interleaved=InterleavedPrompt(()), caption="")
    nothing = replace(conditions, prompts=(empty,) * len(conditions), references=((),) * len(conditions))
    text = replace(nothing, prompts=tuple(without_images(prompt) for prompt in conditions.prompts))
    branches = {1: (conditions,), 2: (nothing, conditions), 3: (nothing, text, conditions)}[guidance.branches]
    return Conditions(
        prompts=tuple(prompt for branch in branches for prompt in branch.prompts),
        references=tuple(row for branch in branches for row in branch.references),
        features={},
    )


def without_images(prompt: Prompt) -> Prompt:
    """The prompt in words alone: each image is its phrase again, or nothing if it has none."""
    caption = prompt.interleaved.caption
    segments = (TextSegment(caption),) if caption else ()
    return Prompt(interleaved=InterleavedPrompt(segments), caption=caption)
