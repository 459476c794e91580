"""A page in the browser: record or drop a recording, hear it, see what a network hears in it and where it looked.

It is served on this machine, to this machine; recordings are deleted when it stops. Gradio comes with ``make demo``.
"""

import argparse
import base64
import functools
import html
import io
import os
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from ser_utils import EMOTIONS, explain, machine, shipped
from ser_utils.config import WEIGHTS
from ser_utils.evaluation.metrics import model_name
from ser_utils.features import spectral
from ser_utils.features.audio import AudioError
from ser_utils.plots import predict as pictures
from ser_utils.plots import style
from ser_utils.predict import EmotionRecognizer, Prediction

HEAD = """<h1>What does a voice sound like?</h1><p>A network trained on actors' speech listens to a recording.
<b>Nothing leaves this machine</b>: the network runs here, and recordings are deleted when the demo stops.</p>"""
EMPTY = """<p>Drop a file, or choose the microphone and record a sentence. Up to 10 seconds get one answer and a look
into the network; longer recordings are followed from moment to moment.</p>"""
FOOT = """<p class='small'>It always names one of eight emotions, of music or a door, too. It has heard actors, two
sentences, one studio. It hears how something is said, not what is felt: decide nothing about anybody by it.</p>"""
WAIT = "<section><h2>Where it looked</h2><p class='small'>It listens again, without one part after the other ...</p>"


@functools.cache
def network(name: str) -> EmotionRecognizer:
    """Weights, loaded once and warmed up: the first answer of a network takes seconds, the next do not."""
    found = EmotionRecognizer.load(name)
    found.predict((np.sin(np.arange(16_000)), 16_000))
    return found


def listen(path: str | None, name: str) -> Iterator[tuple[str, str]]:
    """The answer of weights for a file, and pictures, in HTML; twice if there is a picture that takes long."""
    if not path:
        yield EMPTY, ""
        return
    recognizer = network(name)
    try:
        found = recognizer.predict(path)
    except (AudioError, OSError) as error:
        said = html.escape(str(error).replace(path, Path(path).name))
        yield f"<p class='sentence' role='alert'>{said}</p>", ""
        return
    answer, features = _answer(found, recognizer), recognizer.config.features
    if found.timeline is not None:
        yield answer, _card("From moment to moment", "The level in the colour of what is heard, and the probabilities.",
                            pictures.timeline(path, found.timeline), "wide")
        return
    starts, windows, _ = recognizer.windows(found.wave)
    cards = _card("What it heard", "The speech alone, and its log-mel spectrogram, which is all the network gets.",
                  pictures.heard(found.wave, spectral.log_mel(found.wave, features), features))
    yield answer, cards + WAIT
    cover = sorted({*range(0, len(windows), 4), len(windows) - 1})  # each window begins a quarter after the last
    heat = explain.occlusion(functools.partial(recognizer.judge, versions=1), windows[cover], starts[cover],
                             EMOTIONS.index(found.label))
    yield answer, cards + _card(
        "Where it looked", f"By how many points <i>{found.label}</i> becomes less probable without a part of "
        f"{10 * recognizer.hop_seconds:.1f} s and a tenth of the bands.",
        pictures.looked(heat, style.EMOTION_COLORS[found.label], features))


def _answer(found: Prediction, recognizer: EmotionRecognizer) -> str:
    bars = "".join(f"<div class='bar'><span>{name}</span><i style='width: {100 * value:.1f}%; background: "
                   f"{style.EMOTION_COLORS[name]}'></i><b>{100 * value:.1f} %</b></div>"
                   for name, value in found.probabilities.items())
    scores, color = recognizer.about.get("scores"), style.EMOTION_COLORS[found.label]
    whose = "voices it never heard" if recognizer.config.protocol.startswith("actors") else "voices it knows"
    trust = f" is right for {scores['accuracy']:.0f} % of clips of {whose}" if scores else " answered"
    return (f"<div class='answer' style='border-color: {color}'><strong>{found.label}</strong><p>"
            f"{100 * found.confidence:.1f} % probable; {found.speech:.1f} s of speech in {found.seconds:.1f} s</p>"
            f"</div>{bars}<p class='small'>{' '.join(found.notes)} {model_name(recognizer.config.model)}{trust}.</p>")


def _card(title: str, words: str, figure: Figure, kind: str = "") -> str:
    file = io.BytesIO()
    figure.savefig(file, dpi=200)
    return (f"<section><h2>{title}</h2><img class='{kind}' alt='{title}' src='data:image/png;base64,"
            f"{base64.b64encode(file.getvalue()).decode()}'><p class='small'>{words}</p></section>")


def start(model: str, port: int | None = None):
    """Serve the page to this machine alone; the running app. Raises WeightsError, or OSError if the port is taken."""
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    import gradio

    with machine.quiet():  # not around the server, which keeps the error stream it finds
        network(model)
    style.use_style()
    names = list(dict.fromkeys([model, *shipped.names()]))
    with gradio.Blocks(title="Speech emotion recognition", analytics_enabled=False) as app:
        gradio.HTML(HEAD, elem_classes="part")
        with gradio.Row():
            with gradio.Column(min_width=320):
                audio = gradio.Audio(sources=["upload", "microphone"], type="filepath", label="Recording", buttons=[])
                weights = gradio.Dropdown(names, value=model, label="Network", visible=len(names) > 1)
            with gradio.Column(min_width=320):
                answer = gradio.HTML(EMPTY, elem_classes="part", elem_id="answer")
        cards = gradio.HTML(elem_classes=["part", "cards"], elem_id="cards")
        gradio.HTML(FOOT, elem_classes="part")
        gradio.on([audio.change, weights.change], listen, [audio, weights], [answer, cards], api_visibility="private",
                  trigger_mode="always_last", show_progress_on=answer)
    app.launch(server_name="127.0.0.1", server_port=port, share=False, quiet=True, prevent_thread_lock=True,
               footer_links=[], run_history=False, enable_monitoring=False, ssr_mode=False, mcp_server=False,
               css_paths=Path(__file__).with_suffix(".css"),
               theme=gradio.themes.Default(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]))
    return app


def main(arguments: list[str] | None = None) -> int:
    """``ser-utils demo``: serve the page until Ctrl-C."""
    parser = argparse.ArgumentParser(prog="ser-utils demo", description="A page in the browser, on this machine alone: "
                                     "record or drop a recording, see what a network hears in it and where it looks.")
    parser.add_argument("--model", default=WEIGHTS,
                        help="weights by name, a file of weights or a run's folder (default: %(default)s)")
    parser.add_argument("--port", type=int, help="default: the first free one from 7860")
    options = parser.parse_args(arguments)
    for ending in filter(lambda one: signal.getsignal(one) != signal.SIG_IGN, (signal.SIGTERM, signal.SIGHUP)):
        signal.signal(ending, signal.default_int_handler)  # a closed terminal, too, deletes the recordings
    with tempfile.TemporaryDirectory() as folder:
        os.environ["GRADIO_TEMP_DIR"] = folder
        try:
            app = start(options.model, options.port)
        except ModuleNotFoundError:
            print("The demo needs Gradio: run make demo, or pip install -r requirements-demo.txt.", file=sys.stderr)
            return 1
        except (shipped.WeightsError, OSError) as error:
            said = f"The page can't be served ({error}). If a port is taken, choose another by --port."
            print(error if isinstance(error, ValueError) else said, file=sys.stderr)
            return 1
        print(f"Open {app.local_url} in a browser on this machine; Ctrl-C stops it.", flush=True)
        app.block_thread()
    return 0
