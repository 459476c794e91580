import dataclasses
import json

import pytest

from ser_utils import config
from ser_utils.training import runs


def test_the_hash_changes_with_every_setting_and_survives_json():
    base = config.RunConfig("quick", "ravdess", "random", "lstm", 0)
    changed = [dataclasses.replace(base, fold=1), dataclasses.replace(base, learning_rate=2e-3),
               dataclasses.replace(base, options={"width": 0.5}), dataclasses.replace(base, augment=None),
               dataclasses.replace(base, features=config.FeatureConfig(n_mels=64)),
               *(dataclasses.replace(base, **later) for later in ({"mixup": 0.2}, {"keep": "last"}, {"versions": 3}))]
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
    assert len(found) == count == len({c.name for c in found})
    assert {c.model for c in found} == set(config.MODEL_NAMES)
    assert {c.options.get("front_2d", 0) for c in found if c.model in ("lstm", "transformer")} == {channels}


def test_all_networks_of_a_protocol_are_trained_with_the_same_augmentation():
    for protocol, warp, level in (("random", 0.04, 0.0), ("twins", 0.04, 0.0), ("actors", 0.08, 6.0)):
        found = config.run_configs("full", "ravdess", protocols=[protocol])
        assert len({c.augment for c in found}) == 1 and len({(c.epochs, c.keep, c.versions) for c in found}) == 1
        assert (found[0].augment.warp, found[0].augment.gain_db) == (warp, level)


def test_runs_can_be_narrowed_down_and_further_seeds_lie_beside_the_first():
    found = config.run_configs("full", "ravdess", models=["lstm"], protocols=["twins"], folds=[2, 5])
    assert [c.name for c in found] == ["twins/lstm/fold2", "twins/lstm/fold5"]
    first, second = config.run_configs("full", "ravdess", ["lstm"], ["random"], [3], seeds=(0, 2))
    assert first.place == "random/lstm/fold3" and second.place == "random/lstm/fold3-seed2"
    assert first.hash != second.hash
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
    (folder / "run.json").write_text('{"config_hash": "' + one.hash + '"}')
    assert runs.is_finished(one, tmp_path)
    assert not runs.is_finished(dataclasses.replace(one, epochs=1), tmp_path)
    (folder / "run.json").write_text('{"config_ha')
    assert not runs.is_finished(one, tmp_path)
