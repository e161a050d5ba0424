"""The script for Slurm in docs/cluster.md, run with stand-ins for what an allocation has: they note how they were called."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = Path(__file__).resolve().parents[2] / "docs" / "cluster.md"
CALLED = '#!/bin/sh\necho "$(basename "$0") $* [$RAY_AUTH_MODE ${#RAY_AUTH_TOKEN}]" >> "$CALLS"\n'
# The head answers when it is asked again, and then the other nodes are there when they are.
STAND_INS = {
    "hostname": "#!/bin/sh\necho node1\n",
    "srun": CALLED,
    "rrti": CALLED,
    "sleep": "#!/bin/sh\n",
    "ray": CALLED
    + 'test "$1" = health-check && { test "$(grep -c health-check "$CALLS")" -ge 2; exit; }\n'
    + 'printf "Active:\\n 1 node_a\\n"\n'
    + 'test "$(grep -c "ray status" "$CALLS")" -ge 2 && printf " 1 node_b\\n 1 node_c\\n"\nexit 0\n',
}


@pytest.mark.skipif(sys.platform == "win32", reason="it is for bash")
def test_the_script_starts_a_cluster_on_every_node_and_then_the_run(tmp_path: Path) -> None:
    [script] = re.findall(r"```sh\n(#!/bin/bash\n#SBATCH.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    for name, text in STAND_INS.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    (tmp_path / "python").symlink_to(sys.executable)
    calls = tmp_path / "calls"
    calls.touch()
    env = {"PATH": f"{tmp_path}{os.pathsep}{os.defpath}", "CALLS": str(calls), "SLURM_NNODES": "3"}
    subprocess.run([shutil.which("bash") or "bash", "-c", script + "wait\n"], env=env, check=True)
    told = calls.read_text().splitlines()
    assert {line.rpartition(" [")[2] for line in told} == {"token 64]"}
    asked = [line.rpartition(" [")[0] for line in told]
    head = "srun --nodes=1 --ntasks=1 --nodelist=node1 ray start --head --port=6379 --disable-usage-stats --block"
    others = "srun --nodes=2 --ntasks=2 --exclude=node1 ray start --address=node1:6379 --block"
    assert sorted(asked[:-1]) == sorted(
        [head, *["ray health-check --address node1:6379"] * 2, others, *["ray status --address node1:6379"] * 2]
    )
    assert asked.index(others) > max(i for i, line in enumerate(asked) if "health-check" in line)
    assert asked[-1] == "rrti experiment FILE --ray node1:6379 --parts /shared/parts"
