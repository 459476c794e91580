"""Trainings that start in milliseconds, so that a test can kill many: forks of a process that has loaded Keras once.

``python nursery.py TASK`` (a pickle of configurations, store and root) reads a line of JSON for each time:

- {"write": n, "bytes": b} kills the process group by SIGKILL while the n-th file is being written, as soon as it holds
  b bytes; {"replace": n} just before the n-th file is put in its place;
- {} lets it end, {"runs": 1} trains the first run alone, {"processes": 2} lets two train the same runs at one time.

It answers with a line of JSON: how each ended ("killed", "finished" or "failed"), and how many files were put in place.
"""

import builtins
import io
import json
import multiprocessing
import os
import pickle
import signal
import sys
import time

from tiny import tiny_network

from ser_utils.training import fit, frontend, runs


def die():
    os.killpg(0, signal.SIGKILL)


class DyingFile(io.FileIO):
    """A file that kills the process group once so many bytes are written, and writes no byte more."""

    def __init__(self, path, size):
        super().__init__(path, "w")
        self.left = size

    def write(self, data):
        data = memoryview(data).cast("B")
        super().write(data[: self.left])
        self.left -= len(data)
        if self.left <= 0:
            die()
        return len(data)


def watch(moment, root, counts):
    """Have this process die at a moment; ``counts`` is shared between processes."""
    def count(what):
        with counts.get_lock():
            counts[what] += 1
            return counts[what]

    def opened(file, mode="r", *arguments, **options):
        path = os.fsdecode(file) if isinstance(file, (str, bytes, os.PathLike)) else ""
        if set(mode) & set("wx") and path.startswith(root) and count(0) == moment.get("write"):
            buffered = io.BufferedRandom if "+" in mode else io.BufferedWriter
            binary = buffered(DyingFile(path, moment["bytes"]))
            return binary if "b" in mode else io.TextIOWrapper(binary)
        return real(file, mode, *arguments, **options)

    def replaced(source, target):
        if os.fsdecode(target).startswith(root) and count(1) == moment.get("replace"):
            die()
        return replace(source, target)

    real, replace = io.open, os.replace
    builtins.open = io.open = opened
    os.replace = replaced


def life(moment, root, counts, configs, store):
    """Trainings in a process group of its own."""
    os.setsid()
    sys.stdout = sys.stderr  # the other is for the answers alone
    watch(moment, str(root), counts)
    while configs:
        config, *configs = configs
        try:
            fit.run(config, store, root, progress=False)
        except runs.RunBusy:
            configs.append(config)
            time.sleep(0.05)


def main():
    with open(sys.argv[1], "rb") as file:
        configs, store, root = pickle.load(file)
    frontend.assemble, fit.SAVE_SECONDS = tiny_network, 0.0
    fork = multiprocessing.get_context("fork")
    for line in sys.stdin:
        moment, counts = json.loads(line), fork.Array("i", 2)
        lives = [fork.Process(target=life, args=(moment, root, counts, configs[:moment.get("runs")], store))
                 for _ in range(moment.get("processes", 1))]
        for one in lives:
            one.start()
        for one in lives:
            one.join()
        ends = [{0: "finished", -signal.SIGKILL: "killed"}.get(one.exitcode, "failed") for one in lives]
        print(json.dumps({"ends": ends, "files": counts[1]}), flush=True)


if __name__ == "__main__":
    main()
