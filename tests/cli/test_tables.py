"""gpunet train, evaluate and predict on tables of one's own."""

import csv
import io
import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from extras import need

from gpunet import Network
from gpunet.datasets import read_table
from gpunet.preprocessing import Preprocessing
from gpunet.training import metrics


@pytest.fixture(scope="module")
def people():
    """Rows of a table with numbers, kinds, an id, labels and a number to predict; some classes are rare."""
    rng = np.random.default_rng(3)
    rows = []
    for i in range(240):
        age, income, town = rng.integers(18, 80), 1000 * rng.random() + 500, rng.choice(["Bonn", "Ulm", "Jena"])
        score = (age - 49) / 18 + 2 * (town == "Ulm") + (income - 1000) / 300
        group = "rare" if i % 40 == 0 else "yes" if score > 0.7 else "no"
        rent = 300 + 4 * age + 0.3 * income + 250 * (town == "Bonn") + rng.normal() * 10
        rows.append({"id": f"{i:04}", "age": age, "income": round(income, 2), "town": town, "group": group})
        rows[-1]["rent"] = round(rent, 1)
    return rows


def write(path, rows):
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


@pytest.fixture
def table(tmp_path, people):
    return write(tmp_path / "people.csv", people)


@pytest.fixture
def train(gpunet):
    return lambda *arguments: gpunet("train", *arguments, "--seed", 1, "--device", "cpu")


@pytest.fixture
def classes(train, table):
    result = train(table, "--target", "group", "--drop", "id,rent", "-o", "c.safetensors", "--json")
    assert result.code == 0, result.err
    return result


@pytest.fixture
def numbers(train, table):
    result = train(table, "--target", "rent", "--drop", "id,group", "-o", "n.safetensors", "--json")
    assert result.code == 0, result.err
    return result


def by_rows(text):
    return list(csv.DictReader(io.StringIO(text)))


# -- Training ----------------------------------------------------------------------------------------------------


def test_classes(classes, tmp_path):
    start, end = classes.events[0], classes.events[-1]
    assert start["sizes"] == [5, 64, 32, 3]
    assert (start["activations"], start["cost"]) == (["relu", "relu", "softmax"], "log-likelihood")
    assert (start["optimizer"], start["eta"], start["task"]) == ("adam", 0.001, "classification")
    assert (start["examples"], start["test_examples"]) == (192, 48)
    assert start["about"].splitlines() == [
        "target 'group': classes (text): 'no', 'rare', 'yes'",
        "inputs: 2 column(s) of numbers, standardised, 1 of text, one-hot in 3 inputs",
    ]
    assert end["accuracy"] > 0.8
    assert 0 <= end["f1"] <= 1
    assert 0.5 < end["auc"] <= 1
    assert Network.load(tmp_path / "c.safetensors").metadata["classes"] == ["no", "rare", "yes"]


def test_numbers(numbers, people):
    start, end = numbers.events[0], numbers.events[-1]
    assert start["sizes"] == [5, 64, 32, 1]
    assert (start["activations"], start["cost"]) == (["relu", "relu", "linear"], "quadratic")
    assert start["task"] == "regression"
    assert "target 'rent': numbers to predict (numbers with fractions)" in start["about"]
    assert end["r2"] > 0.9
    spread = np.std([row["rent"] for row in people])
    assert 0 < end["mae"] < 0.4 * spread  # in the target's own unit
    assert end["mae"] <= end["rmse"]
    epoch = numbers.events[1]
    assert "r2" in epoch
    assert "accuracy" not in epoch


def test_what_people_read(train, table):
    result = train(table, "--target", "rent", "--drop", "id,group", "--epochs", 12)
    lines = result.out.splitlines()
    assert lines[1] == "target 'rent': numbers to predict (numbers with fractions)"
    assert lines[4].startswith("Epoch 0: R2 ")
    assert lines[-1].startswith("MAE ")
    assert len([line for line in lines if line.startswith("Epoch")]) == 12


def test_of_many_short_epochs_not_each_has_a_line(train, table):
    result = train(table, "--target", "rent", "--drop", "id,group", "--epochs", 200, "--hidden", "4")
    lines = [line for line in result.out.splitlines() if line.startswith("Epoch")]
    assert 50 <= len(lines) < 100
    assert lines[-1].startswith("Epoch 199: ")


def test_the_scaling_is_that_of_the_training_part(classes, tmp_path, people):
    """Seed 1 holds out 48 rows; the means are of the 192 others, not of all."""
    net = Network.load(tmp_path / "c.safetensors")
    prepared = Preprocessing.from_json(net.metadata["preprocessing"])
    ages = np.array([row["age"] for row in people])
    assert prepared.columns[0].name == "age"
    assert abs(prepared.columns[0].mean - ages.mean()) > 1e-3
    assert prepared.columns[0].mean * 192 == pytest.approx(round(prepared.columns[0].mean * 192))  # a sum of 192 ages


@pytest.mark.parametrize("holdout", [0.2, 0.0])
def test_nothing_is_learned_from_the_rows_to_validate_on(train, tmp_path, holdout):
    """The mean of powers of two tells which they are."""
    rows = [{"x": 2**i, "y": i + 0.5} for i in range(40)]
    data = write(tmp_path / "t.csv", rows)
    options = ("--target", "y", "--holdout", holdout, "--validation", 0.25, "--epochs", 1)
    result = train(data, *options, "-o", "m.safetensors", "--json")
    start = result.events[0]
    assert start["validation_examples"] == (8 if holdout else 10)
    assert start["examples"] == (24 if holdout else 30)
    assert start["test_examples"] == (8 if holdout else 30)
    prepared = Preprocessing.from_json(Network.load(tmp_path / "m.safetensors").metadata["preprocessing"])
    trained_on = f"{round(prepared.columns[0].mean * start['examples']):b}"[::-1]
    assert trained_on.count("1") == start["examples"]
    assert prepared.target.mean == pytest.approx(np.mean([i + 0.5 for i, bit in enumerate(trained_on) if bit == "1"]))


def test_each_class_has_its_share_in_the_test_part(train, tmp_path):
    rows = [{"x": i, "y": "abc"[0 if i < 80 else 1 if i < 98 else 2]} for i in range(100)]
    for holdout, counts in ((0.2, {"a": 16, "b": 4}), (0.5, {"a": 40, "b": 9, "c": 1})):
        data = write(tmp_path / "t.csv", rows)
        result = train(data, "--target", "y", "--epochs", 1, "--holdout", holdout, "-o", "m.safetensors", "--json")
        assert result.events[0]["test_examples"] == sum(counts.values())
        # Who is tested on shows by the mean of the others.
        net = Network.load(tmp_path / "m.safetensors")
        assert net.metadata["classes"] == ["a", "b", "c"]
    from gpunet.cli.examples import split

    labels = np.array([row["y"] for row in rows])
    for holdout, counts in ((0.2, {"a": 16, "b": 4}), (0.5, {"a": 40, "b": 9, "c": 1}), (0.9, {"a": 72, "b": 16})):
        kept, tested = split(100, labels, holdout, 0)
        found = dict(zip(*np.unique(labels[tested], return_counts=True), strict=True))
        assert all(abs(found.get(k, 0) - n) <= 1 for k, n in counts.items())
        assert set(labels[kept]) == {"a", "b", "c"}
        assert sorted([*kept, *tested]) == list(range(100))


def test_a_rare_class_is_learned_from_before_it_is_tested_on(train, tmp_path):
    rows = [{"x": i, "y": "ab"[i == 7]} for i in range(10)]
    result = train(write(tmp_path / "t.csv", rows), "--target", "y", "--epochs", 1, "--json")
    assert result.code == 0
    assert result.events[0]["test_examples"] == 2
    assert "auc" not in result.events[-1]  # of one class alone there is none


def test_a_test_file(train, tmp_path, people):
    train_file = write(tmp_path / "a.csv", people[:200])
    test_file = write(tmp_path / "b.csv", [dict(reversed(row.items())) for row in people[200:]])
    options = ("--target", "rent", "--drop", "id,group", "--json", "-o", "m.safetensors")
    result = train(train_file, "--test", test_file, *options)
    assert result.code == 0, result.err
    assert (result.events[0]["examples"], result.events[0]["test_examples"]) == (200, 40)
    assert result.events[-1]["r2"] > 0.9


def test_kept_numbers_keep_all_their_digits(train, gpunet, tmp_path):
    times = [1700000000.123 + i / 1000 for i in range(40)]
    data = write(tmp_path / "t.csv", [{"time": t, "y": "ab"[i % 2]} for i, t in enumerate(times)])
    train(data, "--target", "y", "--epochs", 1, "-o", "m.safetensors")
    shown = by_rows(gpunet("predict", "m.safetensors", data, "--keep", "time").out)
    assert [float(row["time"]) for row in shown] == times


def test_parquet_is_csv(train, table, tmp_path, classes):
    pa = need("pyarrow")
    import pyarrow.parquet as pq

    given = read_table(table, as_text=["id"])
    pq.write_table(pa.table({name: list(given[name]) for name in given}), tmp_path / "people.parquet")
    result = train("people.parquet", "--target", "group", "--drop", "id,rent", "-o", "p.safetensors", "--json")
    assert [e.get("cost") for e in result.events] == [e.get("cost") for e in classes.events]


@pytest.mark.filterwarnings("default")
def test_options_change_what_is_usual_for_tables(train, table):
    options = ("--target", "group", "--drop", "id,rent", "--epochs", 2, "--json")
    result = train(table, *options, "--hidden", "7", "--cost", "quadratic", "--optimizer", "sgd")
    assert result.events[0]["sizes"] == [5, 7, 3]
    assert result.events[0]["activations"] == ["relu", "sigmoid"]
    result = train(table, *options, "--hidden", "", "--cost", "cross-entropy")
    assert result.events[0]["sizes"] == [5, 3]
    assert result.events[0]["activations"] == ["sigmoid"]
    result = train(table, *options, "--layers", "5,6,3", "--activation", "tanh")
    assert result.events[0]["activations"] == ["tanh", "softmax"]
    result = train(table, *options, "--task", "classification", "--dtype", "float64", "--categorical", "age")
    assert result.events[0]["sizes"][0] > 50


def test_counts_by_the_poisson_cost(train, gpunet, tmp_path):
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, 600)
    counts = rng.poisson(np.exp(1 + x))
    write(tmp_path / "t.csv", [{"x": a, "n": b} for a, b in zip(x, counts, strict=True)])
    options = ("--target", "n", "--task", "regression", "--cost", "poisson", "-o", "m.safetensors", "--json")
    result = train("t.csv", *options)
    assert result.code == 0, result.err
    assert result.events[0]["activations"][-1] == "exp"
    write(tmp_path / "new.csv", [{"x": -0.5}, {"x": 0.5}])
    low, high = (float(row["prediction"]) for row in by_rows(gpunet("predict", "m.safetensors", "new.csv").out))
    assert low == pytest.approx(np.exp(0.5), rel=0.25)
    assert high == pytest.approx(np.exp(1.5), rel=0.25)


def test_missing_values(train, gpunet, people, tmp_path):
    rows = [{**row, "age": "" if i % 5 == 0 else row["age"]} for i, row in enumerate(people)]
    data = write(tmp_path / "gaps.csv", rows)
    options = (data, "--target", "rent", "--drop", "id,group")
    train(*options).one_error(r"gaps.csv, line 2, column 'age': the value is missing \(and in 47 rows more\)")
    assert train(*options, "--missing", "fill", "-o", "m.safetensors").code == 0
    assert gpunet("evaluate", "m.safetensors", data, "--device", "cpu").code == 0


# -- Evaluating and predicting -----------------------------------------------------------------------------------


def test_evaluate_classes(gpunet, classes, table, people, tmp_path):
    result = gpunet("evaluate", "c.safetensors", table, "--json", "--device", "cpu")
    (event,) = result.events
    net = Network.load(tmp_path / "c.safetensors", device="cpu")
    prepared = Preprocessing.from_json(net.metadata["preprocessing"])
    given = read_table(table)
    found = metrics.of_classes(net.outputs(prepared.inputs(given)), prepared.targets(given))
    assert event == {"event": "evaluation", "examples": 240, "correct": round(240 * found["accuracy"]), **found}
    people_read = gpunet("evaluate", "c.safetensors", table, "--device", "cpu").out
    assert people_read == (
        f"{event['correct']} / 240 correct ({found['accuracy']:.2%}), F1 {found['f1']:.4f}, AUC {found['auc']:.4f}\n"
    )


def test_lbfgs_tells_of_no_mini_batch(train, table):
    told = train(table, "--target", "group", "--drop", "id,rent", "--optimizer", "lbfgs", "--epochs", 2).out
    assert "softmax, lbfgs, l2" in told
    assert "mini-batch" not in told


def test_evaluating_what_was_learned_is_noted(gpunet, classes, table, people, tmp_path):
    assert f"note: the model was trained on {table}" in gpunet("evaluate", "c.safetensors", table).err
    write(tmp_path / "others.csv", people[:50])
    assert "note" not in gpunet("evaluate", "c.safetensors", tmp_path / "others.csv").err


def test_evaluate_numbers_in_their_own_unit(gpunet, numbers, table, people):
    (event,) = gpunet("evaluate", "n.safetensors", table, "--json", "--device", "cpu").events
    predicted = [float(r["prediction"]) for r in by_rows(gpunet("predict", "n.safetensors", table).out)]
    found = metrics.of_numbers(np.array(predicted), np.array([row["rent"] for row in people]))
    assert event["examples"] == 240
    for name, value in found.items():
        assert event[name] == pytest.approx(value, rel=1e-4), name
    assert gpunet("evaluate", "n.safetensors", table).out.startswith(f"MAE {found['mae']:.4g}"[:7])


def test_predict_gives_a_table(gpunet, classes, table, people):
    result = gpunet("predict", "c.safetensors", table, "--keep", "id,rent,age", "--probabilities", "--device", "cpu")
    assert result.err == ""
    rows = by_rows(result.out)
    kinds = ["no", "rare", "yes"]
    assert list(rows[0]) == ["id", "rent", "age", "prediction", *(f"probability_{kind}" for kind in kinds)]
    assert [row["id"] for row in rows] == [row["id"] for row in people]  # 0007 is not 7
    assert [float(row["rent"]) for row in rows] == [row["rent"] for row in people]
    assert [row["age"] for row in rows] == [str(row["age"]) for row in people]
    for row in rows:
        probabilities = [float(row[f"probability_{kind}"]) for kind in kinds]
        assert sum(probabilities) == pytest.approx(1, abs=1e-5)
        assert row["prediction"] == kinds[int(np.argmax(probabilities))]
    plain = gpunet("predict", "c.safetensors", table, "--device", "cpu").out.splitlines()
    assert plain == ["prediction", *(row["prediction"] for row in rows)]


ODD = ["a, b", 'say "c"', '"d"', "e f"]


def test_columns_with_commas_and_quotes_in_their_names(train, gpunet, tmp_path):
    rows = [{name: i * (k + 2) % 7 for k, name in enumerate(ODD)} | {"x": i, "y": "uv"[i % 2]} for i in range(30)]
    data = write(tmp_path / "t.csv", rows)
    options = ("--target", "y", "--epochs", 1, "--drop", 'x, "a, b"', "--categorical", "e f", "--drop", '"""d"""')
    assert train(data, *options, "-o", "m.safetensors").code == 0
    run = Network.load(tmp_path / "m.safetensors").metadata["run"]
    assert (run["drop"], run["categorical"]) == (["x", "a, b", '"d"'], ["e f"])
    shown = gpunet("predict", "m.safetensors", data, "--keep", 'say "c","a, b"', "--keep", "x")
    assert list(by_rows(shown.out)[0]) == ['say "c"', "a, b", "x", "prediction"]
    assert "a, b" in gpunet("show-config", "m.safetensors").out
    assert train("--config", "m.safetensors", "-o", "again.safetensors").code == 0
    wrong = r"must be columns such as 'a,b', a name with a comma in double quotes: 'a,\"b, c\"', got"
    train(data, *options, "--drop", '"a, b').wrong_use(rf"--drop {wrong} '\"a, b'")
    gpunet("predict", "m.safetensors", data, "--keep", '"x"y').wrong_use(rf"--keep {wrong} '\"x\"y'")


@pytest.mark.parametrize("name", [*ODD, "it's", "-x"])
def test_advice_can_be_followed(train, tmp_path, name):
    data = write(tmp_path / "t.csv", [{name: f"text {i}", "x": i, "y": "uv"[i % 2]} for i in range(100)])
    told = train(data, "--target", "y").err
    advice = shlex.split(re.search(r"\((--drop .*), in Python", told)[1])
    assert train(data, "--target", "y", "--epochs", 1, *advice).code == 0


@pytest.mark.filterwarnings("default")
def test_predict_finds_columns_by_name(gpunet, classes, table, people, tmp_path):
    wanted = gpunet("predict", "c.safetensors", table, "--device", "cpu").out
    turned = [dict(reversed(row.items())) for row in people]
    write(tmp_path / "turned.csv", [{"more": "x", **row} for row in turned])
    result = gpunet("predict", "c.safetensors", "turned.csv", "--device", "cpu")
    assert result.out == wanted
    assert result.err == "note: turned.csv: the model does not use its columns 'more'.\n"
    write(tmp_path / "bare.csv", [{name: row[name] for name in ("town", "age", "income")} for row in people])
    assert gpunet("predict", "c.safetensors", "bare.csv", "--device", "cpu").out == wanted
    gpunet("evaluate", "c.safetensors", "bare.csv", "--device", "cpu").one_error(
        "bare.csv has no labels to compare with: no column 'group'"
    )


@pytest.mark.parametrize("name", ["out.csv", "out.parquet"])
def test_predict_writes_a_file(gpunet, numbers, table, people, tmp_path, name):
    shown = by_rows(gpunet("predict", "n.safetensors", table, "--keep", "id", "--device", "cpu").out)
    if name.endswith("parquet"):
        need("pyarrow")
    result = gpunet("predict", "n.safetensors", table, "--keep", "id", "-o", name, "--device", "cpu")
    assert (result.code, result.out) == (0, ""), result.err
    written = read_table(tmp_path / name, as_text=["id"])
    assert written["id"].tolist() == [row["id"] for row in shown]
    assert np.allclose(written["prediction"], [float(row["prediction"]) for row in shown], rtol=1e-9)


def test_predict_json(gpunet, classes, numbers, table):
    lines = gpunet("predict", "c.safetensors", table, "--json", "--device", "cpu").events
    assert set(lines[0]) == {"label", "outputs"}
    assert len(lines) == 240
    lines = gpunet("predict", "n.safetensors", table, "--json", "--device", "cpu").events
    assert 300 < lines[0]["outputs"][0] < 1500


@pytest.mark.filterwarnings("default")
def test_an_unknown_kind_is_told(gpunet, classes, people, tmp_path):
    write(tmp_path / "new.csv", [{**people[0], "town": "Kiel"}, people[1]])
    result = gpunet("predict", "c.safetensors", "new.csv", "--device", "cpu")
    assert (result.code, len(result.out.splitlines())) == (0, 3)
    assert result.err.startswith("note: new.csv, column 'town': 'Kiel' in 1 row(s) did not occur")


def test_labels_under_another_name(gpunet, classes, people, tmp_path):
    write(tmp_path / "new.csv", [{**{k: v for k, v in row.items() if k != "group"}, "kind": "no"} for row in people])
    result = gpunet("evaluate", "c.safetensors", "new.csv", "--target", "kind", "--device", "cpu")
    assert result.code == 0, result.err
    assert " / 240 correct" in result.out


def test_a_table_without_a_header(train, gpunet, tmp_path):
    (tmp_path / "t.csv").write_text("".join(f"{i / 20},{i % 7},{'ab'[i > 10]}\n" for i in range(21)))
    result = train("t.csv", "--target", "2", "-o", "m.safetensors", "--json")
    assert (result.code, result.err) == (0, "saved m.safetensors\n")
    assert result.events[0]["examples"] + result.events[0]["test_examples"] == 21
    assert len(gpunet("predict", "m.safetensors", "t.csv").out.splitlines()) == 22
    (tmp_path / "new.csv").write_text("0.1,3\n0.9,4\n")
    assert gpunet("predict", "m.safetensors", "new.csv").out.split() == ["prediction", "a", "b"]
    assert gpunet("evaluate", "m.safetensors", "t.csv").code == 0


# -- What is wrong -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "options", "fragment"),
    [
        ("", [], "t.csv: the file is empty"),
        ("a,b,label\n", [], r"holds a header \('a', 'b', 'label'\) and no rows"),
        ("a,b,label\n1,2,x\n", [], "one row only"),
        ("a,b,label\n1,2,x\n3,4,x\n", [], "one class only, 'x' in column 'label'"),
        ("a,b,label\n1,2,\n3,4,\n", [], "the target 'label' has no value in any of the 2 rows"),
        ("a,b,label\n1,2,x\n3,4,\n", [], "line 3, column 'label': the value is missing; fill it in, or drop the row"),
        ("a,a,label\n1,2,x\n3,4,y\n", [], "columns 1 and 2 have the same name 'a'"),
        (b"a,b,label\n1,2,x\n3,\xff,y\n", [], "line 3: not UTF-8"),
        ("a,b,label\n1,2,x\n3,y\n", [], "line 3: 2 cells, but the header has 3"),
        ("a,b,label\n1,inf,x\n3,4,y\n", [], "line 2, column 'b': the value is inf"),
        ("a,b,label\n1,,x\n3,4,y\n", [], "line 2, column 'b': the value is missing; .*--missing fill"),
        ("a,b,label\n,2,x\n,4,y\n", ["--missing", "fill"], r"column 'a' has no value in any row; .*\(--drop a"),
        ("label\n1\n2\n", [], "its one column is the target"),
        ("a;b;label\n1;2;x\n", [], "Separate cells with commas"),
        (
            "a,b,c\n1,2,x\n3,4,y\n",
            [],
            "no labels to learn; name their column with --target. Its columns: 'a', 'b', 'c'",
        ),
        ("a,b,kind\n1,2,x\n3,4,y\n", ["--target", "knd"], "no column 'knd'. Did you mean 'kind'"),
        ("a,b,label\n1,2,x\n3,4,y\n", ["--drop", "c"], "no column 'c'"),
        ("a,b,label\n1,2,x\n3,4,y\n", ["--categorical", "B"], "no column 'B'. Did you mean 'b'"),
        ("a,b,label\n1,2,x\n3,4,y\n", ["--drop", "a,b"], "no columns to learn from are left"),
        ("a,b,label\n1,2,x\n3,4,y\n", ["--task", "regression"], "line 2, column 'label': 'x' is not a number"),
        ("a,p\n1,1.5\n3,1.5\n", ["--target", "p"], r"the target 'p' is 1\.5 in all rows"),
        ("a,p\n1,1.5\n3,2\n", ["--target", "p", "--task", "classification"], r"the label is 1\.5"),
        (
            "n,label\n" + "".join(f"Ann{i},{i % 2}\n" for i in range(40)),
            [],
            r"column 'n' has 32 different values in 32 rows, such as 'Ann.*--drop n.*--categorical n",
        ),
        (
            "n,label\nfifteen,1\n" + "".join(f"{i},{i % 2}\n" for i in range(40)),
            ["--holdout", "0"],
            "line 2, column 'n': 'fifteen' is not a number, as most of the column are",
        ),
    ],
)
def test_tables_that_can_not_be_trained_on(train, tmp_path, text, options, fragment):
    (tmp_path / "t.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    result = train("t.csv", *options, "-o", "m.safetensors")
    result.one_error(fragment)
    assert result.out == ""
    assert not (tmp_path / "m.safetensors").exists()


@pytest.mark.parametrize(
    ("change", "fragment"),
    [
        ({"age": None}, r"new.csv has no column 'age', which the model was trained on"),
        ({"age": None, "Age": 3}, "Did you mean 'Age'"),
        ({"age": "old"}, "line 2, column 'age': 'old' is not a number"),
        ({"age": ""}, "line 2, column 'age': the value is missing"),
        ({"age": "inf"}, "line 2, column 'age': the value is inf"),
        ({"age": "1e300"}, "line 2, column 'age': 1e.300 is too far"),
        ({"town": ""}, "line 2, column 'town': the value is missing"),
    ],
)
@pytest.mark.parametrize("command", ["predict", "evaluate"])
def test_a_table_that_changed(gpunet, classes, people, tmp_path, command, change, fragment):
    rows = [{k: v for k, v in {**row, **change}.items() if v is not None} for row in people[:1]]
    write(tmp_path / "new.csv", rows)
    result = gpunet(command, "c.safetensors", "new.csv", "--device", "cpu")
    result.one_error(fragment)
    assert result.out == ""


def test_an_unknown_label(gpunet, classes, people, tmp_path):
    write(tmp_path / "new.csv", [people[0], {**people[1], "group": "maybe"}])
    result = gpunet("evaluate", "c.safetensors", "new.csv", "--device", "cpu")
    result.one_error("the label 'maybe' in line 3, column 'group', but the labels known are 'no', 'rare', 'yes'")
    assert gpunet("predict", "c.safetensors", "new.csv", "--device", "cpu").code == 0


def test_a_model_for_images_and_a_table(gpunet, folder, table):
    assert gpunet("train", folder / "idx", "--epochs", 1, "-o", "i.safetensors").code == 0
    for command in ("predict", "evaluate"):
        result = gpunet(command, "i.safetensors", table, "--device", "cpu")
        assert (result.code, result.out) == (1, "")
        assert "people.csv" in result.err
        gpunet(command, "i.safetensors", folder / "train.csv").one_error("uint8 pixels")


def test_a_model_for_tables_and_other_data(gpunet, train, classes, folder):
    for command in ("predict", "evaluate"):
        gpunet(command, "c.safetensors", folder / "test.npz").one_error(
            "test.npz has 4 inputs .*trained on a table with the columns 'age', 'income', 'town'; give it a table"
        )
    gpunet("evaluate", "c.safetensors").one_error("mnist has 784 inputs")
    # Numbers alone go by their order.
    assert train(folder / "train.csv", "-o", "m.safetensors").code == 0
    assert gpunet("predict", "m.safetensors", folder / "unlabelled.npz").code == 0


@pytest.mark.parametrize(
    ("arguments", "fragment"),
    [
        (["--keep", "nothing"], "no column 'nothing' to keep"),
        (["-o", "x.txt"], "written as .csv or .parquet"),
        (["-o", "none/x.csv"], "there is no folder"),
        (["-o", "people.csv"], "--output people.csv is what is read"),
        (["--json", "--probabilities"], "--json gives all outputs"),
    ],
)
def test_wrong_options_of_predict(gpunet, classes, table, arguments, fragment):
    result = gpunet("predict", "c.safetensors", table, *arguments, "--device", "cpu")
    assert result.code in (1, 2)
    assert fragment in result.told
    assert result.out == ""


def test_wrong_options_of_predict_for_the_model(gpunet, numbers, classes, table, folder, model, people, tmp_path):
    gpunet("predict", "n.safetensors", table, "--probabilities").one_error("this model predicts numbers")
    write(tmp_path / "p.csv", [{"prediction": 1, **row} for row in people])
    gpunet("predict", "c.safetensors", "p.csv", "--keep", "prediction").one_error("rename it in the table")
    for option in (["--probabilities"], ["--keep", "id"], ["-o", "x.csv"]):
        gpunet("predict", model, folder / "test.npz", *option).wrong_use("for tables")


@pytest.mark.parametrize(
    "option", [["--drop", "a"], ["--categorical", "a"], ["--task", "regression"], ["--missing", "fill"]]
)
def test_options_of_tables_are_refused_for_other_data(train, folder, option):
    train(folder / "train.npz", *option).wrong_use(f"{option[0]} is for tables")
    train(*option).wrong_use("DATA is MNIST")


@pytest.mark.parametrize(
    "change",
    [
        lambda values: values.clear(),
        lambda values: values["columns"].pop(),
        lambda values: values["columns"][0].update(std=0),
        lambda values: values["target"]["classes"].pop(),
        lambda values: values.update(target=5),
    ],
)
@pytest.mark.parametrize("command", ["predict", "evaluate"])
def test_a_damaged_model(gpunet, classes, table, tmp_path, command, change):
    net = Network.load(tmp_path / "c.safetensors", device="cpu")
    change(net.metadata["preprocessing"])
    net.save(tmp_path / "damaged.safetensors")
    gpunet(command, "damaged.safetensors", table).one_error("the model's preprocessing is damaged")


def test_metadata_is_plain_json(classes, tmp_path):
    metadata = Network.load(tmp_path / "c.safetensors").metadata
    assert json.loads(json.dumps(metadata)) == metadata


DOCS = (Path(__file__).resolve().parents[2] / "docs" / "tables.md").read_text()


def test_the_commands_of_the_docs_run(gpunet, tmp_path):
    rng = np.random.default_rng(0)
    rows = []
    for i in range(150):
        kind = i % 3
        sizes = {f"size{k}": round(float(rng.normal(kind, 0.3)), 2) for k in range(3)}
        rows.append({"id": f"f{i}", **sizes, "species": ["setosa", "versicolor", "virginica"][kind]})
    write(tmp_path / "flowers.csv", [{k: v for k, v in row.items() if k != "id"} for row in rows])
    write(tmp_path / "new.csv", [{k: v for k, v in row.items() if k != "species"} for row in rows[:5]])
    commands = [line.strip().split() for line in DOCS.splitlines() if line.startswith("    gpunet ")]
    assert len(commands) == 5
    for _, *arguments in commands:
        target = None
        if ">" in arguments:
            arguments, (_, target) = arguments[:-2], arguments[-2:]
        result = gpunet(*arguments)
        assert result.code == 0, (arguments, result.err)
        if target is not None:
            (tmp_path / target).write_text(result.out)
    header, first, *_ = (tmp_path / "predicted.csv").read_text().splitlines()
    assert header == "id,prediction,probability_setosa,probability_versicolor,probability_virginica"
    assert first.startswith("f0,setosa,")
    again = tmp_path / "gpunet-model-2.safetensors"
    assert again.read_bytes() == (tmp_path / "flowers.safetensors").read_bytes()
    toml = "\n".join(re.findall(r"^    (\w+ = .*)$", DOCS, flags=re.MULTILINE))
    (tmp_path / "few.toml").write_text(toml.replace('drop = ["id"]', "drop = []"))
    assert gpunet("train", "--config", "few.toml").code == 0
