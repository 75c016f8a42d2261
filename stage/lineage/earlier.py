"""Tables of schema versions 1 and 2 in the columns of today's, so that every query answers on them too.

Schema 2 lacks what a verdict on single defects records. Schema 1 lacks also the photograph of a pasted defect and the digests of decoded
pixels. It knew only the method `stage`, published in the category's folder with its runs beside the shards, and a sample's id had
neither method nor attempt. A text that was not recorded is empty, a number is null.
"""

import pyarrow as pa

from stage.lineage.layout import todays_id

ADDED = {"catalog": ("image_digest", "detail"), "differences": ("against",)}  # columns that earlier tables without a manifest lack


def completed(table: pa.Table, known: pa.Schema) -> pa.Table:
    """A table with the columns of `known`, in that order; those that it lacks say that nothing was recorded."""
    for field in known:
        if field.name not in table.column_names:
            nothing = pa.scalar("" if field.type == pa.string() else None, field.type)
            table = table.append_column(field, pa.repeat(nothing, len(table)))
    return table.select(known.names)


def with_todays_ids(samples: pa.Table) -> pa.Table:
    """Samples of schema 1 under the ids that they would have today."""
    ids = pa.array(map(todays_id, samples["sample_id"].to_pylist()), pa.string())
    return samples.set_column(samples.column_names.index("sample_id"), samples.schema.field("sample_id"), ids)
