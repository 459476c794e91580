"""RAVDESS as it is on disk: the file-name convention, the index, the checksums and the download.

Livingstone and Russo (2018), doi 10.1371/journal.pone.0196391; audio from Zenodo record 1188976.

From a terminal::

    python -m ser_utils.data.ravdess download [FOLDER]
    python -m ser_utils.data.ravdess validate [FOLDER]
    python -m ser_utils.data.ravdess index FOLDER [--output FILE]
"""

import argparse
import contextlib
import hashlib
import os
import shutil
import sys
import threading
import time
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from itertools import product
from pathlib import Path, PurePosixPath, PureWindowsPath

import pandas as pd
from tqdm import tqdm

from ser_utils import EMOTIONS, paths

MODALITIES = ("audio-video", "video", "audio")
CHANNELS = ("speech", "song")
INTENSITIES = ("normal", "strong")
STATEMENTS = ("Kids are talking by the door", "Dogs are sitting by the door")
REPETITIONS = (1, 2)
ACTORS = tuple(range(1, 25))
GENDERS = ("male", "female")

NOT_SUNG = ("disgust", "surprised")
ACTOR_WITHOUT_SONG = 18
IDENTICAL_CLIPS = ("03-01-03-01-02-01-07", "03-01-03-01-02-02-07")

FIELDS = (
    ("modality", len(MODALITIES)),
    ("vocal channel", len(CHANNELS)),
    ("emotion", len(EMOTIONS)),
    ("intensity", len(INTENSITIES)),
    ("statement", len(STATEMENTS)),
    ("repetition", len(REPETITIONS)),
    ("actor", len(ACTORS)),
)
CODES = tuple(f"{number:02d}" for number in range(1, 25))
CONVENTION = (
    "RAVDESS names are modality-channel-emotion-intensity-statement-repetition-actor, two digits each, "
    "for example 03-01-05-02-01-02-16.wav"
)
AUDIO_SUFFIXES = (".wav", ".flac")  # in order of preference
COLUMNS = (
    "clip", "path", "modality", "channel", "emotion", "label", "intensity", "statement", "repetition",
    "actor", "gender",
)

ARCHIVE = "Audio_Speech_Actors_01-24.zip"
ARCHIVE_URL = f"https://zenodo.org/records/1188976/files/{ARCHIVE}?download=1"
ARCHIVE_MD5 = "bc696df654c87fed845eb13823edef8a"
PARTIAL = ".partial"  # work folder of a download; one that is there without a download running was killed

INDEX_VERSION = "1.0"
INDEX_FILE = Path(__file__).parent / "ravdess_index.csv"

WHAT_TO_DO = (
    "Set RAVDESS_DIR to the folder that holds Actor_01 ... Actor_24, or put the archive's Actor_XX folders "
    "in data/ravdess, or run `make data` to download them"
)


class DownloadError(OSError):
    """The archive could not be fetched, or what came is not the archive."""


# ---------------------------------------------------------------------------------------------- names


def parse_name(path: str | os.PathLike) -> dict:
    """Read a RAVDESS file name (with or without folder and suffix).

    Returns
    -------
    dict
        clip (the stem), modality, channel, emotion, label (0-7), intensity, statement (1 or 2),
        repetition (1 or 2), actor (1-24), gender.

    Raises
    ------
    ValueError
        When the name is none of the corpus's 7,356; the message shows the name, the field at fault and
        the convention.
    """
    name = Path(path).name
    stem = Path(name).stem
    parts = stem.split("-")
    if len(parts) != len(FIELDS):
        raise ValueError(f"'{name}' has {len(parts)} field(s), not {len(FIELDS)} with hyphens. {CONVENTION}.")
    numbers = []
    for text, (title, highest) in zip(parts, FIELDS, strict=True):
        if text not in CODES[:highest]:
            fault = f"the {title} field is '{text}', not 01 to {highest:02d}"
            raise ValueError(f"'{name}': {fault}. {CONVENTION}.")
        numbers.append(int(text))
    modality, channel, emotion, intensity, statement, repetition, actor = numbers
    info = {
        "clip": stem,
        "modality": MODALITIES[modality - 1],
        "channel": CHANNELS[channel - 1],
        "emotion": EMOTIONS[emotion - 1],
        "label": emotion - 1,
        "intensity": INTENSITIES[intensity - 1],
        "statement": statement,
        "repetition": repetition,
        "actor": actor,
        "gender": GENDERS[(actor - 1) % 2],
    }
    fault = _absent(info)
    if fault:
        raise ValueError(f"'{name}': {fault}. {CONVENTION}.")
    return info


def _absent(info: dict) -> str | None:
    """Why a combination of valid fields was never recorded, or None if it was."""
    if info["emotion"] == "neutral" and info["intensity"] == "strong":
        return "the intensity field is '02', but neutral (emotion 01) has no strong intensity"
    if info["channel"] == "song" and info["emotion"] in NOT_SUNG:
        return f"the emotion field is {info['emotion']}, which was spoken but not sung (channel 02)"
    if info["channel"] == "song" and info["actor"] == ACTOR_WITHOUT_SONG:
        return f"the actor field is '{ACTOR_WITHOUT_SONG}', who recorded no song (channel 02)"
    return None


def all_names() -> Iterator[str]:
    """Yield the stems of all 7,356 files of the corpus, sorted."""
    for codes in product(*(CODES[:highest] for _, highest in FIELDS)):
        stem = "-".join(codes)
        try:
            parse_name(stem)
        except ValueError:
            continue
        yield stem


def speech_names() -> list[str]:
    """The stems of the 1,440 audio-only speech clips, sorted."""
    return list(_speech_names())


@cache
def _speech_names() -> tuple[str, ...]:
    return tuple(stem for stem in all_names() if stem.startswith("03-01-"))


# ---------------------------------------------------------------------------------------------- index


def default_root() -> Path:
    """Where the corpus is looked for: ``RAVDESS_DIR`` if set, else data/ravdess of the checkout."""
    named = os.environ.get("RAVDESS_DIR", "").strip()
    return Path(named).expanduser() if named else paths.DATA / "ravdess"


def audio_files(root: str | os.PathLike) -> list[Path]:
    """The WAV and FLAC files in ``root`` and in its Actor_XX folders, sorted; hidden files are left out.

    If there are none, the Actor_XX folders one level deeper are tried (an archive unpacked with its name).

    Raises
    ------
    FileNotFoundError
        When ``root`` is no folder or holds no audio; the message says what to do.
    """
    root = Path(root)
    if not root.is_dir():
        raise FileNotFoundError(f"No RAVDESS folder at {root}. {WHAT_TO_DO}.")
    for patterns in (("*", "Actor_*/*"), ("*/Actor_*/*",)):
        files = sorted(
            path for pattern in patterns for path in root.glob(pattern)
            if path.suffix.lower() in AUDIO_SUFFIXES and path.is_file()
            and not any(part.startswith(".") for part in path.relative_to(root).parts)
        )
        if files:
            return files
    raise FileNotFoundError(f"No WAV or FLAC files in {root} or in Actor_XX folders there. {WHAT_TO_DO}.")


def _by_clip(files: Iterable[Path]) -> dict[str, Path]:
    """One file a clip; of two with the same stem the WAV."""
    preferred = sorted(files, key=lambda path: (AUDIO_SUFFIXES.index(path.suffix.lower()), str(path)))
    chosen: dict[str, Path] = {}
    for path in preferred:
        chosen.setdefault(path.stem, path)
    return dict(sorted(chosen.items()))


def index(root: str | os.PathLike) -> pd.DataFrame:
    """The audio-only speech clips in ``root``, one row a clip, sorted by clip.

    ``root`` is flat or has Actor_XX folders; WAV or FLAC, WAV preferred. Song is left out. Whether all
    1,440 are there is not checked here: see `missing_clips` and `validate`.

    Returns
    -------
    DataFrame
        Columns: clip, path (str), modality, channel, emotion, label (0-7), intensity, statement,
        repetition, actor, gender.

    Raises
    ------
    FileNotFoundError
        When the folder is missing or holds no speech clip.
    ValueError
        When an audio file there has a name outside the convention.
    """
    rows = []
    for path in _by_clip(audio_files(root)).values():
        try:
            info = parse_name(path)
        except ValueError as error:
            raise ValueError(f"{path} is no RAVDESS clip: {error} Rename it or move it away.") from None
        if info["modality"] == "audio" and info["channel"] == "speech":
            rows.append({**info, "path": str(path)})
    if not rows:
        raise FileNotFoundError(f"No speech clips (03-01-...) in {root}. {WHAT_TO_DO}.")
    return pd.DataFrame(rows, columns=list(COLUMNS))


def index_of(clips: Iterable[str]) -> pd.DataFrame:
    """The table of `index` without ``path``, a row a name in the order given, from the names alone.

    Raises ValueError for a name outside the convention.
    """
    return pd.DataFrame([parse_name(clip) for clip in clips], columns=[name for name in COLUMNS if name != "path"])


def is_complete(root: str | os.PathLike) -> bool:
    """Whether a folder holds a file for each of the 1,440 speech clips; their content is not looked at."""
    try:
        return not missing_clips(index(root))
    except FileNotFoundError:
        return False


def missing_clips(table: pd.DataFrame) -> list[str]:
    """Which of the 1,440 speech clips an index lacks, sorted."""
    present = set(table["clip"])
    return [clip for clip in speech_names() if clip not in present]


# ------------------------------------------------------------------------------------------ checksums


def describe(path: str | os.PathLike) -> dict:
    """Samples, rate, channels and the sha256 of one file's decoded samples.

    The checksum is over the samples (int16, little-endian, channels interleaved), so a WAV and its FLAC
    have the same. Raises ``soundfile.LibsndfileError`` when the file cannot be decoded.
    """
    import soundfile

    waveform, rate = soundfile.read(str(path), dtype="int16", always_2d=True)
    return {
        "samples": waveform.shape[0],
        "rate": rate,
        "channels": waveform.shape[1],
        "sha256": hashlib.sha256(waveform.astype("<i2").tobytes()).hexdigest(),
    }


def build_index(root: str | os.PathLike) -> pd.DataFrame:
    """Make the table of checksums from the audio in ``root``: clip, samples, rate, channels, sha256.

    This made the versioned table ``ser_utils/data/ravdess_index.csv``. Errors as in `index` and `describe`.
    """
    table = index(root)
    with ThreadPoolExecutor() as pool:
        found = list(tqdm(pool.map(describe, table["path"]), total=len(table), desc="checksums", unit="clip"))
    return pd.concat([table[["clip"]], pd.DataFrame(found)], axis=1)


def reference() -> pd.DataFrame:
    """The versioned table of checksums (``INDEX_VERSION``): clip, samples, rate, channels, sha256."""
    return pd.read_csv(INDEX_FILE)


@dataclass(frozen=True)
class Validation:
    """What `validate` found: missing clips, corrupt ones as (clip, reason), and files that do not belong."""

    missing: list[str] = field(default_factory=list)
    corrupt: list[tuple[str, str]] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """True when all 1,440 clips are there and intact (files that do not belong do not matter)."""
        return not self.missing and not self.corrupt

    def __str__(self) -> str:
        total = len(speech_names())
        good = total - len(self.missing) - len(self.corrupt)
        lines = [f"{good:,} of {total:,} clips are there and intact."]
        lines += _listing("missing", self.missing)
        lines += _listing("corrupt", [f"{clip}: {reason}" for clip, reason in self.corrupt])
        lines += _listing("not part of the speech corpus (ignored)", self.unexpected)
        return "\n".join(lines)


def _listing(title: str, items: list[str], most: int = 10) -> list[str]:
    if not items:
        return []
    more = [f"  ... and {len(items) - most:,} more"] if len(items) > most else []
    return [f"{len(items):,} {title}:", *(f"  {item}" for item in items[:most]), *more]


def _fault(path: Path, expected: dict) -> str | None:
    """What is wrong with one file, or None."""
    import soundfile

    if path.stat().st_size == 0:
        return "the file is empty (0 bytes)"
    try:
        found = describe(path)
    except (soundfile.LibsndfileError, OSError) as error:
        return f"cannot be decoded ({error})"
    for key in ("rate", "channels", "samples"):
        if found[key] != expected[key]:
            return f"{key} {found[key]:,}, expected {expected[key]:,}"
    if found["sha256"] != expected["sha256"]:
        return "the samples differ from the published ones"
    return None


def validate(root: str | os.PathLike) -> Validation:
    """Check every clip in ``root`` against the versioned checksums (after mirdata's ``validate``).

    Raises FileNotFoundError when the folder is missing or holds no audio; anything else is reported in
    the returned `Validation`.
    """
    files = _by_clip(audio_files(root))
    expected = reference().set_index("clip").to_dict("index")
    present = [clip for clip in files if clip in expected]

    with ThreadPoolExecutor() as pool:
        checks = pool.map(lambda clip: _fault(files[clip], expected[clip]), present)
        faults = list(tqdm(checks, total=len(present), desc="validate", unit="clip"))
    return Validation(
        missing=[clip for clip in expected if clip not in files],
        corrupt=[(clip, reason) for clip, reason in zip(present, faults, strict=True) if reason],
        unexpected=[str(path) for clip, path in files.items() if clip not in expected],
    )


def cite() -> str:
    """How to cite RAVDESS, with its licence."""
    return (
        "Livingstone SR, Russo FA (2018). The Ryerson Audio-Visual Database of Emotional Speech and Song "
        "(RAVDESS): A dynamic, multimodal set of facial and vocal expressions in North American English. "
        "PLoS ONE 13(5): e0196391. https://doi.org/10.1371/journal.pone.0196391\n"
        "Audio: https://zenodo.org/records/1188976, doi 10.5281/zenodo.1188976. "
        "Licence: Creative Commons BY-NC-SA 4.0 (attribution, non-commercial, share alike)."
    )


# ------------------------------------------------------------------------------------------- download


def download(
    dest: str | os.PathLike,
    url: str = ARCHIVE_URL,
    md5: str = ARCHIVE_MD5,
    attempts: int = 3,
    timeout: tuple[float, float] = (5.0, 60.0),
    progress: bool = True,
) -> Path:
    """Fetch the speech archive (208 MB) and unpack its Actor_XX folders into ``dest``.

    The archive is checked by its md5 and unpacked in ``dest/.partial``; only then are the files moved into
    place, so that a run killed at any point is simply run again. An intact archive that lies in ``dest``
    under its own name is used as it is and kept; one with a wrong md5 is deleted.

    Parameters
    ----------
    dest : folder, made if missing.
    attempts : how often the transfer is tried, with a pause in between, before it counts as failed.
    timeout : seconds to wait for a connection and for the next bytes.

    Returns
    -------
    Path
        ``dest``.

    Raises
    ------
    DownloadError
        When the archive cannot be fetched, has the wrong md5, is corrupt or would write outside ``dest``.
    """
    dest = Path(dest)
    partial = dest / PARTIAL
    archive = dest / ARCHIVE
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        by_hand = archive.exists() and _intact(archive, md5)
        if not by_hand:
            os.replace(_fetch(url, md5, partial, attempts, timeout, progress), archive)
        try:
            unpacked = _unpack(archive, partial / "unpacked")
        except DownloadError:
            archive.unlink(missing_ok=True)
            raise
        _move_into(unpacked, dest)
        if not by_hand:
            archive.unlink()
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        if not any(dest.iterdir()):
            dest.rmdir()
    return dest


def reachable(url: str = ARCHIVE_URL, seconds: float = 8.0) -> bool:
    """Whether a server answers for ``url``, within ``seconds`` even if the look-up of its name hangs."""
    import requests

    answered = threading.Event()

    def ask() -> None:
        with contextlib.suppress(requests.exceptions.RequestException):
            requests.head(url, timeout=seconds, allow_redirects=True)
            answered.set()

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(seconds)
    return answered.is_set()


def _intact(archive: Path, md5: str) -> bool:
    """Whether an archive found on disk is the right one; if not, it is deleted and that is said."""
    import pooch

    found = pooch.file_hash(str(archive), alg="md5")
    if found == md5:
        return True
    archive.unlink()
    print(f"{archive} had md5 {found}, not {md5}: deleted; downloading it anew.", file=sys.stderr)
    return False


def _fetch(url: str, md5: str, folder: Path, attempts: int, timeout: tuple, progress: bool) -> Path:
    """Transfer ``url`` into ``folder``; partial and wrong files are removed."""
    import pooch
    import requests

    pooch.get_logger().setLevel("WARNING")
    downloader = pooch.HTTPDownloader(progressbar=progress, chunk_size=1 << 16, timeout=timeout)
    for attempt in range(1, attempts + 1):
        try:
            return Path(pooch.retrieve(url, f"md5:{md5}", fname=ARCHIVE, path=folder, downloader=downloader))
        except requests.exceptions.RequestException as error:
            if attempt == attempts:
                raise DownloadError(
                    f"Could not download {url} ({_plain(error)}). Check the connection, or fetch {ARCHIVE} "
                    f"in a browser, put it in {folder.parent} and run again."
                ) from error
            time.sleep(min(attempt, 10))
        except ValueError as error:  # pooch: the hash does not match; the file is already deleted
            raise DownloadError(
                f"What came from {url} is not the archive: its md5 is not {md5}. The file was deleted. "
                "A proxy or login page may stand in between; try again, or fetch the archive in a browser."
            ) from error
    raise ValueError(f"attempts must be at least 1, not {attempts}")


def _plain(error: OSError) -> str:
    """A few words for a failed request (a ``requests.exceptions.RequestException``)."""
    import requests

    if isinstance(error, requests.exceptions.HTTPError):
        return f"the server answered {error.response.status_code}"
    if isinstance(error, requests.exceptions.Timeout):
        return "no answer in time"
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return "the transfer broke off"
    if isinstance(error, requests.exceptions.ConnectionError):
        return "no connection"
    return type(error).__name__


def _unpack(archive: Path, folder: Path) -> Path:
    """Extract a zip into ``folder``, refusing names that lead out of it."""
    try:
        with zipfile.ZipFile(archive) as bundle:
            for name in bundle.namelist():
                posix, windows = PurePosixPath(name), PureWindowsPath(name)
                if posix.is_absolute() or windows.drive or windows.root or ".." in windows.parts:
                    raise DownloadError(f"{archive} holds the unsafe name '{name}': nothing was unpacked.")
            bundle.extractall(folder)
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise DownloadError(f"{archive} is corrupt ({error}) and was deleted: download it again.") from error
    return folder


def _move_into(source: Path, dest: Path) -> None:
    """Move every file below ``source`` to the same place below ``dest``, each in one step."""
    for path in sorted(source.rglob("*")):
        if path.is_file():
            target = dest / path.relative_to(source)
            target.parent.mkdir(parents=True, exist_ok=True)
            os.replace(path, target)


# ------------------------------------------------------------------------------------------- terminal


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m ser_utils.data.ravdess", description="Get and check RAVDESS.")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text in (
        ("download", "fetch the speech archive (208 MB) from Zenodo unless it is there, and validate it"),
        ("validate", "check every clip against the versioned checksums"),
        ("index", "make the table of checksums from the audio"),
    ):
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument(
            "folder", nargs="?", type=Path, help="the corpus; default: RAVDESS_DIR, else data/ravdess"
        )
        if name == "index":
            command.add_argument("--output", type=Path, help="write the table here instead of the terminal")
        if name == "download":
            command.add_argument("--url", default=ARCHIVE_URL, help="another place to fetch the archive from")
            command.add_argument("--md5", default=ARCHIVE_MD5, help="the md5 it must have")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit status (0: all well, 1: an error or a faulty corpus)."""
    options = _parser().parse_args(arguments)
    root = options.folder or default_root()
    try:
        if options.command == "index":
            return _write_index(root, options.output)
        if options.command == "download" and is_complete(root):
            print(f"All 1,440 clips are in {root}: checking them instead of downloading.")
        elif options.command == "download":
            print(f"Downloading RAVDESS speech to {root}\n{cite()}")
            download(root, url=options.url, md5=options.md5)
        found = validate(root)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped; run it again to start over", file=sys.stderr)
        return 130
    print(found, file=sys.stdout if found.ok else sys.stderr)
    return 0 if found.ok else 1


def _write_index(root: Path, output: Path | None) -> int:
    table = build_index(root)
    if output is None:
        table.to_csv(sys.stdout, index=False, lineterminator="\n")
        return 0
    with paths.atomic_write(output) as temporary:
        table.to_csv(temporary, index=False, lineterminator="\n")
    print(f"{output}: {len(table):,} clips")
    return 0


if __name__ == "__main__":
    sys.exit(main())
