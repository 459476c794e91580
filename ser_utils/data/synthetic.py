"""A small corpus of made-up speech in RAVDESS's own layout, for tests and for machines without RAVDESS.

A buzz and noise through the three formants of one vowel after another (Peterson and Barney 1952). The eight emotions
differ in pitch, pitch range, tempo, energy, spectral tilt and breathiness, in the directions of the published tables on
vocal expression: Murray and Arnott (1993, J. Acoust. Soc. Am. 93, 1097) and Juslin and Laukka (2003, Psychol. Bull.
129, 770; their tenderness stands for calm). Surprise has the wide range and steep final rise of an astonished question.
Strong intensity doubles the effects. Voices, takes and recording levels vary, so that the emotions overlap.

Nothing measured on this corpus says anything about real speech.
"""

import json
import os
import shutil
from collections import namedtuple
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from scipy.io import wavfile
from scipy.signal import istft, sawtooth, stft
from tqdm import tqdm

from ser_utils.data.download import alone
from ser_utils.data.names import parse_name, speech_names
from ser_utils.data.ravdess import MARKER

VERSION = 3  # of the synthesiser: a corpus made by another one is made anew
RATE = 16000  # Hz

# How an emotion is spoken, relative to neutral: level of the pitch (semitones), its range (factor), speaking rate
# (factor), energy (dB), spectral slope (dB an octave; positive is brighter), share of breath in the voice, movement at
# the end of the sentence (semitones).
Style = namedtuple("Style", "pitch spread tempo energy tilt breath final")
STYLES = {
    "neutral": Style(0.0, 1.0, 1.00, 0.0, 0.0, 0.06, -1.0),
    "calm": Style(-0.6, 0.7, 0.90, -2.0, -1.2, 0.11, -1.0),
    "happy": Style(2.6, 1.8, 1.06, 3.0, 1.0, 0.09, 1.0),
    "sad": Style(-0.8, 0.7, 0.84, -4.0, -1.8, 0.15, -2.0),
    "angry": Style(2.0, 1.6, 1.12, 6.0, 2.2, 0.06, -1.5),
    "fearful": Style(3.6, 1.2, 1.18, 1.0, 0.5, 0.14, 0.0),
    "disgust": Style(-1.6, 1.2, 0.80, -1.0, 0.8, 0.08, -2.5),
    "surprised": Style(3.0, 2.2, 1.02, 2.0, 0.4, 0.12, 5.0)}
VOWELS = {"ih": (390, 1990, 2550), "aa": (730, 1090, 2440), "ao": (570, 840, 2410), "uh": (640, 1190, 2390)}  # Hz
SENTENCES = ("ih aa ao ih aa uh ao".split(), "ao aa ih ih aa uh ao".split())  # the vowels of RAVDESS's statements


def clip_names() -> list[str]:
    """Three clips an actor and emotion, two of neutral (552 in all), sorted; a pair of repetitions in every emotion."""
    kept = ("-01-01-01-", "-01-01-02-", "-02-02-01-")  # intensity, statement, repetition
    return [name for name in speech_names() if name[8:18] in kept]


def make_corpus(root: str | os.PathLike, names: Iterable[str] | None = None) -> Path:
    """Write the synthetic corpus as 16-bit WAV files Actor_XX/03-01-....wav, unless it is there already.

    ``names``: which clips, default those of :func:`clip_names`; the same names give the same bytes. It takes its place
    when it is complete; of two runs at once the second waits for the first. Returns ``root``. Raises ValueError for a
    name that is none of RAVDESS's speech, FileExistsError when ``root`` holds something else.
    """
    root, clips = Path(root).resolve(), sorted(names or clip_names())
    recipe, partial = json.dumps({"version": VERSION, "clips": clips}), root.with_name(f".{root.name}-partial")
    marker = root / MARKER
    if marker.exists() and marker.read_text() == recipe:  # even where nothing can be written
        return root
    with alone(root):
        made = marker.read_text() if marker.exists() else ""
        if made == recipe:
            return root
        if not made and root.exists() and any(root.iterdir()):
            raise FileExistsError(f"{root} holds something else than a synthetic corpus: name another folder.")
        shutil.rmtree(partial, ignore_errors=True)
        try:
            for name in tqdm(clips, desc="synthetic corpus", unit="clip"):
                path = partial / f"Actor_{name[-2:]}" / f"{name}.wav"
                samples = synthesise(name)
                path.parent.mkdir(parents=True, exist_ok=True)
                wavfile.write(path, RATE, samples)
            (partial / MARKER).write_text(recipe)
            shutil.rmtree(root, ignore_errors=True)
            os.replace(partial, root)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return root


def synthesise(name: str) -> np.ndarray:
    """One clip as int16 samples, mono, about 3 to 4 s with near-silence at both ends.

    ``name`` is the stem of a speech clip; raises ValueError for any other name.
    """
    info = parse_name(name)
    if info["modality"] != "audio" or info["channel"] != "speech":
        raise ValueError(f"'{name}' is no audio-only speech clip (03-01-...).")
    speaker = np.random.default_rng([VERSION, info["actor"]])  # always the same voice
    rng = np.random.default_rng([VERSION, *map(int, name.split("-"))])
    tract, level, gain = speaker.normal(0, (0.03, 2.0, 2.0))
    pitch, scale = (200.0, 1.16) if info["gender"] == "female" else (115.0, 1.0)
    habits = speaker.normal(1.0, 0.25, (len(STYLES), len(Style._fields)))[info["label"]]  # how much of each effect
    strength = (1.6 if info["intensity"] == "strong" else 0.8) * habits * rng.normal(1.0, 0.15, len(habits))
    neutral = np.array(STYLES["neutral"])
    style = Style(*neutral + (STYLES[info["emotion"]] - neutral) * strength)
    speech = _speak(SENTENCES[info["statement"] - 1], pitch * 2 ** ((level + rng.normal(0, 0.5)) / 12),
                    scale * np.exp(tract), style, rng)
    loudness = 10 ** ((-29.0 + gain + style.energy + rng.normal(0, 1.5)) / 20)
    speech *= min(loudness / speech.std(), 0.95 / np.abs(speech).max())  # never clipped
    waveform = np.pad(speech, rng.integers(12_000, 18_400, 2))
    waveform += rng.normal(0, 10 ** (-72 / 20), len(waveform))
    return np.round(np.clip(waveform, -1, 1) * 32767).astype("<i2")


def _speak(vowels: list[str], pitch: float, scale: float, style: Style, rng: np.random.Generator) -> np.ndarray:
    """The sentence without the silence around it, (samples,), unscaled.

    ``pitch``: the voice's, Hz; ``scale``: of its formants, by the length of the vocal tract.
    """
    seconds = 0.25 * np.exp(rng.normal(0, 0.1, len(vowels))) / max(style.tempo, 0.55)
    seconds[-1] *= 1.5  # the last syllable is lengthened
    time = np.arange(int(seconds.sum() * RATE)) / RATE
    place = np.interp(time, np.append(0, seconds.cumsum()), np.arange(len(vowels) + 1))  # in syllables
    whole = time / time[-1]
    accents = 2.5 * np.exp(-((whole - 0.12) / 0.09) ** 2) + 2 * np.exp(-((whole - 0.42) / 0.09) ** 2)
    semitones = (style.pitch + max(style.spread, 0.2) * (1 - 2 * whole + accents + 0.4 * np.sin(7 * place))
                 + style.final * np.clip(4 * whole - 3, 0, 1))
    voice = sawtooth(2 * np.pi * np.cumsum(np.clip(pitch * 2 ** (semitones / 12), 60, 600)) / RATE)
    breath, noise = np.clip(style.breath, 0.005, 0.4), rng.normal(size=len(time))
    open_mouth = np.sin(np.pi * (place % 1)) ** 0.5  # a consonant between two vowels: a weak voice and a hiss
    sound = open_mouth * ((1 - breath) * voice + breath * noise) + 0.05 * noise
    frequency, moments, spectrum = stft(sound, RATE, nperseg=512)
    syllable = np.interp(moments, time, place).astype(int)
    formants = scale * np.array([VOWELS[vowel] for vowel in vowels])[syllable]
    distance = frequency[:, None, None] - formants  # (frequencies, moments, formants)
    resonance = 0.02 + (1 / (1 + (distance / 100) ** 2)).sum(axis=2)
    slope = (np.maximum(frequency, 50) / 500) ** (style.tilt / 6 + 0.5)  # 6 dB are a doubling
    return istft(spectrum * resonance * slope[:, None], RATE, nperseg=512)[1]
