"""Trainings that start in milliseconds, so that a test can kill many: forks of a process that has loaded Keras once.

``python nursery.py TASK`` (a pickle of configurations, store and root) reads a line of JSON for each time:

- {"write": n, "bytes": b} kills the process as soon as the n-th file that it writes, or one of the later, would grow
  beyond b bytes; {"replace": n} just before the n-th file is put in its place;
- {} lets it end, {"runs": 1} trains the first run alone, {"processes": 2} lets two train the same runs at one time.

It answers with a line of JSON: how each ended ("killed", "finished" or "failed"), and how many files were put in place.
"""

import builtins
import io
import json
import multiprocessing
import os
import pickle
import resource
import signal
import sys
import time

from tiny import tiny_network

from ser_utils.training import fit, frontend, runs


def watch(moment, root, counts):
    """Have this process die at a moment; ``counts`` is shared between processes."""
    def count(what):
        with counts.get_lock():
            counts[what] += 1
            return counts[what]

    def opened(file, mode="r", *arguments, **options):
        path = os.fsdecode(file) if isinstance(file, (str, bytes, os.PathLike)) else ""
        if set(mode) & set("wx") and path.startswith(root) and count(0) == moment.get("write"):
            resource.setrlimit(resource.RLIMIT_FSIZE, (moment["bytes"], moment["bytes"]))
        return real(file, mode, *arguments, **options)

    def replaced(source, target):
        if os.fsdecode(target).startswith(root) and count(1) == moment.get("replace"):
            os.kill(os.getpid(), signal.SIGKILL)
        return replace(source, target)

    real, replace = io.open, os.replace
    builtins.open = io.open = opened
    os.replace = replaced


def life(moment, root, counts, configs, store):
    """Trainings in a process of their own."""
    sys.stdout = sys.stderr  # the other is for the answers alone
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)  # a file that grows too long kills, and leaves no core
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
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
        ends = [{0: "finished", -signal.SIGKILL: "killed", -signal.SIGXFSZ: "killed"}.get(one.exitcode, "failed")
                for one in lives]
        print(json.dumps({"ends": ends, "files": counts[1]}), flush=True)


if __name__ == "__main__":
    main()
