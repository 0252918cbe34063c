"""Ctrl-C and SIGTERM as a question asked between two steps, so that nothing is ever half done."""

from __future__ import annotations

import signal
import sys
import threading
from types import FrameType
from typing import Any


class Interrupt:
    """While it is entered, the first signal only sets `asked`; a second one raises KeyboardInterrupt at once.

    Outside the main thread Python delivers no signals, and this does nothing.

    Example:
        >>> with Interrupt() as interrupt:
        ...     while not interrupt.asked:
        ...         step()
    """

    def __init__(self) -> None:
        self.asked = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Interrupt:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                if signal.getsignal(number) is not signal.SIG_IGN:  # nohup and job control mean it
                    self._before[number] = signal.signal(number, self._ask)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            # None: a handler that was not set from Python; the default is the nearest there is.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
        print("stopping after this step (once more: stop now, without saving)", file=sys.stderr, flush=True)
