"""From tables to inputs and back, from Python."""

import json
import re

import numpy as np
import pytest

from gpunet import FileFormatError, InputError, Network
from gpunet.datasets import Table
from gpunet.encodings import Categories, Classes, Numbers
from gpunet.preprocessing import Preprocessing, as_table, task_of

TABLE = {
    "size": [1.0, 2.0, 3.0, 6.0],
    "colour": ["red", "blue", "red", "green"],
    "kind": ["a", "b", "a", "b"],
    "price": [10.0, 20.0, 25.0, 45.5],
}


def test_numbers_are_standardised_and_text_is_one_hot():
    prepared = Preprocessing.fit(TABLE, target="price")
    assert prepared.input_names == ("size", "colour=blue", "colour=green", "colour=red", "kind=a", "kind=b")
    assert (prepared.n_in, prepared.n_out, prepared.task) == (6, 1, "regression")
    X = prepared.inputs(TABLE, "float64")
    size = np.array(TABLE["size"])
    assert np.allclose(X[:, 0], (size - size.mean()) / size.std())
    assert X[:, 1:4].tolist() == [[0, 0, 1], [1, 0, 0], [0, 0, 1], [0, 1, 0]]
    assert X[:, 4:].tolist() == [[1, 0], [0, 1], [1, 0], [0, 1]]
    assert prepared.inputs(TABLE).dtype == np.float32


def test_a_number_to_predict_comes_back_in_its_own_unit():
    prepared = Preprocessing.fit(TABLE, target="price")
    y = prepared.targets(TABLE, "float64")
    assert y.shape == (4, 1)
    assert y.mean() == pytest.approx(0)
    assert y.std() == pytest.approx(1)
    assert np.allclose(prepared.predictions(y), TABLE["price"])


def test_labels_come_back():
    prepared = Preprocessing.fit(TABLE, target="kind")
    assert (prepared.task, prepared.n_out, prepared.target) == ("classification", 2, Classes("kind", ("a", "b")))
    assert prepared.targets(TABLE).tolist() == [0, 1, 0, 1]
    assert prepared.predictions(np.array([[0.9, 0.1], [0.2, 0.8]])).tolist() == ["a", "b"]


def test_number_labels_are_in_the_order_of_numbers():
    prepared = Preprocessing.fit({"x": np.arange(4.0), "y": [10, 9, -1, 9]}, target="y")
    assert prepared.target.classes == ("-1", "9", "10")
    assert prepared.targets({"y": [9, 10, -1]}).tolist() == [1, 2, 0]


def test_learned_from_the_rows_of_the_training_alone():
    table = {"x": [1.0, 3.0, 1000.0], "t": ["a", "b", "c"], "y": [0, 1, 2]}
    prepared = Preprocessing.fit(table, target="y", rows=np.array([0, 1]))
    assert prepared.columns == (Numbers("x", 2.0, 1.0), Categories("t", ("a", "b")))
    assert prepared.target.classes == ("0", "1", "2")  # that a class is there is no secret
    regression = Preprocessing.fit(table, target="x", rows=np.array([0, 1]), task="regression")
    assert regression.target == Numbers("x", 2.0, 1.0)


def test_the_target_can_not_be_dropped():
    with pytest.raises(InputError, match="'price' is the target and can not be dropped"):
        Preprocessing.fit(TABLE, target="price", drop=["price"])


def test_a_constant_column_gives_zeros():
    for value in (0.0, 0.1, 1e300, -7e-300):
        prepared = Preprocessing.fit({"x": np.full(7, value), "y": np.arange(7) % 2}, target="y")
        assert np.allclose(prepared.inputs({"x": [value] * 3}), 0, atol=1e-12)
        assert np.abs(prepared.inputs({"x": [2 * value]})).max() <= 1


def test_columns_are_found_by_name_in_any_order_beside_others():
    prepared = Preprocessing.fit(TABLE, target="price")
    turned = {"other": [0.0] * 4, **dict(reversed(TABLE.items()))}
    assert np.array_equal(prepared.inputs(turned), prepared.inputs(TABLE))


def test_an_unknown_category_is_none_of_the_known_ones_and_told():
    prepared = Preprocessing.fit(TABLE, target="price", drop=["kind"])
    with pytest.warns(UserWarning, match=r"column 'colour': 'mauve', 'pink' in 3 row\(s\) did not occur"):
        X = prepared.inputs({"size": [1.0] * 4, "colour": ["pink", "blue", "mauve", "pink"]})
    assert X[:, 1:].tolist() == [[0, 0, 0], [1, 0, 0], [0, 0, 0], [0, 0, 0]]


def test_numbers_that_are_kinds():
    prepared = Preprocessing.fit({"zip": [1, 2, 2], "y": ["a", "b", "a"]}, target="y", categorical=["zip"])
    assert prepared.input_names == ("zip=1", "zip=2")
    assert prepared.inputs({"zip": [2, 1]}).tolist() == [[0, 1], [1, 0]]
    with pytest.warns(UserWarning, match=r"'2\.5' in 1 row"):
        assert prepared.inputs({"zip": [2.5]}).tolist() == [[0, 0]]


def test_missing_values_fill():
    table = {"x": [1.0, np.nan, 3.0], "t": ["a", None, "b"], "y": [0, 1, 0]}
    prepared = Preprocessing.fit(table, target="y", missing="fill")
    assert prepared.inputs(table).tolist() == [[-1, 1, 0], [0, 0, 0], [1, 0, 1]]


def test_pandas_and_its_missing_values():
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame({"x": [1, 2, 3], "t": ["a", None, "b"], "b": [True, False, True], "y": [0.5, 1.5, 2.5]})
    prepared = Preprocessing.fit(frame, target="y", missing="fill")
    assert prepared.input_names == ("x", "t=a", "t=b", "b=false", "b=true")
    frame = pd.DataFrame({"x": pd.array([1, None, 3], dtype="Int64"), "y": [1, 0, 1]})
    assert Preprocessing.fit(frame, target="y", missing="fill").columns == (Numbers("x", 2.0, 1.0),)


@pytest.mark.parametrize(
    ("values", "task", "why"),
    [
        (["a", "b"] * 10, "classification", "text"),
        ([0.5, 1.0] * 10, "regression", "numbers with fractions"),
        ([0, 1] * 10, "classification", "whole numbers from 0 to 1"),
        ([3, 7] * 10, "classification", "whole numbers, 2 different ones"),
        (list(range(20)), "classification", "whole numbers, 20 different ones"),
        (list(range(21)), "regression", "whole numbers, 21 different ones"),
        (list(range(50)) * 10, "classification", "whole numbers from 0 to 49"),
        (list(range(1, 51)) * 10, "regression", "whole numbers, 50 different ones"),
    ],
)
def test_what_a_target_is(values, task, why):
    table = as_table({"x": np.arange(len(values)), "y": values})
    assert task_of(table, "y") == (task, why)


def test_a_task_that_is_asked_for():
    table = as_table({"x": np.arange(30), "y": np.arange(30)})
    assert task_of(table, "y", "classification") == ("classification", "as asked")
    assert Preprocessing.fit(table, target="y", task="classification").n_out == 30
    table = as_table({"x": np.arange(30), "y": np.arange(30) % 2})
    assert Preprocessing.fit(table, target="y", task="regression").n_out == 1
    fractions = as_table({"x": [1, 2], "y": [0.5, 1.5]})
    with pytest.raises(InputError, match=r"row 1, column 'y': the label is 0\.5"):
        task_of(fractions, "y", "classification")
    with pytest.raises(InputError, match="'red' is not a number"):
        task_of(as_table(TABLE), "colour", "regression")


@pytest.mark.parametrize(
    ("table", "options", "message"),
    [
        ({"x": [1, 2], "y": [0, 1]}, {"target": "Y2"}, "no column 'Y2'. Did you mean 'y'"),
        ({"x": [1, 2], "y": [0, 1]}, {"target": "y", "drop": ["z"]}, "no column 'z'"),
        ({"x": [1, 2], "y": [0, 1]}, {"target": "y", "drop": ["x"]}, "no columns to learn from"),
        ({"x": [1, 2], "y": [0, 1]}, {"target": "y", "missing": "drop"}, "unknown missing 'drop'"),
        ({"x": [1, 2], "y": [0, 1]}, {"target": "y", "task": "rank"}, "unknown task 'rank'"),
        ({"x": [1, 2], "y": [2**60, 2**61]}, {"target": "y"}, r"beyond the 2\*\*53 .*--task regression"),
        ({"x": [1, 2], "y": [3, 3]}, {"target": "y"}, "one class only, '3' in column 'y'"),
        ({"x": [1, 2], "y": [0.5, 0.5]}, {"target": "y"}, r"'y' is 0\.5 in all rows"),
        ({"x": [1, 2], "y": [None, None]}, {"target": "y"}, "the target 'y' has no value in any of the 2 rows"),
        ({"x": [1, 2], "y": ["a", None]}, {"target": "y"}, "row 2, column 'y': the value is missing"),
        ({"x": [1, np.nan], "y": [0, 1]}, {"target": "y"}, "row 2, column 'x': the value is missing"),
        ({"x": [np.nan, np.nan], "y": [0, 1]}, {"target": "y", "missing": "fill"}, "'x' has no value in any row"),
        ({"x": [1, np.inf], "y": [0, 1]}, {"target": "y"}, "row 2, column 'x': the value is inf"),
        ({"x": [1, 2], "y": [0, np.inf]}, {"target": "y"}, "row 2, column 'y': the value is inf"),
        (
            {"x": [str(i) + "a" for i in range(30)], "y": [0, 1] * 15},
            {"target": "y"},
            "30 different values in 30 rows",
        ),
        (
            {"x": ["oops", *map(str, range(30))], "y": [0, 1] * 15 + [0]},
            {"target": "y"},
            "row 1, column 'x': 'oops' is not a number, as most",
        ),
        ({"x": np.arange(30), "y": [f"n{i}" for i in range(30)]}, {"target": "y"}, "30 different texts in 30 rows"),
        ({"x": [1, 2], "y": [0]}, {"target": "y"}, "must be of one length"),
        ({"x": [], "y": []}, {"target": "y"}, "no rows"),
        ({}, {}, "no rows or no columns"),
        ({1: [1, 2]}, {}, "must be called by text, got 1"),
        ({"x": [[1], [2]]}, {}, "one value for each row"),
        ({"x": [1j, 2j]}, {}, "must hold numbers or text"),
        ({"x": [[1, 2], "a"]}, {}, "column 'x' must have one number or text for each row"),
        ([1, 2], {}, "must be a Table, a dict of columns or a DataFrame, got list"),
    ],
)
def test_tables_that_are_refused(table, options, message):
    with pytest.raises(InputError, match=message):
        Preprocessing.fit(table, **options)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size": None}, r"has no column 'size', which .* trained on\. Its columns"),
        ({"size": None, "Size ": [1.0] * 4}, "Did you mean 'Size '"),
        ({"size": ["1", "2", "x", "4"]}, "row 3, column 'size': 'x' is not a number"),
        ({"size": [1.0, np.nan, 2.0, np.nan]}, r"row 2, column 'size': the value is missing \(and in 1 rows more\)"),
        ({"size": [1.0, 1.0, 1e300, 1.0]}, "row 3, column 'size': 1e.300 is too far from"),
        ({"size": [1.0, 1.0, np.inf, 1.0]}, "row 3, column 'size': the value is inf"),
    ],
)
def test_inputs_that_are_refused(change, message):
    prepared = Preprocessing.fit(TABLE, target="price")
    changed = {name: values for name, values in {**TABLE, **change}.items() if values is not None}
    with pytest.raises(InputError, match=message):
        prepared.inputs(changed)


def test_targets_that_are_refused():
    prepared = Preprocessing.fit(TABLE, target="kind")
    with pytest.raises(InputError, match=r"label 'c' in row 2, column 'kind', but the labels known are 'a', 'b'"):
        prepared.targets({"kind": ["a", "c"]})
    with pytest.raises(InputError, match="no column 'kind'"):
        prepared.targets({"sort": ["a", "c"]})
    with pytest.raises(InputError, match="without a target"):
        Preprocessing.fit(TABLE).targets(TABLE)


def test_without_a_header_columns_go_by_their_order():
    table = Table("t", {"0": np.array([1.0, 2]), "1": np.array([0.0, 1]), "2": np.array([3.0, 5])}, has_header=False)
    prepared = Preprocessing.fit(table, target="1")
    X = prepared.inputs(table)
    without = Table("t", {"0": np.array([1.0, 2]), "1": np.array([3.0, 5])}, has_header=False)
    assert np.array_equal(prepared.inputs(without), X)
    assert np.array_equal(prepared.inputs({"a": [1.0, 2], "b": [3.0, 5]}), X)
    with pytest.raises(InputError, match="1 columns; without a header they go by their order"):
        prepared.inputs({"a": [1.0]})


@pytest.mark.parametrize("target", ["price", "kind", None])
def test_json_and_back(target):
    prepared = Preprocessing.fit(TABLE, target=target)
    assert Preprocessing.from_json(json.loads(json.dumps(prepared.to_json()))) == prepared


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (["columns"], None),
        (["columns"], []),
        (["columns"], 5),
        (["columns"], {"a": 1}),
        (["columns", 0], 5),
        (["columns", 0], "categories"),
        (["columns", 0, "name"], 5),
        (["columns", 0, "name"], "colour"),
        (["columns", 0, "mean"], "1"),
        (["columns", 0, "mean"], float("nan")),
        (["columns", 0, "mean"], 10**400),
        (["columns", 0, "std"], 0),
        (["columns", 0, "std"], True),
        (["columns", 1, "categories"], []),
        (["columns", 1, "categories"], ["a", "a"]),
        (["columns", 1, "categories"], ["a", 1]),
        (["columns", 1, "categories"], "ab"),
        (["target"], []),
        (["target"], {"name": "y"}),
        (["target", "classes"], None),
        (["missing"], "drop"),
        (["missing"], None),
        (["has_header"], 1),
    ],
)
def test_json_of_a_damaged_file(path, value):
    values = Preprocessing.fit(TABLE, target="kind").to_json()
    part = values
    for key in path[:-1]:
        part = part[key]
    part[path[-1]] = value
    with pytest.raises(FileFormatError, match="the preprocessing is damaged"):
        Preprocessing.from_json(values)


@pytest.mark.parametrize("values", [None, 5, [], "", {}])
def test_json_of_something_else(values):
    with pytest.raises(FileFormatError, match=re.escape("is damaged")):
        Preprocessing.from_json(values)


def test_a_network_learns_from_a_table(tmp_path):
    """The whole way from Python: a product of a number and a kind, which needs both."""
    rng = np.random.default_rng(0)
    table = {"size": rng.uniform(50, 90, 400), "kind": rng.choice(["up", "down"], 400)}
    table["price"] = 1000 + 20 * np.where(table["kind"] == "up", 1, -1) * (table["size"] - 70)
    prepared = Preprocessing.fit(table, target="price")
    options = {"activation": "relu", "output_activation": "linear", "seed": 0, "device": "cpu"}
    net = Network([prepared.n_in, 32, 1], input_scale=1.0, **options)
    net.fit(prepared.inputs(table), prepared.targets(table), epochs=60, optimizer="adam", eta=0.01)
    net.metadata["preprocessing"] = prepared.to_json()
    net.save(tmp_path / "m.safetensors")
    loaded = Network.load(tmp_path / "m.safetensors", device="cpu")
    again = Preprocessing.from_json(loaded.metadata["preprocessing"])
    predicted = again.predictions(loaded.outputs(again.inputs(table)))
    assert np.abs(predicted - table["price"]).mean() < 20  # of a spread of some 230


def test_huge_numbers_are_standardised_too():
    table = {"x": [1e308, -1e308, 0.0, 1e307], "y": [0, 1, 0, 1]}
    X = Preprocessing.fit(table, target="y").inputs(table)
    assert np.isfinite(X).all()
    assert X.std() == pytest.approx(1)
