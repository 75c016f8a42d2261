"""Everything that the report reads, small, in the formats of the other verbs; and a page taken apart."""

import csv
import hashlib
import json
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from small_factory import origin, publish_rows

from stage.core.params import Params, load_params
from stage.datasets.columns import PICTURE, STRING
from stage.datasets.images import pixel_digest
from stage.datasets.pairs import Pair, image_cell, write_table
from stage.datasets.rules import GOOD
from stage.datasets.table import COLUMNS as CATALOG_COLUMNS
from stage.release.fidelity import measure_fidelity, write_fidelity
from stage.segmentation.results import DIFFERENCE_COLUMNS, TYPE_COLUMNS, TYPES, gather_results, write_results
from stage.segmentation.scores import ALL_TYPES, COLUMNS
from stage.synthesis.method import Rendered
from stage.synthesis.quality import verdict_on
from stage.synthesis.rows import Identity, PlanRow, TypeRecord
from stage.synthesis.schema import CHECKPOINT_SCHEMA, CHECKPOINTS, VERDICT, sample_row

EDGE = 32
ARMS = {"real_only": 0.5, "real_and_stage": 0.75, "real_and_paste": 0.25}  # every metric
DRAWS = {"real_and_stage": (0.125, 0.25, 0.375), "real_and_paste": (-0.5, -0.25, 0.0)}  # of the difference in AP and IoU
METRICS = ("ap", "iou", "acc", "auroc", "pro", "f1", "false_alarm_pixels", "threshold")
COLOURS = {"stage": (220, 30, 30), "paste": (30, 220, 30)}  # of a method's defects


def normal_image(number: int) -> np.ndarray:
    """A grey ramp, different for every number."""
    ramp = np.linspace(60, 180, EDGE)[None, :, None] + np.array([0, 5 * number, 10])
    return np.broadcast_to(ramp, (EDGE, EDGE, 3)).astype(np.uint8)


def part_mask() -> np.ndarray:
    """A bar that all defects lie on."""
    part = np.zeros((EDGE, EDGE), np.uint8)
    part[6:18, 2:30] = 1
    return part


def defective_pair(number: int, method: str = "stage") -> tuple[np.ndarray, np.ndarray]:
    """A ramp with a 4 px square in the method's colour, red or green, and the square's mask."""
    image, mask = normal_image(number).copy(), np.zeros((EDGE, EDGE), np.uint8)
    mask[8 + number : 12 + number, 8:12] = 1
    image[mask == 1] = COLOURS[method]
    return image, mask


def digest(pixels: np.ndarray) -> str:
    return hashlib.sha256(pixels.tobytes()).hexdigest()


def write_csv(path: Path, rows: list[dict]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def write_text(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def catalog_rows(category: str, defects: list[str]) -> list[dict]:
    rows = []
    for defect, split, count in [(GOOD, "train", 4), *((defect, split, 2) for defect in defects for split in ("train", "test"))]:
        for number in range(count):
            image, mask = defective_pair(number) if defect != GOOD else (normal_image(number), np.zeros((EDGE, EDGE), np.uint8))
            path = f"{category}/{defect}/{split}-{number}.png"
            names = {"category": category, "defect": defect, "split": split, "image_path": path, "group": path, "status": "accepted"}
            digests = {"image_sha256": digest(image), "mask_sha256": None if defect == GOOD else digest(mask)}
            digests["mask_path"] = None if defect == GOOD else mask_path(path)
            part = {"foreground": image_cell(part_mask()), "foreground_strategy": "threshold"}
            rows.append({**names, **digests, **part, "image": image_cell(image), "mask": image_cell(mask)})
    return [*rows, {"category": category, "defect": defects[0], "image_path": "broken.png", "reason": "truncated"}]


def mask_path(path: str) -> str:
    return path.replace(".png", "_mask.png")


def sample_rows(category: str, defect: str, method: str) -> list[dict]:
    """Three samples that are accepted, and a fourth that looks normal."""
    rows = []
    for number in range(4):
        background, (image, mask) = normal_image(number), defective_pair(number, method)
        sample = Pair(np.where(mask[..., None] == 1, background + np.uint8(3), background) if number == 3 else image, mask)
        blank = {name: kind() for name, kind in PlanRow.__annotations__.items()}
        identity = Identity(method, category, defect, number, attempt=0)
        names = {**identity._asdict(), "sample_id": identity.sample_id}
        sources = {"background_path": f"{category}/{GOOD}/train-{number}.png", "background_sha256": digest(background)}
        first, own = f"{category}/{defect}/train-0.png", defective_pair(0)
        if method == "stage":
            sources |= {"mask_path": mask_path(first), "mask_sha256": digest(own[1])}
        mask_of_row = {"mask_kind": "real", "mask_seed": 7 * (method != "stage"), "mask_digest": pixel_digest(own[1]), "foreground": "none"}
        row = PlanRow(**(blank | names | sources | mask_of_row))
        verdict = verdict_on(Rendered(sample), background, defect, None)._replace(
            looks_normal=0.25, nearest_sha256="0" * 64, nearest_distance=9.0
        )
        if number == 3:
            verdict = verdict._replace(verdict="rejected", reason="looks normal: 1 of 1 defects, 0.1 below the threshold")
        networks = {} if method == "stage" else {"checkpoint": "", "base": ""}
        rows.append(sample_row(row, sample, verdict, origin(**networks)))
    return rows


def networks(category: str, defects: list[str], method: str) -> pa.Table:
    """The networks of `origin`, which stage's samples have: adapters that saw the training part, and a base that saw nothing here."""
    trained = [row for row in catalog_rows(category, defects) if row.get("split") == "train"]
    digests = sorted({row[name] for row in trained for name in ("image_sha256", "mask_sha256") if row[name]})
    made = origin()
    rows = [
        {"digest": made.checkpoint, "kind": "adapters", "category": category, "base": made.base, "facts": "{}", "sources": digests},
        {"digest": made.base, "kind": "base", "category": "", "base": "", "facts": '{"base": "hub"}', "sources": []},
    ]
    return pa.Table.from_pylist(rows if method == "stage" else [], schema=CHECKPOINT_SCHEMA)


def write_predictions(path: Path, defects: list[str]) -> None:
    """The arm with stage's samples finds the defect, the real third alone nothing, the one with paste's what is not there."""
    names = ("image", "mask", "real_only", "real_and_stage", "real_and_paste")
    image, mask = defective_pair(0)
    cells = dict(zip(names, map(image_cell, (image, mask, mask * 0, mask, 1 - mask)), strict=True))
    rows = [{"defect": defect, "image_path": "0.png", **cells} for defect in defects]
    write_table(rows, dict.fromkeys(("defect", "image_path"), STRING) | dict.fromkeys(names, PICTURE), path)


def write_scores(folder: Path, category: str, defects: list[str], few: Sequence[int]) -> None:
    """Two seeds, a hundredth above and below; with `few` real defects every metric is a tenth lower per missing one."""
    rows = [
        (category, "segformer", arm, count, seed, defect, metric, value - (3 - count) * 0.1 * (count > 0) + 0.01 * sign, "digest")
        for count in (0, *few)
        for arm, value in ARMS.items()
        for seed, sign in enumerate((1, -1))
        for defect in (ALL_TYPES, *defects)
        for metric in METRICS
    ]
    drawn = [
        ("segformer", count, arm, against, metric, draw, value)
        for count in (0, *few)
        for against in ((0,) if count == 0 else (0, *(other for other in few if other >= count)))
        for arm, draws in DRAWS.items()
        for metric in ("ap", "iou")
        for draw, value in [(-1, draws[1]), *enumerate(draws)]
    ]
    types = [
        ("segformer", arm, defect, metric, draws[1], draws[0], draws[2])
        for arm, draws in DRAWS.items()
        for defect in defects
        for metric in ("ap", "iou")
    ]
    pd.DataFrame(rows, columns=list(COLUMNS)).to_parquet(folder / "scores.parquet")
    pd.DataFrame(types, columns=list(TYPE_COLUMNS)).to_parquet(folder / TYPES)
    pd.DataFrame(drawn, columns=list(DIFFERENCE_COLUMNS)).to_parquet(folder / "differences.parquet")


def publish(data: Path, categories: list[str], defects: list[str], few: Sequence[int] = ()) -> None:
    """Everything that the report reads, as the other verbs publish it, of both methods."""
    counts = {"accepted": 4, "train": 2, "test": 2, "set_aside": 0}
    summary = {category: dict.fromkeys(("good", *defects), counts) for category in categories}
    write_text(data / "prepare" / "summary.json", json.dumps(summary))
    write_csv(
        data / "prepare" / "set_aside.csv",
        [{"category": categories[0], "path": f"{defects[0]}/7.png", "reason": "truncated", "detail": ""}],
    )
    write_csv(data / "pretrain" / "curve.csv", [{"iteration": i, "loss": 1 / (i + 1)} for i in range(300)])
    for category in categories:
        write_table(catalog_rows(category, defects), CATALOG_COLUMNS, data / "prepare" / category / "catalog.parquet")
        for method in COLOURS:
            rows = [row for defect in defects for row in sample_rows(category, defect, method)]
            folder = data / "synthesize" / category / method
            publish_rows(rows, 5, folder)
            records = [TypeRecord(defect, 2, 40, 120, 0.4, 0.04, 0.95, 0.9, 6.0, 0.2, 8.0 + 4 * (method == "paste")) for defect in defects]
            pd.DataFrame(records).to_parquet(folder / VERDICT)
            pq.write_table(networks(category, defects, method), folder / CHECKPOINTS)
        write_predictions(data / "segment" / category / "predictions.parquet", defects)
        write_scores(data / "segment" / category, category, defects, few)
        write_csv(data / "train" / category / "curve.csv", [{"iteration": i, "loss": 2.0, "aware": 1.0, "only": 1.0} for i in range(50)])
        arms = [{"iteration": i, "arm": arm, "loss": 1.0} for arm in ARMS for i in range(50)]
        write_csv(data / "segment" / category / "curve.csv", arms)
    (data / "evaluate").mkdir()
    write_results(gather_results(data, categories), data / "evaluate")
    write_fidelity(measure_fidelity(data, categories, tuple(COLOURS), 0), data / "evaluate")


def demo_params(categories: list[str], methods: tuple[str, ...] = ("stage", "paste")) -> Params:
    params = load_params(Path(__file__).parents[1] / "params.yaml")
    return params.model_copy(update={"categories": tuple(categories), "methods": methods})


class Page(HTMLParser):
    """The tags, ids, addresses, text and rows of tables (by their id, the others under "") of a page, as a browser would take them apart."""

    def __init__(self, html: Path | str) -> None:
        super().__init__()
        self.tables: dict[str, list[list[str]]] = {}
        self.table: list[list[str]] = []
        self.row: list[str] = []
        self.is_script = False
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.addresses: list[str] = []
        self.images: list[dict[str, str | None]] = []
        self.text = ""
        self.feed(html.read_text(encoding="utf-8") if isinstance(html, Path) else html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.ids += [value or "" for name, value in attrs if name == "id"]
        self.addresses += [value or "" for name, value in attrs if name in ("href", "src")]
        self.images += [dict(attrs)] if tag == "img" else []
        self.is_script = tag == "script"
        if tag == "table":
            self.table = self.tables.setdefault(dict(attrs).get("id") or "", [])
        self.row = [] if tag == "tr" else [*self.row, ""] if tag in ("th", "td") else self.row

    def handle_endtag(self, tag: str) -> None:
        self.is_script = False
        if tag == "tr":
            self.table.append([cell.strip() for cell in self.row])

    def handle_data(self, data: str) -> None:
        self.text += "" if self.is_script else data
        if self.row:
            self.row[-1] += data
