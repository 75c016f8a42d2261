"""Exports: a folder that other people's training scripts read, and names from data that cannot leave it."""

import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from small_factory import CATEGORY, Factory, build, origin, plan_row, publish_rows

from stage.core.errors import CorruptFileError, Refusal
from stage.datasets.catalog import prepare
from stage.datasets.examples import CATALOG, pairs_of
from stage.datasets.layouts import detect_layout
from stage.datasets.pairs import Pair
from stage.release.export import component, export_chosen, export_mvtec
from stage.release.reader import read_samples, sample_rows
from stage.segmentation.choice import CHOICE, Choice, Gain
from stage.synthesis.rows import Verdict
from stage.synthesis.schema import sample_row, write_samples

SEEN = (0.25, 0.125, "f" * 64, 7.5)  # margin, share that looks normal, the nearest training defect and its distance

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def factory(tmp_path_factory: pytest.TempPathFactory) -> Factory:
    return build(tmp_path_factory.mktemp("factory"))


@pytest.fixture
def data(factory: Factory, tmp_path: Path) -> Path:
    """A data folder of this test's own, with the prepared category and no samples yet."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "prepare").symlink_to(factory.data / "prepare")
    return tmp_path / "data"


def publish_samples(data: Path, defects: list[str]) -> None:
    """Five samples of each type, of which the third is rejected."""
    rows = []
    for defect in defects:
        for ordinal in range(5):
            random = np.random.default_rng(len(rows))
            mask = np.zeros((16, 16), np.uint8)
            mask[ordinal : ordinal + 4, 4:9] = 1
            sample = Pair(random.integers(0, 256, (16, 16, 3), dtype=np.uint8), mask)
            verdict = (
                Verdict(1, 0, 1, 0, *SEEN, "rejected", "looks normal") if ordinal == 2 else Verdict(50, 0, 1, 1, *SEEN, "accepted", "")
            )
            rows.append(sample_row(plan_row(ordinal, defect=defect, sample_id=f"{defect}-{ordinal}"), sample, verdict, origin()))
    publish_rows(rows, 100, data / "synthesize" / CATEGORY / "stage")


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_the_layout_is_mvtec_ad_s(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No training script would find the images and the masks that belong to them."""
    publish_samples(data, ["crack", "rißig"])

    count = export_mvtec(data, CATEGORY, "stage", tmp_path / "export")

    assert count == 8
    progress = capsys.readouterr().err.splitlines()
    assert {line.split(": ")[0] for line in progress} == {f"export stage {CATEGORY}, normal images", f"export stage {CATEGORY}, defects"}
    numbers = [f"{k:06d}" for k in range(4)]
    samples = {
        f"{kind}/{defect}/{k}{end}.png"
        for defect in ("crack", "rißig")
        for k in numbers
        for kind, end in (("test", ""), ("ground_truth", "_mask"))
    }
    assert files(tmp_path / "export") == {f"{CATEGORY}/{name}" for name in samples | {f"train/good/{k:06d}.png" for k in range(5)}}


def opened(path: Path) -> tuple[bytes, dict[str, Any]]:
    """A picture's pixels and text chunks."""
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB")).tobytes(), {str(name): value for name, value in picture.info.items()}


def choose(data: Path, arm: str) -> None:
    """Say that `segment` chose an arm."""
    (data / "segment" / CATEGORY).mkdir(parents=True, exist_ok=True)
    Choice(arm, {arm: Gain(0.02, 0.005)}, []).write(data / "segment" / CATEGORY / CHOICE)


@pytest.mark.parametrize(
    ("arm", "real", "samples"),
    [("real_and_stage", 3, 4), ("real_only", 3, 0), ("only_stage", 0, 4), ("real_and_mixture", 3, 4 + 2), ("real_augmented", 3, 0)],
)
def test_what_was_chosen_is_exported_and_no_more(factory: Factory, data: Path, tmp_path: Path, arm: str, real: int, samples: int) -> None:
    """A user would train on samples that cost more than they bring, or without the real defects."""
    segment = factory.params.segment.model_copy(
        update={"mixture": {"stage": 2.0, "paste": 1.0}, "arms": ("real_augmented", "synthetic_only")}
    )
    params = factory.params.model_copy(update={"methods": ("stage", "paste"), "segment": segment})
    publish_samples(data, ["crack"])
    shutil.copytree(data / "synthesize" / CATEGORY / "stage", data / "synthesize" / CATEGORY / "paste")
    choose(data, arm)

    found = export_chosen(data, CATEGORY, params, tmp_path / "export")

    test = {path: opened(path) for path in (tmp_path / "export" / CATEGORY / "test").rglob("*.png")}
    kept = {path: pixels for path, (pixels, text) in test.items() if "Synthetic" not in text}
    trained = pairs_of(data / "prepare" / CATEGORY, "train", good=False)
    assert (found.real, found.samples) == (real, samples) == (len(kept), len(test) - len(kept))
    assert {*kept.values()} == ({pair.image.tobytes() for pair in trained} if real else set())
    assert all(path.name.startswith("real-") for path in kept)
    assert len(files(tmp_path / "export" / CATEGORY / "ground_truth")) == len(test)
    assert found.advice.startswith(f"Train on {'real defects alone' if arm == 'real_only' else arm.replace('_', ' ')}: ")


def test_without_a_choice_nothing_is_exported(factory: Factory, data: Path, tmp_path: Path) -> None:
    """Whatever lies there would pass for what was found best."""
    with pytest.raises(Refusal, match=r"Expected .*choice.json, which says what to train on, found none: .* Set segment.folds to 3"):
        export_chosen(data, CATEGORY, factory.params, tmp_path / "export")
    choose(data, "real_and_glass")
    with pytest.raises(Refusal, match=r"Expected the arm real_and_glass of .* among those of params.yaml, found real_only, "):
        export_chosen(data, CATEGORY, factory.params, tmp_path / "export")
    assert not (tmp_path / "export").exists()


def test_our_own_reader_reads_it_back(factory: Factory, data: Path, tmp_path: Path) -> None:
    """Exported samples would not be those that were published, or masks would lie beside other images."""
    publish_samples(data, ["crack", "spot"])
    export_mvtec(data, CATEGORY, "stage", tmp_path / "export")

    assert detect_layout(tmp_path / "export") == ("mvtec", [CATEGORY])
    summary, _ = prepare(factory.params.prepare, [CATEGORY], tmp_path / "export", tmp_path / "again")

    assert dict(zip(summary.defect, summary.accepted, strict=True)) == {"crack": 4, "good": 5, "spot": 4}
    assert summary.set_aside.sum() == 0
    published = read_samples(data / "synthesize" / CATEGORY / "stage", accepted_only=True)
    again = [*pairs_of(tmp_path / "again" / CATEGORY, "train", good=False), *pairs_of(tmp_path / "again" / CATEGORY, "test", good=False)]
    assert sorted(each.image.tobytes() + each.mask.tobytes() for each in published) == sorted(
        each.image.tobytes() + each.mask.tobytes() for each in again
    )


def test_normal_images_are_the_prepared_training_images(data: Path, tmp_path: Path) -> None:
    """A detector trained on the export would be shown images of the test."""
    publish_samples(data, ["crack"])
    export_mvtec(data, CATEGORY, "stage", tmp_path / "export")

    exported = [np.asarray(Image.open(path)) for path in sorted((tmp_path / "export" / CATEGORY / "train" / "good").iterdir())]
    prepared = [pair.image for pair in pairs_of(data / "prepare" / CATEGORY, "train", good=True)]

    assert len(exported) == 5
    assert all(np.array_equal(one, other) for one, other in zip(exported, prepared, strict=True))


def test_an_exported_picture_says_that_it_is_synthetic(data: Path, tmp_path: Path) -> None:
    """Once it is a loose file, it would pass for a photograph."""
    publish_samples(data, ["crack"])
    export_mvtec(data, CATEGORY, "stage", tmp_path)

    with Image.open(tmp_path / CATEGORY / "test" / "crack" / "000002.png") as sample:
        assert {"Synthetic": "true", "Sample": "crack-3"}.items() <= sample.info.items()  # the third of five was rejected
    with Image.open(tmp_path / CATEGORY / "train" / "good" / "000000.png") as photograph:
        assert photograph.info == {}


@pytest.mark.parametrize("name", ["..", ".", "", ".hidden", "../up", "a/b", "/etc", "a\\b", "a\0b", "good"])
def test_a_defect_name_that_could_leave_its_folder_is_refused(data: Path, tmp_path: Path, name: str) -> None:
    """A data set from elsewhere could write files anywhere on the disk."""
    publish_samples(data, ["crack", name])
    before = files(tmp_path)

    with pytest.raises(ValueError, match=r"Expected a defect type that can name a folder, found .* Rename it"):
        export_mvtec(data, CATEGORY, "stage", tmp_path / "export")

    assert not (tmp_path / "export" / CATEGORY).exists()
    assert all(f"/.{CATEGORY}.partial/train/good/" in f"/{path}" for path in files(tmp_path) - before)


def test_two_types_that_a_disk_takes_for_one_are_refused(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a Mac's disk, samples of `Crack` would be written over those of `crack`."""
    make = Path.mkdir

    def mkdir(path: Path, *given: Any, **more: Any) -> None:
        make(path.parent / path.name.lower(), *given, **more)

    publish_samples(data, ["crack", "Crack"])
    monkeypatch.setattr(Path, "mkdir", mkdir)

    with pytest.raises(ValueError, match=r"Expected a folder for each defect type, found that the disk .* Rename one"):
        export_mvtec(data, CATEGORY, "stage", tmp_path / "export")


@pytest.mark.parametrize("change", [{"image": None}, {"mask": {"bytes": None, "path": None}}, {"defect": "spot"}])
def test_a_sample_that_is_not_as_published_is_refused(data: Path, tmp_path: Path, change: dict[str, Any]) -> None:
    """A data set from elsewhere would end the export in a traceback."""
    publish_samples(data, ["crack"])
    folder = data / "synthesize" / CATEGORY / "stage"
    (path,) = (folder / "shards").iterdir()
    rows = pq.read_table(path).to_pylist()
    rows[0].update(change)
    path.unlink()
    write_samples(rows, path)

    with pytest.raises(CorruptFileError, match=r"Expected samples with pictures, .* `stage verify` says where"):
        export_mvtec(data, CATEGORY, "stage", tmp_path / "export")
    with suppress(CorruptFileError):
        list(read_samples(folder, accepted_only=True))


@pytest.mark.parametrize("name", ["crack", "broken_large", "Riß 3", "a.b", "…", "<b>"])
def test_an_odd_but_harmless_name_is_accepted(name: str) -> None:
    """A user's defect types could not be exported."""
    assert component(name) == name


def test_a_folder_that_is_there_is_left_alone(data: Path, tmp_path: Path) -> None:
    """Someone's files would be overwritten."""
    publish_samples(data, ["crack"])
    (tmp_path / "export" / CATEGORY).mkdir(parents=True)
    (tmp_path / "export" / CATEGORY / "precious.txt").write_text("mine")

    with pytest.raises(ValueError, match=rf"{CATEGORY}, found it there already. Remove it, or choose another one with --output"):
        export_mvtec(data, CATEGORY, "stage", tmp_path / "export")

    assert files(tmp_path / "export") == {f"{CATEGORY}/precious.txt"}


def test_a_kill_leaves_no_half_folder_and_the_next_export_is_whole(data: Path, tmp_path: Path) -> None:
    """Half a data set would be trained on, or the leftovers of a kill would be mixed with the next one's files."""
    publish_samples(data, ["crack"])
    command = f"""
import resource, signal
from pathlib import Path
from stage.release.export import export_mvtec
signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
resource.setrlimit(resource.RLIMIT_FSIZE, ({_largest(data) - 1},) * 2)  # the first file over it kills the process
export_mvtec(Path({str(data)!r}), {CATEGORY!r}, "stage", Path({str(tmp_path / "export")!r}))
"""
    killed = subprocess.run([sys.executable, "-c", command], cwd=ROOT, capture_output=True, check=False)

    assert killed.returncode == -25, killed.stderr  # SIGXFSZ
    assert files(tmp_path / "export")
    assert not (tmp_path / "export" / CATEGORY).exists()
    (tmp_path / "export" / f".{CATEGORY}.partial" / "left over.png").touch()
    assert export_mvtec(data, CATEGORY, "stage", tmp_path / "export") == 4
    assert len(files(tmp_path / "export")) == 5 + 2 * 4


def _largest(data: Path) -> int:
    return max(len(row["image"]["bytes"]) for row in sample_rows(data / "synthesize" / CATEGORY / "stage", ["image"]))


def test_what_is_missing_is_named(data: Path, tmp_path: Path) -> None:
    """`stage export` before `dvc repro` would end in a traceback."""
    with pytest.raises(ValueError, match=r"manifest\.json.*dvc repro synthesize"):
        export_mvtec(data, CATEGORY, "stage", tmp_path / "export")
    with pytest.raises(ValueError, match=rf"{CATALOG}, found none.*dvc repro"):
        export_mvtec(data, "elsewhere", "stage", tmp_path / "export")
