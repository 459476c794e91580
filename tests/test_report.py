"""The site made from throwaway notebooks: pages, links, formulas, failures."""

import json
import os
import re
import sys
from types import SimpleNamespace

import nbformat
import pandas as pd
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from ser_utils.data.corpus import BANNER, Corpus
from ser_utils.report import build as report

FIRST = """# The first page

What this page shows, with $x_i < 2$ in *one* paragraph and [a link](02_second.ipynb).

A second paragraph.

## Some *section*

$$\\operatorname{softmax}(z)_k = \\frac{e^{z_k}}{\\sum_j e^{z_j}}$$
See [the next page](02_second.ipynb#More), the [code](../code.py) and [elsewhere](https://example.org).
"""


def write(folder, name, *cells):
    """A notebook with a title, a parameters cell and code cells."""
    title = cells[0] if cells and cells[0].startswith("# ") else f"# {name}\n\nWhat it shows."
    parameters = new_code_cell('PROFILE = "quick"', metadata={"tags": ["parameters"]})
    code = [new_code_cell(source) for source in cells if not source.startswith("# ")]
    notebook = new_notebook(cells=[new_markdown_cell(title), parameters, *code])
    notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(notebook, folder / f"{name}.ipynb")


@pytest.fixture(scope="module")
def corpora(tmp_path_factory):
    """Corpora as far as the report looks at them: kind, folder, number of clips."""
    table = pd.DataFrame({"clip": ["a", "b"]})
    root = tmp_path_factory.mktemp("audio")
    return SimpleNamespace(**{kind: Corpus(root, kind, table) for kind in ("ravdess", "synthetic")})


@pytest.fixture(scope="module")
def site(tmp_path_factory, corpora):
    """One report of four notebooks, two of which fail; made once, looked at by many tests."""
    folder = tmp_path_factory.mktemp("checkout")
    notebooks, output = folder / "notebooks", folder / "report"
    notebooks.mkdir()
    (folder / "code.py").write_text("pass")
    write(notebooks, "01_first", FIRST,
          "import os, sys\nprint(PROFILE, os.environ['SER_CORPUS'], sys.executable, os.getcwd())",
          "import matplotlib.pyplot as plt\nplt.plot([1, 2]);",
          "os.write(2, b'chatter of a library'); print(' a warning', file=sys.stderr)")
    write(notebooks, "02_second", "print('before')", "missing_name + 1", "print('after')")
    write(notebooks, "03_third", "print('the others still run')", """import time
for share in ("half", "all"):
    print(f"\\r{share} of it done", end="", flush=True)
    time.sleep(0.3)""")
    write(notebooks, "10_dies", "import os\nos._exit(9)")
    before = {path.name: path.read_bytes() for path in notebooks.iterdir()}
    failures = report.build("smoke", output=output, corpus=corpora.synthetic, notebooks_dir=notebooks,
                            train=False, run_root=folder / "runs")
    pages = {path.stem: path.read_text(encoding="utf-8") for path in output.glob("*.html")}
    return SimpleNamespace(notebooks=notebooks, output=output, failures=failures, pages=pages, before=before)


def text_outputs(path):
    cells = nbformat.read(path, as_version=4).cells
    return "".join(output.get("text", "") for cell in cells for output in cell.get("outputs", []))


def test_source_notebooks_are_left_alone(site):
    assert {path.name: path.read_bytes() for path in site.notebooks.iterdir()} == site.before


def test_notebook_gets_the_profile_this_interpreter_and_its_own_folder(site):
    said = text_outputs(site.output / "notebooks" / "01_first.ipynb").split()
    assert said[:4] == ["smoke", "synthetic", sys.executable, str(site.notebooks)]


def test_chatter_of_libraries_goes_to_a_log_and_warnings_of_python_to_the_page(site):
    assert "a warning" in site.pages["01_first"] and ">chatter of a library" not in site.pages["01_first"]
    assert "chatter of a library" not in text_outputs(site.output / "notebooks" / "01_first.ipynb")
    assert "chatter of a library" in (site.output / "notebooks" / "kernels.log").read_text()


def test_figures_are_shown_inside_the_page(site):
    assert '<img alt="' in site.pages["01_first"].replace("\n", " ")
    assert "data:image/png;base64," in site.pages["01_first"]


def test_every_page_links_every_other(site):
    names = {"index", "01_first", "02_second", "03_third", "10_dies"}
    assert set(site.pages) == names
    for page in site.pages.values():
        assert {f"{name}.html" for name in names} <= set(re.findall(r'href="([^"#]+)', page))


def test_pages_lead_to_the_ones_before_and_after(site):
    ends = site.pages["02_second"].split('<nav class="ends">')[1].split("</nav>")[0]
    assert re.findall(r'href="([^"]+)"', ends) == ["01_first.html", "03_third.html"]
    assert "10_dies.html" in site.pages["03_third"].split('<nav class="ends">')[1]


def test_links_between_notebooks_become_links_between_pages(site):
    assert 'href="02_second.html#More"' in site.pages["01_first"]
    assert 'href="../code.py"' in site.pages["01_first"]
    assert 'href="https://example.org"' in site.pages["01_first"]


def test_sections_are_listed_and_can_be_reached(site):
    assert '<div class="sections"><a href="#Some-section">' in site.pages["01_first"]
    assert 'id="Some-section"' in site.pages["01_first"]


def test_formulas_become_mathml(site):
    page = site.pages["01_first"]
    assert page.count("<math ") == 2 and "<mfrac>" in page and "$" not in page.split("<article")[1]
    assert "<math " in site.pages["index"]


def test_pages_fetch_nothing(site):
    for page in site.pages.values():
        assert not re.search(r'(?:src|<link[^>]*href)="(?!data:)', page) and "@import" not in page


def test_front_page_shows_titles_and_first_paragraphs(site):
    front = site.pages["index"]
    assert "The first page" in front and "What this page shows" in front and "A second paragraph" not in front
    assert "Architectures" in front and "Going further" not in front
    assert str(site.output.parent) not in front


def test_synthetic_corpus_is_named_on_every_page(site):
    assert all(f'<p class="banner">{BANNER}</p>' in page for page in site.pages.values())


def test_failures_are_named_by_cell(site):
    assert [(failure.name, failure.cell) for failure in site.failures] == [("02_second", 4), ("10_dies", 3)]
    assert site.failures[0].error == "NameError: name 'missing_name' is not defined"
    assert "02_second, cell 4: NameError" in site.pages["index"]


def test_failed_notebook_is_kept_with_its_error_and_without_what_follows(site):
    kept = site.output / "notebooks" / "02_second.ipynb"
    errors = [output.ename for cell in nbformat.read(kept, as_version=4).cells
              for output in cell.get("outputs", []) if output.output_type == "error"]
    assert errors == ["NameError"] and text_outputs(kept) == "before\n"
    page = site.pages["02_second"]
    assert "stopped at" in page and 'id="failed-cell"' in page and "missing_name" in page


def test_dead_kernel_leaves_its_reason_in_the_copy(site):
    assert "kernel" in site.failures[1].error.lower()
    assert "Kernel died" in site.pages["10_dies"]


def test_executed_copies_hold_no_paths_of_the_machine(site):
    for path in (site.output / "notebooks").glob("*.ipynb"):
        assert str(site.notebooks) not in json.dumps(nbformat.read(path, as_version=4).metadata)


def test_the_rest_runs_after_a_failure(site):
    assert text_outputs(site.output / "notebooks" / "03_third.ipynb").startswith("the others still run\n")


def test_of_a_progress_bar_the_page_shows_the_last_state(site):
    assert "all of it done" in site.pages["03_third"]
    assert site.pages["03_third"].count("of it done") == 2  # the code's line, and one of output


def test_selected_notebooks_keep_the_pages_of_the_others(tmp_path, corpora):
    for name in ("01_first", "02_second", "03_third"):
        write(tmp_path, name)
    output = tmp_path / "out"
    output.mkdir()
    (output / "02_second.html").write_text("an earlier page")
    assert not report.build(notebooks=["01"], output=output, corpus=corpora.ravdess, notebooks_dir=tmp_path,
                            train=False, run_root=tmp_path / "runs")
    assert (output / "02_second.html").read_text() == "an earlier page"
    front = (output / "index.html").read_text()
    assert "01_first.html" in front and "02_second.html" in front and "03_third.html" not in front
    assert BANNER not in front


def test_unknown_notebook_is_refused(tmp_path, corpora):
    write(tmp_path, "01_first")
    with pytest.raises(report.ReportError, match="No notebook 07.*01_first"):
        report.build(notebooks=["07"], output=tmp_path, corpus=corpora.ravdess, notebooks_dir=tmp_path)


# --- The command line --------------------------------------------------------------------------------------

@pytest.mark.parametrize("outcome, code, said", [
    ([], 0, ""),
    ([report.Failure("02_second", 4, "NameError: x")], 1, "FAILED 02_second, cell 4: NameError: x"),
    (report.ReportError("No RAVDESS: run `make data`."), 2, "run `make data`"),
    (KeyboardInterrupt(), 130, "Finished runs are kept"),
])
def test_exit_codes(monkeypatch, capsys, outcome, code, said):
    def build(profile, notebooks, output):
        assert (profile, notebooks, str(output)) == ("smoke", ["01", "10"], "out")
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    monkeypatch.setattr(report, "build", build)
    assert report.main(["--profile", "smoke", "--notebooks", "01", "10", "--output", "out"]) == code
    assert said in capsys.readouterr().err


def test_unusable_corpus_is_a_report_error(monkeypatch):
    def find(kind, small):
        assert (kind, small) == ("ravdess", False)
        raise FileNotFoundError("nothing there")

    monkeypatch.setattr("ser_utils.data.corpus.find", find)
    with pytest.raises(report.ReportError, match="nothing there"):
        report.find_corpus("full")


@pytest.fixture
def stages(monkeypatch):
    """Feature extraction and training that only note that they were called."""
    from ser_utils.features import spectral as features
    from ser_utils.training import grid

    calls = []
    monkeypatch.setattr(features, "extract", lambda corpus, config: calls.append("features"))
    monkeypatch.setattr(grid, "run_all", lambda profile, corpus: calls.append(profile))
    return calls


def test_training_follows_the_features(stages, corpora):
    walls = {}
    assert report.train_missing("smoke", corpora.synthetic, walls) is None
    assert stages == ["features", "smoke"] and list(walls) == ["features", "training"]


def test_failed_runs_are_reported_and_do_not_stop_the_report(stages, corpora, monkeypatch, tmp_path):
    from ser_utils.training import grid

    def run_all(profile, corpus):
        raise grid.GridError("1 runs failed: random/vgg19/fold0")

    monkeypatch.setattr(grid, "run_all", run_all)
    failures = report.build("smoke", output=tmp_path / "out", corpus=corpora.synthetic,
                            notebooks_dir=tmp_path, run_root=tmp_path / "runs")
    assert [str(failure) for failure in failures] == ["training: 1 runs failed: random/vgg19/fold0"]
    assert "random/vgg19/fold0" in (tmp_path / "out" / "index.html").read_text()


def test_damaged_recording_is_a_report_error(stages, corpora, monkeypatch):
    from ser_utils.features import audio
    from ser_utils.features import spectral as features

    def extract(corpus, config):
        raise audio.AudioError("a.wav is damaged")

    monkeypatch.setattr(features, "extract", extract)
    with pytest.raises(report.ReportError, match="a.wav"):
        report.train_missing("smoke", corpora.synthetic, {})


# --- Parts -------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("latex, part", [
    (r"\begin{aligned} a &= b \\ c &= d \end{aligned}", "<mtable"),
    (r"\operatorname*{arg\,max}_k p_k", "arg&#x000A0;max"),
    (r"\mathrm{mel}(f)", "<mtext>mel</mtext>"),
    (r"\mathbb{1}[\hat y = y]", "𝟙"),
    (r"\arg\max_k", "arg"),
])
def test_mathml(latex, part):
    assert part in report.mathml(latex)
    assert 'display="block"' in report.mathml(latex, block=True)


def test_formula_that_cannot_be_converted_is_named_and_shown_as_source(capsys):
    for latex in (r"\unheardof{x}", r"\left( x"):
        with pytest.raises(ValueError, match=re.escape(repr(latex))):
            report.mathml(latex)
    shown = report.Renderer().inline_math(r"\unheardof < x")
    assert shown == '<code class="formula-source">\\unheardof &lt; x</code>'
    assert "unheardof" in capsys.readouterr().out


def test_front_matter_skips_what_is_no_paragraph():
    source = "# A title\n![badge](x.png)\n\n> A quotation\n\nThe *gist*."
    notebook = new_notebook(cells=[new_markdown_cell(source)])
    assert report.front_matter(notebook, "01_x") == ("A title", "The <em>gist</em>.")
    assert report.front_matter(new_notebook(), "01_x") == ("01_x", "")


def test_images_of_the_checkout_are_embedded(tmp_path):
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "a.svg").write_text("<svg/>")
    renderer = report.Renderer(tmp_path / "notebooks")
    (tmp_path / "notebooks").mkdir()
    assert 'src="data:image/svg+xml;base64,PHN2Zy8+"' in renderer.image("a", "../figures/a.svg")
    assert 'src="https://example.org/b.png"' in renderer.image("b", "https://example.org/b.png")


def test_results_become_a_table_and_a_figure(tmp_path, corpora, monkeypatch):
    from ser_utils.evaluation import metrics as evaluation
    from ser_utils.evaluation import tables

    table = tables.table2(tmp_path)  # nothing run: a row a protocol and network
    ran = table.protocol.eq("random") & table.model.eq("lstm")
    table.loc[ran, ["accuracy", "accuracy_low", "accuracy_high", "folds"]] = 51.5, 45.0, 58.0, 1
    monkeypatch.setattr(evaluation, "run_dirs", lambda root: [root] if root == tmp_path else [])
    monkeypatch.setattr(tables, "table2", lambda root: table)
    (section,) = report.result_sections(tmp_path, "quick", corpora.ravdess, results=tmp_path / "none")
    assert "51.5" in section["table"] and "actors" not in section["table"]
    assert section["figure"].startswith("data:image/png;base64,") and section["answer"] == ""
    published, own = report.result_sections(tmp_path, "quick", corpora.ravdess, results=tmp_path)
    assert "the best network recognises <strong>51.5 %</strong> (LSTM)" in published["answer"]


def test_kernel_search_path_is_put_back(monkeypatch, tmp_path):
    monkeypatch.setenv("JUPYTER_PATH", "mine")
    with report.own_kernel(tmp_path / "log"):
        assert os.environ["JUPYTER_PATH"].endswith(os.pathsep + "mine")
    assert os.environ["JUPYTER_PATH"] == "mine"


@pytest.mark.parametrize("seconds, words", [(7.6, "8 s"), (200, "3 min 20 s"), (59.7, "1 min 0 s")])
def test_duration(seconds, words):
    assert report.duration(seconds) == words
