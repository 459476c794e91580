"""The notebooks as files: numbered, parameterised, short, and with the outputs of their own code."""

import functools
import re

import nbformat
import pytest

from ser_utils.paths import NOTEBOOKS
from ser_utils.report.build import MarkdownWithMath, Renderer, front_matter
from ser_utils.report.execute import MOST_BYTES, code_digest

PATHS = sorted(NOTEBOOKS.glob("*.ipynb"))
ABSOLUTE = re.compile(
    r"""["'(\s](?:/(?:home|Users|root|work|mnt|tmp|opt|usr|var|content|data)\b|~/|[A-Za-z]:\\)""")
CODE_LINES, CELLS = 200, 40
LIMITS = {"10_comparison": (150, 30)}

each_notebook = pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)


@functools.cache
def read(path):
    return nbformat.read(path, as_version=4)


def code_cells(path):
    return [cell for cell in read(path).cells if cell.cell_type == "code"]


def test_numbered_in_the_order_of_the_report():
    assert [int(path.stem[:2]) for path in PATHS] == [*range(1, max(len(PATHS), 15) + 1)]


@each_notebook
def test_outputs_were_made_by_this_code(path):
    """`make notebooks` executes what changed and notes a digest of the code."""
    made = read(path).metadata.get("made_from", {})
    assert made, "it was never executed: make notebooks"
    assert made.code == code_digest(read(path)), "its code changed since it was executed: make notebooks"
    assert any(cell.outputs for cell in code_cells(path)), "its outputs are gone: make notebooks FORCE=1"


@each_notebook
def test_outputs_are_small_and_hold_no_error_and_no_path_of_a_machine(path):
    assert path.stat().st_size <= MOST_BYTES
    outputs = [output for cell in code_cells(path) for output in cell.outputs]
    assert not any(output.output_type == "error" or output.get("name") == "stderr" for output in outputs)
    text = "\n".join(str(value) for output in outputs for value in (
        output.get("text", ""), *(output.get("data", {}).get(kind, "") for kind in ("text/plain", "text/html"))))
    assert "<audio" not in text
    found = ABSOLUTE.search(re.sub(r'(src|href)="[^"]*"', "", text))
    assert not found, found[0]


@each_notebook
def test_valid_short_with_one_parameters_cell_and_no_absolute_path(path):
    nbformat.validate(read(path))
    lines, cells = LIMITS.get(path.stem, (CODE_LINES, CELLS))
    assert len(read(path).cells) <= cells
    assert sum(len(cell.source.splitlines()) for cell in code_cells(path)) <= lines
    (tagged,) = [cell for cell in code_cells(path) if "parameters" in cell.metadata.get("tags", [])]
    assert re.search(r'^PROFILE = "quick"', tagged.source, flags=re.MULTILINE)
    assert read(path).metadata.kernelspec.name == "python3"
    for number, cell in enumerate(read(path).cells, 1):
        found = ABSOLUTE.search(cell.source)
        assert not found, f"cell {number}: {found[0].strip()}"


@each_notebook
def test_begins_with_title_and_summary_for_the_front_page_and_its_formulas_can_be_shown(path):
    first = read(path).cells[0]
    assert first.cell_type == "markdown" and first.source.startswith("# ")
    title, summary = front_matter(read(path), path.stem)
    assert title != path.stem and 40 < len(re.sub(r"<[^>]+>", "", summary)) < 600
    text = "\n\n".join(cell.source for cell in read(path).cells if cell.cell_type == "markdown")
    page = MarkdownWithMath(Renderer()).render(text)
    assert "formula-source" not in page and "\\begin{" not in page


def test_the_check_sees_what_it_looks_for():
    assert ABSOLUTE.search("open('/home/me/clip.wav')") and ABSOLUTE.search(r'"C:\\data"')
    assert not ABSOLUTE.search("open('../data/clip.wav') and/or https://example.org/data")
