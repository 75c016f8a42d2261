"""Exports published samples as loose files in MVTec AD's layout, which training scripts of this field read."""

import shutil
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from stage.core.errors import CorruptFileError, Refusal
from stage.core.progress import track
from stage.datasets.examples import pairs_of
from stage.datasets.rules import GOOD
from stage.release.reader import PIXELS, read_manifest, sample_rows


def export_mvtec(data: Path, category: str, method: str, output: Path) -> int:
    """Write `output`/<category>: prepared normal images in train/good, accepted samples of one method in test and ground_truth.

    Returns the number of samples. Raises Refusal if the folder exists, or if a defect type cannot have a folder of its own; a kill
    leaves no half folder.
    """
    target = output / category
    if target.exists():
        raise Refusal(f"Expected to make the folder {target}, found it there already. Remove it, or choose another one with --output.")
    normal = pairs_of(data / "prepare" / category, "train", good=True).table["image"]
    samples = data / "synthesize" / category / method
    manifest = read_manifest(samples)
    folders = {shard["defect"]: PurePosixPath("test", component(shard["defect"])) for shard in manifest["shards"]}
    partial = output / f".{category}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    _make_folders({folder.name for folder in folders.values()}, partial)
    _write((_Entry(PurePosixPath("train", GOOD), {"image": cell["bytes"].as_py()}) for cell in normal), len(normal), partial)
    _write(_accepted(samples, folders), manifest["accepted"], partial)
    partial.rename(target)
    return manifest["accepted"]


def component(name: str) -> str:
    """A defect type's name as a folder name. Names come from data: one that could leave its folder or hide in it is refused, and `good`,
    which is the folder of normal images.
    """
    if name in ("", GOOD) or name != Path(name).name or name.startswith(".") or "\\" in name or "\0" in name:
        raise Refusal(f"Expected a defect type that can name a folder, found {name!r} among the samples. Rename it in the data set.")
    return name


def _make_folders(defects: Collection[str], root: Path) -> None:
    """A folder for each defect type. On a disk that takes two of their names for one, the second is refused: no picture is written twice."""
    for defect in sorted(defects):
        try:
            (root / "test" / defect).mkdir(parents=True)
        except FileExistsError:
            raise Refusal(
                f"Expected a folder for each defect type, found that the disk of {root.parent} takes {defect!r} and another type for one "
                "name. Rename one in the data set, or choose another disk with --output."
            ) from None


class _Entry(NamedTuple):
    """The folder of a picture, and the PNGs of the picture and of its mask, if it has one."""

    folder: PurePosixPath
    pngs: dict[str, bytes]


def _accepted(samples: Path, folders: Mapping[str, PurePosixPath]) -> Iterator[_Entry]:
    for row in sample_rows(samples, ["defect", "verdict", *PIXELS]):
        if row["verdict"] == "accepted":
            pngs: dict[str, bytes] = {name: row[name]["bytes"] for name in PIXELS if row[name] and row[name]["bytes"]}
            if row["defect"] not in folders or len(pngs) < len(PIXELS):
                raise CorruptFileError(
                    f"Expected samples with pictures, of the defect types that the manifest names, found another of {row['defect']!r} in "
                    f"{samples}. `stage verify` says where."
                )
            yield _Entry(folders[row["defect"]], pngs)


def _write(entries: Iterable[_Entry], count: int, root: Path) -> None:
    numbers: Counter[PurePosixPath] = Counter()
    for folder, pngs in track(entries, total=count, label=f"export {root.name[1:].removesuffix('.partial')}"):
        name = f"{numbers[folder]:06d}"
        places = {"image": root / folder / f"{name}.png", "mask": root / "ground_truth" / folder.name / f"{name}_mask.png"}
        for kind, png in pngs.items():
            places[kind].parent.mkdir(parents=True, exist_ok=True)
            places[kind].write_bytes(png)
        numbers[folder] += 1
