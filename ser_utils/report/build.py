"""The report as a site: train what is missing, run every notebook, write linked pages and a front page.

``python -m ser_utils.report.build --profile quick`` writes ``report/index.html``, a page for each notebook beside
it, and the executed notebooks in ``report/notebooks``. The pages hold all they show: no script, font or
formula is fetched when they are read.
"""

import argparse
import base64
import contextlib
import dataclasses
import datetime
import html
import io
import json
import os
import platform
import re
import resource
import shlex
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import jinja2
import nbformat
from ipykernel.kernelspec import get_kernel_dict
from latex2mathml.converter import convert as latex_to_mathml
from nbconvert.exporters import HTMLExporter
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
from nbconvert.preprocessors import CoalesceStreamsPreprocessor
from pygments.formatters import HtmlFormatter
from tqdm import tqdm

from ser_utils.paths import NOTEBOOKS, REPORT, RESULTS, ROOT, RUNS, atomic_write
from ser_utils.training import runs

TEMPLATES = Path(__file__).parent / "templates"
GROUPS = {"Data": range(1, 3), "Architectures": range(3, 10), "Findings": range(10, 13),
          "Going further": range(13, 100)}


class ReportError(Exception):
    """Something outside the code keeps the report from being made; the message says what to do."""


# --- Formulas ----------------------------------------------------------------------------------------------

SPACE = r"\,"
# What the converter does not know, in words that it does.
LATEX_REWRITES = (
    (r"\\(begin|end)\{(?:aligned|split|align)\}", r"\\\1{align*}"),
    (r"\\operatorname\*?\{([^{}]*)\}", lambda found: rf"\text{{{found[1].replace(SPACE, ' ')}}}"),
    (r"\\mathrm\{([A-Za-z]{2,})\}", r"\\text{\1}"),
    (r"\\arg(?![A-Za-z])", r"\\text{arg }"),
    (r"\\sim(?![A-Za-z])", "∼"),
    (r"\\mathbb\{1\}", "𝟙"),
    (r"\\!", ""),
)


def mathml(latex: str, block: bool = False) -> str:
    """A LaTeX formula as MathML, which browsers show without a script or a font from the network.

    Raises
    ------
    ValueError
        The formula has a command or an environment that can't be converted.
    """
    text = latex.strip()
    for pattern, replacement in LATEX_REWRITES:
        text = re.sub(pattern, replacement, text)
    try:
        markup = latex_to_mathml(text, display="block" if block else "inline")
    except Exception as error:  # the converter raises errors of many kinds
        name = type(error).__name__
        raise ValueError(f"Can't convert the formula {latex.strip()!r}: {name} {error}") from error
    left_over = re.search(r">\s*(\\[A-Za-z]+|&)\s*<", markup)
    if left_over:
        raise ValueError(f"Can't convert {left_over[1]!r} in the formula {latex.strip()!r}: rewrite it.")
    return markup


class Renderer(IPythonRenderer):
    """Markdown to HTML with formulas as MathML, links to notebooks as links to pages, and quiet headings."""

    def __init__(self, folder: Path = NOTEBOOKS, output: Path = REPORT, **options):
        super().__init__(escape=False, embed_images=True, path=str(folder), **options)
        self.output = output

    def _formula(self, latex: str, block: bool) -> str:
        try:
            return mathml(latex, block)
        except ValueError as error:
            tqdm.write(str(error))
            return f'<code class="formula-source">{html.escape(latex.strip())}</code>'

    def inline_math(self, body: str) -> str:
        return self._formula(body, block=False)

    def block_math(self, body: str) -> str:
        return self._formula(body, block=True)

    def latex_environment(self, name: str, body: str) -> str:
        return self._formula(rf"\begin{{{name}}}{body}\end{{{name}}}", block=True)

    def heading(self, text: str, level: int, **attributes) -> str:
        anchor = html.escape(re.sub(r"<[^>]+>", "", text).strip().replace(" ", "-"))
        return f'<h{level} id="{anchor}">{text} <a class="anchor-link" href="#{anchor}">¶</a></h{level}>\n'

    def link(self, text: str, url: str, title: str | None = None) -> str:
        """Links lead from page to page; a link to a file of the checkout is kept relative to the page."""
        name, mark, anchor = url.partition("#")
        if re.fullmatch(r"[\w.-]+\.ipynb", name):
            url = name.removesuffix(".ipynb") + ".html" + mark + anchor
        elif name and "://" not in name and (Path(self.path) / name).exists():
            url = os.path.relpath(Path(self.path) / name, self.output) + mark + anchor
        return super().link(text, url, title)

    def _src_to_base64(self, src: str) -> str | None:
        """Embed images from the whole checkout; nbconvert's own method stops at the notebooks' folder."""
        file = Path(self.path) / src
        if "://" in src or src.startswith("data:") or not file.is_file():
            return None
        kind = {".svg": "svg+xml", ".jpg": "jpeg"}.get(file.suffix, file.suffix[1:])
        return f"data:image/{kind};base64,{base64.b64encode(file.read_bytes()).decode()}"


# --- Pages -------------------------------------------------------------------------------------------------

@dataclasses.dataclass
class Failure:
    """What stopped: a notebook at a ``cell`` (of all cells of the source, from 1), or the training (None)."""

    name: str
    cell: int | None
    error: str

    def __str__(self) -> str:
        where = f", cell {self.cell}" if self.cell else ""
        return f"{self.name}{where}: {self.error}"


@dataclasses.dataclass
class Page:
    """A notebook's place in the site."""

    name: str                      # 03_alexnet
    title: str                     # its first heading
    summary: str                   # its first paragraph, as HTML without links
    previous: "Page | None" = None
    next: "Page | None" = None
    failure: Failure | None = None

    @property
    def number(self) -> str:
        return self.name[:2]

    @property
    def html(self) -> str:
        return f"{self.name}.html"


@dataclasses.dataclass
class Site:
    """What all pages of one report share."""

    profile: str
    corpus: str
    banner: str | None
    date: str
    groups: list[tuple[str, list[Page]]]
    code_css: str = dataclasses.field(
        default_factory=lambda: HtmlFormatter(style="friendly").get_style_defs(".highlight"))


def front_matter(notebook: nbformat.NotebookNode, name: str) -> tuple[str, str]:
    """Title (text) and summary (HTML) of a notebook: its first heading and its first paragraph."""
    blocks = [block.strip() for cell in notebook.cells if cell.cell_type == "markdown"
              for block in re.split(r"\n\s*\n", re.sub(r"(?m)^(#.*)$", r"\n\1\n", cell.source))]
    titles = [block.lstrip("# ") for block in blocks if block.startswith("#")]
    paragraphs = [block for block in blocks if block and block[0] not in "#!<>|-*"]
    summary = MarkdownWithMath(Renderer()).render(paragraphs[0]) if paragraphs else ""
    return titles[0] if titles else name, re.sub(r"</?(p|a)\b[^>]*>", "", summary).strip()


def make_pages(sources: Sequence[Path], output: Path, selected: Sequence[Path]) -> list[Page]:
    """The pages of the site in order: the selected notebooks, and those an earlier call left a page of."""
    pages = []
    for source in sources:
        if source in selected or (output / f"{source.stem}.html").exists():
            title, summary = front_matter(nbformat.read(source, as_version=4), source.stem)
            pages.append(Page(source.stem, title, summary))
    for before, after in zip(pages, pages[1:], strict=False):
        before.next, after.previous = after, before
    return pages


def group_pages(pages: Sequence[Page]) -> list[tuple[str, list[Page]]]:
    """Pages under the headings of `GROUPS`, empty ones left out."""
    groups = [(name, [page for page in pages if int(page.number) in numbers])
              for name, numbers in GROUPS.items()]
    return [(name, members) for name, members in groups if members]


def export_page(executed: Path, page: Page, site: Site, output: Path, folder: Path = NOTEBOOKS) -> Path:
    """Write an executed notebook as the page ``output/<name>.html``."""

    class Exporter(HTMLExporter):
        def markdown2html(self, source):
            return MarkdownWithMath(Renderer(folder, output)).render(source)

    exporter = Exporter(template_name="report", extra_template_basedirs=[str(TEMPLATES)])
    exporter.register_preprocessor(CoalesceStreamsPreprocessor, enabled=True)  # of a progress bar, its last state
    notebook = nbformat.read(executed, as_version=4)
    body, _ = exporter.from_notebook_node(notebook, {"site": site, "page": page})
    sections = re.findall(r'<h2 id="([^"]+)">(.*?) ?<a class="anchor-link"', body)
    contents = "".join(f'<a href="#{anchor}">{text}</a>' for anchor, text in sections)
    with atomic_write(output / page.html) as temporary:
        temporary.write_text(body.replace("TABLE-OF-CONTENTS", contents, 1), encoding="utf-8")
    return output / page.html


# --- Execution ---------------------------------------------------------------------------------------------

@contextlib.contextmanager
def own_kernel(log: Path, **environment: str) -> Iterator[None]:
    """While inside, the kernel named ``python3`` is this very interpreter, whatever else is installed.

    Its environment is this process's, with ``environment`` added, figures drawn inline and a fresh IPython
    profile. What compiled libraries print, TensorFlow's start-up messages above all, goes to the file ``log``
    and not into the notebooks; what Python prints, warnings included, is in the notebooks as ever.
    """
    command = f'exec "$0" "$@" --IPKernelApp.capture_fd_output=False 2>>{shlex.quote(str(log))}'
    with tempfile.TemporaryDirectory() as folder:
        search_path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        spec = get_kernel_dict()
        spec["argv"] = ["/bin/sh", "-c", command, sys.executable, *spec["argv"][1:]]
        spec["env"] = {"PYTHONPATH": search_path, "IPYTHONDIR": folder,
                       "MPLBACKEND": "module://matplotlib_inline.backend_inline", **environment}
        kernel = Path(folder) / "kernels" / "python3" / "kernel.json"
        kernel.parent.mkdir(parents=True)
        kernel.write_text(json.dumps(spec), encoding="utf-8")
        before = os.environ.get("JUPYTER_PATH")
        os.environ["JUPYTER_PATH"] = os.pathsep.join(filter(None, [folder, before]))
        try:
            yield
        finally:
            if before is None:
                del os.environ["JUPYTER_PATH"]
            else:
                os.environ["JUPYTER_PATH"] = before


def execute(source: Path, target: Path, parameters: dict) -> Failure | None:
    """Run a notebook in a kernel of its own, in the source's folder; the source is not changed.

    The executed copy goes to ``target``, also when a cell fails: then it holds the error, and the failure is
    returned rather than raised.
    """
    import papermill
    from traitlets.config import Config

    failure = None
    try:
        papermill.execute_notebook(source, target, parameters=parameters, kernel_name="python3",
                                   cwd=source.parent, progress_bar=False,
                                   config=Config({"KernelManager": {"transport_encryption": "auto"}}))
    except papermill.PapermillExecutionError as error:
        failure = Failure(source.stem, 0, f"{error.ename}: {error.evalue}".rstrip(": "))
    except (RuntimeError, TimeoutError) as error:  # the kernel died, or did not start
        failure = Failure(source.stem, 0, f"{type(error).__name__}: {error}")
    notebook = nbformat.read(target, as_version=4)
    notebook.metadata.papermill.update(input_path=source.name, output_path=target.name)  # no machine's paths
    if failure:
        failure.cell = failed_cell(notebook, failure.error)
    nbformat.write(notebook, target)
    return failure


def failed_cell(notebook: nbformat.NotebookNode, error: str) -> int:
    """The number of the cell that stopped, counted from 1 without the cells that papermill added.

    A cell during which the kernel died has no error of its own; it is given ``error`` as output.
    """
    added = {"injected-parameters", "papermill-error-cell-tag"}
    cells = [cell for cell in notebook.cells if not added & set(cell.metadata.get("tags", []))]
    for number, cell in enumerate(cells, 1):
        if cell.metadata.papermill.get("exception") or cell.metadata.papermill.get("status") == "running":
            return number
    died = [number for number, cell in enumerate(cells, 1) if cell.metadata.papermill.get("start_time")]
    number = died[-1] if died else 1
    cell = cells[number - 1]
    cell.metadata.papermill["exception"] = True
    if cell.cell_type == "code":
        cell.outputs.append(nbformat.v4.new_output("error", ename="Stopped", evalue=error, traceback=[error]))
    return number


# --- Front page --------------------------------------------------------------------------------------------

def png(figure) -> str:
    """A matplotlib figure as a ``data:`` address."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=160)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def peak_memory() -> str:
    """Largest resident memory of this process and of its largest child (a notebook's kernel), in words."""
    unit = 1 if sys.platform == "darwin" else 1024  # ru_maxrss is in bytes on macOS, in KiB elsewhere
    own, child = (resource.getrusage(who).ru_maxrss * unit / 2**30
                  for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return f"{own:.1f} GiB in the report's own process, {child:.1f} GiB in the largest notebook"


def place(corpus) -> str:
    """Where the corpus lies, without the machine's paths."""
    root = Path(corpus.root).resolve()
    if root.is_relative_to(ROOT):
        return root.relative_to(ROOT).as_posix()
    return "the folder in RAVDESS_DIR" if os.environ.get("RAVDESS_DIR") else "outside the checkout"


def duration(seconds: float) -> str:
    """Seconds as "8 s" or "3 min 20 s"."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def provenance(corpus, profile: str, walls: dict[str, float]) -> list[tuple[str, str]]:
    """What was used to make the report, as rows of name and value."""
    from ser_utils import machine

    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return [
        ("Corpus", f"{corpus.kind}, {len(corpus.index):,} clips, {place(corpus)}"),
        ("Profile", profile),
        *((f"Time for {stage}", duration(seconds)) for stage, seconds in walls.items()),
        ("Peak memory", peak_memory()),
        ("Machine", f"{machine.processor()}, {memory:.0f} GiB memory, {platform.system()}"),
        ("Backend", os.environ.get("KERAS_BACKEND", "tensorflow")),
        ("Versions", ", ".join(f"{name} {version}" for name, version in machine.versions().items())),
        ("Revision", machine.revision()),
    ]


def result_sections(run_root: Path, profile: str, corpus, results: Path = RESULTS) -> list[dict]:
    """Table 2 with its figure, for the published runs and for this report's own ones, where there are any."""
    from ser_utils.evaluation import tables
    from ser_utils.plots import results as figures
    from ser_utils.plots import style

    own = f"The {profile} profile's runs on their test clips, beside the paper's figures, in per cent."
    published = "Full runs on RAVDESS, recomputed from the predictions for each clip that come with the project."
    style.use_style()
    sections = []
    for title, text, root, kind in (("The published runs", published, results, "ravdess"),
                                    ("The runs of this report", own, run_root, corpus.kind)):
        if not runs.find(root):
            continue
        style.set_corpus(kind)
        table = tables.table2(root)
        table = table[table.groupby("protocol").folds.transform("sum") > 0]  # protocols that were run
        answer = MarkdownWithMath(Renderer()).render(tables.headline(table)) if root == results else ""
        sections.append({"title": title, "text": text, "answer": answer, "figure": png(figures.table2_bars(table)),
                         "alt": "Accuracy of the seven networks by protocol, beside the paper's",
                         "table": tables.table2_html(table)})
    return sections


def write_front_page(site: Site, results: list[dict], failures: Sequence[Failure],
                     rows: list[tuple[str, str]], output: Path) -> Path:
    """Write ``output/index.html``."""
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(TEMPLATES / "report"))  # escapes by hand
    text = environment.get_template("front.html.j2").render(
        site=site, results=results, failures=failures, provenance=rows)
    with atomic_write(output / "index.html") as temporary:
        temporary.write_text(text, encoding="utf-8")
    return output / "index.html"


# --- The whole ---------------------------------------------------------------------------------------------

def find_corpus(profile: str):
    """The corpus of a profile (see `corpus.for_profile`).

    Raises
    ------
    ReportError
        There is none, it is incomplete, or one of its files has a wrong name.
    """
    from ser_utils.data import corpus

    try:
        return corpus.for_profile(profile)
    except (FileNotFoundError, ValueError) as error:
        raise ReportError(str(error)) from error


def train_missing(profile: str, corpus, walls: dict[str, float]) -> Failure | None:
    """Extract the features and train the profile's runs, both only as far as they are not there yet.

    The seconds taken are added to ``walls``. Runs that fail are returned as a failure: the others are
    finished, and the report can be made of them.

    Raises
    ------
    ReportError
        A recording is damaged.
    """
    from ser_utils import config
    from ser_utils.features import audio
    from ser_utils.features import spectral as features
    from ser_utils.training import grid

    start = time.perf_counter()
    try:
        for feature_config in {run.features for run in config.run_configs(profile, corpus.kind)}:
            features.extract(corpus, feature_config)
    except audio.AudioError as error:
        raise ReportError(str(error)) from error
    walls["features"] = time.perf_counter() - start

    start = time.perf_counter()
    failure = None
    try:
        grid.run_all(profile, corpus)
    except grid.GridError as error:
        failure = Failure("training", None, str(error))
    walls["training"] = time.perf_counter() - start
    return failure


def select(sources: Sequence[Path], wanted: Sequence[str] | None) -> list[Path]:
    """The notebooks whose number or name is in ``wanted``; all of them without it.

    Raises
    ------
    ReportError
        A wanted notebook does not exist.
    """
    if not wanted:
        return list(sources)
    by_key = {key: source for source in sources for key in (source.stem[:2], source.stem)}
    missing = [name for name in wanted if name.removesuffix(".ipynb") not in by_key]
    if missing:
        raise ReportError(f"No notebook {', '.join(missing)}; there are {', '.join(sorted(by_key))}.")
    chosen = {by_key[name.removesuffix(".ipynb")] for name in wanted}
    return [source for source in sources if source in chosen]


def build(profile: str = "quick", notebooks: Sequence[str] | None = None, output: Path | None = None,
          corpus=None, notebooks_dir: Path = NOTEBOOKS, train: bool = True, run_root: Path | None = None
          ) -> list[Failure]:
    """Make the report and return what failed; what could be made is there all the same.

    Parameters
    ----------
    profile : one of ``config.PROFILES``; passed to each notebook as its parameter ``PROFILE``.
    notebooks : numbers or names of those to run; all without it. Pages of the others are kept.
    output : the site's folder; ``report``, or ``report/smoke`` for the smoke profile.
    corpus : a ``corpus.Corpus``; found by `find_corpus` without it.
    notebooks_dir : where the notebooks lie.
    train : whether features are extracted and missing runs trained before the notebooks run.
    run_root : the runs that Table 2 is made of; ``runs/<corpus>-<profile>``.
    """
    output = Path(output or (REPORT / "smoke" if profile == "smoke" else REPORT)).resolve()
    sources = sorted(Path(notebooks_dir).resolve().glob("[0-9][0-9]_*.ipynb"))
    selected = select(sources, notebooks)
    corpus = corpus or find_corpus(profile)
    print(f"Corpus: {corpus.kind}, {len(corpus.index):,} clips in {corpus.root}. Profile: {profile}.")
    walls = {}
    training_failure = train_missing(profile, corpus, walls) if train else None

    output.mkdir(parents=True, exist_ok=True)
    pages = make_pages(sources, output, selected)
    by_name = {page.name: page for page in pages}
    site = Site(profile, corpus.kind, corpus.banner,
                datetime.datetime.now().astimezone().strftime("%-d %B %Y, %H:%M %Z"), group_pages(pages))
    start = time.perf_counter()
    bar = tqdm(selected, desc="Notebooks", unit="notebook", disable=None)  # no bar outside a terminal
    log = output / "notebooks" / "kernels.log"
    log.parent.mkdir(exist_ok=True)
    log.unlink(missing_ok=True)
    with own_kernel(log, SER_CORPUS=corpus.kind), bar:
        for source in bar:
            bar.set_postfix_str(source.stem)
            begun = time.perf_counter()
            page = by_name[source.stem]
            executed = output / "notebooks" / source.name
            page.failure = execute(source, executed, {"PROFILE": profile})
            export_page(executed, page, site, output, source.parent)
            state = f"STOPPED at cell {page.failure.cell}" if page.failure else "done"
            tqdm.write(f"  {source.stem:24s} {state} in {duration(time.perf_counter() - begun)}")
    walls["notebooks"] = time.perf_counter() - start

    results = result_sections(run_root or RUNS / f"{corpus.kind}-{profile}", profile, corpus)
    failures = [failure for failure in (training_failure, *(page.failure for page in pages)) if failure]
    write_front_page(site, results, failures, provenance(corpus, profile, walls), output)
    print(f"Report: {output / 'index.html'}")
    return failures


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns 0, 1 when something failed, 2 when the report can't begin, 130 if stopped."""
    parser = argparse.ArgumentParser(prog="python -m ser_utils.report.build", description=__doc__.splitlines()[0])
    parser.add_argument("--profile", default="quick", choices=("smoke", "quick", "full"))
    parser.add_argument("--notebooks", nargs="+", metavar="NN",
                        help="numbers or names of those to run (default: all)")
    parser.add_argument("--output", type=Path, metavar="DIR", help="where the site goes (default: report)")
    options = parser.parse_args(arguments)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    try:
        failures = build(options.profile, options.notebooks, options.output)
    except (ReportError, OSError) as error:
        print(f"The report could not be made: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nStopped. Finished runs are kept; the same command goes on from there.", file=sys.stderr)
        return 130
    for failure in failures:
        print(f"FAILED {failure}", file=sys.stderr)
    if failures:
        print("The rest of the report is there; executed copies of the notebooks, with the errors, are in "
              "its folder notebooks.", file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
