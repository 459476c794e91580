import dataclasses
import json

import pytest

from ser_utils import config
from ser_utils.training import runs


def test_the_hash_changes_with_every_setting_and_survives_json():
    base = config.RunConfig("quick", "ravdess", "random", "lstm", 0)
    changes = {"fold": 1, "learning_rate": 2e-3, "options": {"width": 0.5}, "augment": None, "mixup": 0.2,
               "features": config.FeatureConfig(n_mels=64), "keep": "last", "versions": 3}
    changed = [dataclasses.replace(base, **{name: value}) for name, value in changes.items()]
    assert len({c.hash for c in [base, *changed]}) == 9
    older = {name: value for name, value in dataclasses.asdict(base).items() if name not in config._LATER}
    assert config.from_dict(older).hash == base.hash  # as written by a version that lacked these settings
    for augment in (config.AugmentConfig(stretch=0.3), None):
        one = config.RunConfig("full", "ravdess", "actors", "vgg16", 3, augment=augment, options={"width": 0.5})
        again = config.from_dict(json.loads(json.dumps(dataclasses.asdict(one))))
        assert again == one and again.hash == one.hash


@pytest.mark.parametrize("profile, count, channels", [("smoke", 7, 0), ("quick", 7, 0), ("full", 126, 32)])
def test_profiles_hold_the_runs_of_the_design(profile, count, channels):
    """Sequence networks look over frames and bands in the full profile alone, as notebooks 08 and 09 describe."""
    found = config.run_configs(profile, "ravdess")
    assert len(found) == count == len({c.name for c in found}) and {c.model for c in found} == set(config.MODEL_NAMES)
    assert {c.options.get("front_2d", 0) for c in found if c.model in ("lstm", "transformer")} == {channels}
    if profile == "full":  # all networks of a protocol are trained alike
        assert len({(c.protocol, c.augment, c.epochs, c.keep, c.versions) for c in found}) == 3


def test_runs_can_be_narrowed_down_and_further_seeds_lie_beside_the_first():
    found = config.run_configs("full", "ravdess", models=["lstm"], protocols=["twins"], folds=[2, 5])
    assert [c.name for c in found] == ["twins/lstm/fold2", "twins/lstm/fold5"]
    assert config.run_configs("full", "ravdess", "lstm", "twins", 2) == found[:1]
    first, second = config.run_configs("full", "ravdess", ["lstm"], ["random"], [3], seeds=(0, 2))
    assert first.place == "random/lstm/fold3" and second.place == "random/lstm/fold3-seed2"
    assert first.hash != second.hash
    assert config.run_configs("full", "ravdess", ["lstm"], ["random"], [3, 3], seeds=iter((0, 2, 0))) == [first, second]
    with pytest.raises(ValueError, match="nothing to refit"):
        config.learning(config.run_configs("full", "ravdess", ["lstm"], ["random10"])[0], "refit")
    ten = config.run_configs("full", "ravdess", ["lstm"], ["random", "random10"])
    assert len(ten) == 6 + 10 and ten[-1].place == "random10/lstm/fold9" and ten[-1].augment == ten[0].augment
    assert [c.place for c in config.run_configs("full", "ravdess", ["lstm"], ["random", "random10"], [7])] == [
        "random10/lstm/fold7"]


@pytest.mark.parametrize("arguments, said", [
    ({"profile": "huge"}, "Unknown profile 'huge'.*smoke, quick, full"),
    ({"models": ["gru"]}, "Unknown model 'gru'.*alexnet"),
    ({"protocols": ["loso"]}, "Unknown protocol 'loso'.*actors"), ({"folds": [6]}, "Unknown fold 6.*5")])
def test_unknown_names_are_refused_with_what_there_is(arguments, said):
    with pytest.raises(ValueError, match=said):
        config.run_configs(**{"profile": "full", "corpus": "ravdess"} | arguments)


def test_only_a_run_of_this_very_configuration_counts_as_finished(tmp_path):
    one = config.RunConfig("quick", "ravdess", "random", "lstm", 0)
    folder = one.run_directory(tmp_path)
    assert not runs.is_finished(one, tmp_path) and folder == tmp_path / "ravdess-quick" / "random" / "lstm" / "fold0"
    folder.mkdir(parents=True)
    for text, finished in ((f'{{"config_hash": "{one.hash}"}}', True), ('{"config_ha', False)):
        (folder / "run.json").write_text(text)
        assert runs.is_finished(one, tmp_path) == finished
        assert not runs.is_finished(dataclasses.replace(one, epochs=1), tmp_path)
