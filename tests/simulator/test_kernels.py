"""Every kernel is right on the simulator, and the checks that say so notice small mistakes."""

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest
from backends import fake_cupy

from gpunet import activations, costs
from simulator.kernel_checks import CHECKS, FUSED, activate, hadamard_prime, judge_mutants, output_error

#: For functions whose kernels differ from those of others in one expression.
FEW = ((1, 1), (33, 20), (3, 300))
SOURCES = Path(__file__).resolve().parents[2] / "kernels" / "cuda"
TEXTS = {path.stem: path.read_text(encoding="utf-8") for path in SOURCES.glob("*.cu*")}

_AGAIN = "some elements are computed more than once, and give the same each time"
_EVERY_LANE_HAS_IT = "after the exchange every lane, and after the barrier every thread, has the same sum to write"
_EQUAL_IS_EQUAL = "of two equal numbers it makes no difference which is taken"

_NOTHING_LEFT = "the elements are compared with the size once more"
_TIMES_ZERO = "it is multiplied by a zero of the other matrix"

#: The loop over EACH elements a thread.
_ONE_MORE = ("first < size; first += stride) {", "first <= size; first += stride) {", _NOTHING_LEFT)

#: Mutants that compute the same: (the text, what it becomes, why). Each must be one that is made, and survive.
EQUIVALENT = {
    "activate": [_ONE_MORE],
    "add_squares": [_ONE_MORE, ("if (threadIdx.x == 0) {", "if (threadIdx.x == 1) {", _EVERY_LANE_HAS_IT)],
    "count_right": [
        ("(!y_is_nan || i < j);", "(!y_is_nan || i <= j);", "no entry is compared with itself but the first"),
        ("(x == y && i < j);", "(x == y && i <= j);", "no entry is compared with itself but the first"),
        ("int found = 0;", "int found = 1;", "the lane that has the first entry finds it anew, and comes before"),
        ("j < n; j += 32) {", "j < n; j += 16) {", _AGAIN),
        ("if (threadIdx.x == 0) {", "if (threadIdx.x == 1) {", _EVERY_LANE_HAS_IT),
    ],
    "gather": [
        ("stride = gridDim.x * BLOCK * EACH;", "stride = BLOCK * EACH;", _AGAIN),
        ("stride = gridDim.x * BLOCK * EACH;", "stride = EACH;", _AGAIN),
        ("stride = gridDim.x * BLOCK * EACH;", "stride = gridDim.x * EACH;", _AGAIN),
        ("stride = gridDim.x * BLOCK * EACH;", "stride = gridDim.x * BLOCK;", _AGAIN),
        ("stride = gridDim.x * BLOCK * EACH;", "stride = gridDim.x * BLOCK / EACH;", _AGAIN),
        _ONE_MORE,
    ],
    "hadamard_prime": [_ONE_MORE],
    "layer_forward_dot": [
        ("if (threadIdx.x == 0) {", "if (threadIdx.x != 0) {", _EVERY_LANE_HAS_IT),
        ("if (threadIdx.x == 0) {", "if (threadIdx.x == 1) {", _EVERY_LANE_HAS_IT),
        ("if (threadIdx.y == 0 && threadIdx.x", "if (threadIdx.y != 0 && threadIdx.x", _EVERY_LANE_HAS_IT),
        ("if (threadIdx.y == 0 && threadIdx.x", "if (threadIdx.y == 1 && threadIdx.x", _EVERY_LANE_HAS_IT),
    ],
    "outer_batch": [
        ("stride = gridDim.x * blockDim.y;", "stride = blockDim.y;", _AGAIN),
        ("stride = gridDim.x * blockDim.y;", "stride = gridDim.y * blockDim.y;", _AGAIN),
        ("stride = gridDim.x * blockDim.y;", "stride = gridDim.x;", _AGAIN),
        ("k < K; k += blockDim.x) {", "k < K; k += blockDim.y) {", _AGAIN),
    ],
    "output_error": [_ONE_MORE, ("if (threadIdx.x == 0) {", "if (threadIdx.x == 1) {", _EVERY_LANE_HAS_IT)],
    "softmax": [
        ("other > value ? other : value;", "other >= value ? other : value;", _EQUAL_IS_EQUAL),
        ("s > largest ? s : largest;", "s >= largest ? s : largest;", _EQUAL_IS_EQUAL),
        ("j < n; j += 32) {", "j < n; j += 16) {", _AGAIN),  # in the search for the largest
    ],
    "softmax_error": [
        ("log(aj < FLOOR ? FLOOR : aj);", "log(aj <= FLOOR ? FLOOR : aj);", _EQUAL_IS_EQUAL),
        ("if (threadIdx.x == 0) {", "if (threadIdx.x != 0) {", _EVERY_LANE_HAS_IT),
        ("if (threadIdx.x == 0) {", "if (threadIdx.x == 1) {", _EVERY_LANE_HAS_IT),
        ("threadIdx.x == 0 && threadIdx.y", "threadIdx.x == 1 && threadIdx.y", _EVERY_LANE_HAS_IT),
    ],
    "tile": [
        ("start < S; start += DEPTH) {", "start <= S; start += DEPTH) {", "what is added is zero"),
        ("DEPTH * 16 * R; e += 256) {", "DEPTH * 16 * R; e += 128) {", _AGAIN),
        ("LEFT(top + i, start + left_s) : REAL(0);", "LEFT(top + i, start + left_s) : REAL(1);", _TIMES_ZERO),
        ("RIGHT(start + right_s, side + j) : REAL(0);", "RIGHT(start + right_s, side + j) : REAL(1);", _TIMES_ZERO),
    ],
    "update": [
        ("states[size + i] : REAL(0);", "states[size + i] : REAL(1);", "with one state v1 is not used"),
        ("states[i] : REAL(0);", "states[i] : REAL(1);", "without states v0 is not used"),
    ],
}


@pytest.fixture(autouse=True)
def _cupy(monkeypatch):
    fake_cupy.install(monkeypatch)


def test_every_kernel_has_a_check():
    assert set(TEXTS) == set(CHECKS)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", sorted(CHECKS))
def test_kernel(name, dtype):
    CHECKS[name](name, TEXTS[name], dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ["layer_backward", "layer_forward", "layer_gradient"])
def test_the_largest_tiles(name, dtype):
    CHECKS[name](name, TEXTS[name], dtype, sides=(4,))


@pytest.mark.parametrize("name", [f.name for f in activations.BUILT_IN.values() if f.cuda and f.name not in FUSED])
def test_every_other_activation(name):
    """The checks above, and the mutants, have those whose expressions are the simplest."""
    for most in (1.0, -3.0):  # of z, or of a where f' comes from it
        if most > 0 or name not in ("softplus", "hard_sigmoid", "exp"):
            hadamard_prime("hadamard_prime", TEXTS["hadamard_prime"], "float64", (name,), FEW, most, least=1.0)
    activate("activate", TEXTS["activate"], "float64", (name,), FEW)


@pytest.mark.parametrize("name", [cost.name for cost in costs.BUILT_IN.values() if cost.cuda])
def test_every_cost(name):
    output = (costs.get(name).outputs or ("sigmoid",))[0]
    output_error("output_error", TEXTS["output_error"], "float64", ((name, output),), FEW)


@pytest.fixture(scope="module")
def small_process():
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        yield pool


@pytest.mark.parametrize("name", sorted(CHECKS))
def test_no_mutant_survives(name, small_process, record_property):
    verdicts = small_process.submit(judge_mutants, name, TEXTS[name]).result()
    died = len(verdicts.killed) + len(verdicts.timed_out)
    equal = len(EQUIVALENT.get(name, []))
    record_property(
        "summary", f"{name}.cu: {died} mutants killed, {len(verdicts.survived)} survived ({equal} known to)"
    )
    left = [mutant.description for mutant in verdicts.survived]
    for text, changed, reason in EQUIVALENT.get(name, []):
        same = [d for d in left if d.partition(" -> ")[0].endswith(f"{text}`") and d.endswith(f"{changed}`")]
        same = same or [d for d in left if text in d.partition(" -> ")[0] and changed in d.partition(" -> ")[2]]
        assert len(same) == 1, f"{text} -> {changed} should survive once, because {reason}; it did {len(same)} times"
        left.remove(same[0])
    assert not left, verdicts
