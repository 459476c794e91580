"""The machine: how a training process is to use it, and what a result was made with."""

import contextlib
import os
import platform
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

from joblib import cpu_count as cores  # that this process may use, by affinity and a container's quota

from ser_utils.paths import ROOT

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")
KEEP_MEMORY = {  # for glibc's malloc: one heap, grown by 256 MiB at a time and never given back
    "MALLOC_ARENA_MAX": "1", "MALLOC_TOP_PAD_": str(2 ** 28), "MALLOC_TRIM_THRESHOLD_": str(2 ** 34),
    "MALLOC_MMAP_MAX_": "0"}  # a threshold would not hold: TensorFlow sets its own once batches come from Python
PACKAGES = ("keras", "tensorflow", "jax", "numpy", "librosa", "scikit-learn")


def environment(threads: int | None = None) -> dict[str, str]:
    """The environment variables of a process that trains with ``threads`` threads, or with as many as are set.

    It keeps the memory of feature maps and convolves with oneDNN, which TensorFlow leaves off on x86 processors without
    AVX-512; ``benchmarks/bench_training.py --against`` measures the gain. What the user has set stays, threads apart.
    """
    found = KEEP_MEMORY | {"TF_ENABLE_ONEDNN_OPTS": "1", "TF_CPP_MIN_LOG_LEVEL": "2"} | os.environ
    return found | {name: str(threads) for name in THREADS if threads}


@contextlib.contextmanager
def quiet():
    """Standard error is for Python alone, not for what libraries below it say: TensorFlow, the MP3 decoder."""
    usual, nowhere = sys.stderr, os.open(os.devnull, os.O_WRONLY)
    with os.fdopen(os.dup(2), "w", errors="backslashreplace") as sys.stderr:
        os.dup2(nowhere, 2)
        try:
            yield
        finally:
            os.dup2(sys.stderr.fileno(), 2)
            sys.stderr = usual
            os.close(nowhere)


def _cpuinfo() -> str:
    """What Linux says of the processor; nothing on other systems."""
    path = Path("/proc/cpuinfo")
    return path.read_text() if path.exists() else ""


def processor() -> str:
    """A readable name of the processor with the number of its cores that may be used."""
    found = re.search(r"model name\s*: (.+)", _cpuinfo())
    name = found[1] if found else platform.processor() or platform.machine()
    return f"{name}, {cores()} cores"


def precision() -> str:
    """``mixed_bfloat16`` where the processor has instructions for bfloat16 products, else ``float32``."""
    return "mixed_bfloat16" if re.search("amx_bf16|avx512_bf16", _cpuinfo()) else "float32"


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that shape a result."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    return found


def revision() -> str:
    """The commit of the code, with ``+`` where the working tree differs; "unknown" outside a checkout."""
    def git(*words):
        return subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, text=True, check=True).stdout
    try:
        changed = git("status", "--porcelain", "--", "ser_utils").strip()
        return git("rev-parse", "--short=12", "HEAD").strip() + ("+" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
