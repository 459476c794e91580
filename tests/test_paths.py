import ast
import errno
import os
import subprocess
import sys

import pytest

import ser_utils
from ser_utils import paths


def test_writes_the_file_and_makes_its_folder(tmp_path):
    target = tmp_path / "new" / "table.csv"
    with paths.atomic_write(target) as temporary:
        assert temporary.parent == target.parent and temporary.suffix == ".csv"
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


def test_a_full_disk_is_said_plainly_and_other_errors_pass_unchanged(tmp_path):
    target = tmp_path / "table.csv"
    with pytest.raises(OSError, match="disk is full.*table.csv") as caught:
        with paths.atomic_write(target) as temporary:
            temporary.write_text("half")
            raise OSError(errno.ENOSPC, "No space left on device")
    assert caught.value.errno == errno.ENOSPC
    assert os.listdir(tmp_path) == []
    with pytest.raises(PermissionError, match="^\\[Errno 13\\] no$"), paths.atomic_write(tmp_path / "x"):
        raise PermissionError(errno.EACCES, "no")


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
