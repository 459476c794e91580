"""Many runs: what is finished is skipped, what is missing is trained, each run in a process of its own."""

import argparse
import dataclasses
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pandas as pd
from tqdm import tqdm

from ser_utils import config as configuration
from ser_utils import ravdess
from ser_utils.config import RunConfig
from ser_utils.corpus import Corpus
from ser_utils.paths import RUNS

BUSY = 75  # exit code of a run that another process is training


class GridError(RuntimeError):
    """Some runs failed; the message names each with the end of its log."""


def order(configs: list[RunConfig]) -> list[RunConfig]:
    """Runs in the order that makes partial results useful.

    ``twins`` after the other protocols, fold 0 of every network before fold 1, cheap networks before dear ones.
    """
    cost = {"alexnet": 0, "lstm": 1, "transformer": 2, "resnet": 3, "inceptionnet": 4, "vgg16": 5, "vgg19": 6}
    return sorted(configs, key=lambda c: (c.protocol == "twins", c.fold, cost[c.model],
                                          configuration.PROTOCOLS.index(c.protocol)))


class _Worker:
    """One run in a child process; its epochs come back through ``events``, its other output goes to a log."""

    def __init__(self, config: RunConfig, corpus: Corpus, root: Path, threads: int, events: queue.Queue):
        directory = config.run_directory(root)
        directory.mkdir(parents=True, exist_ok=True)
        self.config, self.log = config, directory / "train.log"
        environment = os.environ | {name: str(threads) for name in (
            "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")}
        environment.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
        task = json.dumps({"config": dataclasses.asdict(config), "corpus": str(corpus.root), "root": str(root)})
        with open(self.log, "w") as log:
            self.process = subprocess.Popen([sys.executable, "-m", "ser_utils.grid", "--task", task],
                                            stdout=subprocess.PIPE, stderr=log, text=True, env=environment)
        threading.Thread(target=self._listen, args=(events,), daemon=True).start()

    def _listen(self, events: queue.Queue) -> None:
        for line in self.process.stdout:
            try:
                events.put(("epoch", self, json.loads(line)))
            except ValueError:
                continue  # a library's chatter, not ours
        events.put(("end", self, self.process.wait()))

    def failure(self) -> str:
        """Why the run failed: the last lines of its log."""
        code = self.process.returncode
        killed = f", killed by signal {-code} (out of memory?)" if code < 0 else ""
        tail = "\n    ".join(self.log.read_text(errors="replace").strip().splitlines()[-6:])
        return f"{self.config.name} (exit {code}{killed}):\n    {tail}"


def train(configs: list[RunConfig], corpus: Corpus, root: Path = RUNS, jobs: int | None = None,
          budget: float | None = None, progress: bool = True) -> None:
    """Train all runs that are not finished, ``jobs`` at a time, each in a process of its own.

    A run that crashes costs that run only; a run that another process is training is waited for. With a
    ``budget`` in seconds, what is still running when it ends is stopped after the epoch it last finished.

    Raises
    ------
    GridError
        At the end, if any run failed.
    """
    waiting = [c for c in order(configs) if not c.is_finished(root)]
    if not waiting:
        return
    cores = os.cpu_count() or 1
    jobs = min(jobs or cores, len(waiting))
    deadline = time.monotonic() + budget if budget else float("inf")
    events, running, failures = queue.Queue(), [], []
    bar = tqdm(total=sum(c.epochs for c in waiting), desc=f"Training {len(waiting)} runs", unit="epoch",
               disable=not progress, file=sys.stdout, mininterval=1, smoothing=0.05)
    try:
        while running or (waiting and time.monotonic() < deadline):
            while waiting and len(running) < jobs and time.monotonic() < deadline:
                running.append(_Worker(waiting.pop(0), corpus, root, max(cores // jobs, 1), events))
            if time.monotonic() >= deadline:
                for worker in running:
                    worker.process.terminate()
            try:
                kind, worker, value = events.get(timeout=min(max(deadline - time.monotonic(), 0.1), 60))
            except queue.Empty:
                continue
            if kind == "epoch":
                bar.update(value["epochs"])
                bar.set_postfix_str(f"{worker.config.name} val {value['val_accuracy']:.3f}")
                continue
            running.remove(worker)
            if value == BUSY:
                waiting.append(worker.config)
                time.sleep(2)
                waiting = [c for c in waiting if not c.is_finished(root)]
            elif value != 0 and time.monotonic() < deadline:
                failures.append(worker.failure())
    finally:
        for worker in running:
            worker.process.terminate()
        bar.close()
    if failures:
        raise GridError(f"{len(failures)} runs failed; the others are finished.\n" + "\n".join(failures))


def run_all(profile: str, corpus: Corpus, models=None, protocols=None, folds=None, budget: float | None = None,
            jobs: int | None = None, root: Path = RUNS, progress: bool = True) -> pd.DataFrame:
    """Train the missing runs of a profile and list them all.

    Parameters
    ----------
    models, protocols, folds : lists that narrow the profile's runs down; None takes all of them.
    budget : seconds after which no more is trained.

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
    train(configs, corpus, root, jobs, budget, progress)
    return pd.DataFrame([{"protocol": c.protocol, "model": c.model, "fold": c.fold, "finished": c.is_finished(root)}
                         for c in order(configs)])


def _child(task: dict) -> int:
    """Train one run and print each epoch as a line of JSON."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    from ser_utils import features, training

    config = configuration.from_dict(task["config"])
    corpus = Corpus(Path(task["corpus"]), config.corpus, ravdess.index(task["corpus"]))
    store = features.extract(corpus, config.features, progress=False)
    said = 0

    def on_epoch(row):
        nonlocal said
        print(json.dumps({"epochs": row["epoch"] - said, "val_accuracy": row["val_accuracy"]}), flush=True)
        said = row["epoch"]

    try:
        training.run(config, corpus, store, root=Path(task["root"]), progress=False, on_epoch=on_epoch)
    except training.RunBusy as error:
        print(error, file=sys.stderr)
        return BUSY
    return 0


def main(arguments: list[str] | None = None) -> int:
    """``python -m ser_utils.grid``: train what is missing of a profile, then list all its runs."""
    parser = argparse.ArgumentParser(prog="ser_utils.grid", description=main.__doc__)
    parser.add_argument("--profile", default="full", choices=list(configuration.PROFILES))
    for name, kind in (("models", str), ("protocols", str), ("folds", int)):
        parser.add_argument(f"--{name}", nargs="*", type=kind, help=f"only these {name}")
    parser.add_argument("--budget", type=float, help="stop after this many seconds")
    parser.add_argument("--jobs", type=int, help="runs at a time (default: one a core)")
    parser.add_argument("--runs", type=Path, default=RUNS, help="where the runs lie (default: runs/)")
    parser.add_argument("--task", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.task:
        return _child(json.loads(options.task))

    from ser_utils import corpus, features

    try:
        found = corpus.for_profile(options.profile)
        features.extract(found, configuration.PROFILES[options.profile].features)
        table = run_all(options.profile, found, options.models, options.protocols, options.folds,
                        options.budget, options.jobs, options.runs)
    except KeyboardInterrupt:
        print("\nStopped. Finished runs are kept; a run that was under way goes on from its last epoch.")
        return 130
    except (GridError, ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    done = int(table.finished.sum())
    print(f"{done} of {len(table)} runs are finished.")
    print(table.pivot_table(index=["protocol", "model"], columns="fold", values="finished", sort=False)
          .map(lambda x: "yes" if x else ".").to_string())
    return 0


if __name__ == "__main__":
    sys.exit(main())
