"""The page to listen to mistakes: its rows are the published answers; in a browser it filters, and plays a clip."""

import numpy as np
import pytest
from fakes import fake_run, write_clips
from test_report import use

from ser_utils import EMOTIONS
from ser_utils.data import ravdess
from ser_utils.data.corpus import Corpus
from ser_utils.evaluation import metrics
from ser_utils.report import build as report
from ser_utils.report import listen
from ser_utils.training import runs


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """Two networks on two folds of unseen actors, a third on one of them; a reference, which is no network."""
    root = tmp_path_factory.mktemp("published")
    for model, fold in (("lstm", 0), ("lstm", 1), ("resnet", 0), ("resnet", 1), ("vgg16", 0), ("majority", 0)):
        fake_run(root, "actors", model, fold, accuracy=0.6)
    return root


def test_a_row_a_clip_that_all_networks_judged_with_their_answers(published, tmp_path):
    found = listen.table(published).set_index("clip")
    said = runs.predictions(published, "actors").query("fold == 0")
    assert len(found) == 240 and found.right.is_monotonic_increasing and "majority" not in found
    for model, mine in {"ensemble": metrics.ensemble(said), **dict(list(said.groupby("model")))}.items():
        mine = mine.set_index("clip").loc[found.index]
        assert list(found[model]) == [EMOTIONS[answer] for answer in mine.prediction]
        assert list(found.emotion) == [EMOTIONS[label] for label in mine.label]
    right = said[said.label == said.prediction].groupby("clip").size()
    assert (found.right == right.reindex(found.index, fill_value=0)).all()
    assert listen.table(tmp_path).empty


def page_of(folder, results, corpus):
    with pytest.MonkeyPatch.context() as patch:
        use(patch, folder, corpus)
        patch.setattr(report, "RESULTS", results)
        assert not report.build("smoke", output=folder / "site")
    assert (folder / "site" / "index.html").read_text().count('href="listen.html"') == 2
    return folder / "site" / "listen.html"


def test_the_page_is_made_without_ravdess_and_never_plays_synthetic_clips_for_it(published, tmp_path, tiny_corpus):
    page = page_of(tmp_path, published, tiny_corpus).read_text()
    assert '"files": {}' in page and "This page knows of none" in page and tiny_corpus.banner not in page
    assert len(page) < 1_500_000 and 'src="' not in page and str(tmp_path) not in page


def test_in_a_browser_a_cell_shows_its_clips_and_a_row_is_heard(published, tmp_path, tiny_corpus, browse):
    expect, faults, fetched = pytest.importorskip("playwright.sync_api").expect, [], []
    said = runs.predictions(published, "actors", "lstm").query("fold == 0")
    wanted = metrics.confusion(said.label, said.prediction)
    k, j = divmod(int((wanted * (1 - np.eye(8, dtype=int))).argmax()), 8)  # the commonest mistake
    root = write_clips(tmp_path / "my clips", said["clip"])
    page = browse()
    page.on("pageerror", lambda error: faults.append(error))
    page.on("request", lambda request: fetched.append(request.url.partition(":")[0]))

    def first_row_plays():
        page.locator("#clips tbody button").first.focus()
        page.keyboard.press("Enter")
        page.wait_for_function("document.getElementById('audio').duration > 0")
        expect(page.locator("#playing")).to_contain_text(f"{EMOTIONS[k]}, ")

    page.goto(page_of(tmp_path, published, Corpus(root, "ravdess", ravdess.index(root))).as_uri())
    page.select_option("#network", "lstm")
    expect(page.locator("#matrix td")).to_have_text([str(count) for count in wanted.ravel()])
    (cell := page.locator(f"#matrix tbody tr:nth-child({k + 1}) td:nth-child({j + 2}) a")).click()
    shown = f"{wanted[k, j]} clips shown: acted {EMOTIONS[k]}, heard as {EMOTIONS[j]}"
    expect(page.locator("#shown")).to_have_text(shown)
    assert page.locator("#clips tbody tr").count() == min(wanted[k, j], 25)
    first_row_plays()
    assert page.evaluate("document.documentElement.scrollWidth") == 400
    page_of(tmp_path, published, tiny_corpus)  # knows no recordings
    page.reload()
    expect(page.locator("#shown")).to_have_text(shown)  # the address says so
    page.locator("#clips tbody tr").first.click()
    expect(page.locator("#playing")).to_contain_text("choose your RAVDESS folder")
    page.set_input_files("#folder", root)
    expect(page.locator("#found")).to_have_text("240 of 240 clips found")
    first_row_plays()
    cell.click()
    expect(page.locator("#shown")).to_have_text("240 clips shown")
    assert not faults and {*fetched} <= {"file", "data", "blob"}
