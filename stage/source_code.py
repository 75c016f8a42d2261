"""Which code made something: a digest over the modules that a module is built on, read without running any of them."""

import ast
import hashlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).parent
# They hold values, which are digested themselves, or show how far something got; no pixel comes from them.
ASIDE = frozenset({"stage.params", "stage.progress", "stage.faults"})


@cache
def code_of(module: str) -> str:
    """Digest of a module of `stage` and of all that it imports of `stage`; comments and layout do not count."""
    digest = hashlib.blake2b(digest_size=16)
    for name in closure(module):
        digest.update(f"{name}\0{ast.dump(_parsed(name))}\n".encode())
    return digest.hexdigest()


def closure(module: str) -> list[str]:
    """The modules of `stage` that importing a module runs, sorted, without those that decide nothing."""
    found: set[str] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name not in found | ASIDE:
            found.add(name)
            waiting += _imported(name)
    return sorted(found)


def _imported(module: str) -> Iterator[str]:
    for node in ast.walk(_parsed(module)):
        if isinstance(node, ast.ImportFrom) and _is_ours(str(node.module)):
            parts = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (part if _file(part) else str(node.module) for part in parts)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if _is_ours(alias.name))


def _is_ours(module: str) -> bool:
    return module.split(".")[0] == PACKAGE.name


def _file(module: str) -> Path | None:
    place = PACKAGE.parent.joinpath(*module.split("."))
    return next((path for path in (place.with_suffix(".py"), place / "__init__.py") if path.is_file()), None)


@cache
def _parsed(module: str) -> ast.Module:
    file = _file(module)
    assert file is not None, f"{module} was imported from no file"
    return ast.parse(file.read_bytes())
