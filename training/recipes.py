"""The recipes: one function a run."""

from collections.abc import Callable, Mapping

from training.config import Group, Lora, Optimiser, Recipe, Schedule, SkipRule
from training.families.base import SampleConfig
from training.recipe_emma import EMMA, EMMA_TYPES
from training.recipe_lambda_eclipse import LAMBDA_ECLIPSE, LAMBDA_ECLIPSE_TYPES
from training.recipe_mumu import MUMU, MUMU_TYPES
from training.recipe_unimo_g import UNIMO_G, UNIMO_G_TYPES
from training.stream.buckets import Buckets
from training.stream.prompts.emma import Emma
from training.stream.prompts.lambda_eclipse import LambdaEclipse
from training.stream.prompts.mumu import Augment, Mumu
from training.stream.prompts.plain import Plain
from training.stream.prompts.unimo_g import UnimoG
from training.stream.recipe import StreamRecipe
from training.weights import Weights

RECIPES: Mapping[str, Callable[[], Recipe]] = {
    **{recipe.__name__: recipe for recipe in (*UNIMO_G, *LAMBDA_ECLIPSE, *MUMU, *EMMA)},
}
"""By the name that ``--recipe`` takes."""

_SHARED = (Recipe, Group, Lora, Optimiser, Schedule, SkipRule, SampleConfig, Weights)
_STREAM = (StreamRecipe, Buckets, Augment, Plain, LambdaEclipse, Mumu, UnimoG, Emma)
_FAMILIES: tuple[type, ...] = (*UNIMO_G_TYPES, *LAMBDA_ECLIPSE_TYPES, *MUMU_TYPES, *EMMA_TYPES)

TYPES: Mapping[str, type] = {made.__name__: made for made in (*_SHARED, *_STREAM, *_FAMILIES)}
"""By name, the dataclasses that a recipe may be made of, as a run's folder keeps it."""
