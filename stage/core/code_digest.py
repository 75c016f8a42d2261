"""Which code made something: a digest of the statements that a function may run, read without running any of them.

Statements are followed by name, from a function to every definition of this project that it mentions and on from there. An imported
name counts as what it stands for. Comments, docstrings and layout do not count, nor does the module in which a definition stands.
"""

import ast
import hashlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
PACKAGES = ("stage", "flows")
# Left out, since no result depends on them: parameters count by their values; the others keep, find and show results, or run workers.
ASIDE = frozenset(
    [
        *(
            f"stage.core.{name}"
            for name in (
                "code_digest",
                "durable",
                "errors",
                "json_files",
                "processes",
                "progress",
                "proxies",
                "sealed_tensors",
                "section",
                "work",
                "yaml_files",
            )
        ),
        *(f"stage.core.{path.stem}" for path in (ROOT / "stage" / "core").glob("*params.py")),
        *("flows.engines", "flows.tending", "stage.jobs.claims", "stage.jobs.heartbeat", "stage.jobs.patience", "stage.jobs.removal"),
    ]
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
    """A module by its names: what defines each, what the imported ones stand for, and the statements that importing it runs."""

    defined: dict[str, ast.stmt]
    imported: dict[str, Definition]  # from this project
    foreign: dict[str, str]  # from elsewhere, as `numpy.random.default_rng`
    effects: list[ast.stmt]


@cache
def code_digest(*functions: str) -> str:
    """Digest of the statements that functions, written as `stage.synthesis.batch:write_batch`, may run."""
    return _digest("\n".join(code_digests(*functions)))


def code_digests(*functions: str) -> list[str]:
    """The name of every definition that functions may run and the digest of its statements, `name digest`, sorted by name."""
    found = reachable(*functions)
    effects = [_effects(module) for module in {one.module for one in found}]
    return sorted({f"{one.name} {_read(one).digest}" for one in found} | {f"on-import {one.digest}" for one in effects if one.digest})


@cache
def reachable(*functions: str) -> frozenset[Definition]:
    """These functions, every definition that they mention, and what those mention in turn."""
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
    return _statements([_statement(one)], one.module)


@cache
def _effects(module: str) -> Statements:
    return _statements(_module(module).effects, module)


def _statements(statements: list[ast.stmt], module: str) -> Statements:
    used = {node.id for statement in statements for node in _nodes(statement) if isinstance(node, ast.Name)}
    mentions = {mentioned for name in used for mentioned in _mentioned(name, module)}
    text = [*map(_dumped, statements), *filter(None, (_meaning(name, module) for name in sorted(used)))]
    return Statements(_digest("\n".join(text)) if statements else "", frozenset(mentions))


def _mentioned(name: str, module: str) -> Iterator[Definition]:
    """The definitions that a name in a module stands for: all of a module where it is one, as after `from stage.report import comparison`."""
    known = _module(module)
    if name in known.defined:
        yield Definition(module, name)
    elif name in known.imported:
        whole = ".".join(known.imported[name])
        yield from (Definition(whole, inner) for inner in _module(whole).defined) if _file(whole) else [known.imported[name]]


def _meaning(name: str, module: str) -> str:
    """What an imported name stands for: its full name or, of this project, a digest of its statements. Empty for other names."""
    known = _module(module)
    if name in known.foreign:
        return f"{name} is {known.foreign[name]}"
    if name not in known.imported or name in known.defined or known.imported[name].module in ASIDE:
        return ""
    return f"{name} is {_digest(' '.join(sorted(_text(one) for one in _mentioned(name, module))))}"


def _text(one: Definition) -> str:
    return _dumped(_statement(one))


def _statement(one: Definition) -> ast.stmt:
    defined = _module(one.module).defined
    assert one.name in defined, f"{one.module} only passes {one.name} on: import it from the module that defines it"
    return defined[one.name]


@cache
def _dumped(statement: ast.stmt) -> str:
    return ast.dump(statement)


def _nodes(root: ast.AST) -> list[ast.AST]:
    """What `ast.walk` gives, in its order, in a third of the time: every worker and every flow does this at its start."""
    found = [root]
    for node in found:  # the list grows as it is read
        for name in node._fields:
            value = getattr(node, name, None)
            if isinstance(value, ast.AST):
                found.append(value)
            elif isinstance(value, list):
                found += [one for one in value if isinstance(one, ast.AST)]  # pyright: ignore[reportUnknownVariableType]
    return found


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


@cache
def _module(name: str) -> Module:
    file = _file(name)
    assert file is not None, f"{name} is no module of this project"
    tree = ast.parse(file.read_bytes())
    nodes = _nodes(tree)
    _strip_docstrings(nodes)
    module = Module({}, {}, {}, [])
    for statement in tree.body:
        _sort_in(statement, module)
    for node in nodes:  # those inside functions too
        if isinstance(node, ast.Import):
            module.foreign.update({alias.asname or alias.name.split(".")[0]: alias.name for alias in node.names})
        elif isinstance(node, ast.ImportFrom):
            named = {alias.asname or alias.name: Definition(str(node.module), alias.name) for alias in node.names}
            is_ours = str(node.module).split(".")[0] in PACKAGES
            module.imported.update(named if is_ours else {})
            module.foreign.update({} if is_ours else {name: ".".join(one) for name, one in named.items()})
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


def _strip_docstrings(nodes: list[ast.AST]) -> None:
    """Remove every string that stands alone."""
    for node in nodes:
        if isinstance(node, DOCUMENTED):
            kept = [one for one in node.body if not (isinstance(one, ast.Expr) and isinstance(one.value, ast.Constant))]
            node.body[:] = kept or ([] if isinstance(node, ast.Module) else [ast.Pass()])


@cache
def _file(module: str) -> Path | None:
    parts = module.split(".")
    place = ROOT.joinpath(*parts)
    candidates = (place.with_suffix(".py"), place / "__init__.py") if parts[0] in PACKAGES else ()
    return next((path for path in candidates if path.is_file()), None)
