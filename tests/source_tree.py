"""What the source code says about itself, read without running it: imports, and the keys of params.yaml it reads."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
VERBS = ("prepare", "pretrain", "train", "synthesize", "segment", "evaluate")
ASIDE = ("ablate",)  # verbs of ablation/dvc.yaml, which `dvc repro` leaves alone
Function = ast.FunctionDef | ast.AsyncFunctionDef


class Import(NamedTuple):
    """`local` is bound to `name` of `module`, or to `module` itself where `name` is None."""

    module: str
    name: str | None
    local: str


@cache
def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def sources(*folders: str) -> list[Path]:
    """Every Python file below these folders of the repository."""
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def imports(path: Path) -> Iterator[Import]:
    """Every import of a file, those inside functions too."""
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.Import):
            yield from (Import(alias.name, None, alias.asname or alias.name.split(".")[0]) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}:{node.lineno} imports relatively; write the whole name."
            yield from (Import(str(node.module), alias.name, alias.asname or alias.name) for alias in node.names)


def module_path(module: str) -> Path | None:
    """The file of a module of this repository, or None."""
    place = ROOT.joinpath(*module.split("."))
    return next((path for path in (place.with_suffix(".py"), place / "__init__.py") if path.exists()), None)


def keys_read(path: Path) -> set[str]:
    """The keys that a flow reads of whole `Params`, as `method.crop`, in its file and in the functions it hands the whole to."""
    found: set[str] = set()
    seen: set[tuple[Path, str]] = set()
    waiting = [(path, node.name) for node in parse(path).body if isinstance(node, Function)]
    while waiting:
        place = waiting.pop()
        if place not in seen:
            seen.add(place)
            attributes, calls = _uses(*place)
            found |= attributes
            waiting += calls
    return found


def _uses(path: Path, name: str) -> tuple[set[str], list[tuple[Path, str]]]:
    """What one function reads of its whole `Params`, and the functions it hands them to."""
    function = next((node for node in ast.walk(parse(path)) if isinstance(node, Function | ast.ClassDef) and node.name == name), None)
    assert function is not None, f"{path}: `{name}` is handed the whole Params and is not a function there; hand it sections."
    names = set(_whole_params(function))
    inner = {node.value for node in ast.walk(function) if isinstance(node, ast.Attribute)}
    attributes = {key for node in ast.walk(function) if node not in inner and (key := _dotted(node, names))}
    calls: list[tuple[Path, str]] = []
    for call in (node for node in ast.walk(function) if isinstance(node, ast.Call)):
        if any(_is_name(argument, names) for argument in [*call.args, *(keyword.value for keyword in call.keywords)]):
            assert isinstance(call.func, ast.Name), (
                f"{path}:{call.lineno} hands the whole Params where it cannot be followed; hand on sections."
            )
            calls.append(_definition(path, call.func.id))
    return attributes, calls


def _dotted(node: ast.AST, names: set[str]) -> str:
    """`method.crop` of `params.method.crop`, where `params` is one of the names; nothing of anything else."""
    if not isinstance(node, ast.Attribute):
        return ""
    below = _dotted(node.value, names)
    return node.attr if _is_name(node.value, names) else below and f"{below}.{node.attr}"


def _whole_params(function: ast.AST) -> Iterator[str]:
    for node in ast.walk(function):
        if isinstance(node, ast.arg) and node.annotation is not None and ast.unparse(node.annotation) == "Params":
            yield node.arg
        elif isinstance(node, ast.Assign) and ast.unparse(node.value).startswith("load_params("):
            yield from (target.id for target in node.targets if isinstance(target, ast.Name))


def _definition(path: Path, name: str) -> tuple[Path, str]:
    item = next((item for item in imports(path) if item.local == name), None)
    if item is None:
        return path, name
    target = module_path(item.module)
    assert target is not None, f"{path} hands the whole Params to `{name}`, which is not ours; hand it sections."
    return target, item.name or name


def _is_name(node: ast.AST, names: set[str]) -> bool:
    return isinstance(node, ast.Name) and node.id in names


def identifiers(path: Path) -> Iterator[tuple[str, int]]:
    """Every name that a file defines or uses, with its line."""
    for node in ast.walk(parse(path)):
        for field in ("id", "attr", "arg", "name", "asname"):
            value = getattr(node, field, None)
            if isinstance(value, str):
                yield value, getattr(node, "lineno", 0)
