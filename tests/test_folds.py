import hashlib

import numpy as np
import pandas as pd
import pytest

from ser_utils.data import folds, names, ravdess

INDEX = pd.DataFrame([ravdess.parse_name(clip) for clip in ravdess.speech_names()])


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
    assert table["clip"].tolist() == ravdess.speech_names() and list(table) == ["clip", *folds.FOLD_COUNT]
    assert table.set_index("clip").loc[[*names.IDENTICAL_CLIPS]].nunique().eq(1).all()


@pytest.mark.parametrize("protocol, sizes, neutral, others", [
    *((name, {"train": 960, "val": 240, "test": 240}, {16}, {32}) for name in folds.PROTOCOLS),
    ("random10", {"train": 1296, "test": 144}, {9, 10}, {19, 20})])
def test_every_clip_is_tested_once_the_next_fold_validates_and_parts_do_not_overlap(protocol, sizes, neutral, others):
    found = []
    for fold in range(folds.FOLD_COUNT[protocol]):
        parts = folds.split(INDEX, protocol, fold)
        assert {part: len(rows) for part, rows in parts.items()} == sizes
        assert np.array_equal(np.sort(np.concatenate(list(parts.values()))), np.arange(1440))
        if "val" in sizes:
            assert np.array_equal(parts["val"], folds.split(INDEX, protocol, (fold + 1) % 6)["test"])
        assert np.array_equal(folds.check_split(INDEX, protocol, fold)["test"], parts["test"])
        assert folds.joined(parts, "train").keys() == sizes.keys()
        counts = INDEX.iloc[parts["test"]].emotion.value_counts()
        assert counts.pop("neutral") in neutral and set(counts) <= others
        found.append(parts["test"])
    assert np.array_equal(np.sort(np.concatenate(found)), np.arange(1440))


def test_actors_are_the_folds_of_emobox():
    assert [set(INDEX.actor.iloc[folds.split(INDEX, "actors", fold)["test"]]) for fold in range(6)] == [
        {1, 11, 20, 21}, {4, 10, 12, 14}, {8, 9, 19, 23}, {3, 5, 7, 24}, {2, 15, 16, 18}, {6, 13, 17, 22}]


def test_positions_follow_the_order_and_the_size_of_the_index():
    shuffled = INDEX.sample(frac=0.3, random_state=0).reset_index(drop=True)
    parts = folds.split(shuffled, "actors", 2)
    assert set(shuffled["actor"].iloc[parts["test"]]) == {8, 9, 19, 23}
    assert sum(map(len, parts.values())) == len(shuffled)
    relabelled = shuffled.set_index(np.arange(len(shuffled)) + 1000)
    assert np.array_equal(folds.split(relabelled, "actors", 2)["test"], parts["test"])


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


def moved(parts, row, source, target):
    return {**parts, source: parts[source][parts[source] != row], target: np.append(parts[target], row)}


@pytest.mark.parametrize("protocol, one, other", [
    ("random", "train", "test"), ("random", "train", "val"), ("random", "val", "test"), ("random10", "train", "test")])
def test_a_clip_in_two_parts_is_caught(protocol, one, other):
    parts = folds.split(INDEX, protocol, 0)
    parts[one] = np.append(parts[one], row := parts[other][0])
    with pytest.raises(folds.LeakError, match=f"clip in both {one} and {other}: {INDEX['clip'][row]}"):
        folds.check_split(INDEX, protocol, parts)


def test_a_clip_twice_in_the_index_is_caught():
    doubled = pd.concat([INDEX, INDEX.iloc[[7]]], ignore_index=True)
    with pytest.raises(folds.LeakError, match=f"two rows.*{INDEX['clip'][7]}"):
        folds.check_split(doubled, "random", 0)


@pytest.mark.parametrize("target", ["train", "val"])
@pytest.mark.parametrize("protocol, said", [("actors", "actor in both {} and test: 8"),
                                            ("twins", "pair of repetitions in both {} and test")])
def test_an_actor_or_a_twin_in_two_parts_is_caught_though_the_index_names_another_actor(protocol, said, target):
    parts = folds.split(INDEX, protocol, 2)
    row = parts["test"][INDEX.actor.iloc[parts["test"]] == 8][0]
    lying = INDEX.assign(actor=INDEX["actor"].where(INDEX.index != row, 24))
    for index in (INDEX, lying):
        with pytest.raises(folds.LeakError, match=said.format(target)):
            folds.check_split(index, protocol, moved(parts, row, "test", target))


@pytest.mark.parametrize("fold", range(6))
def test_the_identical_pair_apart_is_caught_even_under_random(fold):
    row = INDEX.index[INDEX["clip"] == names.IDENTICAL_CLIPS[1]][0]
    parts = folds.split(INDEX, "random", fold)
    source = next(part for part, rows in parts.items() if row in rows)
    target = "test" if source == "train" else "train"
    with pytest.raises(folds.LeakError, match="byte-identical pair"):
        folds.check_split(INDEX, "random", moved(parts, row, source, target))


PARTS = folds.split(INDEX, "random", 0)
STRANGER = pd.concat([INDEX, pd.DataFrame({"clip": ["mine"]})], ignore_index=True)


@pytest.mark.parametrize("function, arguments, said", [
    (folds.split, (INDEX, "speakers", 0), "'speakers'.*random, twins, actors"),
    (folds.split, (INDEX, "random", 6), "fold 6.*0 to 5"), (folds.split, (INDEX, "random", -1), "fold -1"),
    (folds.split, (INDEX, "random10", 10), "fold 10.*0 to 9"),
    (folds.split, (STRANGER, "random", 0), "mine not in the fold table"),
    (folds.fewer, (INDEX, "random", PARTS["train"], 0.0), "A share of 0.0"),
    (folds.fewer, (INDEX, "random", PARTS["train"], 1.5), "A share of 1.5"),
    (folds.fewer, (INDEX, "none", PARTS["train"], 0.5), "Unknown protocol"),
    (folds.fewer, (INDEX, "actors", folds.split(INDEX, "actors", 0)["train"], 0.01), "0.01 of 16 leaves nothing"),
    (folds.check_split, (INDEX, "random", {"train": PARTS["train"], "test": PARTS["test"]}), "train, val, test"),
    (folds.check_split, (INDEX, "random", PARTS | {"val": np.array([], dtype=int)}), "val part is empty"),
    (folds.check_split, (INDEX, "speakers", PARTS), "Unknown protocol")])
def test_what_makes_no_sense_is_refused_with_what_there_is(function, arguments, said):
    with pytest.raises(ValueError, match=said):
        function(*arguments)
