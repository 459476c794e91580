"""Log-mel spectrograms and MFCCs with librosa, and the one file that keeps a corpus's log-mels."""

import dataclasses
import functools
import hashlib
import json
import os
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pandas as pd

from ser_utils.config import PAD_DB, POWER_FLOOR, FeatureConfig
from ser_utils.data import ravdess
from ser_utils.data.corpus import Corpus
from ser_utils.features import audio
from ser_utils.paths import DATA, atomic_write

STEP_DB = 1 / 64  # between two stored levels; a power of two, so that every level is exact in float32


@dataclasses.dataclass(frozen=True)
class FeatureStore:
    """Log-mels of N clips of a corpus ("ravdess" or "synthetic"), all that training needs of it.

    ``logmel`` (N, frames, n_mels), float32: dB re one level for all clips, not each clip's peak: loudness stays in.
    ``lengths`` (N,): frames of speech; the frames after them hold ``PAD_DB``.
    """

    config: FeatureConfig
    corpus: str
    clips: np.ndarray
    lengths: np.ndarray
    logmel: np.ndarray

    @functools.cached_property
    def index(self) -> pd.DataFrame:
        """The table of :func:`ser_utils.data.ravdess.index_of`, a row a clip."""
        return ravdess.index_of(self.clips)

    @functools.cached_property
    def mfcc(self) -> np.ndarray:
        """MFCC, delta and delta-delta, (N, frames, 3 * n_mfcc), 0 in the padding; computed on first use."""
        values = np.zeros((*self.logmel.shape[:2], 3 * self.config.n_mfcc), np.float32)
        for row, length in enumerate(self.lengths):
            values[row, :length] = mfcc(self.logmel[row, :length], self.config)
        return values


def log_mel(wave: np.ndarray, config: FeatureConfig) -> np.ndarray:
    """Log-mel spectrogram (frames, n_mels) in dB of a waveform (samples,) at ``config.sample_rate``, by librosa."""
    import librosa

    power = librosa.feature.melspectrogram(
        y=wave, sr=config.sample_rate, n_fft=config.n_fft, hop_length=config.hop_length, n_mels=config.n_mels,
        fmin=config.fmin, fmax=config.fmax)
    return librosa.power_to_db(power, amin=POWER_FLOOR, top_db=None).T


def mfcc(logmel: np.ndarray, config: FeatureConfig) -> np.ndarray:
    """MFCC, delta and delta-delta (frames, 3 * n_mfcc) of a log-mel (frames, n_mels); AudioError below 3 frames."""
    import librosa

    frames = len(logmel)
    if frames < 3:
        raise audio.AudioError(f"{frames} frames are too short for deltas; at least 3 are needed.")
    static = librosa.feature.mfcc(S=logmel.T, n_mfcc=config.n_mfcc)
    width = min(9, frames if frames % 2 else frames - 1)
    deltas = [librosa.feature.delta(static, width=width, order=order) for order in (1, 2)]
    return np.concatenate([static, *deltas]).T


def padded(config: FeatureConfig, kind: str, clips: np.ndarray, lengths: np.ndarray, speech: np.ndarray
           ) -> FeatureStore:
    """A store made of the speech of all clips on end, (sum of lengths, n_mels), in whole steps of ``STEP_DB``."""
    logmel = np.full((len(lengths), lengths.max(), speech.shape[1]), PAD_DB, np.float32)
    logmel[np.arange(lengths.max()) < lengths[:, None]] = PAD_DB + np.float32(STEP_DB) * _levels(speech)
    return FeatureStore(config, kind, clips, lengths, logmel)


def _levels(speech: np.ndarray) -> np.ndarray:
    """Whole steps above ``PAD_DB``, uint16. What lies above it stays above it: padding stays padding."""
    return np.maximum(np.round((speech - PAD_DB) / STEP_DB), speech > PAD_DB).astype(np.uint16)


def store_path(corpus: Corpus, config: FeatureConfig, folder: Path = DATA / "features") -> Path:
    """The store's file; its name changes with the configuration and with the clips' names, sizes and dates."""
    digest = hashlib.sha256(str(config).encode())
    for path in corpus.index["path"]:
        status = os.stat(path)
        digest.update(f"{Path(path).name} {status.st_size} {status.st_mtime_ns}\n".encode())
    return Path(folder) / f"{corpus.kind}-{digest.hexdigest()[:16]}.npz"


def extract(corpus: Corpus, config: FeatureConfig | None = None, folder: Path = DATA / "features",
            progress: bool = True) -> FeatureStore:
    """The features of a corpus: read from its store file if that can be read, else computed and written to it.

    Raises AudioError where a recording can't be used (the message names it), OSError where the disk is full.
    """
    config = config or FeatureConfig()
    path = store_path(corpus, config, folder)
    if path.exists():
        try:
            return read(path)
        except ValueError as error:
            print(f"{error} Computing it again.")
    import librosa.feature  # noqa: F401  before the threads start

    found = audio.each(lambda clip: log_mel(audio.load_speech(clip, config.sample_rate, config.top_db), config),
                       corpus.index["path"], "Features", progress)
    lengths = np.array([len(logmel) for logmel in found])
    store = padded(config, corpus.kind, np.array(corpus.index["clip"], dtype=str), lengths, np.concatenate(found))
    write(store, path)
    return store


def write(store: FeatureStore, path: Path) -> None:
    """Write a store to one portable file (RAVDESS: 15 MB); a value changes by half a step (0.008 dB) at most."""
    levels = _levels(store.logmel[np.arange(store.logmel.shape[1]) < store.lengths[:, None]])
    with atomic_write(Path(path)) as temporary, open(temporary, "wb") as file:  # whatever the name ends in
        np.savez_compressed(  # low and high bytes apart compress better
            file, config=json.dumps(dataclasses.asdict(store.config)), corpus=store.corpus, step_db=STEP_DB,
            clips=np.asarray(store.clips, dtype=str), lengths=store.lengths, low=levels.astype(np.uint8),
            high=(levels >> 8).astype(np.uint8))


def read(path: str | os.PathLike) -> FeatureStore:
    """Read a file of :func:`write`; needs NumPy only. Raises ValueError where it is missing or damaged."""
    try:
        with np.load(path) as stored:
            arrays = {key: stored[key] for key in stored.files}
        levels = arrays["low"] + arrays["high"].astype(np.uint16) * 256
        if arrays["step_db"] != STEP_DB or arrays["lengths"].sum() != len(levels):
            raise ValueError("another format")
        return padded(FeatureConfig(**json.loads(str(arrays["config"]))), str(arrays["corpus"]), arrays["clips"],
                       arrays["lengths"], (PAD_DB + np.float32(STEP_DB) * levels))
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"{path} can't be read: it is no file of features, or it is damaged. Delete it and make it "
                         f"again: make grid FEATURES={path} BUDGET=0") from error


def fit_length(logmel: np.ndarray, lengths: np.ndarray, frames: int) -> np.ndarray:
    """Log-mels (N, any, bins) brought to (N, frames, bins): longer speech keeps its middle, shorter is padded."""
    out = np.full((len(logmel), frames, logmel.shape[2]), PAD_DB, np.float32)
    for row, length in enumerate(lengths):
        kept = min(length, frames)
        out[row, :kept] = logmel[row, (length - kept) // 2:][:kept]
    return out


def statistics(logmel: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each band, (bins,) each, over the speech of training clips (N, frames, bins)."""
    speech = logmel[(logmel > PAD_DB).any(axis=2)]
    return speech.mean(axis=0), speech.std(axis=0) + 1e-3


def clip_statistics(store: FeatureStore) -> pd.DataFrame:
    """Mean and standard deviation over time of every MFCC, delta and delta-delta: (N, 6 * n_mfcc)."""
    rows = [np.concatenate([values[:length].mean(axis=0), values[:length].std(axis=0)])
            for values, length in zip(store.mfcc, store.lengths, strict=True)]
    kinds = [f"{kind}_{number}" for kind in ("mfcc", "delta", "delta2") for number in range(store.config.n_mfcc)]
    return pd.DataFrame(rows, index=store.clips, columns=[f"{k}_{s}" for s in ("mean", "std") for k in kinds])
