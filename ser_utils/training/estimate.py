"""How long training takes: times measured so far in, a forecast out. Nothing here trains or waits.

A network's seconds an epoch come from the epochs of this very grid, or else from earlier runs with the same
settings on the same machine; early stopping from how long earlier runs trained; and the time left from dealing
the remaining runs out to the processes at work, in the order in which they will start.

``python -m ser_utils.training.estimate`` prints what the full study takes on one and on many devices, by the published runs.
"""

import argparse
import dataclasses
import heapq
import json
import sys
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from ser_utils import config as configuration
from ser_utils import machine
from ser_utils.config import RunConfig
from ser_utils.paper import MODEL_NAMES
from ser_utils.paths import RESULTS, atomic_write
from ser_utils.training import runs

FILE = "timing.json"   # beside a run's files: how long the grid saw it take
TIMINGS = "timings.csv"  # in results/: those of the full profile, published
SECONDS = ("epoch", "start", "finish")
CLUSTER = "a cluster"  # in the place of a device
RECENT = 60            # epochs of a network whose mean is its speed
START, FINISH = 15, 3  # seconds to start and to end a process, until they are measured


@dataclasses.dataclass(frozen=True)
class Timing:
    """How long one run took, or its first epochs, in a process of its own.

    ``kind`` are the settings that decide about speed (:func:`kind`); ``epoch`` is in seconds, after the first;
    ``start`` are the seconds before the first epoch and what that one took longer, ``finish`` those after the
    last; ``share`` is the part of the planned epochs after which it ended (None: it did not end); ``rough`` says
    that more or fewer runs than now may have run beside it.
    """

    kind: str
    epoch: float
    start: float = START
    finish: float = FINISH
    share: float | None = None
    rough: bool = False


@dataclasses.dataclass
class Work:
    """A run that is not finished: how far it is, and what is planned."""

    kind: str
    planned: int
    patience: int
    done: int = 0              # epochs
    best: int = 0              # epoch of the best validation accuracy
    best_accuracy: float = -1.0

    def epoch(self, number: int, val_accuracy: float) -> None:
        """Note that an epoch has ended."""
        if number <= self.done:  # begun anew
            self.best, self.best_accuracy = 0, -1.0
        self.done = number
        if val_accuracy > self.best_accuracy:
            self.best, self.best_accuracy = number, val_accuracy


def kind(config: RunConfig) -> str:
    """What decides about the time of an epoch: the network and all settings but protocol, fold and seed."""
    return f"{config.model}-{dataclasses.replace(config, protocol='', fold=0, seed=0).hash}"


def work(config: RunConfig, root: Path) -> Work:
    """How far a run is, by the state it saved last."""
    fresh = Work(kind(config), config.epochs, config.patience)
    try:
        with np.load(config.run_directory(root) / "state.npz") as state:
            note = json.loads(str(state["note"]))
    except Exception:  # no state, or one that training can't use either
        return fresh
    if note["hash"] != config.hash:
        return fresh
    return dataclasses.replace(fresh, done=len(note["rows"]), best=note["best"]["epoch"],
                               best_accuracy=note["best"]["val_accuracy"])


def makespan(busy: Iterable[float], waiting: Iterable[float], jobs: int) -> float:
    """Seconds until all is done: ``busy`` are what the processes at work still need, ``waiting`` start in order."""
    ends = list(busy)
    ends += [0.0] * (jobs - len(ends))
    heapq.heapify(ends)
    for seconds in waiting:
        heapq.heapreplace(ends, ends[0] + seconds)
    return max(ends, default=0.0)


class Forecast:
    """The time left, by what has been measured until now.

    ``past`` are timings of earlier runs; those of this grid come in through ``epoch``, ``began`` and ``ended``.
    """

    def __init__(self, past: Iterable[Timing] = ()):
        self.past, self.shares = defaultdict(list), defaultdict(list)
        for timing in past:
            self.past[timing.kind].append(timing)
            if timing.share:
                self.shares[timing.kind].append(timing.share)
        self.epochs, self.starts, self.finishes = (defaultdict(list) for _ in range(3))

    def epoch(self, kind: str, seconds: float) -> None:
        """An epoch that was not its process's first took so long."""
        self.epochs[kind] = [*self.epochs[kind], seconds][-RECENT:]

    def began(self, kind: str, seconds: float) -> None:
        """A process took so long from its start to the end of its first epoch."""
        self.starts[kind].append(seconds)

    def ended(self, kind: str, seconds: float, share: float) -> None:
        """A process took so long from its last epoch to its end, after ``share`` of the planned epochs."""
        self.finishes[kind].append(seconds)
        self.shares[kind].append(share)

    def knows(self, kind: str) -> bool:
        """Whether a network's speed has been measured."""
        return bool(self.epochs[kind] or self.past[kind])

    def seconds(self, kind: str) -> float | None:
        """Seconds an epoch; None if not measured.

        Until a network's own epochs come in, its earlier runs count, faster or slower by as much as the other
        networks now are.
        """
        if len(self.epochs[kind]) > 1 or not self.past[kind]:
            return float(np.mean(self.epochs[kind])) if self.epochs[kind] else None
        now = [np.mean(seconds) / self._past(other, "epoch") for other, seconds in self.epochs.items()
               if len(seconds) > 1 and self.past[other]]
        return self._past(kind, "epoch") * float(np.median(now) if now else 1.0)

    def start(self, kind: str) -> float:
        """Seconds that a process spends besides its epochs before the end of the first."""
        own = {other: max(np.mean(first) - self.seconds(other), 0.0) for other, first in self.starts.items()
               if first and self.seconds(other) is not None}
        return self._known(kind, own, "start", START)

    def finish(self, kind: str) -> float:
        """Seconds from a run's last epoch to the end of its process."""
        own = {other: float(np.mean(seconds)) for other, seconds in self.finishes.items() if seconds}
        return self._known(kind, own, "finish", FINISH)

    def _known(self, kind: str, own: dict[str, float], name: str, default: float) -> float:
        """A network's own value, or its earlier one, or the mean of the others, or the default."""
        if kind in own:
            return own[kind]
        if self.past[kind]:
            return self._past(kind, name)
        return float(np.mean(list(own.values()))) if own else default

    def _past(self, kind: str, name: str) -> float:
        return float(np.mean([getattr(timing, name) for timing in self.past[kind]]))

    def epochs_left(self, work: Work) -> float:
        """Epochs that a run is expected to go on for.

        As long as earlier runs that came this far (of the same network; else of any); at least until its patience
        can run out; all that are planned while nothing is known.
        """
        if work.done >= work.planned:
            return 0.0
        shares = self.shares[work.kind] or [share for known in self.shares.values() for share in known] or [1.0]
        ends = [share * work.planned for share in shares if share * work.planned > work.done]
        soonest = min(work.planned, max(work.best + work.patience, work.done + 1))
        return max(float(np.mean(ends)) if ends else 0.0, soonest) - work.done

    def run(self, work: Work, started: bool = False, idle: float = 0.0) -> float | None:
        """Seconds that a run still needs; None if its network's speed is not known.

        ``started``: its process has finished an epoch, ``idle`` seconds ago.
        """
        seconds = self.seconds(work.kind)
        if seconds is None:
            return None
        left = self.epochs_left(work) * seconds + self.finish(work.kind) + (0 if started else self.start(work.kind))
        return max(left - idle, 0.0)

    def left(self, running: Iterable[tuple[Work, bool, float]], waiting: Iterable[Work], jobs: int
             ) -> tuple[float | None, set[str]]:
        """Seconds until all runs are done, and the kinds that are not measured yet.

        ``running`` are the arguments of :meth:`run`. What is not measured is taken as the mean of the others; None
        if nothing is measured.
        """
        running, waiting = list(running), list(waiting)
        works = [work for work, *_ in running] + waiting
        known = {work.kind: self.seconds(work.kind) for work in works}
        unknown = {kind for kind, seconds in known.items() if seconds is None}
        measured = [self.seconds(kind) for kind in {*self.past, *self.epochs} if self.knows(kind)]
        if works and not measured:
            return None, unknown
        stand_in = float(np.mean(measured)) if measured else 0.0

        def need(work, *progress):
            seconds = self.run(work, *progress)
            return self.start(work.kind) + self.epochs_left(work) * stand_in if seconds is None else seconds

        return makespan([need(*one) for one in running], [need(one) for one in waiting], jobs), unknown


# ------------------------------------------------------------------------------------------ what was measured


def setting(jobs: int, cluster: bool = False) -> str:
    """Where times compare: processor and precision, or a cluster, and the number of runs side by side."""
    return f"{CLUSTER if cluster else _here()}, {jobs} at a time"


def _here() -> str:
    return label(machine.processor(), machine.precision())


def label(device: str, precision: str) -> str:
    """A device and the precision it trains in: processors of one name may or may not be fast at bfloat16."""
    return f"{device}, {precision}"


def keep(timing: Timing, directory: Path, where: str) -> None:
    """Write how long a run took beside its files; ``where`` is its :func:`setting`."""
    with atomic_write(directory / FILE) as temporary:
        temporary.write_text(json.dumps({"setting": where, **dataclasses.asdict(timing)}) + "\n")


def measured(folder: Path, where: str) -> list[Timing]:
    """Timings of the runs in a profile's folder that were made on this machine.

    Those that a grid measured in the same :func:`setting` come first; only for networks without them count
    the ``wall_seconds`` of finished runs, however many ran beside them.
    """
    exact, rough = [], []
    for path in sorted(Path(folder).glob("*/*/fold[0-9]*")):
        try:
            values = json.loads((path / FILE).read_text())
            if values.pop("setting") == where:
                exact.append(Timing(**values))
                continue
        except (OSError, ValueError, KeyError, TypeError):
            pass
        try:
            info = json.loads((path / "run.json").read_text())
            config = configuration.from_dict(info["config"])
            if label(info["device"], info["precision"]) == _here() or info["device"] == "gpu":
                rough.append(Timing(kind(config), info["wall_seconds"] / info["epochs"],
                                    share=info["epochs"] / config.epochs, rough=True))
        except (OSError, ValueError, KeyError, TypeError, ZeroDivisionError):
            continue
    seen = {timing.kind for timing in exact}
    return exact + [timing for timing in rough if timing.kind not in seen]


def words(seconds: float) -> str:
    """A length of time in words: 40 s, 12 min, 3 h 5 min, 2 d 4 h."""
    minutes = round(seconds / 60)
    if seconds < 100:
        return f"{seconds:.0f} s"
    if minutes < 60:
        return f"{minutes} min"
    if minutes < 24 * 60:
        return f"{minutes // 60} h {minutes % 60} min"
    hours = round(seconds / 3600)
    return f"{hours // 24} d {hours % 24} h"


# ------------------------------------------------------------------------------------------- the full study

SEEDS, TRIALS, DEVICES = 5, 200, (1, 8, 64)
_PLACE = ["device", "at_once", "model"]  # what a row of timings.csv is about


def gather(runs: Path, results: Path = RESULTS) -> None:
    """Add the times that the grid measured for the full profile's networks in ``runs/`` to ``results/timings.csv``.

    Columns: device (with its precision), at_once (runs side by side on it), model, epoch, start, finish (seconds,
    means of the runs that were timed). Rows of other devices stay. The runs of studies that change nothing but the
    seed count only where a network has no other times.
    """
    path = results / TIMINGS
    known = pd.read_csv(path).set_index(_PLACE) if path.exists() else _means([])
    own = _means(Path(runs).glob(f"ravdess-full/*/*/fold[0-9]*/{FILE}"))
    table = own.combine_first(known).combine_first(_means(Path(runs).glob(f"studies/**/{FILE}")))
    if len(table):
        with atomic_write(path) as temporary:
            table[[*SECONDS]].sort_index().reset_index().to_csv(temporary, index=False)


def _means(files: Iterable[Path]) -> pd.DataFrame:
    """Mean times of the full profile's networks in files of the grid; other networks' are passed over."""
    kinds = {kind(c): c.model for c in configuration.run_configs("full", "ravdess", folds=[0], protocols=["random"])}
    found = []
    for file in sorted(files):
        values = json.loads(file.read_text())
        device, _, at_once = values["setting"].removesuffix(" at a time").rpartition(", ")
        if values["kind"] in kinds and device != CLUSTER:
            found.append((device, int(at_once), kinds[values["kind"]], *(values[key] for key in SECONDS)))
    return pd.DataFrame(found, columns=[*_PLACE, *SECONDS]).groupby(_PLACE)[[*SECONDS]].mean().round(2)


def _timed(root: Path) -> dict[tuple[str, int], dict[str, float]]:
    """(device, runs side by side on it) -> network -> mean seconds of a full run.

    By the times in ``timings.csv``, networks without them by their published runs; likewise devices.
    """
    finished = defaultdict(lambda: defaultdict(list))
    for path in runs.find(root):
        info = json.loads((path / "run.json").read_text())
        if info["profile"] == "full" and info["model"] in MODEL_NAMES:
            finished[label(info["device"], info["precision"])][info["model"]].append(info["wall_seconds"])
    means = {device: {model: float(np.mean(seconds)) for model, seconds in networks.items()}
             for device, networks in finished.items()}
    measured = defaultdict(dict)
    if (Path(root) / TIMINGS).exists():
        epochs = {c.model: c.epochs for c in configuration.run_configs("full", "ravdess")}
        for row in pd.read_csv(Path(root) / TIMINGS).itertuples():
            measured[row.device, row.at_once][row.model] = row.start + row.epoch * epochs[row.model] + row.finish
    timed = {place: means.get(place[0], {}) | networks for place, networks in measured.items()}
    known = {device for device, _ in timed}
    return timed | {(device, 1): networks for device, networks in means.items() if device not in known}


def study(root: Path = RESULTS, devices: tuple[int, ...] = DEVICES) -> pd.DataFrame:
    """Seconds that the full study takes, by the full runs that were timed: a row a device and study.

    Columns: device, at_once (runs side by side on one device), study, and a column for each number of devices at
    work. The studies are the full profile's runs, the same with five seeds, and a search of 200 trials dealt out
    evenly to the seven networks, a trial being one run. Each run is taken to last as long as its network's timed
    runs did, or would have for all epochs. A device on which only some networks were timed has one row, the full
    profile's runs of these; it names them.
    """
    configs = configuration.run_configs("full", "ravdess")
    rows = []
    for (device, at_once), means in _timed(root).items():
        timed = [model for model in MODEL_NAMES if model in means]
        runs = [means[c.model] for c in configs if c.model in means]
        if len(timed) < len(MODEL_NAMES):
            names = ", ".join(MODEL_NAMES[model] for model in timed)
            studies = {f"{len(runs)} of {len(configs)} runs ({names})": runs}
        else:
            trials = [means[model] for _, model in zip(range(TRIALS), [*MODEL_NAMES] * TRIALS, strict=False)]
            studies = {f"{len(runs)} runs": runs, f"{SEEDS * len(runs)} runs ({SEEDS} seeds)": SEEDS * runs,
                       f"search of {TRIALS} trials": trials}
        rows += [{"device": device, "at_once": at_once, "study": name} | {
            count: makespan([], sorted(works, reverse=True), count * at_once) for count in devices}
            for name, works in studies.items()]
    return pd.DataFrame(rows, columns=["device", "at_once", "study", *devices])


def study_markdown(root: Path = RESULTS) -> str:
    """:func:`study` as a Markdown table, in words; it says what was not timed."""
    table = study(root)
    if table.empty:
        return ("No device has timed a full run yet, so there is nothing to go by: `make grid` and `make publish` "
                "fill this in.\n")
    lines = ["| device | runs side by side on each | study | " + " | ".join(
        f"{count} device{'s' if count > 1 else ''}" for count in DEVICES) + " |",
             "|---|---:|---|" + "---:|" * len(DEVICES)]
    lines += [f"| {row.device} | {row.at_once} | {row.study} | "
              + " | ".join(words(row[count]) for count in DEVICES) + " |" for _, row in table.iterrows()]
    if not table.device.str.startswith("gpu").any():
        lines.append("\nNo GPU has timed all seven networks yet: these are the times of processors.")
    return "\n".join(lines) + "\n"


def main(arguments: list[str] | None = None) -> int:
    """``python -m ser_utils.training.estimate [ROOT]``: print what the full study takes, by the runs in ROOT (results/)."""
    parser = argparse.ArgumentParser(prog="ser_utils.training.estimate", description=main.__doc__)
    parser.add_argument("root", nargs="?", type=Path, default=RESULTS)
    print(study_markdown(parser.parse_args(arguments).root), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
