"""ser_utils.plots.explain: what the figures hold."""

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest

mpl.use("Agg")

from matplotlib.figure import Figure  # noqa: E402

from ser_utils import explain  # noqa: E402
from ser_utils.config import FeatureConfig  # noqa: E402
from ser_utils.data.ravdess import EMOTIONS  # noqa: E402
from ser_utils.plots import explain as plots  # noqa: E402
from ser_utils.plots import style  # noqa: E402

FEATURES = FeatureConfig()
HOP = FEATURES.hop_length / FEATURES.sample_rate
UNITS = explain.units(FEATURES, pool=2)
RNG = np.random.default_rng(0)
LOGMEL = RNG.normal(-40, 10, size=(100, 80))


pytestmark = pytest.mark.usefixtures("clean_style")


def texts(fig) -> list[str]:
    return [text.get_text() for text in fig.findobj(mpl.text.Text)]


def shown(fig) -> list:
    """The axes that are visible."""
    return [axis for axis in fig.axes if axis.get_visible()]


def test_first_filters_and_their_responses():
    kernels = RNG.normal(size=(11, 5, 5))
    magnitude = explain.modulation_response(kernels)[2]
    fig = plots.first_filters(kernels, magnitude, UNITS, columns=4)
    axes = shown(fig)
    assert len(axes) == 2 * 8  # two rows of four, each with its response
    np.testing.assert_array_equal(axes[0].images[0].get_array(), kernels[0].T)
    assert axes[0].images[0].get_extent() == [0, pytest.approx(200), 0, 5]  # 5 frames of 40 ms
    rate = 0.5 / UNITS.seconds
    assert axes[4].images[0].get_extent()[:2] == [-rate, rate]
    np.testing.assert_array_equal(axes[4].images[0].get_array(), magnitude[0].T)
    few = plots.first_filters(kernels[:3], magnitude[:3], UNITS, columns=4)
    assert len(shown(few)) == 2 * 3


def test_modulations_show_what_differs_from_flat():
    flat = np.ones((32, 17))
    peak = flat.copy()
    peak[20] = 9  # rate 4 / 32 cycles a frame
    fig = plots.modulations(peak, flat, UNITS)
    trained, untrained = (next(line for line in fig.axes[1].lines if line.get_label() == name)
                          for name in ("trained", "untrained"))
    np.testing.assert_allclose(untrained.get_ydata(), 1)
    best = trained.get_xdata()[np.argmax(trained.get_ydata())]
    assert best == pytest.approx(4 / 32 / UNITS.seconds)
    assert best < 12.5
    ripples = next(line for line in fig.axes[2].lines if line.get_label() == "trained")
    np.testing.assert_allclose(ripples.get_ydata(), 1)
    assert ripples.get_xdata()[-1] == pytest.approx(500 / UNITS.hertz)
    assert any("octave" in text for text in texts(fig))


def test_filter_answers_share_the_clips_time():
    maps = RNG.random((2, 20, 5))
    fig = plots.filter_answers(LOGMEL, RNG.normal(size=(2, 5, 5)), maps, FEATURES, seconds=0.16, title="angry")
    axes = shown(fig)
    assert len(axes) == 5 and axes[0].get_title("left") == "angry"
    answers = [axis for axis in axes if axis.images and axis.images[0].get_array().shape == (5, 20)]
    assert len(answers) == 2
    for axis in answers:
        left, right = axis.images[0].get_extent()[:2]
        assert right - left == pytest.approx(20 * 0.16)
        assert axis.get_xlim() == pytest.approx(axes[0].get_xlim())


def test_skip_or_not_draws_both_networks_on_one_scale():
    losses = pd.DataFrame([(name, step, 2.0 - 0.1 * step) for name in ("plain", "residual") for step in (1, 2, 3)],
                          columns=["network", "step", "loss"])
    norms = pd.DataFrame([(name, moment, depth, 0.5 * depth) for name in ("plain", "residual")
                          for moment in ("before training", "after training") for depth in (1, 2)],
                         columns=["network", "moment", "depth", "norm"])
    fig = plots.skip_or_not(losses, norms)
    before, after = fig.axes[1:]
    assert len(before.lines) == len(after.lines) == 2
    assert before.get_ylim() == after.get_ylim() and before.get_yscale() == "log"
    np.testing.assert_allclose(before.lines[0].get_ydata(), [0.5, 1.0])
    guess = [line for line in fig.axes[0].lines if np.allclose(line.get_ydata(), np.log(8))]
    assert len(guess) == 1


def test_residual_shares():
    shares = pd.DataFrame({"block": ["conv2_block1", "conv3_block1"], "share": [0.5, 1.5], "kind": ["x", "projection"]})
    fig = plots.residual_shares(shares)
    assert [bar.get_height() for bar in fig.axes[0].patches[:2]] == [0.5, 1.5]
    assert {"conv2.1", "conv3.1"} <= set(texts(fig))


def test_branch_fields_are_centred_on_the_point():
    field = np.zeros((40, 20))
    field[18:23, 10] = 0.2
    fig = plots.branch_fields({"1×1": (field, (20, 10)), "5×5": (field, (20, 10))}, UNITS)
    image = fig.axes[0].images[0]
    left, right, bottom, top = image.get_extent()
    assert right - left == pytest.approx(40 * UNITS.seconds) and top - bottom == 20
    assert left + 20.5 * UNITS.seconds == pytest.approx(0) and bottom + 10.5 == pytest.approx(0)
    spread = 1000 * np.sqrt(2) * UNITS.seconds
    assert f"spread {spread:.0f} ms, 0.0 bins" in fig.axes[0].get_xlabel()


def test_branch_emotions_write_their_values_and_dashes():
    means = {"1×1": np.r_[0.5, np.full(7, -0.25)], "5×5": np.r_[np.nan, np.zeros(7)]}
    fig = plots.branch_emotions(means)
    assert {"+0.50", "-0.25", "–", "1×1", "5×5", *EMOTIONS} <= set(texts(fig))
    image = fig.axes[0].images[0]
    assert image.norm.vmin == -0.5 and image.norm.vmax == 0.5


def test_branch_patches_wear_their_emotions_colour():
    patches = {"1×1": [(RNG.random((10, 8)), "angry"), (RNG.random((10, 8)), "sad")],
               "5×5": [(RNG.random((10, 8)), "calm")]}
    fig = plots.branch_patches(patches, UNITS)
    axes = shown(fig)
    assert [axis.get_title() for axis in axes] == ["angry", "sad", "calm"]
    assert mpl.colors.same_color(axes[0].spines["left"].get_edgecolor(), style.EMOTION_COLORS["angry"])
    assert any("400 ms × 8 bins" in text for text in texts(fig))


def test_importance_lies_on_its_spectrogram():
    importance = np.zeros((50, 40))
    importance[10, 20] = 1
    panel = plots.Panel("angry", LOGMEL, importance)
    fig = plots.importance_panels([panel] * 5, FEATURES, columns=4)
    axes = shown(fig)
    assert len(axes) == 5
    below, above = axes[0].images
    assert above.get_array().shape == (80, 100, 4)  # bands, frames, colour
    visible = np.argwhere(above.get_array()[..., 3] > 0)
    assert visible.min(axis=0).tolist() == [40, 20] and visible.max(axis=0).tolist() == [41, 21]
    assert above.get_extent() == pytest.approx(below.get_extent())


def test_importance_beyond_the_speech_is_cut():
    fig = plots.importance_panels([plots.Panel("sad", LOGMEL[:61], np.ones((80, 40)))], FEATURES, columns=1)
    assert fig.axes[0].images[1].get_array().shape == (80, 61, 4)


def test_curves_lie_under_their_clip():
    curve = np.linspace(0, 2, 100)
    wave = RNG.normal(size=100 * FEATURES.hop_length)
    fig = plots.curves_over_clip(wave, LOGMEL, {"attention": 3 * curve}, FEATURES, np.array([25, 50]), "happy")
    sound, picture, weights = fig.axes
    assert sound.get_xlim() == picture.get_xlim() == weights.get_xlim()
    np.testing.assert_allclose(weights.lines[0].get_ydata(), curve)  # relative to its mean
    marks = [line.get_xdata()[0] for line in sound.lines[1:]]
    assert marks == pytest.approx([25 * HOP, 50 * HOP])
    assert "happy" in texts(fig) and any("nucleus" in text for text in texts(fig))
    without = plots.curves_over_clip(wave, LOGMEL, {"a": curve, "b": curve}, FEATURES)
    assert len(without.axes[0].lines) == 1 and {"a", "b"} <= set(texts(without))
    assert not any("nucleus" in text for text in texts(without))


def test_weight_by_position_has_a_panel_an_emotion():
    profiles = RNG.random((14, 20))
    labels = np.arange(14) % 7  # nobody is surprised
    fig = plots.weight_by_position(profiles, labels)
    assert len(shown(fig)) == 8
    np.testing.assert_allclose(fig.axes[1].lines[1].get_ydata(), profiles[labels == 1].mean(axis=0))
    assert fig.axes[7].get_title("left") == "surprised (0)" and len(fig.axes[7].lines) == 1


def test_attention_heads_are_laid_out_by_layer():
    maps = RNG.random((2, 3, 10, 10))
    fig = plots.attention_heads(maps, seconds=0.08)
    axes = shown(fig)
    assert len(axes) == 6
    np.testing.assert_allclose(axes[4].images[0].get_array(), np.sqrt(maps[1, 1]))
    assert axes[4].images[0].get_extent() == pytest.approx([0, 0.8, 0.8, 0])
    assert axes[3].get_ylabel() == "layer 2" and axes[2].get_title("center") == "head 3"


def test_head_distances_are_sorted_within_a_layer():
    distances = np.broadcast_to(np.array([[3.0, 1.0], [2.0, 4.0]]), (5, 2, 2))
    fig = plots.head_distances(distances, seconds=0.1, even=3.5)
    points = [line.get_ydata()[0] for line in fig.axes[0].lines if line.get_marker() == "o"]
    assert points == pytest.approx([0.1, 0.3, 0.2, 0.4])
    assert any(np.allclose(line.get_ydata(), 0.35) for line in fig.axes[0].lines)


def test_figures_of_the_synthetic_corpus_carry_the_banner():
    style.set_corpus("synthetic")
    fig = plots.importance_panels([plots.Panel("calm", LOGMEL, np.ones((50, 40)))], FEATURES, columns=1)
    assert isinstance(fig, Figure) and style.is_synthetic(fig)
