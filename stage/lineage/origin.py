"""What a sample was made from, by its id. Reads the extracts that can have it, and no view of the database: views take longer to make than this."""

import json
from collections.abc import Sequence

from stage.lineage.contents import Contents, History
from stage.lineage.database import Answer, Database, Row, files_of, rows
from stage.lineage.extracts import STORE
from stage.lineage.made_from import COLUMNS, made_from
from stage.model.base_pointer import origin_in_words

# Columns of a sample: where it is and its pixels, what is told of it, and what leads on. Others take time to read.
PIXELS = ("extract", "image_digest", "mask_digest")
OWN_COLUMNS = ("sample_id", "verdict", "reason", "contrast", "seed", "attempt", "image_digest", "licence")
CODE = ("code", "parameters", "timesteps", "device", "settings")
PLANNED = (  # of the plan's row, what is told of it beside the files, the seed and the attempt
    "ordinal",
    "prompt",
    "foreground",
    "mask_kind",
    "mask_turn",
    "mask_shift_y",
    "mask_shift_x",
    "mask_area",
    "mask_seed",
)
NAMED_FILES = ("masks", "places", "missed")  # choices that name files, which `made_from` has
BEHIND = (*dict.fromkeys((*PLANNED, *COLUMNS)), *CODE, "method", "category", "checkpoint", "base", "batch_key", "versions")


def sources_behind(database: Database, history: History, sample_id: str, preferred: Sequence[str] = ()) -> Answer:
    """What a sample was made from; empty if no version has it. Reads only extracts in which it can be, and of the version that answers."""
    method, category = sample_id.split("/")[:2]
    files = files_of("samples", history.contents, method=method, category=category)
    is_one = len(files) == 2  # with the one that has no rows; then there is no choice, and a second query is spared
    known = {row["extract"]: row for row in rows(database, _SAMPLE if is_one else _PIXELS, {"files": files, "id": sample_id})}
    found = [(one, known[entry.file]) for one in reversed(history.contents) for entry in one.entries if entry.file in known]
    if not found:
        return {}
    last, row = min(found, key=lambda place: place[0].version.name not in preferred)
    if not is_one:
        [row] = rows(database, _SAMPLE, {"files": [str(STORE / row["extract"])], "id": sample_id})
    is_same = {one.version.name: all(there[name] == row[name] for name in PIXELS[1:]) for one, there in found}
    order = sorted(is_same, key=lambda name: name not in preferred)
    versions = {
        "versions": [name for name in order if is_same[name]],
        "versions_with_other_pixels": [name for name in order if not is_same[name]],
    }
    return {"sample": [{**{name: row[name] for name in OWN_COLUMNS}, **versions}], **_behind(database, last, row)}


def _behind(database: Database, contents: Contents, sample: Row) -> Answer:
    """What is behind a sample, by its row, in one version."""
    whose = {"method": sample["method"], "category": sample["category"]}
    names = [sample["checkpoint"], sample["base"]]
    networks = {"networks": files_of("checkpoints", [contents], **whose), "names": names}
    runs = {"files": files_of("runs", [contents], **whose), "key": sample["batch_key"]}
    return {
        "made_from": _made_from(database, contents, sample),
        "networks": [{**row, "origin": origin_in_words(json.loads(row["origin"]))} for row in rows(database, _NETWORKS, networks)],
        "trained_on": rows(database, _TRAINED_ON, {**networks, "sources": files_of("sources", [contents])}),
        "planned": _planned(sample),
        "parameters": [
            {"name": name, "value": value, "decides": "rendering" if name in one["rendering"] else "plan"}
            for one in contents.manifests
            if whose.items() <= one.items()
            for name, value in sorted(one["inputs"].items())
            if "." in name
        ],
        "code": [{name: sample[name] for name in CODE} | {"libraries": sample["versions"]}],
        "run": rows(database, "SELECT * EXCLUDE (extract) FROM read_parquet($files) WHERE batch_key = $key", runs),
    }


def _planned(sample: Row) -> list[Row]:
    """What was drawn for a sample: columns of its plan row, and the choices that only its method makes, such as a rotation."""
    told = {name: sample[name] for name in PLANNED} | (json.loads(sample["choices"]) if sample["choices"] else {})
    return [{"name": name, "value": str(value)} for name, value in told.items() if value != "" and name not in NAMED_FILES]


_PIXELS = f"SELECT {', '.join(PIXELS)} FROM read_parquet($files) WHERE sample_id = $id"
_SAMPLE = f"SELECT {', '.join((*PIXELS, *OWN_COLUMNS, *BEHIND))} FROM read_parquet($files) WHERE sample_id = $id"
_NETWORKS = """
SELECT kind, digest, base AS on_base, facts AS origin, len(sources) AS training_files FROM read_parquet($networks)
WHERE list_contains($names, digest) ORDER BY kind
"""
_TRAINED_ON = """
SELECT c.kind AS network, s.path, s.kind, s.defect, s.sha256
FROM (SELECT kind, unnest(sources) AS sha256 FROM read_parquet($networks) WHERE list_contains($names, digest)) c
LEFT JOIN (SELECT DISTINCT path, kind, defect, sha256 FROM read_parquet($sources)) s USING (sha256)
ORDER BY ALL
"""


def _made_from(database: Database, contents: Contents, sample: Row) -> list[Row]:
    """A row per file that the sample was made from, with its split and group in the version's sources."""
    used = made_from(sample)
    chosen = {"digests": [one.sha256 for one in used], "category": sample["category"]}
    known = rows(database, _KNOWN, {"files": files_of("sources", [contents], method=sample["method"]), **chosen})
    found: list[Row] = []
    for one in used:
        is_texture, is_file = one.role == "texture", bool(one.sha256)
        same = (row for row in known if row["sha256"] == one.sha256 and (is_texture or row["path"] == one.path))
        source = next(same, {}) if is_file else {}
        told = {part: source.get(part, "not among its sources" if is_file and not is_texture else "") for part in ("split", "group")}
        found.append({"role": one.role, "path": one.path, **told, "sha256": one.sha256})
    return found


_KNOWN = """
SELECT path, sha256, split, "group" FROM read_parquet($files) WHERE category = $category AND list_contains($digests::VARCHAR[], sha256)
"""
