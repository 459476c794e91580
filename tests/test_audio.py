import io
import struct
from unittest.mock import Mock

import librosa
import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

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
def test_load_gives_the_samples_of_wav_and_flac_and_the_mean_of_stereo(tmp_path, suffix):
    wave = speech()
    got, rate = audio.load(write(tmp_path / f"a.{suffix}", wave))
    assert rate == 48_000 and got.dtype == np.float32
    np.testing.assert_allclose(got, wave, atol=1 / 32_000)
    got, _ = audio.load(write(tmp_path / f"a.{suffix}", np.stack([wave, 0 * wave], axis=1)))
    np.testing.assert_allclose(got, wave / 2, atol=1 / 32_000)


@pytest.mark.parametrize("rate", [8_000, 22_050, 44_100, 96_000, 192_000])
def test_other_sample_rates_are_resampled(tmp_path, rate):
    got = audio.load_speech(write(tmp_path / "a.wav", speech(rate=rate), rate), 16_000, top_db=30)
    assert len(got) == pytest.approx(16_000, abs=700)
    spectrum = np.abs(np.fft.rfft(got))
    assert np.fft.rfftfreq(len(got), 1 / 16_000)[spectrum.argmax()] == pytest.approx(440, abs=2)
    np.testing.assert_allclose(audio.resample(speech(), rate, 16_000),
                               librosa.resample(speech(), orig_sr=rate, target_sr=16_000, scale=False), atol=1e-6)


def test_trim_agrees_with_librosa_within_two_blocks_and_keeps_pauses_inside():
    rng = np.random.default_rng(0)
    wave = speech() + 1e-4 * rng.normal(size=len(speech())).astype(np.float32)
    block = 48_000 // 50
    _, (first, last) = librosa.effects.trim(wave, top_db=30, frame_length=block, hop_length=block)
    assert np.abs(np.subtract(audio.speech_bounds(wave, 48_000, 30), (first, last))).max() <= 2 * block
    wave = np.concatenate([speech(lead=0), np.zeros(24_000, np.float32), speech(lead=0)])
    assert audio.speech_bounds(wave, 48_000, 30) == (0, len(wave))


# WAV headers: what recorders, editors and pipes write

WIDTHS = {"PCM_U8": 1, "PCM_16": 2, "PCM_24": 3, "PCM_32": 4, "FLOAT": 4, "DOUBLE": 8, "ULAW": 1, "ALAW": 1}
TAGS = {"FLOAT": 3, "DOUBLE": 3, "ALAW": 6, "ULAW": 7}


def wav(subtype="PCM_16", frames=4_801, channels=1, rate=8_000, form="RIFF", before=(), after=(), data_size=None,
        riff_size=None, pad=True):
    """The bytes of a WAV file of noise, its header written as asked; sizes are the right ones where not given."""
    order, width = ">" if form == "RIFX" else "<", WIDTHS[subtype]
    data = np.random.default_rng(0).integers(0, 256, frames * channels * width, np.uint8).tobytes()
    if subtype in ("FLOAT", "DOUBLE"):
        kind = np.dtype(f"{order}f{width}")
        data = np.random.default_rng(0).uniform(-0.9, 0.9, frames * channels).astype(kind).tobytes()

    def chunk(name, content, size=None):
        return struct.pack(f"{order}4sI", name, len(content) if size is None else size) + content + b"\0" * (
            len(content) % 2 if pad else 0)

    head = struct.pack(f"{order}HHIIHH", TAGS.get(subtype, 1), channels, rate, rate * width * channels,
                       width * channels, 8 * width)
    body = b"WAVE"
    if form == "RF64":
        body += chunk(b"ds64", struct.pack("<QQQI", 0, len(data), frames, 0))
    body += chunk(b"fmt ", head) + b"".join(chunk(name, content) for name, content in before)
    size = 0xFFFFFFFF if form == "RF64" else data_size
    start = 8 + len(body) + 8
    body += chunk(b"data", data, size) + b"".join(chunk(name, content) for name, content in after)
    riff = 0xFFFFFFFF if form == "RF64" else len(body) if riff_size is None else riff_size
    return struct.pack(f"{order}4sI", form.encode(), riff) + body, start, len(data)


CHUNKS = st.lists(st.tuples(st.sampled_from([b"LIST", b"JUNK", b"bext", b"fact", b"cue ", b"abcd"]),
                            st.binary(max_size=40)), max_size=2)
HEADERS = st.fixed_dictionaries({
    "subtype": st.sampled_from(sorted(WIDTHS)), "frames": st.integers(1_600, 3_000), "channels": st.integers(1, 3),
    "rate": st.sampled_from([8_000, 11_025, 16_000]), "form": st.sampled_from(["RIFF", "RIFX", "RF64"]),
    "before": CHUNKS, "after": CHUNKS, "riff_size": st.sampled_from([None, 0, 0x7FFFFFFF, 0xFFFFFFFF, 36, 100_000])})


@settings(max_examples=100, deadline=None, database=None, derandomize=True)
@given(HEADERS, st.floats(0, 1))
def test_whatever_soundfile_reads_whole_loads_whole_and_cut_short_is_refused_by_name(tmp_path_factory, header, share):
    path = tmp_path_factory.getbasetemp() / "some.wav"
    content, start, size = wav(**header)
    path.write_bytes(content[: start + int(share * (size - 1))])
    with pytest.raises(audio.AudioError, match="some.wav"):
        audio.load(path)
    path.write_bytes(content)
    try:
        soundfile.info(path)
    except soundfile.LibsndfileError:  # RF64 with some chunks
        with pytest.raises(audio.AudioError, match="some.wav can't be decoded"):
            audio.load(path)
    else:
        assert len(audio.load(path)[0]) == header["frames"]


@pytest.mark.parametrize("subtype, header", [
    *((subtype, {"data_size": size, "riff_size": size}) for subtype in ("PCM_16", "PCM_24", "FLOAT")
      for size in (0, 0x7FFFFFFF, 0x7FFFF000, 0xFFFFFFFF - 36, 0xFFFFFFFF)),
    *((subtype, {"pad": pad}) for subtype in ("PCM_24", "PCM_U8", "ULAW", "ALAW") for pad in (True, False))])
def test_a_stream_of_unknown_length_and_an_odd_number_of_bytes_load_to_the_end(tmp_path, subtype, header):
    (tmp_path / "a.wav").write_bytes(wav(subtype, **header)[0])
    assert len(audio.load((tmp_path / "a.wav").rename(tmp_path / "\udcff.wav"))[0]) == 4_801
    assert audio.named("\udcff.wav") == "\ufffd.wav"


@pytest.mark.parametrize("kind", ["WAV/GSM610", "WAV/IMA_ADPCM", "WAV/G721_32", "AIFF/PCM_16", "AIFF/GSM610", "AU/ULAW",
                                  "W64/PCM_24", "CAF/ALAC_16", "OGG/VORBIS", "OGG/OPUS", "MP3/MPEG_LAYER_III"])
def test_formats_that_soundfile_reads_load_and_are_refused_when_cut(tmp_path, kind):
    form, subtype = kind.split("/")
    path = tmp_path / f"a.{form.lower()}"
    soundfile.write(path, 0.3 * np.sin(np.arange(48_000) / 5), 48_000, format=form, subtype=subtype)
    assert len(audio.load(path)[0]) == pytest.approx(48_000, abs=1_200)  # whole blocks
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    with pytest.raises(audio.AudioError, match=path.name):
        audio.load(path)


def test_a_closed_file_and_one_that_does_not_say_its_length_are_refused(tmp_path):
    for closed in (io.BytesIO(b"RIFF"), open(__file__, "rb")):
        closed.close()
        with pytest.raises(audio.AudioError, match="closed file"):
            audio.load(closed)
    soundfile.write(tmp_path / "a.flac", np.zeros(8000), 8000)
    content = bytearray((tmp_path / "a.flac").read_bytes())
    content[21] &= 0xF0
    content[22:26] = bytes(4)  # the number of samples, as an encoder leaves it that writes to a pipe
    with pytest.raises(audio.AudioError, match="does not say how long it is"):
        audio.load(bytes(content))


def test_what_is_there_but_unreadable_is_not_called_missing(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match="gone.wav"):
        audio.load(tmp_path / "gone.wav")
    (tmp_path / "link.wav").symlink_to(tmp_path / "gone.wav")
    for unreadable in (tmp_path, tmp_path / "link.wav"):
        with pytest.raises(audio.AudioError, match="can't be read"):
            audio.load(unreadable)
    path = write(tmp_path / "a.wav", speech())
    monkeypatch.setattr("builtins.open", Mock(side_effect=PermissionError(13, "Permission denied")))
    with pytest.raises(audio.AudioError, match="a.wav can't be read .Permission denied"):
        audio.load(path)


@pytest.mark.parametrize("channels", [(1, -1), (-1, 1), (1, -1.05), (1, -0.5, -0.5)])
def test_channels_that_cancel_each_other_leave_the_loudest(tmp_path, channels):
    wave = 0.8 * speech()
    got, _ = audio.load(write(tmp_path / "a.wav", np.stack([c * wave for c in channels], axis=1), subtype="PCM_24"))
    loudest = max(channels, key=abs)
    np.testing.assert_allclose(got, loudest * wave, atol=1e-4)
