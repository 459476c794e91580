"""Training on a machine that has neither the recordings nor a network: pack here, run there, collect here.

::

    python -m ser_utils.training.bundle pack                          here:  writes dist/bundle.tar.gz
    tar xzf bundle.tar.gz && cd bundle                       there
    python -m ser_utils.training.bundle run --budget 540 --out OUT    there: trains, writes OUT/runs-*.zip
    python -m ser_utils.training.bundle collect OUT/runs-*.zip        here:  checks and merges into runs/

A bundle is the code, the names of the clips and their log-mel spectrograms (:func:`ser_utils.features.spectral.pack`); it
holds no audio. Training from it needs Keras, one of its backends and ``requirements-gpu.txt``, and neither librosa
nor a decoder.
"""

import argparse
import dataclasses
import gzip
import hashlib
import io
import json
import os
import signal
import sys
import tarfile
import tempfile
import time
import zipfile
import zlib
from importlib.util import find_spec
from pathlib import Path

from ser_utils import FOLDS, PROTOCOLS, config, paths
from ser_utils.config import RunConfig
from ser_utils.training import runs

DIST = paths.ROOT / "dist"
MANIFEST = "bundle.json"     # of an unpacked bundle
CORPUS = "data/packed"       # the corpus in an unpacked bundle
FORMAT = "ser-runs-1"        # of an archive of runs
MEGABYTE = 2**20
PACK_MB = 48                 # a bundle is at most this large
PART, PARTS = 15 * MEGABYTE, 8  # an archive of runs has at most 8 parts; with its manifest each is below 16 MB
LIMIT_MB = 60                # all parts together, unless asked otherwise
JOBS = 4                     # runs at a time on one card
RESULTS = ("predictions.csv", "history.csv", "run.json")  # run.json last: it makes a folder count as a run
WEIGHTS, STATE = "model.keras", "state.npz"
NEEDED = ("keras", "absl", "h5py", "ml_dtypes", "namex", "optree", "packaging", "rich", "numpy", "scipy", "pandas",
          "filelock", "tqdm")  # and a backend
FETCH = ("python3 -m pip download --only-binary=:all: --no-deps --python-version 3.12 --platform manylinux_2_28_x86_64 "
         "--platform manylinux2014_x86_64 -r requirements-gpu.txt -d dist/wheels")
INSTALL = "python3 -m pip install --no-index --find-links wheels -r requirements-gpu.txt"


class BundleError(ValueError):
    """A bundle or an archive of runs that cannot be made or used; the message says what to do."""


def sha256(data: bytes) -> str:
    """The checksum of some bytes, in hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def progress(state: Path) -> tuple[str, int]:
    """Hash of the configuration and number of finished epochs of a saved state; ("", 0) where it is of no use."""
    import numpy as np

    try:
        with np.load(state) as stored:
            note = json.loads(str(stored["note"]))
        return note["hash"], len(note["rows"])
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, zlib.error):
        return "", 0


# ------------------------------------------------------------------------------------------------ pack


def pack(profile: str = "full", path: Path = DIST / "bundle.tar.gz", runs: Path = paths.RUNS,
         wheels: Path = DIST / "wheels", limit_mb: float = PACK_MB, published: Path | None = None) -> Path:
    """Write the bundle of a profile: code, clip names, log-mels and a manifest with a checksum for each file.

    Runs that are finished in ``runs`` are listed, so that they are not trained again, and so are those of the same
    settings in ``published`` (``results/``), if given; the states of those under way come along, the furthest first,
    as far as they fit. Wheels come along if ``wheels`` holds any.

    Returns
    -------
    Path
        ``path``, a gzipped tar archive whose files lie in the folder ``bundle``.

    Raises
    ------
    BundleError
        The archive would be larger than ``limit_mb`` (in units of 2**20 bytes).
    FileNotFoundError, ValueError
        There is no corpus for the profile, see :func:`ser_utils.data.corpus.find`.
    """
    from ser_utils import machine
    from ser_utils.data import corpus
    from ser_utils.features import spectral as features

    found = corpus.for_profile(profile)
    store = features.extract(found, config.PROFILES[profile].features)
    files = {str(source.relative_to(paths.ROOT)): source.read_bytes() for source in _code()}
    files["requirements-gpu.txt"] = (paths.ROOT / "requirements-gpu.txt").read_bytes()
    files |= {f"wheels/{wheel.name}": wheel.read_bytes() for wheel in sorted(Path(wheels).glob("*.whl"))}
    index = found.index.drop(columns="path", errors="ignore")
    files[f"{CORPUS}/{corpus.INDEX}"] = index.to_csv(index=False).encode()
    with tempfile.TemporaryDirectory() as folder:
        features.pack(store, Path(folder) / features.PACKED)
        files[f"{CORPUS}/{features.PACKED}"] = (Path(folder) / features.PACKED).read_bytes()
    configs = _every_run(profile, found.kind)
    note = {"profile": profile, "corpus": found.kind, "features": dataclasses.asdict(store.config),
            "features_hash": store.config.hash, "step_db": features.STEP_DB, "revision": machine.revision(),
            "finished": {c.name: c.hash for c in configs
                         if runs.is_finished(c, runs) or published is not None and runs.holds(Path(published) / c.name, c)},
            "files": {name: sha256(data) for name, data in files.items()}}
    files[MANIFEST] = json.dumps(note, indent=1).encode()
    room = limit_mb * MEGABYTE - len(_tar(files))
    if room < 0:
        raise BundleError(f"The bundle would take {limit_mb - room / MEGABYTE:.1f} MB, more than {limit_mb} MB: "
                          f"{len(files[f'{CORPUS}/{features.PACKED}']) / MEGABYTE:.1f} MB of it are features, "
                          f"{sum(len(v) for k, v in files.items() if k.startswith('wheels/')) / MEGABYTE:.1f} MB "
                          "wheels. Install the wheels another way, or raise --limit-mb.")
    for state in _states(configs, runs):
        size = state.stat().st_size + 10_000  # gzip adds less to it than that
        if size < room:
            files[f"runs/{state.relative_to(runs)}"] = state.read_bytes()
            room -= size
    with paths.atomic_write(path) as temporary:
        temporary.write_bytes(_tar(files))
    return Path(path)


def _code() -> list[Path]:
    """The package's files that training reads."""
    package = paths.ROOT / "ser_utils"
    return sorted([*package.rglob("*.py"), *(package / "data").glob("*.csv")])


def _states(configs: list[RunConfig], runs: Path) -> list[Path]:
    """The saved states of runs under way, the one with the largest share of its epochs first."""
    found = []
    for c in configs:
        state = c.run_directory(runs) / STATE
        hash, epochs = progress(state)
        if hash == c.hash and not runs.is_finished(c, runs):
            found.append((epochs / c.epochs, state))
    return [state for _, state in sorted(found, reverse=True)]


def _every_run(profile: str, corpus: str) -> list[RunConfig]:
    """All runs there can be of a profile: those of every protocol and fold, and their variants in studies."""
    from ser_utils.studies import ablation as studies

    everywhere = {"protocols": list(PROTOCOLS), "folds": list(range(FOLDS))}
    found = config.run_configs(profile, corpus, **everywhere)
    for name in studies.STUDIES:
        for variant, configs in studies.run_configs(name, profile, corpus, **everywhere).items():
            found += configs if variant != studies.BASELINE else []
    return found


def _tar(files: dict[str, bytes]) -> bytes:
    """A gzipped tar archive; the same files give the same bytes."""
    out = io.BytesIO()
    with gzip.GzipFile(fileobj=out, mode="wb", mtime=0, compresslevel=6) as zipped, \
            tarfile.open(fileobj=zipped, mode="w") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(f"bundle/{name}")
            member.size, member.mode = len(data), 0o644
            archive.addfile(member, io.BytesIO(data))
    return out.getvalue()


# ------------------------------------------------------------------------------------------------- run


def read(root: Path = paths.ROOT) -> dict:
    """The manifest of an unpacked bundle, its files checked against their checksums.

    Raises
    ------
    BundleError
        ``root`` is no unpacked bundle, or a file of it is missing or damaged.
    """
    try:
        note = json.loads((root / MANIFEST).read_text())
    except FileNotFoundError as error:
        raise BundleError(f"{root} is no unpacked bundle (it has no {MANIFEST}). In a checkout, train with "
                          "`make grid`; elsewhere unpack the bundle and run this command in its folder.") from error
    for name, expected in note["files"].items():
        path = root / name
        if not path.is_file() or sha256(path.read_bytes()) != expected:
            raise BundleError(f"{path} is missing or differs from what was packed. Unpack the bundle again.")
    return note


def environment(jobs: int, root: Path = paths.ROOT) -> dict[str, str]:
    """Settings for ``jobs`` trainings on one card that the environment does not hold yet.

    JAX, unless told otherwise; the card's memory is shared out and taken as it is needed, where one run alone
    takes most of it at once; compiled programs are kept on disk for the next run. An epoch takes less time there than
    saving its state, so that isn't done after every one.
    """
    settings = {"KERAS_BACKEND": "jax", "SER_SAVE_EVERY": "20", "JAX_COMPILATION_CACHE_DIR": str(root / "cache"),
                "JAX_COMPILATION_CACHE_MAX_SIZE": str(4 * 2**30)}  # with a limit, JAX locks the folder
    if jobs > 1:
        settings["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
        if "XLA_CLIENT_MEM_FRACTION" not in os.environ:
            settings["XLA_PYTHON_CLIENT_MEM_FRACTION"] = f"{0.9 / jobs:.3f}"
    return {name: value for name, value in settings.items() if name not in os.environ}


def run(out: Path, models=None, protocols=None, folds=None, study: str | None = None, variants=None,
        budget: float | None = None, jobs: int = JOBS, weights: bool = False, limit_mb: float = LIMIT_MB,
        root: Path = paths.ROOT) -> list[Path]:
    """Train the runs of an unpacked bundle that are missing, and write those finished as archives to ``out``.

    Called again it goes on where it stopped. Runs that were finished before the bundle was made are left out.

    Parameters
    ----------
    models, protocols, folds : lists that narrow the profile's runs down; None takes all of them.
    study, variants : train a study (see :mod:`ser_utils.studies.ablation`, also for its usual protocols and folds) or some of
        its variants, and their baseline, instead of the profile's runs. Variants of other features are left out.
    budget : seconds in which it should be over, archives included.
    jobs : runs at a time.
    weights : whether to write the trained weights too.
    limit_mb : how much is written at most, in units of 2**20 bytes; see :func:`archive`.

    Raises
    ------
    BundleError
        Not a bundle, or a package is missing.
    GridError
        Some runs failed; what finished is in ``out`` nevertheless.
    """
    began = time.monotonic()
    note = read(root)
    os.environ.update(environment(jobs, root))
    missing = [name for name in (*NEEDED, os.environ["KERAS_BACKEND"]) if find_spec(name) is None]
    if missing:
        raise BundleError(f"Not installed here: {', '.join(missing)}. In the bundle's folder:  {INSTALL}\n"
                          f"The wheels are fetched, before packing, with:  {FETCH}")
    from ser_utils.data import corpus
    from ser_utils.studies import ablation as studies
    from ser_utils.training import grid

    if study:
        variants = studies.run_configs(study, note["profile"], note["corpus"], models, variants,
                                       protocols or studies.PROTOCOL, folds or studies.FOLD)
        chosen = [c for configs in variants.values() for c in configs]
    else:
        chosen = config.run_configs(note["profile"], note["corpus"], models, protocols, folds)
    other = [c.name for c in chosen if c.features.hash != note["features_hash"]]
    if other:
        print(f"Left out, as they need other features than the bundle holds: {', '.join(other)}.", flush=True)
    chosen = [c for c in chosen if c.name not in other]
    wanted = [c for c in chosen if note["finished"].get(c.name) != c.hash]
    print(f"{len(chosen)} runs, of which {len(chosen) - len(wanted)} were finished before packing.", flush=True)
    found, runs = corpus.at(root / CORPUS, note["corpus"]), root / "runs"
    left = None if budget is None else max(budget - (time.monotonic() - began) - min(20, 0.1 * budget), 0.001)
    try:
        grid.train(wanted, found, root=runs, jobs=jobs, budget=left)
    finally:
        done = [c for c in wanted if runs.is_finished(c, runs)]
        written = archive(wanted, list(found.index["clip"]), runs, out, weights, limit_mb)
        print(f"{len(done)} of {len(wanted)} runs are finished. Written: {', '.join(map(str, written)) or 'nothing'}")
    return written


def archive(configs: list[RunConfig], clips: list[str], runs: Path, out: Path, weights: bool = False,
            limit_mb: float = LIMIT_MB) -> list[Path]:
    """Write finished runs, and the states of unfinished ones that fit, to ``out/runs-<i>of<n>.zip``.

    Finished runs come first, then (if asked for) their weights, then states, small files before large ones. What
    does not fit into ``limit_mb`` is left out and named. Every part is at most 16 MB large, holds the manifest of
    all, and is a zip file of its own; a file is cut where a part is full.

    Raises
    ------
    BundleError
        ``limit_mb`` asks for more than 8 parts.
    """
    if limit_mb * MEGABYTE > PART * PARTS:
        raise BundleError(f"--limit-mb {limit_mb:g} needs more than {PARTS} parts of {PART / MEGABYTE:g} MB: "
                          f"take {PART * PARTS / MEGABYTE:g} at most.")
    if not configs:
        return []
    by_directory = {c.run_directory(runs): c for c in configs}
    finished = [directory for directory, c in by_directory.items() if runs.is_finished(c, runs)]
    groups = [[[directory / name for name in RESULTS] for directory in finished],
              [[directory / WEIGHTS] for directory in finished if weights and (directory / WEIGHTS).exists()],
              [[state] for state in _states(configs, runs)]]
    room, stream = limit_mb * MEGABYTE, []
    manifest = {"format": FORMAT, "profile": configs[0].profile, "corpus": configs[0].corpus, "clips": clips,
                "runs": {}}
    for group in groups:
        sized = [(sum(path.stat().st_size for path in together), together) for together in group]
        for size, together in sorted(sized):
            c = by_directory[together[0].parent]
            if size > room:
                print(f"Left out, as {limit_mb:g} MB are full: {together[-1].name} of {c.name}, "
                      f"{size / MEGABYTE:.1f} MB.")
                continue
            room -= size
            entry = manifest["runs"].setdefault(c.name, {"config_hash": c.hash, "files": {}})
            for path in together:
                data = path.read_bytes()
                entry["files"][path.name] = {"sha256": sha256(data), "size": len(data)}
                stream.append((f"{c.name}/{path.name}", data))
    if not stream:
        return []
    return _write_parts(stream, json.dumps(manifest).encode(), Path(out))


def _write_parts(stream: list[tuple[str, bytes]], manifest: bytes, out: Path) -> list[Path]:
    """Cut files into parts of ``PART`` bytes; a piece is named ``<file>.<where it begins>``."""
    parts, room = [[]], PART
    for name, data in stream:
        start = 0
        while start < len(data):
            if room == 0:
                parts.append([])
                room = PART
            piece = data[start:start + room]
            parts[-1].append((f"{name}.{start}", piece))
            start, room = start + len(piece), room - len(piece)
    written = []
    for number, pieces in enumerate(parts, start=1):
        written.append(out / f"runs-{number}of{len(parts)}.zip")
        with paths.atomic_write(written[-1]) as temporary, zipfile.ZipFile(temporary, "w") as part:
            part.writestr("manifest.json", manifest, zipfile.ZIP_DEFLATED)
            for name, piece in pieces:
                text = any(f".{suffix}." in name for suffix in ("csv", "json"))
                part.writestr(name, piece, zipfile.ZIP_DEFLATED if text else zipfile.ZIP_STORED)
    return written


# --------------------------------------------------------------------------------------------- collect


def collect(files: list[Path], runs: Path = paths.RUNS) -> dict[str, str]:
    """Merge archives of runs into ``runs``, after everything in all of them was checked.

    Checked are each file's checksum, the run's configuration against today's, that its files agree with each other
    (:func:`ser_utils.evaluation.metrics.read_run`), and that its predictions are those of its fold's clips. A finished run
    that is here already is never overwritten; one of another configuration is moved aside; a saved state takes the
    place of one with fewer epochs.

    Returns
    -------
    dict
        What became of each run, by name; messages that begin with "not taken" need attention.

    Raises
    ------
    BundleError
        An archive is damaged, is none, or holds what no run may hold. Nothing was merged then.
    """
    batches: dict[bytes, dict[str, bytes]] = {}
    for path in files:
        manifest, pieces = _open(Path(path))
        batches.setdefault(manifest, {}).update(pieces)
    runs.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".collect-", dir=runs) as folder:
        outcome, staged = {}, []
        for number, (manifest, pieces) in enumerate(batches.items()):
            note = json.loads(manifest)
            known = {c.name: c for c in _every_run(note["profile"], note["corpus"])}
            for name, entry in note["runs"].items():
                if entry["config_hash"] != known[name].hash:
                    outcome[name] = ("not taken: trained with other settings than ser_utils.config holds now "
                                     f"({entry['config_hash']}, now {known[name].hash}); train it again")
                    continue
                directory = Path(folder) / str(number) / name
                problem = _stage(name, entry["files"], pieces, directory)
                if problem:
                    outcome[name] = problem
                else:
                    _check(known[name], note["clips"], directory)
                    staged.append((known[name], directory))
        for c, directory in staged:
            became = _place(c, directory, runs)
            if became != "here already" or c.name not in outcome:  # two archives may hold the same run
                outcome[c.name] = became
    return outcome


def _open(path: Path) -> tuple[bytes, dict[str, bytes]]:
    """The manifest and the pieces of one part; raises BundleError unless every name in it is one it may hold."""
    try:
        with zipfile.ZipFile(path) as part:
            if sum(info.file_size for info in part.infolist()) > PART + 16 * MEGABYTE:
                raise BundleError(f"{path} would unpack to more than any archive of runs. Nothing was merged.")
            content = {name: part.read(name) for name in part.namelist()}
    except FileNotFoundError as error:
        raise BundleError(f"There is no file {path}.") from error
    except (OSError, RuntimeError, zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise BundleError(f"{path} is damaged ({error}): copy it again. Nothing was merged.") from error
    try:
        manifest = content.pop("manifest.json")
        note = json.loads(manifest)
        other = note["format"] != FORMAT
        listed = {f"{name}/{file}": (int(fact["size"]), str(fact["sha256"]), str(entry["config_hash"]))
                  for name, entry in note["runs"].items() for file, fact in entry["files"].items()}
        if note["corpus"] not in ("ravdess", "synthetic") or not note["clips"]:
            raise ValueError(note["corpus"])
        known = {c.name for c in _every_run(note["profile"], note["corpus"])}
        allowed = {f"{name}/{file}" for name in known for file in (*RESULTS, WEIGHTS, STATE)}
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise BundleError(f"{path} is no archive of runs: `python -m ser_utils.training.bundle run` writes them.") from error
    if other:
        raise BundleError(f"{path} has the format {note['format']!r}, not {FORMAT!r}: it was made by another version "
                          "of this program. Make a new bundle.")
    strange = sorted(set(listed) - allowed) + [name for name in content if name.rpartition(".")[0] not in listed]
    if strange:
        raise BundleError(f"{path} holds {strange[0]!r}, which no archive of runs holds. Nothing was merged.")
    return manifest, content


def _stage(name: str, facts: dict, pieces: dict[str, bytes], directory: Path) -> str | None:
    """Write the files of a run to a folder; says what is missing if the parts at hand do not hold all of them.

    Weights and states that are incomplete are left out as long as the run's results are whole.
    """
    directory.mkdir(parents=True)
    for file, fact in facts.items():
        data = b""
        while len(data) < fact["size"] and (piece := pieces.get(f"{name}/{file}.{len(data)}")):
            data += piece
        if len(data) < fact["size"]:
            if file == WEIGHTS and "run.json" in facts:
                print(f"{name}: {file} is in a part that was not given; taken without it.")
                continue
            return f"not taken: {file} is in a part that was not given; collect all parts at once"
        if sha256(data) != fact["sha256"]:
            raise BundleError(f"{file} of {name} differs from its checksum: copy the archive again. "
                              "Nothing was merged.")
        (directory / file).write_bytes(data)
    return None


def _check(c: RunConfig, clips: list[str], directory: Path) -> None:
    """Raise BundleError unless a folder holds what its configuration and fold promise."""
    import pandas as pd

    from ser_utils.data import folds, ravdess

    names = {path.name for path in directory.iterdir()}
    if names == {STATE}:
        if progress(directory / STATE)[0] != c.hash:
            raise BundleError(f"The saved state of {c.name} is not one of its configuration. Nothing was merged.")
        return
    try:
        if c.corpus == "ravdess" and sorted(clips) != ravdess.speech_names():
            raise ValueError("it was not trained on the 1,440 clips of RAVDESS")
        if not names >= set(RESULTS):
            raise ValueError(f"it lacks {', '.join(sorted(set(RESULTS) - names))}")
        info = json.loads((directory / "run.json").read_text())
        if info["config_hash"] != c.hash or config.from_dict(info["config"]).hash != c.hash:
            raise ValueError("run.json holds another configuration than the manifest")
        if (info["profile"], info["corpus"], info["seed"]) != (c.profile, c.corpus, c.seed):
            raise ValueError("run.json contradicts its configuration")
        runs.read(directory)
        predictions = runs.read_predictions(directory)
        rows = folds.split(pd.DataFrame({"clip": clips}), c.protocol, c.fold)
        for subset in ("val", "test"):
            expected = {clips[row] for row in rows[subset]}
            if set(predictions[predictions.subset == subset]["clip"]) != expected:
                raise ValueError(f"its {subset} predictions are not those of the fold's {len(expected)} clips")
    except (ValueError, KeyError, TypeError) as error:
        raise BundleError(f"{c.name} cannot be taken over: {error}. Nothing was merged.") from error


def _place(c: RunConfig, staged: Path, runs: Path) -> str:
    """Move a checked run into its folder; says what became of it."""
    import filelock

    target = c.run_directory(runs)
    target.mkdir(parents=True, exist_ok=True)
    incoming = progress(staged / STATE)[1]
    try:
        with filelock.FileLock(target / ".lock", timeout=0):
            if runs.is_finished(c, runs):
                if incoming:
                    return "finished here already; its saved state is not needed"
                if any((target / name).read_bytes() != (staged / name).read_bytes() for name in RESULTS):
                    return (f"not taken: another finished run of the same settings is in {target}; delete that "
                            "folder to have this one instead")
                if (staged / WEIGHTS).exists() and not (target / WEIGHTS).exists():
                    os.replace(staged / WEIGHTS, target / WEIGHTS)
                return "here already"
            if incoming:
                here, epochs = progress(target / STATE)
                if here == c.hash and epochs >= incoming:
                    return f"its saved state here is as far ({epochs} epochs)"
                os.replace(staged / STATE, target / STATE)
                return f"goes on here after epoch {incoming} of {c.epochs}"
            if (target / "run.json").exists():

                runs.move_aside(target, json.loads((target / "run.json").read_text())["config_hash"])
            for name in (WEIGHTS, *RESULTS):
                if (staged / name).exists():
                    os.replace(staged / name, target / name)
            (target / STATE).unlink(missing_ok=True)
            return "new"
    except filelock.Timeout:
        return f"not taken: it is being trained in {target} at the moment"


# -------------------------------------------------------------------------------------- command line


def main(arguments: list[str] | None = None) -> int:
    """``python -m ser_utils.training.bundle pack | run | collect``: train on a machine without recordings or network."""
    parser = argparse.ArgumentParser(prog="ser_utils.training.bundle", description=main.__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    packing = commands.add_parser("pack", help="write the bundle of a profile")
    packing.add_argument("--profile", default="full", choices=list(config.PROFILES))
    packing.add_argument("--to", type=Path, default=DIST / "bundle.tar.gz", help="default: dist/bundle.tar.gz")
    packing.add_argument("--runs", type=Path, default=paths.RUNS, help="where finished runs lie (default: runs/)")
    packing.add_argument("--wheels", type=Path, default=DIST / "wheels", help="folder of wheels to take along")
    packing.add_argument("--missing", action="store_true", help="train none of the runs that are published in results/")
    packing.add_argument("--limit-mb", type=float, default=PACK_MB, help=f"largest size (default: {PACK_MB})")
    running = commands.add_parser("run", help="train what an unpacked bundle lacks")
    for name, kind in (("models", str), ("protocols", str), ("folds", int)):
        running.add_argument(f"--{name}", nargs="*", type=kind, help=f"only these {name}")
    running.add_argument("--study", help="train the variants of a study and their baseline instead of the grid")
    running.add_argument("--variants", nargs="*", help="only these variants of the study")
    running.add_argument("--budget", type=float, help="be over after this many seconds")
    running.add_argument("--jobs", type=int, default=JOBS, help=f"runs at a time (default: {JOBS})")
    running.add_argument("--out", type=Path, required=True, help="folder for the archives of runs")
    running.add_argument("--weights", action="store_true", help="write the trained weights too")
    running.add_argument("--limit-mb", type=float, default=LIMIT_MB, help=f"write at most this (default: {LIMIT_MB})")
    collecting = commands.add_parser("collect", help="check archives of runs and merge them into runs/")
    collecting.add_argument("files", nargs="+", type=Path)
    collecting.add_argument("--runs", type=Path, default=paths.RUNS, help="where the runs lie (default: runs/)")
    options = vars(parser.parse_args(arguments))
    command = options.pop("command")
    try:
        if command == "pack":
            options |= {"path": options.pop("to"), "published": paths.RESULTS if options.pop("missing") else None}
            path = pack(**options)
            print(f"{path}: {path.stat().st_size / MEGABYTE:.1f} MB. On the other machine:\n  tar xzf {path.name} && "
                  "cd bundle\n  python3 -m ser_utils.training.bundle run --budget 540 --out OUT\nPackages missing there come "
                  f"along as wheels: before packing\n  {FETCH}\nand there, in the folder bundle\n  {INSTALL}")
            return 0
        if command == "run":
            signal.signal(signal.SIGTERM, signal.default_int_handler)  # what is finished is written then too
            run(**options)
            return 0
        outcome = collect(**options)
    except KeyboardInterrupt:
        print("\nStopped. Call it again to go on.")
        return 130
    except (ValueError, RuntimeError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    for name, message in outcome.items():
        print(f"{name}: {message}")
    return int(any(message.startswith("not taken") for message in outcome.values()))


if __name__ == "__main__":
    sys.exit(main())
