"""Exports published samples, or the training set that `segment` chose, as loose files in MVTec AD's layout, which many training scripts read."""

import shutil
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import pyarrow as pa

from stage.core.errors import CorruptFileError, Refusal
from stage.core.params import Params
from stage.core.progress import track
from stage.datasets.examples import column, pairs_of
from stage.datasets.pairs import PIXELS, Pairs
from stage.datasets.rules import GOOD
from stage.release.reader import read_manifest, sample_rows
from stage.segmentation.arms import ArmChoice, arm_choices, compared_arms, shares_of
from stage.segmentation.choice import CHOICE, Choice
from stage.segmentation.mixture import thinned


def export_mvtec(data: Path, category: str, method: str, output: Path) -> int:
    """Write `output`/<category>: prepared normal images in train/good, accepted samples of one method in test and ground_truth.

    Returns the number of samples. Raises Refusal if the folder exists, or if a defect type cannot have a folder of its own; a kill
    leaves no half folder.
    """
    normal, samples = _normal_images(data, category, output), data / "synthesize" / category / method
    manifest = read_manifest(samples)
    folders = {shard["defect"]: PurePosixPath("test", component(shard["defect"])) for shard in manifest["shards"]}
    _export(normal, _accepted(samples, folders), manifest["accepted"], folders.values(), output / category, f"export {method} {category}")
    return manifest["accepted"]


class Chosen(NamedTuple):
    """The training set that was chosen on held-out images: its real defects, its samples, and the reason."""

    real: int
    samples: int
    advice: str


def export_chosen(data: Path, category: str, params: Params, output: Path) -> Chosen:
    """Write `output`/<category>: what `segment` found best to train on. Real defects are `real-000000.png` beside the samples.

    If nothing helps, that is the real third alone. Raises Refusal as `export_mvtec`, and if nothing was chosen.
    """
    normal, (choice, arm) = _normal_images(data, category, output), _chosen_arm(data, category, params)
    shares = shares_of(arm, params.segment.mixture)
    homes = [data / "synthesize" / category / method for method in shares]
    sizes = [read_manifest(home)["accepted"] for home in homes]
    kept = thinned(sizes, [*shares.values()])
    real = pairs_of(data / "prepare" / category, "train", good=False)
    defects = {*column(real, "defect")}
    folders = {defect: PurePosixPath("test", component(defect)) for defect in sorted(defects)}
    samples = (entry for home, some in zip(homes, kept, strict=True) for entry in _at(_accepted(home, folders), {*some}))
    count, of_samples = (len(real) if arm.is_real else 0), sum(map(len, kept))
    defective = chain(_real(real, folders) if count else (), samples)
    _export(normal, defective, count + of_samples, folders.values(), output / category, f"export chosen {category}")
    return Chosen(count, of_samples, choice.advice)


def chosen_methods(data: Path, category: str, params: Params) -> list[str]:
    """The methods whose samples `export_chosen` writes; raises Refusal as it does."""
    return [*shares_of(_chosen_arm(data, category, params)[1], params.segment.mixture)]


def _chosen_arm(data: Path, category: str, params: Params) -> tuple[Choice, ArmChoice]:
    file = data / "segment" / category / CHOICE
    if (choice := Choice.read(file)) is None:
        raise Refusal(
            f"Expected {file}, which says what to train on, found none: nothing was held out to choose by. Set segment.folds to 3 and run "
            "`dvc repro`, or export every method without --chosen. With a single real part in a fold there is no choice."
        )
    known = {one.name: one for one in arm_choices(compared_arms(params.methods, params.segment.mixture), params.segment.arms)}
    if choice.arm not in known:
        raise Refusal(
            f"Expected the arm {choice.arm} of {file} among those of params.yaml, found {', '.join(known)}. Run `dvc repro segment`."
        )
    return choice, known[choice.arm]


def _normal_images(data: Path, category: str, output: Path) -> pa.ChunkedArray:
    """The column of the prepared normal training images; raises Refusal if the folder to make exists."""
    if (target := output / category).exists():
        raise Refusal(f"Expected to make the folder {target}, found it there already. Remove it, or choose another one with --output.")
    return pairs_of(data / "prepare" / category, "train", good=True).table["image"]


def _export(
    normal: pa.ChunkedArray, defective: Iterable["_Entry"], count: int, folders: Collection[PurePosixPath], target: Path, label: str
) -> None:
    """Write normal images to train/good, and `count` defective ones; a kill leaves no half folder. `label` begins the labels of both progress bars."""
    partial = target.with_name(f".{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    _make_folders({folder.name for folder in folders}, partial)
    good = (_Entry(PurePosixPath("train", GOOD), {"image": cell["bytes"].as_py()}) for cell in normal)
    _write(good, len(normal), partial, f"{label}, normal images")
    _write(defective, count, partial, f"{label}, defects")
    partial.rename(target)


def _real(real: Pairs, folders: Mapping[str, PurePosixPath]) -> Iterator["_Entry"]:
    for defect, image, mask in zip(column(real, "defect"), real.table["image"], real.table["mask"], strict=True):
        yield _Entry(folders[defect], {"image": image["bytes"].as_py(), "mask": mask["bytes"].as_py()}, "real-")


def _at(entries: Iterable["_Entry"], places: Collection[int]) -> Iterator["_Entry"]:
    return (entry for place, entry in enumerate(entries) if place in places)


def component(name: str) -> str:
    """A defect type's name as a folder name. Refuses a name that could leave its folder or hide in it, since names come from data, and
    `good`, the folder of normal images.
    """
    if name in ("", GOOD) or name != Path(name).name or name.startswith(".") or "\\" in name or "\0" in name:
        raise Refusal(f"Expected a defect type that can name a folder, found {name!r} among the samples. Rename it in the data set.")
    return name


def _make_folders(defects: Collection[str], root: Path) -> None:
    """Make a folder for each defect type. Refuses a type whose name the disk takes for another's, so that no picture is overwritten."""
    for defect in sorted(defects):
        try:
            (root / "test" / defect).mkdir(parents=True)
        except FileExistsError:
            raise Refusal(
                f"Expected a folder for each defect type, found that the disk of {root.parent} takes {defect!r} and another type for one "
                "name. Rename one in the data set, or choose another disk with --output."
            ) from None


class _Entry(NamedTuple):
    """The folder of a picture, the PNGs of the picture and of its mask, if it has one, and the prefix of its file's name."""

    folder: PurePosixPath
    pngs: dict[str, bytes]
    prefix: str = ""


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


def _write(entries: Iterable[_Entry], count: int, root: Path, label: str) -> None:
    numbers: Counter[tuple[PurePosixPath, str]] = Counter()
    for folder, pngs, prefix in track(entries, total=count, label=label):
        name = f"{prefix}{numbers[folder, prefix]:06d}"
        places = {"image": root / folder / f"{name}.png", "mask": root / "ground_truth" / folder.name / f"{name}_mask.png"}
        for kind, png in pngs.items():
            places[kind].parent.mkdir(parents=True, exist_ok=True)
            places[kind].write_bytes(png)
        numbers[folder, prefix] += 1
