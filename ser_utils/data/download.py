"""The archive of RAVDESS speech on Zenodo (record 1188976): fetched, checked by its md5, unpacked."""

import contextlib
import os
import sys
import zipfile
import zlib
from pathlib import Path

import filelock

ARCHIVE = "Audio_Speech_Actors_01-24.zip"
ARCHIVE_URL = f"https://zenodo.org/records/1188976/files/{ARCHIVE}?download=1"
ARCHIVE_MD5 = "bc696df654c87fed845eb13823edef8a"


class DownloadError(OSError):
    """The archive could not be fetched, or what came is not the archive."""


def by_hand(folder: Path, md5: str) -> Path | None:
    """The zip file in ``folder`` that has the archive's md5, whatever its name."""
    import pooch

    zips = sorted(filter(Path.is_file, folder.glob("*.zip")), key=lambda path: path.stat().st_size)
    return next((path for path in zips if pooch.file_hash(str(path), alg="md5") == md5), None)


def fetch(url: str, md5: str, folder: Path) -> Path:
    """Transfer the archive into ``folder`` and check its md5; partial and wrong files are removed.

    Raises DownloadError: where no server can be reached at once, where a transfer breaks off the third time.
    """
    import pooch
    import requests

    pooch.get_logger().setLevel("WARNING")
    seconds = 5.0, 60.0  # to be connected; until the next bytes
    downloader = pooch.HTTPDownloader(progressbar=True, chunk_size=1 << 16, timeout=seconds)
    try:
        requests.head(url, timeout=seconds, allow_redirects=True)
        return Path(pooch.create(folder, "", registry={ARCHIVE: f"md5:{md5}"}, urls={ARCHIVE: url},
                                 retry_if_failed=2).fetch(ARCHIVE, downloader=downloader))
    except OSError as error:
        if error.errno:  # of the disk
            raise
        faults = requests.exceptions
        lost = isinstance(error, faults.ConnectionError) and not isinstance(error, faults.SSLError)
        why = "no connection" if lost else error
        raise DownloadError(f"Could not download {url} ({why}). Check the connection, or fetch {ARCHIVE} in a "
                            f"browser, put it in {folder.parent} and run again.") from error
    except ValueError as error:  # pooch: the hash does not match; the file is already deleted
        raise DownloadError(f"What came from {url} is not the archive: its md5 is not {md5}. It was deleted. A "
                            "proxy or login page may stand in between; try again, or use a browser.") from error


def unpack(archive: Path, work: Path, dest: Path) -> None:
    """Extract a zip into the folder ``work``, then move its files to ``dest``, each in one step.

    Raises DownloadError where the zip is corrupt; ``dest`` is as it was. ``zipfile`` keeps names inside ``work``.
    """
    try:
        with zipfile.ZipFile(archive) as bundle:
            bundle.extractall(work)
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise DownloadError(f"{archive} is corrupt ({error}): download it again.") from error
    for path in sorted(work.rglob("*")):
        if path.is_file():
            target = dest / path.relative_to(work)
            target.parent.mkdir(parents=True, exist_ok=True)
            os.replace(path, target)


def alone(folder: Path) -> contextlib.AbstractContextManager:
    """Of several processes that make one folder, one at a time; who has to wait says so. A killed one lets go."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(folder.with_name(f".{folder.name}.lock"))
    try:
        return lock.acquire(timeout=0)
    except filelock.Timeout:
        print(f"Another process is at work on {folder}: waiting for it.", file=sys.stderr)
        return lock.acquire()
