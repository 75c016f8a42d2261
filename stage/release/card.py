"""The card of a data set, `README.md`: what is in the folder, for people, and which files are samples, for Hugging Face `datasets`."""

from stage.core.wording import counted
from stage.release.shards import JsonObject
from stage.synthesis.schema import SHARDS

# Without `configs`, `datasets` takes every Parquet file of the folder for samples, and stops at the tables, which have other columns.
CARD_TEXT = """---
configs:
- config_name: default
  data_files: {shards}/*.parquet
---

# Synthetic defects

{accepted} of synthetic defects, made by the method `{method}`, and {rejected} that were rejected, each with its reason.
No image here is a photograph: every PNG says `Synthetic: true`.
Their backgrounds and masks come from photographs, whose licence is in the column `licence`.

`load_dataset("<this folder>")` opens the samples; the column `verdict` says which were accepted.
`manifest.json` has the digest of every file but this one, which may be edited, and `croissant.json`, which says the same as the manifest.
"""


def card(manifest: JsonObject) -> str:
    """The text of the card, without names from data, which could be taken for Markdown or YAML."""
    return CARD_TEXT.format(
        shards=SHARDS, accepted=counted(manifest["accepted"], "sample"), rejected=manifest["rejected"], method=manifest["method"]
    )
