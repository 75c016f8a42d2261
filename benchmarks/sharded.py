"""A sharded run, one worker per GPU, against one worker's: the same samples, byte for byte, or exit status 1.

`python -m benchmarks.sharded`, on a machine with GPUs that does nothing else. One GPU is shared by two workers.
`--miniature` does the same on the CPU with a smaller network, and measures nothing of use.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml

from stage.chaos.miniature import CATEGORY, SMALLEST, Miniature, Scale, make_miniature
from stage.core.device import device
from stage.core.params import load_params
from stage.jobs.gpus import gpu_tokens
from stage.jobs.job import load_job
from stage.jobs.planning import make_job
from stage.jobs.store import BatchStore
from stage.release.publication import publish_jobs
from stage.synthesis.recipe import recipe_of

LEAST = 2  # workers of the sharded run
ROOT = Path(__file__).resolve().parent.parent
ON_GPU: Scale = {  # the networks of params.yaml on latents of 64 cells a side, so that a GPU has something to do
    **{name: SMALLEST[name] for name in ("method", "segment")},
    "base": {"image_size": 256},
    "pretrain": {"start": "none"},
    "synthesize": {**SMALLEST["synthesize"], "count": 192, "batch": 16, "shard_rows": 48, "steps": 50},
    "execution": {"device": "cuda", "threads": 1, "workers": 1},
}


def main(*options: str) -> int:
    """Print what both runs took and whether they agree; 0 if they do."""
    scale = SMALLEST if "--miniature" in options else ON_GPU
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        source = make_miniature(root / "source", load_params(ROOT / "params.yaml"), scale)
        (root / "params.yaml").write_text(yaml.safe_dump(source.params.model_dump(mode="json")))
        tokens = gpu_tokens() if device(source.params.execution.device) == "cuda" else [""]
        many = [tokens[number % len(tokens)] for number in range(max(LEAST, len(tokens)))]
        one, sharded = (made(source, root / f"spool{len(gpus)}", gpus) for gpus in (many[:1], many))
    same = one == sharded
    print(f"pixels and files of {len(one)} shards: {'the same' if same else f'{one} by one worker, {sharded} by {len(many)}'}")
    return int(not same)


def made(source: Miniature, spool: Path, gpus: list[str]) -> dict[str, tuple[str, str]]:
    """Digests of the pixels and of the file of each shard, of a job that one worker per name of a GPU has made."""
    recipe = recipe_of("stage", CATEGORY, source.params, catalog=source.catalog, base=source.base, checkpoint=source.checkpoint)
    job = load_job(make_job(recipe, BatchStore(spool)))
    start = time.perf_counter()
    workers = [worker(job.folder, gpu, spool.parent) for gpu in gpus]
    if statuses := [status for one in workers if (status := one.wait())]:
        raise SystemExit(f"Expected {len(gpus)} workers to end with 0, found {statuses}; what they said stands above.")
    took = time.perf_counter() - start
    samples = sum(len(job.rows(batch.number)) for batch in job.batches())
    print(f"{len(gpus)} worker(s): {samples} samples in {len(job.batches())} batches, {took:.1f} s with their start", flush=True)
    told: dict[str, Any] = publish_jobs([job.folder], spool / "published", lease_s=source.params.execution.lease_s)
    return {shard["path"]: (shard["pixels"], shard["sha256"]) for shard in told["shards"]}


def worker(job: Path, gpu: str, project: Path) -> "subprocess.Popen[bytes]":
    """`stage worker` on a GPU of its own, in the folder with params.yaml."""
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": gpu, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    return subprocess.Popen([sys.executable, "-m", "stage.cli", "worker", str(job)], cwd=project, env=environment)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
