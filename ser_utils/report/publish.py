"""Finished full runs become the published results; the tables and the figure of README are made anew."""

import argparse
import sys

from ser_utils import FOLD_COUNT, PROTOCOLS, config
from ser_utils.evaluation import reference, tables
from ser_utils.paper import MODEL_NAMES
from ser_utils.paths import FIGURES, RESULTS, RUNS, write_text
from ser_utils.plots import results as figures
from ser_utils.plots import style
from ser_utils.studies import aligned
from ser_utils.training import grid, runs

SEEDS = 3  # of each network, at most


def recipes() -> list:
    """Every run of ``results/`` by today's recipe: networks, taught or with enrolled voices; aligned; references."""
    networks = config.run_configs("full", "ravdess", protocols=list(FOLD_COUNT), seeds=range(SEEDS))
    others = [config.learning(one, learns, teachers) for one in networks if one.protocol in PROTOCOLS
              for learns, teachers in (("refit", 0), *(("distilled", count) for count in range(1, SEEDS + 1)))]
    fitted = [*aligned.run_configs(), *reference.run_configs("full", "ravdess")]
    return [*networks, *others, *aligned.enrolled_networks(), *fitted]


@grid.command
def main(arguments: list[str] | None = None) -> int:
    """``python -m ser_utils.report.publish``: finished full runs to ``results/``, its README and ``table2.png``."""
    argparse.ArgumentParser(prog="ser_utils.report.publish", description=main.__doc__).parse_args(arguments)
    robust = [*config.run_configs("robust", "ravdess"), *aligned.enrolled_networks("robust")]
    known = [*recipes(), *robust]
    new = runs.publish(known, RUNS, RESULTS)
    print(f"{len(new)} runs are new in results/: {', '.join(new) or 'none'}.")
    hashes, finished = {one.hash for one in known}, runs.find(RUNS / "ravdess-full", seeds=True)
    finished = [run for run in finished if run.parts[-2].split("_")[0] in MODEL_NAMES]  # others publish themselves
    if left := [run for run in finished if runs.read_info(run)["config_hash"] not in hashes]:
        print(f"{len(left)} finished runs belong to no row of the tables and stay where they are, such as {left[0]}.")
    write_text(RESULTS / "README.md", tables.results_readme(RESULTS))
    table = tables.table2(RESULTS)
    style.use_style()
    with style.corpus_shown("ravdess"):
        figure = figures.table2_bars(table[table.groupby("protocol").folds.transform("sum") > 0])
    style.save_fig(figure, "table2", FIGURES)
    return 0


if __name__ == "__main__":
    sys.exit(main())
