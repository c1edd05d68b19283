"""Large blocks that are freed and taken again."""

import platform
import subprocess
import sys

import pytest

COUNT = """
import resource, sys
import torch
from dedup.runtime.allocation import keep_freed_memory

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

if sys.argv[1] == "kept":
    assert keep_freed_memory()
def step():
    torch.empty(2**25).fill_(1)  # 128 MiB

for _ in range(15):  # until a block has found a place that it fits again and again
    step()
before = faults()
for _ in range(5):
    step()
print(faults() - before)
"""


def faults(how: str) -> int:
    """Pages that the system had to hand out for five blocks, after others as large."""
    done = subprocess.run(
        [sys.executable, "-c", COUNT, how], capture_output=True, text=True, check=True, timeout=60
    )
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is another")
def test_kept_memory_is_not_cleared_page_by_page_again() -> None:
    assert faults("kept") < faults("as usual") / 2
