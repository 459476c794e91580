import os
import subprocess

import pytest

from ser_utils import machine


def test_the_processor_is_named_with_the_cores_that_may_be_used_and_the_packages_that_are_installed(monkeypatch):
    monkeypatch.setattr(machine, "PACKAGES", ("numpy", "no-such-package"))
    assert set(machine.versions()) == {"python", "numpy"}
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {3, 5}, raising=False)
    assert machine.processor().endswith(", 2 cores") and len(machine.processor()) > len(", 2 cores")


@pytest.mark.parametrize("flags, expected", [
    ("fpu avx2 amx_bf16", "mixed_bfloat16"), ("avx512_bf16", "mixed_bfloat16"), ("avx512f amx_int8", "float32")])
def test_bfloat16_is_chosen_where_the_processor_has_it(flags, expected, monkeypatch):
    monkeypatch.setattr(machine.Path, "read_text", lambda self: f"model name : A\nflags : {flags}\n")
    assert machine.precision() == expected


def test_the_revision_is_that_of_the_checkout(tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "ROOT", tmp_path)
    assert machine.revision() == "unknown"
    (tmp_path / "ser_utils").mkdir()
    for words in ("init", "commit --allow-empty -m one"):
        subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", *words.split()], cwd=tmp_path, check=True)
    clean = machine.revision()
    (tmp_path / "ser_utils" / "a.py").touch()
    assert len(clean) == 12 and machine.revision() == clean + "+"


def test_a_training_process_keeps_its_memory_and_what_the_user_set(monkeypatch):
    monkeypatch.setenv("MALLOC_ARENA_MAX", "3")
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.delenv("TF_ENABLE_ONEDNN_OPTS", raising=False)
    found, two = machine.environment(), machine.environment(2)
    assert found["MALLOC_ARENA_MAX"] == "3" and found["MALLOC_TOP_PAD_"] == "268435456"
    assert found["OMP_NUM_THREADS"] == "7" and two["OMP_NUM_THREADS"] == two["TF_NUM_INTRAOP_THREADS"] == "2"
    assert found["TF_ENABLE_ONEDNN_OPTS"] == "1"
