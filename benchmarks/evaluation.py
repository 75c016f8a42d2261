"""What the comparison costs beside its network: feeding batches, computing metrics, and memory over the number of test images.

Run it with `python -m benchmarks.evaluation` from the project's root, on a machine that does nothing else; about five minutes on two cores.
Each ratio is of two times from this one run.
"""

import os
import tempfile
import tracemalloc
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from time import perf_counter
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from rich.table import Table

from benchmarks.feeding import lay_out, rates
from stage.core.params import load_params
from stage.core.segment_params import Segment
from stage.datasets.pairs import Pair
from stage.segmentation.counts import Counts
from stage.segmentation.evaluation import Segmenter
from stage.segmentation.metrics import HALF
from stage.segmentation.scores import metrics_of
from stage.segmentation.segmenters import build_segmenter, logits
from stage.segmentation.training import tensors

SIDE, BATCH = 256, 16  # px and images of the paper's batch
CROPS = (SIDE, SIDE // 2)  # px; of the paper's settings, whole images, and of those for photographs
TEST_SIDE = 512


def pictures(count: int, side: int) -> list[Pair]:
    """Smooth noise, which compresses about as photographs do, with a square as the defect."""
    rng = np.random.default_rng(0)
    made: list[Pair] = []
    for _ in range(count):
        rough = Image.fromarray(rng.integers(0, 256, (side // 8, side // 8, 3), np.uint8))
        image = np.asarray(rough.resize((side, side), Image.Resampling.BICUBIC), np.int16) + rng.integers(-4, 5, (side, side, 3))
        mask = np.zeros((side, side), np.uint8)
        row, column = rng.integers(0, side - side // 8, 2)
        mask[row : row + side // 8, column : column + side // 8] = 1
        made.append(Pair(np.clip(image, 0, 255).astype(np.uint8), mask))
    return made


def metrics_share(params: Segment, folder: Path, images: int) -> float:
    """Seconds for counts and metrics over those of the network, on images of TEST_SIDE px."""
    from safetensors.torch import save_file

    name = params.models[0]
    save_file({key: value.contiguous() for key, value in build_segmenter(name).state_dict().items()}, folder / "weights.safetensors")
    segmenter = Segmenter(folder / "weights.safetensors", name, window=params.window, device="cpu")
    pairs = pictures(images, TEST_SIDE)
    network, scores = timed(lambda: [segmenter.scores(pair.image) for pair in pairs])
    ours, _ = timed(lambda: metrics_of(Counts.of((one, pair.mask) for one, pair in zip(scores, pairs, strict=True)), Counts.of(()), HALF))
    return ours / network


def timed(act: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds, and what came of it."""
    start = perf_counter()
    value = act()
    return perf_counter() - start, value


def memory_mib(images: int, side: int) -> float:
    """The most MiB that counts and metrics of so many defective and as many normal images hold at once, arrays included."""
    rng = np.random.default_rng(0)

    def seen(value: int) -> Iterator[tuple[NDArray[np.float32], NDArray[np.uint8]]]:
        for _ in range(images):
            mask = np.zeros((side, side), np.uint8)
            mask[: side // 8, : side // 8] = value
            yield rng.standard_normal((side, side), np.float32) + 2 * mask, mask

    tracemalloc.start()
    metrics_of(Counts.of(seen(1)), Counts.of(seen(0)), HALF)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak / 2**20


def prediction_mib(side: int, window: int) -> float:
    """The most MiB by which the prediction of one image raises a process of its own, the network's weights not counted. Linux only."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_raised_mib, side, window).result()


def _raised_mib(side: int, window: int) -> float:
    model, image = build_segmenter(load_params().segment.models[0]).eval(), pictures(1, side)[0]
    with torch.inference_mode():
        logits(model, tensors([Pair(image.image[:64, :64], image.mask[:64, :64])], "cpu")[0], window)  # what is loaded at the first call
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins here
        before = _peak_mib()
        logits(model, tensors([image], "cpu")[0], window)
    return _peak_mib() - before


def _peak_mib() -> float:
    told = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(told.partition("VmHWM:")[2].split()[0]) / 1024


def main(*, batches: int = 60, images: int = 20, counts: tuple[int, ...] = (200, 2000), sides: tuple[int, ...] = (1024, 2048)) -> None:
    """Measure, and print the table."""
    params = load_params().segment.model_copy(update={"batch": BATCH, "normal": 0})
    table = Table("what", "value", title="The comparison beside its network")
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        places = lay_out(pictures(64, SIDE), root)
        for crop in CROPS:
            mine, mmseg = rates(places, params.model_copy(update={"crop": crop}), batches)
            table.add_row(
                f"feeding, images a second, {BATCH} x {crop} px of {SIDE} px: ours / mmsegmentation's", f"{mine:.0f} / {mmseg:.0f}"
            )
            table.add_row("the same as a ratio (at least 1)", f"{mine / mmseg:.2f}")
        table.add_row(
            f"metrics over the network's time, {images} images of {TEST_SIDE} px (under 0.10)", f"{metrics_share(params, root, images):.3f}"
        )
    for count in counts:
        table.add_row(f"memory of metrics, {count} + {count} images of {TEST_SIDE} px", f"{memory_mib(count, TEST_SIDE):.0f} MiB")
    for side in sides:
        for window in (params.window, side):
            how = "whole" if window == side else f"in windows of {window} px"
            table.add_row(f"memory of the prediction of {side} px, {how}", f"{prediction_mib(side, window):.0f} MiB")
    Console(width=110).print(table)


if __name__ == "__main__":
    main()
