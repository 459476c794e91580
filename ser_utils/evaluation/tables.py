"""Tables of finished runs: Table 2 beside the paper's, where accuracy is lost, ours beside other studies and people.

Like :mod:`ser_utils.evaluation.metrics` it reads nothing but the files of runs. ``python -m ser_utils.evaluation.tables [ROOT]`` prints
Table 2.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from ser_utils import EMOTIONS, FOLDS, PROTOCOLS
from ser_utils.evaluation import metrics as evaluation
from ser_utils.evaluation import statistics
from ser_utils.evaluation.metrics import ENSEMBLE_NAMES, METRICS, PROBABILITIES, PROTOCOL_TITLES, REFERENCE_NAMES
from ser_utils.paper import HUMAN, KNOWN, MODEL_NAMES, SAME_FOLDS, TABLE1, TABLE2, TEN_FOLDS, UNSEEN
from ser_utils.paths import RESULTS
from ser_utils.training import runs

# ------------------------------------------------------------------------------- where accuracy is lost


def gaps(root: str | Path = RESULTS) -> pd.DataFrame:
    """Where the networks of a folder of runs lose accuracy between training and test, all figures in per cent.

    One row a protocol and network with finished runs, means over its folds: protocol, model, name, folds, epochs
    (trained), kept (epoch whose weights were kept), train (augmented training clips, over the last tenth of the
    epochs), val_end (validation clips, over the same epochs), val (validation clips, epoch kept), test,
    paper_accuracy.

    train - val_end is what the network knows of its training clips alone; val - val_end is what judging several
    versions of a clip adds and, where the best epoch is kept, the luck of choosing among many; val - test is what
    does not last of it, and the difference between two sets of clips.

    Raises
    ------
    ResultsError
        If a finished run's file is missing or damaged.
    """
    rows = []
    for run in runs.table(root).itertuples():
        last = runs.read_history(run.dir).tail(max(run.epochs // 10, 1))
        rows.append({"protocol": run.protocol, "model": run.model, "folds": 1, "epochs": run.epochs,
                     "kept": run.best_epoch, "train": 100 * last.accuracy.mean(),
                     "val_end": 100 * last.val_accuracy.mean(), "val": 100 * run.val_accuracy,
                     "test": 100 * run.test_accuracy})
    columns = ["protocol", "model", "folds", "epochs", "kept", "train", "val_end", "val", "test"]
    groups = pd.DataFrame(rows, columns=columns).groupby(["protocol", "model"], sort=False)
    table = groups.mean().assign(folds=groups.folds.sum()).reset_index()
    names = table.model.map(MODEL_NAMES).fillna(table.model)
    table.insert(2, "name", names)
    return table.assign(paper_accuracy=[TABLE2.get(model, (np.nan,))[0] for model in table.model])


# ------------------------------------------------------------------------------------------------ Table 2


def table2(root: str | Path = RESULTS, level: float = 0.95) -> pd.DataFrame:
    """The paper's Table 2 beside ours: one row a protocol and model, all figures in per cent.

    Columns: protocol, group ("network", or below them "ensemble" for ``ENSEMBLE_NAMES`` where several networks were
    run, and "reference" for those of ``REFERENCE_NAMES`` that were run), model, name (an ensemble's says of how many
    networks, unless of all seven); paper_accuracy, paper_precision, paper_recall, paper_f1; accuracy, precision,
    recall, f1 with <metric>_low and <metric>_high; difference (our accuracy less the paper's, points); folds
    (finished of 6); profile, corpus. A model without a finished run has folds 0 and NaN.

    Our figures are means over the finished folds of the metrics of each fold. The interval is a bootstrap
    over the test clips of all finished folds pooled: over actors for ``actors`` (a new voice is what that
    protocol is about), over clips for ``random`` and ``twins``. It holds the uncertainty from the test
    material, not from the seed of the training.

    Raises
    ------
    ResultsError
        If a finished run's file is missing or damaged.
    """
    ran_runs = runs.table(root, references=True)
    predictions = runs.predictions(root, subset=None, references=True)
    models = [*MODEL_NAMES, *evaluation.in_order(set(runs.model) - set(MODEL_NAMES) - set(REFERENCE_NAMES), ())]
    names = MODEL_NAMES | ENSEMBLE_NAMES | REFERENCE_NAMES
    rows = []
    for protocol in evaluation.in_order({*PROTOCOLS, *runs.protocol}, PROTOCOLS):
        ran = runs[runs.protocol == protocol]
        done = predictions[predictions.protocol == protocol]
        joint, count = evaluation.ensembles(done[~done.model.isin(REFERENCE_NAMES)])
        whole = "Ensemble" if count in (0, len(MODEL_NAMES)) else f"Ensemble of {count}"
        test = pd.concat([done[done.subset == "test"], joint])
        for group, members in (("network", models), ("ensemble", ENSEMBLE_NAMES), ("reference", REFERENCE_NAMES)):
            for model in members:
                mine = test[test.model == model]
                if mine.empty and model not in MODEL_NAMES:
                    continue
                sources = ran[ran.model == model] if group != "ensemble" else ran[~ran.model.isin(REFERENCE_NAMES)]
                paper = TABLE2.get(model, (np.nan,) * len(METRICS))
                name = names.get(model, model)
                if group == "ensemble":
                    name = name.replace("Ensemble", whole)
                rows.append({"protocol": protocol, "group": group, "model": model, "name": name}
                            | {f"paper_{name}": value for name, value in zip(METRICS, paper, strict=True)}
                            | {"folds": mine.fold.nunique(), "profile": _joined(sources.profile),
                               "corpus": _joined(sources.corpus)} | _our_figures(mine, protocol, level))
    table = pd.DataFrame(rows)
    table["difference"] = table.accuracy - table.paper_accuracy
    order = ["protocol", "group", "model", "name", *[f"paper_{name}" for name in METRICS]]
    order += [f"{name}{end}" for name in METRICS for end in ("", "_low", "_high")]
    return table[[*order, "difference", "folds", "profile", "corpus"]]


def _joined(values: pd.Series) -> str:
    return ", ".join(sorted({str(value) for value in values}))


def _our_figures(predictions: pd.DataFrame, protocol: str, level: float) -> dict[str, float]:
    """Means over folds and pooled bootstrap intervals in per cent; NaN without predictions."""
    if predictions.empty:
        return {f"{name}{end}": np.nan for name in METRICS for end in ("", "_low", "_high")}
    folds = pd.DataFrame([evaluation.metrics(part.label, part.prediction) for _, part in predictions.groupby("fold")])
    actors = evaluation.clip_facts(predictions["clip"]).actor.to_numpy() if protocol == "actors" else None
    if actors is not None and len(np.unique(actors)) < 2:
        actors = None  # a toy corpus of one voice
    samples = statistics.bootstrap_metrics(predictions.label, predictions.prediction, actors)
    units = len(predictions) if actors is None else len(np.unique(actors))
    figures = {}
    for name in METRICS:
        low, high = statistics.expanded_percentiles(samples[name], units, level)
        figures |= {name: 100 * folds[name].mean(), f"{name}_low": 100 * low, f"{name}_high": 100 * high}
    return figures


def table2_display(table: pd.DataFrame) -> pd.DataFrame:
    """:func:`table2` as a table of text, ready to print: figures with one decimal, dashes, "not run"."""

    def number(value, form="{:.1f}"):
        return "–" if pd.isna(value) else form.format(value).replace("-", "−")

    rows = []
    for row in table.itertuples():
        done = row.folds > 0
        shown = {
            "Protocol": row.protocol,
            "Model": row.name,
            "Accuracy, paper": number(row.paper_accuracy),
            "Accuracy, ours": number(row.accuracy) if done else "not run",
            "95 % interval": f"{row.accuracy_low:.1f} to {row.accuracy_high:.1f}" if done else "–",
            "Difference": number(row.difference, "{:+.1f}"),
        }
        for name in METRICS[1:]:
            title = "F1" if name == "f1" else name.capitalize()
            shown[f"{title}, paper"] = number(getattr(row, f"paper_{name}"))
            shown[f"{title}, ours"] = number(getattr(row, name))
        rows.append(shown | {"Folds": f"{row.folds}/{FOLDS}"})
    return pd.DataFrame(rows)


def _table2_notes(table: pd.DataFrame) -> list[str]:
    """Lines above the table: the banner of the synthetic corpus, and the profile unless it is ``full``."""
    notes = []
    if table.corpus.str.contains("synthetic").any():
        from ser_utils.data.corpus import BANNER

        notes.append(BANNER)
    reduced = sorted({part for cell in table.profile for part in cell.split(", ") if part} - {"full"})
    if reduced:
        notes.append(
            f"Profile {' and '.join(reduced)}: reduced networks and training, not the published results."
        )
    return notes


def describe(table: pd.DataFrame) -> list[str]:
    """What :func:`table2` says, in sentences (Markdown): one paragraph a protocol, one a change from ``random``.

    The best network is sought among those with the most finished folds. Where the folds differ, each row's are said,
    else the protocol's.
    """
    said = []
    for protocol, part in table[table.folds > 0].groupby("protocol", sort=False):
        networks = part[part.group == "network"]
        if networks.empty:
            continue
        most = networks.folds.max()
        shown = part[part.group != "reference"]
        uneven = shown.folds.nunique() > 1
        names = shown["name"] + [f" ({n} of {FOLDS} folds)" if uneven and n < most else "" for n in shown.folds]
        figures = shown.apply(lambda row: f"**{row.accuracy:.1f} %** ({row.accuracy_low:.1f} to "
                                          f"{row.accuracy_high:.1f})", axis=1)
        best = networks.accuracy.where(networks.folds == most).idxmax()
        meets = networks.accuracy >= networks.paper_accuracy
        over = names[networks.index[meets]]
        short = names[networks.index[~meets]] + [f" by {-points:.1f}" for points in networks.difference[~meets]]
        inside = networks.paper_accuracy.between(networks.accuracy_low, networks.accuracy_high).sum()
        said.append(" ".join([
            f"**{PROTOCOL_TITLES.get(protocol, protocol)}**, {most} of {FOLDS} folds. The highest accuracy of a "
            f"network is {names[best]}'s: {figures[best]}.",
            *(f"{names[row]}: {figures[row]}." for row in part.index[part.group == "ensemble"]),
            f"At or above the paper's accuracy: {', '.join(over) or 'none'}. Below it, in points: "
            f"{', '.join(short) or 'none'}. {inside} of {len(networks)} of the paper's accuracies lie inside our "
            "intervals."]))
    networks = table[(table.group == "network") & (table.folds > 0)].set_index(["protocol", "name"])
    for protocol, title, worth in (("twins", "twins kept together", "what near-copies of test clips are worth"),
                                   ("actors", "unseen actors", "what knowing the voice is worth")):
        if not {"random", protocol} <= set(networks.index.get_level_values("protocol")):
            continue
        pairs = networks.loc["random"].merge(networks.loc[protocol], on="name", suffixes=("", "_strict"))
        pairs = pairs[pairs.folds == pairs.folds_strict]
        if len(pairs):
            said.append(f"From a random split to {title}, accuracy changes by " + ", ".join(
                f"{points:+.1f}".replace("-", "−") + f" ({name})"
                for name, points in (pairs.accuracy_strict - pairs.accuracy).items()) + f" points: {worth}, by the "
                "networks with equally many folds of both.")
    return said


HEADLINES = {
    "random": "Of clips split at random, as in the paper, the best network recognises {ours}; the paper's seven reach "
              + f"{min(row[0] for row in TABLE2.values())} to {max(row[0] for row in TABLE2.values())} %.",
    "twins": "With both takes of a sentence on one side of the split, the best recognises {ours}.",
    "actors": "Of clips by actors never heard before, the best recognises {ours}; people, who choose among "
              f"{HUMAN['options']} emotions, {HUMAN['overall']} %.",
}


def headline(table: pd.DataFrame) -> str:
    """The answer of :func:`table2` in short (Markdown): the highest accuracy of a network, by protocol.

    Only the rows with the most finished folds of their protocol count. Empty without a finished network.
    """
    said = []
    for protocol, words in HEADLINES.items():
        part = table[(table.protocol == protocol) & (table.folds > 0) & (table.group != "reference")]
        part = part[part.folds == part.folds.max()]
        networks, joint = part[part.group == "network"], part.accuracy[part.model == "ensemble"]
        if len(networks):
            best = networks.loc[networks.accuracy.idxmax()]
            averaged = "".join(f"; the {len(networks)} networks averaged: {figure:.1f} %" for figure in joint)
            said.append(words.format(ours=f"**{best.accuracy:.1f} %** ({best['name']}{averaged})"))
    return " ".join(said)


def table2_markdown(table: pd.DataFrame) -> str:
    """:func:`table2` as a Markdown table, all figures in per cent."""
    shown = table2_display(table)
    shown.loc[(table.group == "reference").to_numpy(), "Model"] = "Reference: " + shown["Model"]
    left = ("Protocol", "Model")
    lines = [f"> **{note}**\n" for note in _table2_notes(table)]
    lines.append("| " + " | ".join(shown.columns) + " |")
    lines.append("|" + "|".join("---" if column in left else "---:" for column in shown.columns) + "|")
    lines += ["| " + " | ".join(row) + " |" for row in shown.itertuples(index=False)]
    return "\n".join(lines) + "\n"


def table2_html(table: pd.DataFrame) -> str:
    """:func:`table2` as an HTML table of class ``table2``, figures in per cent, notes as paragraphs.

    Each protocol is a ``tbody`` of its own, and in it each of networks, ensembles and references.
    """
    notes = "".join(f'<p class="banner">{note}</p>\n' for note in _table2_notes(table))
    html = table2_display(table).to_html(index=False, border=0, classes="table2")
    head, *rows = html.split("    <tr>\n")
    before = None
    for number, row in enumerate(table[["protocol", "group"]].itertuples(index=False)):
        if before is not None and row != before:
            kind = "protocol" if row.protocol != before.protocol else "group"
            rows[number - 1] += f'  </tbody>\n  <tbody class="{kind}">\n'
        before = row
    return notes + "    <tr>\n".join([head, *rows]) + "\n"


# -------------------------------------------------------------- unseen speakers: other studies, people


def unseen_speakers(table: pd.DataFrame) -> pd.DataFrame:
    """Our rows of the protocol ``actors`` beside what other studies report for speakers that were not trained on.

    ``table`` is that of :func:`table2`. Columns: group ("ours", "scratch", "features" or "pretrained": what a system
    knew before RAVDESS; the references are features made by hand), model (of ours), name, uar with low and high (per
    cent; NaN where a study gives no interval), same_folds (bool), folds (text), source, url. Empty without a
    finished network under ``actors``.
    """
    ours = table[(table.protocol == "actors") & (table.folds > 0)]
    if not (ours.group == "network").any():
        ours = ours.head(0)
    rows = [{"group": "features" if row.group == "reference" else "ours", "model": row.model,
             "name": row.name + (" on MFCC" if row.group == "reference" else ""), "uar": row.recall,
             "low": row.recall_low, "high": row.recall_high, "same_folds": True, "folds": f"{row.folds} of {FOLDS}",
             "source": "here", "url": ""}
            for row in ours[ours.model != "majority"].itertuples()]
    for other in UNSEEN if rows else ():
        low, high = other.interval or (np.nan, np.nan)
        rows.append({"group": other.kind, "model": "", "name": other.system, "uar": other.uar, "low": low,
                     "high": high, "same_folds": other.folds == SAME_FOLDS, "folds": other.folds,
                     "source": other.source, "url": other.url})
    return pd.DataFrame(rows)


def describe_unseen(table: pd.DataFrame) -> list[str]:
    """What :func:`unseen_speakers` says, in sentences (Markdown); none without a finished network under ``actors``.

    The network named and both ensembles are of the rows with the most finished folds; it is the one with the highest
    UAR.
    """
    systems = unseen_speakers(table)
    if systems.empty:
        return []
    ours = systems[(systems.group == "ours") & (systems.folds == systems.folds[systems.group == "ours"].max())]
    elsewhere = systems[systems.source != "here"].sort_values("uar")
    pretrained = elsewhere[elsewhere.group == "pretrained"]
    return [
        "Unweighted average recall (UAR) on unseen speakers. **From scratch, here**, the highest of a network: "
        f"{_best_and_ensembles(ours)}.",
        f"**From scratch, elsewhere**: {_cited(elsewhere[elsewhere.group == 'scratch'])}.",
        f"**Features made by hand**: {_cited(elsewhere[elsewhere.group == 'features'])}.",
        "**Pretrained on thousands of hours of other speech**, which no network here has heard; these very folds: "
        f"{_cited(pretrained[pretrained.same_folds])}.",
        f"**Pretrained**, with more speakers to train on: {_cited(pretrained[~pretrained.same_folds])}.",
    ]


def describe_known(table: pd.DataFrame) -> list[str]:
    """Our rows of the protocol ``random`` beside what others report for known voices, in one sentence (Markdown).

    ``table`` is that of :func:`table2`; none without a finished network under ``random``. The network named is of the
    rows with the most finished folds.
    """
    ours = table[(table.protocol == "random") & (table.folds > 0) & (table.group != "reference")]
    if not (ours.group == "network").any():
        return []
    ours = ours[ours.folds == ours.folds.max()].rename(
        columns={"recall": "uar", "recall_low": "low", "recall_high": "high"})
    others = pd.DataFrame([other._asdict() for other in KNOWN]).rename(columns={"system": "name"})
    return [f"UAR with **known voices**, clips split at random. From scratch, here, {TABLE1['train']} clips in "
            f"training, the highest of a network: {_best_and_ensembles(ours)}. Elsewhere, {TEN_FOLDS:,} clips in "
            f"training (ten folds) and no epoch chosen on test clips: {_cited(others)}."]


def _best_and_ensembles(ours: pd.DataFrame) -> str:
    """The network with the highest UAR and both ensembles, with intervals, in words; columns as `unseen_speakers`."""
    joint = ours.model.isin(ENSEMBLE_NAMES)
    shown = pd.concat([ours[~joint].nlargest(1, "uar"), ours[joint]])
    return "; ".join(f"{row.name} **{row.uar:.1f} %** ({row.low:.1f} to {row.high:.1f})"
                     for row in shown.itertuples(index=False))


def _cited(rows: pd.DataFrame) -> str:
    """Systems of other studies with their UAR and source, in words; columns as `unseen_speakers`."""
    return "; ".join(", ".join(f"{row.name}: {row.uar:.1f} %" for row in part.itertuples(index=False))
                     + f" ([{source}]({url}))" for (source, url), part in rows.groupby(["source", "url"], sort=False))


def on_seven_options(predictions: pd.DataFrame) -> pd.DataFrame:
    """The predictions as the listeners of RAVDESS were scored: neutral and calm are accepted for each other.

    Neutral is calm there, in ``label`` and ``prediction``; its probability is added to that of calm, and the largest
    of the seven decides.
    """
    neutral, calm = EMOTIONS.index("neutral"), EMOTIONS.index("calm")
    scored = predictions.copy()
    scored[PROBABILITIES[calm]] += scored[PROBABILITIES[neutral]]
    scored[PROBABILITIES[neutral]] = 0.0
    scored["prediction"] = scored[PROBABILITIES].to_numpy().argmax(axis=1)
    scored["label"] = scored.label.where(scored.label != neutral, calm)
    return scored


def against_people(predictions: pd.DataFrame) -> pd.DataFrame:
    """Accuracy of each model on the options of the listeners (:func:`on_seven_options`), best first.

    ``predictions`` are of one protocol; models with fewer folds than others are left out. Columns: model, name;
    accuracy with low and high, in per cent, mean over folds and 95 % bootstrap over actors.
    """
    names = MODEL_NAMES | ENSEMBLE_NAMES
    folds = predictions.groupby("model").fold.nunique()
    scored = on_seven_options(predictions[predictions.model.isin(folds.index[folds == folds.max()])])
    rows = []
    for model, part in scored.groupby("model", sort=False):
        figures = _our_figures(part, "actors", 0.95)
        rows.append({"model": model, "name": names.get(model, model), "accuracy": figures["accuracy"],
                     "low": figures["accuracy_low"], "high": figures["accuracy_high"]})
    return pd.DataFrame(rows).sort_values("accuracy", ascending=False, ignore_index=True)


def describe_people(predictions: pd.DataFrame) -> str:
    """What :func:`against_people` says of networks under ``actors``, in a sentence (Markdown)."""
    fair = against_people(predictions)
    best, people = fair.iloc[0], HUMAN["overall"]
    return ("Scored as the listeners were, neutral and calm accepted for each other, the highest accuracy of a network "
            f"is {best['name']}'s: **{best.accuracy:.1f} %** ({best.low:.1f} to {best.high:.1f}); people recognise "
            f"{people} %. {(fair.accuracy > people).sum()} of the {len(fair)} networks lie above people.")


def main(arguments: Sequence[str] | None = None) -> int:
    """Print Table 2 of a folder of runs (default: the published results) as Markdown; 0 if all went well."""
    parser = argparse.ArgumentParser(prog="python -m ser_utils.evaluation.tables", description="Print Table 2.")
    parser.add_argument(
        "root", nargs="?", type=Path, default=RESULTS, help="folder of runs (default: results/)"
    )
    root = parser.parse_args(arguments).root
    if not root.is_dir():
        print(f"{root} does not exist: no run is finished there.", file=sys.stderr)
    try:
        print(table2_markdown(table2(root)), end="")
    except evaluation.ResultsError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
