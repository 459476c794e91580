"""The protocols as a fixed, versioned table, and the checks that no split leaks.

Three have six folds: fold k tests, fold k+1 (mod 6) validates, the other four train: 960 / 240 / 240 of the 1,440
clips, and every clip is tested exactly once.

random  stratified by emotion; the paper's protocol. Speakers and sentences recur in all parts.
twins   as random, but an actor's two takes of the same words, emotion and intensity stay together.
actors  no speaker in two parts; the folds of EmoBox (Ma et al. 2024, Interspeech).

The fourth, random10, stands beside them for comparison with other studies: ten folds stratified by emotion, one tests
and the other nine train (1,296 / 144), nothing validates.

In all of them the two clips of RAVDESS that are byte-identical lie in the same fold. Clips were dealt out in the order
of a hash of their names; ``tests/test_folds.py`` makes the table again.
"""

import hashlib
import itertools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from ser_utils import FOLD_COUNT, FOLDS, PROTOCOLS, TENFOLD  # noqa: F401 - PROTOCOLS for users of this module
from ser_utils.data import names

PARTS = ("train", "val", "test")
LEARNS = {"train": 1, "distilled": 1, "refit": 2, "all": 3}  # of these parts, so many are learned from
TABLE_FILE = Path(__file__).parent / "folds.csv"
SEED = 2018
ENROLLED = (5, 10, 20, 60)  # unlabelled clips that a voice is known by; 60 are all it has


class LeakError(ValueError):
    """A split breaks what its protocol promises."""


def twin_key(clip: str) -> str:
    """What the two repetitions of a clip share: its name without the repetition field."""
    return clip[:15] + clip[18:]


def twin_part(clips: pd.Series, fold: Sequence[int], protocol: str = "random") -> np.ndarray:
    """Where each clip's other take is, "train", "val" or "test", while ``fold`` of ``protocol`` tests; all (N,)."""
    twins = clips.str[:16] + clips.str[16].map({"1": "2", "2": "1"}) + clips.str[17:]
    steps = (table().set_index("clip")[protocol].reindex(twins).to_numpy() - np.asarray(fold)) % FOLD_COUNT[protocol]
    return np.select([steps == 0, (steps == 1) & (protocol != TENFOLD)], ["test", "val"], "train")


def table() -> pd.DataFrame:
    """The committed fold table: clip, random, twins, actors (each 0-5), random10 (0-9); 1,440 rows sorted by clip."""
    return pd.read_csv(TABLE_FILE)


def split(index: pd.DataFrame, protocol: str, fold: int) -> dict[str, np.ndarray]:
    """One split of an index: train, val and test, int arrays of ascending row positions (for ``index.iloc``).

    ``index`` has a column ``clip``: all 1,440 clips or any of them, in any order. Fold ``fold`` tests, the next one
    (mod 6) validates; of ten folds none does. Raises ValueError for an unknown protocol, fold or clip.
    """
    _known_protocol(protocol)
    if fold not in range(FOLD_COUNT[protocol]):
        raise ValueError(f"Unknown fold {fold!r}: folds are 0 to {FOLD_COUNT[protocol] - 1}.")
    assigned = table().set_index("clip")[protocol].reindex(index["clip"])
    if assigned.isna().any():
        raise ValueError(f"{_some(assigned.index[assigned.isna()])} not in the fold table of RAVDESS's speech clips.")
    folds = assigned.to_numpy(dtype=int)
    held = {"test": fold} if protocol == TENFOLD else {"val": (fold + 1) % FOLDS, "test": fold}
    train = {"train": np.flatnonzero(~np.isin(folds, list(held.values())))}
    return train | {part: np.flatnonzero(folds == number) for part, number in held.items()}


def joined(parts: Mapping[str, np.ndarray], learns: str) -> dict[str, np.ndarray]:
    """A split with what is learned from as its part train; what is left is validated and tested on.

    ``learns``: "train", "distilled" (training clips, too), "refit" (with validation clips) or "all"; else a KeyError.
    """
    first = [parts[part] for part in PARTS[:LEARNS[learns]] if part in parts]
    left = {part: parts[part] for part in PARTS[LEARNS[learns]:] if part in parts}
    return {"train": np.sort(np.concatenate(first))} | left


def enrolled(count: int, index: pd.DataFrame) -> np.ndarray:
    """Which clips of an index are among the first ``count`` of ``enrolled.csv`` for their voice, (N,) bool.

    ``ENROLLED[-1]``: all. The table holds an order set by a hash, whatever the emotion.
    """
    order = pd.read_csv(TABLE_FILE.with_name("enrolled.csv")).set_index("clip").order
    return (order.reindex(index["clip"]).fillna(ENROLLED[-1]) <= count).to_numpy()


def judged(index: pd.DataFrame, protocol: str, fold: int) -> dict[str, np.ndarray]:
    """The checked split of a protocol; under ``actors_enrolled<n>`` only clips that none enrols, unless all are."""
    base, _, count = protocol.partition("_enrolled")
    rows = check_split(index, base, fold)
    if int(count or ENROLLED[-1]) < ENROLLED[-1]:
        known = enrolled(ENROLLED[-2], index)
        rows |= {part: rows[part][~known[rows[part]]] for part in ("val", "test")}
    return rows


def fewer(index: pd.DataFrame, protocol: str, rows: np.ndarray, share: float) -> np.ndarray:
    """A share of some training clips: what a corpus so much smaller would leave to train on.

    What the protocol keeps together stays together: voices, of women and men alike, or repetitions; under ``twins`` and
    ``random`` emotion by emotion. A smaller share is a part of every larger one; the order is set by a hash of names.
    ``rows``: positions of training clips in ``index``, int array. Returns ascending ones. Raises ValueError for an
    unknown protocol, a share that is not above 0 and at most 1, or one that leaves nothing.
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


def check_split(index: pd.DataFrame, protocol: str, fold_or_split: int | Mapping) -> dict[str, np.ndarray]:
    """Check that a split keeps its protocol's promises, and return it.

    No clip twice or in two parts, no part empty; the identical pair together; under ``twins`` the two repetitions of a
    recording; under ``actors`` no speaker in two parts. Speakers and twins are read from the clip names.
    ``fold_or_split``: a fold (see `split`), or position arrays train, val and test. Raises LeakError for a broken
    promise, ValueError for an unknown protocol, fold or clip or a missing or empty part, IndexError for a bad position.
    """
    _known_protocol(protocol)
    if isinstance(fold_or_split, Mapping):
        parts = dict(fold_or_split)
        due = [part for part in PARTS if part != "val" or protocol != TENFOLD]
        if set(parts) != set(due):
            raise ValueError(f"A split has the parts {', '.join(due)}, not {', '.join(map(str, parts))}.")
    else:
        parts = split(index, protocol, fold_or_split)
    clips = {part: index["clip"].iloc[positions] for part, positions in parts.items()}
    for part, held in clips.items():
        if held.empty:
            raise ValueError(f"The {part} part is empty: {len(index)} clips in the index, too few for its folds.")
        if not held.is_unique:
            raise LeakError(f"In two rows of the {part} part: {_some(held[held.duplicated()].unique())}.")
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


def _apart(clips: dict[str, pd.Series], what: str, key: Callable[[str], str]) -> None:
    """Raise LeakError if two parts share a key."""
    keys = {part: set(held.map(key)) for part, held in clips.items()}
    for one, other in itertools.combinations(keys, 2):
        if shared := sorted(keys[one] & keys[other]):
            raise LeakError(f"Leak: {what} in both {one} and {other}: {_some(shared)}.")


def _some(items: Sequence) -> str:
    """The first three, and how many more."""
    return ", ".join(map(str, items[:3])) + (f" and {len(items) - 3:,} more" if len(items) > 3 else "")
