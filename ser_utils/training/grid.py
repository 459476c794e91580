"""Many runs, in processes here or on a Dask cluster; docs/scaling.md: a GPU, a machine without audio, a cluster."""

import argparse
import concurrent.futures
import contextlib
import functools
import math
import pkgutil
import signal
import sys
import time
import types
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pandas as pd
from tqdm import tqdm

from ser_utils import config as configuration
from ser_utils import machine
from ser_utils.config import FeatureConfig, RunConfig
from ser_utils.data import corpus as corpora
from ser_utils.data import folds
from ser_utils.features import spectral
from ser_utils.paths import RESULTS, RUNS
from ser_utils.training import processes, runs
from ser_utils.training.processes import Processes, TaskError

RETRIES = 3    # on a cluster: times that a run is begun again after its worker was lost
PATIENCE = 2   # seconds between two looks at the clock, and at runs under way elsewhere


class GridError(RuntimeError):
    """Some runs failed; the message names each with the end of its log."""


def order(configs: Sequence[RunConfig]) -> list[RunConfig]:
    """Runs in the order that makes partial results useful, and leaves no core without work at the end.

    ``twins`` after the other protocols, fold 0 of every network before fold 1, dear networks before cheap ones.
    """
    cost = ["inceptionnet", "transformer", "alexnet", "lstm", "vgg19", "vgg16", "resnet"]
    return sorted(configs, key=lambda config: (config.seed, config.protocol == "twins", config.fold,
                                               [*cost, config.model].index(config.model), config.protocol))


def train(configs: Sequence[RunConfig], stores: Path | dict[FeatureConfig, Path], root: Path = RUNS,
          jobs: int | None = None, budget: float | None = None, progress: bool = True,
          work: str | Callable = "ser_utils.training.fit:run", scheduler: str | None = None) -> None:
    """Train all runs that are not finished, each in a process of its own; a crash costs that run only.

    stores : the file of features to train from (``spectral.store_path``), or one for each configuration of features.
    jobs : runs at a time (default: one a core).
    budget : seconds after which no run is begun and those under way are stopped; they go on another time.
    work : ``work(config, store, root, progress=False)`` trains one: a module-level function or its name.
    scheduler : address of a Dask scheduler (``tcp://host:port``) whose workers train instead of this machine.

    Raises GridError at the end, if any run failed; OSError where the scheduler can't be reached or has no worker.
    """
    waiting, running, failures, finished, root = deque(), {}, [], 0, Path(root).resolve()
    for config in order(configs):
        if runs.is_finished(config, root):
            (config.run_directory(root) / runs.STATE).unlink(missing_ok=True)  # left behind by a kill
        else:
            waiting.append(config)
    if not waiting or budget == 0:
        return
    deadline = time.monotonic() + (math.inf if budget is None else budget)
    bar = tqdm(total=sum(config.epochs for config in waiting), unit="epoch", disable=not progress, file=sys.stdout,
               desc=f"{len(waiting)} runs", mininterval=1 if sys.stdout.isatty() else 20, dynamic_ncols=True)
    executor = _cluster(scheduler) if scheduler else Processes(min(jobs or machine.cores(), len(waiting)))
    with bar, executor as pool:
        while (waiting or running) and time.monotonic() < deadline:
            while waiting and len(running) < pool.jobs:
                config = waiting.popleft()
                path = stores[config.features] if isinstance(stores, dict) else stores
                running[pool.submit(_train_one, work, config, Path(path).resolve(), root,
                                    log=config.run_directory(root) / "train.log")] = config
            bar.set_postfix_str(", ".join(config.name for config in list(running.values())[:3]), refresh=False)
            done, _ = concurrent.futures.wait(running, min(PATIENCE, max(deadline - time.monotonic(), 0)),
                                              concurrent.futures.FIRST_COMPLETED)
            for future in done:
                config = running.pop(future)
                if future.cancelled():
                    raise GridError(f"The scheduler at {scheduler} was lost. Start it again: every run will go on.")
                error = future.exception()
                if isinstance(error, TaskError) and error.kind == "RunBusy":
                    waiting.append(config)  # another grid trains it: look again
                    time.sleep(PATIENCE if running else 5 * PATIENCE)
                elif error:
                    failures.append(f"{config.name} ({error})")
                else:
                    finished += config.epochs
            bar.update(finished + sum(runs.epochs_done(config, root) for config in running.values()) - bar.n)
    if failures:
        raise GridError(f"{len(failures)} runs failed; the others are finished.\n" + "\n".join(failures))


def _train_one(work: str | Callable, config: RunConfig, path: Path, root: Path) -> None:
    """In a process of its own, where Keras is loaded: train one run from a file of features."""
    work = pkgutil.resolve_name(work) if isinstance(work, str) else work
    work(config, spectral.read(path), root, progress=False)


@contextlib.contextmanager
def _cluster(scheduler: str) -> Iterator[types.SimpleNamespace]:
    """As ``Processes``, on the workers of a Dask scheduler, which share this machine's folders of features and runs.

    Where workers announce a resource ``GPU``, each task takes one; else a worker runs as many as it has threads.
    """
    import distributed

    try:
        client = distributed.Client(scheduler, timeout=20)
    except OSError as error:
        raise OSError(f"No Dask scheduler at {scheduler} ({error}). Start one: dask scheduler") from error
    with client:
        workers = client.scheduler_info(n_workers=-1)["workers"].values()
        if not workers:
            raise OSError(f"The scheduler at {scheduler} has no worker. Start some: dask worker {scheduler}")
        gpus = sum(int(worker["resources"].get("GPU", 0)) for worker in workers)
        jobs = gpus or sum(worker["nthreads"] for worker in workers)
        executor = client.get_executor(pure=False, retries=RETRIES, resources={"GPU": 1} if gpus else None)
        try:
            yield types.SimpleNamespace(jobs=jobs, submit=functools.partial(executor.submit, _there))
        finally:
            if any(task.status == "pending" for task in list(client.futures.values())):  # the budget is spent
                executor.shutdown(wait=False)
                client.run(processes.stop_all)


def _there(*task, log: Path):
    """On a worker: do a task in a process of its own."""
    import distributed

    state = distributed.get_worker().state
    with Processes(int(state.total_resources.get("GPU", 0)) or state.nthreads) as executor:  # as many share its cores
        return executor.submit(*task, log=log).result()


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options that all commands which train many runs share."""
    for name, kind in (("models", str), ("protocols", str), ("folds", int)):
        parser.add_argument(f"--{name}", nargs="*", type=kind, help=f"only these {name}")
    parser.add_argument("--features", type=Path, help="train from this file of features, without the recordings")
    parser.add_argument("--jobs", type=int, help="runs at a time (default: one a core)")
    parser.add_argument("--budget", type=float, help="stop after this many seconds; runs under way go on next time")
    parser.add_argument("--scheduler", help="address of a Dask scheduler that trains instead (tcp://host:port)")
    parser.add_argument("--runs", type=Path, default=RUNS, help="where the runs lie (default: runs/)")


def features_of(profile: str, features: Path | None = None) -> tuple[str, Path]:
    """The corpus ("ravdess" or "synthetic") and the file of features to train a profile from, made if it is missing.

    Raises as ``corpus.find``, ``spectral.extract`` and ``spectral.read``.
    """
    if features and features.exists():
        return spectral.read(features).corpus, features
    found = corpora.for_profile(profile)
    settings = configuration.PROFILES[profile].features
    store = spectral.extract(found, settings)
    if features:
        spectral.write(store, features)
    return found.kind, features or spectral.store_path(found, settings)


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """SIGTERM ends the block as Ctrl-C does: the trainings are stopped, their states kept, and the exit code is 130."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    except KeyboardInterrupt:
        print("\nStopped. Finished runs are kept; a run that was under way goes on from its last epoch.")
        sys.exit(130)
    finally:
        signal.signal(signal.SIGTERM, before)


def command(main: Callable) -> Callable[..., int]:
    """A command line that can be stopped (:func:`interruptible`) and prints what goes wrong, with exit code 1."""

    @functools.wraps(main)
    @interruptible()
    def guarded(*arguments) -> int:
        try:
            return main(*arguments) or 0
        except (GridError, TaskError, ValueError, OSError) as error:
            print(error, file=sys.stderr)
            return 1

    return guarded


@command
def main(arguments: list[str] | None = None) -> int:
    """``python -m ser_utils.training.grid``: train what is missing of a profile, then list all its runs."""
    parser = argparse.ArgumentParser(prog="ser_utils.training.grid", description=main.__doc__)
    parser.add_argument("--profile", default="full", choices=list(configuration.PROFILES))
    add_options(parser)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0], help="seeds of each run (default: 0)")
    parser.add_argument("--learns", default="train", choices=folds.LEARNS,
                        help="distilled: from the answers of the seven networks trained before; refit: from validation "
                             "clips, too; all: from every clip, which leaves none to test on")
    parser.add_argument("--teachers", type=int, default=1, help="seeds of each network that teach a distilled one")
    parser.add_argument("--missing", action="store_true", help="none of the runs that are published in results/")
    options = parser.parse_args(arguments)
    if options.jobs is not None and options.jobs < 1 or options.teachers < 1 or min(options.seeds) < 0:
        parser.error("--jobs and --teachers must be 1 or more, --seeds 0 or more.")
    corpus, store = features_of(options.profile, options.features)
    configs = [configuration.learning(config, options.learns, options.teachers) for config in configuration.run_configs(
        options.profile, corpus, options.models, options.protocols, options.folds, options.seeds)]
    published = {c.name for c in configs if options.missing and runs.holds(RESULTS / c.published, c)}
    wanted = {one.name for c in configs if c.learns == "distilled" and c.name not in published
              and not runs.is_finished(c, options.runs) for one in configuration.teachers(c) if not (
                  runs.is_finished(one, options.runs) and (one.run_directory(options.runs) / runs.WEIGHTS).exists())}
    if wanted:
        raise ValueError(f"{len(wanted)} of the networks that should teach are not trained in {options.runs}, such as "
                         f"{min(wanted)}: first train them, without --learns and --missing. Delete folders without "
                         "weights.")
    train([c for c in configs if c.name not in published], store, options.runs, options.jobs, options.budget,
          scheduler=options.scheduler)
    table = pd.DataFrame([{"protocol": c.protocol, "model": c.row, "run": c.place.split("/")[-1],
                           "finished": c.name in published or runs.is_finished(c, options.runs)}
                          for c in order(configs)])
    print(f"{table.finished.sum()} of {len(table)} runs are finished.")
    print(table.pivot(index=["protocol", "model"], columns="run", values="finished")
          .map(lambda done: "yes" if done else ".").to_string())
    return 0


if __name__ == "__main__":  # by its full name, by which other processes find what is pickled from here
    sys.exit(pkgutil.resolve_name("ser_utils.training.grid:main")())
