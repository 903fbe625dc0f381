"""The shape of the project: which way imports point, no cycles, sizes, and what both install files install."""

import ast
import statistics
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LAYERS = ["torch_utils", "metrics", "stylegan2_pipeline", "stylegan2_pipeline.commands", "scripts",
          "benchmarks"]  # lowest first
SCRIPTS = ["dataset_tool", "train", "generate"]
PACKAGES = ["stylegan2_pipeline", "metrics", "torch_utils", "benchmarks"]


def module_name(path):
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    return name.removesuffix(".__init__")


MODULES = {module_name(path): path for folder in PACKAGES for path in sorted((ROOT / folder).rglob("*.py"))}
MODULES |= {name: ROOT / f"{name}.py" for name in SCRIPTS}
TREES = {name: ast.parse(path.read_text()) for name, path in MODULES.items()}


def imported(nodes):
    """Names of this project's modules that the import statements among nodes name."""
    for node in nodes:
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, "imports are absolute"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            yield name if name in MODULES else name.rsplit(".", 1)[0]


def layer(name):
    if name in SCRIPTS or name in ("stylegan2_pipeline.__main__", "metrics.__main__"):
        return LAYERS.index("scripts")
    if name.startswith("stylegan2_pipeline.commands"):
        return LAYERS.index("stylegan2_pipeline.commands")
    return LAYERS.index(name.split(".")[0])


def at_load(tree):
    """Import statements that run when the module is loaded: not those within functions or for type checkers only."""
    found, open_nodes = [], list(tree.body)
    while open_nodes:
        node = open_nodes.pop()
        if isinstance(node, ast.Import | ast.ImportFrom):
            found.append(node)
        elif isinstance(node, ast.If) and "TYPE_CHECKING" not in ast.dump(node.test):
            open_nodes += node.body + node.orelse
        elif isinstance(node, ast.Try | ast.With | ast.ClassDef):
            open_nodes += node.body
    return found


def test_imports_point_one_way():
    wrong = [f"{name} -> {target}" for name, tree in TREES.items() for target in imported(ast.walk(tree))
             if target in MODULES and layer(target) > layer(name)
             and not (name == "stylegan2_pipeline.commands.demo" and target == "stylegan2_pipeline.__main__")]
    assert not wrong


def test_no_import_cycles():
    graph = {name: {target for target in imported(at_load(tree)) if target in MODULES} for name, tree in TREES.items()}
    done = set()

    def visit(name, path):
        assert name not in path, f"cycle: {' -> '.join([*path, name])}"
        if name not in done:
            for target in graph[name]:
                visit(target, [*path, name])
            done.add(name)

    for name in graph:
        visit(name, [])
    assert sum(map(len, graph.values())) > 50


def test_commands_load_without_torch_or_numpy():
    """So that --help is instant: whatever a command loads, directly or not, is light."""
    heavy = {"torch", "numpy", "scipy", "PIL", "requests", "tensorboard"}

    def loaded(name, seen):
        if name in seen or name not in TREES:
            return
        seen.add(name)
        for node in at_load(TREES[name]):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else [node.module]
            assert not {n.split(".")[0] for n in names} & heavy, f"{name} loads {names}"
        for target in imported(at_load(TREES[name])):
            loaded(target, seen)

    for name in TREES:
        if name.startswith("stylegan2_pipeline.commands") or name == "stylegan2_pipeline.__main__":
            loaded(name, set())


def test_packages_export_nothing_themselves():
    for name, path in MODULES.items():
        if path.name == "__init__.py":
            body = [node for node in TREES[name].body if not isinstance(node, ast.Expr)]
            assert all(isinstance(node, ast.Assign) for node in body), name
            assert ast.get_docstring(TREES[name]), name


def test_sizes_stay_readable():
    """Modules up to 350 lines, functions up to 80, half of them under 10: beyond, it is two things."""
    long = {name: len(path.read_text().splitlines()) for name, path in MODULES.items()}
    assert not {name: n for name, n in long.items() if n > 350}
    functions = [node for tree in TREES.values() for node in ast.walk(tree)
                 if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    lengths = {f"{f.name}:{f.lineno}": f.end_lineno - f.lineno + 1 for f in functions}
    assert not {name: n for name, n in lengths.items() if n > 80}
    assert statistics.median(lengths.values()) <= 10


@pytest.mark.parametrize("name", sorted(MODULES))
def test_every_module_says_what_it_is(name):
    assert ast.get_docstring(TREES[name])


def test_every_module_of_the_flow_is_in_the_overview():
    overview = ast.get_docstring(TREES["stylegan2_pipeline"])
    stations = {name.split(".")[1] for name in MODULES if name.startswith("stylegan2_pipeline.")} - {"__main__"}
    assert not {name for name in stations if name not in overview}


def test_every_golden_file_is_tested():
    tests = "".join(path.read_text() for path in (ROOT / "tests").glob("test_*.py"))
    files = {path.stem for path in (ROOT / "tests" / "golden").iterdir() if path.suffix in (".npz", ".pkl")}
    assert len(files) >= 15 and not {name for name in files if name not in tests}


def test_conda_and_pip_install_the_same():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    environment = (ROOT / "environment.yml").read_text()
    assert "--editable .[dev]" in environment and "--constraint constraints.txt" in environment
    assert "dev" in project["optional-dependencies"]
    names = {item.split(">")[0] for item in project["dependencies"]}
    assert names == {"torch", "ninja", "click", "pillow", "numpy", "scipy", "tensorboard", "requests",
                     "rich"}
    assert "torch==2.13.0" in (ROOT / "constraints.txt").read_text()
