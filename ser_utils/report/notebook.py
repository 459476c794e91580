"""What every notebook of the report shares: the setup, tables, figures, players, a run of one's own, published runs."""

import dataclasses
import functools
import hashlib
import os
import warnings
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # before Keras loads TensorFlow, which is talkative
warnings.filterwarnings("ignore", message="IProgress not found")  # tqdm's plain bar will do

import matplotlib.pyplot as plt  # noqa: E402
import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402
from IPython.display import HTML, Audio, Image, Markdown, display  # noqa: E402
from pandas.io.formats.style import Styler  # noqa: E402
from sklearn.metrics import ConfusionMatrixDisplay  # noqa: E402
from statsmodels.tools.sm_exceptions import ConvergenceWarning  # noqa: E402

from ser_utils import EMOTIONS, PROTOCOLS, config, explain, machine, paper  # noqa: E402
from ser_utils.data import corpus as corpora  # noqa: E402
from ser_utils.evaluation import metrics, tables  # noqa: E402
from ser_utils.evaluation.metrics import METRICS, PROBABILITIES, PROTOCOL_TITLES  # noqa: E402
from ser_utils.features import audio, spectral  # noqa: E402
from ser_utils.paths import REPORT, RESULTS, RUNS  # noqa: E402
from ser_utils.plots import style  # noqa: E402
from ser_utils.training import fit, frontend, runs  # noqa: E402
from ser_utils.training.runs import Run  # noqa: E402

PLAYER_RATE = 16_000  # Hz: keeps the embedded clips small
FIGURE = r"[-+−±≤<]?\d|–|nan|not run"  # how a cell of a column of figures begins


@dataclasses.dataclass(frozen=True)
class Session:
    """A notebook's profile and corpus; made by :func:`start`."""

    profile: str
    corpus: corpora.Corpus

    @property
    def index(self) -> pd.DataFrame:
        """One row a clip: name, path, emotion, intensity, statement, repetition, actor, gender."""
        return self.corpus.index

    @property
    def published(self) -> "Session":
        """The session of what was made from RAVDESS, whose tables carry no banner."""
        return Session("full", dataclasses.replace(self.corpus, kind="ravdess"))

    @functools.cached_property
    def store(self) -> spectral.FeatureStore:
        """Log-mel spectrograms of all clips, made on first use."""
        return spectral.extract(self.corpus, config.PROFILES[self.profile].features)

    def train(self, model: str) -> dict[str, Run]:
        """The profile's runs of a network on its first fold, protocol -> run; trained where not yet finished."""
        configs = config.run_configs(self.profile, self.corpus.kind, [model])
        return {c.protocol: fit.run(c, self.store, RUNS) for c in configs if c.fold == configs[0].fold}

    def show(self, figure, figure_id: str) -> None:
        """Show a figure and keep it as ``report/figures/<corpus>-<profile>/<figure_id>.png``."""
        path = style.save_fig(figure, figure_id, REPORT / "figures" / f"{self.corpus.kind}-{self.profile}")
        display(Image(path, width=round(100 * figure.get_figwidth()), alt=style.described(figure)))

    def table(self, table: pd.DataFrame, caption: str, **formats: str) -> None:
        """Show a table with its caption; ``formats`` maps columns to format strings such as ``"{:.1f}"``."""
        show_table(table, f"{caption} — {self.corpus.banner}" if self.corpus.banner else caption, formats)

    def play(self, clip: str, title: str = "") -> None:
        """An audio player for a clip, by its name; raises ValueError if the corpus has none of that name."""
        row = self.index.set_index("clip").loc[self.clip_where(clip=clip)]
        wave, rate = audio.load(row.path)
        label = title or f"{row.emotion}, {row.intensity}, actor {row.actor} ({row.gender})"
        display(HTML(f"<b>{label}</b>"),
                Audio(audio.resample(wave, rate, PLAYER_RATE), rate=PLAYER_RATE, normalize=True))

    def clip_where(self, **wanted) -> str:
        """The first clip with the given values, such as ``emotion="angry", intensity="strong", actor=2``."""
        chosen = self.index[(self.index[list(wanted)] == list(wanted.values())).all(axis=1)]
        if chosen.empty:
            raise ValueError(f"No clip with {wanted} in this corpus; names look like {self.index['clip'].iloc[0]}.")
        return chosen["clip"].iloc[0]

    def test_clips(self, run: Run, right: bool | None = True) -> pd.DataFrame:
        """Test clips of a run, the surest first: those recognised (``right``), those not, or all (None)."""
        test = run.predictions.query("subset == 'test'").copy()
        test["confidence"] = test[PROBABILITIES].max(axis=1)
        if right is not None:
            test = test[(test.prediction == test.label) == right]
        return test.merge(self.index.drop(columns="label"), on="clip").sort_values("confidence", ascending=False)

    def logmel(self, clips: list[str], frames: int) -> np.ndarray:
        """Log-mel spectrograms (clips, frames, bands) in dB of clips by name, as the networks get them."""
        rows = pd.Index(self.store.clips).get_indexer(clips)
        return spectral.fit_length(self.store.logmel[rows], self.store.lengths[rows], frames)

    def inside(self, run: Run) -> explain.Inside:
        """A run's trained network with its test clips, in the order of the index."""
        settings = config.from_dict(run.info["config"])
        clips = self.test_clips(run, right=None).sort_values("clip", ignore_index=True)
        logmel = self.logmel(list(clips["clip"]), settings.frames)
        front, network = frontend.parts(frontend.load(run.dir))
        return explain.Inside(network, settings, clips, logmel, frontend.outputs(front, logmel))

    def show_published(self, model: str, own: dict[str, Run] | None = None) -> None:
        """The paper's scores in per cent, those of the published folds by protocol, and below them ``own`` runs'."""
        columns = ("accuracy", "95 % interval", "precision", "recall (UAR)", "F1")
        rows = {"paper, a random split": (said[0], "", *said[1:])} if (said := paper.TABLE2.get(model)) else {}
        published = runs.predictions(RESULTS, model=model, seeds=True)
        parts = [(protocol, f", {part.fold.nunique()} folds", part) for protocol, part in
                 published[published.protocol.isin(PROTOCOLS)].groupby("protocol", sort=False)]
        parts += [(protocol, f": the small network of this page, {self.profile}, fold {run.info['fold']}",
                   run.predictions.query("subset == 'test'").assign(fold=0, seed=0))
                  for protocol, run in (own or {}).items()]
        for protocol, made, part in parts:
            row = tables.figures(part, protocol)
            rows[PROTOCOL_TITLES[protocol] + made] = (
                row["accuracy"], f"{row['accuracy_low']:.1f} to {row['accuracy_high']:.1f}",
                *(row[name] for name in METRICS[1:]))
        table = pd.DataFrame.from_dict(rows, orient="index", columns=columns).rename_axis("").reset_index()
        caption = f"{paper.MODEL_NAMES[model]}: test scores in per cent; precision, recall, F1: means over emotions"
        if own and self.corpus.banner:
            caption += f" — the page's own network: {self.corpus.banner}"
        show_table(table, caption, dict.fromkeys((columns[0], *columns[2:]), "{:.1f}"))

    def show_learning(self, model: str) -> None:
        """Accuracy by epoch of the published trainings (thin) and their mean (thick), a panel a protocol."""
        with style.corpus_shown("ravdess"):
            found = _published(model)
            figure, axes = plt.subplots(1, len(found), figsize=(3.3 * len(found), 3.4), sharey=True, squeeze=False)
            for axis, (protocol, directories) in zip(axes[0], found.items(), strict=True):
                histories = pd.concat({d.name: runs.read_history(d).set_index("epoch") for d in directories}, axis=1)
                for name, label, part in (("accuracy", "training (augmented clips)", "train"),
                                          ("val_accuracy", "validation", "val")):
                    lines = 100 * histories.xs(name, axis=1, level=1)
                    axis.plot(lines, color=style.PART_COLORS[part], linewidth=0.6, alpha=0.3)
                    axis.plot(lines.mean(axis=1), color=style.PART_COLORS[part], label=label)
                axis.axhline(100 / len(EMOTIONS), color=style.GREY, linewidth=1, linestyle=":", label="chance")
                axis.set(title=PROTOCOL_TITLES[protocol], xlabel="Epoch", ylim=(0, 102))
            axes[0, 0].set_ylabel("Accuracy (%), thin: a training")
            figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
            self.show(style.finish(figure), f"{model}_learning")

    def show_confusion(self, model: str) -> None:
        """Per cent of each true emotion's test clips in the published folds, a confusion matrix a protocol."""
        with style.corpus_shown("ravdess"):
            found = _published(model)
            figure, axes = plt.subplots(1, len(found), figsize=(3.3 * len(found), 4.2), sharey=True, squeeze=False)
            for axis, (protocol, directories) in zip(axes[0], found.items(), strict=True):
                test = pd.concat(runs.read_predictions(d).query("subset == 'test'") for d in directories)
                counts = metrics.confusion(test.label, test.prediction)
                shares = 100 * counts / counts.sum(axis=1, keepdims=True)
                ConfusionMatrixDisplay(shares, display_labels=EMOTIONS).plot(
                    ax=axis, cmap="Blues", im_kw={"vmin": 0, "vmax": 100}, colorbar=False, values_format=".0f",
                    xticks_rotation="vertical", text_kw={"fontsize": 7.5})
                axis.set(xlabel="Recognised as", ylabel="True emotion (row: 100 %)" if axis is axes[0, 0] else "")
                axis.set_title(f"{PROTOCOL_TITLES[protocol]}\n{100 * counts.trace() / counts.sum():.1f} %", fontsize=10)
                axis.grid(False)
            self.show(style.finish(figure), f"{model}_confusion")


def _published(model: str) -> dict[str, list[Path]]:
    """The folders of a network's published runs by protocol, further seeds among them."""
    found = {p: [d for d in runs.find(RESULTS, seeds=True) if d.parts[-3:-1] == (p, model)] for p in PROTOCOLS}
    return {protocol: directories for protocol, directories in found.items() if directories}


def show_table(table: pd.DataFrame, caption: str, formats: dict[str, str]) -> None:
    """Show a table, words on the left, figures on the right; the same table always gives the same HTML."""
    words = [name for name, column in table.items() if not column.astype(str).str.match(FIGURE).any()]
    styled = Styler(table, uuid=hashlib.sha256(caption.encode()).hexdigest()[:8], cell_ids=False)
    styled = styled.format(formats, na_rep="–").set_caption(caption).set_table_styles(
        {name: [{"selector": "", "props": "text-align: left"}] for name in words})
    display(styled.hide(axis="index") if isinstance(table.index, pd.RangeIndex) else styled)


def start(profile: str = "quick", networks: bool = False) -> Session:
    """Begin a notebook: find the corpus, set the figures' style, show the banner of a synthetic corpus.

    With ``networks`` TensorFlow is woken, too, without the chatter of its libraries. Raises ValueError for an
    unknown profile; else as ``corpus.for_profile``.
    """
    if profile not in config.PROFILES:
        raise ValueError(f"Unknown profile {profile!r}; choose from {', '.join(config.PROFILES)}.")
    warnings.filterwarnings("ignore", category=FutureWarning)
    warnings.filterwarnings("ignore", category=ConvergenceWarning)  # page 12: a variance of 0, the least it can be
    if networks:
        with machine.quiet():
            import tensorflow as tf
            tf.zeros(1)
            tf.config.run_functions_eagerly(profile == "smoke")  # a few batches are over before a graph is made
    found = corpora.for_profile(profile)
    style.use_style()
    style.set_corpus(found.kind)
    if found.banner:
        display(HTML(f'<div class="banner" style="background:#B00020;color:white;padding:.6em 1em;'
                     f'font-weight:bold">{found.banner}</div>'))
    name = "RAVDESS speech" if found.kind == "ravdess" else "synthetic speech"
    display(Markdown(f"Corpus: **{name}**, {len(found.index):,} clips of {found.index.actor.nunique()} actors. "
                     f"Profile: **{profile}**."))
    return Session(profile, found)
