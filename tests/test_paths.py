import ast
import errno
import os
import subprocess
import sys

import pytest

import ser_utils
from ser_utils import paths


def test_a_file_appears_whole_in_a_new_folder_and_a_failure_keeps_the_old_one_and_leaves_nothing_else(tmp_path):
    target = tmp_path / "new" / "table.csv"
    with paths.atomic_write(target) as temporary:
        assert temporary.parent == target.parent and temporary.suffix == ".csv"
        temporary.write_text("old")
        assert not target.exists()
    for stop in (RuntimeError, KeyboardInterrupt):
        with pytest.raises(stop), paths.atomic_write(target) as temporary:
            temporary.write_text("half")
            raise stop
        assert target.read_text() == "old" and os.listdir(target.parent) == ["table.csv"]


@pytest.mark.parametrize("number, said", [(errno.ENOSPC, "disk is full.*table.csv"), (errno.EACCES, "^.Errno 13. no$")])
def test_a_full_disk_is_said_plainly_and_other_errors_pass_unchanged(tmp_path, number, said):
    with pytest.raises(OSError, match=said) as caught, paths.atomic_write(tmp_path / "table.csv") as temporary:
        temporary.write_text("half")
        raise OSError(number, "no")
    assert caught.value.errno == number and os.listdir(tmp_path) == []


def test_a_relative_folder_counts_from_here_or_else_from_the_checkout(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for given, folder in (("", "usual"), ("  ", "usual"), (str(tmp_path), tmp_path), ("tests", paths.ROOT / "tests"),
                          ("~nobody-here/x", paths.ROOT / "~nobody-here/x")):
        monkeypatch.setenv("PLACE", given)
        assert paths.named("PLACE", "usual") == folder
    (tmp_path / "tests").mkdir()
    monkeypatch.setenv("PLACE", "tests")
    assert paths.named("PLACE", "usual") == tmp_path / "tests"


def sources():
    return {path: ast.parse(path.read_text()) for path in sorted((paths.ROOT / "ser_utils").rglob("*.py"))}


def test_no_module_is_longer_than_400_lines():
    long = {path.name: lines for path in sources() if (lines := len(path.read_text().splitlines())) > 400}
    assert not long


def test_no_function_imports_from_the_package_itself():
    """Such an import hides from the reader; that layers are kept is import-linter's to check (`make lint`)."""
    hidden = [f"{path.name}:{node.lineno}" for path, tree in sources().items() for function in ast.walk(tree)
              if isinstance(function, ast.FunctionDef) for node in ast.walk(function)
              if isinstance(node, ast.Import | ast.ImportFrom)
              and "ser_utils" in (getattr(node, "module", "") or "") + " ".join(alias.name for alias in node.names)]
    assert not hidden


def test_importing_the_package_is_quick_and_every_name_is_there():
    code = "import sys, ser_utils; sys.exit(any(name in sys.modules for name in ('keras', 'pandas', 'numpy')))"
    subprocess.run([sys.executable, "-c", code], check=True)
    assert all(getattr(ser_utils, name) is not None for name in ser_utils.__all__)
    assert set(ser_utils.__all__) <= set(dir(ser_utils))
    with pytest.raises(AttributeError, match="nonesuch"):
        ser_utils.nonesuch  # noqa: B018
