import subprocess
import sys

import pytest

LOGS = """
import resource
{configure}
import structlog
log = structlog.get_logger("test")
log.error("before")
resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
for number in range(2000):
    log.error("lost", number=number)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
log.error("afterwards")
print("goes on")
"""
OF_THE_SERVICE = "from pdp.config import Log; from pdp.log import configure; configure(Log())"
OF_A_PROXY = "from pep.cli import log_to_stderr; from pep.core.config import Log; log_to_stderr(Log())"


@pytest.mark.parametrize("configure", [OF_THE_SERVICE, OF_A_PROXY], ids=["pdp", "pep"])
def test_a_log_on_a_full_disk_ends_nothing(tmp_path, configure: str):
    with (tmp_path / "log").open("wb") as log:
        program = [sys.executable, "-c", LOGS.format(configure=configure)]
        done = subprocess.run(program, stdout=subprocess.PIPE, stderr=log, text=True, check=True)
    assert done.stdout == "goes on\n"
    said = (tmp_path / "log").read_text()
    assert "before" in said
    assert "afterwards" in said
