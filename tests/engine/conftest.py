"""Without a compiler gpunet has no engine; where one must be there, GPUNET_REQUIRE_ENGINE=1 makes that a failure."""

import os

import pytest

from gpunet.backends.compiled import why_not_compiled


@pytest.fixture(autouse=True)
def _engine_is_there():
    reason = why_not_compiled()
    if reason is None:
        return
    if os.environ.get("GPUNET_REQUIRE_ENGINE") == "1":
        pytest.fail(f"GPUNET_REQUIRE_ENGINE=1, but {reason}", pytrace=False)
    pytest.skip(reason)
