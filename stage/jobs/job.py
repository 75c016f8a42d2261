"""A job: all that workers must know to make the samples of a category, in a folder of the spool.

`job.json` has the inputs; `plan.parquet` has the rows, padded to whole batches; `batches.parquet` has the keys of the batches;
`judge.npz` has the measure of the verdict, if there is one.
The folder's name ends in the digest of the inputs: other inputs are another job. The folder appears at once, with all files.
"""

import io
import json
from contextlib import suppress
from functools import cached_property, reduce
from operator import or_
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from stage.core.digests import digest_of, file_digest
from stage.core.durable import read_sealed
from stage.core.errors import CorruptFileError
from stage.core.progress import track
from stage.core.section import Section
from stage.jobs.inputs import inputs_of, origin_of, refuse_differences
from stage.jobs.plan_table import BatchEntry, read_entries, read_rows
from stage.jobs.store import BatchStore
from stage.synthesis.judge import Judge
from stage.synthesis.recipe import Recipe
from stage.synthesis.rows import Identity, Origin, PlanRow
from stage.synthesis.schema import PLAN

RECORD, JUDGE = "job.json", "judge.npz"


class Batch(NamedTuple):
    """A batch's number in its job, and its key in the spool."""

    number: int
    key: str


class JobRecord(Section):
    """What `job.json` says: the recipe, the inputs at planning, and the digests of the files beside it."""

    recipe: Recipe
    inputs: dict[str, str]
    rejected: tuple[Identity, ...]
    digests: dict[str, str]


class Job:
    """A job in its `folder`, read and checked by `load_job`."""

    def __init__(self, folder: Path, record: JobRecord) -> None:
        """`record` is what the folder's `job.json` says."""
        self.folder, self.recipe, self.inputs, self.digests = folder, record.recipe, record.inputs, record.digests
        self.rejected = record.rejected
        self.store = BatchStore(folder.parents[1])

    @cached_property
    def _plan(self) -> pq.ParquetFile:
        return pq.ParquetFile(self.folder / PLAN)

    @cached_property
    def _entries(self) -> list[BatchEntry]:
        return read_entries(self.folder)

    @cached_property
    def judge(self) -> Judge | None:
        """The measure of the verdict; None if every sample is kept, whatever it looks like."""
        return Judge.read(self.folder / JUDGE) if JUDGE in self.digests else None

    def batches(self) -> list[Batch]:
        """Every batch, in the order of the plan."""
        return [Batch(number, entry.key) for number, entry in enumerate(self._entries)]

    def rows(self, number: int) -> list[PlanRow]:
        """The rows of a batch. A batch of the first round is whole: rows with an ordinal from `synthesize.count` on fill it, unpublished."""
        return read_rows(self._plan, self._entries[number])

    @property
    def is_asked_for(self) -> pc.Expression:
        """Whether a row of a plan or of samples was asked for and does not only fill its batch."""
        counts = {one.defect: self.recipe.count_of(one.defect) for one in self.recipe.missed}
        more = ((pc.field("defect") == defect) & (pc.field("ordinal") < count) for defect, count in counts.items())
        return reduce(or_, more, pc.field("ordinal") < self.recipe.synthesize.count)

    def samples_in(self, number: int) -> int:
        """How many rows of a batch are published."""
        return self._entries[number].published

    def read(self, batch: Batch) -> pa.Table:
        """The samples of a finished batch, compared with its digest. Raises CorruptFileError if they are damaged or gone."""
        content = self.store.read(batch.key)
        table = None if content is None else pq.ParquetFile(io.BytesIO(content)).read()
        if table is None or set(table["batch_key"].to_pylist()) != {batch.key}:
            raise CorruptFileError(
                f"Expected batch {batch.number} of {self.folder} as it was kept, found it changed or gone, at {self.store.file(batch.key)}. "
                "Run `dvc repro synthesize` again, which makes it again."
            )
        return table

    def origin(self, key: str) -> Origin:
        """What every sample of a batch records about its making."""
        return origin_of(self.recipe, self.inputs, key)

    def claim(self, number: int) -> Path:
        """The file that claims a batch."""
        return self.folder / "claims" / f"{number}.json"

    def failures(self, number: int) -> Path:
        """The folder with one file per failed try at a batch, or worker that died over it."""
        return self.folder / "failures" / str(number)

    def aside(self, number: int) -> Path:
        """The file that sets a batch aside; JSON with a `reason`."""
        return self.folder / "aside" / f"{number}.json"

    def set_aside(self) -> dict[int, str]:
        """The batches that were set aside, by number, with their reasons."""
        files = sorted((self.folder / "aside").glob("[0-9]*.json"), key=lambda file: int(file.stem))
        reasons: dict[int, str] = {}
        for file in files:
            with suppress(FileNotFoundError):  # a new run has begun, which tries it again
                reasons[int(file.stem)] = str(json.loads(file.read_text(encoding="utf-8"))["reason"])
        return reasons

    def left(self) -> list[Batch]:
        """The batches that the spool lacks, judged by file names; reads no batch."""
        return [batch for batch in self.batches() if not self.store.is_there(batch.key)]

    def unfinished(self) -> list[Batch]:
        """The batches that the spool lacks or holds damaged; reads every batch that is there."""
        return [batch for batch in self.batches() if self.store.finished(batch.key) is None]

    def is_settled(self, batch: Batch) -> bool:
        """Whether nobody need make a batch: a file of its name is in the spool, or it was set aside."""
        return self.store.is_there(batch.key) or self.aside(batch.number).exists()

    def delete_damaged(self) -> list[Batch]:
        """Drop every damaged batch from the spool and return those; reads all batches that are there.

        A batch that another worker has made again in the meantime may be dropped too, which costs only time.
        """
        there = [batch for batch in self.batches() if self.store.is_there(batch.key)]
        if not there:
            return []
        checked = track(there, total=len(there), label=f"check finished batches of {self.recipe.method}, {self.recipe.category}")
        damaged = [batch for batch in checked if self.store.finished(batch.key) is None]
        for batch in damaged:
            self.store.drop(batch.key)
        return damaged

    def check(self, on: str) -> None:
        """Refuse to go on if a file, the code or the machine differs from what the job was planned with; `on` is `cpu` or `cuda`.

        Raises a ConfigError that names every difference.
        """
        now = inputs_of(self.recipe.model_copy(update={"device": on}), self.rejected)
        refuse_differences(self.inputs, now, self.folder)


def load_job(folder: Path) -> Job:
    """The job in a folder. Raises CorruptFileError if it is missing, or not as it was written."""
    try:
        told = read_sealed(folder / RECORD)
        record = JobRecord.model_validate_json(json.dumps({name: value for name, value in told.items() if name != "seal"}))
    except FileNotFoundError:
        raise CorruptFileError(f"Expected a job with its {RECORD} in {folder}, found none. Run `dvc repro synthesize`.") from None
    except ValueError as error:  # also pydantic's, for a job of another version
        raise _changed(folder, RECORD, str(error)) from None
    if not folder.resolve().name.endswith(f"-{digest_of(record.inputs)}"):
        raise _changed(folder, RECORD, "inputs of another job")
    for name, digest in record.digests.items():
        if not (folder / name).is_file() or file_digest(folder / name) != digest:
            raise _changed(folder, name, "it changed or gone")
    return Job(folder, record)


def _changed(folder: Path, name: str, found: str) -> CorruptFileError:
    return CorruptFileError(
        f"Expected {name} as it was written, found {found}, in {folder}. Run `dvc repro synthesize`, which plans it again; "
        "finished batches are kept elsewhere."
    )
