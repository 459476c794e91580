"""ser_utils.plots.style and .results: what the figures hold, their banner, how they are saved."""

import shutil

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from fakes import MODELS, fake_history, fake_results

mpl.use("Agg")

import matplotlib.pyplot as plt  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402

from ser_utils import paper, paths  # noqa: E402
from ser_utils.evaluation import metrics as evaluation  # noqa: E402
from ser_utils.evaluation import (
    statistics,
    tables,  # noqa: E402
)
from ser_utils.plots import results, style  # noqa: E402
from ser_utils.training import runs

pytestmark = pytest.mark.usefixtures("clean_style")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return fake_results(tmp_path_factory.mktemp("results"), protocols=["random"], folds=[0, 1])


@pytest.fixture(scope="module")
def predictions(root):
    return runs.predictions(root, "random")


def texts(fig) -> list[str]:
    """Every text of a figure."""
    return [text.get_text() for text in fig.findobj(mpl.text.Text)]


def simulate(color: str, matrix) -> np.ndarray:
    """Linear RGB of a colour as a colour-blind reader sees it (Machado et al. 2009, full strength)."""
    rgb = np.array(mpl.colors.to_rgb(color))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    return np.clip(np.array(matrix) @ linear, 0, 1)


def lab(linear) -> np.ndarray:
    """CIE L*a*b* of linear RGB."""
    matrix = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    xyz = np.array(matrix) @ linear / [0.9505, 1, 1.089]
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


VISION = {
    "normal": np.eye(3),
    "protanopia": [[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]],
    "deuteranopia": [[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]],
}


@pytest.mark.parametrize("vision", VISION)
@pytest.mark.parametrize("palette", ["EMOTION_COLORS", "MODEL_COLORS"])
def test_colours_stay_apart_for_colour_blind_readers(palette, vision):
    seen = [lab(simulate(color, VISION[vision])) for color in getattr(style, palette).values()]
    gaps = [np.linalg.norm(a - b) for place, a in enumerate(seen) for b in seen[:place]]
    assert min(gaps) > 8  # 2.3 is just noticeable


def test_palettes_cover_all_names():
    assert tuple(style.EMOTION_COLORS) == evaluation.EMOTIONS
    assert list(style.MODEL_COLORS) == list(paper.MODEL_NAMES)
    assert style.model_color("ensemble") == style.OTHER_COLOR


def test_text_color_is_readable():
    assert style.text_color("#332288") == "white" and style.text_color("#DDCC77") == "black"


def test_banner_only_for_the_synthetic_corpus():
    from ser_utils.data.corpus import BANNER

    assert style.finish(plt.figure()).texts == []
    style.set_corpus("synthetic")
    for layout in ("constrained", "none"):
        fig, axis = plt.subplots(figsize=(4, 3), layout=layout)
        fig.suptitle("A title")
        style.finish(style.finish(fig))  # twice makes one banner
        banners = [text for text in fig.texts if text.get_gid() == "banner"]
        assert [" ".join(text.get_text().split()) for text in banners] == [BANNER]
        fig.draw_without_rendering()
        frame = banners[0].get_window_extent()
        assert 0 <= frame.x0 and frame.x1 <= fig.bbox.x1 and frame.y1 <= fig.bbox.y1
        heading = next(text for text in fig.texts if text.get_text() == "A title")
        assert not frame.overlaps(heading.get_window_extent())
        assert not frame.overlaps(axis.get_tightbbox())
    with pytest.raises(ValueError, match="iemocap"):
        style.set_corpus("iemocap")


def test_another_corpus_is_shown_for_a_while():
    style.set_corpus("synthetic")
    with pytest.raises(RuntimeError), style.corpus_shown("ravdess"):
        assert not style.is_synthetic(style.finish(plt.figure()))
        raise RuntimeError
    assert style.is_synthetic(style.finish(plt.figure()))


def test_finished_figures_are_shown_once():
    before = plt.get_fignums()
    style.finish(plt.figure())
    assert plt.get_fignums() == before


def test_save_fig(tmp_path):
    fig, axis = plt.subplots(figsize=(4, 3))
    axis.plot([0, 1])
    path = style.save_fig(fig, "10_some-figure", tmp_path / "new")
    assert path == tmp_path / "new" / "10_some-figure.png"
    assert plt.imread(path).shape[:2] == (450, 600)
    first = path.read_bytes()
    style.save_fig(fig, "10_some-figure", tmp_path / "new")
    assert path.read_bytes() == first and [p.name for p in path.parent.iterdir()] == [path.name]


def test_failed_save_leaves_nothing(tmp_path, monkeypatch):
    fig = plt.figure()

    def broken(path, **options):
        path.write_bytes(b"half")
        raise OSError("the disk is gone")

    monkeypatch.setattr(fig, "savefig", broken)
    with pytest.raises(OSError, match="disk is gone"):
        style.save_fig(fig, "figure", tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("fig_id", ["", "A", "a b", "../a", "a.png"])
def test_bad_figure_names(fig_id, tmp_path):
    with pytest.raises(ValueError, match="Figure id"):
        style.save_fig(plt.figure(), fig_id, tmp_path)


def test_synthetic_figures_stay_out_of_the_published_ones(tmp_path, monkeypatch):
    monkeypatch.setattr(style, "FIGURES", tmp_path / "figures")
    assert paths.FIGURES != style.FIGURES
    style.save_fig(plt.figure(), "real", style.FIGURES)
    style.set_corpus("synthetic")
    fig = style.finish(plt.figure())
    style.set_corpus("ravdess")  # the figure keeps its origin
    for folder in (style.FIGURES, style.FIGURES / "sub", tmp_path / "other" / ".." / "figures"):
        with pytest.raises(ValueError, match="synthetic corpus"):
            style.save_fig(fig, "fake", folder)
    assert [path.name for path in style.FIGURES.iterdir()] == ["real.png"]
    assert style.save_fig(fig, "fake", tmp_path).is_file()


def test_learning_curves_mark_the_best_epoch():
    history = fake_history(20)
    history.loc[12, "val_accuracy"] = 0.99
    fig = results.learning_curves(history, title="ResNet")
    dots = [line for line in fig.axes[1].lines if line.get_marker() == "o"]
    assert [line.get_xdata()[0] for line in dots] == [13] and dots[0].get_ydata()[0] == pytest.approx(99)
    fig = results.learning_curves(history, best_epochs=5)
    assert [line.get_xdata()[0] for line in fig.axes[0].lines if line.get_marker() == "o"] == [5]
    assert fig.axes[0].lines[1].get_ydata() == pytest.approx(history.val_loss)


def test_learning_curves_of_folds_of_different_length():
    histories = {fold: fake_history(10 + 5 * fold, seed=fold) for fold in range(3)}
    fig = results.learning_curves(histories, {0: 4, 1: 6, 2: 20})
    dots = [line.get_xdata()[0] for line in fig.axes[0].lines if line.get_marker() == "o"]
    assert dots == [4, 6, 20]
    thick = fig.axes[0].lines[3]
    assert len(thick.get_xdata()) == 20 and np.isfinite(thick.get_ydata()).all()
    with pytest.raises(ValueError, match="no history"):
        results.learning_curves({})


def test_confusion_matrix_shows_shares_and_counts():
    fig = results.confusion_matrix([0, 0, 0, 1, 1], [0, 0, 1, 1, 1], "Toy")
    shown = texts(fig)
    assert "67\n(2)" in shown and "33\n(1)" in shown and "100\n(2)" in shown
    assert any("accuracy 80.0 %" in text and "Toy" in text for text in shown)
    assert fig.axes[0].images[0].get_array()[0, 0] == pytest.approx(200 / 3)


def test_confusion_grid(predictions):
    fig = results.confusion_grid(predictions, "All")
    images = [axis.images[0] for axis in fig.axes if axis.images]
    assert len(images) == 7
    titles = [axis.get_title(loc="left") for axis in fig.axes]
    part = predictions[predictions.model == "lstm"]
    assert f"LSTM: {100 * (part.label == part.prediction).mean():.1f} %" in titles
    assert np.asarray(images[0].get_array()).sum(axis=1) == pytest.approx(np.full(8, 100))
    assert not any("folds" in title for title in titles)
    uneven = predictions[(predictions.model != "lstm") | (predictions.fold == 0)]
    titles = [axis.get_title(loc="left") for axis in results.confusion_grid(uneven).axes]
    assert any(title.startswith("LSTM, 1/6 folds: ") for title in titles)
    assert any(title.startswith("VGG16, 2/6 folds: ") for title in titles)
    single = results.confusion_grid(predictions[predictions.model == "vgg16"])
    assert sum(bool(axis.images) for axis in single.axes) == 1


def test_table2_bars(root):
    table = tables.table2(root)
    fig = results.table2_bars(table)
    assert len(fig.axes) == 3
    bars = fig.axes[0].patches
    assert len(bars) == 9 and len(fig.axes[1].patches) == 0  # seven networks, two ensembles
    assert sorted(bar.get_width() for bar in bars) == pytest.approx(sorted(table.accuracy.dropna()))
    assert [text.get_text() for text in fig.axes[2].texts] == ["not run"] * 7
    diamonds = [line.get_xdata()[0] for line in fig.axes[0].lines if line.get_marker() == "D"]
    assert diamonds == [row[0] for row in paper.TABLE2.values()]
    assert any("2 of 6 folds" in text for text in texts(fig))
    assert not any("Ensemble of" in text for text in texts(fig))


def test_table2_bars_say_how_many_networks_an_ensemble_joins(tmp_path):
    fake_results(tmp_path, protocols=["random"], models=["alexnet", "lstm"], folds=[0])
    table = tables.table2(tmp_path)
    fig = results.table2_bars(table)
    accuracy = table.query("protocol == 'random'").set_index("model").accuracy
    assert f"{accuracy.ensemble:.1f} (Ensemble of 2, mean)" in texts(fig) and f"{accuracy.lstm:.1f}" in texts(fig)


def test_unseen_speakers_hold_every_system_in_its_group(tmp_path):
    fake_results(tmp_path, protocols=["actors"], models=["alexnet", "lstm"], folds=[0, 1])
    shutil.rmtree(tmp_path / "actors" / "lstm" / "fold1")
    systems = tables.unseen_speakers(tables.table2(tmp_path))
    fig = results.unseen_speakers(systems)
    axis = fig.axes[0]
    points = [line for line in axis.lines if line.get_marker() == "o"]
    assert sorted(line.get_xdata()[0] for line in points) == pytest.approx(sorted(systems.uar))
    filled = [line for line in points if line.get_markerfacecolor() != "white"]
    assert len(filled) == systems.same_folds.sum() < len(points)
    heads = [text.get_text() for text in axis.texts if text.get_fontweight() == "bold"]
    assert [head for head in heads if head[0].isalpha()] == list(results.SYSTEM_GROUPS.values())
    assert "1 of 6 folds" in texts(fig) and "2 of 6 folds" not in texts(fig)
    rows = dict(zip([label.get_text() for label in axis.get_yticklabels()], axis.get_yticks(), strict=True))
    assert rows["AlexNet"] > rows["Residual LSTM with attention"] > rows["WavLM large"]
    fig.draw_without_rendering()
    low, high = axis.get_xlim()
    assert low <= systems.low.min() and systems.high.max() <= high
    assert fig.bbox.containsx(max(text.get_window_extent().x1 for text in axis.texts))
    with pytest.raises(ValueError, match="under the protocol actors"):
        results.unseen_speakers(systems.head(0))


def test_accuracy_curves_hold_every_fold_their_mean_and_the_papers_figure(root):
    runs = runs.table(root)
    fig = results.accuracy_curves(runs, "Random")
    titles = [axis.get_title(loc="left") for axis in fig.axes[:7]]
    assert titles == [f"{name}, 2 folds" for name in paper.MODEL_NAMES.values()]
    axis, part = fig.axes[5], runs[runs.model == "lstm"]
    folds = [runs.read_history(folder) for folder in part.dir]
    drawn = [line.get_ydata() for line in axis.lines]
    assert len(drawn) == 2 * (2 + 1) + 1
    for start, column in ((0, "accuracy"), (3, "val_accuracy")):
        wanted = [100 * history[column].to_numpy() for history in folds]
        np.testing.assert_allclose(drawn[start:start + 3], [*wanted, np.mean(wanted, axis=0)])
    assert drawn[6] == [79.8]
    with pytest.raises(ValueError, match="no run is finished"):
        results.accuracy_curves(runs.head(0))


@pytest.mark.parametrize("models", [1, 2])
def test_accuracy_curves_of_few_networks_leave_room_for_the_legend(root, models):
    runs = runs.table(root)
    fig = results.accuracy_curves(runs[runs.model.isin(runs.model.unique()[:models])], "Twins")
    fig.canvas.draw()
    legend = fig.legends[0].get_window_extent()
    assert 0 <= legend.x0 and legend.x1 <= fig.bbox.x1


def test_gaps_show_every_mark_of_every_network(root):
    table = tables.gaps(root)
    table = pd.concat([table, table.head(2).assign(protocol="actors")])
    fig = results.gaps(table)
    titles = [axis.get_title(loc="left") for axis in fig.axes]
    assert titles == [results.PROTOCOL_TITLES[protocol] for protocol in ("random", "actors")]
    for axis, part in zip(fig.axes, (table[:7], table[7:]), strict=True):
        drawn = {round(float(line.get_xdata()[0]), 6) for line in axis.lines}
        wanted = part[["train", "val_end", "val", "test", "paper_accuracy"]].to_numpy().ravel()
        assert drawn == {round(value, 6) for value in wanted}


@pytest.mark.parametrize("panels", [1, 2])
def test_table2_bars_keep_their_numbers_clear_of_the_intervals(root, panels):
    """Whatever the accuracy, and where folds differ from model to model."""
    table = tables.table2(root).query("protocol == 'random' and group == 'network'").copy()
    table[["accuracy", "accuracy_low", "accuracy_high"]] = [
        [0.0, 0.0, 2.0], [7.9, 4.0, 11.5], [12.5, 9.0, 17.0], [22.1, 17.0, 28.0], [25.0, 14.0, 33.0],
        [60.0, 48.0, 71.0], [99.0, 97.0, 100.0]]
    table["folds"] = [1, 2, 1, 3, 4, 5, 6]
    table = pd.concat([table, table.assign(protocol="actors")]).query("protocol == 'random' or @panels == 2")
    fig = results.table2_bars(table)
    fig.draw_without_rendering()
    assert len(fig.axes) == panels and fig.axes[0].get_title(loc="left") == results.PROTOCOL_TITLES["random"]
    assert fig.bbox.containsx(fig.legends[0].get_window_extent().x1)
    for axis in fig.axes:
        numbers = [text for text in axis.texts if "." in text.get_text()]
        notes = [text for text in axis.texts if "/6 folds" in text.get_text()]
        assert len(numbers) == len(notes) == 7
        for number, row in zip(numbers, table.itertuples(), strict=False):
            frame = axis.transData.inverted().transform_bbox(number.get_window_extent())
            assert number.get_text() == f"{row.accuracy:.1f}"
            assert frame.x1 < row.accuracy_low or frame.x0 > max(row.accuracy_high, row.accuracy)
            assert 0 < frame.x0 and frame.x1 < 100
        assert all(axis.bbox.x1 < note.get_window_extent().x0 for note in notes)


def test_class_recall_vs_people(predictions):
    fig = results.class_recall_vs_people(predictions)
    heights = [bar.get_height() for bar in fig.axes[0].patches]
    assert heights == list(paper.HUMAN["emotion"].values())
    part = predictions[predictions.model == "alexnet"]
    recall = 100 * evaluation.per_class_recall(part.label, part.prediction)
    assert fig.axes[0].lines[0].get_ydata() == pytest.approx(recall)
    uneven = predictions[(predictions.model != "lstm") | (predictions.fold == 0)]
    names = [text.get_text() for text in results.class_recall_vs_people(uneven).legends[0].get_texts()]
    assert "LSTM, 1/6 folds" in names and "VGG16, 2/6 folds" in names


def test_cost_accuracy(root):
    runs = runs.table(root)
    fig = results.cost_accuracy(runs)
    assert "not measured" in [text.get_text() for text in fig.axes[2].texts]
    fig = results.cost_accuracy(runs, {"lstm": 3.0, "resnet": 4.0})
    times = {line.get_xdata()[0] for line in fig.axes[2].lines}
    assert {3.0, 4.0} <= times and "not measured" not in texts(fig)
    assert fig.axes[0].lines[0].get_xdata()[0] == pytest.approx(3.7)
    assert len(fig.axes) == 3
    fig = results.cost_accuracy(runs, macs={"alexnet": 2e6})
    assert len(fig.axes) == 4 and fig.axes[1].lines[0].get_xdata()[0] == pytest.approx(2)
    with pytest.raises(ValueError, match="one protocol"):
        results.cost_accuracy(runs.iloc[:0])


def test_critical_difference_joins_what_cannot_be_told_apart(predictions):
    comparison = statistics.critical_difference(statistics.actor_scores(predictions))
    shown = texts(results.critical_difference(comparison))
    for model, rank in comparison["ranks"].items():
        assert any(paper.MODEL_NAMES[model] in text and f"{rank:.2f}" in text for text in shown)
    joined = results._indistinguishable(np.array([1.0, 2.0, 2.5, 5.0, 5.5]), 1.6)
    assert joined == [(0, 2), (3, 4)]
    assert results._indistinguishable(np.array([1.0, 2.0, 3.0]), 1.5) == [(0, 1), (1, 2)]
    assert results._indistinguishable(np.array([1.0, 3.0]), 1.0) == []


def test_reliability_diagram(predictions):
    fig = results.reliability_diagram(predictions, bins=5)
    part = predictions[predictions.model == "transformer"]
    error = evaluation.calibration_error(part.label, part[evaluation.PROBABILITIES].to_numpy(), 5)
    assert f"Transformer: ECE {100 * error:.1f} %" in [axis.get_title(loc="left") for axis in fig.axes]


def test_intensity_gender_bars(predictions):
    fig = results.intensity_gender_bars(predictions)
    heights = [bar.get_height() for bar in fig.axes[1].patches]
    women = predictions["clip"].str[-2:].astype(int) % 2 == 0
    part = predictions[women & (predictions.model == "alexnet")]
    assert heights[0] == pytest.approx(100 * (part.label == part.prediction).mean())
    assert len(heights) == 2 * (len(MODELS) + 1)
    assert {paper.HUMAN["gender"]["female"], paper.HUMAN["gender"]["male"]} <= set(heights)


def test_figures_of_nothing_say_so(predictions):
    for draw in (
        results.confusion_grid,
        results.class_recall_vs_people,
        results.reliability_diagram,
        results.intensity_gender_bars,
    ):
        with pytest.raises(ValueError, match="no run is finished"):
            draw(predictions.iloc[:0])


def test_every_figure_can_be_drawn_and_carries_the_banner(root, predictions, tmp_path):
    style.set_corpus("synthetic")
    runs = runs.table(root)
    figures = [
        results.learning_curves(fake_history()),
        results.confusion_matrix(predictions.label, predictions.prediction),
        results.confusion_grid(predictions),
        results.table2_bars(tables.table2(root)),
        results.class_recall_vs_people(predictions),
        results.cost_accuracy(runs),
        results.critical_difference(statistics.critical_difference(statistics.actor_scores(predictions))),
        results.reliability_diagram(predictions),
        results.intensity_gender_bars(predictions),
    ]
    for number, fig in enumerate(figures):
        assert isinstance(fig, Figure) and style.is_synthetic(fig)
        assert style.save_fig(fig, f"figure{number}", tmp_path).stat().st_size > 5000
