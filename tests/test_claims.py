"""Numbers in prose: each is computed from the results again, and its sentence stands where the claim says."""

import functools
import importlib
import re
import sys
from pathlib import Path

import nbformat
import pytest

from ser_utils.evaluation import tables
from ser_utils.paths import RESULTS, ROOT

FOLDER = Path(__file__).parent / "claims"


def collected():
    """The claims of all files ``claims/claims_*.py``: (file, sentence, function), each with a name for its test."""
    sys.path.insert(0, str(FOLDER))
    for path in sorted(FOLDER.glob("claims_*.py")):
        for number, claim in enumerate(importlib.import_module(path.stem).CLAIMS, 1):
            yield pytest.param(*claim, id=f"{path.stem.removeprefix('claims_')}-{number}")


def folded(text):
    return re.sub(r"\s+", " ", text.replace("\n> ", "\n"))


@functools.cache
def prose(file):
    """The text of a file, of a notebook its Markdown cells and what its code printed, line breaks folded to blanks."""
    path = ROOT / file
    if path.suffix == ".ipynb":
        said = [[cell.source] if cell.cell_type == "markdown" else [output.get("text", "") for output in cell.outputs]
                for cell in nbformat.read(path, as_version=4).cells]
        return folded("\n".join(sum(said, [])))
    return folded(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("file, sentence, compute", list(collected()))
def test_the_sentence_says_what_the_results_say(file, sentence, compute):
    values = compute()
    said = folded(sentence.format(*(values if isinstance(values, tuple) else (values,)))).replace(" -", " −")
    assert said in prose(file).replace(" -", " −"), f"{file} should say: {said}"


def test_the_readme_has_claims():
    assert "README.md" in {claim.values[0] for claim in collected()}


def test_the_tables_of_the_results_are_those_of_their_runs(monkeypatch):
    monkeypatch.setattr(tables, "table2", lambda root, others: importlib.import_module("facts").table2())
    assert (RESULTS / "README.md").read_text(encoding="utf-8") == tables.results_readme()
