"""The project's own files agree with each other and with the code."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]

#: The conda package of each pip package whose name differs.
CONDA_NAMES = {"cupy-cuda13x": "cupy"}


def requirements(*extras):
    """The project's dependencies and those of the extras, by name."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = [
        *project["dependencies"],
        *(line for extra in extras for line in project["optional-dependencies"][extra]),
    ]
    pairs = (re.fullmatch(r"([\w-]+)(.*)", line).groups() for line in lines)
    return {CONDA_NAMES.get(name, name): version for name, version in pairs}


def test_environment_yml_has_what_pyproject_asks_for():
    listed = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    conda = dict(re.fullmatch(r"([\w-]+)(.*)", line).groups() for line in listed)
    assert conda.pop("pip") == ""
    assert (
        ">=" + conda.pop("python").removeprefix(">=")
        == tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"]
    )
    assert conda == requirements("test", "cuda13")


def test_no_upper_pins():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    everything = [*project["dependencies"], *(line for e in project["optional-dependencies"].values() for line in e)]
    assert not [line for line in everything if "<" in line or "==" in line]


def test_every_folder_with_code_is_installed():
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    folders = {".".join(path.parent.relative_to(ROOT).parts) for path in (ROOT / "gpunet").rglob("*.py")}
    assert {*packages} == folders | {"gpunet.kernels"}  # which lies at the top of the repository


def test_the_textbook_stays_readable():
    assert len((ROOT / "gpunet" / "backprop.py").read_text().splitlines()) <= 200


def python_blocks(name):
    return re.findall(r"```python\n(.*?)```", (ROOT / name).read_text(), flags=re.DOTALL)


@pytest.mark.parametrize(
    ("name", "block"),
    [
        (name, block)
        for name in ("README.md", "docs/training.md", "docs/tables.md", "docs/sklearn.md")
        for block in python_blocks(name)
    ],
)
def test_the_examples_run(name, block, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    shorter = block.replace("net.SGD(training_data, 30,", "net.SGD(training_data[:5000], 1,")
    exec(compile(shorter, name, "exec"), {})
    printed = capsys.readouterr().out
    assert printed
    assert "DISAGREE" not in printed


EQUATIONS = ROOT / "docs" / "equations.md"


def equation_rows():
    """The rows of the table in docs/equations.md: equation, file, code, tests."""
    for line in EQUATIONS.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("| (") and len(cells) == 5:
            yield pytest.param(*cells[2:], id=cells[0])


@pytest.mark.parametrize(("file", "code", "tests"), list(equation_rows()))
def test_each_equation_names_code_and_tests_that_exist(file, code, tests):
    source = (ROOT / file.strip("`")).read_text()
    assert code.strip("`") in source
    for test in re.findall(r"`([^`]+)`", tests):
        path, _, function = test.partition("::")
        assert f"def {function}(" in (ROOT / "tests" / path).read_text(), test


def test_every_equation_of_the_chapter_is_named():
    text = EQUATIONS.read_text()
    missing = [n for n in range(23, 54) if not re.search(rf"\({n}\)", text) and not covered(n, text)]
    assert not missing
    assert all(f"({name})" in text for name in ("BP1", "BP1a", "BP2", "BP3", "BP4"))


def covered(n, text):
    """Whether a range such as (36)-(39) includes equation n."""
    ranges = re.findall(r"\((\d+)\)-\((\d+)\)", text)
    return any(int(first) <= n <= int(last) for first, last in ranges)
