"""ser_utils.plots.data: what the figures of the corpus and its features hold."""

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest

mpl.use("Agg")

import matplotlib.pyplot as plt  # noqa: E402
from matplotlib.collections import QuadMesh  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402

from ser_utils import paper  # noqa: E402
from ser_utils.config import PAD_DB, FeatureConfig  # noqa: E402
from ser_utils.data import (
    folds,  # noqa: E402
    ravdess,  # noqa: E402
)
from ser_utils.features import prosody  # noqa: E402
from ser_utils.features import spectral as features  # noqa: E402
from ser_utils.plots import data, style  # noqa: E402

CONFIG = FeatureConfig()
RNG = np.random.default_rng(0)


pytestmark = pytest.mark.usefixtures("clean_style")


@pytest.fixture(scope="module")
def index():
    return pd.DataFrame([ravdess.parse_name(name) | {"path": ""} for name in ravdess.speech_names()])


@pytest.fixture(scope="module")
def measures(index):
    """A made-up table of ``prosody.measure``; one clip has no pitch."""
    rng = np.random.default_rng(1)
    table = pd.DataFrame({"clip": index["clip"]})
    for column, low, high in (("seconds", 3, 5), ("speech_seconds", 1, 3), ("peak", 0.01, 1),
                              ("level_db", -60, -15), ("f0_median", 80, 500), ("f0_spread", 0, 9),
                              ("voiced", 0, 1)):
        table[column] = rng.uniform(low, high, len(table))
    table.loc[7, ["f0_median", "f0_spread"]] = np.nan
    assert tuple(table.columns) == prosody.COLUMNS
    return table


@pytest.fixture(scope="module")
def spectra():
    """A spectrogram of 60 frames for each emotion, louder from one to the next."""
    rng = np.random.default_rng(2)
    return {emotion: rng.normal(-50 + 5 * place, 4, (60, CONFIG.n_mels))
            for place, emotion in enumerate(ravdess.EMOTIONS)}


@pytest.fixture(scope="module")
def speech():
    time = np.arange(16_000) / CONFIG.sample_rate
    return (0.2 * np.sin(2 * np.pi * 300 * time) * np.sin(np.pi * time)).astype(np.float32)


def texts(fig) -> list[str]:
    return [text.get_text() for text in fig.findobj(mpl.text.Text)]


def titles(fig) -> list[str]:
    return [axis.get_title(loc="left") for axis in fig.axes if axis.get_title(loc="left")]


def draw(fig) -> Figure:
    """The figure, drawn without a warning and out of pyplot's list."""
    assert isinstance(fig, Figure) and not plt.get_fignums()
    fig.draw_without_rendering()
    return fig


def overlaps(fig, words: list[str]) -> list[tuple[str, str]]:
    """Pairs of the given texts that lie on each other."""
    fig.canvas.draw()
    frames = {t.get_text(): t.get_window_extent() for t in fig.findobj(mpl.text.Text) if t.get_text() in words}
    names = list(frames)
    return [(a, b) for i, a in enumerate(names) for b in names[i + 1:] if frames[a].overlaps(frames[b])]


def test_framework_names_every_part():
    fig = draw(data.framework())
    words = texts(fig)
    for wanted in (*paper.MODEL_NAMES.values(), "960 clips", "240 clips", "Augmentation", "Normalisation"):
        assert wanted in words
    assert any(f"{CONFIG.n_mels} bands" in word for word in words)
    assert any("40 bands" in word for word in texts(data.framework(FeatureConfig(n_mels=40))))
    assert overlaps(fig, [word for word in words if word]) == []


def test_counts_stack_to_the_number_of_clips(index):
    fig = draw(data.counts(index))
    bars = [patch for patch in fig.axes[0].patches if patch.get_height()]
    assert sum(bar.get_height() for bar in bars) == 1440
    assert max(bar.get_y() + bar.get_height() for bar in bars) == 96
    assert sum(bar.get_height() for bar in bars if bar.get_x() < 0.5) == 96  # neutral has no strong clip


def test_durations_give_medians(index, measures):
    fig = draw(data.durations(index, measures))
    for column in ("seconds", "speech_seconds"):
        assert any(f"median {measures[column].median():.2f} s" in text for text in texts(fig))


def test_examples_share_their_scales(spectra, speech):
    waves = {emotion: speech * (0.1 + place / 10) for place, emotion in enumerate(spectra)}
    fig = draw(data.examples(waves, spectra, CONFIG))
    assert titles(fig) == list(ravdess.EMOTIONS)
    images = [image for axis in fig.axes for image in axis.images]
    assert len(images) == 8 and len({image.get_clim() for image in images}) == 1
    limits = {axis.get_ylim() for axis in fig.axes if axis.lines}
    assert limits == {(-max(map(np.max, waves.values())), max(map(np.max, waves.values())))}


def test_examples_of_few_emotions(spectra, speech):
    few = ["neutral", "sad", "angry", "fearful", "disgust"]
    fig = draw(data.examples({e: speech for e in few}, {e: spectra[e] for e in few}, CONFIG, {"sad": "so sad"}))
    assert titles(fig) == ["neutral", "so sad", "angry", "fearful", "disgust"]
    assert sum(axis.axison for axis in fig.axes) == 2 * len(few) + 1  # and the colour bar


def test_prosody_by_emotion_marks_the_medians(index, measures):
    fig = draw(data.prosody_by_emotion(index, measures))
    table = index.merge(measures, on="clip")
    calm = table[(table.emotion == "calm") & (table.gender == "female")]
    for axis, column in zip(fig.axes, ("level_db", "f0_median"), strict=True):
        marks = [line.get_xydata()[0] for line in axis.lines if line.get_marker() == "o"]
        assert len(marks) == 16
        near = [y for x, y in marks if 0.5 < x < 1]
        assert near == [pytest.approx(calm[column].median())]
        assert axis.get_ylim()[0] <= table[column].min() and table[column].max() <= axis.get_ylim()[1]


def test_prosody_of_one_clip_a_group(index, measures):
    chosen = index.drop_duplicates(["emotion", "gender"])
    draw(data.prosody_by_emotion(chosen, measures))


def test_peaks_by_actor(index, measures):
    fig = draw(data.levels_by_actor(index, measures))
    points = fig.axes[0].collections[0].get_offsets()
    assert len(points) == 1440 and set(np.round(points[:, 0])) == set(range(1, 25))
    assert points[:, 1].max() == pytest.approx(20 * np.log10(measures.peak.max()))


@pytest.mark.parametrize("fold", [0, 5])
def test_protocols_show_the_splits(index, fold):
    fig = draw(data.protocols(index, fold))
    for axis, protocol in zip(fig.axes, folds.PROTOCOLS, strict=True):
        (mesh,) = [artist for artist in axis.collections if isinstance(artist, QuadMesh)]
        grid = mesh.get_array().reshape(24, 60)
        parts = folds.split(index, protocol, fold)
        assert [(grid == number).sum() for number in range(3)] == [len(parts[part]) for part in folds.PARTS]
        tested = index.iloc[parts["test"]].groupby("actor").size().reindex(range(1, 25), fill_value=0)
        assert list((grid == 2).sum(axis=1)) == list(tested)
        if protocol == "twins":
            assert (grid[:, ::2] == grid[:, 1::2]).all()  # repetitions are neighbours


def test_protocols_of_a_part_of_the_corpus(index):
    draw(data.protocols(index[index.actor.isin([1, 4, 8]) & (index.repetition == 1)]))
    with pytest.raises(ValueError, match="fold"):
        data.protocols(index, 6)


def test_trimming_marks_the_part_kept(speech):
    wave = np.concatenate([np.zeros(8000), speech, np.zeros(8000)]).astype(np.float32)
    fig = draw(data.trimming(wave, 16_000, 8000, 24_000, 30.0))
    kept = fig.axes[0].lines[1].get_xdata()
    assert (kept[0], kept[-1]) == (pytest.approx(0.5), pytest.approx(1.5, abs=1e-3))
    level, limit = fig.axes[1].lines[:2]
    assert limit.get_ydata()[0] == pytest.approx(max(level.get_ydata()) - 30)


def test_short_time_fourier_shows_its_frame(speech):
    power = RNG.uniform(1e-9, 1, (51, CONFIG.n_fft // 2 + 1))
    power[20, 15] = 1000  # 300 Hz
    fig = draw(data.short_time_fourier(speech, power, CONFIG, 20))
    spectrum = fig.axes[1].lines[0]
    assert spectrum.get_xdata()[spectrum.get_ydata().argmax()] == 300
    samples = fig.axes[0].lines[0].get_ydata()
    assert samples == pytest.approx(speech[20 * 320 - 400: 20 * 320 + 400])


def test_mel_filterbank_and_cosines():
    bank = features._analysis(CONFIG)[1].T
    fig = draw(data.mel_filterbank(bank, RNG.uniform(1e-6, 1, CONFIG.n_fft // 2 + 1), CONFIG))
    assert len(fig.axes[0].lines) == CONFIG.n_mels
    assert all(line.get_ydata().max() == pytest.approx(1) for line in fig.axes[0].lines)

    basis = np.linalg.qr(RNG.normal(size=(80, 80)))[0]
    frame = RNG.normal(-40, 10, 80)
    fig = draw(data.cosine_transform(frame, basis, CONFIG, kept=(13, 80)))
    rebuilt = {line.get_label(): line.get_ydata() for line in fig.axes[1].lines}
    assert rebuilt["from 80 coefficients"] == pytest.approx(frame)
    assert not np.allclose(rebuilt["from 13 coefficients"], frame, atol=1)


def test_mfcc_and_deltas_are_scaled():
    fig = draw(data.mfcc_and_deltas(RNG.normal(3, 7, (60, 120)), CONFIG))
    images = [axis.images[0].get_array() for axis in fig.axes[:3]]
    for image in images:
        assert image.shape == (39, 60)
        assert np.abs(image.mean(axis=1)).max() < 1e-9 and np.abs(image.std(axis=1) - 1).max() < 1e-6


def test_correlations():
    one = RNG.normal(size=(200, 1))
    tied = np.repeat(one, 80, axis=1) + RNG.normal(0, 1e-6, (200, 80))
    fig = draw(data.mfcc_against_logmel(tied, RNG.normal(size=(200, 40)), CONFIG))
    left, right = (axis.images[0].get_array() for axis in fig.axes[:2])
    assert left.min() > 0.99 and np.abs(right - np.eye(40)).max() < 0.5


def test_relative_time_uses_speech_only():
    logmel = np.full((2, 50, 4), PAD_DB, np.float32)
    logmel[0, :50] = np.arange(50)[:, None]
    logmel[1, :10] = np.arange(10)[:, None]
    store = features.FeatureStore(CONFIG, np.array(["a", "b"]), np.array([50, 10]), logmel, None)
    found = data.relative_time(store, 20)
    assert found.shape == (2, 20, 4) and found.min() >= 0
    assert found[1, :, 0].tolist() == np.repeat(np.arange(10), 2).tolist()
    assert found[0, 0, 0] == 1 and found[0, -1, 0] == 48


def test_mean_spectrograms_share_a_scale(spectra):
    for figure in (data.mean_spectrograms, data.mean_differences):
        fig = draw(figure(spectra, CONFIG))
        images = [axis.images[0] for axis in fig.axes[:8]]
        assert titles(fig) == list(ravdess.EMOTIONS)
        assert len({image.get_clim() for image in images}) == 1
    assert images[0].get_clim()[0] == -images[0].get_clim()[1]
    assert np.abs(sum(image.get_array() for image in images)).max() < 1e-9
    assert images[0].get_array().mean() < -10 < 10 < images[7].get_array().mean()


def test_embedding_colours(index):
    chosen = index[index.repetition == 1]
    fig = draw(data.embedding(RNG.normal(size=(len(chosen), 2)), chosen))
    left, right = fig.axes
    assert len(left.collections[0].get_offsets()) == len(chosen)
    assert len(np.unique(left.collections[0].get_facecolors(), axis=0)) == 8
    assert [len(part.get_offsets()) for part in right.collections] == [360, 360]
    assert [len(np.unique(part.get_facecolors(), axis=0)) for part in right.collections] == [12, 12]


def test_augmentation_masks_padding():
    clip = np.full((160, CONFIG.n_mels), PAD_DB)
    clip[:80] = -30
    longer = clip.copy()
    longer[:90] = -40
    fig = draw(data.augmentation({"The clip": clip, "Longer": longer, "Again": clip}, CONFIG))
    assert titles(fig) == ["The clip", "Longer", "Again"]
    images = [axis.images[0].get_array() for axis in fig.axes[:3]]
    assert [(~image.mask).any(axis=0).sum() for image in images] == [80, 90, 80]
    assert fig.axes[0].get_xlim()[1] == pytest.approx(1.05 * 90 * 0.02)


def test_synthetic_figures_carry_the_banner(index, measures):
    style.set_corpus("synthetic")
    for fig in (data.framework(), data.counts(index), data.levels_by_actor(index, measures)):
        assert style.is_synthetic(draw(fig))
