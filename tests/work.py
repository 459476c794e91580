"""What tests have their processes do in the place of training."""

import os
import signal
import time

from fakes import fake_finished

from ser_utils.training import runs


def run(config, store, root, progress=False):
    """A run that is made up in a moment; ``config.variant`` may ask for something worse."""
    directory = config.run_directory(root)
    directory.mkdir(parents=True, exist_ok=True)
    if config.variant == "busy" and not (directory / "waited").exists():
        (directory / "waited").touch()
        raise runs.RunBusy(f"Another process is training {config.name}.")
    if config.variant == "dies":
        os.kill(os.getpid(), signal.SIGKILL)
    if config.variant == "fails":
        raise ValueError("no such network")
    (directory / "pid").write_text(str(os.getpid()))
    if config.variant == "long":
        time.sleep(600)
    return runs.Run(fake_finished(root, config))
