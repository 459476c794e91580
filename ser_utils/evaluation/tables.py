"""Tables of finished runs, from their files alone: Table 2 beside the paper's, twins, other studies, people."""

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from ser_utils import EMOTIONS, FOLD_COUNT, FOLDS, PROTOCOLS
from ser_utils.data import folds
from ser_utils.data.corpus import BANNER
from ser_utils.evaluation import metrics, statistics
from ser_utils.evaluation.metrics import METRICS, PROBABILITIES, REFERENCE_NAMES, in_order, model_name
from ser_utils.paper import MODEL_NAMES, SAME_FOLDS, TABLE2, UNSEEN
from ser_utils.paths import RESULTS
from ser_utils.training import grid, runs

PAGE = Path(__file__).parent / "results.md"  # the words of results/README.md


def table2(root: str | Path = RESULTS, others: bool = False) -> pd.DataFrame:
    """The paper's Table 2 beside ours: one row a protocol and model, all figures in per cent.

    Columns: protocol, group, model, name; paper_<metric>; those of :func:`figures`; difference (our accuracy less the
    paper's, points); folds (finished ones), seeds. A network without finished runs has folds 0 and NaN. Groups, in this
    order: "network"; "averaged", those seeds of one network that every fold has, if two or more; "taught": refit,
    distilled, all seven refits averaged; "ensemble" (``metrics.ensembles``); "reference"; with ``others`` "other"
    (aligned view, face, fusions), and whole rows of more protocols. ResultsError if a file is missing or damaged.
    """
    rows = []
    for protocol, group, model, name, answers in _answers(root, others):
        paper = TABLE2.get(model.split("_")[0], (np.nan,) * len(METRICS))
        rows.append({"protocol": protocol, "group": group, "model": model, "name": name}
                    | {f"paper_{metric}": value for metric, value in zip(METRICS, paper, strict=True)}
                    | figures(answers, protocol)
                    | {"folds": len(seeds := answers.groupby("fold").seed.nunique()), "seeds": min(seeds, default=0)})
    return pd.DataFrame(rows).assign(difference=lambda table: table.accuracy - table.paper_accuracy)


def _answers(root: str | Path, others: bool = False) -> Iterator[tuple[str, str, str, str, pd.DataFrame]]:
    """The rows of :func:`table2`: protocol, group, model, name, and the test predictions that the row rests on."""
    done = runs.predictions(root, subset=None, references=True, seeds=True)
    done = done if others else done[done.protocol.isin(PROTOCOLS)]
    found = in_order(set(done.model) - set(MODEL_NAMES) - set(REFERENCE_NAMES), ())
    taught = [name for model in MODEL_NAMES for name in found if name.startswith(f"{model}_")]
    others = [name for name in found if name not in taught] if others else []
    order = (*FOLD_COUNT, *(f"actors_enrolled{count}" for count in folds.ENROLLED))
    for protocol in in_order({*PROTOCOLS, *done.protocol}, order):
        mine = done[done.protocol == protocol]
        test = mine[mine.subset == "test"]
        of = {model: test[test.model == model] for model in [*MODEL_NAMES, *found, *REFERENCE_NAMES]}
        joint, count = metrics.ensembles(mine)
        whole = "Ensemble" if count in (0, len(TABLE2)) else f"Ensemble of {count}"
        for model in MODEL_NAMES:
            if protocol in PROTOCOLS or of[model].fold.nunique() == FOLD_COUNT.get(protocol, FOLDS):
                yield protocol, "network", model, model_name(model), of[model]
        for model in MODEL_NAMES:
            seeds = of[model].groupby("fold").seed.agg(set)
            whole_seeds = set.intersection(*seeds) if len(seeds) == FOLD_COUNT.get(protocol, FOLDS) else ()
            if (count := len(whole_seeds)) > 1:
                yield (protocol, "averaged", f"{model}_x{count}", f"{model_name(model)} × {count}",
                       metrics.ensemble(of[model][of[model].seed.isin(whole_seeds)], over="seed"))
        of |= {model: joint[joint.model == model] for model in metrics.ENSEMBLE_NAMES}
        refits = test[test.model.isin([f"{model}_refit" for model in TABLE2]) & (test.seed == 0)]
        refits = refits[refits.groupby("fold").model.transform("nunique") == len(TABLE2)]
        of["ensemble_refit"] = metrics.ensemble(refits, "ensemble_refit")
        for group, models in (("taught", [*taught, "ensemble_refit"]), ("ensemble", metrics.ENSEMBLE_NAMES),
                              ("reference", REFERENCE_NAMES), ("other", others)):
            for model in models:
                if len(of[model]):
                    name = model_name(model).replace("Ensemble", whole if group == "ensemble" else "Ensemble")
                    yield protocol, group, model, name, of[model]
        for learns, said in (("", whole), ("_refit", "Ensemble")):
            seven, view, name = (f"{kind}{learns}" for kind in ("ensemble", "aligned_dense", "aligned_ensemble"))
            views = [test[test.model == view].assign(seed=seed) for seed in of[seven].seed.unique()]
            both = pd.concat([*views, of[seven]])
            both = both[both.groupby(["fold", "seed"]).model.transform("nunique") == 2]
            if others and len(both):
                made = pd.concat([metrics.ensemble(part, name) for _, part in both.groupby("seed")])
                yield protocol, "other", name, model_name(name).replace("Ensemble", said), made


def figures(predictions: pd.DataFrame, protocol: str) -> dict[str, float]:
    """``METRICS`` of one model's predictions in per cent, or NaN; of accuracy and recall also _low and _high (95 %).

    Means over the finished folds, in each the mean over seeds, never the best. The interval is a bootstrap over the
    recordings of all folds pooled, each with both its takes, for ``actors`` over voices; over seeds if there are more.
    """
    if predictions.empty:
        ends = (f"{name}_{end}" for name in ("accuracy", "recall") for end in ("low", "high"))
        return dict.fromkeys([*METRICS, *ends], np.nan)
    scores = pd.DataFrame([{"fold": fold, **metrics.metrics(part.label, part.prediction)}
                           for (fold, _), part in predictions.groupby(["fold", "seed"])])
    means = scores.groupby("fold").mean().mean()
    clips, found = predictions["clip"], {name: 100 * means[name] for name in METRICS}
    ends = statistics.bootstrap_intervals(predictions.label, predictions.prediction, statistics.units(clips, protocol),
                                          clips, predictions.fold, predictions.seed)
    for name, (low, high) in ends.items():
        found |= {f"{name}_low": 100 * low, f"{name}_high": 100 * high}
    return found


def _number(value, form: str = "{:.1f}") -> str:
    return "–" if pd.isna(value) else form.format(value).replace("-", "−")


def table2_display(table: pd.DataFrame, whole: bool = True) -> pd.DataFrame:
    """:func:`table2` as text: all four metrics of the paper and ours or, if not ``whole``, fewer columns."""
    rows = []
    for row in table.itertuples():
        done = row.folds > 0
        shown = {"Protocol": row.protocol, "Model": row.name, "Accuracy, paper": _number(row.paper_accuracy),
                 "Accuracy, ours": _number(row.accuracy) if done else "not run",
                 "95 % interval": f"{row.accuracy_low:.1f} to {row.accuracy_high:.1f}" if done else "–",
                 "Difference": _number(row.difference, "{:+.1f}")}
        for name in METRICS[1:]:
            shown |= {f"{name.capitalize()}, paper": _number(getattr(row, f"paper_{name}")),
                      f"{name.capitalize()}, ours": _number(getattr(row, name))}
        rows.append(shown | {"Folds": f"{row.folds}/{FOLD_COUNT.get(row.protocol, FOLDS)}"
                                      + (f" × {row.seeds}" if row.seeds > 1 else "")})
    narrow = {"Protocol": "Protocol", "Model": "Model", "Accuracy, ours": "Accuracy", "95 % interval": "95 % interval",
              "Recall, ours": "UAR", "F1, ours": "F1", "Accuracy, paper": "Paper", "Difference": "Difference",
              "Folds": "Folds"}
    return pd.DataFrame(rows) if whole else pd.DataFrame(rows)[list(narrow)].rename(columns=narrow)


def markdown(frame: pd.DataFrame) -> str:
    """A table of text in Markdown; words (Protocol, Model, System) are aligned to the left, all else to the right."""
    rule = "|".join("---" if column in ("Protocol", "Model", "System") else "---:" for column in frame.columns)
    lines = [" | ".join(map(str, row)) for row in [frame.columns, *frame.itertuples(index=False)]]
    return "\n".join([f"| {lines[0]} |", f"|{rule}|", *(f"| {line} |" for line in lines[1:])]) + "\n"


def table2_markdown(root: str | Path = RESULTS) -> str:
    """:func:`table2` in Markdown; above it the banner of a synthetic corpus, and the profile unless it is ``full``."""
    table = table2(root, others=True)
    shown = table2_display(table)
    shown.loc[table.group == "reference", "Model"] = "Reference: " + shown["Model"]
    made = [runs.read_info(run) for run in runs.find(root, seeds=True)]
    notes = [BANNER] if "synthetic" in {info["corpus"] for info in made} else []
    if reduced := sorted({info["profile"] for info in made} - {"full"}):
        notes.append(f"Profile {' and '.join(reduced)}: reduced networks and training, not the published results.")
    return "".join(f"> **{note}**\n\n" for note in notes) + markdown(shown)


def by_emotion(root: str | Path = RESULTS) -> pd.DataFrame:
    """Recall of each emotion in per cent for the finished rows of :func:`table2`: Protocol, Model, eight emotions."""
    rows = [(protocol, name, *(100 * metrics.per_class_recall(answers.label, answers.prediction)))
            for protocol, _, _, name, answers in _answers(root) if len(answers)]
    return pd.DataFrame(rows, columns=["Protocol", "Model", *EMOTIONS])


def results_readme(root: str | Path = RESULTS) -> str:
    """The text of ``results/README.md``: every table of a folder of runs in Markdown, with how it was made."""
    def shown(table):
        return markdown(table.map(lambda value: _number(value) if isinstance(value, float) else value))

    twins = {"name": "Model", "twin": "Twin in training", "alone": "Twin elsewhere", "difference": "Difference",
             "twin_clips": "Clips with", "alone_clips": "Clips without"}
    return PAGE.read_text(encoding="utf-8").format(table2=table2_markdown(root), by_emotion=shown(by_emotion(root)),
        by_twin=shown(by_twin(root).rename(columns=twins)[list(twins.values())]))


def by_twin(root: str | Path = RESULTS) -> pd.DataFrame:
    """Accuracy on ``random`` of test clips whose other repetition is in training, and of the others, in per cent.

    One row a network, and one for their mean: model, name, twin, alone, difference (points), twin_clips, alone_clips.
    """
    done = runs.predictions(root, "random", subset=None, seeds=True)
    joint, _ = metrics.ensembles(done)
    test = pd.concat([done[done.subset == "test"], joint[joint.model == "ensemble"]])
    side = np.where(folds.twin_part(test["clip"], test.fold) == "train", "twin", "alone")
    table = test.assign(right=100.0 * (test.label == test.prediction), side=side)
    groups, sides = table.groupby(["model", "side"]), {"columns": ["twin", "alone"]}
    found = groups.right.mean().unstack().reindex(**sides).join(
        groups["clip"].nunique().unstack().reindex(**sides).add_suffix("_clips"))
    found = found.loc[in_order(found.index)].reset_index()
    return found.assign(name=found.model.map(model_name), difference=found.twin - found.alone)


def unseen_speakers(table: pd.DataFrame) -> pd.DataFrame:
    """Our rows of the protocol ``actors`` beside what other studies report for speakers that were not trained on.

    ``table`` is that of :func:`table2`. Columns: group ("ours", "scratch", "features" or "pretrained": what a system
    knew before RAVDESS), model (of ours), name, uar with low and high (% or NaN), same_folds, folds, source, url.
    """
    ours = table[(table.protocol == "actors") & (table.folds > 0) & (table.model != "majority")]
    by_hand = ours.group == "reference"
    ours = pd.DataFrame({"group": np.where(by_hand, "features", "ours"), "model": ours.model, "name": ours.name.where(
            ~by_hand, ours.name + " on MFCC"), "uar": ours.recall, "low": ours.recall_low, "high": ours.recall_high,
        "same_folds": True, "folds": ours.folds.map(f"{{}} of {FOLDS}".format), "source": "here", "url": ""})
    others = [(other.kind, "", other.system, other.uar, *(other.interval or (np.nan, np.nan)),
               other.folds == SAME_FOLDS, other.folds, other.source, other.url) for other in UNSEEN]
    return pd.concat([ours, pd.DataFrame(others, columns=ours.columns)], ignore_index=True)


def on_seven_options(predictions: pd.DataFrame) -> pd.DataFrame:
    """The predictions as the listeners of RAVDESS were scored: neutral counts as calm, its probability as calm's."""
    scored = predictions.assign(p_calm=predictions.p_calm + predictions.p_neutral, p_neutral=0.0)
    return scored.assign(prediction=scored[PROBABILITIES].to_numpy().argmax(axis=1),
                         label=scored.label.replace(EMOTIONS.index("neutral"), EMOTIONS.index("calm")))


def against_people(predictions: pd.DataFrame) -> pd.DataFrame:
    """Accuracy of each model on the options of the listeners (:func:`on_seven_options`), best first.

    ``predictions`` are of one protocol; models with fewer folds than others are left out. Columns: model, name;
    accuracy with low and high, as of :func:`figures`.
    """
    count = predictions.groupby("model").fold.transform("nunique")
    scored = on_seven_options(predictions[count == count.max()])
    table = pd.DataFrame([{"model": model, "name": model_name(model), **figures(part, "actors")}
                          for model, part in scored.groupby("model", sort=False)])
    table = table.rename(columns={"accuracy_low": "low", "accuracy_high": "high"})
    table = table.sort_values("accuracy", ascending=False, ignore_index=True)
    return table[["model", "name", "accuracy", "low", "high"]]


@grid.command
def main(arguments: Sequence[str] | None = None) -> int:
    """Print Table 2 of a folder of runs (default: the published results) as Markdown; 0 if all went well."""
    parser = argparse.ArgumentParser(prog="python -m ser_utils.evaluation.tables", description="Print Table 2.")
    parser.add_argument("root", nargs="?", type=Path, default=RESULTS, help="folder of runs (default: results/)")
    root = parser.parse_args(arguments).root
    if not root.is_dir():
        parser.error(f"{root} does not exist: no run is finished there.")
    print(table2_markdown(root), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
