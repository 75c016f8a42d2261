"""Columns of a Parquet file: their types, and the metadata by which `datasets.load_dataset` gives pictures in place of bytes.

The schemas are those of `datasets.Features`, as a test checks. They are written out because importing that library would cost every worker
and every flow more than half a second.
"""

import json
from collections.abc import Mapping
from typing import Any

import pyarrow as pa

STRING, INTEGER, NUMBER, INTEGERS = pa.string(), pa.int64(), pa.float64(), pa.list_(pa.int32())
PICTURE = pa.struct({"bytes": pa.binary(), "path": pa.string()})
Columns = dict[str, pa.DataType]  # a name's type, in the order of the columns


def schema(columns: Mapping[str, pa.DataType]) -> pa.Schema:
    """The Arrow schema of columns, with what `datasets` reads of them."""
    told = {"info": {"features": {name: _feature(kind) for name, kind in columns.items()}}}
    return pa.schema(list(columns.items()), {"huggingface": json.dumps(told)})


def _feature(kind: pa.DataType) -> dict[str, Any]:
    if kind == PICTURE:
        return {"_type": "Image"}
    if pa.types.is_list(kind):
        return {"feature": _feature(kind.value_type), "_type": "List"}
    return {"dtype": "float64" if kind == NUMBER else str(kind), "_type": "Value"}
