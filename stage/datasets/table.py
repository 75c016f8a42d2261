"""The catalog as a table: its columns, and how to read them without the pixels."""

from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from stage.core.errors import DataError
from stage.datasets.columns import INTEGER, NUMBER, PICTURE, STRING, Columns
from stage.datasets.pairs import image_columns

TEXTS = ("category", "defect", "source_split", "split", "image_path", "image_sha256", "image_digest", "mask_path", "mask_sha256")
SIZES = ("width", "height", "defect_area", "prepared_area")
PICTURES: Columns = {**image_columns(), "foreground": PICTURE}
COLUMNS: Columns = {
    **dict.fromkeys(TEXTS, STRING),
    **dict.fromkeys(SIZES, INTEGER),
    **dict.fromkeys(("mode", "group", "licence", "status", "reason", "detail", "note"), STRING),
    **dict.fromkeys(("foreground_strategy", "foreground_note"), STRING),
    "foreground_coverage": NUMBER,
    **PICTURES,
}


def read_catalog(path: Path) -> pd.DataFrame:
    """All columns of a catalog except the pixels; unknown sizes are <NA>. Raises DataError."""
    try:
        names = [name for name in pq.read_schema(path).names if name not in PICTURES]
        table = pq.read_table(path, columns=names)
    except FileNotFoundError:
        raise DataError(f"Expected a catalog at {path}, found none. Run `dvc repro prepare`.") from None
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"Expected a catalog at {path}, found none that can be read: {error}. Run `dvc repro prepare`.") from None
    return table.to_pandas(types_mapper={pa.int64(): pd.Int64Dtype()}.get)


def training_part(catalog: pd.DataFrame) -> pd.DataFrame:
    """The rows of a catalog that anything may be trained on or made from: normal training images, and the generator's third."""
    return catalog.loc[(catalog.status == "accepted") & (catalog.split == "train")]


def training_pool(catalog: pd.DataFrame) -> pd.DataFrame:
    """The same rows and, in their places, the recalled ones."""
    return catalog.loc[catalog.status.isin(("accepted", "recalled")) & (catalog.split == "train")]
