"""From a recording to log-mel spectrograms, MFCCs and prosody."""

import os
import sysconfig
import tempfile
from pathlib import Path

# librosa's compiled functions are cached beside its files or below HOME; where neither can be written it does not load.
if "NUMBA_CACHE_DIR" not in os.environ:
    home = Path(os.path.expanduser("~"))
    if not any(os.access(place, os.W_OK) for place in (sysconfig.get_paths()["purelib"], home / ".cache", home)):
        os.environ["NUMBA_CACHE_DIR"] = str(Path(tempfile.gettempdir()) / f"numba-{os.getuid()}")
