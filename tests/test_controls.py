"""Negative controls: what cues alone tell, and who is speaking."""

import numpy as np
import pandas as pd
import pytest
import soundfile

from ser_utils.data import folds
from ser_utils.data.corpus import Corpus
from ser_utils.evaluation import metrics
from ser_utils.studies import controls


def test_the_surface_of_a_recording(tmp_path):
    rate = 16_000
    rng = np.random.default_rng(0)
    tone = 0.5 * np.sin(2 * np.pi * 440 * np.arange(rate) / rate)
    wave = np.concatenate([0.001 * rng.standard_normal(rate // 2), tone, np.zeros(rate // 4)])
    path = tmp_path / "03-01-05-01-01-01-12.wav"
    soundfile.write(path, wave, rate)
    corpus = Corpus(tmp_path, "ravdess", pd.DataFrame({"clip": [path.stem], "path": [str(path)]}))
    row = controls.surface(corpus).iloc[0]
    assert row["clip"] == path.stem and (row.before, row.speech, row.after) == pytest.approx((0.5, 1.0, 0.25))
    assert row.level == pytest.approx(10 * np.log10(0.125), abs=0.1) and row.peak == pytest.approx(-6.02, abs=0.1)
    assert row.level_before == pytest.approx(-60, abs=0.5) and row.level_after == -100


def test_a_cue_that_tells_is_found_and_one_that_does_not_is_at_chance(made_up):
    rng = np.random.default_rng(0)
    made = pd.DataFrame(rng.normal(size=(1440, 7)), columns=controls.SURFACE)
    made["speech"] = made_up.index.label + rng.normal(0, 0.05, 1440)
    table = controls.cue_predictions(made, made_up.index, "actors")
    uar = {cue: metrics.metrics(part.label, part.prediction)["recall"] for cue, part in table.groupby("cue")}
    assert uar["duration of the speech"] > 0.9
    assert 0.08 < uar["loudness of the speech"] < 0.17 and 0.08 < uar["silence around the speech"] < 0.17
    assert table.groupby("cue")["clip"].nunique().eq(1440).all()


def test_the_probe_finds_a_voice_and_nothing_in_noise(made_up):
    actors = made_up.index.actor.to_numpy()
    rows = folds.split(made_up.index, "random", 0)
    rng = np.random.default_rng(0)
    voices = rng.normal(size=(25, 12))[actors] + rng.normal(0, 0.3, (1440, 12))
    assert controls.actor_probe(voices, actors, rows).mean() > 0.9
    assert controls.actor_probe(rng.normal(size=(1440, 12)), actors, rows).mean() < 0.12
