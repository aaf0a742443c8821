import numpy as np
import pytest

from gpunet.datasets import load
from gpunet.errors import FileFormatError, InputError


@pytest.fixture
def read(write):
    return lambda text, name="a.csv", **options: load(write(name, text), **options)


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "A.CSV"])
def test_header_and_label_column(read, name):
    data = read("a,label,b\n1,0,2\n3,1,4.5\n", name)
    assert data.X.tolist() == [[1, 2], [3, 4.5]]
    assert data.X.dtype == np.float32
    assert data.y.tolist() == [0, 1]
    assert data.y.dtype == np.int64
    assert (data.classes, data.target, data.n_classes, data.name) == (None, "label", 2, name)
    assert data.input_scale == 1.0
    assert data.X_test is None


@pytest.mark.parametrize("name", ["Label", "TARGET", "y", "class", " class "])
def test_usual_label_names_are_found(read, name):
    data = read(f"a,{name}\n1,0\n3,1\n")
    assert data.target == name.strip()


def test_without_a_target_all_columns_are_inputs(read):
    for text in ("1,2\n3,4\n", "a,b\n1,2\n3,4\n"):
        data = read(text)
        assert data.X.tolist() == [[1, 2], [3, 4]]
        assert data.y is None
        assert data.target is None
    assert read("1\n2\n").X.shape == (2, 1)
    assert read("1,2,3").X.shape == (1, 3)


@pytest.mark.parametrize("target", ["kind", 1, -2, "1", "-2", np.int64(1)])
def test_target_by_name_and_number(read, target):
    data = read("a,kind,b\n1,1,2\n3,0,4\n", target=target)
    assert data.X.tolist() == [[1, 2], [3, 4]]
    assert data.y.tolist() == [1, 0]
    assert data.target == "kind"


def test_target_by_number_without_a_header(read):
    data = read("1,2,0\n3,4,1\n", target=-1)
    assert data.X.shape == (2, 2)
    assert data.target == "2"


def test_text_labels_without_a_header_lose_no_row(read):
    data = read("5.1,3.5,setosa\n4.9,3.0,setosa\n7.0,3.2,versicolor\n", target=-1)
    assert data.X.shape == (3, 2)
    assert data.classes == ("setosa", "versicolor")
    assert data.y.tolist() == [0, 0, 1]


def test_a_header_of_numbers_and_a_name_is_a_header(read):
    data = read("0,1,kind\n5,6,0\n7,8,1\n", target=-1)
    assert data.X.tolist() == [[5, 6], [7, 8]]
    assert data.target == "kind"


def test_text_labels_become_sorted_classes(read):
    data = read('x,label\n1,b\n2, a\n3,"c, d"\n4,b\n')
    assert data.classes == ("a", "b", "c, d")
    assert data.y.tolist() == [1, 0, 2, 1]
    assert data.n_classes == 3


def test_number_labels_are_sorted_as_numbers(read):
    data = read("x,label\n1,10\n2,9\n3,-1\n4,100\n")
    assert data.classes == ("-1", "9", "10", "100")
    assert data.y.tolist() == [2, 1, 0, 3]
    assert read("x,label\n1,1.0\n2,2\n").classes == ("1", "2")


def test_quoted_cells_spaces_blank_lines_and_line_ends(read):
    expected = [[1, 2], [3, 4]]
    for text in ('"1","2"\n"3",4\n', "1, 2\n 3 ,4", "\n1,2\n\n3,4\n\n", "1,2\r\n3,4\r\n", "1,2\r3,4\r"):
        assert read(text).X.tolist() == expected
    assert read('"a, b","c ""d"""\n1,2\n3,4\n', target="a, b").target == "a, b"
    assert read("\ufeffa,label\n1,0\n").target == "label"
    assert read('"a\nb",label\n1,0\n2,1\n').y.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("text", "target", "message"),
    [
        ("ab,kind\n1,0\n", "knid", r"no column 'knid'\. Did you mean 'kind'\? Its columns: 'ab', 'kind'"),
        ("ab,kind\n1,0\n", 2, "no column 2.*from 0 to 1 or from -2 to -1"),
        ("ab,kind\n1,0\n", "-3", "no column '-3'"),
        ("1,0\n", "kind", "It has no header"),
        ("a,a\n1,0\n", "a", "more than one column"),
        (
            "y,label\n1,0\n",
            None,
            r"the columns 'y', 'label' could all hold the labels; name one with target=",
        ),
        ("label\n1\n", None, "its one column is the target"),
        ("1,0\n", True, "must be a column's name or number"),
        ("1,0\n", 1.0, "must be a column's name or number"),
    ],
)
def test_targets_that_are_refused(read, text, target, message):
    with pytest.raises(InputError, match=message):
        read(text, target=target)


def test_target_is_for_tables_only(write, npz_bytes):
    with pytest.raises(InputError, match=r"target='y' names a column of a \.csv file"):
        load(write("a.npz", npz_bytes(X=np.zeros((1, 1)))), target="y")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x,label\n1,0\n\n2,0.5\n", r"line 4, column 2 \('label'\): the label is 0\.5;.*Network\.fit"),
        ("x,label\n1,0\n2,\n", r"line 3, column 2 \('label'\): the label is missing"),
        ("x,label\n1,a\n2, \n", r"line 3, column 2 \('label'\): the label is missing"),
        ("x,label\n1,0\n2,nan\n", r"line 3, column 2 \('label'\): the label is nan"),
        ("x,label\n1,0\n2,1e300\n", "line 3.*whole numbers within"),
        ("x,z\n1,0\n,3\n", r"line 3, column 1 \('x'\): the value is missing"),
        (",,\n1,2,3\n", "line 1, column 1: the value is missing"),
        ("1,2\n1,nan\n", "line 2, column 2: the value is nan; inputs must be finite"),
        ("1,2\n\n\n-inf,2\n", "line 4, column 1: the value is -inf"),
        ("x,kind\n1,a\n1e999,b\n", "line 2, column 2"),
        ("x,label\n1,a\n1e999,b\n", "line 3, column 1 .*: the value is 1e999"),
        ("1,2\n1,1e300\n", "beyond float32"),
    ],
)
def test_data_that_is_refused(read, text, message):
    with pytest.raises((InputError, FileFormatError), match=message):
        read(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the file is empty"),
        ("\n\n", "the file is empty"),
        ("a,b\n", "holds a header .*'a', 'b'.* and no rows"),
        ("a,b\n\n\n", "holds a header"),
        ("1,2\n3\n", "line 2: 1 cells, but the first row has 2"),
        ("1,2\n3,4\n\n5,6,7\n", "line 4: 3 cells, but the first row has 2"),
        ("a,b\n1,2,3\n4,5,6\n", "line 2: 3 cells, but the header has 2"),
        ("a,label\n1,x\n2,y,3\n", "line 3: 3 cells, but the header has 2"),
        ("a,b\n1,2\n3,cat\n", r"line 3, column 2 \('b'\): 'cat' is not a number.*pass target=1"),
        ("1,2\n1_0,2\n", "line 2, column 1: '1_0' is not a number"),
        ("1,2\n１,2\n", "line 2, column 1: '１' is not a number"),
        ("1;2\n3;4\n", "'3;4' is not a number. Separate cells with commas"),
        ('1,2\n"3\n4",5\n', "line 3, column 1"),
        (b"1,2\n3,\xff\n", "line 2: not UTF-8 text"),
        ("a,b\n1,2\n".encode("utf-16"), "line 1: not UTF-8 text"),
        ("1," + "9" * 200_000 + "\n", "field larger than field limit"),
    ],
)
def test_files_that_are_refused(read, text, message):
    with pytest.raises(FileFormatError, match=message) as caught:
        read(text)
    assert "a.csv" in str(caught.value)


def test_a_fault_in_a_late_row_is_found_at_its_line(read):
    rows = [f"{i},{i % 3}" for i in range(5000)]
    rows[4000] = "4000,oops"
    with pytest.raises(FileFormatError, match="line 4002, column 2"):
        read("a,b\n" + "\n".join(rows))
