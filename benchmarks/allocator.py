"""What it brings to keep freed memory (`stage.core.processes.keep_memory`): processor time of an update of the default segmenter.

Run it with `python -m benchmarks.allocator` from the project's root; a minute on one core.
"""

import resource
import subprocess
import sys
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.table import Table

WARM_UP, UPDATES, ROUNDS = 2, 10, 3


def measure() -> tuple[float, int, int]:
    """Of this process: seconds of processor time and page faults of an update, batch and crop as in params/real-cpu.yaml; peak in MiB."""
    import torch  # in the measured processes alone

    from stage.core.params import load_params
    from stage.segmentation.training import start

    torch.set_num_threads(1)
    params = load_params(Path("params/real-cpu.yaml")).segment
    network = start("efficientnet_lite0", params).train()
    optimizer = torch.optim.AdamW(network.parameters(), 1e-3)
    random = torch.Generator().manual_seed(0)
    images = torch.rand(params.batch, 3, params.crop, params.crop, generator=random)
    for update in range(WARM_UP + UPDATES):
        if update == WARM_UP:
            before = resource.getrusage(resource.RUSAGE_SELF)
        optimizer.zero_grad()
        network(images).square().mean().backward()
        optimizer.step()
    after = resource.getrusage(resource.RUSAGE_SELF)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return seconds / UPDATES, (after.ru_minflt - before.ru_minflt) // UPDATES, after.ru_maxrss // 1024


def main() -> None:
    """Both ways in turn, each in processes of its own."""
    ways = {"returned to the system": "", "kept": "from stage.core.processes import keep_memory; keep_memory(); "}
    found: dict[str, list[tuple[float, ...]]] = {way: [] for way in ways}
    for _ in range(ROUNDS):
        for way, first in ways.items():
            code = f"{first}from benchmarks.allocator import measure; print(*measure())"
            said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
            found[way].append(tuple(map(float, said.split())))
    table = Table("freed memory", "seconds an update", "page faults", "peak, MiB", "ratio")
    first = median(seconds for seconds, *_ in found["returned to the system"])
    for way, rounds in found.items():
        seconds, faults, peak = (median(column) for column in zip(*rounds, strict=True))
        table.add_row(way, f"{seconds:.2f}", f"{faults:.0f}", f"{peak:.0f}", f"{seconds / first:.2f}")
    Console().print(table)


if __name__ == "__main__":
    main()
