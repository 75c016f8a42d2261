"""Tells other tools what a DVC stage read and made: OpenLineage events (https://openlineage.io/spec/2-0-2/OpenLineage.json).

stage/core/openlineage.py says where they go.
"""

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import reduce
from itertools import product
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple

from stage.core.digests import dvc_digest
from stage.core.openlineage import NAMESPACE, NIGHT, PARENT, PRODUCER, event_client, quietly, source_code
from stage.core.params import Params
from stage.core.redaction import without_secrets
from stage.core.yaml_files import read_yaml
from stage.synthesis.schema import MANIFEST

GRAPHS = ("dvc.yaml", "ablation/dvc.yaml")
FACET = f"{PRODUCER}:flows/facets/1-0-0/StageManifestDatasetFacet.json#/$defs/StageManifestDatasetFacet"  # the schema of our own facet
GUARDED = ("prepare", "segment", "evaluate")  # verbs that fail if an evaluation image is among the sources


class RunFacts(NamedTuple):
    """What all events of a run share: the verb and its arguments by name, its id and its parent's, and its node of the graph.

    `versions`: DVC's digest of every output of the last runs, and of the sources that this one reads, by path. `smallest`: the smallest data
    sets of the graph, by which all runs name what they read and make.
    """

    verb: str
    arguments: Mapping[str, str]
    run_id: str
    parent: str
    node: Mapping[str, Any]
    versions: Mapping[str, str]
    smallest: Sequence[str]

    @property
    def job(self) -> str:
        """The job's name, such as `synthesize.fabric.paste`."""
        return ".".join([self.verb, *self.arguments.values()])

    def paths(self, key: str) -> list[str]:
        """The dependencies or outputs of the node, as the smallest data sets in them: one run may make a folder of which others read parts."""
        named = _filled(_named(self.node, key), self.arguments)
        return [one for path in named for one in [name for name in self.smallest if _is_in(name, path)] or [path]]


def _filled(paths: Sequence[str], arguments: Mapping[str, str]) -> list[str]:
    """Paths of a node of the graph with its arguments filled in, by DVC's rules: `${item}` is the only one, or `${item.name}` one of several."""
    filled = {"${item}": next(iter(arguments.values()), ""), **{f"${{item.{name}}}": value for name, value in arguments.items()}}
    return [reduce(lambda text, one: text.replace(*one), filled.items(), path) for path in paths]


def _is_in(path: str, folder: str) -> bool:
    return path == folder or path.startswith(f"{folder}/")


def _named(node: Mapping[str, Any], key: str) -> list[str]:
    """The dependencies or outputs of a node; one with options, such as `cache: false`, is a dictionary of its path."""
    return [path for one in node.get(key, []) for path in ([one] if isinstance(one, str) else one)]


def _smallest(nodes: Mapping[str, Any], params: Params) -> list[str]:
    """The paths that the nodes of the graph name, without folders of which one of them names a part."""
    every: set[str] = set()
    for node in nodes.values():
        with suppress(AttributeError, TypeError, ValueError):  # DVC can express more than this reads; only that node's paths are missing
            every |= _paths(node, params)
    return sorted(path for path in every if not any(_is_in(other, path) for other in every - {path}))


def _paths(node: Mapping[str, Any], params: Params) -> set[str]:
    told = {**node.get("matrix", {}), **({"": node["foreach"]} if "foreach" in node else {})}
    lists = {name: _values(one, params) for name, one in told.items()}
    named = [path for key in ("deps", "outs") for path in _named(node.get("do", node), key)]
    return {path for values in product(*lists.values()) for path in _filled(named, dict(zip(lists, values, strict=True)))}


def _values(told: Any, params: Params) -> list[str]:
    """What a node is repeated for: a list, or one of params.yaml by its name, as `${segment.models}`. Raises ValueError for anything else."""
    values = attrgetter(told.removeprefix("${").removesuffix("}"))(params) if isinstance(told, str) else told
    if not isinstance(values, list | tuple) or any(isinstance(one, list | dict) for one in values):
        raise ValueError(told)
    return [*map(str, values)]


def with_events(verb: str, arguments: Mapping[str, str], params: Params, work: Callable[[], int]) -> int:
    """Do the work and send an event at its start and one at its end: complete, failed, or aborted if interrupted. Returns its exit status."""
    run = quietly(lambda: _begun(verb, arguments, params))
    _tell(run, "START", params)
    try:
        status = work()
    except Exception as error:
        _tell(run, "FAIL", params, str(error))
        raise
    except BaseException:  # Ctrl-C, and Prefect's signal to end
        _tell(run, "ABORT", params)
        raise
    _tell(run, "ABORT" if status else "COMPLETE", params)
    return status


def _tell(run: RunFacts | None, state: str, params: Params, error: str = "") -> None:
    if run is not None:
        quietly(lambda: _send(run, state, params, error))


def _begun(verb: str, arguments: Mapping[str, str], params: Params) -> RunFacts:
    from openlineage.client.uuid import generate_new_uuid

    nodes: dict[str, Any] = {}
    for graph in filter(Path.is_file, map(Path, GRAPHS)):
        nodes |= read_yaml(graph, "a graph of DVC")["stages"]
    node = nodes.get(verb, {})
    versions, run_id, parent = _versions(), str(generate_new_uuid()), os.environ.get(PARENT, "")
    run = RunFacts(verb, arguments, run_id, parent, node.get("do", node), versions, _smallest(nodes, params))
    sources = [path for path in run.paths("deps") if not _is_in(path, "data") and Path(path).exists()]
    # Git keeps these, and no run makes them, so dvc.lock has no digest of them as outputs.
    return run._replace(versions={**versions, **{path: dvc_digest(Path(path)) for path in sources}})


def _send(run: RunFacts, state: str, params: Params, error: str) -> None:
    from openlineage.client.event_v2 import InputDataset, Job, OutputDataset, Run, RunEvent, RunState
    from openlineage.client.generated.base import set_producer

    set_producer(PRODUCER)  # of the facets
    is_made = state == "COMPLETE"
    made = _made(run) if is_made else {}
    event = RunEvent(
        eventTime=datetime.now(UTC).isoformat(),
        producer=PRODUCER,
        eventType=RunState[state],
        run=Run(run.run_id, _run_facets(run, params, state, error)),
        job=Job(NAMESPACE, run.job, _job_facets(run)),
        inputs=[InputDataset(NAMESPACE, path, facets=_dataset_facets(path, run.versions)) for path in run.paths("deps")],
        outputs=[
            OutputDataset(NAMESPACE, path, facets=_dataset_facets(path, made), outputFacets=_statistics(Path(path)))
            if is_made
            else OutputDataset(NAMESPACE, path)
            for path in run.paths("outs")
        ],
    )
    event_client().emit(event)


def _run_facets(run: RunFacts, params: Params, state: str, error: str) -> dict[str, Any]:
    from openlineage.client.facet_v2 import error_message_run, execution_parameters_run, parent_run, test_run

    read = [name.split(".")[0] for name in run.node.get("params", [])]
    values = {name: value for name, value in params.model_dump(mode="json").items() if name in read}
    told = [execution_parameters_run.ExecutionParameter(name, value=without_secrets(json.dumps(value))) for name, value in values.items()]
    facets: dict[str, Any] = {"executionParameters": execution_parameters_run.ExecutionParametersRunFacet(parameters=told)}
    if run.parent:
        facets["parent"] = parent_run.ParentRunFacet(parent_run.Run(run.parent), parent_run.Job(NAMESPACE, NIGHT))
    if state == "FAIL":
        facets["errorMessage"] = error_message_run.ErrorMessageRunFacet(message=without_secrets(error), programmingLanguage="python")
    if state == "COMPLETE" and run.verb in GUARDED:
        guard = test_run.TestExecution("no evaluation image among the sources", "pass", severity="error", type="leak_guard")
        facets["test"] = test_run.TestRunFacet([guard])
    return facets


def _job_facets(run: RunFacts) -> dict[str, Any]:
    from openlineage.client.facet_v2 import job_type_job

    kind = job_type_job.JobTypeJobFacet(processingType="BATCH", integration="DVC", jobType="STAGE")
    return {"jobType": kind, **source_code(f"flows/{run.verb}.py")}


def _versions() -> dict[str, str]:
    """DVC's digest of every output of the last runs, by path."""
    found: dict[str, str] = {}
    for lock in filter(Path.is_file, (Path(graph).with_suffix(".lock") for graph in GRAPHS)):
        for node in read_yaml(lock, "what DVC noted")["stages"].values():
            found |= {out["path"]: out["md5"] for out in node.get("outs", []) if "md5" in out}
    return found


def _made(run: RunFacts) -> dict[str, str]:
    """The digests that DVC will give the outputs once the run has ended, by path; without those that have one in their manifest."""
    outputs = map(Path, _filled(_named(run.node, "outs"), run.arguments))
    return {one.as_posix(): dvc_digest(one) for one in outputs if one.exists() and "digest" not in _manifest(one)}


def _dataset_facets(path: str, versions: Mapping[str, str]) -> dict[str, Any]:
    """The version of a data set, which is the digest of its samples if it has a manifest, else DVC's; and where its manifest lies."""
    from openlineage.client.facet_v2 import dataset_version_dataset
    from openlineage.client.generated.base import DatasetFacet

    manifest = _manifest(Path(path))
    facets: dict[str, Any] = {}
    if version := manifest.get("digest") or _version(path, versions):
        facets["version"] = dataset_version_dataset.DatasetVersionDatasetFacet(version)
    if manifest:
        told = {
            "path": f"{path}/{MANIFEST}",
            "seal": manifest["seal"],
            **({"sampleDigest": manifest["digest"]} if "digest" in manifest else {}),
        }
        facets["stage_manifest"] = facet = DatasetFacet().with_additional_properties(**told)
        facet._schemaURL = FACET  # pyright: ignore[reportPrivateUsage]  # "_schemaURL" is private, and the class sets it to its own schema
    return facets


def _version(path: str, versions: Mapping[str, str]) -> str | None:
    """The version of a path, or of what it was made as a part of."""
    return next((versions[one.as_posix()] for one in (Path(path), *Path(path).parents) if one.as_posix() in versions), None)


def _statistics(path: Path) -> dict[str, Any]:
    from openlineage.client.facet_v2 import output_statistics_output_dataset

    sizes = [file.stat().st_size for file in _files(path)]
    rows = _manifest(path).get("count")
    told = output_statistics_output_dataset.OutputStatisticsOutputDatasetFacet(rowCount=rows, size=sum(sizes), fileCount=len(sizes))
    return {"outputStatistics": told}


def _files(path: Path) -> Iterator[Path]:
    return (one for one in ([path] if path.is_file() else sorted(path.rglob("*"))) if one.is_file())


def _manifest(path: Path) -> dict[str, Any]:
    try:
        return json.loads((path / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
