"""Recalled sources that are still in use: in the working tree until the next `dvc repro`, or behind a sample or a metric of any version."""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from stage.core.paths import WITHDRAWALS
from stage.core.wording import counted
from stage.lineage.made_from import COLUMNS, made_from

if TYPE_CHECKING:
    from stage.datasets.recalled import Recall
    from stage.lineage.database import Answer, Row


class WithdrawnFiles(NamedTuple):
    """Photographs and textures by their bytes, masks by path and bytes, each with the files withdrawn with it; samples by id."""

    digests: frozenset[str]
    masks: frozenset[tuple[str, str]]
    samples: frozenset[str]

    @classmethod
    def by(cls, recalls: "Sequence[Recall]", there: Collection[tuple[str, str]]) -> "WithdrawnFiles":
        """What these recalls withdraw where the catalog had the files `there`, by path and SHA-256.

        A mask goes with its photograph, and a photograph with its mask, only where the recalled one is: `prepare` reads both again once it
        is corrected.
        """
        pairs = [one for one in recalls if (one.path, one.sha256) in there]
        digests = {one.sha256 for one in recalls if one.kind in ("image", "texture")} | {one.image_sha256 for one in pairs}
        masks = {(one.path, one.sha256) for one in recalls if one.kind == "mask"} | {(one.mask_path, one.mask_sha256) for one in pairs}
        return cls(frozenset(digests - {""}), frozenset(masks - {("", "")}), frozenset(one.path for one in recalls if one.kind == "sample"))

    def has(self, path: str, sha256: str) -> bool:
        """Whether a file is among them."""
        return sha256 in self.digests or (path, sha256) in self.masks


def known_recalls() -> "Sequence[Recall]":
    """All withdrawals; without a file of them, no reader is imported."""
    if not WITHDRAWALS.is_file():
        return ()
    from stage.datasets.recalled import read_recalls

    return read_recalls()


def recalled_behind(
    answer: "Answer", recalls: "Sequence[Recall]", samples: Sequence[str], there: Collection[tuple[str, str]]
) -> "list[Row]":
    """The withdrawals among the files of an answer of `up`, and among the `samples` behind it, with what each was used as; `there` as in `WithdrawnFiles.by`."""
    used = [(row["path"], row["sha256"], row["role"]) for name in ("made_from", "every_photograph") for row in answer.get(name, ())]
    used += [(row["path"], row["sha256"], f"trained the {row['network']}") for row in answer.get("trained_on", ())]
    found: list[Row] = []
    for one in recalls:
        gone = WithdrawnFiles.by([one], there)
        roles = ["sample"] if gone.samples & {*samples} else sorted({role for path, sha256, role in used if gone.has(path, sha256)})
        if roles:
            found.append({"path": one.path, "kind": one.kind, "used_as": roles, "date": one.date, "reason": one.reason})
    return found


def withdrawn_in(data: Path, category: str, methods: Sequence[str], recalls: "Sequence[Recall]") -> dict[Path, str]:
    """Which published samples and prepared training images of a category must go, a sentence for each folder."""
    found = withdrawn_samples([data / "synthesize" / category / method for method in methods], recalls)
    folder = data / "prepare" / category
    return found | ({folder: told} if recalls and (told := _photographs(folder, recalls)) else {})


def withdrawn_samples(folders: Sequence[Path], recalls: "Sequence[Recall]") -> dict[Path, str]:
    """How many samples of published folders come from what was recalled, in words, by folder; without those that have none."""
    return {folder: told for folder in folders if recalls and (told := _samples(folder, recalls))}


def _samples(folder: Path, recalls: "Sequence[Recall]") -> str:
    """As `withdrawn_samples`. If a network saw what was recalled, all of them do: a folder has the networks of one job."""
    from stage.release.reader import open_shard, read_manifest, sample_rows  # here, because it takes time, and mostly nothing was recalled

    read_manifest(folder)
    # Of every category, since a base and textures may be of all.
    tables = [open_shard(path).read(["path", "sha256"]) for path in folder.parents[1].glob(f"*/{folder.name}/sources.parquet")]
    gone = WithdrawnFiles.by(recalls, {(row["path"], row["sha256"]) for table in tables for row in table.to_pylist()})
    trained = {sha256 for some in open_shard(folder / "checkpoints.parquet").read(["sources"])["sources"].to_pylist() for sha256 in some}
    is_trained = bool(trained & gone.digests)
    found = [
        is_trained or row["sample_id"] in gone.samples or any(gone.has(one.path, one.sha256) for one in made_from(row))
        for row in sample_rows(folder, ["sample_id", *COLUMNS])
    ]
    return f"{sum(found)} of {counted(len(found), 'sample')} in {folder}" if any(found) else ""


def _photographs(folder: Path, recalls: "Sequence[Recall]") -> str:
    from stage.datasets.table import read_catalog, training_part

    rows = training_part(read_catalog(folder / "catalog.parquet"))
    there = {pair for kind in ("image", "mask") for pair in zip(rows[f"{kind}_path"], rows[f"{kind}_sha256"], strict=True)}
    gone = WithdrawnFiles.by(recalls, there)
    count = sum(map(gone.has, rows.image_path, rows.image_sha256))
    return f"{counted(count, 'photograph')} in {folder}" if count else ""
