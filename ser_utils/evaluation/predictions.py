"""The format of predictions: one row a clip, its label and eight probabilities."""

from pathlib import Path

import numpy as np
import pandas as pd

from ser_utils import EMOTIONS
from ser_utils.evaluation.metrics import PROBABILITIES, ResultsError

AGAIN = "Delete that folder and train the run again."


def check_predictions(frame: pd.DataFrame, source: str | Path = "predictions", rows: int | None = None) -> None:
    """Check a table of predictions for everything the results format promises.

    ``source`` is the name used in messages; ``rows`` the number of rows expected (``FULL_ROWS`` for one fold
    of the whole corpus), or None for any.

    Raises ResultsError if columns are missing, the number of rows is wrong, a value is missing or no number, a label is
    not 0-7 or not the one in the clip's name, a subset is neither val nor test, a clip occurs twice, or probabilities
    leave 0-1 or do not sum to 1 within 0.001.
    """

    def fail(problem):
        raise ResultsError(f"{source}: {problem} {AGAIN}")

    missing = [column for column in ["clip", "subset", "label", *PROBABILITIES] if column not in frame]
    if missing:
        fail(f"columns missing: {', '.join(missing)}.")
    if len(frame) == 0:
        fail("it holds no rows.")
    if rows is not None and len(frame) != rows:
        fail(f"it has {len(frame)} rows; a finished run on the whole corpus has {rows}.")
    numbers = frame[["label", *PROBABILITIES]].apply(pd.to_numeric, errors="coerce").to_numpy(dtype=float)
    bad = ~np.isfinite(numbers).all(axis=1) | frame[["clip", "subset"]].isna().any(axis=1).to_numpy()
    if bad.any():
        fail(f"row {int(bad.argmax()) + 1} holds NaN, an empty cell or a value that is no finite number.")
    if not np.isin(numbers[:, 0], range(len(EMOTIONS))).all():
        fail(f"labels must be 0 to {len(EMOTIONS) - 1}; found {np.unique(numbers[:, 0])[:10]}.")
    if not frame.subset.isin(["val", "test"]).all():
        fail(f"subset must be 'val' or 'test'; found {sorted(set(frame.subset) - {'val', 'test'})[:5]}.")
    clips = frame["clip"].astype(str)
    if clips.duplicated().any():
        fail(f"clip {clips[clips.duplicated()].iloc[0]} occurs twice.")
    probabilities = numbers[:, 1:]
    wrong = (np.abs(probabilities.sum(axis=1) - 1) > 1e-3) | (probabilities < 0).any(axis=1)
    if wrong.any():
        row = int(wrong.argmax())
        fail(f"probabilities of clip {clips.iloc[row]} sum to {probabilities[row].sum():.4f} "
             f"(smallest {probabilities[row].min():.4f}); they must be 0 to 1 and sum to 1.")
    named = pd.to_numeric(clips.str[6:8], errors="coerce").to_numpy() - 1
    if (named != numbers[:, 0]).any():
        row = int((named != numbers[:, 0]).argmax())
        fail(f"clip {clips.iloc[row]} is labelled {numbers[row, 0]:.0f}, which its name contradicts.")
