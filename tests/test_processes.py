import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import work

from ser_utils.training.processes import Processes, TaskError, say

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX")


@pytest.fixture(autouse=True)
def children_find_the_tests(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))


def alive(pid):
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False


def wait_for(condition, seconds=30):
    limit = time.monotonic() + seconds
    while not condition() and time.monotonic() < limit:
        time.sleep(0.05)
    return condition()


def test_a_task_runs_elsewhere_and_its_result_comes_back(tmp_path):
    with Processes(2) as executor:
        assert executor.submit(work.echo, [1, 2], log=tmp_path / "log").result() == [1, 2]
        assert executor.submit(os.getpid).result() != os.getpid()
    assert (tmp_path / "log").read_text().endswith("printed\n")
    heard = []
    with Processes(1) as executor:
        executor.submit(say, "half done", listen=heard.append).result()
    assert heard == ["half done"]
    say("nobody listens")


def test_a_crash_costs_one_task(tmp_path):
    with Processes(2) as executor:
        died, failed = executor.submit(os._exit, 3), executor.submit(int, "one", log=tmp_path / "log")
        killed, fine = executor.submit(signal.raise_signal, signal.SIGKILL), executor.submit(work.echo, 1)
        with pytest.raises(TaskError, match="exit 3"):
            died.result()
        with pytest.raises(TaskError, match="ValueError(.|\n)*invalid literal") as found:
            failed.result()
        assert found.value.kind == "ValueError"
        with pytest.raises(TaskError, match="killed by signal 9"):
            killed.result()
        assert fine.result() == 1


def test_cancelling_ends_what_runs_and_begins_nothing_more():
    executor = Processes(1)
    futures = [executor.submit(time.sleep, 600) for _ in range(3)]
    assert wait_for(lambda: executor._children)
    executor.shutdown(cancel=True)
    assert not executor._children and all(future.done() for future in futures)


@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGTERM])
def test_no_task_outlives_its_executor(tmp_path, sign):
    code = ("import sys, work; from fakes import *; from ser_utils.config import RunConfig\n"
            "from ser_utils.training.processes import Processes\n"
            "config = RunConfig('smoke', 'synthetic', 'random', 'alexnet', 0, variant='long')\n"
            "Processes(1).submit(work.run, config, None, sys.argv[1])")
    parent = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)])
    assert wait_for(lambda: list(tmp_path.rglob("pid")) and next(tmp_path.rglob("pid")).read_text(), 60)
    child = int(next(tmp_path.rglob("pid")).read_text())
    parent.send_signal(sign)
    parent.wait()
    assert wait_for(lambda: not alive(child))
