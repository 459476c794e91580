"""A network as Keras, ONNX and LiteRT run it: how large the file is, how far its answers are off, and how fast it is.

Needs ``pip install -r requirements-export.txt``. The three answer in turns in this run, one clip at a time.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter
from onnxruntime import InferenceSession

from ser_utils import machine, shipped
from ser_utils.config import WEIGHTS
from ser_utils.predict import EmotionRecognizer

CLIPS = 200


def onnx(path: Path):
    """What an ONNX file answers to log-mels (n, frames, bands), as a function."""
    session = InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda logmel: session.run(None, {session.get_inputs()[0].name: logmel})[0]


def litert(path: Path):
    """What a LiteRT file answers to one log-mel (1, frames, bands), as a function."""
    interpreter = Interpreter(str(path), num_threads=machine.cores())
    interpreter.allocate_tensors()
    given, answer = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]

    def run(logmel):
        interpreter.set_tensor(given, logmel)
        interpreter.invoke()
        return interpreter.get_tensor(answer)

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default=WEIGHTS, help=f"weights, or a run's folder (default: {WEIGHTS})")
    network = EmotionRecognizer.load(parser.parse_args().model)
    shape = (CLIPS, 1, *network.model.input_shape[1:])
    clips = np.random.default_rng(0).normal(-45, 15, shape).astype(np.float32)
    compiled = tf.function(lambda logmel: network.model(logmel, training=False))
    ways = {"Keras, predict": lambda logmel: network.calibrated(network.model.predict(logmel, verbose=0)),
            "Keras, tf.function": lambda logmel: network.calibrated(keras.ops.convert_to_numpy(compiled(logmel)))}
    with tempfile.TemporaryDirectory() as folder:
        files = {}
        for name, ending, load in (("ONNX Runtime", "onnx", onnx), ("LiteRT", "tflite", litert)):
            files[name] = Path(folder) / f"network.{ending}"
            shipped.export(network.model, network.temperature, files[name])
            ways[name] = load(files[name])
        answers, times = {name: [] for name in ways}, {name: [] for name in ways}
        for clip in clips:
            for name, run in ways.items():
                began = time.perf_counter()
                answers[name].append(run(clip))
                times[name].append(time.perf_counter() - began)
        first, *_ = answers.values()
        median = {name: 1000 * statistics.median(taken[10:]) for name, taken in times.items()}
        print(pd.DataFrame([{
            "runs": name, "file, MB": files[name].stat().st_size / 1e6 if name in files else np.nan,
            "largest difference": np.abs(np.array(answers[name]) - first).max(), "median, ms": median[name],
            "times as fast": median["Keras, predict"] / median[name]} for name in ways]).to_string(index=False,
            formatters={"file, MB": "{:.2f}".format, "largest difference": "{:.1e}".format,
                        "median, ms": "{:.2f}".format, "times as fast": "{:.1f}".format}))


if __name__ == "__main__":
    main()
