"""RAVDESS on disk: the index, the checksums, the command line."""

import hashlib
import os

import numpy as np
import pandas as pd
import pytest
import soundfile as sf
from fakes import waveform, write_clips

from ser_utils import paths
from ser_utils.data import ravdess

NAMES = ravdess.speech_names()


# index

@pytest.mark.parametrize("suffix", [".wav", ".flac", ".WAV"])
@pytest.mark.parametrize("flat", [True, False])
@pytest.mark.parametrize("folder", ["", "Audio_Speech_Actors_01-24", "RAVDESS/audio", "archive/a b", "angry"])
def test_index_reads_wav_and_flac_in_actor_folders_or_flat_up_to_two_folders_deeper(tmp_path, suffix, flat, folder):
    write_clips(tmp_path / folder, NAMES[::360], suffix, flat)
    table = ravdess.index(tmp_path)
    assert table["clip"].tolist() == NAMES[::360]
    assert table.columns.tolist() == ["clip", "path", "modality", "channel", "emotion", "label", "intensity",
                                      "statement", "repetition", "actor", "gender"]
    for row in table.itertuples():
        assert row.path.endswith(f"{row.clip}{suffix}") and os.path.isfile(row.path)
        assert row.emotion == ravdess.EMOTIONS[row.label]


def test_a_complete_copy_deeper_fills_up_a_partial_one_and_a_copy_of_made_up_clips_does_not(tmp_path):
    write_clips(tmp_path, NAMES[:2])
    write_clips(tmp_path / "Audio_Speech_Actors_01-24", NAMES[:5])
    write_clips(tmp_path / "synthetic", NAMES[:9])
    (tmp_path / "synthetic" / ravdess.MARKER).touch()
    table = ravdess.index(tmp_path)
    assert table["clip"].tolist() == NAMES[:5]
    assert ["Audio_Speech" in path for path in table["path"]] == [False, False, True, True, True]


def test_index_prefers_wav_ignores_hidden_files_and_other_things_and_lists_audio_of_other_names(tmp_path):
    others = ["03-01-05-01-01-01-01 (1)", "03-01-09-01-01-01-01", "03-02-05-01-01-01-01", "take two"]
    write_clips(tmp_path, NAMES[:2], ".flac")
    write_clips(tmp_path, NAMES[1:3], ".wav")
    for name in (*others, f"._{NAMES[0]}"):
        (tmp_path / "Actor_01" / f"{name}.wav").touch()
    (tmp_path / ".partial" / "Actor_01").mkdir(parents=True)
    (tmp_path / "readme.txt").write_text("hello")
    table = ravdess.index(tmp_path)
    assert table["clip"].tolist() == NAMES[:3]
    assert [path[-4:] for path in table["path"]] == ["flac", ".wav", ".wav"]
    assert [path.stem for path in ravdess.files(tmp_path).others] == others


def test_what_cannot_be_read_is_not_called_missing(tmp_path, monkeypatch):
    write_clips(tmp_path, NAMES[:2])
    (tmp_path / f"{NAMES[5]}.wav").symlink_to(tmp_path / "gone.wav")
    found = ravdess.files(tmp_path)
    assert [path.stem for path in found.unreadable] == [NAMES[5]] and "links to nothing" in found.say_unreadable()
    assert f"{NAMES[5]}.wav" in str(ravdess.validate(tmp_path))
    within = os.scandir

    def locked(folder):
        if os.path.basename(folder) == shut:
            raise PermissionError(13, "Permission denied", str(folder))
        return within(folder)

    monkeypatch.setattr(os, "scandir", locked)
    shut = "Actor_01"
    assert len(ravdess.index(tmp_path)) == 1
    assert "2 files or folders there can't be read" in ravdess.files(tmp_path).say_unreadable()
    shut = tmp_path.name
    with pytest.raises(PermissionError, match="no permission"):
        ravdess.index(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(PermissionError, match="no folder"):
        ravdess.index(tmp_path / "file")


def test_a_missing_or_empty_folder_or_clips_too_deep_say_what_to_do(tmp_path):
    write_clips(tmp_path / "deep" / "a" / "b" / "c", NAMES[:1])
    write_clips(tmp_path / "sung", ["03-02-05-01-01-01-01"])
    (tmp_path / "empty").mkdir()
    for name, said in (("deep", "up to 3 folders deeper"), ("nowhere", "No RAVDESS folder"),
                       ("empty", "No speech clips"), ("sung", "No speech clips")):
        with pytest.raises(FileNotFoundError, match=f"{said}.*RAVDESS_DIR.*data/ravdess.*make data") as caught:
            ravdess.index(tmp_path / name)
        assert str(tmp_path / name) in str(caught.value)
    with pytest.raises(FileNotFoundError, match="make data"):
        ravdess.validate(tmp_path / "nowhere")


def test_the_root_is_the_environments_or_the_checkouts(monkeypatch, tmp_path):
    monkeypatch.setenv("RAVDESS_DIR", str(tmp_path))
    assert ravdess.default_root() == tmp_path
    monkeypatch.setenv("RAVDESS_DIR", "~/speech")
    assert ravdess.default_root() == tmp_path.home() / "speech"
    monkeypatch.setenv("RAVDESS_DIR", "")
    assert ravdess.default_root() == paths.DATA / "ravdess"
    monkeypatch.setattr(paths, "ROOT", tmp_path / "checkout")
    (tmp_path / "checkout" / "notebooks").mkdir(parents=True)
    (tmp_path / "speech").mkdir()
    for place in ("checkout", "checkout/notebooks"):  # a relative root counts from here or else from the checkout
        monkeypatch.chdir(tmp_path / place)
        monkeypatch.setenv("RAVDESS_DIR", "../speech")
        assert ravdess.default_root().resolve() == tmp_path / "speech"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RAVDESS_DIR", "speech")
    assert ravdess.default_root() == tmp_path / "speech"


# checksums

def test_the_versioned_table_has_the_known_facts():
    table = ravdess.reference()
    assert table["clip"].tolist() == NAMES and set(table["rate"]) == {48000}
    assert set(table.loc[table["channels"] == 2, "clip"]) == {
        "03-01-02-01-01-02-01", "03-01-02-01-02-02-05", "03-01-03-01-02-01-20", "03-01-06-01-01-02-20",
        "03-01-08-01-02-02-01"}
    seconds = table["samples"] / table["rate"]
    assert [round(value, 2) for value in (seconds.min(), seconds.max(), seconds.sum() / 60)] == [2.94, 5.27, 88.82]
    assert table["sha256"].str.fullmatch("[0-9a-f]{64}").all()


@pytest.mark.parametrize("suffix", ["wav", "flac"])
def test_wav_and_flac_have_the_same_checksum_and_it_is_of_the_samples(tmp_path, suffix):
    stereo = np.stack([waveform(NAMES[0]), waveform(NAMES[1])], axis=1)
    sf.write(tmp_path / f"clip.{suffix}", stereo, 48000, subtype="PCM_16")
    assert ravdess.describe(tmp_path / f"clip.{suffix}") == {
        "samples": 64, "rate": 48000, "channels": 2, "sha256": hashlib.sha256(stereo.tobytes()).hexdigest()}


@pytest.mark.parametrize("subtype", ["FLOAT", "DOUBLE", "PCM_24", "PCM_32"])
def test_lossless_copies_have_the_same_checksum_and_others_do_not(tmp_path, subtype):
    wave = waveform(NAMES[0]).astype(float)
    sf.write(tmp_path / "a.wav", wave.astype("int16"), 48000)
    expected = ravdess.describe(tmp_path / "a.wav")
    for factor, same in ((1 / 32768, True), (1.0, False), (0.9 / 32768, False), (1.0001 / 32768, False)):
        if factor * np.abs(wave).max() <= 1 or subtype in ("FLOAT", "DOUBLE"):
            sf.write(tmp_path / "copy.wav", factor * wave, 48000, subtype=subtype)
            assert (ravdess.describe(tmp_path / "copy.wav") == expected) == same


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """Six clips in Actor folders, which are all that the table of checksums knows."""
    root = write_clips(tmp_path / "toy", NAMES[::240])
    rows = pd.DataFrame([{"clip": path.stem} | ravdess.describe(path) for path in sorted(root.rglob("*.wav"))])
    monkeypatch.setattr(ravdess, "reference", lambda: rows)
    return root


@pytest.mark.parametrize("suffix, content", [
    (".wav", b""), (".wav", b"not audio"), (".wav", b"RIFF\x00\x00\x00\x00WAVE"), (".flac", b"fLaC" + bytes(40))])
def test_validate_reports_every_kind_of_fault(toy, suffix, content):
    assert ravdess.validate(toy) == ([], [], [], []) and ravdess.validate(toy).ok
    files = list(ravdess.files(toy).clips.values())
    if suffix == ".flac":
        for path in files:
            sf.write(path.with_suffix(".flac"), *sf.read(path, dtype="int16"), subtype="PCM_16")
            path.unlink()
        files = [path.with_suffix(".flac") for path in files]
        assert ravdess.validate(toy).ok
    gone, no_audio, cut, changed, resampled, whole = files
    gone.unlink()
    no_audio.write_bytes(content)
    cut.write_bytes(cut.read_bytes()[:-20])
    sf.write(changed, waveform(changed.stem)[::-1], 48000, subtype="PCM_16")
    sf.write(resampled, waveform(resampled.stem), 44100, subtype="PCM_16")
    (toy / f"notes{suffix}").write_bytes(b"not audio")
    found = ravdess.validate(toy)
    assert not found.ok and found.missing == [gone.stem] and found.unexpected == [str(toy / f"notes{suffix}")]
    reasons = dict(found.corrupt)
    assert set(reasons) == {no_audio.stem, cut.stem, changed.stem, resampled.stem}
    assert f"{no_audio} cannot be decoded" in reasons[no_audio.stem] and "differ" in reasons[changed.stem]
    assert "cannot be decoded" in reasons[cut.stem] or "samples" in reasons[cut.stem]
    assert "rate 44,100, expected 48,000" in reasons[resampled.stem]
    for part in (gone.stem, f"{no_audio.stem}: ", "1 missing", "4 corrupt", "notes"):
        assert part in str(found)


# terminal

def test_errors_on_the_command_line_are_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("RAVDESS_DIR", str(tmp_path / "nowhere"))
    assert ravdess.main(["validate"]) == 1
    said = capsys.readouterr()
    assert (said.out, said.err.count("\n")) == ("", 1) and f"error: No RAVDESS folder at {tmp_path}" in said.err
    monkeypatch.setattr(ravdess, "validate", lambda root: (_ for _ in ()).throw(KeyboardInterrupt))
    assert ravdess.main(["validate"]) == 130 and "stopped" in capsys.readouterr().err


def test_the_download_command_checks_a_complete_copy_instead(toy, monkeypatch, capsys):
    monkeypatch.setattr(ravdess, "speech_names", lambda: NAMES[::240])
    monkeypatch.setattr(ravdess, "download", lambda *_: pytest.fail("it needs no lock, and may lie where none can be"))
    assert ravdess.main(["download", str(toy)]) == 0
    next(toy.rglob("*.wav")).write_bytes(b"")
    assert ravdess.main(["download", str(toy)]) == 1 and "1 corrupt" in capsys.readouterr().err
