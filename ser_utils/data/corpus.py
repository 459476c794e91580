"""Which corpus there is to work on: RAVDESS if it can be had, else the synthetic one, never in silence."""

import os
import sys
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from ser_utils import paths
from ser_utils.data import ravdess

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


def find(kind: str = "auto", allow_download: bool = True, small: bool = False) -> Corpus:
    """Find a corpus: RAVDESS_DIR, data/ravdess, a download to data/ravdess, or else the synthetic one.

    If RAVDESS_DIR is set, only that folder is looked at. The synthetic corpus is made in data/synthetic
    on first use, and a warning is printed whenever it stands in for RAVDESS.

    Parameters
    ----------
    kind : "auto" takes what there is; "ravdess" never falls back; "synthetic" never looks for RAVDESS. The
        environment variable SER_CORPUS, if set, takes the place of "auto".
    allow_download : whether the archive (208 MB) may be fetched. SER_OFFLINE=1 forbids it too.
    small : of the synthetic corpus only a part (see `synthetic.small_names`), for smoke tests.

    Raises
    ------
    FileNotFoundError
        When RAVDESS_DIR names a folder that is missing or empty, when clips are missing from the RAVDESS
        that was found (the folds need all 1,440), or when kind is "ravdess" and there is none.
    ValueError
        For an unknown kind, or a misnamed audio file in the corpus.
    """
    if kind == "auto":
        kind = os.environ.get("SER_CORPUS", "").strip() or "auto"
    if kind not in KINDS:
        raise ValueError(f"Unknown corpus {kind!r} (argument or SER_CORPUS): choose from {', '.join(KINDS)}.")
    if kind == "synthetic":
        return _synthetic(small)
    try:
        return _ravdess(allow_download and os.environ.get("SER_OFFLINE", "") in ("", "0"))
    except _NoCorpus as error:
        if kind == "ravdess":
            raise FileNotFoundError(str(error)) from error
        print(f"{error}\nWARNING: working on made-up speech instead. {BANNER}", file=sys.stderr)
        return _synthetic(small)


def at(root: str | os.PathLike, kind: str) -> Corpus:
    """The corpus in a folder whose kind is known. Raises as `ravdess.index`."""
    return Corpus(Path(root), kind, ravdess.index(root))


def for_profile(profile: str) -> Corpus:
    """The corpus of a profile: smoke takes the small synthetic one, full only RAVDESS, quick what there is.

    Raises as `find`.
    """
    return find({"smoke": "synthetic", "full": "ravdess"}.get(profile, "auto"), small=profile == "smoke")


class _NoCorpus(Exception):
    """There is no RAVDESS anywhere, and none could be fetched."""


def _ravdess(may_download: bool) -> Corpus:
    """RAVDESS, complete; raises _NoCorpus if there is none at all, FileNotFoundError if it is at fault."""
    root = ravdess.default_root()
    if os.environ.get("RAVDESS_DIR", "").strip():
        try:
            return _complete(root)
        except FileNotFoundError as error:
            raise FileNotFoundError(f"RAVDESS_DIR is set to {root}, which cannot be used. {error}") from error
    nothing = None
    try:
        table = ravdess.index(root)
        # A download killed half-way may have left some of the clips: it is begun anew.
        download = (root / ravdess.PARTIAL).exists() and bool(ravdess.missing_clips(table))
    except FileNotFoundError as error:
        nothing, download = error, True
    if download and may_download:
        try:
            return _download(root)
        except ravdess.DownloadError as error:
            nothing = nothing and error
    if nothing:
        raise _NoCorpus(str(nothing))
    return _complete(root)


def _download(root: Path) -> Corpus:
    """RAVDESS fetched into ``root``; raises DownloadError, within seconds if there is no network."""
    if not ravdess.reachable(ravdess.ARCHIVE_URL):
        raise ravdess.DownloadError(
            f"No RAVDESS in {root}, and no connection to download it. {ravdess.WHAT_TO_DO} when online."
        )
    print(f"No complete RAVDESS in {root}: downloading it (208 MB).", file=sys.stderr)
    return _complete(ravdess.download(root, url=ravdess.ARCHIVE_URL, md5=ravdess.ARCHIVE_MD5))


def _complete(root: Path) -> Corpus:
    """The corpus in ``root``; raises FileNotFoundError unless all 1,440 clips are there."""
    table = ravdess.index(root)
    missing = ravdess.missing_clips(table)
    if missing:
        few = ", ".join(missing[:3]) + (", ..." if len(missing) > 3 else "")
        raise FileNotFoundError(
            f"{len(missing):,} of the 1,440 speech clips are missing from {root}: {few}. The folds need them "
            "all: copy them there, or remove the folder and run `make data`."
        )
    return Corpus(root, "ravdess", table)


def _synthetic(small: bool) -> Corpus:
    from ser_utils.data import synthetic

    root = paths.DATA / ("synthetic-small" if small else "synthetic")
    synthetic.make_corpus(root, names=synthetic.small_names() if small else None)
    return Corpus(root, "synthetic", ravdess.index(root))
