"""Finished full runs become the published results; the tables and figures made of them are made anew."""

import sys
from pathlib import Path

from ser_utils import FOLDS, config
from ser_utils.evaluation import reference, tables
from ser_utils.evaluation.metrics import PROTOCOL_TITLES
from ser_utils.paths import FIGURES, RESULTS, RUNS, atomic_write
from ser_utils.plots import data, search, style, validity
from ser_utils.plots import results as figures
from ser_utils.studies import ablation, leakage
from ser_utils.training import runs


def draw(results: Path = RESULTS, folder: Path = FIGURES) -> None:
    """Draw the project's figures anew: the framework, and the published results as far as there are any."""
    style.use_style()
    with style.corpus_shown("ravdess"):
        drawn = {"framework": data.framework()}
        for profile, predictions in leakage.load_published(results).items():
            rungs = leakage.scores(predictions)
            rungs = rungs[rungs.shortcut.isin(leakage.LADDER + leakage.APART)]
            drawn[f"ladder_{profile}"] = validity.ladder(
                rungs, f"Profile {profile}, {rungs.folds.max()} of {FOLDS} folds")
        if len(grown := ablation.growth(results)):
            drawn["growth"] = search.growth(grown)
        for protocol, worth in ablation.table("recipe", results).groupby("protocol", sort=False):
            if worth.difference.notna().any():
                drawn[f"recipe_{protocol}"] = search.worth(worth, "recipe", PROTOCOL_TITLES[protocol])
        if runs.find(results):
            table = tables.table2(results)
            table = table[table.groupby("protocol").folds.transform("sum") > 0]
            drawn["table2"] = figures.table2_bars(table)
            if len(systems := tables.unseen_speakers(table)):
                drawn["unseen_speakers"] = figures.unseen_speakers(systems)
            for protocol in table.protocol.unique():
                if len(predictions := runs.predictions(results, protocol)):  # not only references
                    drawn[f"confusion_{protocol}"] = figures.confusion_grid(predictions)
                    drawn[f"recall_{protocol}"] = figures.class_recall_vs_people(predictions)
        for name, figure in drawn.items():
            style.save_fig(figure, name, folder)


def main() -> int:
    """``python -m ser_utils.report.publish``: finished full runs, networks and references, to ``results/``."""
    configs = [*config.run_configs("full", "ravdess", seeds=range(10)), *reference.run_configs("full", "ravdess")]
    try:
        new = runs.publish(configs, RUNS, RESULTS)
        print(f"{len(new)} runs are new in results/: {', '.join(new) or 'none'}.")
        with atomic_write(RESULTS / "README.md") as temporary:
            temporary.write_text(tables.results_readme(RESULTS), encoding="utf-8")
    except (runs.PublishError, runs.ResultsError) as error:
        print(error, file=sys.stderr)
        return 1
    draw()
    return 0


if __name__ == "__main__":
    sys.exit(main())
