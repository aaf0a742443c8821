"""A training that is killed at any moment leaves a whole checkpoint, and what goes on from it has the same bits.

Some kills for each test run; `python tests/reliability/kill.py --kills 200` is for more.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="kills processes that were forked")


def test_kills_at_random_moments():
    kills = os.environ.get("GPUNET_KILLS", "6")
    command = [sys.executable, str(Path(__file__).with_name("kill.py")), "--kills", kills]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=120 + 5 * int(kills))
    assert ran.returncode == 0, ran.stderr
    seen = [json.loads(line) for line in ran.stdout.splitlines()]
    assert [line["training"] for line in seen] == ["sgd", "adam"]
    for line in seen:
        assert line["kills"] == int(kills)
        assert line["trainings that ended"] >= 1
