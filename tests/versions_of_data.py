"""A repository of git and DVC with published versions, as `stage lineage` and `stage recall` ask it, and pandas over the same shards."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from commands import run as run_verb
from miniatures import small_base
from small_factory import CATEGORY, Factory

from stage.core.params import Params
from stage.datasets.examples import defect_images
from stage.jobs.job import load_job
from stage.jobs.planning import rounds
from stage.model.checkpoints import load_checkpoint, save_checkpoint
from stage.model.generator import Generator
from stage.model.latents import CachedLatents
from stage.release.publication import publish_jobs, publish_runs
from stage.release.reader import read_manifest
from stage.segmentation.scores import COLUMNS, DIGESTS
from stage.synthesis.schema import SCHEMA

METHODS = ("stage", "paste")
FOLDERS = ("prepare", "synthesize", "runs", "segment")
GRAPH = "stages:\n  made:\n    cmd: 'true'\n    outs:\n" + "".join(f"      - data/{name}\n" for name in FOLDERS)
METRIC = f"{CATEGORY}/efficientnet_lite0/real_and_stage/0/ap"


class Project(NamedTuple):
    """A repository with the tags v1 to v3, and a copy of the data of each."""

    root: Path
    kept: Path

    def samples(self, version: str, method: str = "*") -> pd.DataFrame:
        """The samples of a version without their pictures, read from the shards."""
        paths = sorted((self.kept / version / "synthesize" / CATEGORY).glob(f"{method}/shards/*.parquet"))
        tables = [pq.ParquetFile(path).read(columns=[name for name in SCHEMA.names if name not in ("image", "mask")]) for path in paths]
        return pa.concat_tables(tables).to_pandas()


def start(root: Path) -> Path:
    """A repository without a commit, whose graph keeps the folders that stand for `data`."""
    root.mkdir()
    (root / "dvc.yaml").write_text(GRAPH)
    (root / ".gitignore").write_text("/data/*/\n/.spool/\n")
    shell(root, "git init --quiet && python -m dvc init --quiet")
    return root


def shell(folder: Path, command: str) -> str:
    script = f'export PATH="{Path(sys.executable).parent}:$PATH"; {command}'
    return subprocess.run(["bash", "-c", script], cwd=folder, check=True, capture_output=True, text=True).stdout


def publish(factory: Factory, params: Params) -> Factory:
    """Both methods' samples, who made them, and an evaluation of them, in the folder that stands for `data`."""
    spool, scores = factory.data.parent / "spool", list[tuple[Any, ...]]()
    for method in METHODS:
        factory.fill_rounds(first := factory.job(spool, params, method=method))
        jobs = rounds(first.folder)
        folders = [load_job(folder).folder for folder in jobs]
        output = factory.data / "synthesize" / CATEGORY / method
        publish_jobs(folders, output, lease_s=60.0)
        publish_runs(folders, factory.data / "runs" / CATEGORY / method, lease_s=60.0)
        digest = read_manifest(output)["digest"]
        scores.append((CATEGORY, "efficientnet_lite0", f"real_and_{method}", 0, 0, "(all)", "ap", 0.5, digest))
    both = DIGESTS.join(row[-1] for row in scores)
    scores.append((CATEGORY, "efficientnet_lite0", "real_and_mixture", 0, 0, "(all)", "ap", 0.75, both))
    scores.append((CATEGORY, "efficientnet_lite0", "real_only", 0, 0, "(all)", "ap", 0.25, ""))
    folder = factory.data / "segment" / CATEGORY
    folder.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(scores, columns=list(COLUMNS)).to_parquet(folder / "scores.parquet", index=False)
    return factory


def other_checkpoint(factory: Factory) -> Factory:
    """Adapters of another seed on the same base."""
    base_folder, folder = factory.data / "pretrain" / "base", factory.data / "train" / CATEGORY
    images, base = defect_images(factory.catalog.parent, CATEGORY), small_base()
    with torch.random.fork_rng():
        torch.manual_seed(1)
        generator = Generator(base, CATEGORY, images.types, 2, (8,), residual=True)
        for parameter in generator.adapters.parameters():  # new ones change nothing
            torch.nn.init.normal_(parameter, std=0.3)
    bounds = CachedLatents.encode(base, images, factory.params.method, augment=False, image_size=factory.params.base.image_size).bounds
    shutil.rmtree(folder)
    save_checkpoint(generator, bounds, base_folder, folder, with_unet=False)
    return factory._replace(checkpoint=load_checkpoint(base_folder, folder))


def tag(project: Project, factory: Factory, name: str) -> None:
    """Commit the folder that stands for `data` as a version, and keep a copy."""
    for folder in FOLDERS:
        shutil.rmtree(project.root / "data" / folder, ignore_errors=True)
        for place in (project.root / "data", project.kept / name):
            shutil.copytree(factory.data / folder, place / folder)
    author = "git -c user.name=test -c user.email=test@localhost"
    shell(project.root, f"python -m dvc commit --quiet --force && git add --all && {author} commit --quiet -m {name} && git tag {name}")


def ask(*words: str, status: int = 0) -> dict[str, list[dict[str, Any]]]:
    """The answer to `stage lineage ... --json`."""
    done = run_verb("lineage", *words, "--json")
    assert done.exit_code == status, done.output
    return json.loads(done.stdout)
