"""Log-mel spectrograms and MFCCs of a whole corpus, computed once and kept in one file."""

import dataclasses
import functools
import hashlib
import json
import os
import sys
import zipfile
import zlib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import scipy.fft
from tqdm import tqdm

from ser_utils import machine
from ser_utils.config import PAD_DB, POWER_FLOOR, FeatureConfig
from ser_utils.data.corpus import Corpus
from ser_utils.features import audio
from ser_utils.paths import DATA, atomic_write

PACKED = "packed-logmel.npz"  # file of a packed corpus, see `pack`
STEP_DB = 1 / 64       # of a packed log-mel; a power of two, so that every level is exact in float32


@dataclasses.dataclass(frozen=True)
class FeatureStore:
    """Features of N clips, in the order of the corpus's index.

    ``logmel`` (N, frames, n_mels): dB relative to a full-scale power of 1, not relative to the clip's peak, so
    that loudness stays in it; ``mfcc`` (N, frames, 3 * n_mfcc): MFCC, delta, delta-delta; ``lengths`` (N,):
    frames of speech; the frames after them hold ``PAD_DB`` in ``logmel`` and 0 in ``mfcc``. A packed store
    (:func:`unpack`) has no MFCCs: its ``mfcc`` is (N, frames, 0).
    """

    config: FeatureConfig
    clips: np.ndarray
    lengths: np.ndarray
    logmel: np.ndarray
    mfcc: np.ndarray

    def seconds(self) -> np.ndarray:
        """Length of each clip's speech in seconds, (N,)."""
        return self.lengths * self.config.hop_length / self.config.sample_rate


@functools.lru_cache(maxsize=8)
def _analysis(config: FeatureConfig) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Window (n_fft,), mel filterbank (bins, n_mels) and DCT matrix (n_mels, n_mfcc) of librosa."""
    import librosa

    window = librosa.filters.get_window("hann", config.n_fft).astype(np.float32)
    mel = librosa.filters.mel(sr=config.sample_rate, n_fft=config.n_fft, n_mels=config.n_mels,
                              fmin=config.fmin, fmax=config.fmax)
    dct = scipy.fft.dct(np.eye(config.n_mels), axis=0, type=2, norm="ortho")[: config.n_mfcc]
    return window, np.ascontiguousarray(mel.T), np.ascontiguousarray(dct.T.astype(np.float32))


@functools.cache
def _delta_kernels(width: int) -> tuple[np.ndarray, np.ndarray]:
    """Matrices (width, width) that take the first and second delta of a sequence of ``width`` frames.

    A delta is linear in the sequence, so those of the unit sequences hold all that ``librosa.feature.delta``
    does (a Savitzky-Golay filter with a polynomial fit at either end).
    """
    import librosa

    return tuple(librosa.feature.delta(np.eye(width), width=width, order=order, axis=0).astype(np.float32)
                 for order in (1, 2))


@functools.lru_cache(maxsize=1024)
def _delta_matrix(frames: int) -> np.ndarray:
    """Matrix (2 * frames, frames) that takes both deltas of a sequence: the kernels, row by row."""
    width = min(9, frames if frames % 2 else frames - 1)
    half = width // 2
    inside = np.arange(half, frames - half)
    matrix = np.zeros((2, frames, frames), np.float32)
    for rows, kernel in zip(matrix, _delta_kernels(width), strict=True):
        rows[:half, :width] = kernel[:half]
        rows[-half:, -width:] = kernel[half + 1:]
        for offset in range(-half, half + 1):
            rows[inside, inside + offset] = kernel[half, half + offset]
    return matrix.reshape(2 * frames, frames)


def deltas(sequence: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """First and second deltas, (frames, values) each, of a sequence (frames, values) along time.

    Equal to ``librosa.feature.delta`` over 9 frames (fewer where the sequence is shorter), as one product.
    """
    both = _delta_matrix(len(sequence)) @ sequence
    return both[: len(sequence)], both[len(sequence):]


def log_mel(wave: np.ndarray, config: FeatureConfig) -> np.ndarray:
    """Log-mel spectrogram (frames, n_mels) in dB of a waveform (samples,) at ``config.sample_rate``.

    Equal to ``librosa.power_to_db(librosa.feature.melspectrogram(...), top_db=None).T`` within float32
    rounding: Hann window, frames centred on multiples of the hop, Slaney mel bands.
    """
    window, mel, _ = _analysis(config)
    half = config.n_fft // 2
    padded = np.zeros(len(wave) + 2 * half, np.float32)
    padded[half: half + len(wave)] = wave
    frames = np.lib.stride_tricks.sliding_window_view(padded, config.n_fft)[:: config.hop_length]
    spectrum = scipy.fft.rfft(frames * window, axis=1)
    power = spectrum.real ** 2
    power += spectrum.imag ** 2
    return 10 * np.log10(np.maximum(power @ mel, np.float32(POWER_FLOOR)))


def mfcc(logmel: np.ndarray, config: FeatureConfig) -> np.ndarray:
    """MFCC with deltas and delta-deltas, (frames, 3 * n_mfcc), of a log-mel spectrogram (frames, n_mels).

    Equal to ``librosa.feature.mfcc(S=logmel.T)`` and ``librosa.feature.delta`` of order 1 and 2, transposed.

    Raises
    ------
    AudioError
        Fewer than 3 frames, too short for a delta.
    """
    if len(logmel) < 3:
        raise audio.AudioError(f"{len(logmel)} frames are too short for deltas; at least 3 are needed.")
    coefficients = logmel @ _analysis(config)[2]
    return np.concatenate([coefficients, *deltas(coefficients)], axis=1)


def clip_features(path: str | os.PathLike, config: FeatureConfig) -> tuple[np.ndarray, np.ndarray]:
    """Log-mel (frames, n_mels) and MFCC with deltas (frames, 3 * n_mfcc) of one recording."""
    wave = audio.load_speech(path, config.sample_rate, config.top_db)
    logmel = log_mel(wave, config)
    try:
        return logmel, mfcc(logmel, config)
    except audio.AudioError as error:
        raise audio.AudioError(f"{path}: {error}") from error


def compute(paths: Iterable[str], config: FeatureConfig, clips: Iterable[str], progress: bool = True
            ) -> FeatureStore:
    """Features of many recordings, in parallel over the processor's cores.

    The heavy steps (decoding, resampling, Fourier transform, products) run outside Python's lock, so threads
    share them well and no time goes into starting processes.
    """
    from threadpoolctl import threadpool_limits

    paths = list(paths)
    _analysis(config)  # loads librosa before the threads start
    with threadpool_limits(1), ThreadPoolExecutor(machine.cores()) as pool:
        jobs = pool.map(functools.partial(clip_features, config=config), paths)
        found = list(tqdm(jobs, total=len(paths), desc="Features", unit="clip", disable=not progress,
                          file=sys.stdout, mininterval=0.5))
    lengths = np.array([len(logmel) for logmel, _ in found])
    logmels = np.full((len(found), lengths.max(), config.n_mels), PAD_DB, np.float32)
    mfccs = np.zeros((len(found), lengths.max(), 3 * config.n_mfcc), np.float32)
    for row, (logmel, coefficients) in enumerate(found):
        logmels[row, : len(logmel)] = logmel
        mfccs[row, : len(logmel)] = coefficients
    return FeatureStore(config, np.array(list(clips)), lengths, logmels, mfccs)


def store_path(corpus: Corpus, config: FeatureConfig, folder: Path = DATA / "features") -> Path:
    """The store's file; its name changes with the configuration and with the clips' names, sizes and dates."""
    digest = hashlib.sha256(config.hash.encode())
    for path in corpus.index.path:
        status = os.stat(path)
        digest.update(f"{Path(path).name} {status.st_size} {status.st_mtime_ns}\n".encode())
    return Path(folder) / f"{corpus.kind}-{digest.hexdigest()[:16]}.npz"


def extract(corpus: Corpus, config: FeatureConfig | None = None, folder: Path = DATA / "features",
            progress: bool = True) -> FeatureStore:
    """The features of a corpus: read from the store if they are there, computed and stored if not.

    A store that can't be read (a disk error, a file cut short) is computed again. The features of a packed
    corpus, which has no audio, are those it came with.

    Raises
    ------
    ValueError
        A packed corpus came with features of another configuration, or its file is damaged.
    AudioError
        A recording is damaged, silent or too short; the message names it.
    OSError
        The disk is full.
    """
    config = config or FeatureConfig()
    if corpus.packed:
        return unpack(corpus.root / PACKED, config)
    path = store_path(corpus, config, folder)
    if path.exists():
        try:
            with np.load(path) as stored:
                return FeatureStore(config, *(stored[key] for key in ("clips", "lengths", "logmel", "mfcc")))
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            print(f"The feature store {path.name} can't be read ({error}); computing it again.")
    store = compute(corpus.index.path, config, corpus.index["clip"], progress)
    with atomic_write(path) as temporary:
        np.savez(temporary, clips=store.clips, lengths=store.lengths, logmel=store.logmel, mfcc=store.mfcc)
    return store


def pack(store: FeatureStore, path: Path) -> None:
    """Write the log-mels of a store to a small file: whole steps of ``STEP_DB`` above ``PAD_DB``, speech only.

    A value changes by half a step (0.008 dB) at most, and one just above ``PAD_DB`` by a whole step, so that it
    stays above it: padding, and which frames count as padding, do not change. The low and the high bytes of the
    levels lie apart, which compresses better. MFCCs are left out: no network is trained on them.
    """
    speech = np.concatenate([logmel[:length] for logmel, length in zip(store.logmel, store.lengths, strict=True)])
    levels = np.maximum(np.round((speech - PAD_DB) / STEP_DB), speech > PAD_DB).astype(np.uint16)
    config = json.dumps(dataclasses.asdict(store.config))
    with atomic_write(path) as temporary:
        np.savez_compressed(temporary, config=config, step_db=STEP_DB, clips=store.clips, lengths=store.lengths,
                            low=levels.astype(np.uint8), high=(levels >> 8).astype(np.uint8))


def unpack(path: Path, config: FeatureConfig) -> FeatureStore:
    """Read a file that :func:`pack` wrote; the store has no MFCCs.

    Raises
    ------
    ValueError
        The file is damaged or missing, or was made with another configuration than ``config``.
    """
    try:
        with np.load(path) as stored:
            arrays = {key: stored[key] for key in stored.files}
        found, step, lengths = FeatureConfig(**json.loads(str(arrays["config"]))), arrays["step_db"], arrays["lengths"]
        levels = arrays["low"] + arrays["high"].astype(np.uint16) * 256
        speech = (PAD_DB + step * levels).astype(np.float32)
        logmel = np.full((len(lengths), lengths.max(), speech.shape[1]), PAD_DB, np.float32)
        logmel[np.arange(lengths.max()) < lengths[:, None]] = speech
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"The packed features {path} can't be read ({error}). Unpack the bundle again.") from error
    if found != config:
        raise ValueError(f"The packed features {path} were made with {found}, not with {config}. "
                         "Make a new bundle where the recordings are.")
    return FeatureStore(config, arrays["clips"], lengths, logmel, np.zeros((*logmel.shape[:2], 0), np.float32))


def fit_length(logmel: np.ndarray, lengths: np.ndarray, frames: int) -> np.ndarray:
    """Log-mels (N, any, bins) brought to (N, frames, bins): longer speech keeps its middle, shorter is padded."""
    out = np.full((len(logmel), frames, logmel.shape[2]), PAD_DB, np.float32)
    for row, length in enumerate(lengths):
        kept = min(length, frames)
        start = (length - kept) // 2
        out[row, :kept] = logmel[row, start: start + kept]
    return out


def statistics(logmel: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each band, (bins,) each, over the frames of speech of (N, frames, bins).

    Called on training clips only: the networks' normalisation never sees validation or test clips.
    """
    speech = logmel[(logmel > PAD_DB).any(axis=2)]
    return speech.mean(axis=0), speech.std(axis=0) + 1e-3


def clip_statistics(store: FeatureStore) -> pd.DataFrame:
    """Mean and standard deviation over time of every MFCC, delta and delta-delta: (N, 6 * n_mfcc).

    The classic fixed-length description of a clip, for embeddings and simple classifiers.
    """
    rows = []
    for values, length in zip(store.mfcc, store.lengths, strict=True):
        rows.append(np.concatenate([values[:length].mean(axis=0), values[:length].std(axis=0)]))
    kinds = [f"{kind}_{number}" for kind in ("mfcc", "delta", "delta2") for number in range(store.config.n_mfcc)]
    return pd.DataFrame(rows, index=store.clips, columns=[f"{k}_{s}" for s in ("mean", "std") for k in kinds])
