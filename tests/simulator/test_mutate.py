"""The mutants are the ones that are meant, and each gets the verdict that it has earned."""

import os
import re
import signal

import pytest

from simulator import mutate
from simulator.test_simulator import BLOCK_SUM, ORDERS, SAXPY, TRANSPOSE, check_block_sum, check_saxpy

KERNEL = """\
// A comment: a < b + 1.
#define ROWS 4
extern "C" __global__ void f(const float* x, float* y, const int n) {
    __shared__ float part[32][ROWS + 1];
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) {
        y[i] = 0.5f * (float)x[i] + -part[i][0];
    }
    __syncthreads();
    y[0] += __shfl_down_sync(0xffffffffu, reinterpret_cast<const float*>(y)[i], 16);
}
"""


def changed(line):
    """What the mutants make of a line of the kernel."""
    text = KERNEL.splitlines()[line - 1].strip()
    found = [m for m in mutate.mutants(KERNEL) if m.description.startswith(f"line {line}: `{text}` -> ")]
    assert [m for m in mutate.mutants(KERNEL) if m.description.startswith(f"line {line}:")] == found
    for mutant in found:
        lines = mutant.text.splitlines()
        assert mutant.description.endswith(f"-> `{lines.pop(line - 1).strip()}`")
        assert lines == KERNEL.splitlines()[: line - 1] + KERNEL.splitlines()[line:]
    return {m.text.splitlines()[line - 1].strip() for m in found}


def test_comments_declarations_and_sizes_stay():
    for line in (1, 2, 3, 4):
        assert changed(line) == set()


def test_index_arithmetic():
    assert changed(5) == {
        "const int i = blockDim.x + threadIdx.x;",
        "const int i = blockIdx.x + threadIdx.x;",
        "const int i = blockIdx.x / blockDim.x + threadIdx.x;",
        "const int i = threadIdx.x;",
        "const int i = blockIdx.x * blockDim.x;",
        "const int i = blockIdx.x * blockDim.x - threadIdx.x;",
    }


def test_bounds():
    assert changed(6) == {"if (i <= n) {"}


def test_terms_factors_and_constants():
    assert changed(7) == {
        "y[(i) + 1] = 0.5f * (float)x[i] + -part[i][0];",
        "y[(i) - 1] = 0.5f * (float)x[i] + -part[i][0];",
        "y[i] = 0.25f * (float)x[i] + -part[i][0];",
        "y[i] = (float)x[i] + -part[i][0];",
        "y[i] = 0.5f + -part[i][0];",
        "y[i] = 0.5f / (float)x[i] + -part[i][0];",
        "y[i] = 0.5f * (float)x[(i) + 1] + -part[i][0];",
        "y[i] = 0.5f * (float)x[(i) - 1] + -part[i][0];",
        "y[i] = 0.5f * (float)x[i];",
        "y[i] = -part[i][0];",
        "y[i] = 0.5f * (float)x[i] - -part[i][0];",
        "y[i] = 0.5f * (float)x[i] + -part[(i) + 1][0];",
        "y[i] = 0.5f * (float)x[i] + -part[(i) - 1][0];",
        "y[i] = 0.5f * (float)x[i] + -part[i][1];",
        "y[i] = 0.5f * (float)x[i] + -part[i][(0) + 1];",
        "y[i] = 0.5f * (float)x[i] + -part[i][(0) - 1];",
    }


def test_barriers_and_shuffles():
    assert changed(9) == {";"}
    assert {line for line in changed(10) if "y[0]" in line} == {
        "y[0] -= __shfl_down_sync(0xffffffffu, reinterpret_cast<const float*>(y)[i], 16);",
        "y[0] = __shfl_down_sync(0xffffffffu, reinterpret_cast<const float*>(y)[i], 16);",
        "y[0] += (reinterpret_cast<const float*>(y)[i]);",
        "y[0] += __shfl_down_sync(0xffffffffu, reinterpret_cast<const float*>(y)[(i) + 1], 16);",
        "y[0] += __shfl_down_sync(0xffffffffu, reinterpret_cast<const float*>(y)[(i) - 1], 16);",
        "y[0] += __shfl_down_sync(0xffffffffu, reinterpret_cast<const float*>(y)[i], 8);",
    }


def test_each_mutant_differs():
    for text in (SAXPY, BLOCK_SUM, TRANSPOSE):
        texts = [mutant.text for mutant in mutate.mutants(text)]
        assert len(texts) > 15
        assert len({*texts, text}) == len(texts) + 1


def _verdict_on(text):
    """A check that does what its text says."""
    if text == "fails":
        raise AssertionError
    if text == "pytest fails":
        pytest.fail("noticed")
    if text == "skips":
        pytest.skip("nothing tried")
    if text == "crashes":
        os.kill(os.getpid(), signal.SIGSEGV)
    if text == "never ends":
        check_saxpy(SAXPY.replace("i += ", "i += 0 * "), 33, "ascending")
    if text == "does not compile":
        check_saxpy(SAXPY.replace("y[i]", "z[i]"), 33, "ascending")
    if text == "does not compile, says another":
        try:
            _verdict_on("does not compile")
        except Exception as error:
            raise RuntimeError("the device does not work") from error
    if text == "warns":  # of an unused parameter, say: no error on a device
        check_saxpy(SAXPY.replace("const int n) {", "const int n) { int unused;"), 33, "ascending")


def test_verdicts():
    texts = {
        "killed": ["fails", "pytest fails", "crashes"],
        "timed_out": ["never ends"],
        "not_compiled": ["does not compile", "does not compile, says another"],
        "survived": ["passes", "warns"],
    }
    given = [mutate.Mutant(text, text) for all_texts in texts.values() for text in all_texts]
    verdicts = mutate.survivors(given, _verdict_on, original="passes", limit=60, jobs=2)
    assert {name: [m.text for m in getattr(verdicts, name)] for name in texts} == texts
    assert "2 survived, 3 killed, 1 timed out, 2 not compiled\n  passes\n  warns" in str(verdicts)


@pytest.mark.parametrize("original", ["fails", "skips"])
def test_a_check_that_is_no_check_is_refused(original):
    with pytest.raises(AssertionError, match="does not pass the original"):
        mutate.survivors([], _verdict_on, original=original)
    with pytest.raises(RuntimeError, match="no result for skips"):
        mutate.survivors([mutate.Mutant("skips", "skips")], _verdict_on)


@pytest.mark.parametrize(
    ("check", "text", "which"),
    [(check_saxpy, SAXPY, ""), (check_block_sum, BLOCK_SUM, "__syncthreads|__shfl")],
)
def test_all_mutants_of_a_kernel_are_noticed(check, text, which):
    def check_orders(text):
        for order in ORDERS:
            check(text, 257, order)

    given = [mutant for mutant in mutate.mutants(text) if re.search(which, mutant.description)]
    found = mutate.survivors(given, check_orders, original=text, limit=60)
    assert len(found.killed) > 5
    assert not found.survived, found
