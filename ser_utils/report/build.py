"""The report as a site: train what is missing, run every notebook, write linked pages and a front page.

``python -m ser_utils.report.build --profile quick`` writes ``report/index.html``, a page for each notebook beside
it, and the executed notebooks in ``report/notebooks``. The pages hold all they show and fetch nothing.
With ``--keep`` it runs changed notebooks and keeps them in ``notebooks/``.
"""

import argparse
import dataclasses
import datetime
import hashlib
import html
import itertools
import os
import re
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import nbformat
from latex2mathml.converter import convert as latex_to_mathml
from nbconvert.exporters import HTMLExporter
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
from nbconvert.preprocessors import CoalesceStreamsPreprocessor
from pygments.formatters import HtmlFormatter
from tqdm import tqdm

from ser_utils import config, machine
from ser_utils.data import corpus as corpora
from ser_utils.data import ravdess
from ser_utils.evaluation import tables
from ser_utils.features import spectral
from ser_utils.paths import DATA, NOTEBOOKS, REPORT, RESULTS, ROOT, RUNS, named, write_text
from ser_utils.report import listen
from ser_utils.report.execute import MOST_BYTES, Failure, committed, execute, execute_all, is_current, own_settings
from ser_utils.training import grid, runs

TEMPLATES = Path(__file__).parent / "templates"
GROUPS = {"Data": range(1, 3), "Architectures": range(3, 10), "Findings": range(10, 14), "Decisions": range(14, 15),
          "Use": range(15, 100)}


class Renderer(IPythonRenderer):
    """Markdown to HTML: formulas as MathML, links to notebooks as links to pages."""

    def __init__(self, output: Path = REPORT):
        super().__init__(escape=False, embed_images=True, path=str(NOTEBOOKS))
        self.output = output

    def inline_math(self, body: str, block: bool = False) -> str:
        """A formula as MathML, which browsers show without a script, or its source where it can't be converted."""
        latex = re.sub(r"\\mathrm\{([A-Za-z]{2,})\}", r"\\text{\1}", body.strip())  # a word, not letters one by one
        try:
            markup = latex_to_mathml(latex, display="block" if block else "inline")
            if unknown := re.search(r">\s*(\\[A-Za-z]+|&)\s*<", markup):
                raise ValueError(f"{unknown[1]} is not known")
        except Exception as error:  # the converter raises errors of many kinds
            tqdm.write(f"Can't convert the formula {body.strip()!r}: {type(error).__name__} {error}. Rewrite it.")
            return f'<code class="formula-source">{html.escape(body.strip())}</code>'
        return f'<div class="formula">{markup}</div>' if block else markup

    def block_math(self, body: str) -> str:
        return self.inline_math(body, block=True)

    def link(self, text: str, url: str, title: str | None = None) -> str:
        """Links lead from page to page; a link to a file of the checkout is kept relative to the page."""
        name, mark, anchor = url.partition("#")
        if re.fullmatch(r"[\w.-]+\.ipynb", name):
            name = name.removesuffix(".ipynb") + ".html"
        elif name and "://" not in name and (Path(self.path) / name).exists():
            name = os.path.relpath(Path(self.path) / name, self.output)
        return super().link(text, name + mark + anchor, title)


@dataclasses.dataclass
class Page:
    """A notebook's place in the site."""

    name: str                      # 03_alexnet
    title: str                     # its first heading
    summary: str                   # its first paragraph up to the question it answers, as HTML without links
    previous: "Page | None" = None
    next: "Page | None" = None
    failure: Failure | None = None


def front_matter(notebook: nbformat.NotebookNode, name: str) -> tuple[str, str]:
    """Title (text) and summary (HTML): the first heading, and the question or first sentence of the first paragraph."""
    first = next((cell.source for cell in notebook.cells if cell.cell_type == "markdown"), "")
    heading, _, rest = first.partition("\n")
    summary = MarkdownWithMath(Renderer()).render(rest.strip().split("\n\n")[0])
    summary = re.sub(r"</?(p|a)\b[^>]*>", "", summary).strip()
    asked = re.match(r".*?\?(?=\s|$)|.*?\.(?=\s|$)", summary, re.DOTALL)
    return heading.lstrip("# ") or name, asked[0] if asked else summary


def make_pages(sources: Sequence[Path], output: Path, selected: Sequence[Path]) -> list[Page]:
    """The pages of the site in order: the selected notebooks, and those an earlier call left a page of."""
    pages = [Page(source.stem, *front_matter(nbformat.read(source, as_version=4), source.stem)) for source in sources
             if source in selected or (output / f"{source.stem}.html").exists()]
    for before, after in itertools.pairwise(pages):
        before.next, after.previous = after, before
    return pages


def page_exporter(output: Path) -> HTMLExporter:
    """What makes pages of executed notebooks; its ``environment`` holds the templates of the site's other pages."""
    exporter = HTMLExporter(template_name="report", extra_template_basedirs=[str(TEMPLATES)],
                            filters={"markdown2html": MarkdownWithMath(Renderer(output)).render})
    exporter.register_preprocessor(CoalesceStreamsPreprocessor, enabled=True)  # of a progress bar, its last state
    return exporter


def notebook_page(executed: Path, exporter: HTMLExporter, page: Page, site: dict) -> str:
    """The page of an executed notebook, with links to its sections; ``site`` is what all pages share."""
    body, _ = exporter.from_filename(str(executed), {"site": site, "page": page})
    sections = re.findall(r'<h2 id="([^"]+)">(.*?)<a class="anchor-link"', body)
    contents = "".join(f'<a href="#{anchor}">{text}</a>' for anchor, text in sections)
    return body.replace("TABLE-OF-CONTENTS", contents, 1)


def accuracies(root: Path) -> str:
    """Accuracy in per cent of a folder of runs by network and protocol, beside the paper's, as an HTML table."""
    if not runs.find(root):
        return ""
    table = tables.table2(root)
    table = table[table.folds > 0]
    shown = table.pivot_table(index="name", columns="protocol", values="accuracy", sort=False)
    shown.insert(0, "paper", table.groupby("name").paper_accuracy.first())
    shown = shown.rename_axis(index=None, columns=None).rename(columns=str.capitalize)
    return shown.to_html(float_format="{:.1f}".format, na_rep="–", border=0)


def provenance(corpus: corpora.Corpus, profile: str, walls: dict[str, float]) -> list[tuple[str, str]]:
    """What was used to make the report, as rows of name and value; no path of the machine."""
    root = Path(corpus.root).resolve()
    place = root.relative_to(ROOT).as_posix() if root.is_relative_to(ROOT) else "outside the checkout"
    return [("Corpus", f"{corpus.kind}, {len(corpus.index):,} clips, {place}"), ("Profile", profile),
            *((f"Time for {stage}", str(datetime.timedelta(seconds=round(wall)))) for stage, wall in walls.items()),
            ("Machine", machine.processor()), ("Backend", os.environ.get("KERAS_BACKEND", "tensorflow")),
            ("Versions", ", ".join(f"{name} {version}" for name, version in machine.versions().items())),
            ("Revision", machine.revision())]


def altered(corpus: corpora.Corpus) -> list[str]:
    """What a reader must know of recordings under RAVDESS's names that are not RAVDESS's: a sentence, or none."""
    faults = [] if corpus.banner else ravdess.validate(corpus.root).corrupt
    if not faults:
        return []
    few = ", ".join(clip for clip, _ in faults[:3]) + (", ..." if len(faults) > 3 else "")
    return [f"{len(faults):,} of the {len(corpus.index):,} recordings differ from the published ones (altered, or "
            f"re-encoded): {few}. What this report trains and shows on this machine is not of RAVDESS as published."]


def train_missing(profile: str, corpus: corpora.Corpus) -> Failure | None:
    """Extract the features and train the profile's runs where missing; returns the runs that failed as one failure."""
    features = config.PROFILES[profile].features
    spectral.extract(corpus, features)
    try:
        grid.train(config.run_configs(profile, corpus.kind), spectral.store_path(corpus, features))
    except grid.GridError as error:
        return Failure("training", None, str(error))


def select(sources: Sequence[Path], wanted: Sequence[str] | None) -> list[Path]:
    """The notebooks whose number or name is in ``wanted``, or all; raises ValueError if one does not exist."""
    wanted = [name.removesuffix(".ipynb") for name in wanted or ()]
    known = {key for source in sources for key in (source.stem[:2], source.stem)}
    if missing := [name for name in wanted if name not in known]:
        raise ValueError(f"No notebook {', '.join(missing)}; there are {', '.join(sorted(known))}.")
    return [source for source in sources if not wanted or {source.stem[:2], source.stem} & set(wanted)]


def inputs(profile: str, corpus: corpora.Corpus, run_root: Path) -> str:
    """Hexadecimal digits that change with what pages are made from: recordings, faces, code, results and own runs."""
    digest = hashlib.sha256(f"{profile} {spectral.store_path(corpus, config.PROFILES[profile].features)}".encode())
    code = (path for path in (ROOT / "ser_utils").rglob("*.*") if "__pycache__" not in path.parts)
    faces = named("RAVDESS_FACES", DATA / "ravdess_faces").glob("*.csv")
    for path in sorted([*code, *faces, *RESULTS.rglob("*.*"), *runs.find(run_root)]):
        digest.update(f"{path} {path.stat().st_size} {path.stat().st_mtime_ns}\n".encode())
    return digest.hexdigest()


def build(profile: str = "quick", notebooks: Sequence[str] | None = None, output: Path | None = None) -> list[Failure]:
    """Make the report and return what failed; what could be made is there all the same.

    ``notebooks``: numbers or names of those to run, by default all; pages of the others are kept. ``output``: the
    site's folder, by default ``report`` or ``report/smoke``. Raises ValueError for an unknown notebook; else as
    `corpus.for_profile` and `spectral.extract`.
    """
    output = Path(output or (REPORT / "smoke" if profile == "smoke" else REPORT)).resolve()
    if output / "notebooks" == NOTEBOOKS:
        raise ValueError(f"--output {output} is the checkout: name a folder of the report's own.")
    sources = sorted(NOTEBOOKS.glob("[0-9][0-9]_*.ipynb"))
    selected = select(sources, notebooks)
    corpus = corpora.for_profile(profile)
    run_root = RUNS / f"{corpus.kind}-{profile}"
    print(f"Corpus: {corpus.kind}, {len(corpus.index):,} clips in {corpus.root}. Profile: {profile}.")
    notes = altered(corpus)
    for note in notes:
        print(f"WARNING: {note}", file=sys.stderr)
    (output / "notebooks").mkdir(parents=True, exist_ok=True)
    log = output / "notebooks" / "kernels.log"
    log.unlink(missing_ok=True)
    start = time.perf_counter()
    with own_settings(log, SER_CORPUS=corpus.kind):
        failures = [train_missing(profile, corpus)]
        trained = time.perf_counter()
        pages = make_pages(sources, output, selected)
        heard = listen.table(RESULTS)
        exporter = page_exporter(output)
        template = exporter.environment.get_template
        groups = {name: [page for page in pages if int(page.name[:2]) in numbers] for name, numbers in GROUPS.items()}
        site = {"profile": profile, "corpus": corpus.kind, "listen": len(heard) > 0,
                "notes": [*filter(None, [corpus.banner]), *notes],
                "date": datetime.datetime.now().astimezone().strftime("%d %B %Y, %H:%M %Z"),
                "groups": [(name, members) for name, members in groups.items() if members],
                "code_css": HtmlFormatter(style="friendly").get_style_defs(".highlight")}
        if site["listen"]:  # nothing on that page is of a synthetic corpus: no banner
            write_text(output / "listen.html", template("listen.html.j2").render(
                site=site | {"notes": notes}, **listen.values(heard, corpus, output)))
        work = execute_all(selected, output / "notebooks", {} if profile == "quick" else {"PROFILE": profile},
                           inputs(profile, corpus, run_root))
        for source, failure, state in tqdm(work, "Notebooks", len(selected), unit="notebook", disable=None):
            page = next(page for page in pages if page.name == source.stem)
            page.failure = failure
            if not failure or failure.cell:
                write_text(output / f"{page.name}.html",
                      notebook_page(output / "notebooks" / source.name, exporter, page, site))
            tqdm.write(f"  {source.stem:24s} {state}")
    walls = {"features and training": trained - start, "notebooks": time.perf_counter() - trained}
    failures = [failure for failure in (*failures, *(page.failure for page in pages)) if failure]
    write_text(output / "index.html", template("front.html.j2").render(
        site=site, failures=failures, provenance=provenance(corpus, profile, walls), published=accuracies(RESULTS),
        own=accuracies(run_root)))
    print(f"Report: {output / 'index.html'}")
    return failures


def keep(notebooks: Sequence[str] | None = None, force: bool = False) -> list[Failure]:
    """Execute notebooks on RAVDESS, profile quick, and write them back with their outputs; what failed stays as it was.

    Those whose code and results are unchanged are left out, unless ``force``.
    """
    selected, corpus = select(sorted(NOTEBOOKS.glob("[0-9][0-9]_*.ipynb")), notebooks), corpora.for_profile("quick")
    if corpus.banner or altered(corpus):
        raise ValueError("Notebooks are kept with the outputs of RAVDESS as published: run `make data`.")
    failures = []
    with (tempfile.TemporaryDirectory(prefix="ser-") as scratch,
          own_settings(Path(scratch) / "kernels.log", SER_CORPUS="ravdess")):
        failures += filter(None, [train_missing("quick", corpus)])
        for source in selected:
            if not force and is_current(nbformat.read(source, as_version=4)):
                print(f"  {source.stem:24s} is current")
                continue
            before, executed = source.read_bytes(), Path(scratch) / source.name
            failure = execute(source, executed)
            for colours in (256, 64):  # as many as there is room for
                text = nbformat.writes(committed(nbformat.read(executed, as_version=4), colours))
                if len(text) <= MOST_BYTES:
                    break
            else:
                failure = failure or Failure(source.stem, None,
                                             f"{len(text):,} bytes; a notebook may have {MOST_BYTES:,}")
            if source.read_bytes() != before:
                failure = failure or Failure(source.stem, None, "it was changed meanwhile: run it again")
            if failure:
                failures.append(failure)
                continue
            write_text(source, text + "\n")
            print(f"  {source.stem:24s} {len(text):,} bytes")
    return failures


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns 0, 1 when something failed, 2 when the report can't begin; 130 if stopped."""
    parser = argparse.ArgumentParser(prog="python -m ser_utils.report.build", description=__doc__.splitlines()[0])
    parser.add_argument("--profile", default="quick", choices=list(config.PROFILES))
    parser.add_argument("--notebooks", nargs="+", metavar="NN", help="numbers or names of those to run (default: all)")
    parser.add_argument("--output", type=Path, metavar="DIR", help="where the site goes (default: report)")
    parser.add_argument("--keep", action="store_true", help="keep outputs in notebooks/ instead of making a site")
    parser.add_argument("--force", action="store_true", help="with --keep: unchanged notebooks, too")
    options = parser.parse_args(arguments)
    if os.environ.get("KERAS_BACKEND", "") not in ("", "tensorflow"):
        parser.error("the notebooks need TensorFlow: unset KERAS_BACKEND. make grid trains with other backends, too.")
    with grid.interruptible():
        try:
            failures = (keep(options.notebooks, options.force) if options.keep else
                        build(options.profile, options.notebooks, options.output))
        except (ValueError, OSError) as error:
            print(f"The report could not be made: {error}", file=sys.stderr)
            return 2
    for failure in failures:
        print(f"FAILED {failure}", file=sys.stderr)
    if failures and not options.keep:
        print("The rest of the report is there; executed copies of the notebooks, with the errors, are in "
              "its folder notebooks.", file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
