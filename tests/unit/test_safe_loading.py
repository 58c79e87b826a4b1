"""Nothing that is read from a file is executed, but for configs; in custom/, scripts/, the configs and MONAI's own."""

from __future__ import annotations

import ast
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import monai
import pytest
import torch
import yaml
from ignite.engine import Engine
from monai.bundle.config_parser import CheckKeyDuplicatesYamlLoader
from monai.handlers import CheckpointLoader

from scripts.inspect import REFERENCE, strings
from scripts.tiny import ROOT

SOURCES = sorted(
    path for folder in ("custom", "scripts") for path in (ROOT / folder).rglob("*.py") if "cache" not in str(path)
)
CONFIGS = sorted(ROOT.glob("bundles/*/configs/*.json"))
PICKLES = {"pickle", "_pickle", "cPickle", "cloudpickle", "dill", "joblib", "jsonpickle", "marshal", "shelve"}
NETWORK = {"socket", "ssl", "urllib", "http", "requests", "ftplib", "smtplib", "huggingface_hub", "httpx", "aiohttp"}
RUNS_TEXT = {"eval", "exec", "compile", "__import__"}
SHELL = {"os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput"}
TORCHSCRIPT = {"torch.jit.load"}
UNPACKS = {"extract", "extractall", "unpack_archive"}
# Where each is what the file is for: its own exports checked, archives unzipped after a check, releases and servers.
ALLOWED = {
    "scripts/release_worker.py": {"torch.jit.load"},
    "scripts/archives.py": {"extractall"},
    "scripts/release_outside.py": {"urllib.error", "urllib.request"},
    "scripts/release_configs.py": {"socket"},
    "scripts/label.py": {"socket"},
    "scripts/push.py": {"huggingface_hub"},
}


def unsafe(text: str) -> Iterator[str]:
    """What of Python source executes what it reads, unpacks an archive or can reach another machine."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield from unsafe_import(node)
        elif isinstance(node, ast.Name | ast.Attribute):
            name = ast.unparse(node)
            if name in RUNS_TEXT | SHELL | TORCHSCRIPT or name.split(".")[-1] in UNPACKS:
                yield name.split(".")[-1] if name.split(".")[-1] in UNPACKS else name
        elif isinstance(node, ast.Call):
            yield from unsafe_call(node)


def unsafe_import(node: ast.Import | ast.ImportFrom) -> Iterator[str]:
    """Modules that unpickle or connect, and loaders taken out of their modules, where nothing would recognise them."""
    module = getattr(node, "module", None)
    names = [alias.name for alias in node.names] if module is None else [module]
    yield from (name for name in names if name.split(".")[0] in PICKLES | NETWORK and not getattr(node, "level", 0))
    for alias in node.names:
        if (module, alias.name) in (("torch", "load"), ("numpy", "load"), ("yaml", "load"), ("os", "system")):
            yield f"{module}.{alias.name}"


def unsafe_call(node: ast.Call) -> Iterator[str]:
    """Loaders without the argument that makes them safe, and subprocesses in a shell."""
    name, given = ast.unparse(node.func), {one.arg: ast.unparse(one.value) for one in node.keywords}
    if name.endswith("torch.load") and given.get("weights_only") != "True":
        yield "torch.load"
    if name.split(".")[0] in ("np", "numpy") and given.get("allow_pickle", "False") != "False":
        yield "np.load"
    if name.startswith("yaml.") and name.split(".")[1] in ("load", "load_all", "full_load", "unsafe_load"):
        yield "yaml.load"
    if given.get("shell", "False") != "False":
        yield "shell"
    if name.endswith("add_safe_globals") or (name.endswith("safe_globals") and ast.unparse(node.args) != "[Namespace]"):
        yield "safe_globals"


SNIPPETS = {
    "torch.load(p)": ["torch.load"], "torch.load(p, weights_only=False)": ["torch.load"],
    "torch.load(p, weights_only=flag)": ["torch.load"], "torch.load(p, weights_only=True)": [],
    "from torch import load": ["torch.load"], "import pickle": ["pickle"], "from pickle import loads": ["pickle"],
    "np.load(p, allow_pickle=True)": ["np.load"], "np.load(p, mmap_mode='r')": [], "yaml.load(t, L)": ["yaml.load"],
    "yaml.safe_load(t)": [], "eval(t)": ["eval"], "f = exec": ["exec"], "ast.literal_eval(t)": [], "network.eval()": [],
    "subprocess.run(t, shell=True)": ["shell"], "os.system(t)": ["os.system"], "subprocess.run([t])": [],
    "file.extractall(p)": ["extractall"], "shutil.unpack_archive(p)": ["unpack_archive"],
    "import urllib.request": ["urllib.request"], "from .http import x": [], "torch.jit.load(p)": ["torch.jit.load"],
    "torch.serialization.safe_globals([Path])": ["safe_globals"], "safe_globals([Namespace])": [],
}  # fmt: skip


@pytest.mark.parametrize("snippet", SNIPPETS)
def test_the_search_sees_what_it_looks_for(snippet: str) -> None:
    assert list(unsafe(snippet)) == SNIPPETS[snippet]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_source_executes_nothing_that_it_reads(path: Path) -> None:
    assert set(unsafe(path.read_text(encoding="utf-8"))) == ALLOWED.get(str(path.relative_to(ROOT)), set())


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_config_executes_what_it_reads(path: Path) -> None:
    for place, kind, text in strings(json.loads(path.read_text(encoding="utf-8"))):
        source = REFERENCE.sub("REFERENCE", text.removeprefix("$")).strip()
        assert kind != "macro" and not list(unsafe(source)), place
        assert kind != "target" or not source.endswith(("load", "loads")), place


def test_monai_itself_unpickles_nothing_that_our_configs_use() -> None:
    """Its exceptions: it evaluates configs, and two modules unpickle that no config here names."""
    folder, found = Path(monai.__file__).parent, set()
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                name, keywords = ast.unparse(node.func), [ast.unparse(keyword) for keyword in node.keywords]
                unpickles = name in ("pickle.load", "pickle.loads", "cloudpickle.load")
                if unpickles or (name == "torch.load" and "weights_only=True" not in keywords):
                    found.add(path.relative_to(folder).as_posix())
    assert found <= {"auto3dseg/utils.py", "data/dataset.py"}
    used = {text for path in CONFIGS for _, _, text in strings(json.loads(path.read_text(encoding="utf-8")))}
    assert not [text for text in used if "auto3dseg" in text or "PersistentDataset" in text or "LMDBDataset" in text]


class Trap:
    """An object that makes a folder when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (str(self.folder),)


def test_monais_checkpoint_loader_and_yaml_reader_spring_no_trap(tmp_path: Path) -> None:
    torch.save({"weight": Trap(tmp_path / "sprung")}, tmp_path / "weights.pt")
    engine = Engine(lambda engine, batch: None)
    CheckpointLoader(str(tmp_path / "weights.pt"), {"weight": torch.nn.Linear(1, 1)}).attach(engine)
    with pytest.raises(Exception, match="Weights only load failed"):
        engine.run([0])
    assert not (tmp_path / "sprung").exists() and issubclass(CheckKeyDuplicatesYamlLoader, yaml.SafeLoader)
    with pytest.raises(yaml.constructor.ConstructorError):
        yaml.load("!!python/object/apply:os.mkdir [x]", CheckKeyDuplicatesYamlLoader)
