"""Withdraws a photograph, a mask, a texture or a sample: what it touched in every version, and the record in `recalled.yaml`.

The next `dvc repro` does the rest: `prepare` leaves it out, and what was made from it is planned anew (stage/datasets/recalled.py).
"""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from stage.core.durable import whole_file
from stage.core.errors import Refusal
from stage.core.synthesis_params import Synthesize
from stage.datasets.recalled import FILE, Recall, place_key, read_recalls
from stage.lineage.contents import History
from stage.lineage.database import Answer, Database, Row, rows
from stage.lineage.down import NETWORKS, USES, down, networks_of, touch, touched_by
from stage.lineage.up import SAMPLE, unknown_sample
from stage.lineage.versions import WORKSPACE

HEADER = "# What was withdrawn. `stage recall` adds to this list, git keeps it, and taking a line out takes it back (docs/lineage.md).\n"
BASE = (
    "A base that was trained from scratch has seen it: every network and every sample on that base is tainted, in all categories. "
    "The next `dvc repro` trains the base and all adapters again, which takes as long as the first time."
)
UNREAD = "What a version holds that could not be read is not told here: see `not read`."


def impact(database: Database, history: History, source: str, *, whole: bool = True) -> Answer:
    """What a withdrawal of a source, as `down` takes it, or of a sample, by its id, touches; raises Refusal for what nobody knows.

    Unless `whole`, `every_sample` is as `down` gives it.
    """
    told = _of_sample(database, history, source) if SAMPLE.fullmatch(source) else down(database, history, source, whole=whole)
    if not told["source"]:
        raise Refusal(
            f"Expected a photograph, a mask, a texture or a sample to recall, found the network {source}: recall what it should not have "
            "been trained on, or change params.yaml, and run `dvc repro`."
        )
    has_base = any(row["kind"] == "base" for row in told["networks"])
    notes = [BASE] * has_base + [UNREAD] * bool(history.gaps)
    return {
        **({"note": [{"note": one} for one in notes]} if notes else {}),
        **{name: told[name] for name in ("source", "networks")},
        "to_make_again": rows(database, _AGAIN, {"version": WORKSPACE}),
        "tainted_versions": _tainted(database, told["evaluations"]),
        **{name: told[name] for name in ("samples", "evaluations", "every_sample")},
    }


def recalled(database: Database, history: History, recalls: Sequence[Recall]) -> Answer:
    """Every withdrawal, and the versions that it taints: how many samples directly, how many by their networks, how many evaluations."""
    found: list[Row] = []
    for one in recalls:
        if one.kind == "sample":
            told = _touch_sample(database, one.path)
        else:
            sources = [{"path": path, "sha256": sha256} for path, sha256 in _files(one)]
            told = touched_by(database, sources, networks_of(database, one.sha256, sources), whole=False)
        found += [{"recalled": one.path, **row} for row in _tainted(database, told["evaluations"])]
    listed = [{**{name: getattr(one, name) for name in ("path", "kind", "date", "reason", "sha256")}} for one in recalls]
    return {"recalled": listed, "tainted_versions": found}


def _files(one: Recall) -> list[tuple[str, str]]:
    """The path and bytes of what left: with a defect's photograph its mask."""
    own = [(one.path, one.sha256)]
    return [*own, (one.mask_path, one.mask_sha256)] if one.kind == "image" and one.mask_sha256 else own


def _of_sample(database: Database, history: History, sample_id: str) -> Answer:
    found = rows(database, _SAMPLE_ROWS, {"id": sample_id})
    if not found:
        raise unknown_sample(database, history, sample_id)
    return {"source": found, "networks": [], **_touch_sample(database, sample_id)}


def _touch_sample(database: Database, sample_id: str) -> Answer:
    is_itself = f"CASE WHEN sample_id = $id THEN {1 << USES.index('itself')} ELSE 0 END"
    return touch(database, is_itself, {"id": sample_id}, {"paths": [], "digests": []}, whole=True)


def _tainted(database: Database, evaluations: Iterable[Row]) -> list[Row]:
    """By version, the samples of the table `touched` and the number of evaluations, of versions that have any."""
    found = rows(database, _VERSIONS)
    told = {row["version"]: sum(one["seeds"] for one in evaluations if row["version"] in one["versions"]) for row in found}
    counted = [{**row, "evaluations": told[row["version"]]} for row in found]
    return [row for row in counted if any(value for name, value in row.items() if name != "version")]


_SAMPLE_ROWS = """
SELECT sample_id AS path, image_digest AS sha256, 'sample' AS kind, verdict AS role, category, defect, list(version ORDER BY version) AS versions
FROM samples WHERE sample_id = $id GROUP BY ALL ORDER BY ALL
"""
# A sample whose network is tainted is made again whatever else it was made from.
_AGAIN = f"""
SELECT method, category, CASE WHEN used_as & {NETWORKS} > 0 THEN 'its network is trained again' ELSE 'planned anew' END AS how,
    sum(samples) AS samples FROM touched_in WHERE version = $version GROUP BY ALL ORDER BY ALL
"""
_VERSIONS = f"""
SELECT version, coalesce(sum(samples) FILTER (used_as & ~{NETWORKS}::USMALLINT > 0), 0) AS made_from_it,
    coalesce(sum(samples) FILTER (used_as & {NETWORKS} > 0), 0) AS made_by_its_networks
FROM versions LEFT JOIN touched_in USING (version) GROUP BY place, version ORDER BY place
"""
_RECORDS = """
SELECT c.category, c.defect, c.source_split, c."group", c.image_path, c.image_sha256, coalesce(c.mask_path, '') AS mask_path,
    coalesce(c.mask_sha256, '') AS mask_sha256
FROM catalog c JOIN versions v USING (version) WHERE c.status = 'accepted'
    AND CASE WHEN $kind = 'image' THEN (c.image_path, c.image_sha256) = ($path, $sha256) ELSE (c.mask_path, c.mask_sha256) = ($path, $sha256) END
ORDER BY v.place DESC LIMIT 1
"""


def records(database: Database, sources: Iterable[Row], reason: str, data: Path, params: Synthesize) -> list[Recall]:
    """The records of these rows of `impact`'s sources, each once; the mask of a recalled photograph goes with it, without one of its own."""
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
        found[key] = Recall(kind=kind, path=path, sha256=sha256, reason=reason, date=today, **more)
    return [*found.values()]


def places_of(folder: Path, sha256: str, params: Synthesize) -> dict[str, int]:
    """The places of a normal photograph among those that are most like each defect's, in a prepared category; none where no plan asks for them.

    Plans ask with `background: nearest`, and with any `missed_share`, since the rows of missed defects are always drawn so.
    """
    from stage.datasets.table import read_catalog  # here, because they load pandas, and a dry run need not
    from stage.datasets.windows import TURNS
    from stage.synthesis.backgrounds import Backgrounds
    from stage.synthesis.plan import background_pool
    from stage.synthesis.source import read_source

    source = read_source(folder)
    has_nearest = params.background == "nearest" or bool(params.missed_share)
    if not has_nearest or sha256 not in source.backgrounds:
        return {}
    backgrounds = Backgrounds(background_pool(read_catalog(folder / "catalog.parquet")), source, params)
    number = next(number for number, one in enumerate(backgrounds.normals) if one.image_sha256 == sha256)
    near = {place_key(mask, turned): backgrounds.nearest(mask, turned) for mask in sorted(source.masks) for turned in range(TURNS)}
    return {key: some.index(number) for key, some in near.items() if number in some}


def add(new: Sequence[Recall], path: Path = FILE) -> None:
    """Add withdrawals to the file, comments kept; raises Refusal if all of them are in it."""
    from ruamel.yaml import YAML

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
