"""Decode a recording, mix it to mono, cut the silence around the speech, resample."""

import os
from pathlib import Path

import numpy as np

SILENCE_PEAK = 1e-4  # a clip whose peak stays below -80 dBFS holds no speech
SHORTEST_SECONDS = 0.1


class AudioError(ValueError):
    """A recording that can't be used; the message names the file and says what to do."""


def load(path: str | os.PathLike) -> tuple[np.ndarray, int]:
    """Decode an audio file of any format libsndfile reads (WAV, FLAC, OGG, MP3 ...).

    Returns the waveform, float32 of shape (samples,) in [-1, 1], and its sample rate in Hz. Several channels
    are averaged into one.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    AudioError
        The file is empty, damaged or cut short, holds NaN or infinite samples, is silent, or is shorter than
        0.1 s.
    """
    import soundfile

    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no audio file {path}.")
    if path.stat().st_size == 0:
        raise AudioError(f"{path} is empty (0 bytes). Copy or download it again.")
    try:
        with soundfile.SoundFile(path) as file:
            rate, expected = file.samplerate, file.frames
            wave = file.read(dtype="float32")
            cut_short = len(wave) < expected or "should be" in file.extra_info
    except soundfile.LibsndfileError as error:
        raise AudioError(f"{path} can't be decoded ({error.error_string.strip()}). "
                         "Copy or download it again, or convert it to WAV.") from error
    if cut_short:
        raise AudioError(f"{path} is cut short: its header promises more sound than the file holds. "
                         "Copy or download it again.")
    if wave.ndim == 2:
        wave = wave.mean(axis=1)
    check_waveform(wave, rate, str(path))
    return wave, rate


def check_waveform(wave: np.ndarray, rate: int, name: str) -> None:
    """Raise :class:`AudioError` where a mono waveform (samples,) at ``rate`` Hz holds no usable speech."""
    if len(wave) < SHORTEST_SECONDS * rate:
        raise AudioError(f"{name} lasts {len(wave) / rate:.3f} s; at least {SHORTEST_SECONDS} s are needed.")
    energy = np.dot(wave, wave)  # NaN and infinity pass through the sum
    if not np.isfinite(energy):
        raise AudioError(f"{name} holds NaN or infinite samples. Export it again as 16-bit PCM.")
    if energy < len(wave) * SILENCE_PEAK**2 and (peak := np.abs(wave).max()) < SILENCE_PEAK:
        raise AudioError(f"{name} is silent (its peak is {peak:.1e} of full scale). "
                         "Check the microphone or the file.")


def speech_bounds(wave: np.ndarray, rate: int, top_db: float) -> tuple[int, int]:
    """Where the speech of a waveform (samples,) begins and ends, in samples.

    The waveform is cut into blocks of 20 ms; the speech runs from the first to the last block whose power is
    within ``top_db`` dB of the loudest block (the rule of ``librosa.effects.trim``, with blocks that do not
    overlap). Pauses inside belong to it.
    """
    block = max(rate // 50, 1)
    count = len(wave) // block
    if count == 0:
        return 0, len(wave)
    blocks = wave[: count * block].reshape(count, block)
    power = np.einsum("ij,ij->i", blocks, blocks)
    loud = np.flatnonzero(power > power.max() * 10 ** (-top_db / 10))
    return int(loud[0]) * block, (int(loud[-1]) + 1) * block


def trim(wave: np.ndarray, rate: int, top_db: float) -> np.ndarray:
    """Cut the silence before and after the speech (see :func:`speech_bounds`) from a waveform (samples,)."""
    start, stop = speech_bounds(wave, rate, top_db)
    return wave[start:stop]


def resample(wave: np.ndarray, rate: int, target: int) -> np.ndarray:
    """Resample (samples,) from ``rate`` to ``target`` Hz with soxr at high quality, librosa's default."""
    if rate == target:
        return wave
    import soxr

    return soxr.resample(wave, rate, target, "HQ")


def load_speech(path: str | os.PathLike, sample_rate: int, top_db: float) -> np.ndarray:
    """The speech of one recording: decoded, mono, trimmed, resampled to ``sample_rate`` Hz, (samples,)."""
    wave, rate = load(path)
    return resample(trim(wave, rate, top_db), rate, sample_rate)
