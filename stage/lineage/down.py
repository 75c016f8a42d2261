"""From a photograph, a mask or a network down to every sample, network and evaluation that it touched, in every version asked for."""

import re
from collections.abc import Mapping, Sequence

from stage.core.errors import Refusal
from stage.lineage.contents import History
from stage.lineage.database import Answer, Database, Row
from stage.lineage.lookup import also_named, names_of, networks_known_by, sources_of
from stage.lineage.touched import touch

PARAMETER = re.compile(r"\$[a-z]\w*")  # of a query; a `$` before a dot begins a path in JSON


def down(database: Database, history: History, source: str, *, whole: bool = True) -> Answer:
    """Samples, networks and evaluations that a source touched. `source`: a path below the data folder, a file, or a digest or its beginning.

    Unless `whole`, `every_sample` has as many rows as there are samples, but empty ones.
    """
    found, networks = known_by(database, history, source)
    return touched_by(database, found, networks, whole=whole)


def known_by(database: Database, history: History, source: str) -> tuple[list[Row], list[Row]]:
    """The sources of that name and the networks that they trained, or the network of that name; raises Refusal if there is none."""
    if not source.strip():
        raise Refusal(
            "Expected a path below the data folder, a file, or a digest, found an empty text, as of a variable that is not set. Name one."
        )
    found = sources_of(database, source)
    networks = networks_known_by(database, source, found)
    if not found and not networks:
        raise Refusal(
            f"Expected a photograph, a mask or a network of {history.names}: a path below the data folder, a file, or a digest, found {source!r}, "
            f"which none of them knows.{history.unread} `stage lineage sql --all 'SELECT DISTINCT path, sha256 FROM sources'` lists them."
        )
    return found, networks


def touched_by(database: Database, found: list[Row], networks: list[Row], *, whole: bool = True) -> Answer:
    """What sources and networks, rows of `sources_of` and `networks_known_by`, touched; makes the tables of `touch`."""
    used_as, chosen = uses_of(database, found, networks)
    return {"source": found, "networks": networks, **touch(database, used_as, chosen, names_of(found), whole=whole)}


def uses_of(database: Database, found: Sequence[Row], networks: Sequence[Row], suffix: str = "") -> tuple[str, Row]:
    """The expression of what a sample uses of these sources and networks, with a bit for each of USES, and its parameters.

    Names of parameters and temporary tables end in `suffix`, so that one query may have several such expressions.
    """
    known, has = names_of(found), also_named(database)
    is_mixed, is_placed = (_is_named_in(database, table, known, suffix) if has[table] else "false" for table in ("mixed", "placing"))
    is_texture = _IS_TEXTURE if has["textured"] else "false"
    # Masks of different photographs may have equal bytes: a mask is identified by path and bytes together.
    pairs = {f"{name}_{number}": row[key] for number, row in enumerate(found) for name, key in (("path", "path"), ("digest", "sha256"))}
    is_mask = " OR ".join(f"(mask_sha256 = $digest_{number} AND mask_path = $path_{number})" for number in range(len(found))) or "false"
    is_missed = _is_missed(len(found)) if has["missed"] else "false"
    chosen = {"digests": known["digests"], "networks": [row["digest"] for row in networks], **pairs}
    used_as = _USED.format(is_mask=is_mask, is_mixed=is_mixed, is_texture=is_texture, is_missed=is_missed, is_placed=is_placed)
    return PARAMETER.sub(rf"\g<0>{suffix}", used_as), {f"{name}{suffix}": value for name, value in chosen.items()}


def _is_named_in(database: Database, table: str, known: Mapping[str, list[str]], suffix: str) -> str:
    """The condition that one of the masks with the `known` paths and digests is among a sample's `mixed` masks, or its `placing` ones."""
    database.execute(_NAMED_IN.format(table=table, suffix=suffix), known)
    return f"(extract, sample_id) IN (FROM named_{table}{suffix})"


def _is_missed(count: int) -> str:
    """The condition that a sample is planned for a missed defect whose photograph or mask is among `count` sources."""
    told = "nullif(choices, '') ->> '$.missed.{}'"
    is_file = (
        f"(({told.format(f'{kind}_sha256')}) = $digest_{number} AND ({told.format(f'{kind}_path')}) = $path_{number})"
        for number in range(count)
        for kind in ("image", "mask")
    )
    return f"""contains(choices, '"missed"') AND ({" OR ".join(is_file) or "false"})"""


# Each use has its bit, as in USES. No join and no subquery: those would run for every sample of every version.
_USED = """
CASE WHEN list_contains($digests::VARCHAR[], background_sha256) THEN 1 ELSE 0 END
+ CASE WHEN source_sha256 <> '' AND list_contains($digests::VARCHAR[], source_sha256) THEN 2 ELSE 0 END
+ CASE WHEN mask_sha256 <> '' AND ({is_mask}) THEN 4 ELSE 0 END
+ CASE WHEN {is_mixed} THEN 8 ELSE 0 END
+ CASE WHEN {is_texture} THEN 16 ELSE 0 END
+ CASE WHEN checkpoint <> '' AND list_contains($networks::VARCHAR[], checkpoint) THEN 32 ELSE 0 END
+ CASE WHEN base <> '' AND list_contains($networks::VARCHAR[], base) THEN 64 ELSE 0 END
+ CASE WHEN {is_missed} THEN 256 ELSE 0 END
+ CASE WHEN {is_placed} THEN 512 ELSE 0 END
"""
_IS_TEXTURE = """contains(choices, '"texture_sha256"') AND list_contains($digests::VARCHAR[], nullif(choices, '') ->> 'texture_sha256')"""
_NAMED_IN = """
CREATE OR REPLACE TEMP TABLE named_{table}{suffix} AS SELECT DISTINCT t.extract, m.sample_id FROM {table}_masks m JOIN tables t
    ON t.kind = 'samples' AND t.version = m.version AND t.category = m.category AND t.method = m.method
WHERE (m.path, m.sha256) IN (SELECT (unnest($paths::VARCHAR[]), unnest($digests::VARCHAR[])))
"""
