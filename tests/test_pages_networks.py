"""The network that a page of the report defines in plain Keras is the one that was trained and published."""

import keras
import librosa
import nbformat
import numpy as np
import pandas as pd
import pytest
from keras import layers, ops

from ser_utils import models
from ser_utils.config import PROFILES
from ser_utils.paths import NOTEBOOKS

PAGES = {"alexnet": "03_alexnet", "resnet": "04_resnet", "inceptionnet": "05_inceptionnet", "vgg16": "06_vgg16",
         "vgg19": "07_vgg19", "lstm": "08_lstm", "transformer": "09_transformer"}
SHAPE = (128, 80, 1)
LIBRARIES = {"keras": keras, "librosa": librosa, "np": np, "pd": pd, "layers": layers, "ops": ops}


def cell(name: str) -> str:
    cells = nbformat.read(NOTEBOOKS / f"{PAGES[name]}.ipynb", as_version=4).cells
    found = [c.source for c in cells if c.cell_type == "code" and f"\ndef {name}(" in f"\n{c.source}"]
    assert len(found) == 1, f"{PAGES[name]} has {len(found)} cells that define {name}()"
    assert "import " not in found[0] and len(found[0].splitlines()) <= 50, "it can't be read in one sitting"
    return found[0]


def built(name: str) -> keras.Model:
    """The page's network at the published size, from nothing but Keras and the layers of ``ser_utils.models``."""
    space = LIBRARIES | {layer: getattr(models, layer) for layer in models.__all__ if layer[:1].isupper()}
    exec(cell(name), space)
    return space[name](SHAPE, **PROFILES["full"].networks[name]["options"])


def shapes(tensors) -> list[tuple]:
    return [tuple(tensor.shape) for tensor in keras.tree.flatten(tensors)]


@pytest.mark.parametrize("name", PAGES)
def test_the_pages_network_is_the_published_one(name):
    ours = models.build(name, SHAPE, **PROFILES["full"].networks[name]["options"])
    page = built(name)
    assert [layer.name for layer in page.layers] == [layer.name for layer in ours.layers]
    for shown, made in zip(page.layers, ours.layers, strict=True):
        assert isinstance(made, type(shown)), shown.name  # ours may be Keras's own layer, made faster
        assert shapes(shown.output) == shapes(made.output), shown.name
        assert shapes(shown.weights) == shapes(made.weights), shown.name
        assert getattr(shown, "rate", 0) == getattr(made, "rate", 0), shown.name
    rng = np.random.default_rng(0)
    for weight, other in zip(page.weights, ours.weights, strict=True):
        if not other.path.endswith("seed_generator_state"):
            value = rng.uniform(0.5, 1.5, weight.shape) if weight.path.endswith("variance") else rng.normal(
                0, 0.1, weight.shape)
            weight.assign(value)
            other.assign(value)
    x = rng.normal(size=(2, *SHAPE)).astype(np.float32)
    x[1, 70:] = 0
    expected = ops.convert_to_numpy(ours(x, training=False))
    assert np.abs(expected[0] - expected[1]).max() > 1e-4
    np.testing.assert_allclose(ops.convert_to_numpy(page(x, training=False)), expected, atol=1e-5)
