"""What imports what: the layers of the package, and how little `import gpunet` brings in."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import gpunet

PACKAGE = Path(gpunet.__file__).parent
HEAVY = (
    "cupy",
    "cupy_backends",
    "sklearn",
    "matplotlib",
    "tensorboard",
    "torch",
    "typer",
    "rich",
    "jax",
    "onnx",
    "pyarrow",
    "pandas",
    "array_api_compat",
)

#: From the bottom up; a module may import what stands below it, and its own folder. Modules that stand nowhere
#: (the command line, the estimators, pictures, ...) are the top: they may import everything, nobody below them.
#: A new module that the network needs gets its place here.
LAYERS = (
    {"errors", "version", "cpu"},
    {"checks", "optional"},
    {"kernels"},
    {"activations", "optimizers"},
    {"costs"},
    {"initializers", "backends"},
    {"backprop", "parameters", "arrays", "architecture"},
    {"model", "model_file", "targets"},
    {"drawing"},
    {"training"},
    {"network"},
    {"gradient_check", "config", "parity"},
)
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}
TOP = len(LAYERS)
FILES = sorted(PACKAGE.rglob("*.py"))


def module_of(path):
    """The module's dotted name without the leading "gpunet."; a package's is its folder's."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(path) for path in FILES} | {"kernels"}  # which lies at the top of the repository


def imported(path):
    """Yield (dotted name, whether at import time) for each import of a file."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    inside = {id(n) for f in ast.walk(tree) if isinstance(f, ast.FunctionDef) for n in ast.walk(f)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, id(node) not in inside
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}: imports are absolute here"
            for alias in node.names:
                yield f"{node.module}.{alias.name}", id(node) not in inside


def own_imports(path):
    """The gpunet modules that a file imports, without the leading "gpunet."."""
    for name, _ in imported(path):
        if name.partition(".")[0] == "gpunet":
            name = name.partition(".")[2]
            while name and name not in MODULES:  # from gpunet.module import name
                name = name.rpartition(".")[0]
            yield name


def test_the_table_names_modules_that_are_there():
    assert {name.partition(".")[0] for name in MODULES} >= set(LEVEL)
    assert len(FILES) > 20


@pytest.mark.parametrize("path", [p for p in FILES if module_of(p)], ids=lambda p: module_of(p) or "gpunet")
def test_imports_go_downwards(path):
    folder = module_of(path).partition(".")[0]
    for name in own_imports(path):
        other = name.partition(".")[0]
        if other == folder or folder == "datasets" or other == "datasets":
            continue  # datasets: below
        if not other:  # `from gpunet import something`: the public names, for the top alone
            assert folder not in LEVEL, f"{path.name} imports the package itself"
            continue
        assert LEVEL.get(other, TOP) < LEVEL.get(folder, TOP) or folder not in LEVEL, (
            f"{path.name} imports gpunet.{name}, which stands beside or above it in LAYERS, or not there"
        )


def test_datasets_stand_alone():
    """Data need no network, and no network needs the data."""
    for path in FILES:
        folder = module_of(path).partition(".")[0]
        for name in own_imports(path):
            other = name.partition(".")[0]
            if folder == "datasets":
                assert other in ("datasets", "errors", "checks", "optional", "version"), (
                    f"{path.name} imports gpunet.{name}"
                )
            elif other == "datasets":
                assert folder not in LEVEL, f"{path.name} imports gpunet.{name}"


def test_no_circles():
    graph = {module_of(path): set(own_imports(path)) - {module_of(path)} for path in FILES if module_of(path)}
    # A package's __init__ imports its modules, and they name the package only through full paths.
    done, left = set(), dict(graph)
    while left:
        free = [m for m, needs in left.items() if needs & left.keys() <= {m}]
        assert free, f"these import each other: {sorted(left)}"
        for m in free:
            done.add(m)
            del left[m]
    assert "network" in done


def test_only_the_cupy_backend_knows_cupy():
    for path in FILES:
        if path.parent.name == "backends" and path.name.startswith("cupy"):
            continue
        for name, _ in imported(path):
            assert name.partition(".")[0] != "cupy", path
        if path.name == "config.py":
            continue  # which asks for the installed distributions by their names
        tree = ast.parse(path.read_text(encoding="utf-8"))
        names = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name)}
        names |= {n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute)}
        assert "cupy" not in names, path


@pytest.mark.parametrize("word", ["Stream", "MemoryPool", "cublas", "cuda"])
def test_devices_are_known_to_backends_alone(word):
    expressions = {"activations.py", "costs.py", "optimizers.py"}  # hold the CUDA expressions beside the functions
    for path in FILES:
        if (
            path.parent.name == "backends"
            or path.name == "config.py"
            or (word == "cuda" and path.name in expressions)
        ):
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        names = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name)}
        names |= {n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute)}
        assert word not in names, f"{path.name} names {word}"


def test_heavy_libraries_are_imported_inside_functions():
    """But for the command line, which is nothing without typer and rich, the estimators, and modules for PyTorch."""
    for path in FILES:
        module = module_of(path)
        if path.name == "cli.py" or module == "interop.torch_modules" or module.startswith(("cli.", "sklearn")):
            continue
        for name, at_import in imported(path):
            assert not (at_import and name.partition(".")[0] in HEAVY), f"{path.name} imports {name}"


def loaded_by(code):
    program = f"import sys\n{code}\nprint(*sorted({{m.partition('.')[0] for m in sys.modules}}))"
    run = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=True,
                         timeout=120)  # fmt: skip
    return set(run.stdout.split())


def test_import_gpunet_is_light():
    loaded = loaded_by("import gpunet")
    assert "gpunet" in loaded
    assert not loaded & set(HEAVY)


def test_training_on_the_cpu_by_name_never_asks_for_cupy():
    loaded = loaded_by("import gpunet; gpunet.Network([2, 1], device='cpu').fit([[0, 1]], [1.0], batch_size=1)")
    assert "scipy" in loaded
    assert not loaded & set(HEAVY)


def test_every_public_name_has_a_home():
    assert {*gpunet._HOMES, "datasets", "interop", "logs", "optimizers", "plots", "schedules"} == set(gpunet.__all__)
    for name in gpunet.__all__:
        value = getattr(gpunet, name)
        assert getattr(value, "__name__", name).rpartition(".")[2] == name or name == "__version__"
    assert set(gpunet.__all__) <= set(dir(gpunet))
    # What type checkers read is the same list.
    under_type_checking = {
        name.rpartition(".")[2] for name, _ in imported(PACKAGE / "__init__.py") if name.startswith("gpunet.")
    }
    assert under_type_checking == set(gpunet.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        gpunet.nothing  # noqa: B018


def test_import_gpunet_leaves_numpy_for_later():
    assert not loaded_by("import gpunet, gpunet.cpu") & {"numpy", "scipy", "threadpoolctl"}
