"""What holds for every stage there is."""

import typing
from dataclasses import fields, is_dataclass
from types import NoneType
from typing import Any

import pytest

from manifests.record import Record, Subject
from pipeline.actor import ENGINE_REASONS
from stages import STAGES
from stages.base import Stage

AnyStage = type[Stage[Any, Any]]

every_stage = pytest.mark.parametrize("stage", STAGES.values(), ids=STAGES.keys())


def hints(cls: type[Any]) -> dict[str, Any]:
    return typing.get_type_hints(cls)


def without_none(hint: Any) -> Any:
    arms = [arm for arm in typing.get_args(hint) if arm is not NoneType]
    return arms[0] if NoneType in typing.get_args(hint) else hint


@every_stage
@pytest.mark.parametrize("side", ["In", "Out"])
def test_views_are_frozen_slotted_parts_of_a_record(stage: AnyStage, side: str) -> None:
    view = getattr(stage, side)
    assert is_dataclass(view) and view.__dataclass_params__.frozen and hasattr(view, "__slots__")
    record = hints(Record)
    for name, hint in hints(view).items():
        assert hint == record[name] or hint == without_none(record[name]), f"{stage.__name__}.{side}.{name}"


@every_stage
def test_parts_of_subjects_exist_and_are_declared_with_subjects(stage: AnyStage) -> None:
    known = {field.name for field in fields(Subject)}
    assert stage.reads_of_subjects <= known and stage.writes_to_subjects <= known
    assert not stage.reads_of_subjects or "subjects" in hints(stage.In)
    assert not stage.writes_to_subjects or "subjects" in hints(stage.Out)


@every_stage
def test_parameters_have_defaults_and_say_what_they_do(stage: AnyStage) -> None:
    stage.Params()
    for name, field in stage.Params.model_fields.items():
        assert field.description, f"{stage.__name__}.{name}"


@every_stage
def test_reasons_are_stable_words_with_a_sentence_each(stage: AnyStage) -> None:
    for reason, meaning in stage.reasons.items():
        assert reason.replace("_", "a").isalnum() and reason.islower()
        assert meaning[0].isupper() and meaning.endswith("."), meaning
        assert reason not in ENGINE_REASONS


@every_stage
def test_the_docstring_begins_with_one_sentence(stage: AnyStage) -> None:
    assert stage.__doc__ and stage.__doc__.splitlines()[0].endswith((".", ","))
