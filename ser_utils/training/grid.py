"""Many runs: what is finished is skipped, what is missing is trained, each run in a process of its own."""

import argparse
import contextlib
import dataclasses
import json
import queue
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import filelock
import pandas as pd
from tqdm import tqdm

from ser_utils import config as configuration
from ser_utils import machine
from ser_utils.config import RunConfig
from ser_utils.data.corpus import Corpus
from ser_utils.paths import RESULTS, RUNS
from ser_utils.training import estimate, runs

BUSY = 75  # exit code of a run that another process is training
LOG = "train.log"
LEFT_OVER = ".*-[0-9a-f][0-9a-f][0-9a-f][0-9a-f][0-9a-f][0-9a-f][0-9a-f][0-9a-f].*"  # of paths.atomic_write
PATIENCE = 2  # seconds between two looks at the clock and at runs under way elsewhere
QUIET = 20  # seconds between two lines of progress in a log
PROBE = 3  # epochs that measure a network's speed; the first, which compiles, does not count
WORTH_PROBING = 8  # a network is measured beforehand if so many times the epochs of a probe are ahead


class GridError(RuntimeError):
    """Some runs failed; the message names each with the end of its log."""


def order(configs: list[RunConfig]) -> list[RunConfig]:
    """Runs in the order that makes partial results useful.

    ``twins`` after the other protocols, fold 0 of every network before fold 1, cheap networks before dear ones.
    """
    return sorted(configs, key=_rank)


def _rank(config: RunConfig) -> tuple:
    cost = {"alexnet": 0, "lstm": 1, "transformer": 2, "resnet": 3, "inceptionnet": 4, "vgg16": 5, "vgg19": 6}
    return (config.protocol == "twins", config.fold, cost.get(config.model, len(cost)),
            configuration.PROTOCOLS.index(config.protocol))


def child(config: RunConfig, recordings: Path, root: Path, threads: int | None = None) -> subprocess.Popen:
    """Start a process that trains one run and prints its epochs as JSON; the rest goes to the run's ``train.log``.

    ``threads`` of computation, or as many as the environment says.
    """
    task = json.dumps({"config": dataclasses.asdict(config), "corpus": str(recordings), "root": str(root)})
    directory = config.run_directory(root)
    directory.mkdir(parents=True, exist_ok=True)
    with open(directory / LOG, "w") as log:
        return subprocess.Popen([sys.executable, "-m", "ser_utils.training.grid", "--task", task],
                                stdout=subprocess.PIPE, stderr=log, text=True, env=machine.environment(threads))


def tail(directory: Path) -> str:
    """The last lines of a run's log."""
    return "\n    ".join((directory / LOG).read_text(errors="replace").strip().splitlines()[-6:])


class Process:
    """One run in a child process; its epochs come back through ``events``, its other output goes to a log.

    Events are ("begin", self, None), ("epoch", self, row) for each epoch and ("end", self, None), once.
    """

    def __init__(self, config: RunConfig, corpus: Corpus, root: Path, threads: int, events: queue.Queue):
        self.config, self.directory = config, config.run_directory(root)
        self.process = child(config, corpus.root, root, threads)
        threading.Thread(target=self._listen, args=(events,), daemon=True).start()

    def _listen(self, events: queue.Queue) -> None:
        events.put(("begin", self, None))
        for line in self.process.stdout:
            try:
                events.put(("epoch", self, json.loads(line)))
            except ValueError:
                continue  # a library's chatter, not ours
        self.process.wait()
        events.put(("end", self, None))

    def stop(self) -> None:
        """End the process; the run goes on from its last epoch another time."""
        self.process.terminate()

    def collect(self) -> int:
        """The exit code, once the process has ended."""
        return self.process.wait()

    def failure(self) -> str:
        """Why the run failed: the last lines of its log."""
        code = self.process.returncode
        killed = f", killed by signal {-code} (out of memory?)" if code < 0 else ""
        return f"{self.config.name} (exit {code}{killed}):\n    {tail(self.directory)}"


def ready(config: RunConfig, root: Path) -> bool:
    """Whether no other process is training a run; what a killed one left half-written is then removed."""
    directory = config.run_directory(root)
    directory.mkdir(parents=True, exist_ok=True)
    try:
        with filelock.FileLock(directory / ".lock", timeout=0):
            for path in directory.glob(LEFT_OVER):
                path.unlink(missing_ok=True)
            return True
    except filelock.Timeout:
        return False


@dataclasses.dataclass
class _Task:
    """A run in the grid's books."""

    config: RunConfig
    work: estimate.Work
    probe: bool = False           # only its first epochs, to measure the network's speed
    worker: object = None         # what trains it, a Process or alike
    seen: int = 0                 # epochs reported by the process that trains it
    began: float | None = None    # when that process started, and last reported, by time.monotonic()
    last: float = 0.0
    first: float = 0.0            # seconds to the end of its first epoch
    epochs: list[float] = dataclasses.field(default_factory=list)  # seconds each of the others took

    def begin(self) -> None:
        self.seen, self.epochs, self.began, self.last = 0, [], time.monotonic(), time.monotonic()

    def progress(self) -> tuple[estimate.Work, bool, float]:
        """What :meth:`estimate.Forecast.run` wants to know."""
        return self.work, self.seen > 0, time.monotonic() - self.last


class _Grid:
    """The books of :func:`train`: what waits, what runs, what was measured and what is printed."""

    def __init__(self, configs: list[RunConfig], root: Path, jobs: int, progress: bool, probe: bool, cluster: bool):
        self.root, self.jobs, self.progress = root, jobs, progress
        self.where = estimate.setting(jobs, cluster)
        self.forecast = estimate.Forecast(
            timing for folder in sorted({c.run_directory(root).parents[2] for c in configs})
            for timing in estimate.measured(folder, self.where))
        self.waiting = [_Task(c, estimate.work(c, root)) for c in configs]
        self.running: list[_Task] = []
        self.failures: list[str] = []
        self.began, self.shown, self.promise = time.monotonic(), 0.0, None
        if probe:
            self._probe_first()
        done = sum(task.work.done for task in self.waiting)
        self._plan()
        self.bar = tqdm(total=sum(c.epochs for c in configs), initial=done, unit="epoch", disable=not progress,
                        file=sys.stdout, mininterval=1, dynamic_ncols=True, desc=f"{len(configs)} runs",
                        bar_format="{desc}: {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} epochs [{elapsed}{postfix}]")

    def _probe_first(self) -> None:
        """Mark the first run of each network whose speed is not known, and put these runs first."""
        kinds = {}
        for task in self.waiting:
            kinds.setdefault(task.work.kind, []).append(task)
        for kind, tasks in kinds.items():
            planned = sum(task.work.planned - task.work.done for task in tasks)
            tasks[0].probe = not self.forecast.knows(kind) and planned >= WORTH_PROBING * PROBE
        self.waiting.sort(key=lambda task: not task.probe)

    def left(self) -> tuple[float | None, set[str]]:
        """Seconds left, and the networks they are only guessed for."""
        started = [task for task in self.running if task.began]
        queued = [task.work for task in self.running if not task.began] + [task.work for task in self.waiting]
        return self.forecast.left([task.progress() for task in started], queued, self.jobs)

    def _say(self, text: str) -> None:
        if self.progress:
            tqdm.write(text, file=sys.stdout)

    def _plan(self) -> None:
        """Say what is ahead, and promise a time if there is one to promise."""
        head = f"{len(self.waiting)} runs to train, {self.jobs} at a time"
        unknown = {task.config.model for task in self.waiting if not self.forecast.knows(task.work.kind)}
        if not unknown:
            self.promise = self.left()[0]
            past = [one for kind in {task.work.kind for task in self.waiting} for one in self.forecast.past[kind]]
            rough = ", some timed with another number of runs side by side" if any(t.rough for t in past) else ""
            self._say(f"{head}: about {estimate.words(self.promise)}, going by {len(past)} earlier runs on this "
                      f"machine{rough}.")
        elif any(task.probe for task in self.waiting):
            self._say(f"{head}. How long they take is measured first, in {PROBE} epochs each of "
                      f"{', '.join(task.config.model for task in self.waiting if task.probe)}.")
        else:
            self._say(f"{head}. How long they take follows when epochs of {', '.join(sorted(unknown))} are measured.")

    def show(self) -> None:
        """Refresh the progress; promise a time as soon as every network is measured."""
        seconds, guessed = self.left()
        left = "" if seconds is None else f"about {estimate.words(seconds)} left{' (roughly)' if guessed else ''}"
        runs = [f"{task.config.name} {task.work.done}/{task.work.planned}" for task in self.running if task.began]
        more = f" and {len(runs) - 4} more" if len(runs) > 4 else ""
        self.bar.set_postfix_str("; ".join(filter(None, [left, ", ".join(runs[:4]) + more])), refresh=False)
        if self.promise is None and seconds is not None and not guessed and not any(
                task.probe for task in self.waiting + self.running):
            self.promise = time.monotonic() - self.began + seconds
            self._say(f"Measured: about {estimate.words(seconds)} left.")
        if time.monotonic() - self.shown >= (1 if sys.stdout.isatty() else QUIET):
            self.shown = time.monotonic()
            self.bar.refresh()

    def epoch(self, task: _Task, row: dict) -> None:
        """An epoch has ended."""
        now = time.monotonic()
        if task.seen:
            task.epochs.append(now - task.last)
            self.forecast.epoch(task.work.kind, now - task.last)
        else:
            task.first = now - task.began
            self.forecast.began(task.work.kind, task.first)
        task.last, task.seen = now, task.seen + row["epochs"]
        self.bar.n += task.seen - task.work.done
        task.work.epoch(task.seen, row["val_accuracy"])
        if task.probe and len(task.epochs) >= PROBE - 1:
            task.worker.stop()

    def ended(self, task: _Task, code: int, over: bool) -> None:
        """A worker has ended; ``over``: the budget is spent, and that is why."""
        self.running.remove(task)
        done = code == 0 and runs.is_finished(task.config, self.root)
        probed = task.probe and len(task.epochs) >= PROBE - 1
        if done:
            self.forecast.ended(task.work.kind, time.monotonic() - task.last, task.work.done / task.work.planned)
            self.bar.total -= task.work.planned - task.work.done
        if task.epochs and (done or probed):
            mean = sum(task.epochs) / len(task.epochs)
            timing = estimate.Timing(task.work.kind, mean, max(task.first - mean, 0.0))
            if done:
                timing = dataclasses.replace(timing, finish=time.monotonic() - task.last,
                                             share=task.work.done / task.work.planned)
            with contextlib.suppress(OSError):  # a full disk: the runs themselves say so
                estimate.keep(timing, task.config.run_directory(self.root), self.where)
        if not done and (probed or code == BUSY):
            self.waiting.append(_Task(task.config, estimate.work(task.config, self.root)))
            self.waiting.sort(key=lambda t: (not t.probe, _rank(t.config)))
        elif not done and not over:
            self.failures.append(task.worker.failure())

    def close(self) -> None:
        """Stop what still runs, and compare the time promised with the time taken."""
        for task in self.running:
            task.worker.stop()
        self.bar.close()
        if self.promise is not None and not self.waiting and not self.running:
            took = time.monotonic() - self.began
            self._say(f"It took {estimate.words(took)}; the estimate was {estimate.words(self.promise)}.")


def train(configs: list[RunConfig], corpus: Corpus, root: Path = RUNS, jobs: int | None = None,
          budget: float | None = None, progress: bool = True, probe: bool = False, start=None) -> None:
    """Train all runs that are not finished, ``jobs`` at a time, each in a process of its own.

    A run that crashes costs that run only; a run that another process is training is waited for. With a
    ``budget`` in seconds, what is still running when it ends is stopped after the epoch it last finished.
    Prints how long it will take, before and while it trains (``progress``); ``probe`` measures networks that were
    never timed on this machine by the first epochs of one of their runs, before all else.

    ``start`` is called with a configuration and the queue of events to train a run elsewhere (see
    :mod:`ser_utils.training.cluster`); it returns an object like :class:`Process`. All runs are then handed over at once.

    Raises
    ------
    GridError
        At the end, if any run failed.
    """
    for config in configs:
        if runs.is_finished(config, root):  # a state that a kill left behind is of no more use
            (config.run_directory(root) / "state.npz").unlink(missing_ok=True)
    configs = [c for c in order(configs) if not runs.is_finished(c, root)]
    if not configs:
        return
    cores = machine.cores()
    jobs = min(jobs or cores, len(configs))
    deadline = time.monotonic() + budget if budget is not None else float("inf")
    if time.monotonic() >= deadline:
        return
    most = len(configs) if start else jobs
    events = queue.Queue()
    grid = _Grid(configs, root, jobs, progress, probe and budget is None, cluster=start is not None)
    start = start or (lambda config, events: Process(config, corpus, root, max(cores // jobs, 1), events))
    tasks = {}
    try:
        while grid.running or (grid.waiting and time.monotonic() < deadline):
            over = time.monotonic() >= deadline
            grid.waiting = [t for t in grid.waiting if not runs.is_finished(t.config, root)]
            for task in [] if over else list(grid.waiting):
                if len(grid.running) < most and ready(task.config, root):
                    task.worker = start(task.config, events)
                    grid.waiting.remove(task)
                    grid.running.append(task)
                    tasks[task.worker] = task
            if over:
                for task in grid.running:
                    task.worker.stop()
            grid.show()
            try:
                kind, worker, row = events.get(timeout=min(max(deadline - time.monotonic(), 0.1), PATIENCE))
            except queue.Empty:
                continue
            if kind == "begin":
                tasks[worker].begin()  # again, if the machine it was sent to is lost
            elif kind == "epoch":
                grid.epoch(tasks[worker], row)
            else:
                grid.ended(tasks[worker], worker.collect(), time.monotonic() >= deadline)
    finally:
        grid.close()
    if grid.failures:
        raise GridError(f"{len(grid.failures)} runs failed; the others are finished.\n" + "\n".join(grid.failures))


def run_all(profile: str, corpus: Corpus, models=None, protocols=None, folds=None, budget: float | None = None,
            jobs: int | None = None, root: Path = RUNS, progress: bool = True, probe: bool = False,
            scheduler: str | None = None, published: Path | None = None) -> pd.DataFrame:
    """Train the missing runs of a profile and list them all.

    Parameters
    ----------
    models, protocols, folds : lists that narrow the profile's runs down; None takes all of them.
    budget : seconds after which no more is trained.
    probe : see :func:`train`.
    scheduler : address of a Dask scheduler (``tcp://host:port``) whose workers train instead of this machine.
    published : folder ``<protocol>/<model>/fold<k>`` of published runs (``results/``); the runs that it holds with
        these very settings count as finished and are not trained again.

    Returns
    -------
    A row a run: protocol, model, fold, finished (bool).

    Raises
    ------
    GridError
        Some runs failed.
    ValueError
        An unknown name in ``models``, ``protocols`` or ``folds``.
    """
    configs = configuration.run_configs(profile, corpus.kind, models, protocols, folds)
    there = {c.name for c in configs if published is not None and runs.holds(Path(published) / c.place, c)}
    missing = [c for c in configs if c.name not in there]
    if scheduler:
        from ser_utils.training import cluster

        cluster.train(missing, corpus, scheduler, root, budget, progress)
    else:
        train(missing, corpus, root, jobs, budget, progress, probe)
    return pd.DataFrame([{"protocol": c.protocol, "model": c.model, "fold": c.fold,
                          "finished": c.name in there or runs.is_finished(c, root)} for c in order(configs)])


def _child(task: dict) -> int:
    """Train one run and print each epoch as a line of JSON."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    from ser_utils.data import corpus
    from ser_utils.features import spectral as features
    from ser_utils.training import fit as training

    config = configuration.from_dict(task["config"])
    found = corpus.at(task["corpus"], config.corpus)
    store = features.extract(found, config.features, progress=False)
    said = 0

    def on_epoch(row):
        nonlocal said
        print(json.dumps({"epochs": row["epoch"] - said, "val_accuracy": row["val_accuracy"]}), flush=True)
        said = row["epoch"]

    try:
        training.run(config, found, store, root=Path(task["root"]), progress=False, on_epoch=on_epoch)
    except training.RunBusy as error:
        print(error, file=sys.stderr)
        return BUSY
    return 0


def main(arguments: list[str] | None = None) -> int:
    """``python -m ser_utils.training.grid``: train what is missing of a profile, then list all its runs."""
    parser = argparse.ArgumentParser(prog="ser_utils.training.grid", description=main.__doc__)
    parser.add_argument("--profile", default="full", choices=list(configuration.PROFILES))
    for name, kind in (("models", str), ("protocols", str), ("folds", int)):
        parser.add_argument(f"--{name}", nargs="*", type=kind, help=f"only these {name}")
    parser.add_argument("--budget", type=float, help="stop after this many seconds")
    parser.add_argument("--jobs", type=int, help="runs at a time (default: one a core)")
    parser.add_argument("--scheduler", help="address of a Dask scheduler that trains instead (tcp://host:port)")
    parser.add_argument("--missing", action="store_true", help="none of the runs that are published in results/")
    parser.add_argument("--runs", type=Path, default=RUNS, help="where the runs lie (default: runs/)")
    parser.add_argument("--task", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.task:
        return _child(json.loads(options.task))

    from ser_utils.data import corpus
    from ser_utils.features import spectral as features

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: the trainings are stopped, too
    try:
        found = corpus.for_profile(options.profile)
        features.extract(found, configuration.PROFILES[options.profile].features)
        table = run_all(options.profile, found, options.models, options.protocols, options.folds,
                        options.budget, options.jobs, options.runs, probe=True, scheduler=options.scheduler,
                        published=RESULTS if options.missing else None)
    except KeyboardInterrupt:
        print("\nStopped. Finished runs are kept; a run that was under way goes on from its last epoch.")
        return 130
    except (GridError, ValueError, OSError) as error:  # a ClusterError is an OSError
        print(error, file=sys.stderr)
        return 1
    done = int(table.finished.sum())
    print(f"{done} of {len(table)} runs are finished.")
    print(table.pivot_table(index=["protocol", "model"], columns="fold", values="finished", sort=False)
          .map(lambda x: "yes" if x else ".").to_string())
    return 0


if __name__ == "__main__":
    sys.exit(main())
