"""Which of several processes this is, for each way to start them."""

import json
import os
import subprocess
import sys

import pytest

TORCHRUN = {"TORCHELASTIC_RUN_ID": "none", "WORLD_SIZE": "4"}
SRUN = {"SLURM_STEP_NUM_TASKS": "4", "SLURM_NTASKS": "4"}
CASES = [
    # environment, whether it is the first, how many torchrun or srun started
    ({}, True, 0),
    ({"LOCAL_RANK": "0", "NODE_RANK": "0"}, True, 0),
    ({"LOCAL_RANK": "1", "NODE_RANK": "0"}, False, 0),
    ({"LOCAL_RANK": "0", "NODE_RANK": "1"}, False, 0),
    ({"NODE_RANK": "1"}, False, 0),
    ({**TORCHRUN, "RANK": "0", "LOCAL_RANK": "0"}, True, 4),
    ({**TORCHRUN, "RANK": "1", "LOCAL_RANK": "1"}, False, 4),
    ({**TORCHRUN, "RANK": "2", "LOCAL_RANK": "0", "GROUP_RANK": "1"}, False, 4),
    ({**TORCHRUN, "WORLD_SIZE": "1", "RANK": "0", "LOCAL_RANK": "0"}, True, 1),
    ({**SRUN, "SLURM_PROCID": "0"}, True, 4),
    ({**SRUN, "SLURM_PROCID": "3"}, False, 4),
    ({**SRUN, **TORCHRUN, "SLURM_PROCID": "1", "RANK": "0", "LOCAL_RANK": "0"}, True, 4),
    ({"SLURM_NTASKS": "4", "SLURM_PROCID": "0"}, True, 0),  # a job's script, without srun
    ({"SLURM_NTASKS": "4", "SLURM_PROCID": "0", "LOCAL_RANK": "1"}, False, 0),
    ({"SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0"}, True, 0),  # a shell that srun gave
]
ASK = """
import json, os, sys
from dedup.runtime import processes
for case in json.load(sys.stdin):
    for name in list(os.environ):
        if name.startswith(("SLURM_", "TORCHELASTIC_")) or name.endswith(("RANK", "WORLD_SIZE")):
            del os.environ[name]
    os.environ.update(case)
    print(json.dumps([processes.is_first(), processes.n_launched()]))
"""


@pytest.fixture(scope="module")
def answers() -> list[list[object]]:
    """What a process says in each environment; this one's stays as it is."""
    asked = json.dumps([environment for environment, *_ in CASES])
    done = subprocess.run(
        [sys.executable, "-c", ASK], input=asked, capture_output=True, text=True, check=True,
        timeout=60, env=os.environ,
    )  # fmt: skip
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("number", range(len(CASES)))
def test_who_this_is(answers: list[list[object]], number: int) -> None:
    _, first, launched = CASES[number]
    assert answers[number] == [first, launched]
