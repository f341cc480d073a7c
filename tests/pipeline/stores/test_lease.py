"""One driver at a time holds an output folder: who comes second is told, who falls silent or dies is replaced."""

import dataclasses
import json
import os
import subprocess
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from manifests.files import create, open_path, write_atomically
from manifests.record import to_plain
from manifests.store import StorePath
from pipeline.actor import FatalError
from pipeline.lease import Holder, born, check, current, hold, spilled
from pipeline.ledger import Layout, ResumeError
from pipeline.live import Live
from tests.pipeline.stores.server import Fault, Proxy


@pytest.fixture(params=["disk", "s3"])
def layout(request: pytest.FixtureRequest, tmp_path: Path) -> Layout:
    return Layout(request.getfixturevalue("place") if request.param == "s3" else tmp_path / "run")


def take(layout: Layout, **changes: object) -> Holder:
    """Another driver's first term, which gives no sign of life after its start."""
    holder = dataclasses.replace(Holder.here(60.0), **changes)
    create(layout.lease(1), json.dumps(to_plain(holder)).encode())
    return holder


def test_a_folder_is_held_by_one_and_free_again_after_it(layout: Layout) -> None:
    assert current(layout) is None
    with hold(layout, 60.0) as first:
        held = current(layout)
        assert held and held.is_alive and held.holder.pid == os.getpid()
        with pytest.raises(ResumeError) as caught, hold(layout, 60.0):
            raise AssertionError("two hold it")
        for word in (str(layout.root), held.holder.host, str(os.getpid()), "last heartbeat", "After 60 s"):
            assert word in str(caught.value)
        check(layout, first)
    assert current(layout) is None
    with hold(layout, 60.0) as second:
        assert second == first + 1
        with pytest.raises(FatalError, match="another run has taken this folder over"):
            check(layout, first)
        check(layout, second)


def test_a_driver_that_ends_in_error_leaves_the_folder_free(layout: Layout) -> None:
    with pytest.raises(KeyError), hold(layout, 60.0):
        raise KeyError
    assert current(layout) is None


def test_a_driver_on_another_machine_is_waited_for_and_then_replaced(layout: Layout) -> None:
    far = take(layout, host="far", machine="another boot")
    with pytest.raises(ResumeError, match=r"another run is writing here \(far, process"), hold(layout, 60.0):
        pass
    write_atomically(layout.lease(1), json.dumps(to_plain(dataclasses.replace(far, silence_s=-2.0))).encode())
    with hold(layout, 60.0) as term:
        assert term == 2


def test_the_silence_that_counts_is_the_holder_s_own(layout: Layout) -> None:
    take(layout, host="far", machine="another boot", silence_s=3600.0)
    with pytest.raises(ResumeError, match="After 3600 s"), hold(layout, 1.0):
        pass


def test_a_driver_that_died_on_this_machine_is_replaced_at_once(layout: Layout) -> None:
    process = subprocess.Popen(["sleep", "600"])
    try:
        take(layout, pid=process.pid, born=born(process.pid), silence_s=3600.0)
        held = current(layout)
        assert held and held.is_alive
    finally:
        process.kill()
    while held.is_alive:  # until the kill has come through; that nobody waited for the process makes no difference
        held = current(layout)
        assert held
    process.wait()
    with hold(layout, 60.0) as term:
        assert term == 2


def test_a_process_id_that_is_given_again_is_no_sign_of_life(layout: Layout) -> None:
    assert take(layout, born="1").is_gone


def test_heartbeats_follow_one_another_until_the_end(layout: Layout) -> None:
    seen: set[bytes] = set()
    with hold(layout, 0.2) as term:
        while len(seen) < 3:
            with suppress(FileNotFoundError):
                seen.add(layout.heartbeat(term).read_bytes())
    assert layout.heartbeat(term).read_bytes() == b"ended 0\n"


def test_heartbeats_tell_what_was_spilled_and_it_adds_up_over_drivers(layout: Layout) -> None:
    with hold(layout, 0.2, Live(spilled=7)):
        while spilled(layout) != 7:
            pass
    live = Live()
    with hold(layout, 60.0, live):
        live.spilled = 500
    assert spilled(layout) == 507 and current(layout) is None


def test_a_heartbeat_of_an_older_inlay_is_understood(layout: Layout) -> None:
    with hold(layout, 60.0) as term:
        write_atomically(layout.heartbeat(term), b"3\n")
        held = current(layout)
        assert held and held.is_alive and spilled(layout) == 0
    write_atomically(layout.heartbeat(term), b"ended\n")
    assert current(layout) is None


def test_a_lease_that_is_not_legible_is_somebody_s(layout: Layout) -> None:
    create(layout.lease(1), b"{")
    with pytest.raises(ResumeError, match=r"another run is writing here \(unknown"), hold(layout, 60.0):
        pass


def test_of_drivers_who_start_at_the_same_moment_one_goes_on(tmp_path: Path) -> None:
    together, done = threading.Barrier(8), threading.Event()
    outcomes: list[str] = []

    def drive(number: int) -> None:
        together.wait()
        try:
            with hold(Layout(tmp_path), 60.0):
                outcomes.append("held")
                done.wait(60)
        except ResumeError:
            outcomes.append("refused")
            if outcomes.count("refused") == 7:
                done.set()

    threads = [threading.Thread(target=drive, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["held"] + 7 * ["refused"]


def test_an_answer_that_got_lost_takes_the_term_all_the_same(place: StorePath, proxy: Proxy) -> None:
    layout = Layout(place)
    proxy.faults = [Fault("lose", lambda method, path: method == "PUT" and "000001.json" in path)]
    with hold(layout, 60.0) as term:
        assert term == 1


def test_a_store_that_ignores_conditions_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from fsspec.implementations.memory import MemoryFileSystem

    pipe: Callable[..., None] = MemoryFileSystem.pipe_file
    monkeypatch.setattr(MemoryFileSystem, "pipe_file", lambda fs, path, value, mode="": pipe(fs, path, value))
    with pytest.raises(FatalError, match="ignores If-None-Match"), hold(Layout(open_path(f"memory://{tmp_path}")), 60):
        pass


def test_a_commit_asks_once_for_the_lease(place: StorePath, proxy: Proxy) -> None:
    layout = Layout(place)
    with hold(layout, 60.0) as term:
        proxy.requests.clear()
        check(layout, term)
        assert [method for method, path in proxy.requests if "lease" in path] == ["GET"]
