"""How evenly backgrounds and masks are used, leaks from the evaluation, and samples, batches and runs that are orphans."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from stage.core.errors import Refusal
from stage.lineage.bank import orphaned_textures
from stage.lineage.contents import Contents, History
from stage.lineage.database import Answer, Database, Row, rows
from stage.lineage.extracts import STORE
from stage.lineage.folders import PublishedTable
from stage.lineage.versions import Version

SURE = 4.0  # standard deviations above even use; more is not chance, even among thousands of sources

# Even use: each source that a plan could choose is chosen as often as any other. A mask belongs to a defect type, a background to all.
_REUSE = """
WITH used AS (
    SELECT version, method, category, '(all)' AS defect, 'background' AS role, background_path AS path, background_sha256 AS sha256 FROM samples
    UNION ALL SELECT version, method, category, defect, 'mask', mask_path, mask_sha256 FROM samples WHERE mask_sha256 <> ''
    UNION ALL SELECT version, method, category, defect, 'defect', source_path, source_sha256 FROM samples WHERE source_sha256 <> ''
),
counted AS (SELECT *, count(*) AS uses FROM used GROUP BY ALL),
could AS (
    SELECT version, method, category, CASE WHEN role = 'background' THEN '(all)' ELSE defect END AS defect,
        CASE WHEN role = 'training' THEN 'defect' ELSE role END AS role, count(*) AS sources FROM sources WHERE role <> 'test' GROUP BY ALL
),
even AS (
    SELECT c.*, coalesce(sources, count(*) OVER whose) AS sources, sum(uses) OVER whose AS samples FROM counted c
    LEFT JOIN could USING (version, method, category, defect, role) WINDOW whose AS (PARTITION BY c.version, c.method, c.category, c.defect, c.role)
)
SELECT *, samples / sources AS even_use, uses / even_use AS times_even,
    CASE WHEN sources > 1 THEN (uses - even_use) / sqrt(even_use * (1 - 1 / sources)) ELSE 0 END AS deviations FROM even
"""


def reuse(database: Database, count: int) -> Answer:
    """How often sources are used compared with even use, per method, category, type and role; and the `count` most used of each."""
    summary = f"""
        SELECT version, method, category, defect, role, samples, sources, count(*) AS used, round(any_value(even_use), 1) AS even_use,
            max(uses) AS most_used, round(max(times_even), 2) AS times_even, count(*) FILTER (deviations > $sure) AS over_used
        FROM ({_REUSE}) GROUP BY ALL ORDER BY ALL
    """
    most = f"""
        SELECT version, method, category, defect, role, path, uses, round(times_even, 2) AS times_even, round(deviations, 1) AS deviations
        FROM ({_REUSE}) QUALIFY row_number() OVER (PARTITION BY version, method, category, defect, role ORDER BY uses DESC, path) <= $count
        ORDER BY version, method, category, defect, role, uses DESC, path
    """
    return {"use": rows(database, summary, {"sure": SURE}), "most_used": rows(database, most, {"count": count})}


def leakage(history: History) -> Answer:
    """Evaluation images, and members of their groups, that samples and networks were made from, in each version."""
    from stage.release.uses import Published, sample_leaks  # here, because it loads pandas

    found: list[Row] = []
    for contents in history.contents:
        catalogs = {entry.category: STORE / entry.file for entry in contents.entries if entry.kind == "catalog"}
        for category in sorted({entry.category for entry in contents.entries if entry.kind == "samples"}):
            if category not in catalogs:
                raise no_catalog(contents.version, category)
            published = [Published(f"{category}/{method}", *files) for method, files in _tables(contents, category).items()]
            leaks = sample_leaks(catalogs, category, published)
            found += [{"version": contents.version.name, "category": category, **leak._asdict()} for leak in leaks]
    return {"leaks": found}


def _tables(contents: Contents, category: str) -> Mapping[str, list[Path]]:
    """The extracts of samples, which have the columns of the plan, sources and checkpoints, by method."""
    own = [entry for entry in contents.entries if entry.category == category and entry.method]
    return {method: [_file(own, kind, method) for kind in ("samples", "sources", "checkpoints")] for method in _methods(own)}


def _methods(entries: list[PublishedTable]) -> list[str]:
    return sorted({entry.method for entry in entries if entry.kind == "samples"})


def _file(entries: list[PublishedTable], kind: str, method: str) -> Path:
    return next(STORE / entry.file for entry in entries if (entry.kind, entry.method) == (kind, method))


def no_catalog(version: Version, category: str) -> Refusal:
    """The error for samples whose version has no catalog of their category."""
    return Refusal(
        f"Expected the catalog of {category} in version {version.name}, found none, so it is unknown which images are tested. "
        "Run `dvc repro prepare`, or name another version with --rev."
    )


_ORPHANS = """
WITH known AS (SELECT category, image_path AS path, image_sha256 AS sha256 FROM catalog WHERE version = $catalog AND status = 'accepted' AND split = 'train'
    UNION SELECT category, mask_path, mask_sha256 FROM catalog WHERE version = $catalog AND status = 'accepted' AND split = 'train' AND mask_path <> ''),
used AS (
    SELECT version, sample_id, method, category, 'background' AS role, background_path AS path, background_sha256 AS sha256 FROM samples
    UNION ALL SELECT version, sample_id, method, category, 'defect', source_path, source_sha256 FROM samples WHERE source_sha256 <> ''
    UNION ALL SELECT version, sample_id, method, category, 'mask', mask_path, mask_sha256 FROM samples WHERE mask_sha256 <> ''
    UNION ALL SELECT version, sample_id, method, category, 'part of the mask', path, sha256 FROM mixed_masks
    UNION ALL SELECT version, sample_id, method, category, 'place or likeness', path, sha256 FROM placing_masks
    UNION ALL SELECT version, sample_id, method, category, 'missed defect', path, sha256 FROM missed_defects
    UNION ALL SELECT version, sample_id, method, category, 'texture', path, sha256 FROM textures JOIN inputs USING (version, category, method)
        WHERE name = 'textures.source' AND value IN ('"own"', '"others"')
)
SELECT u.version, u.method, u.category, u.role, u.path, u.sha256, count(*) AS samples, min(sample_id) AS first_sample,
    CASE WHEN EXISTS (FROM known k WHERE (k.category, k.path) = (u.category, u.path)) THEN 'other bytes' ELSE 'not in the catalog' END AS why
FROM used u WHERE u.version = $version AND NOT EXISTS (FROM known k
    WHERE (k.path, k.sha256) = (u.path, u.sha256) AND (k.category = u.category OR u.role = 'texture')) -- which may be of another category
GROUP BY ALL ORDER BY ALL
"""
_RUNS = """
WITH made AS (SELECT DISTINCT version, category, method, batch_key FROM samples),
ran AS (SELECT DISTINCT version, category, method, batch_key FROM runs)
SELECT version, category, method, CASE WHEN ran.v IS NULL THEN 'a batch without a run' ELSE 'a run without a sample' END AS what,
    count(*) AS batches, min(batch_key) AS first_batch
FROM (SELECT *, version AS v FROM made) made FULL JOIN (SELECT *, version AS v FROM ran) ran USING (version, category, method, batch_key)
WHERE (made.v IS NULL OR ran.v IS NULL) AND list_contains($asked, version) GROUP BY ALL ORDER BY ALL
"""


def orphans(database: Database, history: History, asked: Sequence[str], catalog: str | None) -> Answer:
    """Samples whose sources are not in their version's catalog, or in that of the version `catalog`; batches without runs and runs without samples.

    Textures from a folder are compared with it as it is now; the folder's files without a sample are counted.
    `asked` are the names of the versions whose samples are checked.
    """
    by_name = {contents.version.name: contents for contents in history.contents}
    found: list[Row] = []
    for name in asked:
        against = by_name.get(catalog or name)
        if name in by_name and against:
            for category in sorted({entry.category for entry in by_name[name].entries if entry.kind == "samples"}):
                if not any((entry.kind, entry.category) == ("catalog", category) for entry in against.entries):
                    raise no_catalog(against.version, category)
            found += rows(database, _ORPHANS, {"version": name, "catalog": against.version.name})
    gone, unused = orphaned_textures(database, asked)
    told = {"samples_without_a_source": [*found, *gone], "batches_and_runs": rows(database, _RUNS, {"asked": list(asked)})}
    return {**told, **({"textures_without_a_sample": unused} if unused else {})}
