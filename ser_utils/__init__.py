"""Speech emotion recognition on RAVDESS: data, features, networks, training and evaluation of the report."""

__version__ = "0.1.0"

EMOTIONS = ("neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised")  # labels 0 to 7
FOLDS = 6  # of every protocol
PROTOCOLS = ("random", "twins", "actors")  # how clips are split, see ser_utils.data.folds
