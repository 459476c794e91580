"""Where things lie in a checkout, and how files are written so that a killed run leaves no half of one."""

import contextlib
import errno
import os
import uuid
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT / "data"
RUNS = ROOT / "runs"
RESULTS = ROOT / "results"
FIGURES = ROOT / "figures"
REPORT = ROOT / "report"
NOTEBOOKS = ROOT / "notebooks"
FULL = errno.ENOSPC, errno.EDQUOT  # the disk, or the user's part of it


def named(variable: str, usual: Path) -> Path:
    """The folder that an environment variable names, or else ``usual``.

    A relative one counts from the current folder, or else from the checkout (notebooks run elsewhere).
    """
    given = os.path.expanduser(os.environ.get(variable, "").strip())
    return usual if not given else Path(given).absolute() if os.path.lexists(given) else ROOT / given


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike) -> Iterator[Path]:
    """Write a file so that it is either wholly there or not there at all.

    Yields a temporary path in the folder of ``path`` (made if missing; same suffix), which takes the place of ``path``
    in one step when the block ends without an error. Of a full disk the OSError says the path and what to do.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}-{uuid.uuid4().hex[:8]}{path.suffix}")
    try:
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        if error.errno in FULL:
            raise OSError(error.errno, f"The disk is full: could not write {path}. Free some space and run again; "
                                        "everything finished so far is kept.") from error
        raise
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: str | os.PathLike, text: str) -> None:
    """Write a text file (UTF-8) by :func:`atomic_write`."""
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
