"""What all tests share: quiet libraries, figures without a screen, and no network."""

import os
import shutil
import socket
import sys

import pytest

from ser_utils import machine

os.environ["MPLBACKEND"] = "Agg"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"  # compiling takes longer than what tests compute on JAX
os.environ["SER_OFFLINE"] = "1"  # no test may start to download RAVDESS
os.environ.pop("SER_CORPUS", None)
os.environ |= dict.fromkeys(machine.THREADS, "1")  # pytest-xdist keeps every core busy


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    """A test that reaches for another machine fails; connections within this one are fine."""
    connect = socket.socket.connect

    def guarded(self, address):
        if self.family != socket.AF_UNIX and address[0] not in ("127.0.0.1", "::1", "localhost"):
            raise OSError(f"A test tried to connect to {address[0]}; tests work without the network.")
        return connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)


@pytest.fixture(autouse=True)
def nothing_left_behind():
    """No test inherits figures, or the mixed precision that a training before it chose for this processor."""
    yield
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")
    if "keras" in sys.modules:
        sys.modules["keras"].config.set_dtype_policy("float32")


@pytest.fixture
def browse():
    """Opens a page as wide as a phone in headless Chromium, begun with these options."""
    driver = pytest.importorskip("playwright.sync_api")
    chromium = next(filter(None, map(shutil.which, ["chromium", "chromium-browser", "google-chrome"])), None)
    if not chromium:
        pytest.skip("no Chromium")
    with driver.sync_playwright() as play:
        yield lambda *options: play.chromium.launch(executable_path=chromium, args=["--no-sandbox", *options]).new_page(
            viewport={"width": 400, "height": 900})


@pytest.fixture
def blank_weights(monkeypatch):
    """Networks of which only the shapes matter begin with zeros: to draw 138 million numbers takes seconds."""
    import keras

    monkeypatch.setattr(keras.initializers.VarianceScaling, "__call__",
                        lambda self, shape, dtype=None: keras.ops.zeros(shape, dtype))


@pytest.fixture(scope="module")
def quick_trainings():
    """Two dense layers in the place of the networks, and a state saved after every epoch."""
    from tiny import tiny_network

    from ser_utils.training import fit, frontend

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(frontend, "assemble", tiny_network)
        patch.setattr(fit, "SAVE_SECONDS", 0.0)
        yield patch


@pytest.fixture
def clean_style():
    """The test starts with the real corpus and the report's style, and leaves no style behind."""
    import matplotlib as mpl

    from ser_utils.plots import style

    with mpl.rc_context():
        style.set_corpus("ravdess")
        style.use_style()
        yield
        style.set_corpus("ravdess")


@pytest.fixture(scope="session")
def tiny_corpus(tmp_path_factory):
    """192 clips, one an actor and emotion, as a corpus on disk; only the sounds of the first eight are made."""
    from ser_utils.data import ravdess, synthetic
    from ser_utils.data.corpus import Corpus

    names = [name for name in ravdess.speech_names() if name[8:17] == "-01-01-01"]
    root = synthetic.make_corpus(tmp_path_factory.mktemp("tiny") / "audio", names=names[:8])
    made = sorted(root.rglob("*.wav"))
    for number, name in enumerate(names[8:]):
        (root / f"Actor_{name[-2:]}").mkdir(exist_ok=True)
        shutil.copy(made[number % 8], root / f"Actor_{name[-2:]}" / f"{name}.wav")
    return Corpus(root, "synthetic", ravdess.index(root))


@pytest.fixture(scope="session")
def results(tmp_path_factory):
    """Made-up runs of two protocols: all models on random fold 0, two of them on every fold and on two of actors."""
    from fakes import MODELS, fake_results
    root = tmp_path_factory.mktemp("results")
    fake_results(root, protocols=["random"], models=MODELS[2:], folds=[0])
    fake_results(root, protocols=["random"], models=MODELS[:2])
    fake_results(root, protocols=["actors"], models=MODELS[:2], folds=[0, 1])
    return root


@pytest.fixture(scope="session")
def tiny_store(tiny_corpus, tmp_path_factory):
    from ser_utils.features import spectral

    path = tmp_path_factory.mktemp("features") / "tiny.npz"
    spectral.write(spectral.extract(tiny_corpus, folder=path.parent / "cache", progress=False), path)
    return path


@pytest.fixture(scope="session")
def made_up():
    """A store of all 1,440 clips' names with made-up features that a network can learn."""
    import numpy as np

    from ser_utils.config import PAD_DB, FeatureConfig
    from ser_utils.data import ravdess
    from ser_utils.features.spectral import FeatureStore

    names = sorted(ravdess.speech_names())
    rng = np.random.default_rng(0)
    lengths = rng.integers(20, 40, len(names))
    logmel = rng.normal(-40, 10, (len(names), 40, 16)).astype(np.float32)
    for row, (name, length) in enumerate(zip(names, lengths, strict=True)):
        logmel[row, :, 2 * ravdess.parse_name(name)["label"]] += 15
        logmel[row, length:] = PAD_DB
    return FeatureStore(FeatureConfig(n_mels=16, n_mfcc=4), "synthetic", np.array(names), lengths, logmel)
