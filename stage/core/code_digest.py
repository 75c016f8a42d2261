"""Which code made something: a digest of the statements that a function may run, read without running any of them.

Statements are followed by name, from a function to every definition of this project that it mentions and on from there. Comments,
docstrings and layout do not count, nor does the module in which a definition stands.
"""

import ast
import hashlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
PACKAGES = ("stage", "flows")
# They hold values, which are digested themselves, or show how far something got; no result comes from them.
ASIDE = frozenset(
    f"stage.core.{name}"
    for name in ("data_params", "errors", "model_params", "params", "processes", "progress", "proxies", "section", "synthesis_params")
)
DOCUMENTED = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Module


class Definition(NamedTuple):
    """A name at the top of a module."""

    module: str
    name: str


class Statements(NamedTuple):
    """What is known of some statements: their digest, and the definitions that they mention."""

    digest: str
    mentions: frozenset[Definition]


class Module(NamedTuple):
    """A module by its names: what defines each, where the imported ones come from, and the statements that importing it runs."""

    defined: dict[str, ast.stmt]
    imported: dict[str, Definition]
    effects: list[ast.stmt]


@cache
def code_digest(*functions: str) -> str:
    """Digest of the statements that functions, written as `stage.synthesis.batch:write_batch`, may run."""
    return hashlib.blake2b("\n".join(code_digests(*functions)).encode(), digest_size=16).hexdigest()


def code_digests(*functions: str) -> list[str]:
    """The name of every definition that functions may run and the digest of its statements, `name digest`, sorted by name."""
    found = reachable(*functions)
    effects = [_effects(module) for module in {one.module for one in found}]
    return sorted({f"{one.name} {_read(one).digest}" for one in found} | {f"on-import {one.digest}" for one in effects if one.digest})


@cache
def reachable(*functions: str) -> frozenset[Definition]:
    """Every definition that these functions mention, they themselves included, and what those mention in turn."""
    found: set[Definition] = set()
    waiting = [Definition(*function.split(":")) for function in functions]
    while waiting:
        one = waiting.pop()
        if one not in found and one.module not in ASIDE:
            found.add(one)
            waiting += _read(one).mentions | _effects(one.module).mentions
    return frozenset(found)


@cache
def _read(one: Definition) -> Statements:
    return _statements([_module(one.module).defined[one.name]], one.module)


@cache
def _effects(module: str) -> Statements:
    return _statements(_module(module).effects, module)


def _statements(statements: list[ast.stmt], module: str) -> Statements:
    mentions = {mentioned for statement in statements for mentioned in _mentioned(statement, module)}
    text = "\n".join(sorted(map(ast.dump, statements)))
    return Statements(hashlib.blake2b(text.encode(), digest_size=16).hexdigest() if statements else "", frozenset(mentions))


def _mentioned(statement: ast.stmt, module: str) -> Iterator[Definition]:
    known = _module(module)
    for name in {node.id for node in ast.walk(statement) if isinstance(node, ast.Name)}:
        if name in known.defined:
            yield Definition(module, name)
        elif name in known.imported:
            imported = known.imported[name]
            whole = ".".join(imported)  # of `from stage.report import comparison`: a module, of which everything counts
            yield from (Definition(whole, inner) for inner in _module(whole).defined) if _file(whole) else [imported]


@cache
def _module(name: str) -> Module:
    file = _file(name)
    assert file is not None, f"{name} is no module of this project"
    tree = ast.parse(file.read_bytes())
    _strip_docstrings(tree)
    module = Module({}, {}, [])
    for statement in tree.body:
        _sort_in(statement, module)
    for node in ast.walk(tree):  # those inside functions too
        if isinstance(node, ast.ImportFrom) and str(node.module).split(".")[0] in PACKAGES:
            module.imported.update({alias.asname or alias.name: Definition(str(node.module), alias.name) for alias in node.names})
    return module


def _sort_in(statement: ast.stmt, module: Module) -> None:
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        module.defined[statement.name] = statement
    elif isinstance(statement, ast.Assign | ast.AnnAssign | ast.AugAssign):
        targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
        names = [node.id for target in targets for node in ast.walk(target) if isinstance(node, ast.Name)]
        module.defined.update(dict.fromkeys(names, statement))
    elif not isinstance(statement, ast.Import | ast.ImportFrom | ast.Pass) and not _is_guard(statement):
        module.effects.append(statement)


def _is_guard(statement: ast.stmt) -> bool:
    """Whether a statement is only for type checkers, or for a module that is run as a program."""
    return isinstance(statement, ast.If) and any(name in ast.dump(statement.test) for name in ("'TYPE_CHECKING'", "'__main__'"))


def _strip_docstrings(tree: ast.Module) -> None:
    """Remove every string that stands alone."""
    for node in ast.walk(tree):
        if isinstance(node, DOCUMENTED):
            kept = [one for one in node.body if not (isinstance(one, ast.Expr) and isinstance(one.value, ast.Constant))]
            node.body[:] = kept or ([] if isinstance(node, ast.Module) else [ast.Pass()])


@cache
def _file(module: str) -> Path | None:
    parts = module.split(".")
    place = ROOT.joinpath(*parts)
    candidates = (place.with_suffix(".py"), place / "__init__.py") if parts[0] in PACKAGES else ()
    return next((path for path in candidates if path.is_file()), None)
