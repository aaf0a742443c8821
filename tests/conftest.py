"""What all tests share: how long Hypothesis may think, and what becomes of tests that need a GPU."""

import functools
import os

import hypothesis
import pytest

from gpunet.backends.select import lasting_reason

# A shared machine may be slow for a moment; timing is for bench/.
# Always the same examples, so that a failure is of the change at hand; GPUNET_FUZZ=1 draws new ones.
hypothesis.settings.register_profile(
    "gpunet", deadline=None, print_blob=True, derandomize=os.environ.get("GPUNET_FUZZ") != "1"
)
hypothesis.settings.load_profile("gpunet")


@functools.cache
def _no_cuda():
    return lasting_reason.__wrapped__()  # tests replace CuPy and clear the package's own cache


def pytest_runtest_setup(item):
    if item.get_closest_marker("gpu") is None:
        return
    reason = _no_cuda()
    if reason is None:
        return
    if os.environ.get("GPUNET_REQUIRE_CUDA") == "1":
        pytest.fail(f"GPUNET_REQUIRE_CUDA=1, but there is no CUDA device to use: {reason}", pytrace=False)
    pytest.skip(reason)


def pytest_terminal_summary(terminalreporter):
    """Print what tests found worth telling, also from the workers of pytest-xdist."""
    for report in terminalreporter.getreports("passed"):
        for name, value in report.user_properties:
            if name == "summary":
                terminalreporter.write_line(value)
