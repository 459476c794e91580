"""Speech emotion recognition on RAVDESS: data, features, networks, training and evaluation of the report."""

__version__ = "0.1.0"
