"""The import graph is the one that docs/architecture.md draws, and no file or list of parameters has grown too long."""

import ast
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parents[1]
PACKAGES = ("negot_jax", "experiments", "launch")
FILES = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
LONGEST = 350  # Lines.
MOST = 7  # Parameters.

# Every package may import these.
SHARED = {"config", "cache", "hub", "progress"}
# What else each package may import of the project, besides itself.
MAY_IMPORT = {
    "config": set(),
    "cache": set(),
    "hub": set(),
    "progress": set(),
    "game": set(),
    "models": set(),
    "roofline": {"models"},
    "solvers": {"game"},
    "catalog": {"game"},
    "language": {"game", "catalog"},
    "rl": {"game", "catalog", "language", "models"},
    "training": {"game", "catalog", "language", "models", "roofline", "rl"},
    "evaluation": {"game", "solvers", "catalog", "language", "models", "rl"},
}
MAY_IMPORT["run"] = set(MAY_IMPORT)
for package in MAY_IMPORT.keys() - SHARED:
    MAY_IMPORT[package] |= SHARED
ABOVE = {"experiments": {*MAY_IMPORT, "experiments"}, "launch": {*MAY_IMPORT, "experiments", "launch"}}


def _package(path: pathlib.Path) -> str:
    """The name by which the table knows a file's package."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return parts[1] if parts[0] == "negot_jax" and len(parts) > 1 else parts[0]


def _imported(path: pathlib.Path) -> set[str]:
    """The project's packages that a file imports, wherever in it."""
    modules = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            modules |= {f"{node.module}.{alias.name}" for alias in node.names}
    parts = [module.split(".") for module in modules if module.split(".")[0] in PACKAGES]
    return {names[1] if names[0] == "negot_jax" else names[0] for names in parts}


@pytest.mark.parametrize("package", sorted({_package(path) for path in FILES} - {"__init__"}))
def test_imports_go_one_way(package):
    allowed = {**MAY_IMPORT, **ABOVE}[package] | {package}
    for path in FILES:
        if _package(path) == package:
            assert _imported(path) <= allowed, path


def _reached(path: pathlib.Path) -> set[str]:
    """The project's packages that a test imports, itself or through helpers of the tests."""
    found, names = _imported(path), set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "tests":
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    helpers = (ROOT / (name.replace(".", "/") + ".py") for name in names)
    return found.union(*(_reached(helper) for helper in helpers if helper.exists() and helper != path))


@pytest.mark.parametrize("package", sorted(MAY_IMPORT.keys() - SHARED - {"run"}))
def test_tests_of_the_library_need_no_run_and_no_command(package):
    for path in sorted((ROOT / "tests" / package).rglob("*.py")):
        assert not _reached(path) & {"run", "experiments", "launch"}, path


def test_the_graph_has_no_cycle():
    done: set[str] = set()
    while rest := {package: needs - done for package, needs in MAY_IMPORT.items() if package not in done}:
        free = {package for package, needs in rest.items() if not needs}
        assert free, f"a cycle among {sorted(rest)}"
        done |= free


def test_the_game_knows_no_text_and_no_model():
    """Only jax, flax.struct and numpy, besides Python itself."""
    for path in sorted((ROOT / "negot_jax" / "game").glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) else []
            assert not {name.split(".")[0] for name in names} & {"optax", "sentencepiece", "tensorflow_datasets"}, path


def test_no_file_is_too_long():
    lengths = {path: len(path.read_text().splitlines()) for path in [*FILES, *(ROOT / "tests").rglob("*.py")]}
    assert not {path: lines for path, lines in lengths.items() if lines > LONGEST}


def test_no_function_has_too_many_parameters():
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
                own = node.args
                names = [*own.posonlyargs, *own.args, *own.kwonlyargs, *filter(None, (own.vararg, own.kwarg))]
                assert len(names) <= MOST, f"{path}:{node.lineno}"
