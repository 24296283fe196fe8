"""The rules of the house (docs/architecture.md, section 3), read from the source: who may import what, and where chance may come from."""

import ast
import subprocess
import sys
from fnmatch import fnmatch
from functools import cache
from pathlib import Path

import numpy as np
import pytest

import coterie

HOME = Path(coterie.__file__).parent
FILES = {str(path.relative_to(HOME)): path for path in sorted(HOME.rglob("*.py"))}

LONGEST = 300  # lines; a file that is longer says here why
MAY_BE_LONGER: dict[str, str] = {}
# Who may import whom, room by room: a folder of src/coterie, or a file that is a room of its own. Arrows run one way.
MAY_TOUCH: dict[str, set[str]] = {
    "errors": set(),
    "augment": {"errors"},
    "clustering": {"errors"},
    "learning": {"clustering", "errors"},
    "run": {"clustering", "errors", "__init__"},
    "images": {"run", "errors"},
    "networks": {"images", "run", "learning", "augment", "clustering", "errors"},
    "methods": {"networks", "images", "run", "learning", "augment", "clustering", "errors"},
    "evaluate": {"networks", "images", "run", "clustering", "errors"},  # networks for protocols that judge an encoder
    "report": {"run", "learning", "errors"},  # of learning its words alone, which know no torch
    "export": {"images", "run", "networks", "errors", "__init__"},  # networks for onnx.py alone
    "compare": {"evaluate", "report", "export", "images", "learning", "run", "errors"},  # of learning its words alone
    "fitting": {"methods", "networks", "images", "run", "learning", "clustering", "report", "export", "errors", "__init__"},
    "bench": {"fitting", "methods", "networks", "evaluate", "report", "images", "run", "errors", "__init__"},
    "review": {"fitting", "report", "images", "run", "errors"},
    "estimators": {"fitting", "methods", "evaluate", "report", "export", "networks", "images", "run", "errors"},
    "cli": {
        "bench",
        "review",
        "fitting",
        "methods",
        "compare",
        "evaluate",
        "report",
        "export",
        "networks",
        "images",
        "run",
        "errors",
        "__init__",
    },  # fmt: skip
    "__main__": {"cli"},
    "__init__": {"estimators", "images", "errors"},  # the public face, lazy; only its version is read from below
}
BLOCKS = [name for name in FILES if name.split("/")[0] in ("augment", "clustering", "learning", "networks", "run", "images")]


def room(name: str) -> str:
    """The room a file of src/coterie stands in."""
    return name.split("/")[0].removesuffix(".py")


@cache
def tree(name: str) -> ast.Module:
    return ast.parse(FILES[name].read_text(encoding="utf-8"))


@cache
def imports(name: str) -> set[str]:
    """Every module `name` imports anywhere, and every `module.name` it takes from one; not what only a type checker reads."""
    unseen = {id(node) for block in ast.walk(tree(name)) if isinstance(block, ast.If) and _typing(block) for node in ast.walk(block)}
    found: set[str] = set()
    for node in ast.walk(tree(name)):
        if id(node) in unseen:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name} imports relatively"
            found |= {str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Call) and _dotted(node.func).endswith(("import_module", "__import__")):
            found |= {word.value for word in node.args if isinstance(word, ast.Constant)}
    return found


def _typing(block: ast.If) -> bool:
    return _dotted(block.test).endswith("TYPE_CHECKING")


def _dotted(node: ast.AST) -> str:
    if isinstance(node, ast.Attribute):
        return f"{_dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def touches(name: str, module: str) -> bool:
    return any(found == module or found.startswith(f"{module}.") for found in imports(name))


def files(*patterns: str) -> list[str]:
    found = [name for name in FILES if any(fnmatch(name, pattern) for pattern in patterns)]
    assert found, f"no file is called like {patterns}: the rule checks nothing"
    return found


def test_the_reader_sees_imports():
    assert touches("run/devices.py", "accelerate") and touches("networks/encoder.py", "timm")
    assert touches("networks/encoder.py", "coterie.images.Images")
    assert not touches("networks/encoder.py", "coterie.run.Run"), "imported for types only"
    assert touches("cli/evaluate.py", "coterie.evaluate.protocol"), "inside a function"


def reached(name: str) -> set[str]:
    """The rooms `name` imports from, its own left out."""
    words = [module.split(".") for module in imports(name) if module.startswith("coterie.")]
    return {rest[0] if rest[0] in MAY_TOUCH else "__init__" for _, *rest in words} - {room(name)}


def test_every_room_is_on_the_plan():
    assert {room(name) for name in FILES} == set(MAY_TOUCH)


@pytest.mark.parametrize("name", FILES)
def test_arrows_run_as_planned(name):
    assert reached(name) <= MAY_TOUCH[room(name)], f"{name} reaches {sorted(reached(name) - MAY_TOUCH[room(name)])}"


def test_no_arrow_runs_in_a_circle():
    """The plan itself, but for the lazy face, is a floor plan: each room stands above all it touches."""
    left = {name: there - {"__init__"} for name, there in MAY_TOUCH.items() if name != "__init__"}
    while left:
        ground = [name for name, there in left.items() if not there & set(left)]
        assert ground, f"these rooms touch each other in a circle: {sorted(left)}"
        left = {name: there for name, there in left.items() if name not in ground}


@pytest.mark.parametrize(
    "module, only",
    [
        ("accelerate", "run/devices.py"),
        ("timm", "networks/encoder.py"),
        ("sklearn.base", "estimators/clusterer.py"),
        ("rich", "run/progress.py"),
        ("fsspec", "images/remote.py"),
        ("ray", "fitting/on_ray.py"),
        ("jinja2", "report/page.py"),
    ],
)
def test_one_room_knows_it(module, only):
    assert [name for name in FILES if touches(name, module)] == [only]


def test_only_named_sets_and_two_judges_know_torchvision():
    """Its detector and its head for segmentation judge the encoder; nothing that learns without labels uses them."""
    judges = ["evaluate/voc_detection.py", "evaluate/voc_segmentation.py"]
    assert [name for name in FILES if touches(name, "torchvision")] == [*judges, "images/named.py"]


@pytest.mark.parametrize("module", ["starlette", "uvicorn"])
def test_only_the_review_knows_a_server(module):
    assert {room(name) for name in FILES if touches(name, module)} == {"review"}


def test_only_the_terminals_door_knows_typer():
    assert {room(name) for name in FILES if touches(name, "typer")} == {"cli"}


@pytest.mark.parametrize("name", files("methods/*.py") + BLOCKS)
def test_methods_and_blocks_see_no_label_and_no_door(name):
    for module in ("evaluate", "estimators", "cli", "report", "export", "fitting"):
        assert not touches(name, f"coterie.{module}"), f"{name} imports coterie.{module}"
    if not name.startswith("images/"):
        for module in ("named", "sheets"):
            assert not touches(name, f"coterie.images.{module}"), f"{name} could read the labels of a set"
    mentions = {_dotted(node) for node in ast.walk(tree(name)) if isinstance(node, (ast.Attribute, ast.Name))}
    assert name == "images/named.py" or name == "images/opening.py" or not any(word.endswith("load_named") for word in mentions)


def test_only_devices_may_know_ranks():
    """`torch.distributed`, or what is reached through torch.nn.parallel; imports and mentions both."""
    for name in FILES:
        mentions = {_dotted(node) for node in ast.walk(tree(name)) if isinstance(node, ast.Attribute)}
        found = [word for word in mentions if word.startswith(("torch.distributed", "dist.", "nn.parallel", "torch.nn.parallel"))]
        assert name == "run/devices.py" or (not found and not touches(name, "torch.distributed")), f"{name}: {found}"
        assert name != "run/devices.py" or found, "the reader has lost the place it watches"


def test_opening_takes_only_pictures_from_a_named_set():
    taken = {_dotted(node) for node in ast.walk(tree("images/opening.py")) if isinstance(node, ast.Attribute)}
    assert "known.pictures" in taken, "the reader has lost the place it watches"
    assert not any(word.endswith((".labels", ".targets", ".target")) for word in taken)


@pytest.mark.parametrize("name", BLOCKS)
def test_blocks_do_not_know_methods(name):
    assert not touches(name, "coterie.methods")


@pytest.mark.parametrize("name", files("learning/*.py", "clustering/*.py", "networks/heads.py", "augment/*.py"))
def test_pure_blocks_know_no_run(name):
    assert not touches(name, "coterie.run") and not touches(name, "coterie.images")


RUN_WITHOUT_TORCH = {
    False: ("coterie.run.files", "coterie.run.disk", "coterie.run.machine", "coterie.run.edits", "coterie.run.acts", "coterie.run.lines"),
    True: ("coterie.run.manifest", "coterie.run.disk", "coterie.run.files", "coterie.run.acts"),
}


LIGHT = files("report/*.py", "export/*.py", "run/files.py", "run/manifest.py", "run/disk.py", "run/acts.py", "run/edits.py", "run/lines.py")
WRITES_NETWORKS = "export/onnx.py"


@pytest.mark.parametrize("name", [name for name in LIGHT if name != WRITES_NETWORKS])
def test_report_and_export_know_no_torch_and_no_method(name):
    for module in ("torch", "timm", "coterie.methods", "coterie.networks", "coterie.fitting"):
        assert not touches(name, module), f"{name} imports {module}"
    for found in imports(name):
        assert not found.startswith("coterie.run.") or found.startswith(RUN_WITHOUT_TORCH[name.startswith("run/")]), f"{name}: {found}"


@pytest.mark.parametrize("name", FILES)
def test_no_pickle(name):
    for module in ("pickle", "joblib", "dill", "cloudpickle", "shelve", "marshal"):
        assert not touches(name, module), f"{name} imports {module}"
    called = [_dotted(node.func) for node in ast.walk(tree(name)) if isinstance(node, ast.Call)]
    assert "torch.save" not in called and ("torch.load" not in called or name == "networks/weights.py")
    for node in ast.walk(tree(name)):
        if isinstance(node, ast.Call) and _dotted(node.func) == "torch.load":  # of a package's file, whose sha256 is known
            given = {word.arg: getattr(word.value, "value", None) for word in node.keywords}
            assert given.get("weights_only") is True, f"{name}:{node.lineno} torch.load without weights_only=True"
        if isinstance(node, ast.Call) and _dotted(node.func).endswith(("np.load", "numpy.load")):
            given = {word.arg: getattr(word.value, "value", None) for word in node.keywords}
            assert given.get("allow_pickle") is False, f"{name}:{node.lineno} np.load without allow_pickle=False"


# ---- chance: every draw has a generator

DRAWS = {"rand", "randn", "randint", "randperm", "multinomial", "bernoulli", "normal", "poisson", "rand_like", "randn_like", "randint_like"}
IN_PLACE = {
    "uniform_",
    "normal_",
    "random_",
    "bernoulli_",
    "exponential_",
    "kaiming_normal_",
    "kaiming_uniform_",
    "xavier_uniform_",
    "trunc_normal_",
}
MAY_DRAW_GLOBALLY = {
    ("networks/heads.py", "uniform_"): "initial weights, drawn inside run.new, which reseeds the global generator",
    ("networks/backbones/alexnet.py", "kaiming_normal_"): "initial weights, drawn inside run.new",
    ("networks/backbones/cifar_resnet.py", "kaiming_normal_"): "initial weights, drawn inside run.new",
    ("networks/backbones/wide_resnet.py", "kaiming_normal_"): "initial weights, drawn inside run.new",
    ("networks/heads.py", "normal_"): "initial weights, drawn inside run.new",
    ("networks/backbones/alexnet.py", "normal_"): "initial weights, drawn inside run.new",
    ("evaluate/beginning.py", "normal_"): "initial weights, drawn inside run.new",
    ("run/run.py", "manual_seed"): "run.epochs reseeds the global generator of dropout at each epoch, inside a fork",
}


def global_draws(module: ast.Module) -> list[tuple[int, str]]:
    """(line, function) of every draw from a global generator: torch's, numpy's, Python's."""
    found = []
    for node in ast.walk(module):
        if not isinstance(node, ast.Call):
            continue
        whole = _dotted(node.func)
        last = node.func.attr if isinstance(node.func, ast.Attribute) else whole
        seeded = any(word.arg in ("generator", "rng") for word in node.keywords)
        torch_draw = last in DRAWS and not whole.startswith(("np.random.", "numpy.random.", "random."))
        if (torch_draw or last in IN_PLACE) and not seeded and "rng." not in f"{whole}.":
            found.append((node.lineno, last))
        elif whole.startswith(("np.random.", "numpy.random.")):
            if last == "default_rng" and not (node.args or node.keywords):
                found.append((node.lineno, "default_rng without a seed"))
            elif last not in ("default_rng", "Generator", "SeedSequence"):
                found.append((node.lineno, whole))
        elif whole.startswith("random.") and last not in ("Random",):
            found.append((node.lineno, whole))
        elif whole in ("torch.manual_seed", "torch.seed", "torch.cuda.manual_seed_all"):
            found.append((node.lineno, last))
    return found


@pytest.mark.parametrize("name", [name for name in FILES if name != "run/seeding.py"])
def test_no_draw_without_a_generator(name):
    found = [(line, what) for line, what in global_draws(tree(name)) if (name, what) not in MAY_DRAW_GLOBALLY]
    assert not found, f"{name} draws from a global generator at {found}"


def test_the_reader_sees_draws():
    draws = ["torch.randn(3)", "x.uniform_(0, 1)", "np.random.shuffle(x)", "random.random()", "torch.randperm(9)", "x.multinomial(2)"]
    clean = ["torch.randn(3, generator=g)", "x.multinomial(3, generator=g)", "np.random.default_rng(0)", "rng.normal(2)", "x.uniform(0, 1)"]
    assert [line for line, _ in global_draws(ast.parse("\n".join(draws)))] == [1, 2, 3, 4, 5, 6]
    assert global_draws(ast.parse("\n".join(clean))) == []


def test_allowed_draws_are_still_there():
    for (name, what), reason in MAY_DRAW_GLOBALLY.items():
        assert what in [found for _, found in global_draws(tree(name))], f"{name} no longer needs its exception ({reason})"


# ---- shape


@pytest.mark.parametrize("name", FILES)
def test_files_are_short(name):
    lines = len(FILES[name].read_text(encoding="utf-8").splitlines())
    assert lines <= LONGEST or name in MAY_BE_LONGER, f"{name} has {lines} lines"


def test_exceptions_are_needed():
    for name in MAY_BE_LONGER:
        assert len(FILES[name].read_text(encoding="utf-8").splitlines()) > LONGEST, f"{name} is short again: take it from the list"


def test_no_drawer_for_odds_and_ends():
    banned = {"utils", "util", "helpers", "helper", "common", "misc"}
    assert not [name for name in FILES if banned & set(Path(name).with_suffix("").parts)]


@pytest.mark.parametrize("name", FILES)
def test_public_things_say_what_they_are(name):
    if not FILES[name].read_text().strip():
        return
    assert ast.get_docstring(tree(name)), f"{name} does not say what it is for"


# ---- what a process loads

HEAVY = ["torch", "numpy", "sklearn", "timm", "accelerate", "matplotlib", "scipy", "PIL", "pyarrow"]


def loaded(code: str, *names: str) -> list[str]:
    """Which of these modules are there after `code` in a fresh process."""
    tell = f"\nimport sys; print('LOADED', *[name for name in {list(names)!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code + tell], capture_output=True, text=True, check=True)
    line = [line for line in done.stdout.splitlines() if line.startswith("LOADED")][-1]
    return line.split()[1:]


def verb(*words: str) -> str:
    """Python code that runs a verb of the command line and fails unless it ends with status 0."""
    call = "try:\n    coterie.cli.main()\nexcept SystemExit as end:\n    assert not end.code, end.code"
    return f"import sys, coterie.cli\nsys.argv = {['coterie', *words]!r}\n{call}"


def test_import_loads_nothing_heavy():
    assert loaded("import coterie", *HEAVY) == []
    assert loaded("import decimal", "decimal") == ["decimal"], "the check itself works"


def test_help_loads_nothing_heavy():
    assert loaded(verb("--help"), *HEAVY) == []


@pytest.mark.parametrize("words", [["methods"], ["presets"]], ids=" ".join)
def test_small_verbs_load_no_network(words, tmp_path, monkeypatch):
    monkeypatch.setenv("COTERIE_CACHE", str(tmp_path))
    assert not {"timm", "accelerate", "sklearn", "matplotlib"} & set(loaded(verb(*words), *HEAVY))


def test_predicting_one_picture_loads_little(tmp_path, monkeypatch):
    from PIL import Image

    from coterie import fitting
    from coterie.run.devices import Devices

    rng = np.random.default_rng(0)
    images, plan = fitting.plan(
        rng.integers(0, 255, (12, 16, 16, 3), dtype=np.uint8), "scan", clusters=2, preset="quick",
        settings={"image_size": 16, "pretext_epochs": 1, "cluster_epochs": 1, "cluster_steps": 1, "selflabel_epochs": 0},
    )  # fmt: skip
    fitting.fit(images, plan, tmp_path / "run", devices=Devices("cpu", "fp32", 1))
    Image.fromarray(rng.integers(0, 255, (20, 20, 3), dtype=np.uint8)).save(tmp_path / "one.png")
    (tmp_path / "list.txt").write_text("one.png\n")
    monkeypatch.chdir(tmp_path)
    code = verb("predict", "run", "list.txt", "-o", "out.csv", "--cache", "cache", "--threads", "1")
    found = loaded(code, *HEAVY, "torchvision")
    assert (tmp_path / "out.csv").exists() and "torch" in found
    assert not {"timm", "accelerate", "matplotlib", "sklearn", "torchvision"} & set(found), found
