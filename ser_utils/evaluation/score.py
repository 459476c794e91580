"""``ser-utils score FILE``: any system's predictions on the published folds, beside the networks of this project."""

import argparse
import sys
from pathlib import Path

import pandas as pd

from ser_utils import FOLD_COUNT
from ser_utils.data import folds
from ser_utils.evaluation import statistics, tables
from ser_utils.evaluation.metrics import PROBABILITIES, ResultsError, in_order, model_name
from ser_utils.paths import RESULTS
from ser_utils.training import runs

REMEDY = "Give CSV with commas, a row a test clip, with the columns clip and p_neutral ... p_surprised."


def read(path: str | Path, protocol: str) -> pd.DataFrame:
    """The test predictions of a system, in the format of ``predictions.csv``: whole folds, one or more.

    The columns ``subset`` (rows of "val" are left out) and ``label`` may be missing. Adds model ("yours"), protocol,
    fold, seed and prediction. Raises ResultsError if anything is wrong with the file.
    """
    try:
        frame = pd.read_csv(path, dtype={"clip": str}, skipinitialspace=True).dropna(how="all")
        if "subset" in frame:
            frame = frame[frame.subset != "val"].reset_index(drop=True)
        known = frame["clip"].map(lambda clip: Path(clip).stem).astype(str)
    except (OSError, ValueError, KeyError, TypeError) as error:
        said = f"it has no column {error}" if isinstance(error, KeyError) else str(error).splitlines()[0]
        raise ResultsError(f"{path} is no table of predictions ({said}). {REMEDY}") from error
    fold = folds.table().set_index("clip")[protocol].reindex(known)
    if fold.isna().any():
        raise ResultsError(f"{path}: {fold.index[fold.isna()][0]!r} is no speech clip of RAVDESS. {REMEDY}")
    if "fold" in frame and frame.fold.groupby(fold.to_numpy()).nunique().max() > 1:
        raise ResultsError(f"{path}: its folds are not those of {protocol}. Name the protocol that they are of.")
    frame = pd.DataFrame({"subset": "test", "label": known.str[6:8].astype(int) - 1} | dict(frame) | {"clip": known})
    runs.check_predictions(frame, path, remedy=REMEDY)
    counts, due = fold.astype(int).value_counts(), len(folds.table()) // FOLD_COUNT[protocol]
    if (counts != due).any():
        raise ResultsError(f"{path}: fold {counts.idxmin()} of {protocol} has {counts.min()} test clips, not {due}. "
                           "Give whole folds, or name the protocol they are of.")
    return frame.astype({"label": int}).assign(model="yours", protocol=protocol, fold=fold.to_numpy(int), seed=0,
                                               prediction=frame[PROBABILITIES].to_numpy().argmax(axis=1))


def compare(mine: pd.DataFrame, root: str | Path = RESULTS) -> pd.DataFrame:
    """A row for the system of :func:`read` and one for each published network's first seed, same folds, in text.

    Difference: the system's accuracy less the network's, in points; tests as of ``statistics.compare_all``.
    """
    protocol = mine.protocol.iloc[0]
    ours = runs.predictions(root, protocol)
    whole = [model for model, part in ours.groupby("model") if set(mine["clip"]) <= set(part["clip"])]
    ours = ours[ours.model.isin(whole) & ours["clip"].isin(mine["clip"])]
    every = pd.concat([mine[ours.columns], *([ours] if len(ours) else [])], ignore_index=True)
    tests = statistics.compare_all(every, against="yours").set_index("model_b") if len(ours) else pd.DataFrame()
    rows = []
    for model in ["yours", *in_order(ours.model)]:
        part = every[every.model == model]
        found = tables.figures(part, protocol)
        rows.append({"System": model_name(model), "Accuracy": f"{found['accuracy']:.1f}",
                     "95 % interval": f"{found['accuracy_low']:.1f} to {found['accuracy_high']:.1f}",
                     "UAR": f"{found['recall']:.1f}", "F1": f"{found['f1']:.1f}", "Folds": str(part.fold.nunique())}
                    | dict.fromkeys(["Difference", "p, clips", "p, actors", "Significant"], "–"))
        if model in tests.index:
            test = tests.loc[model]
            rows[-1] |= {"Difference": f"{100 * test.difference:+.1f}", "p, clips": f"{test.holm_mcnemar:.3f}",
                         "p, actors": f"{test.holm_wilcoxon:.3f}", "Significant": "yes" if test.significant else "no"}
    return pd.DataFrame(rows)


def main(arguments: list[str] | None = None) -> int:
    """Any system's predictions beside a training of each published network; 0, or 2 where the file is no use."""
    parser = argparse.ArgumentParser(prog="ser-utils score", description=main.__doc__, epilog=REMEDY)
    parser.add_argument("file", type=Path, help="CSV with clip and p_neutral ... p_surprised, a row a test clip")
    parser.add_argument("--protocol", default="actors", choices=FOLD_COUNT,
                        help="whose folds, of ser_utils/data/folds.csv (default: actors)")
    parser.add_argument("--results", type=Path, default=RESULTS, help="published runs (default: results/)")
    options = parser.parse_args(arguments)
    if options.results != RESULTS and not options.results.is_dir():
        parser.error(f"--results {options.results} is no folder.")
    try:
        print(tables.markdown(compare(read(options.file, options.protocol), options.results)), end="")
    except ResultsError as error:
        print(error, file=sys.stderr)
        return 2
    return 0
