"""Decode a recording, mix it to mono, cut the silence around the speech, resample."""

import io
import os
import re
import struct
import sys
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ser_utils import machine

SILENCE_PEAK = 1e-4  # a clip whose peak stays below -80 dBFS holds no speech
LOUDEST = 100.0      # a mean power above it (20 dB over full scale) is no recording
SHORTEST_SECONDS = 0.1
CANCELLED = 0.01     # a mix with less than this share of its loudest channel's power: opposite phases
UNKNOWN = 0x7FFF0000  # sizes from here on are what recorders and pipes write that do not know the length


class AudioError(ValueError):
    """A recording that can't be used; the message names the file and says what to do."""


def load(path: str | os.PathLike) -> tuple[np.ndarray, int]:
    """Decode an audio file of any format libsndfile reads (WAV, FLAC, OGG, MP3 ...).

    Returns the waveform, float32 (samples,) in [-1, 1], and its sample rate in Hz. Channels are averaged; where they
    cancel each other (opposite phases) the loudest is taken. Raises FileNotFoundError where there is no such file, and
    AudioError where it is unreadable, empty, damaged, cut short, silent, too loud, shorter than 0.1 s or holds NaN.
    """
    import soundfile

    path = Path(path)
    if not os.path.lexists(path):
        raise FileNotFoundError(f"There is no audio file {path}.")
    try:
        source, cut_short = _wav_source(path)
        with soundfile.SoundFile(source) as file:
            rate, expected = file.samplerate, file.frames
            wave = file.read(expected, dtype="float32", always_2d=True)
            sizes = re.findall(r"(?:SSND|Data Size|riff)\s*: (\d+) \(should be", file.extra_info)  # of AIFF, AU, W64
            cut_short |= any(int(size) < UNKNOWN for size in sizes) or file.seekable() and len(wave) < expected
    except OSError as error:
        raise AudioError(f"{path} can't be read ({error.strerror}).") from error
    except (RuntimeError, ValueError, TypeError) as error:  # soundfile's own are RuntimeErrors
        said = str(getattr(error, "error_string", error)).strip() if path.stat().st_size else "it is empty, 0 bytes"
        raise AudioError(f"{path} can't be decoded ({said}). Get it again, or convert it to WAV.") from error
    if cut_short:
        raise AudioError(f"{path} is cut short: its header promises more sound than it holds. Get it again.")
    mono, powers = wave.mean(axis=1), np.einsum("ij,ij->j", wave, wave)
    if np.dot(mono, mono) < CANCELLED * powers.max():
        mono = np.ascontiguousarray(wave[:, powers.argmax()])
    check_waveform(mono, rate, str(path))
    return mono, rate


def _wav_source(path: Path) -> tuple[Path | io.BytesIO, bool]:
    """What soundfile is to open, and whether a WAV's header promises more bytes of sound than the file holds.

    A stream has a size of 0 or a huge one; libsndfile reads the latter to the end of the file, but not the former.
    """
    with open(path, "rb") as raw:
        form, long = raw.read(12), 0
        order = ">" if form.startswith(b"RIFX") else "<"
        while form[8:] == b"WAVE" and len(head := raw.read(8)) == 8:
            name, size = struct.unpack(f"{order}4sI", head)
            start = raw.tell()
            if name == b"data":
                present = path.stat().st_size - start
                if size == 0 < present:
                    raw.seek(0)
                    content = raw.read()
                    return io.BytesIO(content[: start - 4] + b"\xff" * 4 + content[start:]), False
                return path, (long > present if size == 0xFFFFFFFF else present < size < UNKNOWN)
            if name == b"ds64":
                long = int.from_bytes(raw.read(16)[8:], "little")
            raw.seek(start + size + size % 2)
    return path, False


def check_waveform(wave: np.ndarray, rate: int, name: str) -> None:
    """Raise :class:`AudioError` where a mono waveform (samples,) at ``rate`` Hz holds no usable speech."""
    if len(wave) < SHORTEST_SECONDS * rate:
        raise AudioError(f"{name} lasts {len(wave) / rate:.3f} s; at least {SHORTEST_SECONDS} s are needed.")
    energy = np.dot(wave, wave)  # NaN and infinity pass through the sum
    if not np.isfinite(energy):
        raise AudioError(f"{name} holds NaN or infinite samples. Export it again as 16-bit PCM.")
    if energy > len(wave) * LOUDEST:
        raise AudioError(f"{name} is far louder than full scale: whole numbers in a floating-point file? "
                         "Export it again as 16-bit PCM.")
    if energy < len(wave) * SILENCE_PEAK**2 and (peak := np.abs(wave).max()) < SILENCE_PEAK:
        raise AudioError(f"{name} is silent (its peak is {peak:.1e} of full scale). Check the microphone or the file.")


def speech_bounds(wave: np.ndarray, rate: int, top_db: float) -> tuple[int, int]:
    """Where the speech of a waveform (samples,) begins and ends, in samples.

    It runs from the first to the last block of 20 ms whose power is within ``top_db`` dB of the loudest block's (the
    rule of ``librosa.effects.trim``, with blocks that do not overlap). Pauses inside belong to it.
    """
    block = max(rate // 50, 1)
    if not (count := len(wave) // block):
        return 0, len(wave)
    blocks = wave[: count * block].reshape(count, block)
    power = np.einsum("ij,ij->i", blocks, blocks)
    loud = np.flatnonzero(power > power.max() * 10 ** (-top_db / 10))
    return int(loud[0]) * block, (int(loud[-1]) + 1) * block


def resample(wave: np.ndarray, rate: int, target: int) -> np.ndarray:
    """Resample (samples,) from ``rate`` to ``target`` Hz with soxr at high quality, librosa's default."""
    import soxr

    return wave if rate == target else soxr.resample(wave, rate, target, "HQ")


def load_speech(path: str | os.PathLike, sample_rate: int, top_db: float) -> np.ndarray:
    """The speech of one recording: decoded, mono, trimmed, resampled to ``sample_rate`` Hz, (samples,).

    Raises as :func:`load`, and AudioError where all but a click of 20 ms is silence.
    """
    wave, rate = load(path)
    speech = wave[slice(*speech_bounds(wave, rate, top_db))]
    if len(speech) < 2 * (rate // 50):
        raise AudioError(f"{path} holds a click of {1000 * len(speech) / rate:.0f} ms and otherwise silence. "
                         "Cut the click out, or record again.")
    return resample(speech, rate, sample_rate)


def each(function: Callable, paths: Iterable[str], title: str, progress: bool = True) -> list:
    """``function(path)`` of many recordings in order, in one thread a core (decoding leaves Python's lock)."""
    from threadpoolctl import threadpool_limits

    paths = list(paths)
    with threadpool_limits(1), ThreadPoolExecutor(machine.cores()) as pool:
        return list(tqdm(pool.map(function, paths), total=len(paths), desc=title, unit="clip", disable=not progress,
                         file=sys.stdout, mininterval=0.5))
