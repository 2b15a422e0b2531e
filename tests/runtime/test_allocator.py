"""Large memory that is freed is there for the next one who asks."""

import os
import subprocess
import sys

import pytest

CODE = """
import ctypes, resource
from kerasllm.runtime.allocator import keep_memory
print(keep_memory())
library = ctypes.CDLL(None)
library.malloc.restype = ctypes.c_void_p
library.free.argtypes = [ctypes.c_void_p]
size = 48 << 20

def use():
    memory = library.malloc(size)
    ctypes.memset(memory, 1, size)
    library.free(memory)

use()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    use()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="is of the GNU C library")
@pytest.mark.parametrize("chosen", [False, True])
def test_freed_memory_is_kept_unless_the_user_says_otherwise(chosen):
    environment = {name: value for name, value in os.environ.items() if "MALLOC" not in name}
    environment.pop("GLIBC_TUNABLES", None)
    if chosen:
        environment["MALLOC_MMAP_THRESHOLD_"] = "131072"
    done = subprocess.run(
        [sys.executable, "-c", CODE], env=environment, capture_output=True, text=True, check=True
    )
    kept, faults = done.stdout.split()
    assert kept == str(not chosen)
    # 48 MB are 12,288 pages of 4 kB, or fewer large ones; kept, none of them is new.
    assert (int(faults) < 100) is not chosen
