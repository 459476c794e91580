"""The site made from throwaway notebooks: pages, links, formulas, failures; and the notebooks kept with outputs."""

import base64
import io
import json
import os
import re
import shutil
import signal
import sys
import threading
import time
from types import SimpleNamespace
from unittest.mock import Mock

import nbformat
import pandas as pd
import pytest
from fakes import fake_run
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from ser_utils.data.corpus import BANNER, Corpus
from ser_utils.report import build as report
from ser_utils.report import execute
from ser_utils.report.build import inputs, train_missing

FIRST = """# The first page

What this page shows, with $x_i < 2$ in *one* paragraph and [a link](02_second.ipynb).

A second paragraph.

## Some *section*

$$\\operatorname{softmax}(z)_k = \\frac{e^{z_k}}{\\sum_j e^{z_j}}$$
See [the next page](02_second.ipynb#More), the [code](../code.py) and [elsewhere](https://example.org).
"""


def write(folder, name, *cells):
    """A notebook with a title, a parameters cell and code cells, in a checkout; its path."""
    title = cells[0] if cells and cells[0].startswith("# ") else f"# {name}\n\nWhat it shows."
    parameters = new_code_cell('PROFILE = "quick"', metadata={"tags": ["parameters"]})
    code = [new_code_cell(source) for source in cells if not source.startswith("# ")]
    notebook = new_notebook(cells=[new_markdown_cell(title), parameters, *code])
    notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    (folder / "notebooks").mkdir(exist_ok=True)
    nbformat.write(notebook, folder / "notebooks" / f"{name}.ipynb")
    return folder / "notebooks" / f"{name}.ipynb"


@pytest.fixture(scope="module")
def corpora(tmp_path_factory):
    """Corpora as far as the report looks at them: kind, folder, files."""
    root = tmp_path_factory.mktemp("audio")
    table = pd.DataFrame({"clip": ["a", "b"], "path": [root, root]})
    return SimpleNamespace(**{kind: Corpus(root, kind, table) for kind in ("ravdess", "synthetic")})


def use(patch, folder, corpus):
    """Have the report made of this folder and corpus in the place of the checkout's, and without training."""
    for name in ("NOTEBOOKS", "RESULTS", "RUNS"):
        patch.setattr(report, name, folder / name.lower())
    patch.setattr(execute, "RESULTS", folder / "results")
    patch.setattr(report.corpora, "for_profile", lambda profile: corpus)
    patch.setattr(report.ravdess, "validate", lambda root: SimpleNamespace(corrupt=[]))
    patch.setattr(report, "train_missing", lambda *_: None)
    patch.setattr(report, "inputs", lambda *_: "the same")


@pytest.fixture(scope="module")
def site(tmp_path_factory, corpora):
    """One report of three notebooks, two of which fail, by a user without a home; made once for many tests."""
    folder = tmp_path_factory.mktemp("checkout")
    notebooks, output = folder / "notebooks", folder / "report"
    for protocol in ("random", "actors"):
        fake_run(folder / "results", protocol, "lstm")
    (folder / "code.py").write_text("pass")
    write(folder, "01_first", FIRST,
          "import os, sys\nprint(PROFILE, os.environ['SER_CORPUS'], sys.executable, os.getcwd())",
          "import matplotlib.pyplot as plt\nplt.plot([1, 2]);",
          "os.write(2, b'chatter of a library'); print(' a warning', file=sys.stderr)", """import time
for share in ("half", "all"):
    print(f"\\r{share} of it done", end="", flush=True)
    time.sleep(0.3)""")
    write(folder, "02_second", "print('before')", "missing_name + 1", "print('after')")
    write(folder, "10_dies", "print('the others still run')", "import os\nos._exit(9)")
    before = {path.name: path.read_bytes() for path in notebooks.iterdir()}
    with pytest.MonkeyPatch.context() as patch:
        use(patch, folder, corpora.synthetic)
        patch.setenv("HOME", "/nonexistent")
        failures = report.build("smoke", output=output)
    pages = {path.stem: path.read_text(encoding="utf-8") for path in output.glob("*.html")}
    return SimpleNamespace(folder=folder, notebooks=notebooks, output=output, failures=failures, pages=pages,
                           before=before)


def text_outputs(path):
    cells = nbformat.read(path, as_version=4).cells
    return "".join(output.get("text", "") for cell in cells for output in cell.get("outputs", []))


def test_a_notebook_gets_the_profile_this_interpreter_and_its_own_folder_and_is_left_alone(site):
    said = text_outputs(site.output / "notebooks" / "01_first.ipynb").split()
    assert said[:4] == ["smoke", "synthetic", sys.executable, str(site.notebooks)]
    assert {path.name: path.read_bytes() for path in site.notebooks.iterdir()} == site.before
    for path in (site.output / "notebooks").glob("*.ipynb"):
        assert str(site.notebooks) not in json.dumps(nbformat.read(path, as_version=4).metadata)


def test_chatter_of_libraries_goes_to_a_log_and_warnings_and_the_last_state_of_a_progress_bar_to_the_page(site):
    page = site.pages["01_first"]
    assert "a warning" in page and ">chatter of a library" not in page
    assert "chatter of a library" in (site.output / "notebooks" / "kernels.log").read_text()
    assert "all of it done" in page and page.count("of it done") == 2  # the code's line, and one of output


def test_pages_link_each_other_fetch_nothing_fit_a_phone_and_name_a_synthetic_corpus(site):
    names = {"index", "01_first", "02_second", "10_dies"}
    assert set(site.pages) == names
    for page in site.pages.values():
        assert {f"{name}.html" for name in names} <= set(re.findall(r'href="([^"#]+)', page))
        assert not re.search(r'(?:src|<link[^>]*href)="(?!data:)', page) and "@import" not in page
        assert "width=device-width" in page and '<details class="pages"' in page
        assert f'<p class="banner">{BANNER}</p>' in page


def test_a_page_holds_its_figures_sections_links_and_formulas(site):
    page = site.pages["01_first"]
    assert '<img alt="' in page.replace("\n", " ") and "data:image/png;base64," in page
    assert 'href="02_second.html#More"' in page and 'href="../code.py"' in page and 'href="https://example.org"' in page
    assert '<div class="sections"><a href="#Some-section">' in page and 'id="Some-section"' in page
    ends = site.pages["02_second"].split('<nav class="ends">')[1].split("</nav>")[0]
    assert re.findall(r'href="([^"]+)"', ends) == ["01_first.html", "10_dies.html"]
    assert page.count("<math ") == 2 and "<mfrac>" in page and "$" not in page.split("<article")[1]
    assert '<div class="formula"><math' in page and "<math " in site.pages["index"]


def test_failures_are_named_by_cell_and_the_rest_runs_and_what_follows_in_the_notebook_does_not(site):
    assert [(failure.name, failure.cell) for failure in site.failures] == [("02_second", 4), ("10_dies", 4)]
    assert site.failures[0].error == "NameError: name 'missing_name' is not defined"
    assert "kernel" in site.failures[1].error.lower() and "Kernel died" in site.pages["10_dies"]
    assert "02_second, cell 4: NameError" in site.pages["index"]
    assert text_outputs(site.output / "notebooks" / "10_dies.ipynb").startswith("the others still run\n")
    kept = site.output / "notebooks" / "02_second.ipynb"
    errors = [output.ename for cell in nbformat.read(kept, as_version=4).cells
              for output in cell.get("outputs", []) if output.output_type == "error"]
    assert errors == ["NameError"] and text_outputs(kept) == "before\n"
    page = site.pages["02_second"]
    assert "stopped at" in page and 'id="failed-cell"' in page and "missing_name" in page


def test_selected_notebooks_keep_the_pages_of_the_others_and_unknown_ones_are_refused(
        site, tmp_path, corpora, monkeypatch, capsys):
    use(monkeypatch, site.folder, corpora.synthetic)
    monkeypatch.setattr(execute.Processes, "submit", lambda *_: pytest.fail("executed again"))
    output = shutil.copytree(site.output, tmp_path / "out")
    (output / "02_second.html").write_text("an earlier page")
    (output / "10_dies.html").unlink()
    assert not report.build("smoke", ["01"], output)
    assert "01_first                 unchanged" in capsys.readouterr().out
    assert (output / "02_second.html").read_text() == "an earlier page"
    front = (output / "index.html").read_text()
    assert "01_first.html" in front and "02_second.html" in front and "10_dies.html" not in front
    before = inputs("quick", corpora.ravdess, tmp_path / "runs")
    fake_run(tmp_path / "runs", "random", "lstm")
    assert inputs("quick", corpora.ravdess, tmp_path / "runs") != before
    with pytest.raises(ValueError, match="No notebook 07.*01_first"):
        report.build("smoke", ["07"], output)


# The command line

@pytest.mark.parametrize("outcome, code, said", [
    ([], 0, ""), ([report.Failure("02_second", 4, "NameError: x")], 1, "FAILED 02_second, cell 4: NameError: x"),
    (ValueError("No RAVDESS: run `make data`."), 2, "run `make data`"),
    (OSError(28, "The disk is full: could not write a/b.csv"), 2, "could not write a/b.csv")])
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
    monkeypatch.setattr(report.ravdess, "validate", lambda root: SimpleNamespace(corrupt=[]))
    assert report.altered(corpora.synthetic) == report.altered(corpora.ravdess) == []
    monkeypatch.setattr(report.ravdess, "validate", lambda root: SimpleNamespace(corrupt=[("03-01", "differ")] * 4))
    (said,) = report.altered(corpora.ravdess)
    assert "4 of the 2 recordings differ from the published ones" in said and "03-01, 03-01, 03-01, ..." in said


def test_training_follows_the_features_and_failed_runs_do_not_stop_the_report(corpora, monkeypatch, tmp_path):
    calls = []
    use(monkeypatch, tmp_path, corpora.ravdess)
    monkeypatch.setattr(report, "train_missing", train_missing)
    monkeypatch.setattr(report.spectral, "extract", lambda corpus, config: calls.append("features"))
    monkeypatch.setattr(report.spectral, "store_path", lambda corpus, config: corpus.root / "store")
    monkeypatch.setattr(report.grid, "train", lambda configs, store: calls.append(configs[0].profile))
    assert train_missing("quick", corpora.ravdess) is None
    assert calls == ["features", "quick"]
    monkeypatch.setattr(report.grid, "train", Mock(side_effect=report.grid.GridError("1 runs failed: actors/lstm")))
    failures = report.build(output=tmp_path / "out")
    assert [str(failure) for failure in failures] == ["training: 1 runs failed: actors/lstm"]
    front = (tmp_path / "out" / "index.html").read_text()
    assert "actors/lstm" in front and BANNER not in front


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_terminated_while_a_notebook_runs_it_says_so_and_leaves_no_kernel(tmp_path, corpora, monkeypatch, capsys):
    use(monkeypatch, tmp_path, corpora.synthetic)
    pid, deadline, before = tmp_path / "pid", time.monotonic() + 120, signal.getsignal(signal.SIGTERM)
    write(tmp_path, "01_first", f"import os, time\nprint(os.getpid(), file=open({str(pid)!r}, 'w'), flush=True)\n"
                                "time.sleep(60)")

    def terminate():
        while time.monotonic() < deadline:
            time.sleep(0.1)
            if pid.exists() and pid.read_text().endswith("\n"):
                return os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=terminate, daemon=True).start()
    with pytest.raises(SystemExit, match="130"):
        report.main(["--profile", "smoke", "--output", str(tmp_path / "out")])
    assert "Stopped. Finished runs are kept" in capsys.readouterr().out
    assert signal.getsignal(signal.SIGTERM) == before
    with pytest.raises(ProcessLookupError):
        while time.monotonic() < deadline:
            os.kill(int(pid.read_text()), 0)
            time.sleep(0.1)


# Settings of its own, and what is committed

def test_the_users_settings_stay_out_and_come_back(monkeypatch, tmp_path):
    home = tmp_path / "home"
    for name, text in {".keras/keras.json": '{"image_data_format": "channels_first"}',
                       ".config/matplotlib/matplotlibrc": "lines.linewidth: 99",
                       ".ipython/profile_default/startup/a.py": "raise SystemExit"}.items():
        (home / name).parent.mkdir(parents=True)
        (home / name).write_text(text)
    for name, value in {"HOME": home, "JUPYTER_PATH": "mine", "PYTHONSTARTUP": home / "gone.py",
                        "KERAS_BACKEND": "numpy"}.items():  # the backend that is there soonest
        monkeypatch.setenv(name, str(value))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    source = write(tmp_path, "01_first", "import keras, matplotlib as mpl\n"
                   "print(mpl.rcParams['lines.linewidth'], keras.config.image_data_format())", "1 / 0")
    with execute.own_settings(tmp_path / "log"):
        failure = execute.execute(source, tmp_path / "out.ipynb")
    assert failure == execute.Failure("01_first", 4, "ZeroDivisionError: division by zero")
    assert text_outputs(tmp_path / "out.ipynb").strip() == "1.5 channels_last"
    assert os.environ["JUPYTER_PATH"] == "mine" and "KERAS_HOME" not in os.environ


def test_a_kernel_that_did_not_start_is_started_once_more(monkeypatch, tmp_path):
    first = tmp_path / "first"
    first.touch()
    fails = f"import os\nif os.path.exists({str(first)!r}): os.remove({str(first)!r}); os._exit(1)\n"
    monkeypatch.setattr(execute, "KERNEL", fails + execute.KERNEL)
    with execute.own_settings(tmp_path / "log"):
        assert execute.execute(write(tmp_path, "01_first", "print('ran')"), tmp_path / "out.ipynb") is None
    assert text_outputs(tmp_path / "out.ipynb") == "ran\n" and not first.exists()


@pytest.fixture(scope="module")
def kept_once(tmp_path_factory, corpora):
    """A folder with a notebook executed and kept with its outputs, and the results that it read."""
    folder = tmp_path_factory.mktemp("kept")
    for protocol, model in (("random", "lstm"), ("actors", "lstm"), ("actors", "resnet")):
        fake_run(folder / "results", protocol, model)
    write(folder, "01_first", "import os, sys\nprint('in', os.getcwd(), object())",
          f"for p in ('random', 'actors'): open({str(folder)!r} + f'/results/{{p}}/lstm/fold0/run.json').close()\n"
          "print('chatter', file=sys.stderr)\nfrom tqdm import tqdm\nlist(tqdm([1], file=sys.stdout))\nprint('\\33[m')",
          "import matplotlib.pyplot as plt\nfrom IPython.display import Audio, display\nplt.imshow([[1, 2]]);\n"
          "display(Audio([0.0] * 800, rate=8000, normalize=False))")
    with pytest.MonkeyPatch.context() as patch:
        use(patch, folder, corpora.ravdess)
        assert report.keep() == []
    return folder


@pytest.fixture
def kept(kept_once, corpora, monkeypatch):
    """That notebook, in a checkout that the report works on."""
    use(monkeypatch, kept_once, corpora.ravdess)
    return kept_once / "notebooks" / "01_first.ipynb"


def test_kept_notebooks_hold_small_figures_and_nothing_of_the_machine(kept):
    notebook = nbformat.read(kept, as_version=4)
    nbformat.validate(notebook)
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert not [noise for noise in ("chatter", " object at 0x", "%|", "\33") if noise in text_outputs(kept)]
    pictures = [output.data["image/png"] for output in outputs if "image/png" in output.get("data", {})]
    assert execute.Image.open(io.BytesIO(base64.b64decode(pictures[0]))).mode == "P"
    whole = kept.read_text()
    assert "audio/wav" not in whole and "Audio player" in whole and "papermill" not in whole
    assert [cell.metadata for cell in notebook.cells if cell.metadata] == [{"tags": ["parameters"]}]
    assert notebook.metadata.made_from.folders == ["actors/lstm", "random"]  # of which it read all


def test_only_what_changed_is_executed_again(kept, capsys):
    before = kept.read_bytes()
    assert report.keep() == [] and "is current" in capsys.readouterr().out
    assert kept.read_bytes() == before
    notebook = nbformat.read(kept, as_version=4)
    fake_run(report.RESULTS, "actors", "alexnet")
    assert execute.is_current(notebook)
    fake_run(report.RESULTS, "random", "resnet")
    assert not execute.is_current(notebook)
    notebook.metadata.made_from.results = execute.results_digest(["actors/lstm", "random"])
    assert execute.is_current(notebook)
    notebook.cells[-1].source += "\n1 + 1"
    assert not execute.is_current(notebook)


@pytest.mark.parametrize("most, failure, said", [
    (100, None, "a notebook may have 100"), (10**6, execute.Failure("01_first", 3, "NameError: x"), "NameError: x")])
def test_a_notebook_that_fails_or_is_too_large_stays_as_it_was(kept, monkeypatch, most, failure, said):
    def executed(source, target):
        shutil.copy(source, target)
        return failure
    monkeypatch.setattr(report, "execute", executed)
    monkeypatch.setattr(report, "MOST_BYTES", most)
    before = kept.read_bytes()
    (found,) = report.keep(force=True)
    assert said in found.error and kept.read_bytes() == before


def test_what_was_saved_while_a_notebook_ran_is_kept(kept, monkeypatch):
    before = kept.read_bytes()
    monkeypatch.setattr(report, "execute", lambda source, target: shutil.copy(source, target) and source.write_bytes(
        before + b"\n") and None)
    (found,) = report.keep(force=True)
    assert "changed meanwhile" in found.error and kept.read_bytes() == before + b"\n"
    kept.write_bytes(before)
    with pytest.raises(ValueError, match="--output .* is the checkout"):
        report.build("smoke", output=kept.parents[1])


# Parts

def test_a_formula_that_cannot_be_converted_is_named_and_shown_as_source(capsys):
    assert "<mtext>mel</mtext>" in report.Renderer().inline_math(r"\mathrm{mel}(f)")
    for latex, source in ((r"\unheardof < x", "\\unheardof &lt; x"), (r"\left( x", r"\left( x")):
        assert report.Renderer().inline_math(latex) == f'<code class="formula-source">{source}</code>'
        assert repr(latex) in capsys.readouterr().out


def test_the_notebooks_need_tensorflow(monkeypatch, capsys):
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    with pytest.raises(SystemExit):
        report.main([])
    assert "unset KERAS_BACKEND" in capsys.readouterr().err
