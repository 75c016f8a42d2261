"""Where the tasks that keep workers alive run: in threads here, or on a cluster of Ray or Dask, which assigns the GPUs itself.

Ray finds a cluster by RAY_ADDRESS and Dask by DASK_SCHEDULER_ADDRESS, as their users expect; otherwise they start one on this machine.
"""

import os
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from importlib import import_module
from typing import Any, NamedTuple

from prefect.futures import PrefectFuture
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner

from stage.core.errors import ConfigError
from stage.core.params import Execution
from stage.jobs.gpus import gpu_tokens

Submit = Callable[..., PrefectFuture[Any]]


class WorkerSlot(NamedTuple):
    """A worker's number, and its value of CUDA_VISIBLE_DEVICES; None if the engine sets it."""

    number: int
    gpus: str | None


class Engine(NamedTuple):
    """A Prefect task runner, and the context in which a submitted task gets a GPU of its own."""

    runner: TaskRunner[Any]
    reserved: AbstractContextManager[Any]


def places(execution: Execution, device: str) -> list[WorkerSlot]:
    """A slot for every worker; on this machine each is bound to one GPU, or to none."""
    if execution.engine != "local":
        if not execution.workers:
            raise ConfigError(
                f"Expected execution.workers to say how many workers {execution.engine} is to start, found 0 in params.yaml. "
                "Set it to the number of the cluster's GPUs, or of its machines."
            )
        return [WorkerSlot(number, None) for number in range(execution.workers)]
    tokens = gpu_tokens() if device == "cuda" else [""]
    return [WorkerSlot(number, tokens[number % len(tokens)]) for number in range(execution.workers or len(tokens))]


def check_engine(execution: Execution) -> None:
    """Raise ConfigError where starting the engine would, as far as can be told without a cluster."""
    if execution.engine != "local":
        places(execution, "cpu")
        _extra(execution.engine, f"prefect_{execution.engine}")


@contextmanager
def running_engine(execution: Execution, device: str, count: int) -> Generator[Submit]:
    """Start an engine with room for `count` tasks, give the function that submits one with its parameters, and stop the engine."""
    engine = ENGINES[execution.engine](count, device == "cuda")
    with engine.runner as runner, engine.reserved:
        yield runner.submit


def _local(count: int, _on_gpu: bool) -> Engine:
    return Engine(ThreadPoolTaskRunner(max_workers=count), nullcontext())


def _ray(count: int, on_gpu: bool) -> Engine:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    given = {} if "RAY_ADDRESS" in os.environ else {"num_cpus": count, "include_dashboard": False}
    runner = _extra("ray", "prefect_ray").RayTaskRunner(init_kwargs={"log_to_driver": False, **given})
    return Engine(runner, _extra("ray", "prefect_ray.context").remote_options(num_cpus=1, num_gpus=int(on_gpu)))


def _dask(count: int, on_gpu: bool) -> Engine:
    runner, address = _extra("dask", "prefect_dask").DaskTaskRunner, os.environ.get("DASK_SCHEDULER_ADDRESS")
    reserved = _extra("dask", "dask").annotate(resources={"GPU": 1}) if on_gpu else nullcontext()
    if address:
        return Engine(runner(address=address), reserved)
    if on_gpu:
        raise ConfigError(
            "Expected the address of a Dask cluster with one worker per GPU in DASK_SCHEDULER_ADDRESS, found none. "
            "Start one as in docs/workers.md, or set execution.engine to local in params.yaml for the GPUs of this machine."
        )
    return Engine(runner(cluster_kwargs={"n_workers": count, "threads_per_worker": 1, "dashboard_address": None}), reserved)


def _extra(engine: str, module: str) -> Any:
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"Expected the package {error.name} for execution.engine: {engine} in params.yaml, found none. "
            f"Run `pip install '.[{engine}]'`, or set it to local."
        ) from None


ENGINES: dict[str, Callable[[int, bool], Engine]] = {"local": _local, "ray": _ray, "dask": _dask}
