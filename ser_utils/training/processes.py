"""An executor that gives each task a Python process of its own: a crash costs that task and no other.

They are not multiprocessing's: a Dask worker may start none of those, and a log and an environment of its own must be
in place before a child's interpreter begins.
"""

import contextlib
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import threading
import traceback
import weakref
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from multiprocessing.connection import Connection
from pathlib import Path

from ser_utils import machine

CHILD = "import sys; from ser_utils.training import processes; processes._child(int(sys.argv[1]))"
_alive: weakref.WeakSet = weakref.WeakSet()  # executors of this process


class TaskError(RuntimeError):
    """A task failed; ``kind`` is the name of the exception it raised, or "" if its process died."""

    def __init__(self, text: str, kind: str = ""):
        super().__init__(text)
        self.kind = kind


class Processes(ThreadPoolExecutor):
    """Up to ``jobs`` tasks at a time, each in a new process that ends with this one, whatever ends it."""

    def __init__(self, jobs: int):
        super().__init__(jobs)
        self.jobs, self.environment = jobs, machine.environment(max(machine.cores() // jobs, 1))
        self._children: list[subprocess.Popen] = []
        self._lock, self._closed = threading.Lock(), False
        _alive.add(self)

    def __exit__(self, *_) -> None:
        self.shutdown(cancel_futures=True)

    def submit(self, function: Callable, *args, log: Path = Path(os.devnull)) -> Future:
        """Call a module-level function in a new process that prints to ``log``; the future may hold a TaskError."""
        return super().submit(self._run, pickle.dumps((function, args)), log)

    def _run(self, task: bytes, log: Path):
        here, there = multiprocessing.Pipe()
        with self._lock, there:
            if self._closed:
                raise TaskError("stopped before it began")
            log.parent.mkdir(parents=True, exist_ok=True)
            with open(log, "ab") as file:
                child = subprocess.Popen([sys.executable, "-c", CHILD, str(there.fileno())], env=self.environment,
                                         stdin=subprocess.DEVNULL, stdout=file, stderr=file, pass_fds=[there.fileno()])
            self._children.append(child)
        kind, value = "died", None
        with child, here, contextlib.suppress(EOFError, OSError):  # as this end closes, the child ends
            here.send_bytes(task)
            kind, value = here.recv()
        if kind == "result":
            return value
        if kind == "died":
            code = child.returncode
            value = f"killed by signal {-code} (out of memory?)" if code < 0 else f"exit {code}"
        end = log.read_text(errors="replace").strip().splitlines()[-6:]
        raise TaskError("\n    ".join([value, *end]), kind=value if kind == "error" else "")

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Wait for all tasks; with ``cancel_futures`` end them at once."""
        if cancel_futures:
            with self._lock:
                self._closed = True
            for child in self._children:
                child.terminate()
        super().shutdown(wait, cancel_futures=cancel_futures)


def _child(channel: int) -> None:
    """The life of a child: read the task, do it, send back what came of it."""
    parent = Connection(channel)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        function, args = parent.recv()
        threading.Thread(target=_end_with, args=[parent], daemon=True).start()
        answer = "result", function(*args)
    except Exception as error:
        traceback.print_exc()
        answer = "error", type(error).__name__
    sys.stdout.flush()
    sys.stderr.flush()
    parent.send(answer)


def _end_with(parent: Connection) -> None:
    with contextlib.suppress(EOFError, OSError):
        parent.recv()  # nothing more comes but the end
    os._exit(143)


def stop_all() -> None:
    """End all tasks of this process at once."""
    for executor in list(_alive):
        executor.shutdown(cancel_futures=True)
