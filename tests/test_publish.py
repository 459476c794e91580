import json

import numpy as np
import pandas as pd
import pytest
from fakes import fake_results, fake_run

from ser_utils import config
from ser_utils.paths import RESULTS, ROOT
from ser_utils.report import publish


@pytest.fixture
def runs(tmp_path):
    """Two made-up full runs that claim today's settings."""
    root = tmp_path / "runs"
    for model in ("lstm", "transformer"):
        fake_run(root, "random", model, 0)
    for path in root.glob("*/*/*/run.json"):
        restate(path, config_hash=hash_of(path.parts[-3]))
    return root


def hash_of(model):
    return config.run_configs("full", "ravdess", [model], ["random"], [0])[0].hash


def restate(path, **values):
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_finished_runs_are_copied_without_weights_and_only_once(runs, tmp_path):
    (runs / "random/lstm/fold0/model.keras").write_bytes(b"weights")
    results = tmp_path / "results"
    assert publish.publish(runs, results) == ["random/lstm/fold0", "random/transformer/fold0"]
    assert {path.name for path in (results / "random/lstm/fold0").iterdir()} == set(runs.FILES)
    assert publish.publish(runs, results) == []


@pytest.mark.parametrize("change, said", [
    ({"profile": "quick"}, "quick run"),
    ({"corpus": "synthetic"}, "synthetic"),
    ({"config_hash": "0" * 12}, "settings"),
    ({"config": {"options": {"weights": "imagenet"}}}, "other data .imagenet.*study"),
])
def test_a_run_of_another_profile_corpus_or_recipe_is_refused_and_nothing_is_copied(runs, tmp_path, change, said):
    restate(runs / "random/transformer/fold0/run.json", **change)
    with pytest.raises(publish.PublishError, match=said):
        publish.publish(runs, tmp_path / "results")
    assert not (tmp_path / "results").exists()


def test_the_readme_gets_the_table_between_its_marks(runs, tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text("before\n" + "\nstale words\n".join(publish.MARKS) + "\nafter\n")
    publish.write_readme(runs, readme)
    text = readme.read_text()
    assert text.startswith("before\n") and text.endswith("\nafter\n") and "stale words" not in text
    assert publish.readme_table(runs) in text
    assert "| random | Transformer |" in text and "(figures/table2.png)" in text
    assert "| ResNet |" not in text
    assert "Random split (the paper's): AlexNet, ResNet, InceptionNet, VGG16, VGG19;" in text


def test_figures_are_drawn_for_the_protocols_that_were_run(runs, tmp_path):
    publish.draw(runs, tmp_path / "figures")
    assert {path.name for path in (tmp_path / "figures").iterdir()} == {
        "framework.png", "table2.png", "confusion_random.png", "recall_random.png"}


def test_other_studies_stand_beside_networks(runs, tmp_path):
    known = publish.readme_table(runs)
    assert "known voices" in known and "TIM-Net" in known and "(figures/unseen_speakers.png)" not in known
    fake_results(tmp_path / "results", protocols=["actors"], models=["alexnet"], folds=[0])
    publish.draw(tmp_path / "results", tmp_path / "figures")
    assert (tmp_path / "figures" / "unseen_speakers.png").exists()
    text = publish.readme_table(tmp_path / "results")
    assert "(figures/unseen_speakers.png)" in text and text.index("| actors |") < text.index("XLS-R")
    assert "known voices" not in text


def test_what_more_clips_bring_is_drawn_and_said_where_it_was_measured(runs, tmp_path, monkeypatch):
    assert "more recordings" not in publish.readme_table(runs)
    grown = pd.DataFrame([("random", "lstm", 480, 2, 70.0, 68.0, 72.0, np.nan),
                          ("random", "lstm", 960, 2, 78.0, np.nan, np.nan, 8.0)],
                         columns=["protocol", "model", "clips", "folds", "accuracy", "low", "high", "gain"])
    monkeypatch.setattr(publish.studies, "growth", lambda results: grown)
    publish.draw(runs, tmp_path / "figures")
    assert (tmp_path / "figures" / "growth.png").exists()
    text = publish.readme_table(runs)
    assert "(figures/growth.png)" in text and "from 480 to 960 clips +8.0 points" in text


def test_what_the_recipes_choices_are_worth_is_drawn_and_said_where_it_was_measured(runs, tmp_path, monkeypatch):
    assert "choices are worth" not in publish.readme_table(runs)
    nothing = publish.studies.table("recipe", runs)
    rows = [("random", "lstm", "baseline"), ("random", "lstm", "mixup"), ("actors", "lstm", "baseline")]
    found = pd.DataFrame(rows, columns=["protocol", "model", "variant"])
    found[["difference", "low", "high", "p"]] = np.nan
    found[["folds", "same_device"]] = 1
    found.loc[1, ["difference", "low", "high", "p"]] = -5.0, -8.0, -2.0, 0.01
    monkeypatch.setattr(publish.studies, "table", lambda name, results: found if name == "recipe" else nothing)
    publish.draw(runs, tmp_path / "figures")
    assert [path.name for path in (tmp_path / "figures").glob("recipe_*")] == ["recipe_random.png"]
    text = publish.readme_table(runs)
    assert text.count("(figures/recipe_") == text.count("(figures/recipe_random.png)") == 1
    assert "(LSTM, *random*) +5.0 (+2.0 to +8.0)" in text


def test_the_projects_readme_holds_what_its_results_say():
    text = (ROOT / "README.md").read_text()
    assert publish.readme_table(RESULTS) in text and publish.estimate.study_markdown(RESULTS) in text


def test_every_published_run_is_fit_to_be_published():
    expected = publish.expected_runs()
    for directory in runs.find(RESULTS):
        publish.check(directory, expected)
