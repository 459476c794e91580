"""The page of ser-utils demo: the function behind it, and itself in headless Chromium with a fake microphone."""

import os
import signal

import numpy as np
import pytest
import soundfile
from test_predict import RATE, babble, recognizer, run  # noqa: F401  fixtures

from ser_utils import cli, demo, predict


@pytest.fixture(autouse=True)
def loaded(recognizer, monkeypatch):  # noqa: F811
    """Every name of weights stands for a network that is there already."""
    monkeypatch.setattr(predict.EmotionRecognizer, "load", classmethod(lambda cls, name: recognizer))
    monkeypatch.setattr(demo, "network", demo.network.__wrapped__)
    return recognizer


def shown(found):
    return [found.label, *(f"{100 * value:.1f} %" for value in found.probabilities.values())]


@pytest.mark.parametrize("seconds, titles", [(1, ["heard", "looked"]), (4, ["heard", "looked"]), (11, ["moment"])])
def test_the_answer_comes_first_and_the_pictures_follow(loaded, tmp_path, seconds, titles):
    soundfile.write(tmp_path / "a.wav", babble(seconds), RATE)
    steps = list(demo.listen(str(tmp_path / "a.wav"), "any"))
    assert len({answer for answer, _ in steps}) == 1
    assert all(part in steps[0][0] for part in shown(loaded.predict(tmp_path / "a.wav")))
    assert [cards.count("<img") for _, cards in steps] == list(range(1, len(titles) + 1))
    assert all(title in steps[-1][1] for title in titles)


def test_what_can_not_be_used_gets_the_sentence_of_predict(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.wav").write_text("Not a sound at all, but a few words.\n")
    soundfile.write("silent.wav", np.zeros(RATE), RATE)
    soundfile.write("short.wav", babble()[6_000:6_160], RATE)
    for name in ("text.wav", "silent.wav", "short.wav", "gone.wav"):
        assert cli.main(["predict", name]) == 2
        said = capfd.readouterr().err.strip().replace("'", "&#x27;")
        [(answer, cards)] = demo.listen(str(tmp_path / name), "any")
        assert said.endswith(".") and f">{said}<" in answer and not cards
    assert list(demo.listen(None, "any")) == [(demo.EMPTY, "")]


@pytest.mark.parametrize("error, said", [(ModuleNotFoundError, "run make demo, or"), (OSError, "by --port.")])
def test_without_gradio_or_a_free_port_one_sentence_says_what_to_do(monkeypatch, capsys, error, said):
    def start(model, port):
        raise error
    monkeypatch.setattr(demo, "start", start)
    assert demo.main([]) == 1
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("ending", ["SIGTERM", "SIGHUP"])
def test_recordings_are_deleted_however_the_demo_is_stopped(monkeypatch, ending):
    monkeypatch.setattr(demo, "start", lambda *_: signal.raise_signal(signal.Signals[ending]))
    monkeypatch.setenv("GRADIO_TEMP_DIR", "")
    with pytest.raises(KeyboardInterrupt):
        demo.main([])
    assert not os.path.exists(os.environ["GRADIO_TEMP_DIR"])


def test_the_page_answers_a_microphone_and_a_file_as_predict_does(loaded, tmp_path, monkeypatch, browse):
    pytest.importorskip("gradio")
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "uploads"))
    soundfile.write(tmp_path / "clip.wav", babble(2), RATE)
    soundfile.write(tmp_path / "file.wav", babble(1, seed=5), RATE)
    (tmp_path / "text.wav").write_text("words")
    heard, usual, asked = [], loaded.predict, []
    monkeypatch.setattr(loaded, "predict", lambda path: heard.append(path) or usual(path))
    app = demo.start("any")
    try:
        page = browse("--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream",
                      f"--use-file-for-fake-audio-capture={tmp_path / 'clip.wav'}")
        page.on("request", lambda request: asked.append(request.url))
        page.goto(app.local_url)
        read = "[...document.querySelectorAll('#answer strong, #answer b')].map(found => found.innerText)"
        page.click("button[aria-label='Record audio']")
        page.click("button.record-button")
        page.wait_for_timeout(2_500)
        page.click("button.stop-button")
        page.wait_for_selector("#cards section:nth-child(2) img")
        assert page.evaluate(read) == shown(usual(heard[-1])) and soundfile.info(heard[-1]).duration > 0.5
        box = page.locator("#answer").bounding_box()  # below the recorder, as wide as the page
        assert box["x"] >= 0 and 320 < box["width"] <= 400 - box["x"]
        for name, kind in (("file.wav", "answer"), ("text.wav", "sentence")):
            page.click("button[aria-label='Clear']")
            page.click("button[aria-label='Upload file']")
            page.set_input_files("input[type=file]", tmp_path / name)
            page.wait_for_selector(f"#answer .{kind}")
            assert page.evaluate(read) == (shown(usual(tmp_path / name)) if kind == "answer" else [])
        assert "text.wav can't be decoded" in page.inner_text("#answer")
        assert all(url.startswith((app.local_url, "blob:", "data:")) for url in asked) and len(asked) > 10
    finally:
        app.close()
