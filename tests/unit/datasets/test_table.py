"""`read_table`: columns of numbers and text from CSV and Parquet, and `load` of Parquet."""

import subprocess
import sys

import numpy as np
import pytest
from extras import need

from gpunet.datasets import load, read_table
from gpunet.errors import FileFormatError, InputError
from gpunet.preprocessing import Preprocessing


@pytest.fixture
def read(write):
    return lambda text, name="a.csv", **options: read_table(write(name, text), **options)


def columns(table):
    return {name: values.tolist() for name, values in table.items()}


def test_numbers_and_text(read):
    table = read("a,b,c\n1,x,2.5\n-3e1, y ,4\n")
    assert columns(table) == {"a": [1, -30], "b": ["x", "y"], "c": [2.5, 4]}
    assert (table.name, table.n_rows, table.has_header) == ("a.csv", 2, True)
    assert table["a"].dtype == np.float64
    assert len(table) == 3
    assert repr(table) == "<Table 'a.csv': 2 rows, columns 'a', 'b', 'c'>"


def test_numbers_alone_take_the_fast_way_to_the_same(read, monkeypatch):
    text = "a,b\n1,2\n3,nan\n"
    fast = columns(read(text))
    monkeypatch.setattr(np, "loadtxt", lambda *a, **k: (_ for _ in ()).throw(ValueError))
    assert repr(columns(read(text))) == repr(fast) == "{'a': [1.0, 3.0], 'b': [2.0, nan]}"


def test_without_a_header(read):
    table = read("1,2\n3,4\n")
    assert (columns(table), table.has_header) == ({"0": [1, 3], "1": [2, 4]}, False)
    table = read("1,2,x\n3,4,y\n5,6,x\n", target="2")
    assert (columns(table)["2"], table.has_header) == (["x", "y", "x"], False)


def test_a_first_row_that_may_be_data_is_told(read):
    with pytest.warns(UserWarning, match=r"first row is taken for the columns' names, though '1' is a number"):
        table = read("1,2,x\n3,4,y\n5,6,x\n")
    assert list(table) == ["1", "2", "x"]


def test_missing_values(read):
    table = read("n,t\n1,a\nNA,\n,NA\n?,b\nnull,c\n")
    assert np.array_equal(table["n"], [1, np.nan, np.nan, np.nan, np.nan], equal_nan=True)
    assert table["t"].tolist() == ["a", None, "NA", "b", "c"]  # among text, NA is a text
    assert read("n,m\n1,\n2, \n")["m"].tolist() == [None, None]


def test_as_text_keeps_what_is_written(read):
    table = read("zip,x\n007,1\n01,2.50\n", as_text=["zip", "none"])
    assert columns(table) == {"zip": ["007", "01"], "x": [1, 2.5]}


def test_the_index_that_pandas_writes_is_left_out(read):
    for first in (0, 1):
        table = read("".join([",a,b\n", *(f"{i},{i * 7},x\n" for i in range(first, first + 5))]))
        assert list(table) == ["a", "b"]
    assert list(read(",a\n5,1\n3,2\n")) == ["column 1", "a"]
    assert list(read("a,\n0,0\n1,1\n")) == ["a", "column 2"]


def test_lines_are_those_of_the_file(read):
    table = read('a,t\n\n1,"x\ny"\n\n2,b\n')
    assert [table.where(i) for i in range(2)] == ["line 4", "line 6"]


def test_many_rows_pass_in_chunks(read):
    n = 10_000
    table = read("a,t\n" + "".join(f"{i},t{i % 3}\n" for i in range(n)))
    assert np.array_equal(table["a"], np.arange(n))
    assert table["t"].tolist() == [f"t{i % 3}" for i in range(n)]
    late = read("a,t\n" + "".join(f"{i},1\n" for i in range(n)) + "x,1\n")  # text in the last row alone
    assert late["a"][-1] == "x"
    assert late["a"][5] == "5"
    late = read("a,t\n" + ",x\n" * n + "1,\n2,y\n")  # the first number in the last rows
    assert late["a"][-2:].tolist() == [1, 2]
    assert np.isnan(late["a"][:-2]).all()
    assert late["t"][-2:].tolist() == [None, "y"]
    with pytest.raises(FileFormatError, match=f"line {n + 2}: 3 cells"):
        read("a,t\n" + "1,x\n" * n + "2,y,3\n")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the file is empty"),
        ("a,b\n", "and no rows"),
        ("a,b,a\n1,2,3\n", "columns 1 and 3 have the same name 'a'"),
        ("a,b\n1,x\n2\n", "line 3: 1 cells, but the header has 2"),
        ("a;b\n1;2\n", "one column, 'a;b'. Separate cells with commas"),
        (b"a,b\n1,x\n2,\xff\n", "line 3: not UTF-8"),
    ],
)
def test_files_that_are_refused(read, text, message):
    with pytest.raises((FileFormatError, InputError), match=message):
        read(text)


def test_files_that_are_no_tables(write, tmp_path):
    with pytest.raises(FileFormatError, match=r"not known as a table.*\.csv, \.csv\.gz, \.parquet"):
        read_table(write("a.npz", "x"))
    with pytest.raises(FileFormatError, match="no such file"):
        read_table(tmp_path / "none.csv")


def test_a_missing_column_is_a_key_error(read):
    with pytest.raises(KeyError):
        read("a\n1\n")["b"]
    assert "b" not in read("a\n1\n")


# -- Parquet -----------------------------------------------------------------------------------------------------


@pytest.fixture
def parquet(tmp_path):
    pa = need("pyarrow")
    import pyarrow.parquet as pq

    def save(columns, name="a.parquet"):
        table = columns if isinstance(columns, pa.Table) else pa.table(columns)
        pq.write_table(table, tmp_path / name)
        return tmp_path / name

    return save


def test_parquet_of_every_type(parquet):
    import datetime
    import decimal

    import pyarrow as pa

    table = read_table(
        parquet(
            {
                "int": pa.array([1, None], pa.int64()),
                "small": pa.array([1, 255], pa.uint8()),
                "float": pa.array([0.5, None], pa.float32()),
                "decimal": pa.array([decimal.Decimal("1.25"), None], pa.decimal128(10, 2)),
                "bool": [True, None],
                "text": ["a", None],
                "kind": pa.array(["a", "b"]).dictionary_encode(),
                "number of a kind": pa.array([7, None]).dictionary_encode(),
                "date": [datetime.date(2020, 1, 2), None],
                "null": pa.array([None, None], pa.null()),
                "huge": pa.array([2**63 - 1, 1], pa.int64()),
            }
        )
    )
    assert repr(columns(table)) == repr(
        {
            "int": [1.0, float("nan")],
            "small": [1.0, 255.0],
            "float": [0.5, float("nan")],
            "decimal": [1.25, float("nan")],
            "bool": ["true", None],
            "text": ["a", None],
            "kind": ["a", "b"],
            "number of a kind": [7.0, float("nan")],
            "date": ["2020-01-02", None],
            "null": [None, None],
            "huge": [2.0**63, 1.0],
        }
    )
    assert table.where(0) == "row 1"


def test_parquet_columns_that_are_neither_numbers_nor_text_are_in_the_way_only_if_used(parquet):
    path = parquet({"x": [1, 2], "list": [[1], [2, 3]], "bytes": [b"\xff", b"b"], "struct": [{"a": 1}, {"a": 2}]})
    table = read_table(path)
    assert list(table) == ["x", "list", "bytes", "struct"]
    assert "list" in table
    assert Preprocessing.fit(table, drop=["list", "bytes", "struct"]).n_in == 1
    assert table["x"].tolist() == [1, 2]
    for name, kind in (("list", "list<"), ("bytes", "binary"), ("struct", "struct<")):
        with pytest.raises(
            InputError, match=f"column '{name}' is of type {kind}.*neither numbers nor text.*leave it"
        ):
            table[name]
    with pytest.raises(FileFormatError, match="column 'list' is of type"):
        read_table(parquet({"list": [[1], [2]]}))


def test_parquet_as_text(parquet):
    assert read_table(parquet({"id": [2**62 + 1, 7], "x": [1, 2]}), as_text=["id"])["id"].tolist() == [
        "4611686018427387905",
        "7",
    ]


def test_parquet_by_pandas_has_no_index(tmp_path):
    need("pyarrow")
    pd = pytest.importorskip("pandas")
    pd.DataFrame({"x": [1, 2]}, index=["a", "b"]).to_parquet(tmp_path / "a.parquet")
    assert list(read_table(tmp_path / "a.parquet")) == ["x"]


def test_load_of_parquet_is_that_of_csv(parquet, write):
    path = parquet({"a": [1.0, 3.0], "label": ["x", "y"], "b": [2, 4]})
    data, same = load(path), load(write("a.csv", "a,label,b\n1,x,2\n3,y,4\n"))
    assert np.array_equal(data.X, same.X)
    assert data.X.dtype == same.X.dtype
    assert data.y.tolist() == same.y.tolist()
    assert (data.classes, data.target, data.features) == (same.classes, same.target, same.features)


@pytest.mark.parametrize(
    ("columns", "target", "message"),
    [
        ({"a": [1, 2], "t": ["x", "y"]}, None, "column 't' holds text such as 'x', not numbers"),
        ({"a": [1, None], "label": [0, 1]}, None, "row 2, column 'a': the value is missing"),
        ({"a": [1, 2], "label": [0.5, 1]}, None, r"row 1, column 'label': the label is 0\.5"),
        ({"a": [1, 2]}, "b", "no column 'b'"),
        ({"label": [1, 2]}, None, "its one column is the target"),
        ({"a": [1e300, 2]}, None, "beyond float32"),
        ({"a": [float("inf"), 2]}, None, "must be finite"),
    ],
)
def test_load_of_parquet_that_is_refused(parquet, columns, target, message):
    with pytest.raises(InputError, match=message):
        load(parquet(columns), target=target)


def test_parquet_that_is_none(write, parquet):
    with pytest.raises(FileFormatError, match="not a whole Parquet file"):
        read_table(write("a.parquet", "a,b\n1,2\n"))
    path = parquet({"a": list(range(100))})
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(FileFormatError, match="not a whole Parquet file"):
        read_table(path)
    with pytest.raises(FileFormatError, match="holds 1 columns and 0 rows"):
        read_table(parquet({"a": []}))
    with pytest.raises(FileFormatError, match="no such file"):
        read_table(path.with_name("none.parquet"))


def test_parquet_with_two_columns_of_one_name(parquet):
    import pyarrow as pa

    with pytest.raises(InputError, match="two columns have the name 'a'"):
        read_table(parquet(pa.table([pa.array([1]), pa.array([2])], names=["a", "a"])))


def test_parquet_that_unpacks_to_too_much(parquet):
    path = parquet({"a": np.zeros(10**6)})
    with pytest.raises(FileFormatError, match="unpack to more than the limit of 1000 bytes"):
        read_table(path, max_bytes=1000)
    assert read_table(path).n_rows == 10**6


def test_a_text_that_comes_often_is_in_memory_once(parquet):
    """A small file must not become a large table."""
    texts = ["a" * 10_000, None, "b"] + ["a" * 10_000] * 997
    path = parquet({"x": np.arange(1000.0), "text": texts})
    assert path.stat().st_size < 50_000
    found = read_table(path)["text"]
    assert found.tolist() == texts
    assert len({id(text) for text in found}) == 3


def test_parquet_of_much_text_unpacks_to_too_much(parquet):
    path = parquet({"a": ["a" * 10**6]})
    with pytest.raises(FileFormatError, match="unpack to more than the limit of 100000 bytes"):
        read_table(path, max_bytes=10**5)


def test_parquet_without_pyarrow_says_what_to_install(tmp_path):
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    code = (
        "import sys; sys.modules['pyarrow'] = None\n"
        "from gpunet.datasets import read_table\n"
        "try: read_table('a.parquet')\n"
        "except Exception as error: print(type(error).__name__, error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("MissingPackageError reading a.parquet needs pyarrow")
    assert "pip install 'gpunet[parquet]'" in done.stdout


def test_reading_csv_does_not_import_pyarrow(tmp_path):
    (tmp_path / "a.csv").write_text("a,b\n1,x\n")
    code = "import sys; from gpunet.datasets import read_table; read_table('a.csv'); print('pyarrow' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
