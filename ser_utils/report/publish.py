"""Finished full runs become the published results: checked, copied without weights, tables redrawn."""

import json
import re
import shutil
import sys
from pathlib import Path

from ser_utils import FOLDS, config
from ser_utils.evaluation import metrics as evaluation
from ser_utils.evaluation import reference, tables
from ser_utils.paths import FIGURES, RESULTS, ROOT, RUNS, atomic_write
from ser_utils.plots import data, style
from ser_utils.plots import results as figures
from ser_utils.plots import search as recipes
from ser_utils.studies import ablation as studies
from ser_utils.training import estimate, runs

FILES = ("predictions.csv", "history.csv", "run.json")  # run.json last: it makes a folder count as a run
MARKS = ("<!-- table2:begin -->", "<!-- table2:end -->")
STUDY_MARKS = ("<!-- study:begin -->", "<!-- study:end -->")


class PublishError(ValueError):
    """A run that must not be published; the message says why."""


def check(directory: Path, expected: dict[str, str]) -> None:
    """Raise :class:`PublishError` unless a folder holds a full run on RAVDESS with today's settings.

    ``expected`` is what :func:`expected_runs` returns.
    """
    runs.check(directory)
    info = json.loads((directory / "run.json").read_text())
    name = f"{info['protocol']}/{info['model']}/fold{info['fold']}"
    if info["config"].get("options", {}).get("weights"):
        raise PublishError(f"{name} started from other data ({info['config']['options']['weights']}): it belongs in "
                           "a study (python -m ser_utils.studies.ablation), not among the runs trained from scratch.")
    if info["profile"] != "full" or info["corpus"] != "ravdess":
        raise PublishError(f"{name} is a {info['profile']} run on {info['corpus']}: only full runs on ravdess count.")
    if info["config_hash"] != expected.get(name):
        raise PublishError(f"{name} was trained with other settings than ser_utils.config holds now. Train it again.")
    if len(runs.read_predictions(directory)) != runs.FULL_ROWS:
        raise PublishError(f"{name} does not hold {runs.FULL_ROWS} predictions.")


def expected_runs() -> dict[str, str]:
    """The name of each run of the full profile, networks and references, and the hash of its configuration."""
    configs = [*config.run_configs("full", "ravdess"), *reference.run_configs("full", "ravdess")]
    return {c.name: c.hash for c in configs}


def publish(runs: Path = RUNS / "ravdess-full", results: Path = RESULTS) -> list[str]:
    """Copy every finished run into ``results``; returns the names of those that are new or have changed.

    Raises
    ------
    PublishError
        A run is not fit to be published; nothing of it is copied.
    ResultsError
        A run's files contradict each other.
    """
    expected = expected_runs()
    directories = runs.find(runs)
    for directory in directories:
        check(directory, expected)
    new = []
    for directory in directories:
        name = str(directory.relative_to(runs))
        if copy_run(directory, results / name):
            new.append(name)
    return new


def copy_run(directory: Path, target: Path) -> bool:
    """Copy a run without its weights; False if ``target`` holds the very same files already."""
    if all((target / file).exists() and (target / file).read_bytes() == (directory / file).read_bytes()
           for file in FILES):
        return False
    for file in FILES:
        with atomic_write(target / file) as temporary:
            shutil.copyfile(directory / file, temporary)
    return True


def draw(results: Path = RESULTS, folder: Path = FIGURES) -> None:
    """Draw the project's figures anew: the framework, and the published results if there are any."""
    from ser_utils.plots.validity import ladder
    from ser_utils.studies import leakage as validity

    style.use_style()
    style.set_corpus("ravdess")
    style.save_fig(data.framework(), "framework", folder)
    for profile, predictions in validity.load_published(results).items():
        scores = validity.scores(predictions)
        rungs = scores[scores.shortcut.isin(validity.LADDER + validity.APART)]
        title = f"Profile {profile}, {rungs.folds.max()} of {FOLDS} folds"
        style.save_fig(ladder(rungs, title), f"ladder_{profile}", folder)
    if len(grown := studies.growth(results)):
        style.save_fig(recipes.growth(grown), "growth", folder)
    for protocol, worth in studies.table("recipe", results).groupby("protocol", sort=False):
        if worth.difference.notna().any():
            title = evaluation.PROTOCOL_TITLES[protocol]
            style.save_fig(recipes.worth(worth, "recipe", title), f"recipe_{protocol}", folder)
    if not runs.find(results):
        return
    table = tables.table2(results)
    table = table[table.groupby("protocol").folds.transform("sum") > 0]
    style.save_fig(figures.table2_bars(table), "table2", folder)
    if len(systems := tables.unseen_speakers(table)):
        style.save_fig(figures.unseen_speakers(systems), "unseen_speakers", folder)
    for protocol in table.protocol.unique():
        predictions = runs.predictions(results, protocol)
        if predictions.empty:  # only references
            continue
        style.save_fig(figures.confusion_grid(predictions), f"confusion_{protocol}", folder)
        style.save_fig(figures.class_recall_vs_people(predictions), f"recall_{protocol}", folder)


def readme_table(results: Path = RESULTS) -> str:
    """The README's results: in short, in a table, beside other studies, with more clips; what the recipe is worth."""
    table = tables.table2(results)
    ran, missing = table[table.folds > 0], table[table.folds == 0]
    if ran.empty:
        return "No full run is published yet.\n"
    waiting = [f"{evaluation.PROTOCOL_TITLES[protocol]}: {', '.join(names)}"
               for protocol, names in missing.groupby("protocol", sort=False)["name"]]
    unseen, known = tables.describe_unseen(table), tables.describe_known(table)
    grown = studies.describe_growth(studies.growth(results))
    worth = studies.table("recipe", results)
    chance = [*studies.describe_retrained(studies.retrained(results)),
              *studies.describe_averaged(studies.averaged(results))]
    drawn = [f"![Worth of the choices: {evaluation.PROTOCOL_TITLES[protocol]}](figures/recipe_{protocol}.png)\n"
             for protocol in worth.dropna(subset=["difference"]).protocol.unique()]
    return "\n".join([
        tables.headline(table) + "\n",
        "![Accuracy by protocol, ours beside the paper's](figures/table2.png)\n",
        *(f"- {sentence}" for sentence in tables.describe(table)), "",
        tables.table2_markdown(ran),
        *([f"Not run yet. {'; '.join(waiting)}.\n"] if waiting else []),
        *(["### Beside other studies\n",
           *(["![Recall on unseen speakers, ours and others'](figures/unseen_speakers.png)\n"] if unseen else []),
           *(f"- {sentence}" for sentence in unseen + known), ""] if unseen or known else []),
        *(["### What more recordings would bring\n",
           "![Validation accuracy by the number of training clips](figures/growth.png)\n",
           "The same training with fewer clips and as many steps, judged on validation clips"
           " (`make study STUDY=clips PROFILE=full`). Every doubling may bring less than the one before:\n",
           *(f"- {sentence}" for sentence in grown), ""] if grown else []),
        *(["### What the recipe's choices are worth\n",
           "One ingredient of the recipe is left out or exchanged, all else stays; judged on validation clips"
           " (`make study STUDY=recipe PROFILE=full`). Beyond chance means that the 95 % interval leaves out zero and"
           " McNemar's p is below 0.05, each choice judged alone: up to one in twenty that do nothing may pass. An"
           " interval over the four voices of a single fold may be much too narrow. Another processor rounds"
           " differently and so makes another training; a variant is compared with the recipe trained on the same kind"
           " of processor (`device` in `run.json`) where there is such a training.\n",
           *drawn, *(f"- {sentence}" for sentence in [*studies.describe_worth(worth), *chance]), ""] if drawn else []),
    ])


def write_readme(results: Path = RESULTS, readme: Path = ROOT / "README.md") -> None:
    """Put :func:`readme_table`, and how long the full study takes, between the README's marks."""
    text = readme.read_text()
    for (begin, end), content in ((MARKS, readme_table(results)), (STUDY_MARKS, estimate.study_markdown(results))):
        section = f"{begin}\n{content}{end}"
        text = re.sub(f"{begin}.*{end}", lambda _, section=section: section, text, flags=re.DOTALL)
    with atomic_write(readme) as temporary:
        temporary.write_text(text)


def main() -> int:
    """``python -m ser_utils.report.publish``: publish finished full runs, redraw figures and the README's table."""
    try:
        new = publish()
    except (PublishError, evaluation.ResultsError) as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{len(new)} runs are new in results/: {', '.join(new) or 'none'}.")
    estimate.gather(RUNS)
    write_readme()
    draw()
    return 0


if __name__ == "__main__":
    sys.exit(main())
