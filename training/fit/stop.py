"""Asked to end: a signal is noticed, and the ranks agree after which step they stop."""

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import torch
import torch.distributed as dist

_ASKS = (signal.SIGTERM, signal.SIGINT)
"""What schedulers and torchrun send before they kill, and Ctrl-C."""


class StoppedError(Exception):
    """The run was asked to end, and did so with its last step saved.

    Attributes:
        exit_code: Of a process that a signal ended, as shells tell it.
    """

    def __init__(self, step: int, number: int) -> None:
        super().__init__(
            f"stopped by {signal.Signals(number).name} after step {step}, which is saved; --resume goes on"
        )
        self.exit_code = 128 + number


class Stop:
    """Notices that this process was asked to end. The second asking ends it at once, with what was saved before."""

    def __init__(self) -> None:
        self._number = 0

    @contextmanager
    def listening(self) -> Iterator["Stop"]:
        """Notice signals, where a process may: in its main thread."""
        if threading.current_thread() is not threading.main_thread():
            yield self
            return
        before = [(number, signal.signal(number, self._notice)) for number in _ASKS]
        try:
            yield self
        finally:
            for number, handler in before:
                signal.signal(number, handler)

    def agreed(self) -> int:
        """The signal that any rank was sent, 0 if none; the same on every rank, each of which makes this call."""
        if dist.get_world_size() == 1:
            return self._number
        number = torch.tensor(self._number)
        dist.all_reduce(number, dist.ReduceOp.MAX)
        return int(number)

    def _notice(self, number: int, frame: FrameType | None) -> None:
        self._number = number
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
        print("stopping after this step, which will be saved; again: at once", file=sys.stderr)
