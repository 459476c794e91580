import hashlib

import numpy as np
import pandas as pd
import pytest

from ser_utils.data import folds, names, ravdess

INDEX = pd.DataFrame([ravdess.parse_name(clip) for clip in ravdess.speech_names()])


def held_out(protocol, fold):
    return INDEX.iloc[folds.split(INDEX, protocol, fold)["test"]]


def rank(kind, name):
    return hashlib.sha256(f"{folds.SEED}/{kind}/{name}".encode()).hexdigest()


def dealt(protocol, units):
    """Names dealt to the folds in turn, emotion by emotion, in the order of their hashes."""
    ordered = sorted(set(units), key=lambda name: (name[6:8], rank(protocol, name)))
    return {name: position % folds.FOLD_COUNT[protocol] for position, name in enumerate(ordered)}


@pytest.mark.parametrize("protocol", ["random", "random10"])
def test_random_folds_are_dealt_by_hash_but_that_the_identical_pair_meets_in_exchange_for_a_like_clip(protocol):
    expected = dealt(protocol, INDEX["clip"])
    first, second = names.IDENTICAL_CLIPS
    other = next(clip for clip in sorted(expected) if clip[6:8] == first[6:8] and expected[clip] == expected[first]
                 and clip != first)
    expected[second], expected[other] = expected[first], expected[second]
    assert folds.table().set_index("clip")[protocol].to_dict() == expected


def test_twins_and_enrolled_clips_are_dealt_by_hash():
    expected = INDEX["clip"].map(folds.twin_key).map(dealt("twins", map(folds.twin_key, INDEX["clip"])))
    assert (folds.table()["twins"] == expected).all()
    ordered = pd.Series(sorted(INDEX["clip"], key=lambda name: rank("enrolled", name)))
    place = ordered.groupby(ordered.str[-2:]).cumcount() + 1
    table = pd.DataFrame({"clip": ordered, "order": place})[place <= folds.ENROLLED[-2]]
    pd.testing.assert_frame_equal(table.sort_values("clip", ignore_index=True),
                                  pd.read_csv(folds.TABLE_FILE.with_name("enrolled.csv")))


def test_the_table_holds_every_speech_clip_once_and_the_identical_pair_together():
    checksums = ravdess.reference()  # of which two are alike
    assert tuple(checksums[checksums["sha256"].duplicated(keep=False)]["clip"]) == names.IDENTICAL_CLIPS
    table = folds.table()
    assert table["clip"].tolist() == ravdess.speech_names()
    assert table.columns.tolist() == ["clip", *folds.FOLD_COUNT]
    assert set(np.unique(table[list(folds.PROTOCOLS)])) == set(range(6))
    assert table.set_index("clip").loc[[*names.IDENTICAL_CLIPS]].nunique().eq(1).all()


@pytest.mark.parametrize("protocol", folds.PROTOCOLS)
def test_every_clip_is_tested_once_the_next_fold_validates_and_parts_do_not_overlap(protocol):
    found = []
    for fold in range(6):
        parts = folds.split(INDEX, protocol, fold)
        assert {part: len(rows) for part, rows in parts.items()} == {"train": 960, "val": 240, "test": 240}
        assert np.array_equal(np.sort(np.concatenate(list(parts.values()))), np.arange(1440))
        assert np.array_equal(parts["val"], folds.split(INDEX, protocol, (fold + 1) % 6)["test"])
        assert np.array_equal(folds.check_split(INDEX, protocol, fold)["test"], parts["test"])
        counts = held_out(protocol, fold)["emotion"].value_counts()
        assert counts.pop("neutral") == 16 and counts.tolist() == [32] * 7
        found.append(parts["test"])
    assert np.array_equal(np.sort(np.concatenate(found)), np.arange(1440))


def test_ten_folds_test_every_clip_once_and_validate_none():
    parts = [folds.check_split(INDEX, "random10", fold) for fold in range(10)]
    assert {tuple((part, len(rows)) for part, rows in found.items()) for found in parts} == {
        (("train", 1296), ("test", 144))}
    assert np.array_equal(np.sort(np.concatenate([found["test"] for found in parts])), np.arange(1440))
    for found in parts:
        counts = INDEX.iloc[found["test"]].emotion.value_counts()
        assert counts.pop("neutral") in (9, 10) and set(counts) <= {19, 20}
        assert folds.joined(found, "train").keys() == {"train", "test"}
    with pytest.raises(folds.LeakError, match="clip in both train and test"):
        folds.check_split(INDEX, "random10", parts[0] | {"train": np.arange(1440)})


@pytest.mark.parametrize("protocol", ["random", "random10"])
def test_the_part_of_the_other_take_is_where_the_split_has_it(protocol):
    for fold in (0, 5):
        where = {clip: part for part, at in folds.split(INDEX, protocol, fold).items() for clip in INDEX["clip"][at]}
        twins = INDEX["clip"].map(lambda clip: clip[:16] + "21"[clip[16] == "2"] + clip[17:])
        assert folds.twin_part(INDEX["clip"], [fold] * 1440, protocol).tolist() == twins.map(where).tolist()


def test_actors_are_the_folds_of_emobox():
    assert [set(held_out("actors", fold)["actor"]) for fold in range(6)] == [
        {1, 11, 20, 21}, {4, 10, 12, 14}, {8, 9, 19, 23}, {3, 5, 7, 24}, {2, 15, 16, 18}, {6, 13, 17, 22}]


def test_positions_follow_the_order_and_the_size_of_the_index():
    shuffled = INDEX.sample(frac=0.3, random_state=0).reset_index(drop=True)
    parts = folds.split(shuffled, "actors", 2)
    assert set(shuffled["actor"].iloc[parts["test"]]) == {8, 9, 19, 23}
    assert sum(map(len, parts.values())) == len(shuffled)
    relabelled = shuffled.set_index(np.arange(len(shuffled)) + 1000)
    assert np.array_equal(folds.split(relabelled, "actors", 2)["test"], parts["test"])


def test_unknown_protocol_fold_and_clip_are_named():
    stranger = pd.concat([INDEX, pd.DataFrame({"clip": ["mine"]})], ignore_index=True)
    for index, protocol, fold, said in ((INDEX, "speakers", 0, "'speakers'.*random, twins, actors"),
                                        (INDEX, "random", 6, "fold 6.*0 to 5"), (INDEX, "random", -1, "fold -1"),
                                        (INDEX, "random10", 10, "fold 10.*0 to 9"),
                                        (stranger, "random", 0, "mine not in the fold table")):
        with pytest.raises(ValueError, match=said):
            folds.split(index, protocol, fold)


@pytest.mark.parametrize("protocol", folds.PROTOCOLS)
@pytest.mark.parametrize("fold", range(6))
def test_fewer_training_clips_keep_together_what_the_protocol_keeps(protocol, fold):
    train = folds.split(INDEX, protocol, fold)["train"]
    quarter, half = (folds.fewer(INDEX, protocol, train, share) for share in (0.25, 0.5))
    assert abs(len(half) - 480) <= 1 and abs(len(quarter) - 240) <= 1  # a pair of twins may be one clip over
    assert set(quarter) < set(half) < set(train) and (np.diff(half) > 0).all()
    assert np.array_equal(folds.fewer(INDEX, protocol, train, 1.0), train)
    shuffled = INDEX.sample(frac=1, random_state=1).reset_index(drop=True)  # names alone say which are left
    there = folds.fewer(shuffled, protocol, folds.split(shuffled, protocol, fold)["train"], 0.25)
    assert set(shuffled["clip"].iloc[there]) == set(INDEX["clip"].iloc[quarter])
    if protocol == "actors":
        assert INDEX.iloc[half].groupby("actor").size().tolist() == [60] * 8
        women = (INDEX.iloc[train].actor % 2 == 0).mean() * 8
        assert abs((INDEX.iloc[half].drop_duplicates("actor").actor % 2 == 0).sum() - women) <= 1
        return
    counts = INDEX.iloc[half].emotion.value_counts()
    assert abs(counts["neutral"] - 32) <= 2 and (abs(counts.drop("neutral") - 64) <= 2).all()
    alone = INDEX.iloc[half]["clip"].map(folds.twin_key).value_counts() == 1
    assert alone.mean() < 0.01 if protocol == "twins" else alone.mean() > 0.3


@pytest.mark.parametrize(("protocol", "share", "said"), [
    ("random", 0.0, "a share of 0.0"), ("random", 1.5, "a share of 1.5"), ("none", 0.5, "unknown protocol"),
    ("actors", 0.01, "0.01 of 16 leaves nothing")])
def test_a_share_that_makes_no_sense_is_refused(protocol, share, said):
    with pytest.raises(ValueError, match=f"(?i){said}"):
        folds.fewer(INDEX, protocol, folds.split(INDEX, "actors", 0)["train"], share)


def moved(parts, row, source, target):
    return {**parts, source: parts[source][parts[source] != row], target: np.append(parts[target], row)}


@pytest.mark.parametrize("pair", [("train", "test"), ("train", "val"), ("val", "test")])
def test_a_clip_in_two_parts_is_caught(pair):
    parts = folds.split(INDEX, "random", 0)
    parts[pair[0]] = np.append(parts[pair[0]], parts[pair[1]][0])
    name = INDEX["clip"].iloc[parts[pair[1]][0]]
    with pytest.raises(folds.LeakError, match=f"clip in both {pair[0]} and {pair[1]}: {name}"):
        folds.check_split(INDEX, "random", parts)


def test_a_clip_twice_in_the_index_is_caught():
    doubled = pd.concat([INDEX, INDEX.iloc[[7]]], ignore_index=True)
    with pytest.raises(folds.LeakError, match=f"two rows.*{INDEX['clip'][7]}"):
        folds.check_split(doubled, "random", 0)


@pytest.mark.parametrize("fold", range(6))
def test_an_actor_in_two_parts_is_caught_though_the_index_names_another(fold):
    parts = folds.split(INDEX, "actors", fold)
    row = parts["test"][0]
    lying = INDEX.assign(actor=INDEX["actor"].where(INDEX.index != row, 24))
    for index in (INDEX, lying):
        with pytest.raises(folds.LeakError, match=f"actor in both train and test: {INDEX['actor'][row]}"):
            folds.check_split(index, "actors", moved(parts, row, "test", "train"))


@pytest.mark.parametrize("target", ["train", "val"])
def test_a_twin_split_apart_is_caught(target):
    parts = folds.split(INDEX, "twins", 3)
    with pytest.raises(folds.LeakError, match=f"pair of repetitions in both {target} and test"):
        folds.check_split(INDEX, "twins", moved(parts, parts["test"][5], "test", target))


@pytest.mark.parametrize("fold", range(6))
def test_the_identical_pair_apart_is_caught_even_under_random(fold):
    row = INDEX.index[INDEX["clip"] == names.IDENTICAL_CLIPS[1]][0]
    parts = folds.split(INDEX, "random", fold)
    source = next(part for part, rows in parts.items() if row in rows)
    target = "test" if source == "train" else "train"
    with pytest.raises(folds.LeakError, match="byte-identical pair"):
        folds.check_split(INDEX, "random", moved(parts, row, source, target))


def test_parts_missing_empty_or_out_of_range_are_refused():
    parts = folds.split(INDEX, "random", 0)
    for protocol, wrong, said in (("random", {"train": parts["train"], "test": parts["test"]}, "train, val, test"),
                                  ("random", {**parts, "val": np.array([], dtype=int)}, "val part is empty"),
                                  ("speakers", parts, "Unknown protocol")):
        with pytest.raises(ValueError, match=said):
            folds.check_split(INDEX, protocol, wrong)
