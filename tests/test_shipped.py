"""ser_utils.shipped: files of weights go round, foreign and damaged ones are refused, published runs are checked."""

import dataclasses
import json
import shutil

import numpy as np
import pandas as pd
import pytest
from fakes import clip_names, edit, fake_finished, fold_of

from ser_utils import cli, config, shipped
from ser_utils.data.corpus import Corpus
from ser_utils.evaluation.metrics import PROBABILITIES
from ser_utils.features import spectral
from ser_utils.predict import EmotionRecognizer
from ser_utils.training import fit, runs

SETTINGS = config.run_configs("full", "ravdess", ["lstm"], ["actors"], [0])[0]
SETTINGS = dataclasses.replace(SETTINGS, pool=4, options={"units": 4, "stack": 8}, versions=1)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with a made-up run, its weights and the file that ships them."""
    root = tmp_path_factory.mktemp("shipped")
    run = fake_finished(root, SETTINGS, config=dataclasses.asdict(SETTINGS))
    model = shipped.build(SETTINGS)
    model.get_layer("normalise").assign(np.full(80, -45.0), np.full(80, 12.0))
    model.save(run / "model.keras")
    return root, run, shipped.ship(run, "lstm-actors-fold0", folder=root)


def test_a_file_goes_round_within_what_float16_rounds(made):
    root, run, path = made
    sent, got = EmotionRecognizer.load(run), EmotionRecognizer.load(path)
    x = np.random.default_rng(0).normal(-45, 12, (3, 128, 80)).astype(np.float32)
    np.testing.assert_allclose(got.judge(x), sent.judge(x), atol=1e-3)
    assert got.config == sent.config and got.temperature == sent.temperature != 1
    assert np.load(path, allow_pickle=False)["001"].dtype == np.float16 and path.stat().st_size < 200_000
    val = runs.read_predictions(run).query("subset == 'val'")
    likelihood = [np.log(EmotionRecognizer(got.model, SETTINGS, factor * got.temperature).calibrated(
        val[PROBABILITIES].to_numpy())[np.arange(len(val)), val.label]).mean() for factor in (0.8, 1, 1.25)]
    assert likelihood[1] == max(likelihood)
    told = runs.read_predictions(run)
    told.loc[told.subset == "test", PROBABILITIES] = 0.125  # test clips set no temperature
    assert shipped._fitted(told) == sent.temperature
    words, test = path.with_suffix(".md").read_text(), runs.read_predictions(run).query("subset == 'test'")
    assert f"{100 * (test.label == test.prediction).mean():.1f} % (95 %" in words and "CC BY-NC-SA 4.0" in words


@pytest.mark.parametrize("name", shipped.names() or [pytest.param("", marks=pytest.mark.skip("none is made here"))])
def test_weights_made_here_are_small_load_and_have_their_card(name):
    found, path = EmotionRecognizer.load(name), shipped.FOLDER / f"{name}.npz"
    assert path.stat().st_size < 5e6 and sum(each.stat().st_size for each in shipped.FOLDER.glob("*fold0.npz")) < 16e6
    assert found.about["name"] == name
    if name == config.WEIGHTS:
        robust, = config.run_configs("robust", "ravdess", ["vgg19"], folds=[0])
        assert found.config == dataclasses.replace(robust, learns="all")
    assert (shipped.FOLDER / f"{name}.md").read_text() == shipped.card(found.about)


def altered(path, **changes):
    """The arrays of a file, some of them changed, written again."""
    arrays = dict(np.load(path, allow_pickle=False))
    about = json.loads(str(arrays["about"]))
    arrays |= changes if "about" not in changes else {"about": json.dumps(about | changes["about"])}
    return {name: array for name, array in arrays.items() if array is not None}


@pytest.mark.parametrize("how", ["missing", "text", "cut", "spoilt", "pickle", "foreign", "format", "settings", "layer",
                                 "lacking", "shape", "nan", "bomb", "keras"])
def test_a_damaged_or_foreign_file_is_refused_with_a_sentence(made, tmp_path, how):
    _, run, good = made
    path, content = tmp_path / "a.npz", good.read_bytes()
    settings = json.loads(str(np.load(good)["about"]))["config"]
    if how in ("text", "cut", "spoilt", "keras"):
        middle = len(content) // 2
        path.write_bytes({"text": b"hello", "cut": content[:middle], "keras": (run / "model.keras").read_bytes(),
                          "spoilt": content[:middle] + bytes(99) + content[middle + 99:]}[how])
    elif how != "missing":
        arrays = {"pickle": lambda: {"about": np.array({"format": print}, dtype=object)},
                  "foreign": lambda: {"weight": np.zeros(3)},
                  "format": lambda: altered(good, about={"format": "another"}),
                  "settings": lambda: altered(good, about={"config": settings | {"epochs": 1}}),
                  "layer": lambda: altered(good, about={"config": settings | {"lambda": "print()"}}),
                  "lacking": lambda: altered(good, **{"003": None}),
                  "shape": lambda: altered(good, **{"001": np.zeros((2, 2), np.float16)}),
                  "nan": lambda: altered(good, **{"002": np.full_like(np.load(good)["002"], np.nan)}),
                  "bomb": lambda: {"000": np.zeros(2**25)}}[how]()
        np.savez_compressed(path, **arrays)
    with pytest.raises(shipped.WeightsError, match=r"a\.npz") as caught:
        EmotionRecognizer.load(path)
    assert "\n" not in str(caught.value) and str(caught.value).endswith(".")


def test_verify_tells_equal_from_different_missing_and_another_recipe(made, tmp_path, monkeypatch):
    root, run, path = made
    whole = Corpus(root, "ravdess", clip_names())
    clips = whole.index[fold_of(whole.index, "actors") == 0].reset_index(drop=True)
    logmel = np.random.default_rng(0).normal(-45, 12, (240, 128, 80)).astype(np.float32)
    store = spectral.FeatureStore(SETTINGS.features, "ravdess", clips["clip"].to_numpy(), np.full(240, 128), logmel)
    monkeypatch.setattr(spectral, "extract", lambda found, *rest: store if len(found.index) == 240 else None)
    published = tmp_path / "actors" / "lstm" / "fold0"
    shutil.copytree(run, published)

    def verdict():
        return shipped.verify(whole, root, tmp_path).set_index("network").loc["LSTM"]

    answers = pd.read_csv(published / "predictions.csv")
    answers.loc[answers.subset == "test", PROBABILITIES] = pd.DataFrame(
        fit.predict(shipped.read(path)[0], logmel), index=clips["clip"]).loc[
            answers["clip"][answers.subset == "test"]].to_numpy()
    for wrong, expected in ((0, "equal"), (3, "equal"), (4, "differs")):
        changed = answers.copy()
        rows = changed.index[changed.subset == "test"][:wrong]
        changed.loc[rows, PROBABILITIES] = changed.loc[rows, PROBABILITIES].to_numpy()[:, ::-1]
        changed.to_csv(published / "predictions.csv", index=False)
        found = verdict()
        assert (found.verdict, found.labels) == (expected, wrong)
    edit(published / "run.json", config_hash="another")
    assert verdict().verdict == "another recipe"
    assert set(shipped.verify(whole, tmp_path, tmp_path).verdict) == {"missing"}


@pytest.mark.parametrize("ending", ["onnx", "tflite"])
def test_an_exported_network_answers_as_it_does_here(tmp_path, ending):
    run = pytest.importorskip({"onnx": "onnxruntime", "tflite": "ai_edge_litert.interpreter"}[ending])
    settings, = config.run_configs("full", "ravdess", ["alexnet"], ["actors"], [0])
    network = EmotionRecognizer(shipped.build(settings), settings, 0.5)
    network.model.get_layer("normalise").assign(np.full(80, -45.0), np.full(80, 12.0))
    shipped.export(network.model, network.temperature, tmp_path / f"a.{ending}")
    x = np.random.default_rng(0).normal(-45, 12, (1, 128, 80)).astype(np.float32)
    if ending == "onnx":
        session = run.InferenceSession(tmp_path / "a.onnx")
        answer = session.run(None, {"logmel_db": x})[0]
    else:
        interpreter = run.Interpreter(str(tmp_path / "a.tflite"))
        interpreter.allocate_tensors()
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x)
        interpreter.invoke()
        answer = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    assert np.ptp(answer) > 0.01
    np.testing.assert_allclose(answer, network.calibrated(network.judge(x, versions=1)), atol=1e-3)


def test_a_network_is_exported_to_known_formats_alone(made, tmp_path, capfd):
    assert cli.main(["export", str(made[2]), str(tmp_path / "a.txt")]) == 1
    assert "must end in .onnx or .tflite" in capfd.readouterr().err and not list(tmp_path.iterdir())
    assert cli.main(["export", "nobody", str(tmp_path / "a.onnx")]) == 1 and "nobody" in capfd.readouterr().err
