"""No load path unpickles: the calls that could do so are named, and none is in the package."""

import ast
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[2] / "quant_assets"
UNPICKLERS = {"pickle", "_pickle", "cPickle", "dill", "cloudpickle", "shelve", "marshal", "skops"}
# What may be imported of a library that can also unpickle.
ALLOWED_OF_JOBLIB = {"Parallel", "cpu_count", "delayed", "parallel_config"}
LOADERS = {
    "joblib": {"load", "dump"},
    "torch": {"load"},
    "pyfunc": {"load_model", "load_pyfunc"},
    "sklearn": {"load_model"},
    "pd": {"read_pickle"},
    "pandas": {"read_pickle"},
}


def offences(source):
    """Imports of unpicklers and calls of loaders in a module's source."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [a.name for a in node.names if a.name.split(".")[0] in UNPICKLERS]
        elif isinstance(node, ast.ImportFrom):
            root = (node.module or "").split(".")[0]
            names = {a.name for a in node.names}
            if root in UNPICKLERS or (root == "joblib" and not names <= ALLOWED_OF_JOBLIB):
                found.append(f"{node.module}: {', '.join(sorted(names))}")
        elif isinstance(node, ast.Call):
            if isinstance(node.func, ast.Attribute):
                owner = ast.unparse(node.func.value).rsplit(".", 1)[-1]
                if node.func.attr in LOADERS.get(owner, set()) or node.func.attr == "read_pickle":
                    found.append(ast.unparse(node.func))
            for keyword in node.keywords:
                if keyword.arg == "allow_pickle" and ast.unparse(keyword.value) != "False":
                    found.append(f"{ast.unparse(node.func)}(allow_pickle=...)")
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("eval", "exec", "__import__"):
            found.append(ast.unparse(node.func))
    return found


def test_no_module_of_the_package_can_unpickle_anything():
    found = {str(f.relative_to(PACKAGE)): o for f in PACKAGE.rglob("*.py") if (o := offences(f.read_text()))}
    assert found == {}


def test_the_inspection_sees_what_it_looks_for():
    for source in (
        "import pickle",
        "from cloudpickle import loads",
        "import joblib\njoblib.load('x')",
        "from joblib import load",
        "import numpy as np\nnp.load('x', allow_pickle=True)",
        "import mlflow\nmlflow.pyfunc.load_model('x')",
        "import pandas as pd\npd.read_pickle('x')",
        "def f():\n    import dill",
    ):
        assert offences(source), source
    assert (
        offences("from joblib import Parallel, delayed\nimport numpy as np\nnp.load('x', allow_pickle=False)")
        == []
    )
