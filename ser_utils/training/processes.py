"""An executor that gives each task a Python process of its own: a crash costs that task and no other."""

import contextlib
import importlib
import os
import pickle
import pkgutil
import signal
import subprocess
import sys
import threading
import traceback
import weakref
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from ser_utils import machine

CHILD = "from ser_utils.training import processes; processes._child()"
_alive: weakref.WeakSet = weakref.WeakSet()  # executors of this process
_channel = None                              # in a child: the way back to its executor


class TaskError(RuntimeError):
    """A task failed; ``kind`` is the name of the exception it raised, or "" if its process died."""

    def __init__(self, kind: str, text: str):
        super().__init__(kind, text)
        self.kind, self.text = kind, text

    def __str__(self) -> str:
        return self.text


class Processes:
    """Up to ``jobs`` tasks at a time (default: one a core), each in a new process with ``threads`` of computation.

    The interface is that of ``concurrent.futures``, so that a Dask client's executor can take its place. A task ends
    when this process does, whatever ends it.
    """

    def __init__(self, jobs: int | None = None, threads: int | None = None):
        self.jobs = jobs or machine.cores()
        self.environment = machine.environment(threads or max(machine.cores() // self.jobs, 1))
        self._pool = ThreadPoolExecutor(self.jobs)
        self._children: set[subprocess.Popen] = set()
        self._lock, self._closed = threading.Lock(), False
        _alive.add(self)

    def __enter__(self) -> "Processes":
        return self

    def __exit__(self, kind, *_) -> None:
        self.shutdown(cancel=kind is not None)

    def submit(self, function: str | Callable, *args, log: Path | None = None, listen=None, **kwargs) -> Future:
        """Call a module-level function, or one named "module:function", in a new process.

        ``log`` is the file for all that it prints; ``listen`` is called with what it passes to :func:`say`, in a
        thread of its own. The future holds its result, or a :class:`TaskError` with the end of the log.
        """
        task = pickle.dumps((function, args, kwargs))
        main = sys.modules["__main__"].__spec__ if b"__main__" in task else None  # of python -m NAME
        task = pickle.dumps(main and main.name) + task
        return self._pool.submit(self._run, task, log, listen)

    def _run(self, task: bytes, log: Path | None, listen):
        with self._lock:
            if self._closed:
                raise TaskError("", "stopped before it began")
            with open(log or os.devnull, "wb") as file:
                child = subprocess.Popen([sys.executable, "-c", CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                         stderr=file, env=self.environment)
            self._children.add(child)
        try:
            with contextlib.suppress(BrokenPipeError):
                child.stdin.write(task)  # stays open: its end tells the child that this process is gone
                child.stdin.flush()
            return _answer(child, log, listen)
        finally:
            with contextlib.suppress(BrokenPipeError):
                child.stdin.close()
            child.wait()
            child.stdout.close()
            with self._lock:
                self._children.discard(child)

    def shutdown(self, cancel: bool = False) -> None:
        """Wait for all tasks; with ``cancel`` end them at once."""
        if cancel:
            with self._lock:
                self._closed = True
                for child in self._children:
                    child.terminate()
        self._pool.shutdown(cancel_futures=cancel)


def _answer(child: subprocess.Popen, log: Path | None, listen):
    """What a child says until it ends: its result, or its error raised."""
    while True:
        try:
            kind, value = pickle.load(child.stdout)
        except (EOFError, pickle.UnpicklingError):
            code = child.wait()
            died = f"killed by signal {-code} (out of memory?)" if code < 0 else f"exit {code}"
            raise TaskError("", "\n    ".join([died, *_tail(log)])) from None
        if kind == "result":
            return value
        if kind == "error":
            raise TaskError(value, "\n    ".join([value, *_tail(log)]))
        if listen:
            listen(value)


def _tail(log: Path | None) -> list[str]:
    return Path(log).read_text(errors="replace").strip().splitlines()[-6:] if log else []


def say(value) -> None:
    """In a task: tell whoever submitted it (``listen``); elsewhere it does nothing."""
    if _channel:
        _send("said", value)


def _send(kind: str, value) -> None:
    pickle.dump((kind, value), _channel)
    _channel.flush()


def _child() -> None:
    """The life of a child: read the task, do it, send back what came of it."""
    global _channel
    _channel = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever prints, prints to the log
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        if main := pickle.load(sys.stdin.buffer):
            sys.modules["__main__"] = importlib.import_module(main)  # what was pickled from there is found here
        function, args, kwargs = pickle.load(sys.stdin.buffer)
        threading.Thread(target=_end_with_parent, daemon=True).start()
        function = pkgutil.resolve_name(function) if isinstance(function, str) else function
        answer = "result", function(*args, **kwargs)
    except Exception as error:
        traceback.print_exc()
        answer = "error", type(error).__name__
    sys.stdout.flush()
    sys.stderr.flush()
    _send(*answer)


def _end_with_parent() -> None:
    os.read(0, 1)  # returns when the other end is closed
    os._exit(143)


def stop_all() -> None:
    """End all tasks of this process at once."""
    for executor in list(_alive):
        executor.shutdown(cancel=True)
