"""Which corpus there is to work on: RAVDESS if it can be had, else the synthetic one, never in silence."""

import functools
import os
import sys
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from ser_utils import paths
from ser_utils.data import download, names, ravdess, synthetic

KINDS = ("auto", "ravdess", "synthetic")
BANNER = "Synthetic corpus: not RAVDESS. Numbers and figures here say nothing about real speech."


@dataclass(frozen=True)
class Corpus:
    """Audio to work on: its folder, its kind ("ravdess" or "synthetic") and its index (`ravdess.index`)."""

    root: Path
    kind: str
    index: pd.DataFrame

    @property
    def banner(self) -> str | None:
        """The words every figure and table of a synthetic corpus must carry; None for RAVDESS."""
        return BANNER if self.kind == "synthetic" else None


def find(kind: str = "auto", allow_download: bool = True) -> Corpus:
    """Find a corpus: RAVDESS_DIR, data/ravdess, a download to data/ravdess, or else the synthetic one, with a warning.

    If RAVDESS_DIR is set, only that folder is looked at. An archive that lies in the folder is unpacked there.
    ``kind``: "auto" takes what there is (the environment variable SER_CORPUS, if set, takes its place), "ravdess" never
    falls back, "synthetic" never looks for RAVDESS. ``allow_download``: whether the archive (208 MB) may be fetched;
    SER_OFFLINE=1 forbids it too. Raises FileNotFoundError when clips are missing, ValueError for an unknown kind, else
    as ``ravdess.index``.
    """
    if kind == "auto":
        kind = os.environ.get("SER_CORPUS", "").strip() or "auto"
    if kind not in KINDS:
        raise ValueError(f"Unknown corpus {kind!r} (argument or SER_CORPUS): choose from {', '.join(KINDS)}.")
    if kind == "synthetic":
        return _synthetic()
    try:
        return _ravdess(allow_download and os.environ.get("SER_OFFLINE", "") in ("", "0"))
    except _NoCorpus as error:
        if kind == "ravdess":
            raise
        print(f"{error}\nWARNING: working on made-up speech instead. {BANNER}", file=sys.stderr)
        return _synthetic()


def for_profile(profile: str) -> Corpus:
    """The corpus of a profile: smoke takes the synthetic one, full and robust RAVDESS alone, quick what there is."""
    return find({"smoke": "synthetic", "full": "ravdess", "robust": "ravdess"}.get(profile, "auto"))


class _NoCorpus(FileNotFoundError):
    """There is no RAVDESS anywhere, and none could be fetched."""


def _ravdess(may_download: bool) -> Corpus:
    """RAVDESS, complete; raises _NoCorpus if there is none at all, FileNotFoundError if it is at fault."""
    root, named = ravdess.default_root(), bool(os.environ.get("RAVDESS_DIR", "").strip())
    place = f"RAVDESS_DIR is set to {root}, which cannot be used. " if named else ""
    found, failed = ravdess.files(root), ""
    if len(found.clips) < len(names.speech_names()):
        # A download killed half-way may have left some of the clips: it is begun anew.
        wanted = may_download and not named and (not found.clips or (root / ravdess.PARTIAL).exists())
        if wanted or (root.is_dir() and download.by_hand(root, ravdess.ARCHIVE_MD5)):
            print(f"No complete RAVDESS in {root}: unpacking its archive, or downloading it (208 MB).", file=sys.stderr)
            try:
                ravdess.download(root, ravdess.ARCHIVE_URL, ravdess.ARCHIVE_MD5)
                found = ravdess.files(root)
            except download.DownloadError as error:
                failed = str(error)
    try:
        index = ravdess.index(root)
    except FileNotFoundError as error:
        fault = FileNotFoundError if named else _NoCorpus
        raise fault(f"{place}{failed or error}") from error
    if missing := sorted({*names.speech_names()} - {*found.clips}):
        few = ", ".join(missing[:3]) + (", ..." if len(missing) > 3 else "")
        raise FileNotFoundError(f"{place}{len(missing):,} of the 1,440 speech clips are missing from {root}: {few}."
                                f"{found.say_unreadable()} The folds need them all: copy them there, or run "
                                "`make data`.")
    if found.others:
        _say(f"Ignored in {root}: {len(found.others):,} audio file(s) that are no speech clips of RAVDESS, such as "
             f"{found.others[0].name}.")
    return Corpus(root, "ravdess", index)


@functools.cache  # once a process
def _say(words: str) -> None:
    print(words, file=sys.stderr)


def _synthetic() -> Corpus:
    root = synthetic.make_corpus(paths.DATA / "synthetic")
    return Corpus(root, "synthetic", ravdess.index(root))
