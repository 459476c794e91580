"""RAVDESS as it is on disk: the index, the checksums, and the commands that get and check it.

From a terminal: ``python -m ser_utils.data.ravdess download [FOLDER]`` or ``validate [FOLDER]``.
"""

import argparse
import hashlib
import os
import shutil
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from tqdm import tqdm
from tqdm.contrib.concurrent import thread_map

from ser_utils import EMOTIONS, paths  # noqa: F401
from ser_utils.data.download import ARCHIVE_MD5, ARCHIVE_URL, DownloadError, alone, by_hand, fetch, unpack  # noqa: F401
from ser_utils.data.names import index_of, parse_name, speech_names  # noqa: F401

AUDIO_SUFFIXES = (".wav", ".flac")  # in order of preference
DEPTH = 3  # folders below the root in which clips are looked for
MARKER = "synthetic.json"  # marks a folder of made-up clips, which have RAVDESS's names
PARTIAL = ".partial"  # work folder of a download; one that is there without a download running was killed
INDEX_FILE = Path(__file__).parent / "ravdess_index.csv"
CITATION = (
    "Livingstone SR, Russo FA (2018). The Ryerson Audio-Visual Database of Emotional Speech and Song (RAVDESS): A "
    "dynamic, multimodal set of facial and vocal expressions in North American English. PLoS ONE 13(5): e0196391. "
    "https://doi.org/10.1371/journal.pone.0196391\n"
    "Audio: https://zenodo.org/records/1188976, doi 10.5281/zenodo.1188976. Licence: Creative Commons BY-NC-SA 4.0 "
    "(attribution, non-commercial, share alike).")
WHAT_TO_DO = ("Set RAVDESS_DIR to the folder that holds Actor_01 ... Actor_24, or put the archive or its Actor_XX "
              "folders in data/ravdess, or run `make data` to download them")


def default_root() -> Path:
    """Where the corpus is looked for: ``RAVDESS_DIR`` (see `paths.named`), else data/ravdess of the checkout."""
    return paths.named("RAVDESS_DIR", paths.DATA / "ravdess")


class Files(NamedTuple):
    """The audio files of a folder: one a speech clip, by its name; others; and what can't be read."""

    clips: dict[str, Path]
    others: list[Path]
    unreadable: list[Path]

    def say_unreadable(self) -> str:
        """A sentence for an error message, or nothing."""
        return (f" {len(self.unreadable):,} files or folders there can't be read (no permission, or links to nothing), "
                f"such as {self.unreadable[0]}.") if self.unreadable else ""


def files(root: str | os.PathLike) -> Files:
    """The WAV and FLAC files in ``root`` and up to three folders deeper; hidden ones are left out.

    Of two files of one clip the one nearer to ``root`` counts, then the WAV. Folders of the synthetic corpus below
    ``root`` are left out. Raises PermissionError where ``root`` is there and can't be read.
    """
    root = Path(root)
    if not os.path.lexists(root):
        return Files({}, [], [])
    audio, unreadable = [], []
    for folder, folders, names in os.walk(root, onerror=lambda error: unreadable.append(Path(error.filename)),
                                          followlinks=True):
        depth = len(Path(folder).parts) - len(root.parts)
        synthetic = depth and MARKER in names
        folders[:] = [name for name in folders if not name.startswith(".") and depth < DEPTH and not synthetic]
        for path in (Path(folder, name) for name in names if not name.startswith(".") and not synthetic):
            if path.suffix.lower() in AUDIO_SUFFIXES:
                (audio if os.path.isfile(path) else unreadable).append(path)
    audio.sort(key=lambda path: (len(path.parts), AUDIO_SUFFIXES.index(path.suffix.lower()), path))
    nearest = {path.stem: path for path in reversed(audio)}
    if root in unreadable:
        raise PermissionError(f"{root} can't be read: no permission, or no folder. {WHAT_TO_DO}.")
    clips = {clip: nearest[clip] for clip in speech_names() if clip in nearest}
    return Files(clips, [path for path in audio if path.stem not in clips], unreadable)


def index(root: str | os.PathLike) -> pd.DataFrame:
    """The audio-only speech clips in ``root``, all 1,440 or fewer, one row a clip, sorted by clip.

    The columns of :func:`index_of` and path (str). Raises FileNotFoundError where there is none, PermissionError where
    ``root`` can't be read; the message says what to do.
    """
    found = files(root)
    if not found.clips:
        lacking = (f"No speech clips (03-01-....wav or .flac) in {root} or up to {DEPTH} folders deeper"
                   if os.path.lexists(root) else f"No RAVDESS folder at {root}")
        raise FileNotFoundError(f"{lacking}.{found.say_unreadable()} {WHAT_TO_DO}.")
    table = index_of(found.clips)
    table.insert(1, "path", [str(path) for path in found.clips.values()])
    return table


def describe(path: str | os.PathLike) -> dict:
    """Samples, rate, channels and the sha256 of one file's decoded samples.

    A WAV, its FLAC and a lossless copy of more bits have the same checksum: that of int16, little-endian, channels
    interleaved. Raises ValueError when the file cannot be decoded.
    """
    import soundfile

    try:
        with open(path, "rb") as file:
            wave, rate = soundfile.read(file, dtype="float64", always_2d=True)
    except (OSError, RuntimeError, ValueError, TypeError) as error:  # soundfile's own are RuntimeErrors
        raise ValueError(f"{path} cannot be decoded ({getattr(error, 'strerror', None) or error})") from error
    steps = wave * 32768
    whole = np.array_equal(steps, np.rint(steps)) and (not steps.size or -32768 <= steps.min() <= steps.max() < 32768)
    return {"samples": len(wave), "rate": rate, "channels": wave.shape[1],
            "sha256": hashlib.sha256((steps.astype("<i2") if whole else wave).tobytes()).hexdigest()}


def reference() -> pd.DataFrame:
    """The versioned table of checksums: clip, and what :func:`describe` says of the published WAV files."""
    return pd.read_csv(INDEX_FILE)


class Validation(NamedTuple):
    """What :func:`validate` found: missing clips, corrupt ones as (clip, reason), and files that don't matter."""

    missing: list[str]
    corrupt: list[tuple[str, str]]
    unexpected: list[str]
    unreadable: list[str]

    @property
    def ok(self) -> bool:
        """Whether all 1,440 clips are there and intact."""
        return not self.missing and not self.corrupt

    def __str__(self) -> str:
        lines = [f"{1440 - len(self.missing) - len(self.corrupt):,} of 1,440 clips are there and intact."]
        titles = ("missing", "corrupt", "not part of the speech corpus (ignored)",
                  "not readable: no permission, or a link to nothing (ignored)")
        for title, items in zip(titles, self, strict=True):
            if items:
                lines.append(f"{len(items):,} {title}:")
            lines += [f"  {item if isinstance(item, str) else ': '.join(item)}" for item in items[:10]]
            if len(items) > 10:
                lines.append(f"  ... and {len(items) - 10:,} more")
        return "\n".join(lines)


def _fault(path: Path, expected: dict) -> str | None:
    """What is wrong with one file, if anything."""
    try:
        found = describe(path)
    except ValueError as error:
        return str(error)
    for key in ("rate", "channels", "samples"):
        if found[key] != expected[key]:
            return f"{key} {found[key]:,}, expected {expected[key]:,}"
    return None if found["sha256"] == expected["sha256"] else "the samples differ from the published ones"


def validate(root: str | os.PathLike) -> Validation:
    """Check every clip in ``root`` against the versioned checksums, as mirdata does; raises as :func:`index`."""
    found, expected = files(root), reference().set_index("clip").to_dict("index")
    present = [clip for clip in index(root)["clip"] if clip in expected]
    faults = thread_map(lambda clip: _fault(found.clips[clip], expected[clip]), present, tqdm_class=tqdm,
                        desc="validate", unit="clip")
    return Validation([clip for clip in expected if clip not in found.clips],
                      [(clip, reason) for clip, reason in zip(present, faults, strict=True) if reason],
                      [str(path) for path in found.others], [str(path) for path in found.unreadable])


def download(dest: str | os.PathLike, url: str = ARCHIVE_URL, md5: str = ARCHIVE_MD5) -> Path:
    """Fetch the speech archive (208 MB) and unpack its Actor_XX folders into ``dest``, unless all clips are there.

    It is checked by its md5 and unpacked beside: a killed run is simply run again, of two at once the second waits. An
    intact archive that lies in ``dest`` is used instead of a transfer; any that lies there stays as it is. Returns
    ``dest``. Raises DownloadError (see `fetch`; also of a corrupt archive), and OSError when the disk is full.
    """
    dest = Path(dest).absolute()
    with alone(dest):
        if len(files(dest).clips) == len(speech_names()):
            return dest
        made, partial = not dest.exists(), dest / PARTIAL
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        try:
            archive = by_hand(dest, md5)
            for other in () if archive else dest.glob("*.zip"):
                print(f"{other} is not the published archive (its md5 differs): not used, left as it is.",
                      file=sys.stderr)
            unpack(archive or fetch(url, md5, partial), partial / "unpacked", dest)
        except OSError as error:
            if error.errno in paths.FULL:
                raise OSError(error.errno, f"The disk is full: RAVDESS needs 1 GB in {dest} while it is unpacked. "
                                            "Free some space and run again.") from error
            raise
        finally:
            shutil.rmtree(partial, ignore_errors=True)
            if made and not any(dest.iterdir()):
                dest.rmdir()
    return dest


def main(arguments: list[str] | None = None) -> int:
    """The command line; 0 where all is well, 1 for an error or a faulty corpus."""
    parser = argparse.ArgumentParser(prog="python -m ser_utils.data.ravdess", description="Get and check RAVDESS.")
    parser.add_argument("command", nargs="?", default="download", choices=["download", "validate"],
                        help="fetch the speech archive (208 MB) from Zenodo if need be, or not; check every clip "
                        "against the versioned checksums")
    parser.add_argument("folder", nargs="?", type=Path, help="the corpus; default: RAVDESS_DIR, else data/ravdess")
    options = parser.parse_args(arguments)
    root = options.folder or default_root()
    try:
        if options.command == "download" and len(files(root).clips) < len(speech_names()):  # else no lock is needed
            print(f"RAVDESS speech in {root}\n{CITATION}")
            download(root)
        found = validate(root)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped; run it again to start over", file=sys.stderr)
        return 130
    print(found, file=sys.stdout if found.ok else sys.stderr)
    return 0 if found.ok else 1


if __name__ == "__main__":
    sys.exit(main())
