"""RAVDESS's file names."""

import contextlib
from itertools import product

import pytest

from ser_utils import EMOTIONS
from ser_utils.data import names as ravdess

NAMES = ravdess.speech_names()


def test_the_corpus_has_7356_names_of_which_1440_are_speech():
    parsed = []
    for codes in product(*(ravdess.CODES[:len(values)] for values in ravdess.FIELDS.values())):
        with contextlib.suppress(ValueError):  # was never recorded
            parsed.append(ravdess.parse_name("-".join(codes)))
    assert len(parsed) == 7356
    assert [info["clip"] for info in parsed if info["clip"].startswith("03-01-")] == NAMES
    emotions = [ravdess.parse_name(name)["emotion"] for name in NAMES]
    assert [emotions.count(emotion) for emotion in EMOTIONS] == [96, *[192] * 7] and len(NAMES) == 1440


def test_every_field_is_read():
    assert ravdess.parse_name("data/Actor_16/03-01-05-02-01-02-16.wav") == {
        "clip": "03-01-05-02-01-02-16", "modality": "audio", "channel": "speech", "emotion": "angry",
        "label": 4, "intensity": "strong", "statement": 1, "repetition": 2, "actor": 16, "gender": "female"}
    assert ravdess.parse_name("01-02-06-01-02-01-23.mp4") == {
        "clip": "01-02-06-01-02-01-23", "modality": "audio-video", "channel": "song", "emotion": "fearful",
        "label": 5, "intensity": "normal", "statement": 2, "repetition": 1, "actor": 23, "gender": "male"}


@pytest.mark.parametrize(("name", "fault"), [
    ("00-01-05-01-01-01-01.wav", "modality field is '00', not 01 to 03"),
    ("03-03-05-01-01-01-01.wav", "vocal channel field is '03', not 01 to 02"),
    ("03-01-05-01-01-01-25.wav", "actor field is '25', not 01 to 24"),
    ("03-01-5-01-01-01-01.wav", "emotion field is '5'"), ("03-01-05-01-01-01-01.wav.part", "actor field is '01.wav'"),
    ("03-01-05-01-01-01-01 (1).wav", "actor field is '01 \\(1\\)'"), ("03-01-٠٥-01-01-01-01.wav", "emotion field"),
    ("03-01-05-01-01-01.wav", "6 field\\(s\\), not 7"), ("song.wav", "1 field\\(s\\), not 7"), ("", "field"),
    ("03-01-01-02-01-01-01.wav", "neutral has no strong"),
    ("03-02-07-01-01-01-01.wav", "disgust and surprised were not sung"),
    ("03-02-05-01-01-01-18.wav", "actor 18 did not sing")])
def test_a_wrong_name_is_shown_with_its_fault_and_the_convention(name, fault):
    with pytest.raises(ValueError, match=fault) as caught:
        ravdess.parse_name(name)
    assert f"'{name}'" in str(caught.value)
    assert "modality-channel-emotion-intensity-statement-repetition-actor" in str(caught.value)
