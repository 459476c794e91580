"""Grids that start in milliseconds, so that a test can kill many: forks of a process that has loaded Keras once.

``python nursery.py TASK`` (a pickle of configs, corpus and root) reads a line of JSON for each grid to start:

- {"write": n, "bytes": b} kills its whole process group by SIGKILL while the n-th file is being written, as soon
  as it holds b bytes; {"replace": n} just before the n-th file is put in its place; {"seconds": s} after that time;
- {"full": n}: from the n-th file on the disk is full;
- {} lets it end, {"grids": 2} lets two of them end that work on the same folder at the same time.

It answers with a line of JSON: how each grid ended ("killed", "finished" or "failed"), and how many files were
put in place. The networks are replaced by a tiny one; everything else is the real thing.
"""

import builtins
import errno
import io
import json
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import traceback
import types

import keras

from ser_utils.training import fit as training
from ser_utils.training import grid


def tiny_network(config, mean, std):
    """A network of two dense layers in the place of the seven."""
    network = keras.Sequential([
        keras.layers.Rescaling(1 / 40, 1),
        keras.layers.GlobalAveragePooling1D(),
        keras.layers.Dropout(0.1, seed=config.seed),
        keras.layers.Dense(160, activation="relu"),
        keras.layers.Dense(8, activation="softmax", dtype="float32"),
    ], name=config.model)
    inputs = keras.Input((config.frames, config.features.n_mels))
    return keras.Model(inputs, network(inputs))


class Fork:
    """Takes the place of ``subprocess.Popen``: the task of the command line, in a fork of this process."""

    def __init__(self, command, stdout, stderr, text, env):
        reader, writer = os.pipe()
        self.pid, self.returncode = os.fork(), None
        if self.pid == 0:
            code = 1
            try:
                os.close(reader)
                os.dup2(writer, 1)
                os.dup2(stderr.fileno(), 2)
                sys.stdout = open(1, "w", closefd=False)
                os.environ.update(env)
                code = grid._child(json.loads(command[-1]))
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(code)
        os.close(writer)
        self.stdout = open(reader)

    def wait(self):
        if self.returncode is None:
            self.returncode = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self.returncode

    def terminate(self):
        if self.returncode is None:
            os.kill(self.pid, signal.SIGTERM)


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
    """Have this process and its forks die at a moment; ``counts`` is shared between them."""
    def count(what):
        with counts.get_lock():
            counts[what] += 1
            return counts[what]

    def opened(file, mode="r", *arguments, **options):
        path = os.fsdecode(file) if isinstance(file, (str, bytes, os.PathLike)) else ""
        if not set(mode) & set("wx") or not path.startswith(root) or path.endswith(".log"):
            return real(file, mode, *arguments, **options)
        number = count(0)
        if number >= moment.get("full", float("inf")):
            raise OSError(errno.ENOSPC, "No space left on device")
        if number != moment.get("write"):
            return real(file, mode, *arguments, **options)
        binary = io.BufferedRandom(DyingFile(path, moment["bytes"])) if "+" in mode else io.BufferedWriter(
            DyingFile(path, moment["bytes"]))
        return binary if "b" in mode else io.TextIOWrapper(binary)

    def replaced(source, target):
        if os.fsdecode(target).startswith(root) and not os.fsdecode(target).endswith("timing.json"):
            if count(1) == moment.get("replace"):
                die()
        return replace(source, target)

    real, replace = io.open, os.replace
    builtins.open = io.open = opened
    os.replace = replaced
    if "seconds" in moment:
        threading.Timer(moment["seconds"], die).start()


def main():
    with open(sys.argv[1], "rb") as file:
        configs, corpus, root = pickle.load(file)
    training.frontend.assemble = tiny_network
    grid.subprocess = types.SimpleNamespace(Popen=Fork, PIPE=None)
    for line in sys.stdin:
        moment = json.loads(line)
        counts = multiprocessing.Array("i", 2)
        leaders = [start(configs, corpus, root, moment, counts) for _ in range(moment.get("grids", 1))]
        codes = [os.waitstatus_to_exitcode(os.waitpid(leader, 0)[1]) for leader in leaders]
        ends = [{0: "finished", -signal.SIGKILL: "killed"}.get(code, "failed") for code in codes]
        print(json.dumps({"ends": ends, "files": counts[1]}), flush=True)


def start(configs, corpus, root, moment, counts):
    """Fork a grid off, in a process group of its own; its process id."""
    leader = os.fork()
    if leader:
        return leader
    code = 1
    try:
        os.setsid()
        watch(moment, str(root), counts)
        grid.train(configs, corpus, root, jobs=2, progress=False)
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


if __name__ == "__main__":
    main()
