"""Runs of the toy in this process."""

import dataclasses
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from tests.training.fit.processes import equal, lines, saved_steps, tensors_of
from tests.training.fit.toy import LORA, ToyConfig, toy_recipe, toy_settings
from training.config import Group, Schedule, SkipRule
from training.families.base import Family
from training.fit.checkpoint import committed, read_notes
from training.fit.fit import FitSettings, accumulation, assemble, open_stream, run_fit
from training.fit.loop import DivergedError, Fit
from training.fit.made_with import made_with
from training.fit.runs import RunError, open_run, read_start
from training.fit.world import joined
from training.stream.tensors import BatchTensors
from training.stream.world import World

CPU = torch.device("cpu")

HOLD = """
import sys, time
from pathlib import Path
from training.fit.lock import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def begin(data: Path, tmp_path: Path) -> Iterator[Callable[..., Fit]]:
    """Makes a run, ready for its first step."""
    with joined(CPU) as world:
        streams = []

        def make(**changes: Any) -> Fit:
            settings = toy_settings(data, tmp_path / "run", toy_recipe(**changes))
            streams.append(open_stream(settings, world, CPU))
            return assemble(settings, streams[-1], CPU)

        yield make
        for stream in streams:
            stream.close()


@pytest.fixture(scope="module")
def finished(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the toy to its end."""
    out = tmp_path_factory.mktemp("finished") / "run"
    run_fit(toy_settings(data, out))
    return out


def weights(family: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in family.named_parameters()}


def test_one_batch_is_learnt_by_heart(begin: Callable[..., Fit]) -> None:
    fit = begin(steps=1000, batch_size=2)
    batch = next(fit.stream)
    totals = []
    for _ in range(300):
        tensors = fit.tensors_of(batch)
        totals.append(float(fit.backward(tensors, 0).total))
        fit.move()
    assert totals[0] > 1
    assert totals[-1] < 0.1 * totals[0]


def test_what_is_frozen_stays_and_all_that_trains_has_a_gradient_and_moves(begin: Callable[..., Fit]) -> None:
    fit = begin()
    before = weights(fit.family)
    fit.backward(fit.tensors_of(next(fit.stream)), 0)
    for name, parameter in fit.family.named_parameters():
        assert (parameter.grad is None) == name.startswith("encoder.")
        assert parameter.grad is None or parameter.grad.abs().max() > 0
    fit.move()
    moved = {name for name, value in weights(fit.family).items() if not torch.equal(value, before[name])}
    assert moved == {name for name in before if not name.startswith("encoder.")}


def test_frozen_parts_work_as_after_training(begin: Callable[..., Fit]) -> None:
    family = begin().family
    assert family.blocks[0].dropout.training
    assert not family.encoder[1].training


@pytest.mark.parametrize("micro_batch", [1, 3])
def test_accumulation_changes_nothing(
    begin: Callable[..., Fit], finished: Path, data: Path, tmp_path: Path, micro_batch: int
) -> None:
    """But the order of sums: some roundings of float32 over six steps."""
    run_fit(toy_settings(data, tmp_path / "parts", toy_recipe(micro_batch=micro_batch)))
    whole, parts = tensors_of(finished), tensors_of(tmp_path / "parts")
    assert all(torch.allclose(parts[name], whole[name], atol=1e-6) for name in whole)


@pytest.mark.parametrize(
    ("batch_size", "micro_batch", "size", "parts"),
    [(8, 8, 1, 1), (8, 3, 1, 4), (12, 4, 1, 3), (12, 5, 2, 2), (7, 3, 1, 7)],
)
def test_parts_are_the_fewest_that_are_equal(batch_size: int, micro_batch: int, size: int, parts: int) -> None:
    assert accumulation(toy_recipe(batch_size=batch_size, micro_batch=micro_batch), size) == parts


def test_a_batch_that_ranks_cannot_share_is_refused_with_sizes_that_would_do() -> None:
    with pytest.raises(ValueError, match=r"a global batch of 8 can't be shared by 3 ranks; .* \[1, 2, 4, 8\]"):
        accumulation(toy_recipe(), 3)


def test_a_run_that_goes_on_is_the_run_that_was_never_stopped(finished: Path, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    run_fit(toy_settings(data, out, toy_recipe(steps=3)))
    run_fit(toy_settings(data, out, resume="yes"))
    assert equal(tensors_of(out), tensors_of(finished))
    assert [line["loss"] for line in lines(out)] == [line["loss"] for line in lines(finished)]


def test_a_run_that_reader_processes_feed_is_the_same_run(finished: Path, data: Path, tmp_path: Path) -> None:
    settings = toy_settings(data, tmp_path / "run")
    run_fit(replace(settings, options=replace(settings.options, readers=2)))
    assert equal(tensors_of(tmp_path / "run"), tensors_of(finished))


def test_random_draws_of_torch_go_on_too(data: Path, tmp_path: Path) -> None:
    changes = {"dropout": 0.5, "schedule": Schedule(kind="cosine", warmup=2)}
    run_fit(toy_settings(data, tmp_path / "whole", toy_recipe(**changes)))
    run_fit(toy_settings(data, tmp_path / "parts", toy_recipe(**changes)))
    (tmp_path / "parts" / "checkpoints" / "step_00000006" / "COMMIT").unlink()
    run_fit(toy_settings(data, tmp_path / "parts", toy_recipe(**changes), resume="if_any"))
    assert equal(tensors_of(tmp_path / "whole"), tensors_of(tmp_path / "parts"))


def test_bfloat16_computes_coarsely_and_keeps_float32(finished: Path, data: Path, tmp_path: Path) -> None:
    run_fit(toy_settings(data, tmp_path / "run", toy_recipe(precision="bfloat16", recompute=True)))
    coarse, fine = tensors_of(tmp_path / "run"), tensors_of(finished)
    distance = max(float((coarse[name] - fine[name]).abs().max()) for name in fine if name.startswith("weights."))
    assert 1e-6 < distance < 0.05
    assert {value.dtype for value in coarse.values()} == {torch.float32}


def test_the_log_has_terms_norms_rates_and_waits(finished: Path) -> None:
    rows = lines(finished)
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5, 6]
    for row in rows:
        assert row["loss"] == pytest.approx(row["error"] + 0.01 * row["size"], rel=1e-5)
        assert (row["lr/0"], row["skipped"]) == (3e-3, 0)
        assert row["grad_norm"] > 0 and row["samples_per_s"] > 0
        assert 0 <= row["data_wait"] <= 1


def test_steps_that_cannot_be_taken_are_skipped_and_stop_the_run_in_the_end(data: Path, tmp_path: Path) -> None:
    out, recipe = tmp_path / "run", toy_recipe(poison=2, skip=SkipRule(most=3), save_every=1)
    with pytest.raises(DivergedError) as caught:
        run_fit(toy_settings(data, out, recipe))
    assert "step 4: 3 steps in a row could not be taken" in str(caught.value)
    assert "norm is nan" in str(caught.value) and "loss nan" in str(caught.value) and "error " in str(caught.value)
    assert str(caught.value).count("drawn_") == 8
    assert [line["skipped"] for line in lines(out)] == [0, 0, 1, 2]
    assert equal(only(tensors_of(out, 2), "weights."), only(tensors_of(out, 4), "weights."))
    with pytest.raises(DivergedError, match="step 4: 3 steps"):
        run_fit(toy_settings(data, out, recipe, resume="yes"))


def only(tensors: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {name: value for name, value in tensors.items() if name.startswith(prefix)}


def test_samples_are_drawn_from_the_averages_and_training_does_not_notice(
    begin: Callable[..., Fit], finished: Path
) -> None:
    fit, drawn = begin(sample_every=3), []

    def draw(family: Family, tensors: BatchTensors, step: int) -> None:
        assert fit.ema is not None
        drawn.append((step, len(tensors.batch), family.training))
        now = dict(family.named_parameters())
        assert all(torch.equal(now[name], value) for name, value in averages.items())

    averages: dict[str, torch.Tensor] = {}
    fit.draw = draw
    swapped = fit.ema.swapped
    fit.ema.swapped = lambda: averages.update({k: v.clone() for k, v in fit.ema.averages.items()}) or swapped()
    fit.run()
    assert drawn == [(3, 8, False), (6, 8, False)]
    assert equal(tensors_of(fit.checkpoints.folder.parent), tensors_of(finished))


def test_grids_of_all_steps_and_of_a_run_gone_on_with_show_the_first_batch(data: Path, tmp_path: Path) -> None:
    shown: list[tuple[int, tuple[str, ...]]] = []

    def draw(family: Family, tensors: BatchTensors, step: int) -> None:
        shown.append((step, tensors.batch.keys))

    for steps in (2, 4):
        settings = toy_settings(data, tmp_path / "run", toy_recipe(sample_every=1, steps=steps), resume="if_any")
        run_fit(settings, draw)
    assert [step for step, _ in shown] == [1, 2, 3, 4]
    with open_stream(settings, World(), torch.device("cpu")) as stream:
        assert {keys for _, keys in shown} == {next(stream).keys}


def test_a_finished_run_is_opened_with_its_averages_or_its_last_weights(finished: Path) -> None:
    tensors = tensors_of(finished)
    for is_averaged, prefix in ((True, "ema."), (False, "weights.")):
        recipe, family = open_run(finished, ema=is_averaged, recipe=toy_recipe())
        assert recipe == toy_recipe()
        assert not family.training
        held = dict(family.named_parameters())
        assert all(torch.equal(held[name.removeprefix(prefix)], each) for name, each in only(tensors, prefix).items())
    _, early = open_run(finished, step=2, recipe=toy_recipe())
    assert not torch.equal(dict(early.named_parameters())["head.weight"], held["head.weight"])


def test_a_new_run_begins_with_anothers_averages_and_keeps_those_it_freezes(
    finished: Path, data: Path, tmp_path: Path
) -> None:
    """What the other run trained is in the new run's checkpoints even where it is frozen there."""
    head = (Group(names="head.*", mode="full", lr=1e-3),)
    recipe, out = toy_recipe(groups=head, steps=2), tmp_path / "run"
    run_fit(toy_settings(data, out, recipe, start_from=finished))
    before, after = tensors_of(finished), tensors_of(out)
    assert torch.equal(after["weights.inward.weight"], before["ema.inward.weight"])
    assert not torch.equal(after["weights.head.weight"], before["ema.head.weight"])
    longer = dataclasses.replace(recipe, steps=4)
    run_fit(toy_settings(data, out, longer, start_from=finished, resume="if_any"))
    _, family = open_run(out, recipe=longer)
    assert torch.equal(dict(family.named_parameters())["inward.weight"], before["ema.inward.weight"])
    assert "weights.inward.weight" in tensors_of(out)


def test_a_run_that_ended_before_its_first_checkpoint_begins_with_the_same_weights_again(
    finished: Path, data: Path, tmp_path: Path
) -> None:
    out, recipe = tmp_path / "run", toy_recipe(steps=2)
    run_fit(toy_settings(data, out, recipe, start_from=finished))
    whole = tensors_of(out)
    shutil.rmtree(out / "checkpoints")
    run_fit(toy_settings(data, out, recipe, resume="yes"))
    assert equal(tensors_of(out), whole)
    longer = toy_recipe(steps=3)
    run_fit(toy_settings(data, out, longer, resume="yes", start_from=tmp_path / "nothing"))
    assert read_start(out) == finished.resolve(), "once there is a checkpoint, it is what the run goes on from"


def test_updates_are_put_upon_what_another_run_trained_in_full(finished: Path, data: Path, tmp_path: Path) -> None:
    recipe = toy_recipe(groups=LORA, steps=1)
    run_fit(toy_settings(data, tmp_path / "run", recipe, start_from=finished))
    _, family = open_run(tmp_path / "run", recipe=recipe)
    base = dict(family.named_parameters())["blocks.0.up.base_layer.weight"]
    assert torch.equal(base, tensors_of(finished)["ema.blocks.0.up.weight"])


def refused(settings: FitSettings) -> str:
    with pytest.raises(ValueError) as caught:
        run_fit(settings)
    return str(caught.value)


def test_a_run_that_may_not_begin_says_why_and_writes_nothing(finished: Path, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert refused(toy_settings(data, finished)).endswith(
        "already holds a run; --resume goes on with it, or give another --out"
    )
    assert "is no run of training: there is no recipe.json in it" in refused(toy_settings(data, out, resume="yes"))
    changed = toy_recipe(steps=9, micro_batch=2, width=8, ema=0.5)
    message = refused(toy_settings(data, finished, changed, resume="yes"))
    assert "is a run of another recipe:\n  ema: 0.9 -> 0.5\n  family.width: 16 -> 8\nUndo" in message
    named = refused(toy_settings(data, finished, dataclasses.replace(changed, name="other"), resume="yes"))
    assert named.endswith(f"is a run of the recipe {changed.name!r}, not of 'other': give that, or another --out")
    assert "no parameter is called 'unet.*'" in refused(
        toy_settings(data, out, toy_recipe(groups=(Group(names="unet.*", mode="full", lr=1.0),)))
    )
    assert "no whole checkpoint" in refused(toy_settings(data, out, start_from=data))
    assert "ema.blocks.0.down.bias is (16,), not (8,) as wanted here" in refused(
        toy_settings(data, out, toy_recipe(width=8), start_from=finished)
    )
    updates = toy_settings(data, tmp_path / "updates", toy_recipe(groups=LORA, steps=1))
    run_fit(updates)
    message = refused(toy_settings(data, out, start_from=updates.out))
    assert "holds blocks.0.down.lora_A.default.weight, which the recipe's family has not; it has blocks.0." in message
    assert message.endswith("; keep the lora group that it is of")
    assert not list(out.glob("*.json")) and saved_steps(out) == []


def test_a_folder_is_trained_into_by_one_process_at_a_time(
    finished: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("training.fit.lock._PATIENCE_S", 0.5)
    out = shutil.copytree(finished, tmp_path / "run")
    other = subprocess.Popen([sys.executable, "-c", HOLD, str(out)], stdout=subprocess.PIPE, text=True)
    try:
        assert other.stdout and other.stdout.readline() == "held\n"
        settings = toy_settings(data, out, toy_recipe(steps=8), resume="yes")
        assert f"{out}: another process trains into it now" in refused(settings)
        other.kill()
        other.wait()
        run_fit(settings)
    finally:
        other.kill()
        other.communicate()
    assert saved_steps(out)[-1] == 8


def test_a_run_that_is_further_than_it_is_asked_to_go_keeps_its_recipe(
    finished: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = shutil.copytree(finished, tmp_path / "run")
    held, steps = (out / "recipe.json").read_bytes(), saved_steps(out)

    run_fit(replace(toy_settings(data, out, toy_recipe(steps=1), resume="yes"), show=True))

    assert "nothing is left to do" in capsys.readouterr().err
    assert ((out / "recipe.json").read_bytes(), saved_steps(out)) == (held, steps)


def test_a_schedule_that_another_number_of_steps_bends_is_told(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def told(kind: str, steps: int) -> bool:
        recipe = toy_recipe(steps=steps, schedule=Schedule(kind=kind))
        run_fit(toy_settings(data, tmp_path / kind, recipe, resume="if_any", show=True))
        return f"steps are {steps} now and were 2: the learning rates fall to 0" in capsys.readouterr().err

    assert [told("cosine", steps) for steps in (2, 2, 4, 4)] == [False, False, True, False]
    assert [told("constant", steps) for steps in (2, 4)] == [False, False]


def test_going_on_with_other_packages_than_the_checkpoints_is_told(
    finished: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    newest = committed(finished / "checkpoints")[-1]
    assert read_notes(newest, "ToyConfig").versions["torch"] == torch.__version__
    settings = replace(toy_settings(data, shutil.copytree(finished, tmp_path / "run"), resume="yes"), show=True)
    run_fit(settings)
    assert "packages are not" not in capsys.readouterr().err
    later = {**made_with(), "torch": "9.0"}
    monkeypatch.setattr("training.fit.made_with.versions", lambda _: later)
    run_fit(settings)
    assert f"packages are not those of the checkpoint (torch {torch.__version__} -> 9.0)" in capsys.readouterr().err


def test_a_run_is_not_opened_as_what_it_is_not(finished: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="has no checkpoint at step 3; there are 2, 4, 6"):
        open_run(finished, step=3, recipe=toy_recipe())
    with pytest.raises(ValueError, match="there is no ToyConfig here"):
        open_run(finished)
    other = dataclasses.replace(toy_recipe(), family=OtherConfig())
    with pytest.raises(ValueError, match="a checkpoint of ToyConfig, but the recipe trains OtherConfig"):
        open_run(finished, recipe=other)
    (tmp_path / "recipe.json").write_text(json.dumps({"version": 2}))
    with pytest.raises(ValueError, match="version 2 of a newer Inlay"):
        open_run(tmp_path)


class OtherConfig(ToyConfig):
    pass
