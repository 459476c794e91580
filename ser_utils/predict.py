"""A trained network on any recording: one answer a clip, a table of many, a timeline of a long one.

The front end is that of training: speech within 30 dB of the loudest moment, 16 kHz, log-mel. The network hears
windows of one length (2.56 s); shorter speech is padded, of longer speech windows are spread evenly and averaged.
"""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import keras
import numpy as np
import pandas as pd
from scipy.special import softmax
from threadpoolctl import ThreadpoolController
from tqdm import tqdm

from ser_utils import EMOTIONS, shipped
from ser_utils.config import PAD_DB, WEIGHTS, RunConfig, from_dict
from ser_utils.evaluation.metrics import PROBABILITIES
from ser_utils.features import audio, spectral
from ser_utils.features.audio import AudioError, Source
from ser_utils.training import fit, frontend

LONG = 10.0     # seconds; a recording up to here is one utterance, a longer one is a timeline
HOP = 0.25      # of a window: from one to the next
BATCH = 32      # recordings judged together: more takes memory and no less time
STRETCHES = 8   # of a timeline, up to 30 s each, that are judged together
CLIPPED = 0.01  # a share of samples at the limit that is worth a note; 30 times as many make a recording useless
LEFT = "{} holds nothing that is left at {:,} Hz. Record it again."


@dataclasses.dataclass(frozen=True)
class Prediction:
    """What a network hears: ``wave`` (at its rate) and ``windows`` are of up to 10 s, ``timeline`` of longer sound."""

    label: str                       # the most probable emotion
    confidence: float                # its probability, 0-1
    probabilities: dict[str, float]  # of each emotion, 0-1, with the temperature that made them honest
    seconds: float                   # that the recording lasts
    speech: float                    # seconds of speech in it
    notes: tuple[str, ...] = ()      # sentences on what makes the answer doubtful
    wave: np.ndarray | None = dataclasses.field(default=None, repr=False, compare=False)  # (samples,), the speech
    windows: np.ndarray | None = dataclasses.field(default=None, repr=False, compare=False)  # judged, as `judge` has it
    timeline: pd.DataFrame | None = dataclasses.field(default=None, repr=False, compare=False)


class EmotionRecognizer:
    """A trained network with its front end: ``EmotionRecognizer.load().predict("me.wav")``.

    ``model`` is the Keras model, log-mel in dB (batch, frames, bands) in, eight probabilities out; ``config`` its
    settings; ``about`` what its file says of it.
    """

    def __init__(self, model: keras.Model, config: RunConfig, temperature: float = 1.0, about: dict | None = None):
        self.model, self.config, self.temperature, self.about = model, config, temperature, about or {}
        self.hop_seconds = config.features.hop_length / config.features.sample_rate  # from frame to frame
        self.threads, self.trained = ThreadpoolController(), model.get_weights()

    @classmethod
    def load(cls, name_or_path: str | Path = WEIGHTS) -> "EmotionRecognizer":
        """Weights made here, by name (``shipped.names()`` lists them), a file of such weights, or a run's folder.

        Raises WeightsError, whose sentence says what is wrong with them.
        """
        path = Path(name_or_path)
        if not path.exists() and path.suffix != ".npz" and len(path.parts) == 1:
            path = shipped.FOLDER / f"{name_or_path}.npz"
        model, about = (shipped.from_run if path.is_dir() else shipped.read)(path)
        return cls(model, from_dict(about["config"]), about["temperature"], about)

    def predict(self, recording: Source, versions: int | None = None) -> Prediction:
        """The emotion of a recording: a path, the bytes of a file, a file object, or ``(samples, rate)``.

        Up to 10 s it is one utterance, as the clips of RAVDESS are; a longer one is answered by the mean of its
        :meth:`timeline`. ``versions``: of test-time augmentation, left out as in the network's published predictions;
        3 averages 27 variants of each window, 1 takes it as it is. Raises AudioError or FileNotFoundError.
        """
        heard = self._hear(recording)
        if heard is None:
            return self._predict_long(recording)
        return _answer(self.calibrated(self.judge(heard["windows"], versions).mean(axis=0)), **heard)

    def enrol(self, recordings: Iterable[Source]) -> None:
        """Fit the network to this voice and no other by 5, better 20, unlabelled recordings in several moods.

        See `frontend.enrol`. Raises AudioError for one that can't be used or is longer than 10 s, ValueError for none.
        """
        windows = [np.zeros((0, self.config.frames, self.config.features.n_mels), np.float32)]
        for recording in audio.listed(recordings):
            if (heard := self._hear(recording)) is None:
                raise AudioError(f"{audio.named(recording)} is longer than {LONG:.0f} s: cut it into sentences.")
            windows.append(heard["windows"])
        self.model.set_weights(self.trained)
        frontend.enrol(self.model, np.concatenate(windows), len(windows) - 1)

    def judge(self, windows: np.ndarray, versions: int | None = None) -> np.ndarray:
        """The network's own probabilities (n, 8) of log-mels in dB (n, frames, bands), without temperature."""
        return fit.predict(self.model, windows, versions or self.config.versions)

    def calibrated(self, probabilities: np.ndarray) -> np.ndarray:
        """Probabilities (..., 8) with the temperature."""
        return softmax(np.log(np.maximum(probabilities, 1e-7)) / self.temperature, axis=-1)

    def _hear(self, recording: Source) -> dict | None:
        """What a :class:`Prediction` says of a recording but for the answer; None for a long one."""
        features, name = self.config.features, audio.named(recording)
        stream = audio.blocks(recording, LONG)
        wave, rate = next(stream)
        if next(stream, None) is not None:
            return None
        audio.check_waveform(wave, rate, name)
        speech = audio.speech(wave, rate, name, features.sample_rate, features.top_db)
        with self.threads.limit(limits=1):  # matrices this small wait for each other longer than they compute
            windows = self.windows(speech)[1]
        if not len(windows):
            raise AudioError(LEFT.format(name, features.sample_rate))
        return {"wave": speech, "windows": windows, "seconds": len(wave) / rate,
                "speech": (spoken := len(speech) / features.sample_rate), "notes": _notes(wave, rate, name, spoken)}

    def windows(self, speech: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
        """Starts (n,) in frames of the windows over an utterance, the windows (n, frames, bands), and its frames."""
        logmel, frames = spectral.log_mel(speech, self.config.features), self.config.frames
        excess = max(len(logmel) - frames, 0)
        starts = np.linspace(0, excess, int(np.ceil(excess / (HOP * frames))) + 1).round().astype(int)
        parts = np.stack([logmel[start: start + frames] for start in starts])
        heard = (parts > PAD_DB).any(axis=(1, 2))  # not in a pause of digital silence
        starts, parts = starts[heard], parts[heard]
        return starts, spectral.fit_length(parts, [parts.shape[1]] * len(parts), frames), len(logmel)

    def _predict_long(self, recording: Source) -> Prediction:
        table = self.timeline(recording)
        lengths = (table.end - table.start).to_numpy()
        notes = ("It is long: the mean of its timeline.", *_narrow(table.attrs["rate"]))
        return _answer(lengths @ table[PROBABILITIES].to_numpy() / lengths.sum(), seconds=table.attrs["seconds"],
                       speech=float(lengths.sum()), notes=notes, timeline=table)

    def predict_many(self, recordings: Iterable[Source], versions: int | None = None, progress=True) -> pd.DataFrame:
        """A row a recording, in order: file, label, confidence, seconds, speech, the eight probabilities, notes, error.

        They are decoded in as many threads as there are cores and judged in batches. A recording that can't be used
        leaves its row empty but for the sentence in ``error``.
        """
        import librosa.feature  # noqa: F401  before the threads start

        recordings, rows = audio.listed(recordings), []
        with tqdm(total=len(recordings), desc="Predict", unit="file", disable=not progress) as bar:
            for start in range(0, len(recordings), BATCH):
                batch = recordings[start: start + BATCH]
                heard = audio.each(functools.partial(_or_error, self._hear), batch, "", progress=False)
                windows = [found["windows"] for found in heard if isinstance(found, dict)]
                judged = iter(self.judge(np.concatenate(windows), versions) if windows else ())
                for recording, found in zip(batch, heard, strict=True):
                    if isinstance(found, dict):
                        mean = np.mean([next(judged) for _ in found["windows"]], axis=0)
                        found = _answer(self.calibrated(mean), **found)
                    rows.append(_row(audio.named(recording), found or _or_error(self._predict_long, recording)))
                    bar.update()
        return pd.DataFrame(rows, columns=["file", "label", "confidence", "seconds", "speech", *PROBABILITIES, "notes",
                                           "error"])

    def timeline(self, recording: Source) -> pd.DataFrame:
        """What a long recording sounds like from moment to moment, decoded piece by piece: memory stays as it is.

        One row a step of a quarter window, in speech alone: start, end (seconds), label, confidence, p_neutral ...
        p_surprised, the mean of all windows over its middle. ``attrs``: seconds, rate (Hz). Raises as `predict`.
        """
        power, rate = audio.powers(recording)
        stretches = audio.utterances(power, self.config.features.top_db)
        if not stretches:
            raise AudioError(f"{audio.named(recording)} holds no speech: nothing in it is louder than "
                             f"{audio.SILENCE_PEAK:.0e} of full scale for 0.2 s. Check the microphone or the file.")
        block, tables = rate // 50, []
        pieces = self._pieces(recording, stretches, block)
        while batch := list(itertools.islice(pieces, STRETCHES)):
            judged = iter(self.judge(np.concatenate([windows for _, _, windows, _ in batch]), versions=1))
            tables += [self._steps(first * block / rate, starts, np.array([next(judged) for _ in starts]), frames)
                       for first, starts, _, frames in batch]
        if not tables:
            raise AudioError(LEFT.format(audio.named(recording), self.config.features.sample_rate))
        table = pd.concat(tables, ignore_index=True)
        honest = self.calibrated(table[PROBABILITIES].to_numpy())
        table[PROBABILITIES] = honest
        table.insert(2, "label", np.array(EMOTIONS)[honest.argmax(axis=1)])
        table.insert(3, "confidence", honest.max(axis=1))
        table.attrs |= {"seconds": len(power) * block / rate, "rate": rate}
        return table

    def timelines(self, recordings: Iterable[Source]) -> tuple[pd.DataFrame, list[str]]:
        """The rows of :meth:`timeline` of many recordings, with the column file first; the sentences of bad ones."""
        found = [(audio.named(one), _or_error(self.timeline, one)) for one in audio.listed(recordings)]
        tables = [table.assign(file=name)[["file", *table]] for name, table in found if not isinstance(table, str)]
        empty = pd.DataFrame(columns=["file", "start", "end", "label", "confidence", *PROBABILITIES])
        return (pd.concat(tables, ignore_index=True) if tables else empty,
                [table for _, table in found if isinstance(table, str)])

    def _pieces(self, recording: Source, stretches: list, block: int) -> Iterator[tuple]:
        """(first block, starts, windows, frames) of every stretch, from a second decoding."""
        features, waiting, kept, at = self.config.features, list(stretches), np.zeros(0, np.float32), 0
        for wave, rate in audio.blocks(recording, LONG):
            kept = np.concatenate([kept, wave])
            while waiting and waiting[0][1] * block <= at + len(kept):
                first, last = waiting.pop(0)
                speech = audio.resample(kept[first * block - at: last * block - at], rate, features.sample_rate)
                if len((found := self.windows(speech))[1]):
                    yield first, *found
            used = min(waiting[0][0] * block - at, len(kept)) if waiting else len(kept)
            kept, at = kept[max(used, 0):], at + max(used, 0)

    def _steps(self, offset: float, starts: np.ndarray, judged: np.ndarray, frames: int) -> pd.DataFrame:
        """The rows of one stretch that begins at ``offset`` seconds and has so many frames."""
        count = int(np.ceil(frames / (HOP * self.config.frames))) if frames > self.config.frames else 1
        edges = np.linspace(0, frames, count + 1)
        middles = (edges[1:, None] + edges[:-1, None]) / 2
        reach = ((starts <= middles) & (middles < starts + self.config.frames)).astype(float)
        seconds = (offset + edges * self.hop_seconds).round(3)
        mean = reach @ judged / np.maximum(reach.sum(axis=1, keepdims=True), 1)
        rows = np.column_stack([seconds[:-1], seconds[1:], mean])[reach.any(axis=1)]  # not where all windows are silent
        return pd.DataFrame(rows, columns=["start", "end", *PROBABILITIES])


def _answer(probabilities: np.ndarray, **facts) -> Prediction:
    return Prediction(EMOTIONS[probabilities.argmax()], float(probabilities.max()),
                      dict(zip(EMOTIONS, probabilities.tolist(), strict=True)), **facts)


def _or_error(function: Callable, recording: Source):
    """What the function answers to a recording, or the sentence of its error."""
    try:
        return function(recording)
    except (AudioError, OSError) as error:
        return str(error)


def _notes(wave: np.ndarray, rate: int, name: str, spoken: float) -> tuple[str, ...]:
    """What makes an answer doubtful; raises AudioError where clipping has left no sound to judge."""
    loudest = np.abs(wave).max()  # in a very quiet recording of 8 bits many samples stand at their highest step
    clipped = float((np.abs(wave) >= 0.999 * loudest).mean()) if loudest > 0.03 else 0.0
    if clipped > 30 * CLIPPED:
        raise AudioError(f"{name} is clipped: {100 * clipped:.0f} % of its samples stand at the limit. Record it again "
                         "at a lower level.")
    notes = [f"{100 * clipped:.0f} % of its samples are clipped."] if clipped > CLIPPED else []
    if spoken < 0.5:
        notes.append(f"It holds {spoken:.1f} s of speech; the network learned from whole sentences.")
    return (*notes, *_narrow(rate))


def _narrow(rate: int) -> list[str]:
    """The note on a low sample rate, if it is one."""
    if rate >= 16_000:
        return []
    return [f"Sampled at {rate:,} Hz, it has nothing above {rate / 2000:g} kHz; the network expects 8 kHz."]


def _row(name: str, found: Prediction | str) -> dict:
    if isinstance(found, str):
        return {"file": name, "notes": "", "error": found}
    values = dict(zip(PROBABILITIES, found.probabilities.values(), strict=True))
    return {"file": name, "label": found.label, "confidence": found.confidence, "seconds": found.seconds,
            "speech": found.speech, "notes": " ".join(found.notes), "error": ""} | values


def spans(timeline: pd.DataFrame) -> pd.DataFrame:
    """A timeline with neighbouring steps of one label joined: its columns up to confidence, which is the mean."""
    keys = [key for key in ("file", "label") if key in timeline]
    # where 30 s are cut, steps overlap by a frame; where there is silence, they are half a second apart
    new = (timeline[keys] != timeline[keys].shift()).any(axis=1) | (timeline.start > timeline.end.shift() + 0.03)
    how = dict.fromkeys(keys, "first") | {"start": "first", "end": "last", "confidence": "mean"}
    return timeline.groupby(new.cumsum()).agg(how)[[name for name in timeline if name in how]].reset_index(drop=True)
