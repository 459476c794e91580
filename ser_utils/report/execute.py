"""Notebooks executed by papermill in a kernel with settings of its own, and the form in which they are committed."""

import base64
import concurrent.futures
import contextlib
import dataclasses
import hashlib
import io
import json
import os
import re
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from unittest import mock

import nbformat
import papermill
from ipykernel.kernelspec import get_kernel_dict
from nbconvert.preprocessors import CoalesceStreamsPreprocessor
from PIL import Image
from tenacity import retry, retry_if_exception, stop_after_attempt
from traitlets.config import Config

from ser_utils import machine
from ser_utils.data.ravdess import default_root
from ser_utils.paths import DATA, RESULTS, ROOT, atomic_write
from ser_utils.training.processes import Processes

MOST_AT_A_TIME = 4  # notebooks; each takes up to 2 GB of memory
MOST_BYTES = 1_200_000  # of a committed notebook
# A kernel that does not come up, as where another one takes its ports meanwhile, is started once more.
_run = retry(stop=stop_after_attempt(2), retry=retry_if_exception(lambda failed: type(failed) is RuntimeError),
             reraise=True)(papermill.execute_notebook)
PLAYER = "<i>(Audio player: run the notebook to listen.)</i>"
# Runs a kernel. What compiled libraries print goes to a log, and the files it reads in results/ to SER_READS.
KERNEL = """
import os, sys
log, results = sys.argv[1:3]
del sys.argv[1:3]
os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND), 2)
def hook(name, values):
    if name == "open" and str(values[0]).startswith(results + os.sep):
        with os.fdopen(os.open(os.environ["SER_READS"], os.O_WRONLY | os.O_CREAT | os.O_APPEND), "a") as file:
            file.write(str(values[0])[len(results) + 1:] + chr(10))
sys.addaudithook(hook)
from ipykernel.kernelapp import launch_new_instance
launch_new_instance()
"""


@dataclasses.dataclass
class Failure:
    """What stopped: a notebook at a ``cell`` (of all cells of the source, from 1), or the training (None)."""

    name: str
    cell: int | None
    error: str

    def __str__(self) -> str:
        return f"{self.name}{f', cell {self.cell}' if self.cell else ''}: {self.error}"


@contextlib.contextmanager
def own_settings(log: Path, **environment: str) -> Iterator[None]:
    """While inside, this process's children run on the report's settings and not on the user's.

    The kernel named ``python3`` is this very interpreter; what compiled libraries print in it goes to the file
    ``log``. ``environment`` is added.
    """
    cache = DATA / "cache"
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="ser-") as name:
        folder = Path(name)
        (folder / "matplotlibrc").touch()
        command = [sys.executable, "-c", KERNEL, str(log), str(RESULTS), "-f", "{connection_file}",
                   "--IPKernelApp.capture_fd_output=False"]
        kernel = folder / "kernels" / "python3" / "kernel.json"
        kernel.parent.mkdir(parents=True)
        kernel.write_text(json.dumps(get_kernel_dict() | {"argv": command}), encoding="utf-8")
        values = {"KERAS_HOME": cache / "keras", "MPLCONFIGDIR": cache / "matplotlib",
                  "MATPLOTLIBRC": folder / "matplotlibrc", "MPLBACKEND": "module://matplotlib_inline.backend_inline",
                  "IPYTHONDIR": folder, "JUPYTER_PATH": folder, "JUPYTER_DATA_DIR": folder, "JUPYTER_NO_CONFIG": "1",
                  "JUPYTER_RUNTIME_DIR": folder / "runtime", "PYTHONSTARTUP": "", "TF_CPP_MIN_LOG_LEVEL": "2",
                  "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))} | environment
        with mock.patch.dict(os.environ, {name: str(value) for name, value in values.items()}):
            yield


def execute(source: Path, target: Path, parameters: dict | None = None, inputs: str = "") -> Failure | None:
    """Run a notebook in a kernel of its own, in the source's folder; the source is not changed.

    The executed copy goes to ``target``. Where a cell fails it holds the error, and the failure is returned. Its
    metadata say what it was made from: ``inputs`` (not if it failed), code, and folders read in ``results/``.
    """
    error = None
    with tempfile.TemporaryDirectory(prefix="ser-") as scratch, atomic_write(target) as temporary:
        reads = Path(scratch, "reads")
        reads.touch()
        try:
            with mock.patch.dict(os.environ, SER_READS=str(reads)):
                _run(source, temporary, parameters=parameters, kernel_name="python3", cwd=source.parent,
                     progress_bar=False, config=Config({"KernelManager": {"transport_encryption": "auto"}}))
        except papermill.PapermillExecutionError as stopped:
            error = f"{stopped.ename}: {stopped.evalue}".rstrip(": ")
        except (RuntimeError, TimeoutError) as died:  # the kernel died, or did not start
            error = f"{type(died).__name__}: {died}"
        notebook = nbformat.read(temporary, as_version=4)
        notebook.metadata.papermill.update(input_path=source.name, output_path=target.name)  # no machine's paths
        read = {RESULTS.joinpath(*Path(name).parts[:2]) for name in reads.read_text().splitlines()}
        read = {one.parent if read.issuperset(one.parent.iterdir()) else one for one in read}
        folders = sorted(one.relative_to(RESULTS).as_posix() for one in read)
        notebook.metadata.made_from = nbformat.from_dict({
            "inputs": "" if error else inputs, "code": code_digest(nbformat.read(source, as_version=4)),
            "folders": folders, "results": results_digest(folders)})
        failure = Failure(source.stem, mark_failed(notebook, error), error) if error else None
        nbformat.write(notebook, temporary)
    return failure


def execute_all(sources: Sequence[Path], folder: Path, parameters: dict, inputs: str
                ) -> Iterator[tuple[Path, Failure | None, str]]:
    """Execute notebooks into a folder, some at a time; yields each as it is done: source, failure, a word on it.

    A copy there that was made of the same source, parameters and ``inputs`` stands.
    """
    with Processes(min(machine.cores(), MOST_AT_A_TIME)) as pool:
        work = {}
        for source in sources:
            target, digest = folder / source.name, hashlib.sha256(f"{inputs} {parameters}".encode())
            digest.update(source.read_bytes())
            try:
                made = nbformat.read(target, as_version=4).metadata.get("made_from", {})
            except (OSError, ValueError):  # there is none, or a damaged one
                made = {}
            if made.get("inputs") == digest.hexdigest():
                yield source, None, "unchanged"
            else:
                work[pool.submit(execute, source, target, parameters, digest.hexdigest())] = source
        for done in concurrent.futures.as_completed(work):
            failure = Failure(work[done].stem, None, str(done.exception())) if done.exception() else done.result()
            place = f" at cell {failure.cell}" if failure and failure.cell else ""
            yield work[done], failure, f"STOPPED{place}" if failure else "done"


def mark_failed(notebook: nbformat.NotebookNode, error: str) -> int:
    """Mark the cell that stopped, the last one begun; its number from 1 without the cells that papermill added.

    A cell during which the kernel died has no error of its own; it is given ``error`` as output.
    """
    added = {"injected-parameters", "papermill-error-cell-tag"}
    cells = [cell for cell in notebook.cells if not added & set(cell.metadata.get("tags", []))]
    number = sum(bool(cell.metadata.papermill.get("start_time")) for cell in cells) or 1
    cell = cells[number - 1]
    if cell.cell_type == "code" and not cell.metadata.papermill.get("exception"):
        cell.outputs.append(nbformat.v4.new_output("error", ename="Stopped", evalue=error, traceback=[error]))
    cell.metadata.papermill["exception"] = True
    return number


def code_digest(notebook: nbformat.NotebookNode) -> str:
    """Twelve hexadecimal digits of the code cells."""
    code = "\0".join(cell.source for cell in notebook.cells if cell.cell_type == "code")
    return hashlib.sha256(code.encode()).hexdigest()[:12]


def results_digest(folders: list[str]) -> str:
    """Twelve hexadecimal digits of all files below some folders (or of some files) of ``results/``."""
    found, places = hashlib.sha256(), [RESULTS / name for name in folders]
    for path in sorted({path for place in places for path in (place, *place.rglob("*")) if path.is_file()}):
        found.update(f"{path.relative_to(RESULTS).as_posix()}\0".encode() + path.read_bytes())
    return found.hexdigest()[:12]


def is_current(notebook: nbformat.NotebookNode) -> bool:
    """Whether a notebook's outputs were made by its code, from the results as they are now."""
    made = notebook.metadata.get("made_from", {})
    return made.get("code") == code_digest(notebook) and made.get("results") == results_digest(made.get("folders", []))


def committed(notebook: nbformat.NotebookNode, colours: int = 256) -> nbformat.NotebookNode:
    """An executed notebook as it is committed: figures small, no players, no paths of the machine."""
    notebook, _ = CoalesceStreamsPreprocessor(enabled=True).preprocess(notebook, {})
    notebook.metadata = nbformat.from_dict({
        "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"},
        "language_info": {"name": "python"},
        "made_from": {key: notebook.metadata.made_from[key] for key in ("code", "folders", "results")}})
    for cell in notebook.cells:
        cell.metadata = nbformat.from_dict({key: cell.metadata[key] for key in ("tags",) if cell.metadata.get(key)})
        if cell.cell_type == "code":
            made = [_small(output, colours) for output in cell.outputs if output.get("name") != "stderr"]
            cell.outputs = [output for output in made if output.get("text") != ""]
    return notebook


def _small(output: nbformat.NotebookNode, colours: int) -> nbformat.NotebookNode:
    """One output without what differs from machine to machine or takes much room."""
    if "text" in output:
        output.text = _clean(output.text)
    data = output.get("data", {})
    if data.pop("application/vnd.jupyter.widget-view+json", None):  # without a kernel its words say nothing
        data["text/plain"] = "(A control: run the notebook to use it.)"
    if "<audio" in data.get("text/html", ""):
        output.data = nbformat.from_dict({"text/html": PLAYER, "text/plain": "Audio player"})
        return output
    for kind in data:
        if kind == "image/png":
            data[kind] = _palette(data[kind], output.metadata.get(kind, {}).get("width"), colours)
        elif kind.startswith("text/"):
            data[kind] = _clean(data[kind])
    return output


def _clean(text: str) -> str:
    text = re.sub(r".*%\|.*\n?| at 0x[0-9a-f]+|\x1b\[[\d;]*m", "", text)  # tqdm's bars, addresses, a terminal's colours
    corpus = os.environ.get("RAVDESS_DIR") and str(default_root())
    for place, name in ((corpus, "RAVDESS_DIR"), (f"{ROOT}/", ""), (str(Path.home()), "~")):
        text = text.replace(place, name) if place and place != "/" else text
    return text


def _palette(png: str, width: int | None, colours: int) -> str:
    """A PNG, base64, in so many colours, at most ``width`` pixels wide (100 dpi)."""
    image = Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB")
    if width and image.width > width:
        image = image.resize((width, round(image.height * width / image.width)), Image.Resampling.LANCZOS)
    buffer, small = io.BytesIO(), image.quantize(colours, Image.Quantize.MAXCOVERAGE, 1, dither=Image.Dither.NONE)
    small.save(buffer, "PNG", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode()
