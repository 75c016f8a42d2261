"""What an update of the default segmenter costs on the CPU: with either order of its head, freed memory kept or returned, and two trainings at once.

Run it with `python -m benchmarks.segmenter` from the project's root, on a machine with two cores that does nothing else; about five minutes.
"""

import resource
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.table import Table

WARM_UP, UPDATES, ROUNDS = 2, 10, 3
KEEP = "from stage.core.processes import keep_memory; keep_memory(); "
THEIRS = "from benchmarks.segmenter import use_their_head; use_their_head(); "


def use_their_head() -> None:
    """Let this process enlarge and join the features before it fuses them, as mmsegmentation does."""
    from mmseg.models.decode_heads.segformer_head import SegformerHead

    from stage.segmentation.segformer_head import EarlyFusionHead

    EarlyFusionHead.forward = SegformerHead.forward


def measure(threads: int) -> tuple[float, float, int, int]:
    """Of this process: seconds on the clock, of processor time, and page faults of an update; its peak in MiB.

    Batch and crop are those of params/real-cpu.yaml.
    """
    import torch  # in the measured processes alone

    from stage.core.params import load_params
    from stage.segmentation.segmenters import losses
    from stage.segmentation.training import initial_network

    torch.set_num_threads(threads)
    params = load_params(Path("params/real-cpu.yaml")).segment
    network = initial_network("efficientnet_lite0", params).train()
    optimizer = torch.optim.AdamW(network.parameters(), 1e-3)
    random = torch.Generator().manual_seed(0)
    images = 255 * torch.rand(params.batch, 3, params.crop, params.crop, generator=random)
    masks = (images[:, :1] > 240).byte()
    clock, before = 0.0, resource.getrusage(resource.RUSAGE_SELF)
    for update in range(WARM_UP + UPDATES):
        if update == WARM_UP:
            clock, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF)
        optimizer.zero_grad()
        losses(network, images, masks)["loss"].backward()
        optimizer.step()
    clock, after = time.perf_counter() - clock, resource.getrusage(resource.RUSAGE_SELF)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return clock / UPDATES, seconds / UPDATES, (after.ru_minflt - before.ru_minflt) // UPDATES, after.ru_maxrss // 1024


def measured(first: str, *, threads: int, processes: int) -> list[float]:
    """The medians of what so many processes at once measured."""
    code = f"{first}from benchmarks.segmenter import measure; print(*measure({threads}))"
    running = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(processes)]
    rounds = [tuple(map(float, one.communicate()[0].split())) for one in running]
    return [median(column) for column in zip(*rounds, strict=True)]


def main() -> None:
    """All ways in turn, each in processes of its own."""
    ways = {
        "memory returned to the system, one thread": ("", 1, 1),
        "memory kept, one thread": (KEEP, 1, 1),
        "memory kept, one thread, mmsegmentation's head": (KEEP + THEIRS, 1, 1),
        "memory kept, two threads": (KEEP, 2, 1),
        "memory kept, two trainings at once, one thread each": (KEEP, 1, 2),
    }
    found: dict[str, list[list[float]]] = {way: [] for way in ways}
    for _ in range(ROUNDS):
        for way, (first, threads, processes) in ways.items():
            found[way].append(measured(first, threads=threads, processes=processes))
    table = Table("way", "seconds", "processor time", "page faults", "peak, MiB", "updates a second")
    for way, (_, _, processes) in ways.items():
        clock, seconds, faults, peak = (median(column) for column in zip(*found[way], strict=True))
        table.add_row(way, f"{clock:.2f}", f"{seconds:.2f}", f"{faults:.0f}", f"{peak:.0f}", f"{processes / clock:.2f}")
    Console(width=140).print(table)


if __name__ == "__main__":
    main()
