"""The record of a withdrawal in `recalled.yaml`.

The next `dvc repro` does the rest: `prepare` leaves out what was withdrawn, and samples made from it are planned anew
(stage/datasets/recalled.py).
"""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock
from pydantic import ValidationError
from ruamel.yaml import YAML

from stage.core.durable import whole_file
from stage.core.errors import Refusal
from stage.core.paths import WITHDRAWALS
from stage.core.synthesis_params import Synthesize
from stage.datasets.recalled import Recall, place_key, read_recalls
from stage.datasets.table import read_catalog
from stage.datasets.windows import TURNS
from stage.lineage.database import Database, Row, rows
from stage.synthesis.backgrounds import Backgrounds
from stage.synthesis.plan import background_pool, defects_of
from stage.synthesis.source import read_source

HEADER = "# What was withdrawn. `stage recall` adds to this list, git keeps it, and taking a line out takes it back (docs/lineage.md).\n"
_RECORDS = """
SELECT c.category, c.defect, c.source_split, c."group", c.image_path, c.image_sha256, coalesce(c.mask_path, '') AS mask_path,
    coalesce(c.mask_sha256, '') AS mask_sha256, coalesce(c.prepared_area, 0) AS prepared_area
FROM catalog c JOIN versions v USING (version) WHERE c.status = 'accepted'
    AND CASE WHEN $kind = 'image' THEN (c.image_path, c.image_sha256) = ($path, $sha256) ELSE (c.mask_path, c.mask_sha256) = ($path, $sha256) END
ORDER BY v.place DESC LIMIT 1
"""


def records(database: Database, sources: Iterable[Row], reason: str, data: Path, params: Synthesize) -> list[Recall]:
    """The records of these rows of `impact`'s sources, each once; a recalled photograph's mask has no record of its own."""
    today = datetime.now(UTC).date().isoformat()
    found: dict[tuple[str, str, str], Recall] = {}
    for row in sorted(sources, key=lambda row: row["kind"]):
        kind, path, sha256 = key = (row["kind"], row["path"], row["sha256"])
        more: dict[str, Any] = {name: row[name] for name in ("category", "defect")} if kind == "sample" else {}
        if kind in ("image", "mask"):
            more = next(iter(rows(database, _RECORDS, {"kind": kind, "path": path, "sha256": sha256})), {})
        if kind == "mask" and ("image", more.get("image_path"), more.get("image_sha256")) in found:
            continue
        if kind == "image" and (folder := data / "prepare" / str(more.get("category"))).is_dir():
            more["places"] = places_of(folder, sha256, params)
        found[key] = _recall(kind=kind, path=path, sha256=sha256, reason=reason, date=today, **more)
    return [*found.values()]


def _recall(**values: Any) -> Recall:
    try:
        return Recall(**values)
    except ValidationError as error:
        told = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
        raise Refusal(f"Expected a withdrawal that {WITHDRAWALS} can hold, found {told}. Give another --reason, of one line.") from None


def places_of(folder: Path, sha256: str, params: Synthesize) -> dict[str, int]:
    """The places of a normal photograph among those most like each defect's, in a prepared category; empty if no plan uses them.

    Plans use them with `background: nearest`, and with any `missed_share`, since rows for missed defects always draw that way.
    """
    source = read_source(folder)
    has_nearest = params.background == "nearest" or bool(params.missed_share)
    if not has_nearest or sha256 not in source.backgrounds:
        return {}
    catalog = read_catalog(folder / "catalog.parquet")
    backgrounds = Backgrounds(background_pool(catalog), source, params)
    number = next(number for number, one in enumerate(backgrounds.normals) if one.image_sha256 == sha256)
    defects = [one for some in defects_of(catalog).values() for one in some]
    near = {place_key(one.image_sha256, turned): backgrounds.nearest(one, turned) for one in defects for turned in range(TURNS)}
    return {key: some.index(number) for key, some in near.items() if number in some}


def add(new: Sequence[Recall], path: Path = WITHDRAWALS) -> None:
    """Add withdrawals to the file, keeping comments; raises Refusal if all of them are in it. Two at once are both recorded."""
    lock = path.parent / ".spool" / "recalled.lock"  # where neither git nor DVC looks
    lock.parent.mkdir(exist_ok=True)
    with FileLock(lock):
        _add(new, path)


def _add(new: Sequence[Recall], path: Path) -> None:
    known = {(one.kind, one.path, one.sha256): one for one in read_recalls(path)}
    fresh = [one for one in new if (one.kind, one.path, one.sha256) not in known]
    if not fresh:
        told = known[new[0].kind, new[0].path, new[0].sha256]
        raise Refusal(f"Expected something to recall, found {told.path} in {path} already, since {told.date}: {told.reason}")
    yaml = YAML()
    yaml.width = 1000
    listed = (yaml.load(path.read_text(encoding="utf-8")) if path.exists() else None) or []
    listed += [one.model_dump(exclude_defaults=True) for one in fresh]
    with whole_file(path) as partial, partial.open("w", encoding="utf-8") as file:
        if not path.exists():
            file.write(HEADER)
        yaml.dump(listed, file)
