"""Describes a data set in Croissant 1.1 (https://docs.mlcommons.org/croissant/docs/croissant-spec-1.1.html), for search engines and loaders.

Provenance follows W3C PROV, as the specification asks: what the data set was made from and by, and the columns that name each record's
photographs. The file adds nothing to the manifest and the tables, and holds no time, so the same samples have the same file.
"""

import json
from collections.abc import Iterable
from typing import Any

import pyarrow as pa

from stage.core.wording import counted
from stage.release.shards import JsonObject
from stage.synthesis.marking import source_type
from stage.synthesis.schema import CHECKPOINTS, PLAN, SCHEMA, SCHEMA_VERSION, SHARDS, SOURCES

CROISSANT = "croissant.json"
FILES, RECORDS = "shards", "samples"
# The specification's terms, and those that the standard context of mlcroissant 1.1.1 adds.
OF_CROISSANT = (
    *("arrayShape", "citeAs", "column", "containedIn", "equivalentProperty", "extract", "field", "fileProperty", "fileObject", "fileSet"),
    *(
        "format",
        "includes",
        "isArray",
        "isLiveDataset",
        "jsonPath",
        "key",
        "md5",
        "parentField",
        "path",
        "recordSet",
        "references",
        "regex",
    ),
    *("repeated", "replace", "samplingRate", "separator", "source", "subField", "transform"),
)
CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "sc": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "dct": "http://purl.org/dc/terms/",
    "prov": "http://www.w3.org/ns/prov#",
    "conformsTo": "dct:conformsTo",
    "name": {"@container": "@language"},
    "description": {"@container": "@language"},
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
    **{name: f"cr:{name}" for name in OF_CROISSANT},
}
KINDS = {pa.string(): "sc:Text", pa.int64(): "cr:Int64", pa.float64(): "cr:Float64"}
DERIVED = ("background_sha256", "source_sha256", "mask_sha256", "checkpoint", "base")  # columns that name what a sample was made from


def croissant(manifest: JsonObject, licences: Iterable[str]) -> str:
    """The metadata of a published folder as JSON-LD; `licences` are those of its samples."""
    return json.dumps(_dataset(manifest, sorted({*licences})), indent=2, ensure_ascii=False) + "\n"


def _dataset(manifest: JsonObject, licences: list[str]) -> dict[str, Any]:
    method, inputs = manifest["method"], manifest["inputs"]
    tables = {name: manifest["tables"][name]["sha256"] for name in (SOURCES, CHECKPOINTS, PLAN) if name in manifest["tables"]}
    made_by = {
        "@type": "prov:Activity",
        "@id": f"urn:stage-factory:job:{manifest['job']}",
        "prov:value": json.dumps(inputs, sort_keys=True),
    }
    return {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "name": f"synthetic-defects-{method}-{manifest['digest'][:12]}",
        "description": f"{counted(manifest['accepted'], 'sample')} of synthetic defects by the method {method}, and {manifest['rejected']} that were rejected.",
        "conformsTo": "http://mlcommons.org/croissant/1.1",
        "version": f"{SCHEMA_VERSION}.0.0",
        "identifier": manifest["digest"],
        "license": licences,
        "digitalSourceType": {"@id": source_type(method)},
        "prov:wasGeneratedBy": made_by,
        "prov:wasDerivedFrom": [{"@id": name} for name in tables],
        "distribution": [
            *map(_file, tables, tables.values()),
            *(_file(one["path"], one["sha256"]) for one in manifest["shards"]),
            _shards(),
        ],
        "recordSet": [_records()],
    }


def _file(path: str, sha256: str) -> dict[str, Any]:
    place = {"@type": "cr:FileObject", "@id": path, "name": path.rpartition("/")[2], "contentUrl": path}
    return {**place, "encodingFormat": "application/x-parquet", "sha256": sha256}


def _shards() -> dict[str, Any]:
    return {"@type": "cr:FileSet", "@id": FILES, "encodingFormat": "application/x-parquet", "includes": f"{SHARDS}/*.parquet"}


def _records() -> dict[str, Any]:
    told = {"@type": "cr:RecordSet", "@id": RECORDS, "name": RECORDS, "description": "A sample each, accepted or rejected."}
    return {**told, "key": {"@id": f"{RECORDS}/sample_id"}, "field": [_field(field) for field in SCHEMA]}


def _field(field: pa.Field) -> dict[str, Any]:
    """A column; docs/data.md describes it."""
    source: dict[str, Any] = {"fileSet": {"@id": FILES}, "extract": {"column": field.name}}
    told: dict[str, Any] = {"@type": "cr:Field", "@id": f"{RECORDS}/{field.name}", "name": field.name, "source": source}
    if field.name in DERIVED:
        told["equivalentProperty"] = "prov:wasDerivedFrom"
    if pa.types.is_struct(field.type):
        return told | {"dataType": "sc:ImageObject", "source": source | {"transform": {"jsonPath": "bytes"}}}
    if pa.types.is_list(field.type):
        return told | {"dataType": "cr:Int32", "isArray": True, "arrayShape": "-1"}
    return told | {"dataType": KINDS[field.type]}
