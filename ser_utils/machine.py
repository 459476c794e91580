"""What a result was made with: the processor, the packages, the state of the code."""

import json
import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path

from ser_utils.paths import ROOT

PACKAGES = ("keras", "tensorflow", "jax", "numpy", "librosa", "scikit-learn")


def processor() -> str:
    """A readable name of the processor with the number of its cores."""
    name = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    return f"{name}, {os.cpu_count()} cores"


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that shape a result."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def revision() -> str:
    """The commit of the code, with ``+`` where the working tree differs; "unknown" outside a checkout.

    In an unpacked bundle (see :mod:`ser_utils.bundle`) it is that of the checkout it was made from.
    """
    try:
        return json.loads((ROOT / "bundle.json").read_text())["revision"]
    except FileNotFoundError:
        pass

    def git(*words):
        return subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, text=True, check=True).stdout
    try:
        changed = git("status", "--porcelain", "--", "ser_utils").strip()
        return git("rev-parse", "--short=12", "HEAD").strip() + ("+" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
