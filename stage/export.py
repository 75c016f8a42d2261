"""Published samples as loose files in MVTec AD's layout, which every training script of this field reads. Rebuilt at will."""

import shutil
from pathlib import Path, PurePosixPath

from stage.datasets.rules import GOOD
from stage.examples import pairs_of
from stage.pairs import Pairs
from stage.progress import track
from stage.shards import read_samples


def export_mvtec(data: Path, category: str, output: Path) -> int:
    """Write `output`/<category>: prepared normal images under train/good, accepted samples under test and ground_truth.

    Returns the number of samples. Refuses a folder that is there already with a ValueError; a kill leaves no half folder.
    """
    target = output / category
    if target.exists():
        raise ValueError(f"Expected to make the folder {target}, found it there already. Remove it, or choose another one with --output.")
    partial = output / f".{category}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    normal = pairs_of(data / "prepare" / category, "train", good=True)
    samples = read_samples(data / "synthesize" / category, accepted_only=True)
    _write(normal, [PurePosixPath("train", GOOD)] * len(normal), partial, masks=False)
    _write(samples, [PurePosixPath("test", component(name)) for name in samples.table["defect"].to_pylist()], partial, masks=True)
    partial.rename(target)
    return len(samples)


def component(name: str) -> str:
    """A defect type's name, fit to be a folder; names come from data, so anything that could climb or hide is refused."""
    if not name or name != Path(name).name or name.startswith(".") or "\\" in name or "\0" in name:
        raise ValueError(f"Expected a defect type that can name a folder, found {name!r} among the samples. Rename it in the data set.")
    return name


def _write(pairs: Pairs, folders: list[PurePosixPath], root: Path, *, masks: bool) -> None:
    numbers: dict[PurePosixPath, int] = {}
    columns = ("image", "mask") if masks else ("image",)
    for index, folder in enumerate(
        track(
            folders, total=len(folders), label=f"export {root.name[1:].removesuffix('.partial')}, {'samples' if masks else 'normal images'}"
        )
    ):
        numbers[folder] = (number := numbers.get(folder, -1) + 1)
        places = {"image": root / folder / f"{number:06d}.png", "mask": root / "ground_truth" / folder.name / f"{number:06d}_mask.png"}
        for column in columns:
            places[column].parent.mkdir(parents=True, exist_ok=True)
            places[column].write_bytes(pairs.table[column][index]["bytes"].as_py())
