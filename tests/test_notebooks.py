"""The notebooks as files: clean, parameterised, numbered, and without copies of each other's code."""

import re

import nbformat
import pytest

from ser_utils.paths import NOTEBOOKS
from ser_utils.report.build import front_matter, mathml

ORDER = ("01_data_exploration", "02_feature_extraction", "03_alexnet", "04_resnet", "05_inceptionnet",
         "06_vgg16", "07_vgg19", "08_lstm", "09_transformer", "10_comparison", "11_validity", "12_robustness",
         "13_multimodal", "14_try_it")
PATHS = sorted(NOTEBOOKS.glob("*.ipynb"))
ABSOLUTE = re.compile(
    r"""["'(\s](?:/(?:home|Users|root|work|mnt|tmp|opt|usr|var|content|data)\b|~/|[A-Za-z]:\\)""")
WINDOW = 6  # so many lines of code in a row may not stand in two notebooks

each_notebook = pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)


def read(path):
    return nbformat.read(path, as_version=4)


def code_cells(path):
    return [cell for cell in read(path).cells if cell.cell_type == "code"]


def runs_of_lines(sources):
    """Every `WINDOW` lines in a row of every cell; blank lines, comments and imports do not count."""
    windows = set()
    for source in sources:
        lines = [line.rstrip() for line in source.splitlines()
                 if line.strip() and not re.match(r"\s*(#|import |from \S+ import )", line)]
        windows |= {tuple(lines[i: i + WINDOW]) for i in range(len(lines) - WINDOW + 1)}
    return windows


def formulas(text):
    """Formulas of a Markdown text, code left out."""
    text = re.sub(r"```.*?```|`[^`\n]*`", "", text, flags=re.DOTALL)
    found = re.findall(r"(?<!\\)\$\$(.+?)\$\$|(?<![\\$])\$(?!\$)(.+?)(?<![\\$])\$", text, flags=re.DOTALL)
    return [block or inline for block, inline in found]


def test_numbered_without_gaps():
    assert tuple(path.stem for path in PATHS) == ORDER[: len(PATHS)]


@each_notebook
def test_valid(path):
    nbformat.validate(read(path))


@each_notebook
def test_without_outputs(path):
    for number, cell in enumerate(code_cells(path), 1):
        assert not cell.outputs and cell.execution_count is None, f"clear code cell {number}"


@each_notebook
def test_one_parameters_cell_with_the_profile(path):
    tagged = [cell for cell in code_cells(path) if "parameters" in cell.metadata.get("tags", [])]
    assert len(tagged) == 1
    assert re.search(r'^PROFILE = "quick"', tagged[0].source, flags=re.MULTILINE)


@each_notebook
def test_kernel_is_python3(path):
    assert read(path).metadata.kernelspec.name == "python3"


@each_notebook
def test_no_absolute_paths(path):
    for number, cell in enumerate(read(path).cells, 1):
        found = ABSOLUTE.search(cell.source)
        assert not found, f"cell {number}: {found[0].strip()}"


@each_notebook
def test_begins_with_title_and_summary(path):
    """The report's front page shows both."""
    first = read(path).cells[0]
    assert first.cell_type == "markdown" and first.source.startswith("# ")
    title, summary = front_matter(read(path), path.stem)
    assert title != path.stem and 40 < len(re.sub(r"<[^>]+>", "", summary)) < 600


@each_notebook
def test_formulas_can_be_shown(path):
    for cell in read(path).cells:
        if cell.cell_type == "markdown":
            for formula in formulas(cell.source):
                mathml(formula)


@each_notebook
def test_code_is_not_repeated_in_another_notebook(path):
    mine = runs_of_lines(cell.source for cell in code_cells(path))
    for other in PATHS:
        if other != path:
            shared = mine & runs_of_lines(cell.source for cell in code_cells(other))
            assert not shared, f"also in {other.stem}, belongs in ser_utils:\n" + "\n".join(min(shared))


def test_the_checks_see_what_they_look_for():
    code = "\n".join(f"x{i} = {i}" for i in range(WINDOW))
    assert runs_of_lines([f"import os\n{code}"]) & runs_of_lines([f"# told apart\n{code}\ny = 1"])
    assert not runs_of_lines([code.rsplit("\n", 1)[0]])
    assert ABSOLUTE.search("open('/home/me/clip.wav')") and ABSOLUTE.search(r'"C:\\data"')
    assert not ABSOLUTE.search("open('../data/clip.wav') and/or https://example.org/data")
    assert formulas(r"costs `$5` and $x_i$ or $$\sum x$$") == ["x_i", r"\sum x"]
