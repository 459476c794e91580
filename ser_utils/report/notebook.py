"""What every notebook of the report shares: the setup, audio players, a run's training, tables and curves."""

import dataclasses
import functools
import inspect
import os
import re
import warnings
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # before Keras loads TensorFlow, which is talkative
warnings.filterwarnings("ignore", message="IProgress not found")  # tqdm's plain bar will do

import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402
from IPython.display import HTML, Audio, Image, Markdown, display  # noqa: E402

from ser_utils import config as configuration  # noqa: E402
from ser_utils import paper  # noqa: E402
from ser_utils.data import corpus as corpora  # noqa: E402
from ser_utils.evaluation import metrics as evaluation  # noqa: E402
from ser_utils.evaluation import statistics
from ser_utils.features import spectral as features  # noqa: E402
from ser_utils.paths import REPORT, RUNS  # noqa: E402
from ser_utils.plots import results as figures  # noqa: E402
from ser_utils.plots import style  # noqa: E402
from ser_utils.training import runs

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

    @functools.cached_property
    def store(self) -> features.FeatureStore:
        """Log-mel spectrograms and MFCCs of all clips, computed on first use."""
        return features.extract(self.corpus, configuration.PROFILES[self.profile].features)

    @property
    def runs(self) -> Path:
        """The folder of this profile's runs on this corpus."""
        return RUNS / f"{self.corpus.kind}-{self.profile}"

    def train(self, model: str) -> dict:
        """The profile's runs of a network on its first fold, protocol -> run; trained where not yet finished."""
        from ser_utils.training import fit as training

        configs = configuration.run_configs(self.profile, self.corpus.kind, [model])
        first = [c for c in configs if c.fold == configs[0].fold]
        return {c.protocol: training.run(c, self.corpus, self.store) for c in first}

    def show(self, figure, figure_id: str) -> None:
        """Show a figure and keep it as ``report/figures/<corpus>-<profile>/<figure_id>.png``.

        What is shown is that very file: Jupyter's own drawing would crop the banner of a synthetic corpus.
        """
        path = style.save_fig(figure, figure_id, REPORT / "figures" / f"{self.corpus.kind}-{self.profile}")
        display(Image(path, width=round(100 * figure.get_figwidth()), alt=figure_id.replace("_", " ")))

    def table(self, table: pd.DataFrame, caption: str, **formats: str) -> None:
        """Show a table with its caption; ``formats`` maps columns to format strings such as ``"{:.1f}"``.

        Columns of words are aligned to the left, figures (and texts made of them) to the right.
        """
        if self.corpus.banner:
            caption = f"{caption} — {self.corpus.banner}"
        words = [name for name, column in table.items() if not column.astype(str).str.match(FIGURE).any()]
        styled = table.style.format(formats, na_rep="–").set_caption(caption).set_table_styles(
            {name: [{"selector": "", "props": "text-align: left"}] for name in words})
        if isinstance(table.index, pd.RangeIndex):
            styled = styled.hide(axis="index")
        display(styled)

    def play(self, clip: str, title: str = "") -> None:
        """An audio player for a clip, by its name."""
        from ser_utils.features import audio

        row = self.index[self.index["clip"] == clip]
        if row.empty:
            raise ValueError(f"No clip {clip!r} in this corpus; names look like {self.index['clip'].iloc[0]}.")
        row = row.iloc[0]
        wave, rate = audio.load(row.path)
        wave = audio.resample(wave, rate, PLAYER_RATE)
        label = title or f"{row.emotion}, {row.intensity}, actor {row.actor} ({row.gender})"
        display(HTML(f"<b>{label}</b>"), Audio(wave, rate=PLAYER_RATE, normalize=True))

    def clip_where(self, **wanted) -> str:
        """The first clip with the given values, such as ``emotion="angry", intensity="strong", actor=2``."""
        chosen = self.index
        for column, value in wanted.items():
            chosen = chosen[chosen[column] == value]
        if chosen.empty:
            raise ValueError(f"No clip with {wanted} in this corpus.")
        return chosen["clip"].iloc[0]

    # --- The spine of the architectures' notebooks ---------------------------------------------------------

    def input_shape(self, model: str) -> tuple[int, int, int]:
        """Frames, bands and channels that the network sees in this profile."""
        c = configuration.run_configs(self.profile, self.corpus.kind, [model])[0]
        return c.frames // c.pool, c.features.n_mels // c.pool, 1

    def network(self, model: str):
        """An untrained network as this profile trains it."""
        from ser_utils import models

        c = configuration.run_configs(self.profile, self.corpus.kind, [model])[0]
        return models.build(model, self.input_shape(model), **c.options)

    def recipe(self, model: str) -> None:
        """Show the settings the network is trained with in this profile."""
        c = configuration.run_configs(self.profile, self.corpus.kind, [model])[0]
        shown = {k: v for k, v in dataclasses.asdict(c).items() if k not in ("features", "augment", "options")}
        shown |= {f"options: {k}": v for k, v in c.options.items()}
        shown |= {f"augment: {k}": v for k, v in (dataclasses.asdict(c.augment) if c.augment else {}).items()}
        rows = pd.DataFrame([(k, str(v)) for k, v in shown.items()
                             if k not in ("protocol", "fold", "model", "variant")], columns=["setting", "value"])
        half = -(-len(rows) // 2)
        wide = pd.concat([rows[:half].reset_index(drop=True), rows[half:].reset_index(drop=True)], axis=1)
        wide.columns = ["setting", "value", "setting ", "value "]
        self.table(wide.fillna(""), f"The recipe of {paper.MODEL_NAMES[model]} in the profile {self.profile}")

    def show_scores(self, model: str, runs: dict) -> None:
        """The paper's row of Table 2 beside the scores of these runs, with the interval of the accuracy.

        As in Table 2 the interval is a bootstrap over clips, under ``actors`` over voices.
        """
        names = ("accuracy", "precision", "recall", "f1")
        rows = [{"": "paper", **dict(zip(names, paper.TABLE2[model], strict=True)), "95 % interval": "", "clips": 240}]
        for protocol, run in runs.items():
            test = run.predictions.query("subset == 'test'")
            voices = evaluation.clip_facts(test["clip"]).actor.to_numpy() if protocol == "actors" else None
            low, high = statistics.bootstrap_interval(test.label, test.prediction, groups=voices)
            scores = {name: 100 * value for name, value in run.info["metrics"]["test"].items()}
            rows.append({"": f"ours, {protocol}, fold {run.info['fold']}", **scores,
                         "95 % interval": f"{100 * low:.1f} to {100 * high:.1f}", "clips": len(test)})
        self.table(pd.DataFrame(rows), "Test scores in per cent (macro averages; recall is the UAR)",
                   **dict.fromkeys(names, "{:.1f}"))

    def show_learning(self, model: str, runs: dict) -> None:
        """Learning curves of each protocol's run, the kept epoch marked."""
        for protocol, run in runs.items():
            title = f"{paper.MODEL_NAMES[model]}, protocol {protocol}"
            figure = figures.learning_curves(run.history, run.info["best_epoch"], title)
            self.show(figure, f"{model}_learning_{protocol}")

    def show_confusion(self, model: str, runs: dict) -> None:
        """Confusion matrix of each protocol's run on its test clips."""
        for protocol, run in runs.items():
            test = run.predictions.query("subset == 'test'")
            title = f"{paper.MODEL_NAMES[model]}, protocol {protocol}"
            figure = figures.confusion_matrix(test.label.to_numpy(), test.prediction.to_numpy(), title)
            self.show(figure, f"{model}_confusion_{protocol}")

    def show_network(self, model: str) -> None:
        """The network of this profile in numbers and as a diagram."""
        from ser_utils.plots import models as diagrams

        network = self.network(model)
        kinds = [type(layer).__name__ for layer in network.layers]
        shape = self.input_shape(model)
        c = configuration.run_configs(self.profile, self.corpus.kind, [model])[0]
        steps = network.get_layer("attention").output.shape[1]
        millis = 1000 * c.frames * c.features.hop_length / c.features.sample_rate / steps
        numbers = {"input (frames × bins × channels)": " × ".join(map(str, shape)),
                   "parameters": f"{network.count_params():,}",
                   "convolutions": sum("Conv" in kind for kind in kinds),
                   "recurrent layers": kinds.count("Bidirectional"),
                   "attention layers": kinds.count("MultiHeadAttention"),
                   "dense layers": kinds.count("Dense"),
                   "steps that the pooling weighs": f"{steps} of {millis:.0f} ms"}
        shown = {name: number for name, number in numbers.items() if number}
        self.table(pd.DataFrame([shown]), f"{paper.MODEL_NAMES[model]} in the profile {self.profile}")
        self.show(diagrams.block_diagram(network), f"{model}_network")

    def show_differences(self, model: str) -> None:
        """What differs from the canonical network, why, and what it is worth by the published study."""
        from ser_utils.studies import ablation as studies

        table, source = studies.differences(model)
        caption = (f"What differs from the canonical {paper.MODEL_NAMES[model]}, and what each difference is worth: "
                   f"validation accuracy with it less that without ({source})")
        styled = table.style.set_caption(caption).hide(axis="index")
        display(styled.set_table_styles({"why": [{"selector": "", "props": "text-align: left"}]}))

    # --- The architectures' own sections -------------------------------------------------------------------

    def finished(self, model: str) -> dict:
        """Those runs of :meth:`train` that are finished already, protocol -> run; nothing is trained."""

        configs = configuration.run_configs(self.profile, self.corpus.kind, [model])
        return {c.protocol: runs.Run(c.run_directory(RUNS)) for c in configs
                if c.fold == configs[0].fold and runs.is_finished(c, RUNS)}

    def inside(self, run):
        """A run's trained network with its test clips, in the order of the index: an ``explain.Inside``."""
        from ser_utils import explain

        settings = configuration.from_dict(run.info["config"])
        clips = self.test_clips(run, right=None).sort_values("clip", ignore_index=True)
        logmel = self.logmel(list(clips["clip"]), settings.frames)
        front, network = explain.parts(run.model())
        return explain.Inside(network, settings, clips, logmel, explain.outputs(front, logmel))

    def training_images(self, run) -> tuple[np.ndarray, np.ndarray]:
        """What a run's network trains on, unaugmented: images (N, frames, bins, 1) and labels (N,)."""
        from ser_utils import explain
        from ser_utils.training import fit as training

        data = training.prepare(configuration.from_dict(run.info["config"]), self.corpus, self.store)
        front, _ = explain.parts(run.model())
        rows = data.rows["train"]
        return explain.outputs(front, data.logmel[rows]), data.labels[rows]

    def waveform(self, clip: str, frames: int) -> np.ndarray:
        """The samples behind a clip's log-mel of ``frames`` frames, at the features' sample rate."""
        from ser_utils.features import audio

        c = self.store.config
        wave = audio.load_speech(self.index.set_index("clip").path[clip], c.sample_rate, c.top_db)
        length = self.store.lengths[list(self.store.clips).index(clip)]
        start = (length - min(length, frames)) // 2 * c.hop_length
        return wave[start : start + frames * c.hop_length]

    def test_clips(self, run, right: bool | None = True) -> pd.DataFrame:
        """Test clips of a run, the surest first: those recognised (``right``), those not, or all (None)."""
        test = run.predictions.query("subset == 'test'").copy()
        test["confidence"] = test[[f"p_{e}" for e in evaluation.EMOTIONS]].max(axis=1)
        if right is not None:
            test = test[(test.prediction == test.label) == right]
        return test.merge(self.index.drop(columns="label"), on="clip").sort_values("confidence", ascending=False)

    def logmel(self, clips: list[str], frames: int) -> np.ndarray:
        """Log-mel spectrograms (clips, frames, bands) in dB of clips by name, as the networks get them."""
        position = {name: row for row, name in enumerate(self.store.clips)}
        rows = [position[name] for name in clips]
        return features.fit_length(self.store.logmel[rows], self.store.lengths[rows], frames)


def say(text: str) -> None:
    """A computed sentence in Markdown; negative numbers get a proper minus sign."""
    display(Markdown(re.sub(r"(?<![\w-])-(?=\d)", "−", text)))


def start(profile: str = "quick", networks: bool = False) -> Session:
    """Begin a notebook: find the corpus, set the figures' style, show the banner of a synthetic corpus.

    With ``networks`` Keras is loaded, too, without the chatter of its libraries; import what needs it after this.

    Raises
    ------
    ValueError
        Unknown profile.
    FileNotFoundError
        The profile needs RAVDESS and there is none, or the copy that was found lacks clips.
    """
    if profile not in configuration.PROFILES:
        raise ValueError(f"Unknown profile {profile!r}; choose from {', '.join(configuration.PROFILES)}.")
    warnings.filterwarnings("ignore", category=FutureWarning)
    if networks:
        _load_keras()
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


def _load_keras() -> None:
    """Import Keras and wake its backend; what the backend's libraries write to the error stream is dropped."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        import keras

        keras.ops.zeros(1)
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def source(function: Callable) -> None:
    """Show the source of a function, with its colours."""
    display(Markdown(f"```python\n{inspect.getsource(function)}```"))
