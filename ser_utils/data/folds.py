"""The protocols as a fixed, versioned table, and the checks that no split leaks.

Three have six folds: fold k tests, fold k+1 (mod 6) validates, the other four train: 960 / 240 / 240 of the 1,440
clips, and every clip is tested exactly once.

random  stratified by emotion; the paper's protocol. Speakers and sentences recur in all parts.
twins   as random, but the two repetitions of one actor's same emotion, intensity and statement stay
        together.
actors  no speaker in two parts; the folds of EmoBox (Ma et al. 2024, Interspeech).

The fourth, random10, stands beside them for comparison with other studies: ten folds stratified by emotion, one tests
and the other nine train (1,296 / 144), nothing validates.

In all of them the two clips of RAVDESS that are byte-identical lie in the same fold.
"""

import hashlib
import itertools
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd

from ser_utils import FOLD_COUNT, FOLDS, PROTOCOLS, TENFOLD
from ser_utils.data import names

PARTS = ("train", "val", "test")
LEARNS = {"train": 1, "distilled": 1, "refit": 2, "all": 3}  # of these parts, so many are learned from
TABLE_FILE = Path(__file__).parent / "folds.csv"
SEED = 2018
ENROLLED = (5, 10, 20, 60)  # unlabelled clips that a voice is known by; 60 are all it has
ACTOR_FOLDS = ((1, 11, 20, 21), (4, 10, 12, 14), (8, 9, 19, 23), (3, 5, 7, 24), (2, 15, 16, 18), (6, 13, 17, 22))


class LeakError(ValueError):
    """A split breaks what its protocol promises."""


def twin_key(clip: str) -> str:
    """What the two repetitions of a clip share: its name without the repetition field."""
    return clip[:15] + clip[18:]


def make_table(seed: int = SEED) -> pd.DataFrame:
    """Make the fold table (see :func:`table`); ``make_table()`` gives the committed ``ser_utils/data/folds.csv``.

    The order in which clips are dealt out is that of a hash of seed and name, so that the table does not depend on any
    library's random generator.
    """
    clips = names.speech_names()
    random, ten = _deal(clips, seed, "random"), _deal(clips, seed, TENFOLD)
    for dealt in (random, ten):
        _join_identical(dealt)
    pairs = _deal({twin_key(clip) for clip in clips}, seed, "twins")
    actor_fold = {f"{actor:02d}": fold for fold, actors in enumerate(ACTOR_FOLDS) for actor in actors}
    return pd.DataFrame([(clip, random[clip], pairs[twin_key(clip)], actor_fold[clip[-2:]], ten[clip])
                         for clip in clips], columns=["clip", *PROTOCOLS, TENFOLD])


def _deal(units: Iterable[str], seed: int, protocol: str) -> dict[str, int]:
    """Deal names to the folds in turn, emotion by emotion, in an order set by the seed."""
    def order(name: str) -> tuple[str, str]:
        return name[6:8], hashlib.sha256(f"{seed}/{protocol}/{name}".encode()).hexdigest()

    return {name: position % FOLD_COUNT[protocol] for position, name in enumerate(sorted(units, key=order))}


def _join_identical(folds: dict[str, int]) -> None:
    """Move the second of the two identical clips to the first one's fold, in exchange for a like clip."""
    first, second = names.IDENTICAL_CLIPS
    if folds[first] != folds[second]:
        other = next(clip for clip in sorted(folds) if clip.split("-")[2] == first.split("-")[2]
                     and folds[clip] == folds[first] and clip != first)
        folds[second], folds[other] = folds[first], folds[second]


@cache
def _committed() -> pd.DataFrame:
    return pd.read_csv(TABLE_FILE)


def table() -> pd.DataFrame:
    """The committed fold table: clip, random, twins, actors (each 0-5), random10 (0-9); 1,440 rows sorted by clip."""
    return _committed().copy()


def split(index: pd.DataFrame, protocol: str, fold: int) -> dict[str, np.ndarray]:
    """One split of an index: train, val and test, int arrays of ascending row positions (for ``index.iloc``).

    ``index`` has a column ``clip``: all 1,440 clips or any of them, in any order. Fold ``fold`` tests, the next one
    (mod 6) validates; of ten folds none does, and there is no part val. Raises ValueError for an unknown protocol, fold
    or clip.
    """
    _known_protocol(protocol)
    if fold not in range(FOLD_COUNT[protocol]):
        raise ValueError(f"Unknown fold {fold!r}: folds are 0 to {FOLD_COUNT[protocol] - 1}.")
    assigned = _committed().set_index("clip")[protocol].reindex(index["clip"])
    if assigned.isna().any():
        strangers = list(assigned.index[assigned.isna()])
        raise ValueError(f"{_some(strangers)} not in the fold table: it holds RAVDESS's 1,440 speech clips.")
    folds = assigned.to_numpy(dtype=int)
    if protocol == TENFOLD:
        return {"train": np.flatnonzero(folds != fold), "test": np.flatnonzero(folds == fold)}
    test, val = folds == fold, folds == (fold + 1) % FOLDS
    return {"train": np.flatnonzero(~test & ~val), "val": np.flatnonzero(val), "test": np.flatnonzero(test)}


def joined(parts: Mapping[str, np.ndarray], learns: str) -> dict[str, np.ndarray]:
    """A split with what is learned from as its part train; what is left is validated and tested on.

    ``learns``: "train", "distilled" (training clips, too), "refit" (training and validation clips) or "all". Raises
    KeyError for another word.
    """
    first = [parts[part] for part in PARTS[:LEARNS[learns]] if part in parts]
    left = {part: parts[part] for part in PARTS[LEARNS[learns]:] if part in parts}
    return {"train": np.sort(np.concatenate(first))} | left


def make_enrolled(most: int = ENROLLED[-2]) -> pd.DataFrame:
    """The clips by which a new voice is known before it is judged, in order: clip, order (1 to ``most``) a voice.

    In an order set by a hash, whatever the emotion; ``make_enrolled()`` gives the committed ``enrolled.csv``.
    """
    def rank(name: str) -> str:
        return hashlib.sha256(f"{SEED}/enrolled/{name}".encode()).hexdigest()

    clips = pd.Series(sorted(names.speech_names(), key=rank))
    order = clips.groupby(clips.str[-2:]).cumcount() + 1
    return pd.DataFrame({"clip": clips, "order": order})[order <= most].sort_values("clip", ignore_index=True)


def enrolled(count: int, index: pd.DataFrame) -> np.ndarray:
    """Which clips of an index are among the first ``count`` that enrol their voice, (N,) bool; ``ENROLLED[-1]``: all.

    By the committed table ``ser_utils/data/enrolled.csv``.
    """
    if count == ENROLLED[-1]:
        return np.ones(len(index), bool)
    order = pd.read_csv(TABLE_FILE.with_name("enrolled.csv")).set_index("clip").order
    return (order.reindex(index["clip"]) <= count).to_numpy()


def fewer(index: pd.DataFrame, protocol: str, rows: np.ndarray, share: float) -> np.ndarray:
    """A share of some training clips: what a corpus so much smaller would leave to train on.

    What the protocol keeps together stays together: under ``actors`` all clips of a voice (as many women and men as
    the share allows), under ``twins`` both repetitions, under ``random`` single clips (both emotion by emotion). A
    smaller share is a part of every larger one; chance is that of a hash of the names, as in the fold table.

    ``rows``: positions of training clips in ``index``, int array; ``share``: above 0, at most 1 (all of them). Returns
    ascending positions. Raises ValueError for an unknown protocol, a share out of range, or one that leaves nothing.
    """
    _known_protocol(protocol)
    if not 0 < share <= 1:
        raise ValueError(f"A share of {share} of the training clips: choose one above 0 and at most 1.")
    clips = index["clip"].iloc[rows]
    unit, kind = {"random": (clips, clips.str[6:8]), "twins": (clips.map(twin_key), clips.str[6:8]),
                  "actors": (clips.str[-2:], clips.str[-2:].astype(int) % 2)}[protocol.removesuffix("10")]
    units = pd.DataFrame({"unit": unit, "kind": kind}).drop_duplicates("unit")
    units["order"] = [hashlib.sha256(f"{SEED}/share/{name}".encode()).hexdigest() for name in units.unit]
    within = units.sort_values("order").groupby("kind")
    units["place"] = (within.cumcount() + 0.5) / within.unit.transform("size")  # 0 to 1 within its own kind
    chosen = units.sort_values(["place", "order"]).unit[:round(share * len(units))]
    if chosen.empty:
        raise ValueError(f"A share of {share} of {len(units)} leaves nothing to train on.")
    return np.sort(rows[unit.isin(chosen).to_numpy()])


def check_split(index: pd.DataFrame, protocol: str, fold_or_split: int | Mapping[str, np.ndarray]
                ) -> dict[str, np.ndarray]:
    """Check that a split keeps its protocol's promises, and return it.

    No clip twice or in two parts, no part empty; the identical pair together; under ``twins`` the two repetitions of a
    recording together; under ``actors`` no speaker in two parts. Speakers and twins are read from the clip names, so
    that a wrong column in the index hides nothing. ``fold_or_split``: a fold (see `split`), or a dict with position
    arrays train, val and test.

    Raises LeakError when a promise is broken (the message names the clips or actors and the parts), ValueError for an
    unknown protocol, fold or clip, a part that is missing or empty, or a position outside the index.
    """
    _known_protocol(protocol)
    if isinstance(fold_or_split, Mapping):
        parts = dict(fold_or_split)
        due = [part for part in PARTS if part != "val" or protocol != TENFOLD]
        if set(parts) != set(due):
            raise ValueError(f"A split has the parts {', '.join(due)}, not {', '.join(map(str, parts))}.")
    else:
        parts = split(index, protocol, fold_or_split)
    clips = {part: _clips(index, part, positions) for part, positions in parts.items()}

    for part, held in clips.items():
        if len(set(held)) < len(held):
            twice = sorted({clip for clip in held if held.count(clip) > 1})
            raise LeakError(f"In two rows of the {part} part: {_some(twice)}.")
    _apart(clips, "clip", lambda clip: clip)
    identical = dict.fromkeys(names.IDENTICAL_CLIPS, " = ".join(names.IDENTICAL_CLIPS))
    _apart(clips, "byte-identical pair", lambda clip: identical.get(clip, clip))
    if protocol == "twins":
        _apart(clips, "pair of repetitions", twin_key)
    if protocol == "actors":
        _apart(clips, "actor", lambda clip: str(names.parse_name(clip)["actor"]))
    return parts


def _known_protocol(protocol: str) -> None:
    if protocol not in FOLD_COUNT:
        raise ValueError(f"Unknown protocol {protocol!r}: choose from {', '.join(FOLD_COUNT)}.")


def _clips(index: pd.DataFrame, part: str, positions: np.ndarray) -> list[str]:
    """The clip names at some positions, which must exist."""
    positions = np.asarray(positions)
    if len(positions) == 0:
        raise ValueError(f"The {part} part is empty: {len(index)} clips in the index, too few for its folds.")
    if positions.min() < 0 or positions.max() >= len(index):
        raise ValueError(f"The {part} part points outside the index of {len(index)} clips.")
    return index["clip"].iloc[positions].tolist()


def _apart(clips: dict[str, list[str]], what: str, key: Callable[[str], str]) -> None:
    """Raise LeakError if two parts share a key."""
    keys = {part: {key(clip) for clip in held} for part, held in clips.items()}
    for one, other in itertools.combinations(keys, 2):
        shared = sorted(keys[one] & keys[other])
        if shared:
            raise LeakError(f"Leak: {what} in both {one} and {other}: {_some(shared)}.")


def _some(items: list, most: int = 3) -> str:
    """The first few of a list, in words."""
    more = f" and {len(items) - most:,} more" if len(items) > most else ""
    return ", ".join(map(str, items[:most])) + more
