"""The command line ``ser-utils``: an answer for recordings, and the project's other commands by one name."""

import argparse
import importlib
import json
import os
import sys
from pathlib import Path

from ser_utils import machine
from ser_utils.config import WEIGHTS

COMMANDS = {  # each with the function that takes its arguments, and its help
    "predict": ("ser_utils.cli:predict", "the emotion of recordings"),
    "demo": ("ser_utils.demo:main", "a page on this machine to record, drop a file, see the answer"),
    "export": ("ser_utils.cli:export", "a network for other programs, as ONNX or LiteRT"),
    "data": ("ser_utils.data.ravdess:main", "download RAVDESS speech (208 MB), or check it"),
    "train": ("ser_utils.training.grid:main", "train networks; those that are finished are left as they are"),
    "table2": ("ser_utils.evaluation.tables:main", "print the published results beside the paper's"),
    "score": ("ser_utils.evaluation.score:main", "any system's predictions beside the published networks")}


def main(arguments: list[str] | None = None) -> int:
    """Speech emotion recognition: what a recording sounds like, and everything the report is made of."""
    listed = "\n".join(f"  {name:9} {words}" for name, (_, words) in COMMANDS.items())
    parser = argparse.ArgumentParser(prog="ser-utils", usage="ser-utils COMMAND ...", description=main.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter, epilog=f"commands:\n{listed}\n\n"
        "ser-utils COMMAND --help tells more. Exit codes: 0 all well, 2 an input can't be used, 1 anything else.")
    parser.add_argument("command", choices=COMMANDS, metavar="COMMAND", help=argparse.SUPPRESS)
    given = sys.argv[1:] if arguments is None else arguments
    place, _ = COMMANDS[parser.parse_args(given[:1]).command]
    if (backend := os.environ.get("KERAS_BACKEND") or "tensorflow") not in ("tensorflow", "jax"):
        print(f"KERAS_BACKEND={backend}: set it to tensorflow or jax.", file=sys.stderr)
        return 1
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    module, function = place.split(":")
    try:
        return getattr(importlib.import_module(module), function)(given[1:]) or 0
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130


@machine.quiet()
def predict(arguments: list[str]) -> int:
    """``ser-utils predict FILE...``; 2 where a file could not be used."""
    parser = argparse.ArgumentParser(
        prog="ser-utils predict", description="The emotion of recordings: WAV, FLAC, OGG, Opus or MP3, 8 to 192 kHz, "
        "0.1 s to hours. A file that can't be used is named on standard error, and the others are answered.")
    parser.add_argument("files", nargs="+", metavar="FILE")
    parser.add_argument("--model", default=WEIGHTS, help="weights by name, a file of weights or a run's folder "
                        f"(default: {WEIGHTS})")
    parser.add_argument("--voice", type=Path, metavar="FOLDER", help="recordings of the same speaker in several "
                        "moods, which fit the network to the voice: 5 help, 20 help more")
    parser.add_argument("--timeline", action="store_true", help="from moment to moment, for long recordings")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print JSON, with all eight probabilities")
    form.add_argument("--csv", action="store_true", help="print CSV, with all eight probabilities")
    parser.add_argument("--plot", type=Path, metavar="PNG", help="draw the timeline of one recording to this file")
    options = parser.parse_args(arguments)
    if options.plot and (len(options.files) > 1 or options.plot.suffix.lower() != ".png"):
        parser.error("--plot draws one recording, to a file that ends in .png.")
    if options.voice and not options.voice.is_dir():
        parser.error(f"--voice {options.voice} is no folder.")
    try:
        predicting, shipped = (importlib.import_module(f"ser_utils.{name}") for name in ("predict", "shipped"))
        recognizer = predicting.EmotionRecognizer.load(options.model)
        if options.voice:
            recognizer.enrol(sorted(path for path in options.voice.glob("[!.]*") if path.is_file()))
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 1 if isinstance(error, shipped.WeightsError) else 2
    if options.timeline or options.plot:
        table, errors = recognizer.timelines(options.files)
        short = predicting.spans(table)
    else:
        table = recognizer.predict_many(options.files, progress=sys.stderr.isatty() and len(options.files) > 1)
        errors = [error for error in table.error if error]
        short = table[table.error == ""][["file", "label", "confidence", "speech", "notes"]]
    if options.json:
        print(json.dumps(json.loads(table.to_json(orient="records", force_ascii=False)), indent=1, ensure_ascii=False))
    elif options.csv:
        print(table.to_csv(index=False), end="")
    elif len(short):
        print(short.to_string(index=False, float_format="{:.2f}".format))
    if options.plot and not errors:
        try:
            importlib.import_module("ser_utils.plots.predict").save(options.files[0], table, options.plot)
        except OSError as error:
            errors.append(f"The picture can't be written: {error}")
    print(*errors, sep="\n", end="\n" if errors else "", file=sys.stderr)
    return 2 if errors else 0


@machine.quiet()
def export(arguments: list[str]) -> int:
    """``ser-utils export MODEL FILE``; 1 where it can't be done."""
    parser = argparse.ArgumentParser(prog="ser-utils export", description="A network for other programs. They give it "
                                     "log-mels in dB and get eight probabilities; see ser_utils.shipped.export.")
    parser.add_argument("model", help="weights by name, a file of weights or a run's folder")
    parser.add_argument("file", type=Path, help="what to write; ends in .onnx or .tflite (LiteRT)")
    options = parser.parse_args(arguments)
    predicting, shipped = (importlib.import_module(f"ser_utils.{name}") for name in ("predict", "shipped"))
    try:
        network = predicting.EmotionRecognizer.load(options.model)
        shipped.export(network.model, network.temperature, options.file)
    except (ImportError, ValueError, OSError) as error:
        needs = ". Run: pip install -r requirements-export.txt" if isinstance(error, ImportError) else ""
        print(f"{error}{needs}", file=sys.stderr)
        return 1
    print(f"{options.file}: {options.file.stat().st_size / 1e6:.1f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
