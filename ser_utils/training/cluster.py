"""The grid on a Dask cluster: each run is a task, trained on a worker in a process of its own, checked and kept here.

A worker needs the same code and packages as this machine, and the recordings: in the same folder as here (a
shared file system), or where RAVDESS_DIR points on the worker.
"""

import dataclasses
import hashlib
import json
import queue
import signal
import subprocess
import tempfile
import uuid
from pathlib import Path

import distributed
import filelock

from ser_utils import config as configuration
from ser_utils.config import RunConfig
from ser_utils.data import corpus as corpora
from ser_utils.data.corpus import Corpus
from ser_utils.evaluation import metrics as evaluation
from ser_utils.paths import RUNS, atomic_write
from ser_utils.training import grid, runs

FILES = ("predictions.csv", "history.csv", "model.keras", "run.json")  # run.json last: it makes a folder a run
RETRIES = 3      # times that a run is started again after its process was killed
TOPIC = "ser-epochs"
_children: list[subprocess.Popen] = []  # on a worker: what it trains


class ClusterError(OSError):
    """The cluster can't be used or a run came back damaged; the message says what to do."""


# ----------------------------------------------------------------------------------------------- on a worker


def train_here(settings: dict, folder: str, name: str) -> dict:
    """Train a run on a worker, in a child process; runs as a Dask task.

    Parameters
    ----------
    settings : the run's configuration as a dict.
    folder : where the recordings lie for whoever asks; taken if it is there, else see ``corpus.find``.
    name : of the run, in the messages about its epochs.

    Returns
    -------
    files (name -> bytes) and sha256 (name -> hexadecimal digest), or failure (str) if the training failed.

    Raises
    ------
    ClusterError
        The process was killed, which another attempt may mend.
    """
    worker = distributed.get_worker()
    config = configuration.from_dict(settings)
    root = Path(folder) if Path(folder).is_dir() else corpora.find(config.corpus).root
    with tempfile.TemporaryDirectory(prefix="ser-", dir=worker.local_directory) as scratch:
        worker.log_event(TOPIC, {"name": name})
        process = grid.child(config, root, Path(scratch))
        _children.append(process)
        try:
            for line in process.stdout:
                try:
                    worker.log_event(TOPIC, {"name": name, "row": json.loads(line)})
                except ValueError:
                    continue  # a library's chatter, not ours
            code = process.wait()
        finally:
            process.kill()
            _children.remove(process)
        directory = config.run_directory(Path(scratch))
        if code < 0:
            raise ClusterError(f"{config.name} was killed by signal {-code} on {worker.address} (out of memory?).")
        if code:
            return {"failure": f"{worker.address}: {grid.tail(directory)}"}
        files = {name: (directory / name).read_bytes() for name in FILES}
    return {"files": files, "sha256": {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}}


def _stop_children() -> None:
    """Stop what this worker trains."""
    for process in list(_children):
        process.send_signal(signal.SIGTERM)


# ---------------------------------------------------------------------------------------------------- here


def keep(config: RunConfig, result: dict, root: Path) -> None:
    """Check the files of a run that came back, and write them to its folder, ``run.json`` last.

    Raises
    ------
    ClusterError
        A file does not match its hash, or belongs to another configuration.
    ResultsError
        The files contradict each other.
    """
    for name in FILES:
        if hashlib.sha256(result["files"].get(name, b"")).hexdigest() != result["sha256"].get(name):
            raise ClusterError(f"{config.name}: {name} was damaged on its way from the worker. Start the grid again.")
    with tempfile.TemporaryDirectory(prefix="ser-") as folder:
        unpacked = config.run_directory(Path(folder))
        unpacked.mkdir(parents=True)
        for name, content in result["files"].items():
            (unpacked / name).write_bytes(content)
        runs.read(unpacked)
        if not config.is_finished(Path(folder)):
            raise ClusterError(f"{config.name}: the worker trained other settings. Update its code to that of this "
                               "machine.")
    directory = config.run_directory(root)
    with filelock.FileLock(directory / ".lock"):
        if runs.is_finished(config, root):
            return
        if (directory / "run.json").exists():

            runs.move_aside(directory, json.loads((directory / "run.json").read_text())["config_hash"])
        for name in FILES:
            with atomic_write(directory / name) as temporary:
                temporary.write_bytes(result["files"][name])


class Remote:
    """One run on the cluster; the counterpart of :class:`ser_utils.training.grid.Process`."""

    def __init__(self, config: RunConfig, corpus: Corpus, root: Path, client: distributed.Client,
                 resources: dict | None, events: queue.Queue):
        self.config, self.root, self.error = config, root, ""
        self.future = client.submit(train_here, dataclasses.asdict(config), str(corpus.root), config.name,
                                    key=f"{config.name}-{uuid.uuid4().hex[:8]}", retries=RETRIES,
                                    resources=resources)
        self.future.add_done_callback(lambda _: events.put(("end", self, None)))

    def stop(self) -> None:
        """Give the run up; its epochs are lost."""
        self.future.cancel()

    def collect(self) -> int:
        """0 once the run's files are here, else 1."""
        try:
            result = self.future.result()
            self.error = result.get("failure", "")
            if not self.error:
                keep(self.config, result, self.root)
        except (ClusterError, evaluation.ResultsError, distributed.KilledWorker) as error:
            self.error = str(error)
        except distributed.client.FutureCancelledError:
            self.error = "given up"
        return 1 if self.error else 0

    def failure(self) -> str:
        """Why the run failed."""
        return f"{self.config.name}: {self.error}"


def train(configs: list[RunConfig], corpus: Corpus, scheduler: str, root: Path = RUNS, budget: float | None = None,
          progress: bool = True) -> None:
    """Train all runs that are not finished on the workers of a Dask scheduler (``tcp://host:port``).

    Runs of workers that are lost are started again elsewhere. Where workers announce a resource ``GPU``, each run
    takes one; else a worker trains as many runs at a time as it has threads.

    Raises
    ------
    ClusterError
        The scheduler can't be reached, or has no worker.
    GridError
        See :func:`ser_utils.training.grid.train`.
    """
    try:
        client = distributed.Client(scheduler, timeout=20)
    except OSError as error:
        raise ClusterError(f"No Dask scheduler at {scheduler} ({error}). Start one: dask scheduler") from error
    with client:
        workers = client.scheduler_info(n_workers=-1)["workers"].values()
        if not workers:
            raise ClusterError(f"The scheduler at {scheduler} has no worker. Start some: dask worker {scheduler}")
        places = sum(int(worker["resources"].get("GPU", 0)) for worker in workers)
        resources = {"GPU": 1} if places else None
        places = places or sum(worker["nthreads"] for worker in workers)
        remotes, events = {}, []

        def start(config, queue_of_events):
            events[:] = [queue_of_events]
            remotes[config.name] = Remote(config, corpus, root, client, resources, queue_of_events)
            return remotes[config.name]

        def hear(event):
            _, message = event
            if message["name"] in remotes:
                row = message.get("row")
                events[0].put(("epoch" if row else "begin", remotes[message["name"]], row))

        client.subscribe_topic(TOPIC, hear)
        try:
            grid.train(configs, corpus, root, places, budget, progress, start=start)
        finally:
            if any(not remote.future.done() for remote in remotes.values()):
                client.run(_stop_children)
