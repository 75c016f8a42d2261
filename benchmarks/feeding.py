"""Feeding batches to a segmenter's training: ours from published shards, mmsegmentation's reader from what `stage export` writes of them.

Both read the same pairs, crop, turn and flip them, change contrast and brightness, and give float tensors of a batch. Ours makes batches
in WORKERS threads, theirs in as many processes. Only ours aims crops at defects, by `segment.aimed`.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from benchmarks.published import CATEGORY, DEFECT, METHOD, publish, rows_of
from flows.scoring import read_mixture
from stage.core.segment_params import Segment
from stage.datasets.columns import STRING
from stage.datasets.examples import CATALOG
from stage.datasets.pairs import Pair, image_cell, image_columns, write_table
from stage.datasets.rules import GOOD
from stage.release.export import export_mvtec
from stage.segmentation.arms import Arm
from stage.segmentation.augmentation import TONE
from stage.segmentation.batches import batch_at
from stage.segmentation.training import Ahead, tensors

WORKERS = 2  # as many as the cores of the machine that the documents' figures are of
TURNS = 3  # in which both take part, so that what slows the machine down for a while slows both down
Batch = tuple[Tensor, Tensor]  # images (B, 3, H, W) in 0 … 255, masks (B, 1, H, W)


class Places(NamedTuple):
    """The same pairs as published shards and as an exported folder."""

    samples: Path
    exported: Path


def lay_out(pairs: Sequence[Pair], root: Path) -> Places:
    """Publish the pairs as samples, and export them."""
    data = root / "data"
    normal = {"image": image_cell(pairs[0].image), "mask": None, "split": "train", "defect": GOOD}  # the export asks for one
    columns = {**image_columns(), "split": STRING, "defect": STRING}
    write_table([normal], columns, data / "prepare" / CATEGORY / CATALOG)
    samples = data / "synthesize" / CATEGORY / METHOD
    publish(rows_of(pairs), samples)
    export_mvtec(data, CATEGORY, METHOD, root / "exported")
    return Places(samples, root / "exported" / CATEGORY)


def rates(places: Places, params: Segment, count: int) -> tuple[float, float]:
    """Images a second of both over `count` batches, ours first; medians of TURNS."""
    found = [[per_second(feed(count + 1), params.batch) for feed in (ours(places, params), theirs(places, params))] for _ in range(TURNS)]
    return median(mine for mine, _ in found), median(other for _, other in found)


def per_second(batches: Iterable[Batch], size: int) -> float:
    """Images a second, after a first batch that starts the workers."""
    iterator = iter(batches)
    next(iterator)
    start = perf_counter()
    return size * sum(1 for _ in iterator) / (perf_counter() - start)


def ours(places: Places, params: Segment) -> Callable[[int], Iterator[Batch]]:
    """The product's own way from shards to tensors; call it with a number of batches."""
    arm = Arm("only_stage", (), (), read_mixture({places.samples: 1.0}, sources=None))

    def batches(count: int) -> Iterator[Batch]:
        with Ahead(lambda iteration: batch_at(arm, params, iteration, seed=1), count, depth=WORKERS) as ahead:
            for iteration in range(count):
                yield tensors(ahead[iteration], "cpu")

    return batches


def theirs(places: Places, params: Segment) -> Callable[[int], Iterator[Batch]]:
    """Mmsegmentation's reader, with its own crops, turns, flips and tone."""
    from mmengine.dataset import pseudo_collate

    crops = [{"type": "RandomCrop", "crop_size": (params.crop, params.crop)}, {"type": "RandomRotFlip", "rotate_prob": 0, "flip_prob": 1}]
    data = exported_set(places.exported, [*crops, tone()])

    def batches(count: int) -> Iterator[Batch]:
        order = torch.utils.data.RandomSampler(data, replacement=True, num_samples=count * params.batch)
        for batch in torch.utils.data.DataLoader(data, params.batch, sampler=order, num_workers=WORKERS, collate_fn=pseudo_collate):
            yield torch.stack(batch["inputs"]).float(), torch.stack([sample.gt_sem_seg.data for sample in batch["data_samples"]])

    return batches


def exported_set(exported: Path, changes: Sequence[Any]) -> Any:
    """A data set of mmsegmentation's of the defective images of a folder that `stage export` wrote, and of their masks."""
    from mmengine.registry import DefaultScope
    from mmseg.datasets import BaseSegDataset  # its package registers the transforms, too

    with DefaultScope.overwrite_default_scope("mmseg"):
        data = BaseSegDataset(
            data_root=str(exported),
            data_prefix={"img_path": f"test/{DEFECT}", "seg_map_path": f"ground_truth/{DEFECT}"},
            img_suffix=".png",
            seg_map_suffix="_mask.png",
            metainfo={"classes": ("normal", "defect"), "palette": [[0, 0, 0], [255, 255, 255]]},
            pipeline=[{"type": "LoadImageFromFile"}, {"type": "LoadAnnotations"}, *changes, {"type": "PackSegInputs"}],
            lazy_init=True,
        )
        data.label_map = {255: 1}  # MVTec AD's masks, which would mean `ignore`
        data.full_init()
    return data


def tone() -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Contrast and brightness as in a mild crop of ours, by mmsegmentation's arithmetic; its PhotoMetricDistortion changes colours besides."""
    from mmseg.datasets.transforms import PhotoMetricDistortion

    distortion, most, random = (
        PhotoMetricDistortion(),
        TONE["mild"],
        np.random.default_rng(0),
    )  # the processes draw alike, as fast as otherwise

    def toned(results: dict[str, Any]) -> dict[str, Any]:
        contrast, brightness = random.uniform(1 - most, 1 + most), 255 * random.uniform(-most, most)
        return {**results, "img": distortion.convert(results["img"], contrast, brightness)}

    return toned
