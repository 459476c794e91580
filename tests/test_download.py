"""The download of RAVDESS: broken, wrong, killed, two at once, and what the user put there."""

import errno
import hashlib
import io
import os
import threading
import time
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from fakes import write_clips

from ser_utils.data import download, ravdess


def make_zip(entries):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as bundle:
        for name, content in entries.items():
            bundle.writestr(name, content)
    return buffer.getvalue()


CLIPS = ["03-01-01-01-01-01-01", "03-01-05-02-01-01-02"]
GOOD = make_zip({f"Actor_{name[-2:]}/{name}.wav": f"sound of {name}" for name in CLIPS})
OTHER = make_zip({f"Actor_01/{CLIPS[0]}.wav": b"x"})


def md5(content):
    return hashlib.md5(content).hexdigest()


class Answer(BaseHTTPRequestHandler):
    def do_HEAD(self):
        self.send_response(self.server.status)
        self.send_header("Content-Length", str(len(self.server.content)))
        self.end_headers()

    def do_GET(self):
        self.server.requests += 1
        self.do_HEAD()
        half = len(self.server.content) // 2
        self.wfile.write(self.server.content[:half])
        self.wfile.flush()
        self.server.stall.wait(30)
        self.server.break_off -= 1
        if self.server.break_off < 0:
            self.wfile.write(self.server.content[half:])

    def log_message(self, *args):
        pass


def close(server):
    server.stall.set()
    server.shutdown()
    server.server_close()


@pytest.fixture
def server(monkeypatch):
    """A web server on this machine: what it serves, and how well, can be changed between requests."""
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    found = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    found.content, found.status, found.break_off, found.requests, found.stall = GOOD, 200, 0, 0, threading.Event()
    found.stall.set()
    found.url = f"http://127.0.0.1:{found.server_port}/archive.zip?download=1"
    threading.Thread(target=found.serve_forever, args=(0.02,), daemon=True).start()
    yield found
    close(found)


def get(server, dest, known=None):
    return ravdess.download(dest, server.url, known or md5(server.content))


def assert_complete(dest):
    assert ravdess.index(dest)["clip"].tolist() == CLIPS
    assert sorted(os.listdir(dest)) == ["Actor_01", "Actor_02"]
    for name in CLIPS:
        assert (dest / f"Actor_{name[-2:]}" / f"{name}.wav").read_text() == f"sound of {name}"


@pytest.mark.parametrize("breaks", [0, 2])
def test_download_unpacks_and_leaves_nothing_else(server, tmp_path, breaks):
    server.break_off = breaks
    assert get(server, tmp_path / "new" / "ravdess") == tmp_path / "new" / "ravdess"
    assert_complete(tmp_path / "new" / "ravdess")
    assert server.requests == 1 + breaks


def test_a_transfer_that_breaks_off_the_third_time_a_refusal_and_no_connection_are_said(server, tmp_path, monkeypatch):
    server.break_off = 3
    with pytest.raises(ravdess.DownloadError, match="broken.*in a browser"):
        get(server, tmp_path / "ravdess")
    assert server.requests == 3 and not (tmp_path / "ravdess").exists()
    server.status = 503
    (tmp_path / "mine").mkdir()
    for name in ("ravdess", "mine"):
        with pytest.raises(ravdess.DownloadError, match="503 Server Error"):
            get(server, tmp_path / name)
    close(server)
    with pytest.raises(ravdess.DownloadError, match="no connection"):
        get(server, tmp_path / "ravdess")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nowhere.pem")
    with pytest.raises(ravdess.DownloadError, match="nowhere.pem"):
        ravdess.download(tmp_path / "ravdess", "https://127.0.0.1:9/a.zip", "0" * 32)
    assert not (tmp_path / "ravdess").exists() and list((tmp_path / "mine").iterdir()) == []


@pytest.mark.parametrize("name", [download.ARCHIVE, "Audio_Speech_Actors_01-24 (1).zip"])
def test_an_intact_archive_put_there_by_hand_is_used_and_kept(server, tmp_path, name):
    (tmp_path / name).write_bytes(GOOD)
    (tmp_path / "a folder.zip").mkdir()
    get(server, tmp_path)
    assert server.requests == 0
    assert (tmp_path / name).read_bytes() == GOOD
    assert ravdess.index(tmp_path)["clip"].tolist() == CLIPS
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / name).write_bytes(b"no zip")  # as published by its hash, damaged nevertheless
    with pytest.raises(ravdess.DownloadError, match="corrupt"):
        get(server, tmp_path / "bad", md5(b"no zip"))
    assert (tmp_path / "bad" / name).read_bytes() == b"no zip" and server.requests == 0


@pytest.mark.parametrize("content", [GOOD[:-100], OTHER, b""])
@pytest.mark.parametrize("online", [True, False])
def test_another_archive_put_there_by_hand_is_never_touched(server, tmp_path, capsys, content, online):
    dest = tmp_path / "ravdess"
    mine = dest / download.ARCHIVE
    dest.mkdir()
    mine.write_bytes(content)
    if online:
        get(server, dest)
        assert ravdess.index(dest)["clip"].tolist() == CLIPS
    else:
        close(server)
        with pytest.raises(ravdess.DownloadError, match="no connection"):
            get(server, dest)
    assert "md5 differs" in capsys.readouterr().err
    assert mine.read_bytes() == content and not (dest / ravdess.PARTIAL).exists()


def test_a_full_disk_is_said_with_its_place(server, tmp_path, monkeypatch):
    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")
    monkeypatch.setattr(ravdess, "unpack", full)
    with pytest.raises(OSError, match=f"disk is full.*{tmp_path}"):
        get(server, tmp_path / "ravdess")
    assert not (tmp_path / "ravdess").exists()


@pytest.mark.parametrize("content, known, said", [
    (GOOD, "0" * 32, "md5 is not 0000.*deleted"), (b"no zip at all", None, "corrupt.*download it again"),
    (GOOD[: len(GOOD) // 2], None, "corrupt"), (GOOD[:60] + b"x" * 20 + GOOD[80:], None, "corrupt")])
def test_a_wrong_or_corrupt_archive_is_not_unpacked(server, tmp_path, content, known, said):
    server.content = content
    with pytest.raises(ravdess.DownloadError, match=said):
        get(server, tmp_path / "ravdess", known)
    assert not (tmp_path / "ravdess").exists()


def test_what_a_killed_run_left_is_cleaned_up_and_files_of_the_users_own_stay(server, tmp_path):
    write_clips(tmp_path, CLIPS[:1])
    (tmp_path / ravdess.PARTIAL / "unpacked" / "Actor_01").mkdir(parents=True)
    (tmp_path / ravdess.PARTIAL / "unpacked" / "Actor_01" / f"{CLIPS[0]}.wav").write_bytes(b"half")
    (tmp_path / ravdess.PARTIAL / "tmp123").write_bytes(b"half")
    get(server, tmp_path)
    assert_complete(tmp_path)
    mine = "03-01-08-02-02-02-01"
    write_clips(tmp_path / "other", [mine])
    (tmp_path / "other" / "Actor_01" / "notes.txt").write_text("mine")
    get(server, tmp_path / "other")
    assert (tmp_path / "other" / "Actor_01" / "notes.txt").read_text() == "mine"
    assert {*CLIPS, mine} == set(ravdess.index(tmp_path / "other")["clip"])
