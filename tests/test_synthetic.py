import itertools
from concurrent.futures import ThreadPoolExecutor

import pytest
import soundfile as sf

from ser_utils.data import folds, ravdess, synthetic

FEW = ["03-01-01-01-01-01-01", "03-01-05-02-02-01-02", "03-01-04-01-01-02-02"]


def contents(root):
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_the_layout_is_ravdesss_own_and_the_bytes_are_the_same_twice(tmp_path):
    root = synthetic.make_corpus(tmp_path / "made", names=FEW)
    assert set(contents(root)) == {synthetic.MARKER, *(f"Actor_{name[-2:]}/{name}.wav" for name in FEW)}
    assert ravdess.index(root)["clip"].tolist() == sorted(FEW)
    facts = sf.info(root / "Actor_01" / f"{FEW[0]}.wav")
    assert (facts.samplerate, facts.channels, facts.subtype) == (16000, 1, "PCM_16")
    assert contents(root) == contents(synthetic.make_corpus(tmp_path / "again", names=reversed(FEW)))


def test_a_finished_corpus_is_kept_and_another_recipe_made_anew(tmp_path):
    root = synthetic.make_corpus(tmp_path / "made", names=FEW)
    before = (root / "Actor_01").stat().st_ctime_ns
    synthetic.make_corpus(root, names=FEW)
    assert (root / "Actor_01").stat().st_ctime_ns == before
    synthetic.make_corpus(root, names=FEW[1:])
    assert ravdess.index(root)["clip"].tolist() == sorted(FEW[1:])


def test_a_stopped_run_leaves_nothing_and_can_be_repeated(tmp_path, monkeypatch):
    def stopping(name, synthesise=synthetic.synthesise):
        if name == sorted(FEW)[-1]:
            raise KeyboardInterrupt
        return synthesise(name)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(synthetic, "synthesise", stopping)
        synthetic.make_corpus(tmp_path / "made", names=FEW)
    assert list(tmp_path.glob("[!.]*")) == []
    left = tmp_path / ".made-partial" / "Actor_01"  # as by a kill
    left.mkdir(parents=True)
    (left / "03-01-02-01-01-01-01.wav").write_bytes(b"half")
    assert len(ravdess.index(synthetic.make_corpus(tmp_path / "made", names=FEW))) == 3
    assert not (tmp_path / ".made-partial").exists()


def test_of_two_first_runs_the_second_waits_for_the_first(tmp_path, capfd):
    with ThreadPoolExecutor() as pool:
        runs = [pool.submit(synthetic.make_corpus, tmp_path / "made", FEW) for _ in range(2)]
    assert {run.result() for run in runs} == {tmp_path / "made"} and len(ravdess.index(tmp_path / "made")) == 3
    assert "waiting for it" in capfd.readouterr().err


def test_a_folder_of_other_things_is_not_overwritten(tmp_path):
    (tmp_path / "mine.wav").write_bytes(b"mine")
    with pytest.raises(FileExistsError, match="something else"):
        synthetic.make_corpus(tmp_path, names=FEW)
    assert (tmp_path / "mine.wav").read_bytes() == b"mine"


def test_the_corpus_keeps_every_factor_its_twins_and_in_every_split_its_promises_and_all_classes():
    index = ravdess.index_of(synthetic.clip_names())
    assert len(index) == 552 and index["clip"].is_monotonic_increasing
    assert len(index[["actor", "emotion"]].drop_duplicates()) == 24 * 8
    assert (index[["intensity", "statement", "repetition", "gender"]].nunique() == 2).all()
    assert (index["clip"].map(folds.twin_key).value_counts() == 2).sum() == 24 * 8
    for protocol, fold in itertools.product(folds.PROTOCOLS, range(6)):
        for rows in folds.check_split(index, protocol, fold).values():
            assert index["emotion"].iloc[rows].nunique() == 8
