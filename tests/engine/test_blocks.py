"""Sizes at the edges of the blocks that a product is cut into: one less, the block itself, one more."""

import pytest
from engine.problems import INSTRUCTION_SETS, Problem

pytestmark = [
    pytest.mark.parametrize("instruction_set", INSTRUCTION_SETS),
    pytest.mark.parametrize("dtype", ["float64", "float32"]),
]


def check(problem, dtype, instruction_set, several=3):
    """It computes what it should, and the same bits with several threads."""
    problem.check(dtype, instruction_set)
    one, many = (problem.train(dtype, instruction_set, threads) for threads in (1, several))
    assert one[0].tobytes() == many[0].tobytes()
    assert one[2] == many[2]


@pytest.mark.parametrize("n", [255, 256, 257, 511, 512, 513, 1023, 1024, 1025, 1300])
def test_terms_of_a_sum(instruction_set, dtype, n):
    """Forward in the first and the last layer, backward in the middle one: blocks of 256, 512 or 1024 terms."""
    check(Problem([n, 24, n, 5], ["tanh", "tanh", "sigmoid"], batch_size=13), dtype, instruction_set)


@pytest.mark.parametrize("n", [31, 32, 33, 63, 64, 65, 127, 128, 129, 255, 256, 257, 271, 289])
def test_columns(instruction_set, dtype, n):
    """Panels of 4 to 32 columns, of which eight are worked on together."""
    check(Problem([41, n, n, 3], ["tanh", "sigmoid", "sigmoid"], batch_size=25), dtype, instruction_set)


@pytest.mark.parametrize("zeros", [0.0, 0.85])
@pytest.mark.parametrize("batch_size", [5, 6, 7, 11, 12, 13, 23, 25, 47, 48, 49, 95, 96, 97, 143, 145])
def test_rows(instruction_set, dtype, batch_size, zeros):
    """Tiles of 6 or 12 rows, and parts of eight tiles, which threads share."""
    problem = Problem([130, 150, 40], ["tanh", "sigmoid"], batch_size=batch_size, examples=290, zeros=zeros)
    check(problem, dtype, instruction_set, several=4)


@pytest.mark.parametrize("zeros", [0.0, 0.85])
@pytest.mark.parametrize("rule", ["sgd", "adam"])
@pytest.mark.parametrize("batch_size", [255, 256, 257, 511, 512, 513, 600])
def test_examples_of_the_gradient(instruction_set, dtype, rule, batch_size, zeros):
    """256 examples are summed before they are added to the weights."""
    check(
        Problem([70, 40, 6], ["tanh", "sigmoid"], rule=rule, batch_size=batch_size, examples=700, zeros=zeros),
        dtype,
        instruction_set,
    )


@pytest.mark.parametrize("batch_size", [49, 97, 192, 301])
@pytest.mark.parametrize("rule", ["sgd", "momentum"])
def test_layers_that_threads_share(instruction_set, dtype, rule, batch_size):
    """Large enough that threads take parts in turn, and odd enough that parts begin and end within a panel."""
    problem = Problem(
        [301, 450, 333, 10], ["tanh", "tanh", "sigmoid"], rule=rule, batch_size=batch_size, examples=301, zeros=0.3
    )
    problem.check(dtype, instruction_set, threads=2)
    results = [problem.train(dtype, instruction_set, threads)[0].tobytes() for threads in (1, 2, 3, 7)]
    assert len(set(results)) == 1
