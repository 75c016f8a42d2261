"""What the withdrawal of a photograph, a mask, a texture or a sample touches in every version; stage/lineage/withdrawal.py records it."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from stage.core.errors import Refusal
from stage.lineage.contents import History
from stage.lineage.database import Answer, Database, Row, rows
from stage.lineage.down import known_by, touched_by, uses_of
from stage.lineage.layout import todays_id
from stage.lineage.lookup import names_of, networks_known_by
from stage.lineage.touched import NETWORKS, USES, touch
from stage.lineage.up import SAMPLE, unknown_sample
from stage.lineage.versions import WORKSPACE

if TYPE_CHECKING:
    from stage.datasets.recalled import Recall

BASE = (
    "The base, which `pretrain` trains on all images, has seen it: every network and every sample on that base is tainted, in all categories. "
    "The next `dvc repro` trains the base and all adapters again, which takes as long as the first time."
)
UNPUBLISHED = (
    "No samples are published yet: networks that were trained on the prepared photographs are not listed here. "
    "The next `dvc repro` trains again those that saw it."
)
UNREAD = "Versions that could not be read are left out here: see `not read`."


def impact(database: Database, history: History, source: str, *, whole: bool = True) -> Answer:
    """What the withdrawal of a source, as `down` takes it, or of a sample, by its id, touches; raises Refusal for an unknown one.

    Unless `whole`, `every_sample` is as `down` gives it.
    """
    source = todays_id(source)
    told = _of_sample(database, history, source) if SAMPLE.fullmatch(source) else _of_file(database, history, source, whole=whole)
    if not told["source"]:
        raise Refusal(
            f"Expected a photograph, a mask, a texture or a sample to recall, found the network {source}: recall what it should not have "
            "been trained on, or change params.yaml, and run `dvc repro`."
        )
    photographs = told.get("withdrawn_with_it")
    has_base = any(row["kind"] == "base" for row in told["networks"])
    notes = [BASE] * has_base + [UNREAD] * bool(history.gaps)
    notes += [UNPUBLISHED] * (not any(contents.manifests for contents in history.contents))
    return {
        **({"note": [{"note": one} for one in notes]} if notes else {}),
        "source": told["source"],
        **({"withdrawn_with_it": photographs} if photographs else {}),
        "networks": told["networks"],
        "to_make_again": rows(database, _AGAIN, {"version": WORKSPACE}),
        "tainted_versions": _tainted(database, told["evaluations"]),
        **{name: told[name] for name in ("samples", "evaluations", "every_sample")},
    }


def recalled(database: Database, history: History, recalls: "Sequence[Recall]") -> Answer:
    """Every withdrawal, and the versions that it taints: the numbers of samples tainted directly or by their networks, and of evaluations."""
    found: list[Row] = []
    for one in recalls:
        told = _touch_sample(database, one.path) if one.kind == "sample" else _touch_files(database, one)
        found += [{"recalled": one.path, **row} for row in _tainted(database, told["evaluations"])]
    listed = [{**{name: getattr(one, name) for name in ("path", "kind", "date", "reason", "sha256")}} for one in recalls]
    return {"recalled": listed, "tainted_versions": found}


def _touch_files(database: Database, one: "Recall") -> Answer:
    """What a withdrawn file touched; and what the other file of its pair did, in those samples alone whose method still had the withdrawn one.

    Once the withdrawn file is corrected, the other one is in order again. A version may have samples from before and after.
    """
    files = [{"path": path, "sha256": sha256} for path, sha256 in _files(one)]
    (alone, of_alone), (pair, of_pair) = (
        uses_of(database, some, networks_known_by(database, one.sha256, some), suffix)
        for some, suffix in ((files[:1], "_alone"), (files, "_pair"))
    )
    holding = [row["extract"] for row in rows(database, _HOLDING, files[0])]
    used_as = f"CASE WHEN list_contains($holding::VARCHAR[], extract) THEN {pair} ELSE {alone} END"
    return touch(database, used_as, {**of_alone, **of_pair, "holding": holding}, names_of(files[:1]), whole=False)


def _files(one: "Recall") -> list[tuple[str, str]]:
    """The paths and digests of the withdrawn files: a defect's photograph with its mask, and a mask with its photograph."""
    other = (one.mask_path, one.mask_sha256) if one.kind == "image" else (one.image_path, one.image_sha256)
    return [(one.path, one.sha256), *([other] if other[1] else [])]


def _of_file(database: Database, history: History, source: str, *, whole: bool) -> Answer:
    """As `down`, together with the photographs of masks, which `prepare` withdraws with them."""
    found, networks = known_by(database, history, source)
    photographs = rows(database, _PHOTOGRAPHS, names_of(found))
    networks = networks_known_by(database, source, [*found, *photographs]) if photographs else networks
    return {**touched_by(database, [*found, *photographs], networks, whole=whole), "source": found, "withdrawn_with_it": photographs}


def _of_sample(database: Database, history: History, sample_id: str) -> Answer:
    found = rows(database, _SAMPLE_ROWS, {"id": sample_id})
    if not found:
        raise unknown_sample(database, history, sample_id)
    return {"source": found, "networks": [], **_touch_sample(database, sample_id)}


def _touch_sample(database: Database, sample_id: str) -> Answer:
    is_itself = f"CASE WHEN sample_id = $id THEN {1 << USES.index('itself')} ELSE 0 END"
    return touch(database, is_itself, {"id": sample_id}, names_of([]), whole=True)


def _tainted(database: Database, evaluations: Iterable[Row]) -> list[Row]:
    """The numbers of samples in the table `touched` and of evaluations, for each version that has any."""
    found = rows(database, _VERSIONS)
    told = {row["version"]: sum(one["seeds"] for one in evaluations if row["version"] in one["versions"]) for row in found}
    counted = [{**row, "evaluations": told[row["version"]]} for row in found]
    return [row for row in counted if any(value for name, value in row.items() if name != "version")]


_HOLDING = """
SELECT DISTINCT t.extract FROM tables t JOIN sources s USING (version, method) WHERE t.kind = 'samples' AND s.path = $path AND s.sha256 = $sha256
"""
_PHOTOGRAPHS = """
WITH named AS (SELECT unnest($paths::VARCHAR[]) AS path, unnest($digests::VARCHAR[]) AS sha256)
SELECT image_path AS path, image_sha256 AS sha256, list(DISTINCT version ORDER BY version) AS versions FROM catalog
WHERE status = 'accepted' AND (mask_path, mask_sha256) IN (FROM named) AND (image_path, image_sha256) NOT IN (FROM named) GROUP BY ALL ORDER BY ALL
"""
_SAMPLE_ROWS = """
SELECT sample_id AS path, image_digest AS sha256, 'sample' AS kind, verdict AS role, category, defect, list(version ORDER BY version) AS versions
FROM samples WHERE sample_id = $id GROUP BY ALL ORDER BY ALL
"""
# A sample whose network is tainted counts as such, whatever else it was made from.
_AGAIN = f"""
SELECT method, category, CASE WHEN used_as & {NETWORKS} > 0 THEN 'its network is trained again' ELSE 'planned anew' END AS how,
    sum(samples) AS samples FROM touched_in WHERE version = $version GROUP BY ALL ORDER BY ALL
"""
_VERSIONS = f"""
SELECT version, coalesce(sum(samples) FILTER (used_as & ~{NETWORKS}::USMALLINT > 0), 0) AS made_from_it,
    coalesce(sum(samples) FILTER (used_as & {NETWORKS} > 0), 0) AS made_by_its_networks
FROM versions LEFT JOIN touched_in USING (version) GROUP BY place, version ORDER BY place
"""
