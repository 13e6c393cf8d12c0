"""Whether the fused kernel must be available here, asked of the compiler and not of the kernel.

A kernel that does not compile then fails the tests instead of skipping them.
"""

import os
import shlex
import subprocess
from functools import cache

import pytest

PROBE = """
#if !defined(__AVX512F__) && !(defined(__AVX2__) && defined(__FMA__)) && !defined(__aarch64__)
#error "a processor that fused.c does not know"
#endif
int probe(void) { return 0; }
"""


@cache
def can_compile() -> bool:
    """Whether there is a working compiler, and a processor that fused.c is written for."""
    compiler = shlex.split(os.environ.get("CC", "")) or ["cc"]
    for options in ["-march=native"], []:
        command = [*compiler, *options, "-shared", "-fPIC", "-x", "c", "-o", os.devnull, "-"]
        try:
            done = subprocess.run(command, input=PROBE.encode(), capture_output=True, check=False)
        except OSError:
            return False
        if done.returncode == 0:
            return True
    return False


needs_kernel = pytest.mark.skipif(not can_compile(), reason="no compiler for the fused kernel")
