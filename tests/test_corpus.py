import hashlib
import os
import zipfile

import pytest

from ser_utils import paths
from ser_utils.data import corpus, download, ravdess, synthetic

NAMES = ravdess.speech_names()
SMALL = ["03-01-01-01-01-01-01", "03-01-05-02-02-01-02", "03-01-05-01-01-01-02"]


@pytest.fixture(autouse=True)
def bare(tmp_path, monkeypatch):
    """A checkout without data, no settings, no network, and a synthetic corpus of three clips."""
    for name in ("RAVDESS_DIR", "SER_CORPUS", "SER_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(paths, "DATA", tmp_path / "data")
    monkeypatch.setattr(ravdess, "ARCHIVE_URL", "http://127.0.0.1:9/archive.zip")
    monkeypatch.setattr(synthetic, "clip_names", lambda: SMALL)


@pytest.fixture
def fetch(monkeypatch):
    """A network: where (made-up) downloads went to and came from."""
    went = []

    def get(dest, *source):
        went.append((dest, *source))
        return write(dest, NAMES)

    monkeypatch.setattr(ravdess, "download", get)
    return went


@pytest.fixture
def offline(monkeypatch):
    monkeypatch.setattr(ravdess, "download", lambda *source: pytest.fail("asked the network"))


def write(root, names):
    root.mkdir(parents=True, exist_ok=True)
    for name in names:
        os.close(os.open(f"{root}/{name}.wav", os.O_CREAT))
    return root


def test_ravdess_dir_comes_first(tmp_path, monkeypatch, offline):
    write(tmp_path / "data" / "ravdess", NAMES[:1])
    monkeypatch.setenv("RAVDESS_DIR", str(write(tmp_path / "mine", NAMES)))
    found = corpus.find()
    assert (found.root, found.kind, len(found.index)) == (tmp_path / "mine", "ravdess", 1440) and found.banner is None


def test_a_ravdess_dir_missing_empty_or_incomplete_is_never_passed_over(tmp_path, monkeypatch, fetch):
    write(tmp_path / "data" / "ravdess", NAMES)
    monkeypatch.setenv("RAVDESS_DIR", str(tmp_path / "mine"))
    for names, said in ((None, "No RAVDESS folder"), ([], "No speech clips"),
                        (NAMES[5:], f"5 of the 1,440.*{NAMES[0]}, {NAMES[1]}")):
        if names is not None:
            write(tmp_path / "mine", names)
        for kind in ("auto", "ravdess"):
            with pytest.raises(FileNotFoundError, match=f"RAVDESS_DIR is set to .*mine.*{said}"):
                corpus.find(kind)
    assert fetch == []


@pytest.mark.parametrize("names", [["mine", "yours"], ["03-01-05-01-01-01-01 copy"]])
def test_stray_recordings_are_ignored_which_is_said_once(tmp_path, offline, names, capsys):
    write(tmp_path / "data" / "ravdess", [*NAMES, *names])
    assert corpus.find().index["clip"].tolist() == NAMES
    assert f"{len(names)} audio file(s)" in (said := capsys.readouterr().err) and names[0] in said
    corpus.find()
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("how", ["data/ravdess", "SER_OFFLINE", "RAVDESS_DIR"])
def test_an_archive_put_there_by_hand_is_unpacked_without_a_network(tmp_path, monkeypatch, how):
    root = tmp_path / "data" / "ravdess" if how != "RAVDESS_DIR" else tmp_path / "mine"
    write(root, [])
    with zipfile.ZipFile(root / download.ARCHIVE, "w") as archive:
        for name in NAMES:
            archive.writestr(f"Actor_{name[-2:]}/{name}.wav", b"x")
    monkeypatch.setattr(ravdess, "ARCHIVE_MD5", hashlib.md5((root / download.ARCHIVE).read_bytes()).hexdigest())
    if how != "data/ravdess":
        monkeypatch.setenv(how, "1" if how == "SER_OFFLINE" else str(root))
    assert corpus.find("ravdess").index["clip"].tolist() == NAMES and (root / download.ARCHIVE).exists()


def test_missing_clips_there_are_an_error_which_names_what_cannot_be_read_and_not_a_download(tmp_path, fetch):
    root = write(tmp_path / "data" / "ravdess", NAMES[1:])
    with pytest.raises(FileNotFoundError, match=f"1 of the 1,440 .*{NAMES[0]}\\. .*make data"):
        corpus.find()
    (root / f"{NAMES[0]}.wav").symlink_to(tmp_path / "gone")
    with pytest.raises(FileNotFoundError, match=f"1 of the 1,440.*can't be read.*{NAMES[0]}.wav"):
        corpus.find()
    assert fetch == []


def test_then_a_download_and_one_killed_half_way_is_an_error_or_taken_up_again(tmp_path, request):
    root = write(tmp_path / "data" / "ravdess", NAMES[:100])
    (root / ravdess.PARTIAL).mkdir()
    with pytest.raises(FileNotFoundError, match="1,340 of the 1,440"):
        corpus.find()
    assert len(list(root.glob("*.wav"))) == 100
    (root / ravdess.PARTIAL).mkdir()
    fetch, found = request.getfixturevalue("fetch"), corpus.find()
    assert (found.root, found.kind, len(found.index)) == (root, "ravdess", 1440)
    assert fetch == [(root, ravdess.ARCHIVE_URL, ravdess.ARCHIVE_MD5)]


def test_then_the_synthetic_one_with_a_warning(tmp_path, capsys):
    found = corpus.find()
    assert (found.root, found.kind) == (tmp_path / "data" / "synthetic", "synthetic")
    assert found.index["clip"].tolist() == sorted(SMALL) and found.banner == corpus.BANNER
    printed = capsys.readouterr().err
    assert "no connection" in printed and "WARNING" in printed and corpus.BANNER in printed
    assert not (tmp_path / "data" / "ravdess").exists()


@pytest.mark.parametrize("how", ["argument", "SER_OFFLINE"])
def test_offline_is_used_when_forbidden(monkeypatch, offline, how, capsys):
    if how == "SER_OFFLINE":
        monkeypatch.setenv("SER_OFFLINE", "1")
    assert corpus.find(allow_download=how != "argument").kind == "synthetic"
    assert corpus.BANNER in capsys.readouterr().err
    with pytest.raises(FileNotFoundError, match="make data"):
        corpus.find("ravdess", allow_download=how != "argument")


def test_synthetic_can_be_asked_for(tmp_path, monkeypatch, offline, capsys):
    write(tmp_path / "data" / "ravdess", NAMES)
    assert corpus.find("synthetic").kind == "synthetic"
    monkeypatch.setenv("SER_CORPUS", "synthetic")
    assert corpus.find().kind == "synthetic"
    assert "WARNING" not in capsys.readouterr().err
    assert corpus.find("ravdess").kind == "ravdess"


def test_ser_corpus_can_demand_ravdess_and_an_unknown_kind_is_named(monkeypatch):
    monkeypatch.setenv("SER_CORPUS", "ravdess")
    with pytest.raises(FileNotFoundError, match="Could not download"):
        corpus.find()
    monkeypatch.setenv("SER_CORPUS", "synthetic")
    for profile in ("full", "robust"):
        with pytest.raises(FileNotFoundError, match="Could not download"):
            corpus.for_profile(profile)
    with pytest.raises(ValueError, match="'emodb'.*auto, ravdess, synthetic"):
        corpus.find("emodb")
    monkeypatch.setenv("SER_CORPUS", "toy")
    with pytest.raises(ValueError, match="'toy'.*SER_CORPUS"):
        corpus.find()
