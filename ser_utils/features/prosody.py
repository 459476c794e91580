"""Duration, peak, level and pitch of every clip of a corpus."""

import os

import numpy as np
import pandas as pd
import scipy.fft

from ser_utils.data.corpus import Corpus
from ser_utils.features import audio

COLUMNS = ("clip", "seconds", "speech_seconds", "peak", "level_db", "f0_median", "f0_spread", "voiced")
FEWEST_VOICED = 3  # frames; with fewer a clip has no pitch
SAMPLE_RATE = 16_000  # Hz
WINDOW, HOP = 1_024, 320  # samples in a frame: 64 ms, four periods of the lowest pitch; between frames: 20 ms
FMIN, FMAX = 60.0, 700.0  # Hz, pitch looked for: up to an actress's scream
FIRST_PEAK = 0.85  # the first peak this close to the highest one is the period
CLARITY = 0.7      # of 1; a frame below it is unvoiced
TOP_DB = 30.0      # a frame this far below the loudest one is unvoiced; also of the silence around the speech


def similarity(frames: np.ndarray, longest: int) -> np.ndarray:
    """How alike each frame (n, window) is to itself 0 ... ``longest`` samples on, -1 to 1 (their equation 9)."""
    width, lags = frames.shape[1], np.arange(longest + 1)
    size = scipy.fft.next_fast_len(width + longest, real=True)
    correlation = scipy.fft.irfft(np.abs(scipy.fft.rfft(frames, size)) ** 2, size)[:, lags]
    energy = np.cumsum(np.pad(frames.astype(np.float64) ** 2, ((0, 0), (1, 0))), axis=1)
    return 2 * correlation / np.maximum(energy[:, width - lags] + energy[:, -1:] - energy[:, lags], 1e-12)


def pitch(wave: np.ndarray) -> np.ndarray:
    """Fundamental frequency in Hz of a waveform (samples,) at 16 kHz, (frames,) every 20 ms, NaN where unvoiced.

    The method of McLeod and Wyvill ("A smarter way to find pitch", 2005), far quicker than ``librosa.pyin``: of the
    peaks of :func:`similarity` the first that is nearly as high as the highest is the period, refined by a parabola. A
    frame is voiced if that peak is clear and the frame not much weaker than the loudest.
    """
    wave = np.pad(wave, (0, max(WINDOW - len(wave), 0)))
    frames = np.lib.stride_tricks.sliding_window_view(wave, WINDOW)[::HOP]
    shortest, longest = int(SAMPLE_RATE / FMAX), int(np.ceil(SAMPLE_RATE / FMIN))
    alike = similarity(frames - frames.mean(axis=1, keepdims=True), longest + 1)
    before, here, after = alike[:, shortest - 1:-2], alike[:, shortest:-1], alike[:, shortest + 1:]
    peaks = np.where((here > before) & (here >= after), here, 0)
    first = (peaks >= FIRST_PEAK * peaks.max(axis=1, keepdims=True)).argmax(axis=1)
    row = np.arange(len(frames))
    left, top, right = before[row, first], here[row, first], after[row, first]
    bend = np.minimum(left - 2 * top + right, -1e-12)  # negative at a peak
    period = first + shortest + 0.5 * np.clip((left - right) / bend, -1, 1)
    power = np.einsum("ij,ij->i", frames, frames)
    voiced = (peaks[row, first] > CLARITY) & (power > power.max() * 10 ** (-TOP_DB / 10))
    return np.where(voiced, SAMPLE_RATE / period, np.nan)


def describe(path: str | os.PathLike) -> dict:
    """Prosody of one recording: the ``COLUMNS`` of :func:`measure` without the clip's name."""
    wave, rate = audio.load(path)
    speech = wave[slice(*audio.speech_bounds(wave, rate, TOP_DB))]
    f0 = pitch(audio.resample(speech, rate, SAMPLE_RATE))
    voices = f0[np.isfinite(f0)]
    low, middle, high = np.quantile(voices, (0.25, 0.5, 0.75)) if len(voices) >= FEWEST_VOICED else (np.nan,) * 3
    return {"seconds": len(wave) / rate, "speech_seconds": len(speech) / rate, "peak": float(np.abs(wave).max()),
            "level_db": float(10 * np.log10(np.mean(speech.astype(np.float64) ** 2))), "f0_median": float(middle),
            "f0_spread": float(12 * np.log2(high / low)), "voiced": len(voices) / len(f0)}


def measure(corpus: Corpus) -> pd.DataFrame:
    """Prosody of a corpus, one row a clip in the order of its index.

    Columns: clip; seconds of the recording and of the speech in it; peak (of full scale, mono); level_db (mean power of
    the speech, dB re full scale); f0_median (Hz) and f0_spread (interquartile range, semitones), NaN with fewer than
    ``FEWEST_VOICED`` voiced frames; voiced (share of the frames). Raises as ``spectral.extract``.
    """
    rows = audio.each(describe, corpus.index["path"], "Prosody")
    return pd.DataFrame(rows, columns=COLUMNS).assign(clip=list(corpus.index["clip"]))
