import hashlib
import io
import os
import signal
import subprocess
import sys
import threading
import time
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import soundfile as sf

from ser_utils import paths
from ser_utils.data import ravdess

NAMES = ravdess.speech_names()


def waveform(name, samples=64):
    rng = np.random.default_rng([int(part) for part in name.split("-")])
    return rng.integers(-2000, 2000, samples).astype(np.int16)


def write_clips(root, names, suffix=".wav", flat=False):
    for name in names:
        folder = root if flat else root / f"Actor_{name[-2:]}"
        folder.mkdir(parents=True, exist_ok=True)
        sf.write(folder / f"{name}{suffix}", waveform(name), 48000, subtype="PCM_16")
    return root


# --------------------------------------------------------------------------------------------- names


def test_the_corpus_has_7356_names():
    names = list(ravdess.all_names())
    assert len(names) == len(set(names)) == 7356
    assert names == sorted(names)
    parsed = [ravdess.parse_name(name) for name in names]
    for modality in ravdess.MODALITIES:
        of_it = [info["channel"] for info in parsed if info["modality"] == modality]
        assert (of_it.count("speech"), of_it.count("song")) == (24 * 60, 23 * 44)


def test_there_are_1440_speech_clips():
    emotions = [ravdess.parse_name(name)["emotion"] for name in NAMES]
    assert len(NAMES) == 1440
    assert {emotion: emotions.count(emotion) for emotion in ravdess.EMOTIONS} == {
        emotion: 96 if emotion == "neutral" else 192 for emotion in ravdess.EMOTIONS
    }


def test_every_field_is_read():
    assert ravdess.parse_name("data/Actor_16/03-01-05-02-01-02-16.wav") == {
        "clip": "03-01-05-02-01-02-16", "modality": "audio", "channel": "speech", "emotion": "angry",
        "label": 4, "intensity": "strong", "statement": 1, "repetition": 2, "actor": 16, "gender": "female",
    }
    sung = ravdess.parse_name("01-02-06-01-02-01-23.mp4")
    assert (sung["modality"], sung["channel"], sung["emotion"]) == ("audio-video", "song", "fearful")
    assert (sung["intensity"], sung["statement"], sung["repetition"]) == ("normal", 2, 1)
    assert (sung["actor"], sung["gender"]) == (23, "male")


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("00-01-05-01-01-01-01.wav", "modality field is '00', not 01 to 03"),
        ("03-03-05-01-01-01-01.wav", "vocal channel field is '03', not 01 to 02"),
        ("03-01-09-01-01-01-01.wav", "emotion field is '09', not 01 to 08"),
        ("03-01-05-03-01-01-01.wav", "intensity field is '03', not 01 to 02"),
        ("03-01-05-01-03-01-01.wav", "statement field is '03', not 01 to 02"),
        ("03-01-05-01-01-00-01.wav", "repetition field is '00', not 01 to 02"),
        ("03-01-05-01-01-01-25.wav", "actor field is '25', not 01 to 24"),
        ("03-01-5-01-01-01-01.wav", "emotion field is '5'"),
        ("03-01-05-01-01-01-01.wav.part", "actor field is '01.wav'"),
        ("03-01-05-01-01-01-01 (1).wav", "actor field is '01 \\(1\\)'"),
        ("03-01-٠٥-01-01-01-01.wav", "emotion field"),
        ("03-01-05-01-01-01.wav", "6 field\\(s\\), not 7"),
        ("song.wav", "1 field\\(s\\), not 7"),
        ("", "field"),
        ("03-01-01-02-01-01-01.wav", "neutral .* has no strong"),
        ("03-02-07-01-01-01-01.wav", "disgust, which was spoken but not sung"),
        ("03-02-08-01-01-01-01.wav", "surprised, which was spoken but not sung"),
        ("03-02-05-01-01-01-18.wav", "actor field is '18', who recorded no song"),
    ],
)
def test_a_wrong_name_is_shown_with_its_fault_and_the_convention(name, fault):
    with pytest.raises(ValueError, match=fault) as caught:
        ravdess.parse_name(name)
    assert f"'{name}'" in str(caught.value)
    assert "modality-channel-emotion-intensity-statement-repetition-actor" in str(caught.value)


# --------------------------------------------------------------------------------------------- index


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".WAV"])
@pytest.mark.parametrize("flat", [True, False])
def test_index_reads_wav_and_flac_in_actor_folders_or_flat(tmp_path, suffix, flat):
    names = NAMES[::97]
    table = ravdess.index(write_clips(tmp_path, names, suffix, flat))
    assert table["clip"].tolist() == names
    assert table.columns.tolist() == [
        "clip", "path", "modality", "channel", "emotion", "label", "intensity", "statement", "repetition",
        "actor", "gender",
    ]
    for row in table.itertuples():
        assert row.path.endswith(f"{row.clip}{suffix}") and os.path.isfile(row.path)
        assert row.emotion == ravdess.EMOTIONS[row.label]


def test_index_finds_an_archive_unpacked_with_its_own_name(tmp_path):
    write_clips(tmp_path / "Audio_Speech_Actors_01-24", NAMES[:3])
    assert len(ravdess.index(tmp_path)) == 3


def test_index_prefers_wav_and_ignores_hidden_files_song_and_other_things(tmp_path):
    write_clips(tmp_path, NAMES[:2], ".flac")
    write_clips(tmp_path, NAMES[1:3], ".wav")
    write_clips(tmp_path, ["03-02-05-01-01-01-01"])
    (tmp_path / "Actor_01" / "._03-01-01-01-01-01-01.wav").write_bytes(b"")
    (tmp_path / ".partial" / "Actor_01").mkdir(parents=True)
    (tmp_path / "readme.txt").write_text("hello")
    table = ravdess.index(tmp_path)
    assert table["clip"].tolist() == NAMES[:3]
    assert [path[-4:] for path in table["path"]] == ["flac", ".wav", ".wav"]


def test_index_names_a_misnamed_file(tmp_path):
    write_clips(tmp_path, NAMES[:2])
    sf.write(tmp_path / "Actor_01" / "take two.wav", waveform(NAMES[0]), 48000)
    with pytest.raises(ValueError, match="Actor_01.take two.wav is no RAVDESS clip.*Rename it or move it"):
        ravdess.index(tmp_path)


def test_a_missing_or_empty_folder_says_what_to_do(tmp_path):
    for root in (tmp_path / "nowhere", tmp_path):
        with pytest.raises(FileNotFoundError, match="RAVDESS_DIR.*data/ravdess.*make data") as caught:
            ravdess.index(root)
        assert str(root) in str(caught.value)
    write_clips(tmp_path, ["03-02-05-01-01-01-01"])
    with pytest.raises(FileNotFoundError, match="No speech clips"):
        ravdess.index(tmp_path)


def test_missing_clips_are_listed(tmp_path):
    table = ravdess.index(write_clips(tmp_path, NAMES[:5]))
    assert ravdess.missing_clips(table) == NAMES[5:]


def test_the_root_is_the_environments_or_the_checkouts(monkeypatch, tmp_path):
    monkeypatch.setenv("RAVDESS_DIR", str(tmp_path))
    assert ravdess.default_root() == tmp_path
    monkeypatch.setenv("RAVDESS_DIR", "~/speech")
    assert ravdess.default_root() == tmp_path.home() / "speech"
    monkeypatch.setenv("RAVDESS_DIR", "")
    assert ravdess.default_root() == paths.DATA / "ravdess"


# ----------------------------------------------------------------------------------------- checksums


def test_the_versioned_table_has_the_known_facts():
    table = ravdess.reference()
    assert table["clip"].tolist() == NAMES
    assert set(table["rate"]) == {48000}
    assert set(table.loc[table["channels"] == 2, "clip"]) == {
        "03-01-02-01-01-02-01", "03-01-02-01-02-02-05", "03-01-03-01-02-01-20", "03-01-06-01-01-02-20",
        "03-01-08-01-02-02-01",
    }
    seconds = table["samples"] / table["rate"]
    assert (round(seconds.min(), 2), round(seconds.max(), 2)) == (2.94, 5.27)
    assert round(seconds.sum() / 60, 1) == 88.8
    assert table["sha256"].str.fullmatch("[0-9a-f]{64}").all()


def test_wav_and_flac_have_the_same_checksum_and_it_is_of_the_samples(tmp_path):
    stereo = np.stack([waveform(NAMES[0]), waveform(NAMES[1])], axis=1)
    for suffix in ("wav", "flac"):
        sf.write(tmp_path / f"clip.{suffix}", stereo, 48000, subtype="PCM_16")
        assert ravdess.describe(tmp_path / f"clip.{suffix}") == {
            "samples": 64, "rate": 48000, "channels": 2,
            "sha256": hashlib.sha256(stereo.astype("<i2").tobytes()).hexdigest(),
        }


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """Six clips in Actor folders, which are all that the table of checksums knows."""
    root = write_clips(tmp_path / "toy", NAMES[::240])
    table = ravdess.build_index(root)
    table.to_csv(tmp_path / "index.csv", index=False)
    monkeypatch.setattr(ravdess, "INDEX_FILE", tmp_path / "index.csv")
    return root


def test_validate_passes_an_intact_corpus(toy):
    found = ravdess.validate(toy)
    assert found.ok
    assert (found.missing, found.corrupt, found.unexpected) == ([], [], [])


@pytest.mark.parametrize("suffix", [".wav", ".flac"])
def test_validate_reports_every_kind_of_fault(toy, suffix):
    files = ravdess.audio_files(toy)
    if suffix == ".flac":
        for path in files:
            sf.write(path.with_suffix(".flac"), *sf.read(path, dtype="int16"), subtype="PCM_16")
            path.unlink()
        files = [path.with_suffix(".flac") for path in files]
        assert ravdess.validate(toy).ok
    gone, empty, cut, changed, resampled, whole = files
    gone.unlink()
    empty.write_bytes(b"")
    cut.write_bytes(cut.read_bytes()[:-20])
    sf.write(changed, waveform(changed.stem)[::-1], 48000, subtype="PCM_16")
    sf.write(resampled, waveform(resampled.stem), 44100, subtype="PCM_16")
    (toy / f"notes{suffix}").write_bytes(b"not audio")

    found = ravdess.validate(toy)
    assert not found.ok
    assert found.missing == [gone.stem]
    assert found.unexpected == [str(toy / f"notes{suffix}")]
    reasons = dict(found.corrupt)
    assert set(reasons) == {empty.stem, cut.stem, changed.stem, resampled.stem}
    assert "0 bytes" in reasons[empty.stem]
    assert "cannot be decoded" in reasons[cut.stem] or "samples" in reasons[cut.stem]
    assert "differ" in reasons[changed.stem]
    assert "rate 44,100, expected 48,000" in reasons[resampled.stem]
    for part in (gone.stem, f"{empty.stem}: the file is empty", "1 missing", "4 corrupt", "notes"):
        assert part in str(found)


def test_validate_needs_a_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match="make data"):
        ravdess.validate(tmp_path / "nowhere")


def test_a_long_report_is_cut():
    report = str(ravdess.Validation(missing=NAMES[:50]))
    assert "1,390 of 1,440" in report and "and 40 more" in report
    assert NAMES[9] in report and NAMES[10] not in report


@pytest.mark.skipif(not os.environ.get("RAVDESS_DIR"), reason="RAVDESS_DIR is not set")
def test_the_real_corpus_is_intact():
    found = ravdess.validate(os.environ["RAVDESS_DIR"])
    assert found.ok, str(found)


def test_cite_names_authors_doi_and_licence():
    for part in ("Livingstone", "Russo", "2018", "10.1371/journal.pone.0196391", "BY-NC-SA 4.0"):
        assert part in ravdess.cite()


# ------------------------------------------------------------------------------------------ download


def make_zip(entries):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as bundle:
        for name, content in entries.items():
            bundle.writestr(name, content)
    return buffer.getvalue()


def wav_bytes(name):
    buffer = io.BytesIO()
    sf.write(buffer, waveform(name), 48000, subtype="PCM_16", format="WAV")
    return buffer.getvalue()


CLIPS = ["03-01-01-01-01-01-01", "03-01-05-02-01-01-02"]
GOOD = make_zip({f"Actor_{name[-2:]}/{name}.wav": wav_bytes(name) for name in CLIPS})


def md5(content):
    return hashlib.md5(content).hexdigest()


class Server:
    """A web server on this machine: what it serves, and how well, can be changed between requests."""

    def __init__(self):
        self.content, self.status, self.break_off, self.stall = GOOD, 200, 0, threading.Event()
        self.stall.set()
        self.requests = 0
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                outer.requests += 1
                self.send_response(outer.status)
                self.send_header("Content-Length", str(len(outer.content)))
                self.end_headers()
                half = len(outer.content) // 2
                self.wfile.write(outer.content[:half])
                self.wfile.flush()
                outer.stall.wait(30)
                if outer.break_off:
                    outer.break_off -= 1
                    self.close_connection = True
                    return
                self.wfile.write(outer.content[half:])

            def do_HEAD(self):
                self.send_response(outer.status)
                self.end_headers()

            def log_message(self, *args):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.http.server_port}/archive.zip?download=1"
        threading.Thread(target=self.http.serve_forever, args=(0.02,), daemon=True).start()

    def close(self):
        self.stall.set()
        self.http.shutdown()
        self.http.server_close()


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    running = Server()
    yield running
    running.close()


def get(server, dest, **options):
    options = {"md5": md5(server.content), "progress": False, **options}
    return ravdess.download(dest, server.url, **options)


def assert_complete(dest):
    assert ravdess.index(dest)["clip"].tolist() == CLIPS
    assert sorted(os.listdir(dest)) == ["Actor_01", "Actor_02"]
    for name in CLIPS:
        assert (dest / f"Actor_{name[-2:]}" / f"{name}.wav").read_bytes() == wav_bytes(name)


def test_download_unpacks_and_leaves_nothing_else(server, tmp_path):
    assert get(server, tmp_path / "new" / "ravdess") == tmp_path / "new" / "ravdess"
    assert_complete(tmp_path / "new" / "ravdess")
    assert server.requests == 1


def test_a_transfer_that_breaks_off_is_tried_again(server, tmp_path):
    server.break_off = 2
    get(server, tmp_path / "ravdess", attempts=3)
    assert_complete(tmp_path / "ravdess")
    assert server.requests == 3


def test_a_transfer_that_always_breaks_off_leaves_nothing(server, tmp_path):
    server.break_off = 9
    with pytest.raises(ravdess.DownloadError, match="broke off.*in a browser"):
        get(server, tmp_path / "ravdess", attempts=2)
    assert server.requests == 2
    assert not (tmp_path / "ravdess").exists()


def test_the_servers_refusal_is_said(server, tmp_path):
    server.status = 503
    with pytest.raises(ravdess.DownloadError, match="answered 503"):
        get(server, tmp_path / "ravdess", attempts=1)


def test_no_connection_is_said(server, tmp_path):
    server.close()
    with pytest.raises(ravdess.DownloadError, match="no connection"):
        get(server, tmp_path / "ravdess", attempts=1)
    assert not (tmp_path / "ravdess").exists()


def test_a_wrong_hash_deletes_the_file_and_says_so(server, tmp_path):
    with pytest.raises(ravdess.DownloadError, match="md5 is not 0000.*deleted"):
        get(server, tmp_path / "ravdess", md5="0" * 32)
    assert not (tmp_path / "ravdess").exists()
    assert server.requests == 1


def test_an_intact_archive_put_there_by_hand_is_used_and_kept(server, tmp_path):
    (tmp_path / ravdess.ARCHIVE).write_bytes(GOOD)
    get(server, tmp_path)
    assert server.requests == 0
    assert (tmp_path / ravdess.ARCHIVE).read_bytes() == GOOD
    assert ravdess.index(tmp_path)["clip"].tolist() == CLIPS


def test_a_wrong_archive_put_there_by_hand_is_replaced(server, tmp_path, capsys):
    (tmp_path / ravdess.ARCHIVE).write_bytes(GOOD[:-100])
    get(server, tmp_path)
    assert "deleted" in capsys.readouterr().err
    assert_complete(tmp_path)


@pytest.mark.parametrize(
    "content", [b"no zip at all", GOOD[: len(GOOD) // 2], GOOD[:60] + b"x" * 20 + GOOD[80:]]
)
def test_a_corrupt_archive_is_deleted(server, tmp_path, content):
    server.content = content
    with pytest.raises(ravdess.DownloadError, match="corrupt.*download it again"):
        get(server, tmp_path / "ravdess")
    assert not (tmp_path / "ravdess").exists()


@pytest.mark.parametrize(
    "name", ["../evil.wav", "Actor_01/../../evil.wav", "/tmp/evil.wav", "C:\\evil.wav", "..\\evil"]
)
def test_an_archive_that_would_write_elsewhere_is_refused(server, tmp_path, name):
    server.content = make_zip({f"Actor_01/{CLIPS[0]}.wav": wav_bytes(CLIPS[0]), name: b"evil"})
    with pytest.raises(ravdess.DownloadError, match="unsafe name") as caught:
        get(server, tmp_path / "deep" / "ravdess")
    assert name in str(caught.value)
    assert not list(tmp_path.rglob("*evil*")) and not list(tmp_path.rglob("*.wav"))


def test_what_a_killed_run_left_is_cleaned_up(server, tmp_path):
    write_clips(tmp_path, CLIPS[:1])
    (tmp_path / ravdess.PARTIAL / "unpacked" / "Actor_01").mkdir(parents=True)
    (tmp_path / ravdess.PARTIAL / "unpacked" / "Actor_01" / f"{CLIPS[0]}.wav").write_bytes(b"half")
    (tmp_path / ravdess.PARTIAL / "tmp123").write_bytes(b"half")
    get(server, tmp_path)
    assert_complete(tmp_path)


def test_files_of_the_users_own_stay(server, tmp_path):
    mine = "03-01-08-02-02-02-01"
    write_clips(tmp_path, [mine])
    (tmp_path / "Actor_01" / "notes.txt").write_text("mine")
    get(server, tmp_path)
    assert (tmp_path / "Actor_01" / "notes.txt").read_text() == "mine"
    assert {*CLIPS, mine} == set(ravdess.index(tmp_path)["clip"])


def cli(*arguments, **environment):
    return subprocess.Popen(
        [sys.executable, "-m", "ser_utils.data.ravdess", *map(str, arguments)],
        cwd=paths.ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, **environment},
    )


def test_a_download_killed_half_way_starts_cleanly_again(server, tmp_path):
    server.stall.clear()
    dest = tmp_path / "ravdess"
    running = cli("download", dest, "--url", server.url, "--md5", md5(GOOD))
    wait = threading.Event()
    for _ in range(300):
        if server.requests or running.poll() is not None:
            break
        wait.wait(0.1)
    assert server.requests == 1, running.communicate()
    running.send_signal(signal.SIGKILL)
    running.communicate()
    assert (dest / ravdess.PARTIAL).is_dir()
    server.stall.set()
    get(server, dest)
    assert_complete(dest)


def test_reachable(server):
    assert ravdess.reachable(server.url)
    server.close()
    assert not ravdess.reachable(server.url)


# ------------------------------------------------------------------------------------------ terminal


def test_the_command_line_downloads_and_validates(server, tmp_path, toy, monkeypatch, capsys):
    monkeypatch.setattr(ravdess, "INDEX_FILE", tmp_path / "other.csv")
    ravdess.build_index(write_clips(tmp_path / "other", CLIPS)).to_csv(ravdess.INDEX_FILE, index=False)
    dest = tmp_path / "ravdess"
    assert ravdess.main(["download", str(dest), "--url", server.url, "--md5", md5(GOOD)]) == 0
    assert "intact" in capsys.readouterr().out
    (dest / "Actor_01" / f"{CLIPS[0]}.wav").unlink()
    assert ravdess.main(["validate", str(dest)]) == 1
    assert f"1 missing:\n  {CLIPS[0]}" in capsys.readouterr().err


def test_the_command_line_writes_the_table(toy, tmp_path, capsys):
    assert ravdess.main(["index", str(toy), "--output", str(tmp_path / "made.csv")]) == 0
    assert (tmp_path / "made.csv").read_text() == ravdess.INDEX_FILE.read_text()
    capsys.readouterr()
    assert ravdess.main(["index", str(toy)]) == 0
    assert capsys.readouterr().out == ravdess.INDEX_FILE.read_text()


def test_errors_on_the_command_line_are_one_line(tmp_path):
    finished = cli("validate", RAVDESS_DIR=str(tmp_path / "nowhere"))
    output, errors = finished.communicate()
    assert finished.returncode == 1
    assert output == ""
    assert errors.count("\n") == 1 and errors.startswith(f"error: No RAVDESS folder at {tmp_path}")


def test_stopping_the_command_line_is_no_traceback(monkeypatch, capsys):
    def stop(root):
        raise KeyboardInterrupt
    monkeypatch.setattr(ravdess, "validate", stop)
    assert ravdess.main(["validate"]) == 130
    assert "stopped" in capsys.readouterr().err


def test_the_download_command_checks_a_complete_copy_instead(tmp_path, monkeypatch, capsys):
    for name in ravdess.speech_names():
        (tmp_path / f"{name}.wav").touch()
    monkeypatch.setattr(ravdess, "download", lambda *a, **k: pytest.fail("downloaded"))
    assert ravdess.is_complete(tmp_path)
    assert ravdess.main(["download", str(tmp_path)]) == 1  # empty files: complete, but corrupt
    said = capsys.readouterr()
    assert "instead of downloading" in said.out and "corrupt" in said.err
    next(tmp_path.glob("*.wav")).unlink()
    assert not ravdess.is_complete(tmp_path) and not ravdess.is_complete(tmp_path / "gone")
