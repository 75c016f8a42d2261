"""Where workers are started: the GPUs of this machine, dealt out by UUID, or those that Ray or Dask reserve by their own means."""

import os
import shutil
import subprocess
import sys
from ast import literal_eval
from importlib.util import find_spec
from itertools import combinations
from pathlib import Path

import pytest
from source_tree import ROOT

from flows.engines import check_engine, places, running_engine
from stage.core.errors import ConfigError
from stage.core.params import Execution
from stage.jobs.gpus import parse_tokens

EXECUTION = Execution(
    device="auto", threads=1, save_every_s=30, engine="local", workers=2, trainings=1, max_failures=3, lease_s=60, stuck_s=600
)


LISTED = """\
GPU 0: NVIDIA H100 (UUID: GPU-11111111-aaaa-bbbb-cccc-000000000000)
GPU 1: NVIDIA H100 (UUID: GPU-22222222-aaaa-bbbb-cccc-000000000000)
  MIG 3g.40gb     Device  0: (UUID: MIG-33333333-aaaa-bbbb-cccc-000000000000)
  MIG 3g.40gb     Device  1: (UUID: MIG-44444444-aaaa-bbbb-cccc-000000000000)
"""


def test_a_gpu_is_told_apart_by_its_uuid_and_a_split_one_by_its_parts() -> None:
    """Two workers would share one part of a GPU while the other is idle."""
    assert [token[:5] for token in parse_tokens(LISTED)] == ["GPU-1", "MIG-3", "MIG-4"]


@pytest.mark.parametrize(
    ("workers", "given", "expected"), [(0, "GPU-a,GPU-b", ["GPU-a", "GPU-b"]), (3, "2,5", ["2", "5", "2"]), (1, "GPU-a,GPU-b", ["GPU-a"])]
)
def test_workers_are_dealt_to_the_gpus_that_were_given(
    workers: int, given: str, expected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker would take a GPU that the scheduler has lent to someone else."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", given)
    execution = EXECUTION.model_copy(update={"workers": workers})

    assert [place.gpus for place in places(execution, "cuda")] == expected
    assert {place.gpus for place in places(execution, "cpu")} == {""}


def test_an_engine_is_told_how_many_workers_it_is_to_start() -> None:
    """It would start none, or as many as this machine happens to have GPUs."""
    with pytest.raises(ConfigError, match=r"Expected execution.workers to say how many workers ray is to start, found 0 in params.yaml"):
        places(EXECUTION.model_copy(update={"engine": "ray", "workers": 0}), "cpu")


@pytest.mark.parametrize(("engine", "package"), [("ray", "prefect_ray"), ("dask", "prefect_dask")])
def test_a_missing_engine_is_one_message(engine: str, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user would see an ImportError of a package that they never heard of."""
    monkeypatch.setitem(sys.modules, package, None)  # as Python itself marks what cannot be imported
    wanted = rf"Expected the package {package} for execution.engine: {engine} in params.yaml, found none. Run `pip install '.\[{engine}\]'`"

    with pytest.raises(ConfigError, match=wanted), running_engine(EXECUTION.model_copy(update={"engine": engine}), "cpu", 1):
        pass


@pytest.mark.parametrize(("engine", "package"), [("ray", "prefect_ray"), ("dask", "prefect_dask")])
def test_prepare_looks_for_the_engine(engine: str, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing package would be found out after the base is trained."""
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ConfigError, match=f"Expected the package {package}"):
        check_engine(EXECUTION.model_copy(update={"engine": engine}))
    with pytest.raises(ConfigError, match="how many workers"):
        check_engine(EXECUTION.model_copy(update={"engine": engine, "workers": 0}))
    check_engine(EXECUTION.model_copy(update={"workers": 0}))


def test_dask_on_gpus_wants_a_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every worker of a cluster that Dask starts by itself would take the first GPU."""
    monkeypatch.delenv("DASK_SCHEDULER_ADDRESS", raising=False)
    if find_spec("prefect_dask") is None:
        pytest.skip("prefect_dask is not installed: pip install '.[dask]'")

    wanted = "Expected the address of a Dask cluster with one worker per GPU"

    with pytest.raises(ConfigError, match=wanted), running_engine(EXECUTION.model_copy(update={"engine": "dask"}), "cuda", 1):
        pass


HOLD = """
import os, time
from pathlib import Path
from prefect import flow, task
from flows.engines import running_engine
from flows.runtime import run
from stage.core.params import Execution

PLACE = Path.cwd()

@task
def hold() -> tuple[float, float, int, str | None]:
    begun = time.time()
    (PLACE / f"begun-{begun}").touch()
    while len(list(PLACE.glob("begun-*"))) < 2 and time.time() < begun + 30:  # a busy machine starts workers one after the other
        time.sleep(0.1)
    time.sleep(1)
    return begun, time.time(), os.getpid(), os.environ.get("CUDA_VISIBLE_DEVICES")

@flow
def held(engine: str) -> None:
    execution = Execution(device="auto", threads=1, save_every_s=30, engine=engine, workers=4, trainings=1, max_failures=3, lease_s=60, stuck_s=600)
    with running_engine(execution, "cuda", 4) as submit:
        held = [future.result() for future in [submit(hold, {}) for _ in range(3)]]
    print(*held, sep="\\n")
"""
RAY = (
    HOLD
    + """
import ray

if __name__ == "__main__":
    ray.init(num_cpus=2, num_gpus=2, include_dashboard=False, log_to_driver=False)
    run(held, ["ray"])  # with one server of Prefect for all, which would otherwise start in every process
"""
)
DASK = (
    HOLD
    + """
from distributed import LocalCluster

if __name__ == "__main__":
    with LocalCluster(n_workers=2, threads_per_worker=4, resources={"GPU": 1}, dashboard_address=None) as cluster:
        os.environ["DASK_SCHEDULER_ADDRESS"] = cluster.scheduler_address
        run(held, ["dask"])
"""
)


@pytest.mark.slow
@pytest.mark.parametrize(("program", "package"), [(RAY, "prefect_ray"), (DASK, "prefect_dask")], ids=["ray", "dask"])
def test_an_engine_gives_no_gpu_to_two_at_once(program: str, package: str, tmp_path: Path, prefect_home: Path) -> None:
    """Two models would be loaded onto one GPU, which then has no memory left, while another is idle.

    A cluster that says it has two GPUs; nothing is computed on them.
    """
    if find_spec(package) is None:
        pytest.skip(f"{package} is not installed")
    (tmp_path / "hold.py").write_text(program)
    shutil.copy(ROOT / "params.yaml", tmp_path)
    done = subprocess.run(
        [sys.executable, "hold.py"],
        cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=300, check=False
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    held = sorted(literal_eval(line) for line in done.stdout.splitlines() if line.startswith("("))
    assert len(held) == 3
    overlapping = [(one, other) for one, other in combinations(held, 2) if other[0] < one[1]]
    assert overlapping  # both GPUs are used
    place = -1 if package == "prefect_ray" else -2  # Ray says which GPU is whose; Dask's workers have one each
    assert all(one[place] != other[place] for one, other in overlapping)
    assert len({one[place] for one in held}) == 2
