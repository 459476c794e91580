"""The site made from throwaway notebooks: pages, links, formulas, failures; and the notebooks kept with outputs."""

import base64
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import nbformat
import pandas as pd
import pytest
from fakes import fake_run
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from ser_utils.data.corpus import BANNER, Corpus
from ser_utils.report import build as report
from ser_utils.report import execute

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
    """Corpora as far as the report looks at them: kind, folder, files."""
    root = tmp_path_factory.mktemp("audio")
    table = pd.DataFrame({"clip": ["a", "b"], "path": [root, root]})
    return SimpleNamespace(**{kind: Corpus(root, kind, table) for kind in ("ravdess", "synthetic")})


@pytest.fixture(autouse=True)
def no_results(monkeypatch, tmp_path):
    """No test computes the project's own tables, or checks recordings that are not there."""
    monkeypatch.setattr(report, "RESULTS", tmp_path / "no-results")
    monkeypatch.setattr(report.ravdess, "validate", lambda root: SimpleNamespace(corrupt=[]))


@pytest.fixture(scope="module")
def site(tmp_path_factory, corpora):
    """One report of four notebooks, two of which fail; made once, looked at by many tests."""
    folder = tmp_path_factory.mktemp("checkout")
    notebooks, output = folder / "notebooks", folder / "report"
    notebooks.mkdir()
    fake_run(folder / "results", "random", "lstm")
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
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(report, "RESULTS", folder / "results")
        failures = report.build("smoke", output=output, corpus=corpora.synthetic, notebooks_dir=notebooks,
                                train=False, run_root=folder / "runs")
    pages = {path.stem: path.read_text(encoding="utf-8") for path in output.glob("*.html")}
    return SimpleNamespace(notebooks=notebooks, output=output, failures=failures, pages=pages, before=before)


def text_outputs(path):
    cells = nbformat.read(path, as_version=4).cells
    return "".join(output.get("text", "") for cell in cells for output in cell.get("outputs", []))


def test_a_notebook_gets_the_profile_this_interpreter_and_its_own_folder_and_is_left_alone(site):
    said = text_outputs(site.output / "notebooks" / "01_first.ipynb").split()
    assert said[:4] == ["smoke", "synthetic", sys.executable, str(site.notebooks)]
    assert {path.name: path.read_bytes() for path in site.notebooks.iterdir()} == site.before


def test_chatter_of_libraries_goes_to_a_log_and_warnings_of_python_to_the_page(site):
    assert "a warning" in site.pages["01_first"] and ">chatter of a library" not in site.pages["01_first"]
    assert "chatter of a library" not in text_outputs(site.output / "notebooks" / "01_first.ipynb")
    assert "chatter of a library" in (site.output / "notebooks" / "kernels.log").read_text()


def test_pages_link_each_other_fetch_nothing_fit_a_phone_and_name_a_synthetic_corpus(site):
    names = {"index", "01_first", "02_second", "03_third", "10_dies"}
    assert set(site.pages) == names
    for page in site.pages.values():
        assert {f"{name}.html" for name in names} <= set(re.findall(r'href="([^"#]+)', page))
        assert not re.search(r'(?:src|<link[^>]*href)="(?!data:)', page) and "@import" not in page
        assert "width=device-width" in page and '<details class="pages"' in page
        assert f'<p class="banner">{BANNER}</p>' in page


def test_a_page_holds_its_figures_sections_and_links(site):
    page = site.pages["01_first"]
    assert '<img alt="' in page.replace("\n", " ") and "data:image/png;base64," in page
    assert 'href="02_second.html#More"' in page and 'href="../code.py"' in page and 'href="https://example.org"' in page
    assert '<div class="sections"><a href="#Some-section">' in page and 'id="Some-section"' in page
    ends = site.pages["02_second"].split('<nav class="ends">')[1].split("</nav>")[0]
    assert re.findall(r'href="([^"]+)"', ends) == ["01_first.html", "03_third.html"]
    assert "10_dies.html" in site.pages["03_third"].split('<nav class="ends">')[1]


def test_formulas_become_mathml(site):
    page = site.pages["01_first"]
    assert page.count("<math ") == 2 and "<mfrac>" in page and "$" not in page.split("<article")[1]
    assert "<math " in site.pages["index"]
    assert '<div class="formula"><math' in page  # room above and below, so that fractions show whole


def test_front_page_shows_titles_first_paragraphs_and_a_row_a_network_that_was_published(site):
    front = site.pages["index"]
    assert "The first page" in front and "What this page shows" in front and "A second paragraph" not in front
    assert "Architectures" in front and "Going further" not in front
    assert str(site.output.parent) not in front
    assert ">LSTM</th>" in front and "79.8" in front
    assert "ResNet" not in front and "The runs of this report" not in front


def test_failures_are_named_by_cell_and_the_rest_runs(site):
    assert [(failure.name, failure.cell) for failure in site.failures] == [("02_second", 4), ("10_dies", 3)]
    assert site.failures[0].error == "NameError: name 'missing_name' is not defined"
    assert "kernel" in site.failures[1].error.lower() and "Kernel died" in site.pages["10_dies"]
    assert "02_second, cell 4: NameError" in site.pages["index"]
    assert text_outputs(site.output / "notebooks" / "03_third.ipynb").startswith("the others still run\n")


def test_failed_notebook_is_kept_with_its_error_and_without_what_follows(site):
    kept = site.output / "notebooks" / "02_second.ipynb"
    errors = [output.ename for cell in nbformat.read(kept, as_version=4).cells
              for output in cell.get("outputs", []) if output.output_type == "error"]
    assert errors == ["NameError"] and text_outputs(kept) == "before\n"
    page = site.pages["02_second"]
    assert "stopped at" in page and 'id="failed-cell"' in page and "missing_name" in page


def test_executed_copies_hold_no_paths_of_the_machine_and_of_a_progress_bar_the_last_state(site):
    for path in (site.output / "notebooks").glob("*.ipynb"):
        assert str(site.notebooks) not in json.dumps(nbformat.read(path, as_version=4).metadata)
    assert "all of it done" in site.pages["03_third"]
    assert site.pages["03_third"].count("of it done") == 2  # the code's line, and one of output


def test_selected_notebooks_keep_the_pages_of_the_others_and_unknown_ones_are_refused(
        tmp_path, corpora, monkeypatch, capsys):
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
    before = report.inputs("quick", corpora.ravdess, tmp_path / "runs")
    fake_run(tmp_path / "runs", "random", "lstm")
    assert report.inputs("quick", corpora.ravdess, tmp_path / "runs") != before
    monkeypatch.setattr(report, "inputs", lambda *_: before)
    monkeypatch.setattr(execute.Processes, "submit", lambda *_: pytest.fail("executed again"))
    assert not report.build(notebooks=["01"], output=output, corpus=corpora.ravdess, notebooks_dir=tmp_path,
                            train=False, run_root=tmp_path / "runs")
    assert "01_first                 unchanged" in capsys.readouterr().out
    with pytest.raises(ValueError, match="No notebook 07.*01_first"):
        report.build(notebooks=["07"], output=output, corpus=corpora.ravdess, notebooks_dir=tmp_path)


# The command line

@pytest.mark.parametrize("outcome, code, said", [
    ([], 0, ""),
    ([report.Failure("02_second", 4, "NameError: x")], 1, "FAILED 02_second, cell 4: NameError: x"),
    (ValueError("No RAVDESS: run `make data`."), 2, "run `make data`"),
    (OSError(28, "The disk is full: could not write a/b.csv"), 2, "could not write a/b.csv"),
])
def test_exit_codes(monkeypatch, capsys, outcome, code, said):
    def build(*asked):
        assert [str(value) for value in asked] == ["smoke", "['01', '10']", "out"]
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    monkeypatch.setattr(report, "build", build)
    assert report.main(["--profile", "smoke", "--notebooks", "01", "10", "--output", "out"]) == code
    assert said in capsys.readouterr().err


def test_altered_recordings_are_said(corpora, monkeypatch):
    assert report.altered(corpora.synthetic) == report.altered(corpora.ravdess) == []
    monkeypatch.setattr(report.ravdess, "validate", lambda root: SimpleNamespace(corrupt=[("03-01", "differ")] * 4))
    (said,) = report.altered(corpora.ravdess)
    assert "4 of the 2 recordings differ from the published ones" in said and "03-01, 03-01, 03-01, ..." in said


@pytest.fixture
def stages(monkeypatch):
    """Feature extraction and training that only note that they were called."""
    calls = []
    monkeypatch.setattr(report.spectral, "extract", lambda corpus, config: calls.append("features"))
    monkeypatch.setattr(report.spectral, "store_path", lambda corpus, config: corpus.root / "store")
    monkeypatch.setattr(report.grid, "train", lambda configs, store: calls.append(configs[0].profile))
    return calls


def test_training_follows_the_features(stages, corpora):
    assert report.train_missing("smoke", corpora.synthetic) is None
    assert stages == ["features", "smoke"]


def test_failed_runs_are_reported_and_do_not_stop_the_report(stages, corpora, monkeypatch, tmp_path):
    failed = report.grid.GridError("1 runs failed: random/vgg19/fold0")
    monkeypatch.setattr(report.grid, "train", lambda *_: (_ for _ in ()).throw(failed))
    failures = report.build("smoke", output=tmp_path / "out", corpus=corpora.synthetic,
                            notebooks_dir=tmp_path, run_root=tmp_path / "runs")
    assert [str(failure) for failure in failures] == ["training: 1 runs failed: random/vgg19/fold0"]
    assert "random/vgg19/fold0" in (tmp_path / "out" / "index.html").read_text()


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_terminated_while_a_notebook_runs_it_says_so_and_leaves_no_kernel(tmp_path):
    write(tmp_path, "01_first", f"import os, pathlib, time\npathlib.Path({str(tmp_path / 'pid')!r}).write_text("
                                "str(os.getpid()))\ntime.sleep(60)")
    code = f"""import sys, pathlib, pandas
from ser_utils.data.corpus import Corpus
from ser_utils.report import build
folder = pathlib.Path({str(tmp_path)!r})
build.build = lambda *_, make=build.build: make("smoke", output=folder / "out", notebooks_dir=folder, train=False,
    corpus=Corpus(folder, "synthetic", pandas.DataFrame({{"clip": ["a"], "path": [folder]}})), run_root=folder)
sys.exit(build.main([]))"""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not (tmp_path / "pid").exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.1)
    time.sleep(0.5)
    process.send_signal(signal.SIGTERM)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 130 and "Stopped. Finished runs are kept" in said
    kernel = int((tmp_path / "pid").read_text())
    for _ in range(100):
        if not os.path.exists(f"/proc/{kernel}"):
            break
        time.sleep(0.1)
    with pytest.raises(ProcessLookupError):
        os.kill(kernel, 0)


# Settings of its own, and what is committed

def test_the_users_settings_stay_out_and_come_back(monkeypatch, tmp_path):
    home = tmp_path / "home"
    (home / ".keras").mkdir(parents=True)
    (home / ".keras" / "keras.json").write_text('{"backend": "nonesuch", "image_data_format": "channels_first"}')
    (home / ".config" / "matplotlib").mkdir(parents=True)
    (home / ".config" / "matplotlib" / "matplotlibrc").write_text("lines.linewidth: 99")
    (home / ".ipython" / "profile_default" / "startup").mkdir(parents=True)
    (home / ".ipython" / "profile_default" / "startup" / "a.py").write_text("raise SystemExit")
    for name, value in {"HOME": home, "JUPYTER_PATH": "mine", "PYTHONSTARTUP": home / "gone.py"}.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    write(tmp_path, "01_first", "import keras, matplotlib as mpl\n"
                                "print(mpl.rcParams['lines.linewidth'], keras.config.image_data_format())")
    with execute.own_settings(tmp_path / "log"):
        assert execute.execute(tmp_path / "01_first.ipynb", tmp_path / "out.ipynb") is None
    assert text_outputs(tmp_path / "out.ipynb").strip() == "1.5 channels_last"
    assert os.environ["JUPYTER_PATH"] == "mine" and "KERAS_HOME" not in os.environ
    monkeypatch.setenv("HOME", "/nonexistent")
    write(tmp_path, "01_first", "print(1)")
    with execute.own_settings(tmp_path / "log"):
        assert execute.execute(tmp_path / "01_first.ipynb", tmp_path / "out.ipynb") is None


def keep_in(patch, results, corpora):
    """Have ``report.keep`` use these corpora and results."""
    patch.setattr(execute, "RESULTS", results)
    patch.setattr(execute.results_digest, "__defaults__", (results,))
    patch.setattr(execute.is_current, "__defaults__", (results,))
    patch.setattr(report.ravdess, "validate", lambda root: SimpleNamespace(corrupt=[]))
    patch.setattr(report.corpora, "for_profile", lambda profile: corpora.ravdess)
    patch.setattr(report, "train_missing", lambda *_: None)


@pytest.fixture(scope="module")
def kept_once(tmp_path_factory, corpora):
    """A folder with a notebook executed and kept with its outputs, and the results that it read."""
    folder = tmp_path_factory.mktemp("kept")
    fake_run(folder / "results", "random", "lstm")
    write(folder, "01_first", "import os, sys\nprint('in', os.getcwd(), object())",
          f"open({str(folder)!r} + '/results/random/lstm/fold0/run.json').close(); print('chatter', file=sys.stderr)",
          "import matplotlib.pyplot as plt\nfrom IPython.display import Audio, display\nplt.imshow([[1, 2]]);\n"
          "display(Audio([0.0] * 800, rate=8000, normalize=False))",
          "print('\\r\\x1b[1m30/30\\x1b[0m \\x1b[32m━━━━\\x1b[37m\\x1b[0m \\x1b[1m4s\\x1b[0m 100ms/step - loss: 2.0')")
    with pytest.MonkeyPatch.context() as patch:
        keep_in(patch, folder / "results", corpora)
        assert report.keep(folder=folder) == []
    return folder


@pytest.fixture
def kept(kept_once, tmp_path, corpora, monkeypatch):
    """A copy of it, to be changed."""
    folder = shutil.copytree(kept_once, tmp_path / "kept")
    keep_in(monkeypatch, folder / "results", corpora)
    return SimpleNamespace(path=folder / "01_first.ipynb", results=folder / "results", folder=folder)


def test_kept_notebooks_hold_small_figures_and_nothing_of_the_machine(kept):
    notebook = nbformat.read(kept.path, as_version=4)
    nbformat.validate(notebook)
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    texts = [output.get("text", "") for output in outputs]
    assert not any("chatter" in text for text in texts)
    assert "30/30 - loss: 2.0" in texts[-1] and " object at 0x" not in texts[0]
    pictures = [output.data["image/png"] for output in outputs if "image/png" in output.get("data", {})]
    assert execute.Image.open(io.BytesIO(base64.b64decode(pictures[0]))).mode == "P"
    whole = kept.path.read_text()
    assert "audio/wav" not in whole and "Audio player" in whole and "papermill" not in whole
    assert [cell.metadata for cell in notebook.cells if cell.metadata] == [{"tags": ["parameters"]}]
    assert notebook.metadata.made_from.folders == ["random/lstm"]


def test_only_what_changed_is_executed_again(kept, capsys):
    before = kept.path.read_bytes()
    assert report.keep(folder=kept.folder) == [] and "is current" in capsys.readouterr().out
    assert kept.path.read_bytes() == before
    notebook = nbformat.read(kept.path, as_version=4)
    assert execute.is_current(notebook, kept.results)
    fake_run(kept.results, "random", "lstm", 1)
    assert not execute.is_current(notebook, kept.results)
    notebook = nbformat.read(kept.path, as_version=4)
    notebook.cells[-1].source += "\n1 + 1"
    notebook.metadata.made_from.results = execute.results_digest(["random/lstm"], kept.results)
    assert not execute.is_current(notebook, kept.results)


def test_a_notebook_that_fails_or_is_too_large_stays_as_it_was(kept, monkeypatch):
    monkeypatch.setattr(report, "MOST_BYTES", 100)
    before = kept.path.read_bytes()
    (failure,) = report.keep(folder=kept.folder, force=True)
    assert "a notebook may have 100" in failure.error and kept.path.read_bytes() == before
    write(kept.folder, "01_first", "1 / 0")
    before = kept.path.read_bytes()
    (failure,) = report.keep(folder=kept.folder)
    assert failure.error == "ZeroDivisionError: division by zero" and kept.path.read_bytes() == before


# Parts

def test_mathml_and_a_formula_that_cannot_be_converted_is_named_and_shown_as_source(capsys):
    for latex, part in (
            (r"\begin{aligned} a &= b \\ c &= d \end{aligned}", "<mtable"), (r"\arg\max_k", "arg"),
            (r"\operatorname*{arg\,max}_k p_k", "arg&#x000A0;max"), (r"\mathrm{mel}(f)", "<mtext>mel</mtext>"),
            (r"\mathbb{1}[\hat y = y]", "𝟙")):
        assert part in report.mathml(latex) and 'display="block"' in report.mathml(latex, block=True)
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


def test_results_become_a_table_with_a_row_a_network_and_seconds_words(tmp_path):
    assert report.accuracies(tmp_path) == ""
    for protocol in ("random", "actors"):
        fake_run(tmp_path, protocol, "lstm")
    table = report.accuracies(tmp_path)
    assert re.findall(r"<th>(\w+)</th>", table) == ["Paper", "Random", "Actors", "LSTM"] and ">79.8<" in table
    assert [report.duration(seconds) for seconds in (7.6, 200, 59.7)] == ["8 s", "3 min 20 s", "1 min 0 s"]
