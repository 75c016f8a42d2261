"""The OpenLineage events of a DVC stage's run: built again by the classes that OpenLineage makes from its schemas, and beside the manifest."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from datetime import datetime
from enum import Enum
from functools import cache
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest
from jsonschema import Draft202012Validator
from openlineage.client import facet_v2
from openlineage.client.event_v2 import InputDataset, Job, OutputDataset, Run, RunEvent, RunState
from ruamel.yaml import YAML
from source_tree import ASIDE, ROOT, VERBS

from flows.lineage_events import with_events
from stage.core.errors import Refusal
from stage.core.openlineage import EVENTS, variables_for_runs
from stage.core.params import load_params
from stage.nights.events import night_begins, night_ends
from stage.nights.record import Outcome, Record

SOURCES = {"ablation/configurations.yaml", "stage/report/templates"}  # which no run makes
WHOSE = {"category": "part", "method": "paste"}
FACETS = {
    name: kind
    for module in vars(facet_v2).values()
    if hasattr(module, "__file__")
    for name, kind in vars(module).items()
    if name.endswith("Facet")
}
PARENT = "0198f2a0-0000-7000-8000-000000000000"


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Published tables beside the graph, as the working folder; OpenLineage is not configured."""
    shutil.copytree(ROOT / "tests" / "schema_3", tmp_path / "project")
    for name in ("dvc.yaml", "params.yaml"):
        shutil.copy(ROOT / name, tmp_path / "project")
    monkeypatch.chdir(tmp_path / "project")
    for name in [name for name in os.environ if name.startswith("OPENLINEAGE")]:
        monkeypatch.delenv(name)
    return tmp_path / "project"


def run(verb: str = "synthesize", status: int = 0) -> int:
    return with_events(verb, WHOSE if verb == "synthesize" else {"category": "part"}, load_params(), lambda: status)


def fails() -> int:
    raise Refusal("no images")


def commit(remote: str) -> None:
    """Make the project a git repository, so that events say where the code lies."""
    author = "-c user.name=test -c user.email=test@localhost"
    subprocess.run(
        f"git init --quiet && git remote add origin '{remote}' && git {author} commit --quiet --allow-empty -m 1", shell=True, check=True
    )


def events() -> list[dict[str, Any]]:
    return [json.loads(line) for line in EVENTS.read_text(encoding="utf-8").splitlines()]


def rebuilt(event: dict[str, Any]) -> RunEvent:
    """The event through the constructors of OpenLineage's classes, which know every key, and check times, ids and addresses."""
    inputs, outputs = (
        [kind(**{name: facets_of(value) for name, value in one.items()}) for one in event[key]]
        for key, kind in (("inputs", InputDataset), ("outputs", OutputDataset))
    )
    told_of = {name: {key: facets_of(value) for key, value in event[name].items()} for name in ("run", "job")}
    plain = {name: event[name] for name in ("eventTime", "producer")}
    return RunEvent(
        **plain,
        eventType=RunState[event["eventType"]],
        run=Run(**told_of["run"]),
        job=Job(**told_of["job"]),
        inputs=inputs,
        outputs=outputs,
    )


def facets_of(value: Any) -> Any:
    """Facets by the class that their `_schemaURL` names; the one of ours has a schema of its own, and no class."""
    if not isinstance(value, dict):
        return value
    found = {}
    for name, facet in value.items():
        kind = FACETS.get(facet["_schemaURL"].rpartition("/")[2])
        if name != "stage_manifest":
            assert kind is not None, facet["_schemaURL"]
            found[name] = kind(**{key: one for key, one in facet.items() if not key.startswith("_")})
            assert found[name]._schemaURL == facet["_schemaURL"]
    return found


@pytest.mark.parametrize("verb", VERBS)
def test_every_event_is_one_of_openlineage(verb: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Marquez, or whatever else collects them, would refuse them."""
    monkeypatch.setenv("STAGE_PARENT_FLOW_RUN", PARENT)

    assert run(verb) == 0

    start, end = events()
    assert [one["eventType"] for one in (start, end)] == ["START", "COMPLETE"]
    assert start["run"]["runId"] == end["run"]["runId"]
    for event in (start, end):
        assert isinstance(rebuilt(event).eventType, Enum)
        assert event["run"]["facets"]["parent"]["run"]["runId"] == PARENT


@cache
def published(address: str) -> str:
    """A schema from where its address says. Without a network the test is skipped; an address under which nothing is published fails it."""
    try:
        with urlopen(address, timeout=10) as answer:
            return answer.read().decode()
    except OSError as error:
        if isinstance(error, HTTPError) and error.code == 404:
            raise
        pytest.skip(f"{address} cannot be fetched here: {error}")


def schema_at(address: str) -> dict[str, Any]:
    """The schema of an address, with all that it refers to, so that nothing else is fetched."""
    found, waiting = dict[str, str](), [address.partition("#")[0]]
    for one in waiting:  # the list grows as it is read
        if one not in found:
            found[one] = published(one)
            waiting += re.findall(r'"\$ref"\s*:\s*"(https://[^"#]+)', found[one])
    return {"$ref": address, "$defs": {one: json.loads(text) for one, text in found.items()}}


def schemas_named(event: dict[str, Any]) -> Iterator[tuple[Any, str]]:
    """The event and each of its facets but our own, with the address of the schema that it names."""
    yield event, event["schemaURL"]
    for one in (event["run"], event["job"], *event["inputs"], *event["outputs"]):
        for facets in (value for key, value in one.items() if key.lower().endswith("facets")):
            yield from ((facet, facet["_schemaURL"]) for name, facet in facets.items() if name != "stage_manifest")


@pytest.mark.parametrize("verb", VERBS)
def test_every_event_is_as_the_published_schemas_say(verb: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A collector that validates would refuse them, whatever the classes of OpenLineage's client let pass."""
    monkeypatch.setenv("STAGE_PARENT_FLOW_RUN", PARENT)
    commit("git@host.example:team/stage.git")
    run(verb)
    run(verb, status=130)
    with pytest.raises(Refusal):
        with_events("synthesize", WHOSE, load_params(), fails)

    check_schemas()


def check_schemas() -> None:
    """Compare every event with the published schemas."""
    for value, address in (one for event in events() for one in schemas_named(event)):
        validator = Draft202012Validator(schema_at(address), format_checker=Draft202012Validator.FORMAT_CHECKER)
        assert [error.message for error in validator.iter_errors(value)] == [], address


@pytest.mark.parametrize("outcome", ["published", "refused", "interrupted"])
def test_the_events_of_a_night_are_as_the_published_schemas_say(outcome: Outcome) -> None:
    """A collector that validates would refuse them."""
    commit("git@host.example:team/stage.git")
    record = Record.here(datetime.now().astimezone(), PARENT)
    night_begins(record)
    record.outcome, record.message = outcome, "worse"
    night_ends(record)

    check_schemas()


def test_an_event_says_what_a_run_read_and_made(project: Path) -> None:
    """Who looks at the runs elsewhere would not find the samples that came of one."""
    run()

    end = events()[-1]
    manifest = json.loads((project / "data/synthesize/part/paste/manifest.json").read_text())
    assert end["job"]["name"] == "synthesize.part.paste"
    assert {"data/prepare/part", "data/train/part"} <= {one["name"] for one in end["inputs"]}
    (samples,) = (one for one in end["outputs"] if one["name"] == "data/synthesize/part/paste")
    assert samples["facets"]["version"]["datasetVersion"] == manifest["digest"]
    assert samples["facets"]["stage_manifest"]["seal"] == manifest["seal"]
    statistics = samples["outputFacets"]["outputStatistics"]
    files = [path for path in (project / "data/synthesize/part/paste").rglob("*") if path.is_file()]
    assert (statistics["rowCount"], statistics["fileCount"]) == (manifest["count"], len(files))
    told_of = {one["key"]: json.loads(one["value"]) for one in end["run"]["facets"]["executionParameters"]["parameters"]}
    assert told_of["paste"]["rotation"] == load_params().paste.rotation
    assert "execution" not in told_of


def test_every_input_is_an_output_of_an_earlier_run(project: Path) -> None:
    """A collector would draw runs that nothing connects, and nobody could follow a photograph to the number that it is behind."""
    (project / "ablation").mkdir()
    shutil.copy(ROOT / "ablation" / "dvc.yaml", project / "ablation")
    params, made = load_params(), set[str]()
    of_all, of_each = [dict[str, str]()], [{"category": name} for name in params.categories]
    by_verb = {"synthesize": [one | {"method": method} for one in of_each for method in params.methods]}
    by_verb |= dict.fromkeys(("train", "segment", "ablate"), of_each)
    for verb in (*VERBS, *ASIDE):
        for arguments in by_verb.get(verb, of_all):
            with_events(verb, arguments, params, lambda: 0)

    for event in events()[1::2]:  # those of the ends; the starts have the same names
        named = {one["name"] for one in event["inputs"]}
        assert {name for name in named - made if not name.startswith("data/environment/")} <= SOURCES, event["job"]["name"]
        made |= {one["name"] for one in event["outputs"]}
    assert {"data/prepare/fabric", "data/synthesize/washer/paste", "data/ablate/fabric"} <= made


def test_another_shape_of_a_node_takes_no_event_away(project: Path) -> None:
    """Whoever adds a node to the graph, or an option to an output, would lose the events of every run."""
    graph = YAML().load(project / "dvc.yaml")
    stages = graph["stages"]
    stages["synthesize"]["outs"] = [{path: {"persist": True}} for path in stages["synthesize"]["outs"]]
    stages["literal"] = {"foreach": ["a", 1], "do": {"cmd": "true", "outs": ["data/train/part/${item}"]}}
    stages["nested"] = {"matrix": {"model": "${segment.models}"}, "cmd": "true", "outs": ["data/environment/of/${item.model}"]}
    stages["unknown"] = {"foreach": {"a": {"b": 1}}, "do": {"cmd": "true", "outs": ["data/other/${item.b}"]}}
    stages["foreign"] = {"foreach": "${not.ours}", "do": {"cmd": "true", "outs": ["data/other/${item}"]}}
    YAML().dump(graph, project / "dvc.yaml")

    run()

    end = events()[-1]
    assert {"data/synthesize/part/paste", "data/runs/part/paste"} == {one["name"] for one in end["outputs"]}
    assert {"data/train/part/a", "data/train/part/1"} <= {one["name"] for one in end["inputs"]}


def test_the_version_of_an_input_is_dvc_s(project: Path) -> None:
    """Two runs on different data would look alike."""
    (project / "dvc.lock").write_text(
        "schema: '2.0'\nstages:\n  train@part:\n    outs:\n    - path: data/train/part\n      md5: 0123.dir\n"
        "  prepare:\n    outs:\n    - path: data/prepare\n      md5: 4567.dir\n"
    )

    run()

    found = {one["name"]: one["facets"]["version"]["datasetVersion"] for one in events()[0]["inputs"] if "version" in one["facets"]}
    assert (found["data/train/part"], found["data/prepare/part"]) == ("0123.dir", "4567.dir")


@pytest.mark.parametrize(
    ("verb", "path"), [("segment", "data/segment/part"), ("synthesize", "data/runs/part/paste"), ("evaluate", "stage/report/templates")]
)
def test_the_version_of_an_output_or_a_source_is_the_one_that_dvc_gives_it(verb: str, path: str) -> None:
    """The next run names that as the version it read: nothing would say that it is what this one made."""
    (Path(path) / "ä b").mkdir(parents=True)
    (Path(path) / "ä b" / "a.txt").write_bytes(b"one\r\n")
    run(verb)

    told = [*events()[-1]["inputs"], *events()[-1]["outputs"]]
    found = {one["name"]: one["facets"]["version"]["datasetVersion"] for one in told if "version" in one["facets"]}
    shutil.copytree(path, "copy")  # DVC adds nothing that is an output already
    subprocess.run("git init --quiet && python -m dvc init --quiet && python -m dvc add --quiet copy", shell=True, check=True)
    (added,) = YAML().load(Path("copy.dvc"))["outs"]
    assert found[path] == added["md5"]


def test_our_own_facet_is_as_its_schema_says() -> None:
    """A collector would look in vain for what `stage_manifest` means, or find another facet there."""
    run()

    (facet,) = (one["facets"]["stage_manifest"] for one in events()[-1]["outputs"] if one["name"] == "data/synthesize/part/paste")
    address, _, pointer = facet["_schemaURL"].partition("#/$defs/")
    schema = json.loads((ROOT / address.removeprefix("urn:stage-factory:")).read_text(encoding="utf-8"))
    Draft202012Validator.check_schema(schema)
    assert schema["$id"] == address
    assert pointer in schema["$defs"]
    validator = Draft202012Validator(schema)
    assert not list(validator.iter_errors({"stage_manifest": facet}))
    for name in facet:
        assert list(validator.iter_errors({"stage_manifest": {**facet, name: 0}})), name


@pytest.mark.parametrize(
    ("remote", "address"),
    [
        ("https://me:sec@ret@host.example/team/stage.git", "https://host.example/team/stage.git"),
        ("git@host.example:team/my stage.git", "ssh://git@host.example/team/my%20stage.git"),
        ("/srv/git/stage", "file:///srv/git/stage"),
    ],
)
def test_where_the_code_lies_is_a_uri_without_a_password(remote: str, address: str) -> None:
    """The schema of the facet asks for a URI, and a collector would keep a password for everybody to read."""
    commit(remote)

    run()

    assert events()[0]["job"]["facets"]["sourceCodeLocation"]["url"] == address


def test_the_leak_guard_is_a_test_of_the_run() -> None:
    """Nobody could see that it was checked."""
    run("segment")

    (guard,) = events()[-1]["run"]["facets"]["test"]["tests"]
    assert (guard["status"], guard["severity"]) == ("pass", "error")


@pytest.mark.parametrize(("error", "state"), [(Refusal("no images"), "FAIL"), (KeyboardInterrupt(), "ABORT")])
def test_a_run_that_does_not_complete_says_so(error: BaseException, state: str) -> None:
    """A failed night would look as if it were still running."""

    def fails() -> int:
        raise error

    with pytest.raises(type(error)):
        with_events("synthesize", WHOSE, load_params(), fails)
    assert [one["eventType"] for one in events()] == ["START", state]
    assert run(status=130) == 130
    assert events()[-1]["eventType"] == "ABORT"


@pytest.mark.parametrize(
    ("outcome", "state"),
    [("published", "COMPLETE"), ("nothing to do", "COMPLETE"), ("refused", "FAIL"), ("failed", "FAIL"), ("running", "ABORT")],
)
def test_a_night_is_the_parent_of_its_stages_and_says_how_it_ended(
    project: Path, monkeypatch: pytest.MonkeyPatch, outcome: Outcome, state: str
) -> None:
    """A collector would show stages of a parent that nobody knows, or a refused night as one that still runs."""
    commit("git@example.com:team/parts.git")
    monkeypatch.setenv("STAGE_PARENT_FLOW_RUN", PARENT)
    record = Record.here(datetime.now().astimezone(), PARENT)
    night_begins(record)
    run()
    record.outcome, record.message = outcome, "no images at https://me:word@example.com"
    record.tag, record.commit = ("data-2026-12-01", "0" * 40) if outcome == "published" else ("", "")
    night_ends(record)

    start, stage, _, end = events()
    assert [rebuilt(one).eventType for one in (start, end)] == [RunState.START, RunState[state]]
    parent = stage["run"]["facets"]["parent"]
    for one in (start, end):
        assert (one["run"]["runId"], one["job"]["name"]) == (parent["run"]["runId"], parent["job"]["name"])
        assert one["job"]["facets"]["sourceCodeLocation"]["path"] == "stage/nights/night.py"
    told = {one["key"]: one["value"] for one in end["run"]["facets"]["tags"]["tags"]}
    assert (told["outcome"], told.get("tag")) == (outcome, record.tag or None)
    assert ("errorMessage" in end["run"]["facets"], "me:word" in json.dumps(end)) == (state == "FAIL", False)


def test_no_event_has_a_secret(project: Path) -> None:
    """A company's collector would keep the address that a colleague signed."""
    address, params = "https://s3/w.pth?X-Amz-Signature=hunter2", YAML().load(project / "params.yaml")
    params["segment"] |= {"models": ["segformer"], "weights": {"segformer": address}}
    YAML().dump(params, project / "params.yaml")

    def away() -> int:
        raise Refusal(f"Expected to fetch {address}, found: HTTP 403.")

    with pytest.raises(Refusal, match="HTTP 403"):
        with_events("segment", {"category": "part"}, load_params(), away)
    assert [one["eventType"] for one in events()] == ["START", "FAIL"]
    assert "hunter2" not in EVENTS.read_text(encoding="utf-8")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[dict[str, Any]]]:
    """A collector on loopback, and what it was sent."""
    received: list[dict[str, Any]] = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(201)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    with HTTPServer(("127.0.0.1", 0), Collector) as collector:
        Thread(target=collector.serve_forever, daemon=True).start()
        monkeypatch.setenv("OPENLINEAGE_URL", f"http://127.0.0.1:{collector.server_port}")
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        yield received
        collector.shutdown()


def test_openlineage_s_own_configuration_sends_them_elsewhere(server: list[dict[str, Any]]) -> None:
    """A company's collector would get nothing."""
    run()

    assert [one["eventType"] for one in server] == ["START", "COMPLETE"]
    assert not EVENTS.exists()


def test_the_stages_of_a_night_follow_the_project_s_configuration(
    server: list[dict[str, Any]], project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A night works in a worktree, which has no file that git does not track: its stages' events would go elsewhere."""
    (project / "openlineage.yml").write_text(f"transport:\n  type: http\n  url: {os.environ['OPENLINEAGE_URL']}\n")
    monkeypatch.delenv("OPENLINEAGE_URL")
    variables = variables_for_runs(PARENT)
    shutil.copytree(project, project.parent / "worktree", ignore=shutil.ignore_patterns("openlineage.yml"))
    monkeypatch.chdir(project.parent / "worktree")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)

    run()

    assert [one["run"]["facets"]["parent"]["run"]["runId"] for one in server] == [PARENT] * 2
    assert not EVENTS.exists()


def test_a_collector_that_is_away_stops_no_run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A night would be lost because someone restarts a server."""
    monkeypatch.setenv("OPENLINEAGE_CONFIG", "nowhere.yml")
    monkeypatch.setenv(
        "OPENLINEAGE__TRANSPORT", json.dumps({"type": "http", "url": "http://127.0.0.1:9", "timeout": 0.1, "retry": {"total": 0}})
    )

    assert run() == 0

    assert "an event was not sent" in capsys.readouterr().err
