"""How long libgomp's threads spin is settled before torch reads it, in a process of its own."""

import os
import subprocess
import sys

import pytest


@pytest.mark.parametrize(("given", "found"), [({}, "4000"), ({"GOMP_SPINCOUNT": "7"}, "7")])
def test_threads_spin_briefly_unless_the_environment_says_otherwise(given: dict[str, str], found: str) -> None:
    code = "import gpu_worker, os, sys; assert 'torch' not in sys.modules; print(os.environ['GOMP_SPINCOUNT'])"
    environ = {name: value for name, value in os.environ.items() if name != "GOMP_SPINCOUNT"} | given
    assert subprocess.check_output([sys.executable, "-c", code], env=environ, text=True).strip() == found
