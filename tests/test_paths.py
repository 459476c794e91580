import errno
import os

import pytest

from ser_utils import paths


def test_root_is_the_checkout():
    assert (paths.ROOT / "ser_utils" / "paths.py").is_file()
    for folder in (paths.DATA, paths.RUNS, paths.RESULTS, paths.FIGURES, paths.REPORT, paths.NOTEBOOKS):
        assert folder.parent == paths.ROOT


def test_writes_the_file_and_makes_its_folder(tmp_path):
    target = tmp_path / "new" / "table.csv"
    with paths.atomic_write(target) as temporary:
        assert temporary.parent == target.parent
        assert temporary.suffix == ".csv"
        temporary.write_text("whole")
        assert not target.exists()
    assert target.read_text() == "whole"
    assert os.listdir(target.parent) == ["table.csv"]


@pytest.mark.parametrize("stop", [RuntimeError, KeyboardInterrupt])
def test_a_failure_keeps_the_old_file_and_leaves_nothing_else(tmp_path, stop):
    target = tmp_path / "table.csv"
    target.write_text("old")
    with pytest.raises(stop), paths.atomic_write(target) as temporary:
        temporary.write_text("half")
        raise stop
    assert target.read_text() == "old"
    assert os.listdir(tmp_path) == ["table.csv"]


def test_a_full_disk_is_said_plainly(tmp_path):
    target = tmp_path / "table.csv"
    with pytest.raises(OSError, match="disk is full.*table.csv") as caught:
        with paths.atomic_write(target) as temporary:
            temporary.write_text("half")
            raise OSError(errno.ENOSPC, "No space left on device")
    assert caught.value.errno == errno.ENOSPC
    assert os.listdir(tmp_path) == []


def test_other_errors_pass_unchanged(tmp_path):
    with pytest.raises(PermissionError, match="^\\[Errno 13\\] no$"), paths.atomic_write(tmp_path / "x"):
        raise PermissionError(errno.EACCES, "no")


def test_two_writers_do_not_share_a_temporary_file(tmp_path):
    target = tmp_path / "table.csv"
    with paths.atomic_write(target) as first, paths.atomic_write(target) as second:
        assert first != second
        first.write_text("first")
        second.write_text("second")
    assert target.read_text() == "first"
