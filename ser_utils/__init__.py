"""Speech emotion recognition on RAVDESS: data, features, networks, training and evaluation of the report."""

import importlib

__version__ = "0.2.0"

EMOTIONS = ("neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised")  # labels 0 to 7
FOLDS = 6  # of each of these protocols
PROTOCOLS = ("random", "twins", "actors")  # how clips are split, see ser_utils.data.folds
TENFOLD = "random10"  # beside them: ten folds of random clips, as other studies have them
FOLD_COUNT = dict.fromkeys(PROTOCOLS, FOLDS) | {TENFOLD: 10}

# What a user needs, by name; loaded when it is first asked for, so that `import ser_utils` is quick.
_PLACES = {
    "find_corpus": "data.corpus:find", "split": "data.folds:split", "check_split": "data.folds:check_split",
    "FeatureConfig": "config:FeatureConfig", "RunConfig": "config:RunConfig", "run_configs": "config:run_configs",
    "extract": "features.spectral:extract", "log_mel": "features.spectral:log_mel", "build_model": "models:build",
    "train": "training.fit:run", "load_model": "training.frontend:load", "Run": "training.runs:Run",
    "find_runs": "training.runs:find", "metrics": "evaluation.metrics:metrics", "table2": "evaluation.tables:table2",
    "predictions": "training.runs:predictions", "EmotionRecognizer": "predict:EmotionRecognizer", "AudioError":
    "features.audio:AudioError", "LeakError": "data.folds:LeakError", "ResultsError": "evaluation.metrics:ResultsError",
    "WeightsError": "shipped:WeightsError"}
__all__ = ["EMOTIONS", "FOLDS", "PROTOCOLS", *_PLACES]


def __getattr__(name: str):
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, attribute = _PLACES[name].split(":")
    return getattr(importlib.import_module(f"{__name__}.{module}"), attribute)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
