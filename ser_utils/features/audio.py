"""Decode a recording, mix it to mono, cut the silence around the speech, resample."""

import contextlib
import io
import os
import re
import sys
import weakref
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
from tqdm import tqdm
from tqdm.contrib.concurrent import thread_map

from ser_utils import machine

SILENCE_PEAK = 1e-4  # a clip whose peak stays below -80 dBFS holds no speech
LOUDEST = 100.0      # a mean power above it (20 dB over full scale) is no recording
SHORTEST_SECONDS = 0.1
CANCELLED = 0.01     # a mix with less than this share of its loudest channel's power: opposite phases
RATES = (8_000, 192_000)  # Hz, of recordings that are read
UNKNOWN = 0x7FFF0000  # sizes from here on are what recorders and pipes write that do not know the length
PIPES = weakref.WeakKeyDictionary()  # what was in each: it can be read only once

Source = str | os.PathLike | bytes | BinaryIO | tuple[np.ndarray, int]  # a recording, see ``load``


class AudioError(ValueError):
    """A recording that can't be used; the message names the file and says what to do."""


def named(source: Source) -> str:
    """What messages call a recording: its path, or "the recording" where there is none."""
    name = source if isinstance(source, (str, os.PathLike)) else getattr(source, "name", None)
    return os.fsencode(name).decode(errors="replace") if isinstance(name, (str, os.PathLike)) else "The recording"


def listed(recordings: Source | Iterable[Source]) -> list[Source]:
    """Recordings as a list; one alone is a list of one."""
    pair = isinstance(recordings, tuple) and len(recordings) == 2 and isinstance(recordings[1], int | float | np.number)
    sound = isinstance(recordings, str | os.PathLike | bytes | bytearray | memoryview) or hasattr(recordings, "read")
    return [recordings] if pair or sound else list(recordings)


def load(source: Source) -> tuple[np.ndarray, int]:
    """Decode a recording of any format libsndfile reads (WAV, FLAC, OGG, Opus, MP3 ...): a path, the bytes of a file, a
    file object, or samples with their rate, ``(array, rate)``: (samples,) or with channels on the shorter axis.

    Returns the waveform, float32 (samples,), full scale 1, and its rate in Hz. Channels are averaged; of such as cancel
    each other the loudest is taken. Raises FileNotFoundError where there is no such file, and AudioError where it is
    unreadable, empty, damaged, cut short, silent, too loud, shorter than 0.1 s, holds NaN or is not of 8 to 192 kHz.
    """
    [(wave, rate)] = blocks(source)
    check_waveform(wave, rate, named(source))
    return wave, rate


def blocks(source: Source, seconds: float | None = None) -> Iterator[tuple[np.ndarray, int]]:
    """What :func:`load` decodes, in blocks of so many seconds (None: in one), so that memory does not grow.

    Yields waveforms, float32 (samples,), and the rate, at least once. Raises as :func:`load` save for silence and
    shortness, what is cut short after the last block.
    """
    name = named(source)
    if isinstance(source, tuple) and len(source) == 2:
        yield from _array_blocks(*source, name, seconds)
        return
    if isinstance(source, (str, os.PathLike)):
        source = Path(source)
        if not os.path.lexists(source):
            raise FileNotFoundError(f"There is no audio file {name}.")
    elif isinstance(source, (bytes, bytearray, memoryview)):
        source = io.BytesIO(source)
    elif not hasattr(source, "seekable"):
        raise AudioError(f"{name} is of type {type(source).__name__}: give a path, bytes, a file or (samples, rate).")
    size = 1  # unless it is found to be empty
    try:
        if not isinstance(source, Path) and not source.seekable():
            source = PIPES.setdefault(source, io.BytesIO(source.read()))
        with open(source, "rb") if isinstance(source, Path) else contextlib.nullcontext(source) as raw:
            size = raw.seek(0, io.SEEK_END)  # and an OSError says what can't be read, which libsndfile does not
            raw.seek(0)
        with _opened(source) as file:
            rate, done = _checked_rate(file.samplerate, name), 0
            if file.frames > 2**60:  # libsndfile's word for unknown
                raise AudioError(f"{name} does not say how long it is, as written to a pipe. Convert it to WAV.")
            count = file.frames if seconds is None else round(seconds * rate)
            for _ in range(0, max(file.frames, 1), max(count, 1)):  # `file.blocks` fills up what is cut short
                wave = file.read(count, dtype="float32", always_2d=True)
                done += len(wave)
                yield _mono(wave), rate
            if _cut_short(file, done):
                raise AudioError(f"{name} is cut short, or damaged at its end. Get it again.")
    except AudioError:
        raise
    except OSError as error:
        raise AudioError(f"{name} can't be read ({error.strerror or error}).") from error
    except (RuntimeError, ValueError, TypeError) as error:  # soundfile's own are RuntimeErrors
        said = str(getattr(error, "error_string", error)).strip() if size else "it is empty, 0 bytes"
        said = re.sub("File does not exist.*", "libsndfile finds no sound in it", said)  # of a file that does exist
        raise AudioError(f"{name} can't be decoded ({said}). Convert it to WAV, or get it again.") from error


def _array_blocks(samples, rate, name: str, seconds: float | None) -> Iterator[tuple[np.ndarray, int]]:
    rate = _checked_rate(rate, name)
    try:
        wave = np.asarray(samples)
    except ValueError as error:
        raise AudioError(f"{name} has rows of several lengths: give numbers (samples,).") from error
    if wave.ndim not in (1, 2) or wave.dtype.kind not in "iuf" or wave.ndim == 2 and 0 in wave.shape:
        raise AudioError(f"{name} is an array of shape {wave.shape} and type {wave.dtype}: give numbers (samples,) or "
                         "(samples, channels).")
    wave = wave[:, None] if wave.ndim == 1 else wave.T if 0 < wave.shape[0] < wave.shape[1] else wave
    count = len(wave) if seconds is None else round(seconds * rate)
    for start in range(0, max(len(wave), 1), max(count, 1)):
        block = wave[start: start + count].astype(np.float32)
        if wave.dtype.kind in "iu":  # whole numbers: full scale is that of their type
            full = 2.0 ** (8 * wave.dtype.itemsize - 1)
            block = (block - (full if wave.dtype.kind == "u" else 0)) / np.float32(full)
        yield _mono(block), rate


def _checked_rate(rate, name: str) -> int:
    if not isinstance(rate, (int, float, np.integer, np.floating)) or not RATES[0] <= rate <= RATES[1]:
        raise AudioError(f"{name} has a sample rate of {rate} Hz; it must be {RATES[0]:,} to {RATES[1]:,} Hz. Give the "
                         "rate at which it was recorded, or record it again at 16,000 Hz or more.")
    return round(rate)


def _mono(wave: np.ndarray) -> np.ndarray:
    """The mean of channels (samples, channels), or the loudest channel where they cancel each other."""
    mono, powers = wave.mean(axis=1), np.einsum("ij,ij->j", wave, wave)
    if np.dot(mono, mono) < CANCELLED * powers.max():
        return np.ascontiguousarray(wave[:, powers.argmax()])
    return mono


def _opened(source: Path | BinaryIO):
    """A recording as a ``soundfile.SoundFile``; of a stream that says it holds 0 bytes of sound, all that is there."""
    import soundfile

    file = soundfile.SoundFile(os.fsencode(source) if isinstance(source, Path) else source)
    if file.frames or not file.format.startswith("WAV"):
        return file
    if not isinstance(source, Path):
        source.seek(0)
    content = source.read_bytes() if isinstance(source, Path) else source.read()
    return soundfile.SoundFile(io.BytesIO(re.sub(rb"data\0{4}", b"data" + b"\xff" * 4, content, count=1)))


def _cut_short(file, done: int) -> bool:
    """Whether a header promises more than the ``done`` frames that were read, as libsndfile's log tells of it."""
    sizes = re.findall(r"(?:SSND|Data Size|riff|data)\s*: (\d+) \(should be", file.extra_info)  # AIFF, AU, W64, WAV
    frames = re.findall(r"frame count (\d+) does not match value from 'ds64' chunk of (\d+)", file.extra_info)  # RF64
    return ("Junk after the last page" in file.extra_info  # OGG, Opus
            or any(int(size) < UNKNOWN for size in sizes)
            or any(int(found) < int(said) for found, said in frames)
            or file.seekable() and done < file.frames)


def check_waveform(wave: np.ndarray, rate: int, name: str) -> None:
    """Raise :class:`AudioError` where a mono waveform (samples,) at ``rate`` Hz holds no usable speech."""
    if len(wave) < SHORTEST_SECONDS * rate:
        raise AudioError(f"{name} lasts {len(wave) / rate:.3f} s; at least {SHORTEST_SECONDS} s are needed.")
    check_samples(wave, name)
    if (peak := np.abs(wave).max()) < SILENCE_PEAK:
        raise AudioError(f"{name} is silent (its peak is {peak:.1e} of full scale). Check the microphone or the file.")


def check_samples(wave: np.ndarray, name: str) -> None:
    """Raise :class:`AudioError` for NaN, infinity and what no recorder writes among samples (samples,)."""
    energy = np.dot(wave, wave)  # NaN and infinity pass through the sum
    if not np.isfinite(energy):
        raise AudioError(f"{name} holds NaN or infinite samples. Export it again as 16-bit PCM.")
    if energy > len(wave) * LOUDEST:
        raise AudioError(f"{name} is far louder than full scale: whole numbers in a floating-point file? "
                         "Export it again as 16-bit PCM.")


def speech_bounds(wave: np.ndarray, rate: int, top_db: float) -> tuple[int, int]:
    """Where the speech of a waveform (samples,) begins and ends, in samples.

    It runs from the first to the last block of 20 ms whose power is within ``top_db`` dB of the loudest block's (the
    rule of ``librosa.effects.trim``, with blocks that do not overlap). Pauses inside belong to it.
    """
    block = rate // 50
    if len(wave) < block:
        return 0, len(wave)
    blocks = wave[: len(wave) // block * block].reshape(-1, block)
    power = np.einsum("ij,ij->i", blocks, blocks)
    loud = np.flatnonzero(power > power.max() * 10 ** (-top_db / 10))
    return (int(loud[0]) * block, (int(loud[-1]) + 1) * block) if len(loud) else (len(wave) // block * block, len(wave))


def resample(wave: np.ndarray, rate: int, target: int) -> np.ndarray:
    """Resample (samples,) from ``rate`` to ``target`` Hz with soxr at high quality, as librosa does."""
    import soxr

    return wave if rate == target else soxr.resample(wave, rate, target, "HQ")


def speech(wave: np.ndarray, rate: int, name: str, sample_rate: int, top_db: float) -> np.ndarray:
    """The speech of a mono waveform: trimmed (:func:`speech_bounds`) and resampled to ``sample_rate`` Hz, (samples,).

    Raises AudioError where all but a click of 20 ms is silence.
    """
    found = wave[slice(*speech_bounds(wave, rate, top_db))]
    if len(found) < 2 * (rate // 50):
        raise AudioError(f"{name} holds a click of {1000 * len(found) / rate:.0f} ms and otherwise silence. "
                         "Cut the click out, or record again.")
    return resample(found, rate, sample_rate)


def load_speech(source: Source, sample_rate: int, top_db: float) -> np.ndarray:
    """The speech of one recording, decoded by :func:`load`, mono, trimmed, resampled: :func:`speech`."""
    return speech(*load(source), named(source), sample_rate, top_db)


def powers(source: Source) -> tuple[np.ndarray, int]:
    """Mean power of every 20 ms of a recording, (blocks,), float32, and its sample rate, decoded piece by piece.

    Each has ``rate // 50`` samples. Raises as :func:`blocks`, and AudioError for NaN and what is far too loud.
    """
    found, rest = [], np.zeros(0, np.float32)
    for piece, rate in blocks(source, seconds=10):
        check_samples(piece, named(source))
        piece, block = np.concatenate([rest, piece]), rate // 50
        cut, rest = np.split(piece, [len(piece) // block * block])
        cut = cut.reshape(-1, block)
        found.append(np.einsum("ij,ij->i", cut, cut) / block)
    return np.concatenate(found), rate


def utterances(power: np.ndarray, top_db: float) -> list[tuple[int, int]]:
    """Where somebody speaks in a long recording: first and last block of 20 ms (exclusive) of each stretch.

    ``power`` is that of :func:`powers`. A block counts within ``top_db`` dB of the loudest within 3 s around, and
    ``top_db`` + 15 dB of the loudest of all. Stretches up to 0.5 s apart are one; those below 0.2 s are left out, and
    what lasts more than 30 s is cut at its quietest block.
    """
    import scipy.ndimage

    around = scipy.ndimage.maximum_filter1d(power, 301) if len(power) else power
    floor = max(SILENCE_PEAK**2, power.max(initial=0) * 10 ** (-top_db / 10 - 1.5))
    loud = np.flatnonzero((power > around * 10 ** (-top_db / 10)) & (power > floor))
    found, most = [], 30 * 50  # blocks in 30 s
    for stretch in np.split(loud, np.flatnonzero(np.diff(loud) > 25) + 1):  # half a second
        first, last = (stretch[0], stretch[-1] + 1) if len(stretch) else (0, 0)
        while last - first > most:
            cut = first + 2 * most // 3 + int(power[first + 2 * most // 3: first + most].argmin())
            found.append((int(first), cut))
            first = cut
        if last - first >= 10:
            found.append((int(first), int(last)))
    return found


def each(function: Callable, paths: Collection[str], title: str, progress: bool = True) -> list:
    """``function(path)`` of many recordings in order, in one thread a core (decoding leaves Python's lock)."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):
        return thread_map(function, paths, max_workers=machine.cores(), tqdm_class=tqdm, desc=title, unit="clip",
                          disable=not progress, file=sys.stdout, mininterval=0.5)
