"""A small corpus of made-up speech in RAVDESS's own layout, for tests and for machines without RAVDESS.

Harmonics and noise through three moving formants, those of Peterson and Barney (1952). The eight emotions differ in
pitch, pitch range, tempo, energy, spectral tilt and breathiness, in the directions of the published tables on vocal
expression: Murray and Arnott (1993, J. Acoust. Soc. Am. 93, 1097) and Juslin and Laukka (2003, Psychol. Bull. 129, 770;
their tenderness stands for calm). Surprise has the wide range and steep final rise of an astonished question. Strong
intensity doubles the effects. Voices, takes and recording levels vary, so that the emotions overlap.

Nothing measured on this corpus says anything about real speech.
"""

import json
import os
import shutil
from collections import namedtuple
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import numpy as np
from scipy.io import wavfile
from scipy.ndimage import uniform_filter1d
from tqdm import tqdm

from ser_utils import machine
from ser_utils.data.download import alone
from ser_utils.data.names import parse_name, speech_names
from ser_utils.data.ravdess import MARKER

VERSION = 2  # of the synthesiser: a corpus made by another one is made anew
RATE = 16000
STEP = 240  # samples between two settings of the formants: 15 ms


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
    "surprised": Style(3.0, 2.2, 1.02, 2.0, 0.4, 0.12, 5.0),
}


# One speaker: pitch (Hz), scale of the formants (length of the vocal tract), ..., gain (dB: distance and recording
# level), and of each emotion how much of each effect this speaker shows.
Voice = namedtuple("Voice", "pitch scale tempo tilt gain habits")
# One speech sound: three formants of a male voice (Hz), seconds, amplitude of the voice and of the friction.
Phone = namedtuple("Phone", "formants seconds voiced friction", defaults=(0.0,))
PHONES = {
    "ih": Phone((390, 1990, 2550), 0.09, 1.0), "aa": Phone((730, 1090, 2440), 0.13, 1.0),
    "ao": Phone((570, 840, 2410), 0.15, 1.0), "er": Phone((490, 1350, 1690), 0.12, 0.9),
    "uh": Phone((640, 1190, 2390), 0.07, 0.8), "ng": Phone((280, 1900, 2600), 0.09, 0.4),
    "d": Phone((300, 1700, 2600), 0.05, 0.15, 0.05), "b": Phone((250, 900, 2300), 0.05, 0.15, 0.03),
    "g": Phone((250, 1800, 2200), 0.05, 0.15, 0.04), "dh": Phone((300, 1400, 2500), 0.05, 0.35, 0.04),
    "z": Phone((300, 1700, 2500), 0.09, 0.25, 0.15), "s": Phone((300, 1700, 2500), 0.12, 0.0, 0.25),
    "t": Phone((300, 1800, 2600), 0.07, 0.0, 0.18), "k": Phone((300, 1900, 2400), 0.08, 0.0, 0.15),
}
SENTENCES = ("k ih d z aa er t ao k ih ng b aa ih dh uh d ao er".split(),
             "d ao g z aa er s ih t ih ng b aa ih dh uh d ao er".split())


def small_names() -> list[str]:
    """Three clips an actor and emotion, two of neutral (552 in all), sorted; a pair of repetitions in every emotion."""
    kept = ("-01-01-01-", "-01-01-02-", "-02-02-01-")  # intensity, statement, repetition
    return [name for name in speech_names() if name[8:18] in kept]


def make_corpus(root: str | os.PathLike, names: Iterable[str] | None = None, progress: bool = True) -> Path:
    """Write the synthetic corpus as 16-bit WAV files Actor_XX/03-01-....wav, unless it is there already.

    ``names``: which clips (stems), default all 1,440. The same names give the same bytes. The corpus is made beside
    ``root`` and takes its place when it is complete, so that a run killed half-way is simply run again; of two runs at
    once the second waits for the first. Returns ``root``. Raises ValueError when a name is none of RAVDESS's speech,
    and FileExistsError when ``root`` holds something else than a synthetic corpus.
    """
    from joblib import Parallel, delayed

    root, clips = Path(root).resolve(), sorted(speech_names() if names is None else names)
    recipe, partial = {"version": VERSION, "rate": RATE, "clips": clips}, root.with_name(f".{root.name}-partial")
    if _recipe(root) == recipe:
        return root
    with alone(root):
        found = _recipe(root)
        if found == recipe:
            return root
        if found is None and root.exists() and any(root.iterdir()):
            raise FileExistsError(f"{root} holds something else than a synthetic corpus: name another folder.")
        shutil.rmtree(partial, ignore_errors=True)
        try:
            work = Parallel(n_jobs=min(machine.cores(), 1 + len(clips) // 100), return_as="generator_unordered")(
                delayed(_write)(partial, name) for name in clips)
            for _ in tqdm(work, total=len(clips), desc="synthetic corpus", unit="clip", disable=not progress):
                pass
            (partial / MARKER).write_text(json.dumps(recipe))
            shutil.rmtree(root, ignore_errors=True)
            os.replace(partial, root)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return root


def _recipe(root: Path) -> dict | None:
    """What a finished synthetic corpus was made from, or None."""
    try:
        return json.loads((root / MARKER).read_text())
    except (OSError, ValueError):
        return None


def _write(root: Path, name: str) -> None:
    samples, folder = synthesise(name), root / f"Actor_{name[-2:]}"
    folder.mkdir(parents=True, exist_ok=True)
    wavfile.write(folder / f"{name}.wav", RATE, samples)


@cache
def voice(actor: int) -> Voice:
    """The voice of an actor (1-24): odd numbers male, even ones female, always the same."""
    rng = np.random.default_rng([VERSION, actor])
    female = actor % 2 == 0
    return Voice(
        pitch=(200.0 if female else 115.0) * 2 ** (rng.normal(0, 2.0) / 12),
        scale=(1.16 if female else 1.0) * np.exp(rng.normal(0, 0.03)),
        tempo=np.exp(rng.normal(0, 0.06)),
        tilt=rng.normal(0, 0.6),
        gain=rng.normal(0, 2.0),
        habits={emotion: rng.normal(1.0, 0.35, size=len(Style._fields)) for emotion in STYLES},
    )


def synthesise(name: str) -> np.ndarray:
    """One clip as int16 samples, mono, about 3 to 4 s with near-silence at both ends.

    ``name`` is the stem of a speech clip; raises ValueError for any other name.
    """
    info = parse_name(name)
    if info["modality"] != "audio" or info["channel"] != "speech":
        raise ValueError(f"'{name}' is no audio-only speech clip (03-01-...).")
    rng = np.random.default_rng([VERSION, *map(int, name.split("-"))])
    speaker = voice(info["actor"])
    style = _style(info, speaker, rng)
    speech = _speak([PHONES[phone] for phone in SENTENCES[info["statement"] - 1]], speaker, style, rng)
    loudness = 10 ** ((-31.0 + speaker.gain + style.energy + rng.normal(0, 1.5)) / 20)
    speech *= min(loudness / np.sqrt(np.mean(speech**2)), 0.95 / np.abs(speech).max())  # never clipped
    before, after = (int(rng.uniform(0.75, 1.15) * RATE) for _ in range(2))
    waveform = np.concatenate([np.zeros(before), speech, np.zeros(after)])
    waveform += rng.normal(0, 10 ** (-72 / 20), len(waveform))
    return np.round(np.clip(waveform, -1, 1) * 32767).astype("<i2")


def _style(info: dict, speaker: Voice, rng: np.random.Generator) -> Style:
    """The emotion's effects as this speaker shows them in this take."""
    base = np.array(STYLES[info["emotion"]])
    neutral = np.array(STYLES["neutral"])
    strength = 1.6 if info["intensity"] == "strong" else 0.8
    take = rng.normal(1.0, 0.25, size=len(base))
    style = Style(*(neutral + (base - neutral) * strength * speaker.habits[info["emotion"]] * take))
    drift = rng.normal(0, 0.7)  # no two takes have quite the same pitch
    return style._replace(pitch=style.pitch + drift, tempo=max(style.tempo, 0.55), spread=max(style.spread, 0.2))


def _pitch(frames: int, speaker: Voice, style: Style, rng: np.random.Generator) -> np.ndarray:
    """The intonation, hertz a frame: declination, two accents, slow wandering and the final movement."""
    time = np.linspace(0, 1, frames)
    accents = sum(height * np.exp(-(((time - place) / 0.09) ** 2))
                  for place, height in ((0.12, 2.5), (0.42 + rng.normal(0, 0.02), 2.0)))
    wandering = 0.4 * np.sin(2 * np.pi * (rng.uniform(1, 3) * time + rng.uniform()))
    final = style.final * np.clip((time - 0.75) / 0.25, 0, 1) ** 1.5
    semitones = style.pitch + style.spread * (1.0 - 2.0 * time + accents + wandering) + final
    return np.clip(speaker.pitch * 2 ** (semitones / 12), 60, 600)


def _speak(phones: list[Phone], speaker: Voice, style: Style, rng: np.random.Generator) -> np.ndarray:
    """The sentence without the silence around it, (samples,), unscaled: a sum of harmonics, and noise."""
    seconds = np.array([phone.seconds for phone in phones]) * np.exp(rng.normal(0, 0.10, len(phones)))
    seconds[-2:] *= 1.5  # the last syllable is lengthened
    counts = np.maximum(2, np.round(seconds / (speaker.tempo * style.tempo) * RATE / STEP)).astype(int)
    sounds = np.repeat([(*phone.formants, phone.voiced, phone.friction) for phone in phones], counts, axis=0)
    *formants, voiced, friction = uniform_filter1d(sounds, 3, axis=0, mode="nearest").T  # one value every STEP
    pitch = _pitch(len(sounds), speaker, style, rng)
    time = np.arange(len(sounds) * STEP) / STEP

    def dense(values: np.ndarray) -> np.ndarray:
        """A value every STEP -> a value a sample."""
        return np.interp(time, np.arange(len(sounds)), values)

    fundamental = np.exp(2j * np.pi * np.cumsum(dense(pitch)) / RATE)
    speech, harmonic = np.zeros(len(time)), np.ones(len(time))
    for number in range(1, int(0.45 * RATE / pitch.min())):
        harmonic = harmonic * fundamental
        frequency = number * pitch
        resonance = sum(1 / (1 + ((frequency - speaker.scale * formant) / 100) ** 2) for formant in formants)
        slope = (speaker.tilt + style.tilt) / 6 - 0.5  # 6 dB are a doubling
        gain = (0.02 + resonance) * (frequency / 500) ** slope * (frequency < 0.45 * RATE)
        speech += dense(gain) * harmonic.real
    breath = np.clip(style.breath, 0.005, 0.4)
    noise = rng.normal(size=len(time))
    speech = dense(voiced) * ((1 - breath) * speech / speech.std() + breath * noise)
    return speech + dense(friction) * np.diff(noise, prepend=0)
