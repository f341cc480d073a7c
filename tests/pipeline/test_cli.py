"""The command line as a user runs it: real processes, killed at will."""

import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from pipeline.ledger import Layout
from stages.pixels import write_jpeg
from tests.pipeline.processes import call, command

Sums = Callable[[Path], dict[str, str]]

MANIFEST = """
name: folder
seed: 3
source: {{kind: folder, path: {folder}, unit_rows: 2}}
nodes:
- {{id: decode, stage: decode, params: {{min_side: 32}}}}
- {{id: dedup, stage: dedup, needs: [decode]}}
- {{id: caption, stage: caption, needs: [dedup]}}
- {{id: control, stage: control, needs: [decode]}}
"""


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 40 noise pictures with captions, one of them broken, and the manifest that reads it."""
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    for number in range(40):
        pixels = rng.integers(0, 256, (48, 64, 3), np.uint8)
        (folder / f"{number:02}.jpg").write_bytes(write_jpeg(pixels).data if number != 7 else b"<html>")
        (folder / f"{number:02}.txt").write_text(f"noise number {number}")
    path = tmp_path_factory.mktemp("manifest") / "folder.yaml"
    path.write_text(MANIFEST.format(folder=folder))
    return path


def killed_after(units: int, out: Path, arguments: Sequence[object]) -> None:
    """Run and SIGKILL the driver as soon as so many units are committed."""
    process = subprocess.Popen(command(*arguments), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 120
        while len(Layout(out).committed()) < units:
            assert process.poll() is None, "it ended before it could be killed"
            assert time.monotonic() < deadline
            time.sleep(0.002)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()


def test_a_whole_run_says_what_it_did_and_can_be_verified(manifest: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = call("run", manifest, "--out", out, "--local")
    assert done.returncode == 0, done.stderr
    assert "folder: 20 of 20 units; 39 kept, 0 dropped, 1 failed" in done.stdout
    assert (out / "report" / "index.html").exists()
    assert "20 of 20 units verified, 0 mistakes" in call("verify", out).stdout
    status = call("status", out).stdout
    assert "20 of 20 units done; finished" in status and "not_an_image" in status
    again = call("run", manifest, "--out", out, "--local")
    assert again.returncode == 0 and "20 of 20 units" in again.stdout.splitlines()[0]


def test_a_run_that_keeps_nothing_says_where_its_rows_went(manifest: Path, tmp_path: Path) -> None:
    strict = tmp_path / "strict.yaml"
    strict.write_text(manifest.read_text().replace("min_side: 32", "min_side: 500"))
    done = call("run", strict, "--out", tmp_path / "out", "--local")
    assert done.returncode == 0
    assert "nothing was kept: 39 of 40 rows were dropped at 'decode' as too_small: The" in done.stderr


@pytest.mark.ray
@pytest.mark.slow
def test_killed_twice_and_resumed_on_ray_the_shards_are_those_of_one_quiet_local_run(
    manifest: Path, tmp_path: Path, shard_sums: Sums
) -> None:
    assert call("run", manifest, "--out", tmp_path / "quiet", "--local").returncode == 0
    out = tmp_path / "killed"
    for units in (1, 9):
        killed_after(units, out, ["run", manifest, "--out", out, "--workers", 2])
        assert "not running, run the same command again to resume" in " ".join(call("status", out).stdout.split())
    committed = {path: path.stat().st_mtime_ns for path in (out / "units").iterdir()}
    assert 9 <= len(committed) < 20
    assert call("run", manifest, "--out", out, "--workers", 2).returncode == 0
    assert {path: path.stat().st_mtime_ns for path in committed} == committed
    assert shard_sums(out) == shard_sums(tmp_path / "quiet")
    assert "20 of 20 units verified, 0 mistakes" in call("verify", out).stdout


@pytest.mark.parametrize(
    ("stop", "where"),
    [
        (signal.SIGINT, ["--local"]),
        (signal.SIGTERM, ["--local"]),
        pytest.param(signal.SIGTERM, ["--workers", "1"], marks=[pytest.mark.ray, pytest.mark.slow]),
    ],
)
def test_an_interrupted_run_ends_cleanly_and_says_how_to_resume(
    manifest: Path, tmp_path: Path, stop: int, where: Sequence[str]
) -> None:
    out = tmp_path / "out"
    process = subprocess.Popen(
        command("run", manifest, "--out", out, *where),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # background shells have it ignored
    )
    while not Layout(out).committed():
        time.sleep(0.002)
    process.send_signal(stop)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert "Run the same command again to resume" in said
    if "--workers" in where:  # a worker that Ray ended may leave a file half-written, which the next run removes
        assert call("run", manifest, "--out", out, *where).returncode == 0
    assert not list(out.rglob("*.tmp"))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["run", "none.yaml", "--out", "{tmp}/out"], "error: none.yaml: cannot read the manifest"),
        (["run", "{bad}", "--out", "{tmp}/out"], "no stage 'decoed'; there are "),
        (["check", "{empty}"], "error: "),
        (["run", "{no_model}", "--out", "{tmp}/out"], "node 'phrases', params: "),
        (["run", "{manifest}", "--out", "{tmp}/out", "--local", "--workers", "2"], "goes with neither --address nor"),
        (
            ["run", "{manifest}", "--out", "{tmp}/out", "--local", "--metrics-host", "::"],
            "--metrics-host goes with --metrics-port",
        ),
        (["run", "{manifest}", "--out", "https://127.0.0.1:9/out", "--local"], "nothing is written to https://"),
        (["pack", "{tmp}", "--out", "memory://out"], "nothing is written to memory://"),
        (["status", "{tmp}"], "holds no run"),
        (["verify", "{tmp}"], "holds no run"),
        (["report", "{tmp}"], "holds no run"),
        (["run", "{manifest}", "--out", "/proc/nowhere"], "error: "),
    ],
)
def test_what_a_user_can_correct_is_one_message_and_exit_code_2(
    manifest: Path, tmp_path: Path, arguments: list[str], says: str
) -> None:
    bad = tmp_path / "manifests" / "bad.yaml"
    bad.parent.mkdir()
    bad.write_text(manifest.read_text().replace("stage: decode", "stage: decoed"))
    empty = bad.with_name("empty.yaml")
    no_model = bad.with_name("no_model.yaml")
    phrases = "- {id: phrases, stage: phrases, needs: [caption], params: {model: en_nowhere}}"
    no_model.write_text(manifest.read_text() + phrases)
    (tmp_path / "nothing").mkdir()
    empty.write_text(MANIFEST.format(folder=tmp_path / "nothing"))
    places = {"tmp": tmp_path, "bad": bad, "empty": empty, "no_model": no_model, "manifest": manifest}
    done = call(*[argument.format(**places) for argument in arguments])
    assert done.returncode == 2, done.stdout + done.stderr
    assert says in " ".join(done.stderr.replace("│", " ").split())
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_full_disk_is_one_message_and_leaves_whole_units_only(manifest: Path, tmp_path: Path) -> None:
    """A limit on file size stands for the end of the disk."""
    limited = f"ulimit -f 15; exec {' '.join(command('run', manifest, '--out', tmp_path / 'out', '--local'))}"
    done = subprocess.run(["bash", "-c", limited], capture_output=True, text=True, timeout=120)
    layout = Layout(tmp_path / "out")
    assert done.returncode == 2 and "cannot write unit 000000 to" in done.stderr.replace("\n", " "), done.stderr
    assert not list(layout.root.rglob("*.tmp"))


@pytest.mark.ray
def test_a_token_that_is_not_there_is_one_message(
    manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "token"))
    done = call("run", manifest, "--out", tmp_path / "out")
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "error: cannot reach Ray at 'local': " in done.stderr and str(tmp_path / "token") in done.stderr


def test_the_plan_of_a_manifest_is_shown(manifest: Path) -> None:
    shown = call("check", manifest)
    assert shown.returncode == 0
    assert "40 rows in 1 parts, 20 units" in shown.stdout
    for word in ("decode", "original", "image", "unit"):
        assert word in shown.stdout


def test_help_teaches() -> None:
    shown = call("--help").stdout
    for word in ("run", "check", "status", "report", "verify", "stages", "demo", "Exit codes"):
        assert word in shown
    assert "max_side" in call("stages", "decode").stdout
    assert "from all over the source" in " ".join(call("plan", "--help").stdout.replace("│", " ").split())
