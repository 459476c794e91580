import librosa
import numpy as np
import pytest
import soundfile

from ser_utils.features import audio


def speech(seconds=1.0, rate=48_000, lead=0.5):
    """A tone between two stretches of silence."""
    silence = np.zeros(int(lead * rate), np.float32)
    tone = 0.3 * np.sin(2 * np.pi * 440 * np.arange(int(seconds * rate)) / rate)
    return np.concatenate([silence, tone.astype(np.float32), silence])


def write(path, wave, rate=48_000, **options):
    soundfile.write(path, wave, rate, **options)
    return path


@pytest.mark.parametrize("suffix", ["wav", "flac"])
def test_load_gives_the_samples_of_wav_and_flac(tmp_path, suffix):
    wave = speech()
    got, rate = audio.load(write(tmp_path / f"a.{suffix}", wave))
    assert rate == 48_000 and got.dtype == np.float32
    np.testing.assert_allclose(got, wave, atol=1 / 32_000)


def test_stereo_is_averaged(tmp_path):
    wave = speech()
    got, _ = audio.load(write(tmp_path / "a.wav", np.stack([wave, 0 * wave], axis=1)))
    np.testing.assert_allclose(got, wave / 2, atol=1 / 32_000)


@pytest.mark.parametrize("rate", [8_000, 22_050, 44_100])
def test_other_sample_rates_are_resampled(tmp_path, rate):
    got = audio.load_speech(write(tmp_path / "a.wav", speech(rate=rate), rate), 16_000, top_db=30)
    assert len(got) == pytest.approx(16_000, abs=700)
    spectrum = np.abs(np.fft.rfft(got))
    assert np.fft.rfftfreq(len(got), 1 / 16_000)[spectrum.argmax()] == pytest.approx(440, abs=2)


def test_resample_is_librosas():
    wave = speech()
    np.testing.assert_allclose(audio.resample(wave, 48_000, 16_000),
                               librosa.resample(wave, orig_sr=48_000, target_sr=16_000, scale=False), atol=1e-6)


def test_trim_agrees_with_librosa_within_two_blocks():
    rng = np.random.default_rng(0)
    wave = speech() + 1e-4 * rng.normal(size=len(speech())).astype(np.float32)
    block = 48_000 // 50
    _, (first, last) = librosa.effects.trim(wave, top_db=30, frame_length=block, hop_length=block)
    got = audio.trim(wave, 48_000, 30)
    start = np.flatnonzero(wave == got[0])[0]
    assert abs(start - first) <= 2 * block and abs(start + len(got) - last) <= 2 * block


def test_trim_keeps_pauses_inside():
    wave = np.concatenate([speech(lead=0), np.zeros(24_000, np.float32), speech(lead=0)])
    assert len(audio.trim(wave, 48_000, 30)) == len(wave)


def test_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="gone.wav"):
        audio.load(tmp_path / "gone.wav")


def damaged(tmp_path, how):
    path = tmp_path / f"{how}.wav"
    if how == "empty":
        path.touch()
    elif how == "noise":
        path.write_bytes(b"not audio at all" * 100)
    elif how == "truncated":
        write(path, speech())
        path.write_bytes(path.read_bytes()[:60_000])
    elif how == "silent":
        write(path, np.zeros(48_000, np.float32))
    elif how == "short":
        write(path, speech()[24_000:24_400])
    else:
        wave = speech()
        wave[30_000] = {"nan": np.nan, "infinite": np.inf}[how]
        write(path, wave, subtype="FLOAT")
    return path


@pytest.mark.parametrize("how, said", [("empty", "empty"), ("noise", "can't be decoded"), ("truncated", "cut short"),
                                       ("silent", "silent"), ("short", "lasts 0.0"), ("nan", "NaN or infinite"),
                                       ("infinite", "NaN or infinite")])
def test_a_bad_recording_is_named_with_its_fault(tmp_path, how, said):
    with pytest.raises(audio.AudioError, match=said) as caught:
        audio.load(damaged(tmp_path, how))
    assert f"{how}.wav" in str(caught.value)


def test_truncated_flac_is_refused(tmp_path):
    rng = np.random.default_rng(0)
    path = write(tmp_path / "a.flac", (speech() + 0.01 * rng.normal(size=len(speech()))).astype(np.float32))
    path.write_bytes(path.read_bytes()[:30_000])
    with pytest.raises(audio.AudioError, match="a.flac"):
        audio.load(path)
