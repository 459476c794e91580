"""RAVDESS's file names (Livingstone and Russo 2018, doi 10.1371/journal.pone.0196391) and what they say of a clip."""

import os
from collections.abc import Iterable
from itertools import product
from pathlib import Path

import pandas as pd

from ser_utils import EMOTIONS

STATEMENTS = ("Kids are talking by the door", "Dogs are sitting by the door")
FIELDS = {"modality": ("audio-video", "video", "audio"), "vocal channel": ("speech", "song"), "emotion": EMOTIONS,
          "intensity": ("normal", "strong"), "statement": STATEMENTS, "repetition": (1, 2),
          "actor": tuple(range(1, 25))}
IDENTICAL_CLIPS = ("03-01-03-01-02-01-07", "03-01-03-01-02-02-07")
CODES = tuple(f"{number:02d}" for number in range(1, 25))
CONVENTION = ("RAVDESS names are modality-channel-emotion-intensity-statement-repetition-actor, two digits each, "
              "for example 03-01-05-02-01-02-16.wav")


def parse_name(path: str | os.PathLike) -> dict:
    """Read a RAVDESS file name (with or without folder and suffix).

    Keys: clip (the stem), modality, channel, emotion, label (0-7), intensity, statement (1 or 2), repetition (1 or 2),
    actor (1-24), gender. Raises ValueError when the name is none of the corpus's 7,356.
    """
    name, stem = Path(path).name, Path(path).stem
    parts = stem.split("-")
    if len(parts) != len(FIELDS):
        raise ValueError(f"'{name}' has {len(parts)} field(s), not {len(FIELDS)} with hyphens. {CONVENTION}.")
    said = []
    for text, (title, values) in zip(parts, FIELDS.items(), strict=True):
        if text not in CODES[:len(values)]:
            raise ValueError(f"'{name}': the {title} field is '{text}', not 01 to {len(values):02d}. {CONVENTION}.")
        said.append(values[int(text) - 1])
    modality, channel, emotion, intensity, _, repetition, actor = said
    if (emotion == "neutral" and intensity == "strong") or (
            channel == "song" and (emotion in ("disgust", "surprised") or actor == 18)):
        raise ValueError(f"'{name}' was never recorded: neutral has no strong intensity, disgust and surprised were "
                         f"not sung, and actor 18 did not sing. {CONVENTION}.")
    return {"clip": stem, "modality": modality, "channel": channel, "emotion": emotion,
            "label": EMOTIONS.index(emotion), "intensity": intensity, "statement": int(parts[4]),
            "repetition": repetition, "actor": actor, "gender": "male" if actor % 2 else "female"}


def speech_names() -> list[str]:
    """The stems of the 1,440 audio-only speech clips, sorted."""
    spoken = product(*(CODES[:len(values)] for values in list(FIELDS.values())[2:]))
    stems = ["-".join(("03", "01", *codes)) for codes in spoken]
    return [stem for stem in stems if stem[6:11] != "01-02"]  # neutral has no strong intensity


def index_of(clips: Iterable[str]) -> pd.DataFrame:
    """What names say of their clips, a row a name in order: the columns and the ValueError of :func:`parse_name`."""
    return pd.DataFrame([parse_name(clip) for clip in clips])
