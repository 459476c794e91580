import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ser_utils.training.processes import Processes, TaskError


def alive(pid):
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"


def wait_for(condition, seconds=30):
    limit = time.monotonic() + seconds
    while not condition() and time.monotonic() < limit:
        time.sleep(0.05)
    return condition()


def test_a_task_runs_elsewhere_its_result_comes_back_and_a_crash_costs_one_task(tmp_path):
    with Processes(2) as executor:
        printed, elsewhere = executor.submit(print, "said", log=tmp_path / "new" / "log"), executor.submit(os.getpid)
        (tmp_path / "log").write_text("an earlier run\n")
        died, failed = executor.submit(os._exit, 3), executor.submit(int, "one", log=tmp_path / "log")
        fine = executor.submit(abs, -1)
        with pytest.raises(TaskError, match="exit 3"):
            died.result()
        with pytest.raises(TaskError, match="ValueError(.|\n)*invalid literal") as found:
            failed.result()
        assert found.value.kind == "ValueError" and (tmp_path / "log").read_text().startswith("an earlier run\n")
        assert fine.result() == 1 and elsewhere.result() != os.getpid()
        printed.result()
        assert (tmp_path / "new" / "log").read_text() == "said\n"


def test_cancelling_ends_what_runs_and_begins_nothing_more():
    executor = Processes(1)
    futures = [executor.submit(time.sleep, 600) for _ in range(3)]
    assert wait_for(lambda: executor._children)
    executor.shutdown(cancel_futures=True)
    assert [child.poll() for child in executor._children] != [None] and all(future.done() for future in futures)


@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGTERM])
def test_no_task_outlives_its_executor(tmp_path, sign):
    code = ("import sys; from pathlib import Path; from ser_utils.training.processes import Processes\n"
            "task = 'import os, time; print(os.getpid(), flush=True); time.sleep(600)'\n"
            "Processes(1).submit(exec, task, log=Path(sys.argv[1]))")
    parent, log = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "log")]), tmp_path / "log"
    assert wait_for(lambda: log.exists() and log.read_text().endswith("\n"), 60)
    child = int(log.read_text())
    parent.send_signal(sign)
    parent.wait()
    assert wait_for(lambda: not alive(child))
