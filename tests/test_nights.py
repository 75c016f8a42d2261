"""A night in a real repository with real remotes of git and DVC, in folders. The graph is small; its stages copy published data."""

import ctypes
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import ProxyHandler, Request, build_opener
from zoneinfo import ZoneInfo

import pandas as pd
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from chromium import CHROMIUM, opened
from commands import run as run_verb
from filelock import FileLock
from published import write_scores
from ruamel.yaml import YAML
from small_disk import small_disk
from small_factory import build
from source_tree import ROOT

from flows.services import Services
from stage.chaos.miniature import CATEGORY, DEFECTS
from stage.core.errors import ConfigError, CorruptFileError, MachineError, Refusal
from stage.core.openlineage import EVENTS
from stage.core.processes import is_running
from stage.datasets.found import FILE as ERRORS
from stage.datasets.found import FoundDefect, read_errors, write_found
from stage.nights.history import forget
from stage.nights.holder import held
from stage.nights.night import Action, Night, NightIsRunning, Superseded
from stage.nights.programs import ProgramError, work
from stage.nights.record import Record, read_records, running_night
from stage.nights.retention import retain
from stage.nights.schedule import noted_services, schedule
from stage.nights.settings import Nightly, Places, load_nightly
from stage.release.fidelity import measure_fidelity, write_fidelity
from stage.release.publication import publish_jobs
from stage.segmentation.results import gather_results, write_results

GRAPH = """
stages:
  environment:
    cmd: mkdir -p data/environment && (cd {raw} && find . -type f | sort) > data/environment/images.txt && sh look.sh
    always_changed: true
    outs: [data/environment]
  make:
    cmd: mkdir -p data && cp -r {made}/$(cat variant.txt)/. data && cp data/environment/images.txt data/evaluate
    deps: [data/environment/images.txt, variant.txt]
    outs: [data/prepare, data/synthesize, data/evaluate]
"""
ABLATION = """
stages:
  ablate:
    wdir: ..
    cmd: "false"
    outs: [data/ablate]
"""  # which nobody has run; a pull of everything would ask for its output
FIRST = f"{CATEGORY}/train/good/900.png"  # the photograph that arrives before the first night
TODAY = f"data-{datetime.now().astimezone().date().isoformat()}"
QUIET_S = 20.0  # time to load modules; a test sees by the last line that they were loaded
pytestmark = pytest.mark.slow


class Town:
    """A project, its bare git remote, its DVC remote, photographs, and a place to put new ones."""

    def __init__(self, root: Path) -> None:
        self.root, self.project, self.bare, self.store = root, root / "project", root / "bare.git", root / "store"
        self.raw, self.made = root / "raw", root / "made"
        self.places = Places(self.project)

    @property
    def settings(self) -> Nightly:
        return load_nightly(self.project).model_copy(update={"settle_s": 0.001})

    def night(self, **changes: Any) -> Night:
        settings = self.settings.model_copy(update={"limit_h": changes.pop("limit_h", 1.0)})
        return Night(self.places, settings, say=lambda _line: None, **changes)

    def commit(self, name: str, text: str) -> None:
        """On main, pushed."""
        (self.project / name).write_text(text)
        shell(self.project, f"git add {name} && git commit --quiet -m {name} && git push --quiet origin main")

    def tags(self) -> list[str]:
        """Of the remote."""
        return shell(self.bare, "git tag").split()

    def fetched(self, tag: str) -> Path:
        """The data of a version as another machine gets them, from the remotes alone."""
        place = self.root / f"fetched-{tag}"
        shutil.rmtree(place, ignore_errors=True)
        shell(self.root, f"git clone --quiet --branch {tag} {self.bare} {place}")
        name_remote(place / ".dvc/config", self.store)
        shell(place, "python -m dvc pull --quiet dvc.yaml")
        return place


def shell(folder: Path, command: str) -> str:
    script = f'export PATH="{Path(sys.executable).parent}:$PATH"; {command}'
    done = subprocess.run(["bash", "-c", script], cwd=folder, capture_output=True, text=True, check=False)
    assert not done.returncode, done.stdout + done.stderr
    return done.stdout


def name_remote(config: Path, store: Path | str) -> None:
    """What `dvc remote add --default` writes; each call of DVC starts a process for half a second."""
    config.write_text(f"[core]\n    remote = store\n['remote \"store\"']\n    url = {store}\n")


def make_data(made: Path, root: Path) -> None:
    """Three versions of the data: good, with worse metrics, and with an evaluation image's group among the training images."""
    factory = build(root)
    params = factory.params.model_copy(update={"methods": ("paste",)})
    job = factory.job(root / "spool", params, method="paste")
    factory.fill(job)
    publish_jobs([job.folder], factory.data / "synthesize" / CATEGORY / "paste", lease_s=60.0)
    (factory.data / "segment" / CATEGORY).mkdir(parents=True)
    write_scores(factory.data / "segment" / CATEGORY, CATEGORY, [*DEFECTS], ())
    (factory.data / "evaluate").mkdir()
    results = gather_results(factory.data, (CATEGORY,))
    write_results(results, factory.data / "evaluate")
    write_fidelity(measure_fidelity(factory.data, (CATEGORY,), ("paste",), 0), factory.data / "evaluate")
    (factory.data / "evaluate/report").mkdir()
    (factory.data / "evaluate/report/index.html").touch()
    for name in ("good", "worse", "leaky"):
        for folder in ("prepare", "synthesize", "evaluate"):
            shutil.copytree(factory.data / folder, made / name / folder)
    fallen = results.scores.assign(value=lambda table: (table.value - 0.45).clip(0))
    write_results(results._replace(scores=fallen), made / "worse" / "evaluate")
    catalog = made / "leaky" / "prepare" / CATEGORY / "catalog.parquet"
    table = pq.read_table(catalog)
    groups = [
        "one" if status == "accepted" else group
        for status, group in zip(*(table[name].to_pylist() for name in ("status", "group")), strict=True)
    ]
    pq.write_table(table.set_column(table.schema.get_field_index("group"), "group", pa.array(groups)), catalog)


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Town:
    """A project before its first night; the folder `kept` has a copy of it."""
    town = Town(tmp_path_factory.mktemp("town"))
    make_data(town.made, town.root / "factory")
    shutil.move(town.root / "factory" / "raw", town.raw)
    town.project.mkdir()
    yaml = YAML()
    params = yaml.load(ROOT / "params.yaml")
    params["categories"], params["methods"] = [CATEGORY], ["paste"]
    params["prepare"].update({"source": str(town.raw), "layout": "mvtec", "image_size": 64})
    params["segment"]["arms"].remove("perfect")
    yaml.dump(params, town.project / "params.yaml")
    shutil.copy(ROOT / "nightly.yaml", town.project)
    shutil.copy(ROOT / ".gitignore", town.project)
    (town.project / "dvc.yaml").write_text(GRAPH.format(raw=town.raw, made=town.made))
    (town.project / "variant.txt").write_text("good\n")
    (town.project / "look.sh").write_text("true\n")
    (town.project / "ablation").mkdir()
    (town.project / "ablation/dvc.yaml").write_text(ABLATION)
    shell(town.project, "git init --quiet --initial-branch main && python -m dvc init --quiet")
    name_remote(town.project / ".dvc/config", "../../store")
    shell(town.project, "git config user.email a@b.c && git config user.name A")
    shell(town.root, "git init --quiet --bare --initial-branch main bare.git")
    shell(
        town.project, f"git add -A && git commit --quiet -m first && git remote add origin {town.bare} && git push --quiet -u origin main"
    )
    keep(town, "kept")
    return town


@pytest.fixture(scope="module")
def after(before: Town) -> Town:
    """The same after its first night, which took in a photograph; `published` has a copy."""
    with pytest.MonkeyPatch.context() as patch:
        bring(restored(before, "kept", patch), FIRST)
        before.night().run()
    keep(before, "published")
    return before


class Receiver(BaseHTTPRequestHandler):
    """Keeps what is posted."""

    got: list[dict[str, Any]]

    def do_POST(self) -> None:
        self.got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(204)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None: ...


@pytest.fixture(scope="module")
def told() -> Iterator[list[dict[str, Any]]]:
    """What a webhook on this machine gets, of which the first entry is its address."""
    got: list[dict[str, Any]] = []
    server = HTTPServer(("127.0.0.1", 0), type("Handler", (Receiver,), {"got": got}))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    got.append({"address": f"http://127.0.0.1:{server.server_port}/secret"})
    yield got
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def refusing(after: Town, told: list[dict[str, Any]]) -> Town:
    """After a second night, which refused a version with worse metrics, and told the webhook; `refused` has a copy."""
    with pytest.MonkeyPatch.context() as patch:
        town = restored(after, "published", patch)
        town.places.webhook.write_text(told[0]["address"])
        town.commit("variant.txt", "worse")
        with pytest.raises(Refusal, match=r"ap, part segformer real_only: 0\.5000 -> 0\.0500"):
            town.night().run()
    keep(town, "refused")
    return town


@pytest.fixture(scope="module")
def accepting(after: Town) -> Town:
    """After a second night, which published a version with worse metrics because someone accepted them; `accepted` has a copy."""
    with pytest.MonkeyPatch.context() as patch:
        town = restored(after, "published", patch)
        town.commit("variant.txt", "worse")
        assert town.night(accept=True).run().tag == f"{TODAY}.2"
    keep(town, "accepted")
    return town


def keep(town: Town, name: str) -> None:
    for folder in (town.project, town.bare, town.store, town.raw):
        if folder.exists():
            shutil.copytree(folder, town.root / name / folder.name, symlinks=True)


def restored(town: Town, name: str, patch: pytest.MonkeyPatch) -> Town:
    """The same paths with the content of that time."""
    patch.chdir(town.root)
    for folder in (town.project, town.bare, town.store, town.raw):
        shutil.rmtree(folder, ignore_errors=True)
        if (town.root / name / folder.name).exists():
            shutil.copytree(town.root / name / folder.name, folder, symlinks=True)
    patch.chdir(town.project)
    patch.setenv("PYTHONPATH", str(ROOT))  # of the programs that a night starts
    patch.setenv("DVC_SITE_CACHE_DIR", str(town.project / ".dvc/tmp/site"))  # DVC's own is by path, and knows the content of another test
    return town


@pytest.fixture
def fresh(before: Town, monkeypatch: pytest.MonkeyPatch) -> Town:
    """A project without a version."""
    return restored(before, "kept", monkeypatch)


@pytest.fixture
def town(after: Town, monkeypatch: pytest.MonkeyPatch) -> Town:
    """A project with one version."""
    return restored(after, "published", monkeypatch)


@pytest.fixture
def refused(refusing: Town, monkeypatch: pytest.MonkeyPatch) -> Town:
    """A project with one version, whose last night refused another."""
    return restored(refusing, "refused", monkeypatch)


@pytest.fixture
def accepted(accepting: Town, monkeypatch: pytest.MonkeyPatch) -> Town:
    """A project with two versions, the second of which is worse."""
    return restored(accepting, "accepted", monkeypatch)


def events() -> list[dict[str, Any]]:
    """OpenLineage's events of the project in the working folder."""
    return [json.loads(line) for line in EVENTS.read_text(encoding="utf-8").splitlines()]


def bring(town: Town, name: str = f"{CATEGORY}/train/good/901.png") -> str:
    """A new photograph into the drop folder; its name."""
    target = town.project / ".nightly" / "drop" / name
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(sorted((town.raw / CATEGORY / "train/good").iterdir())[0], target)
    return name


def test_a_night_publishes_a_version_that_another_machine_can_get(town: Town) -> None:
    """In the morning there would be no data, or data on one machine alone."""
    (record,) = read_records(town.places.nights)

    assert (record.outcome, record.tag, record.taken_in) == ("published", TODAY, [FIRST])
    assert town.tags() == [TODAY]
    got = town.fetched(TODAY)
    assert f"./{FIRST}" in (got / "data/evaluate/images.txt").read_text()
    assert shell(got, "git cat-file -t " + TODAY).strip() == "tag"
    assert not shell(town.project, "git status --porcelain").strip()


def test_new_code_that_changes_no_data_makes_no_version(town: Town) -> None:
    """A corrected page would be a version of the data."""
    town.commit("look.sh", "echo page > data/environment/page.txt\n")

    assert town.night().run().outcome == "nothing to do"
    assert town.tags() == [TODAY]


def test_the_events_of_a_night_and_of_its_stages_are_in_one_file(town: Town) -> None:
    """Whoever reads them would find stages of a parent that is nowhere, or a night without stages."""
    work = "from flows.lineage_events import with_events; from stage.core.params import load_params"
    town.commit("look.sh", f"python -c '{work}; with_events(\"prepare\", {{}}, load_params(), lambda: 0)'\n")

    record = town.night().run()

    start, *stages, end = events()[-4:]
    assert [one["job"]["name"] for one in (start, *stages, end)] == ["nightly", "prepare", "prepare", "nightly"]
    assert (start["eventType"], end["eventType"]) == ("START", "COMPLETE")
    runs = [start["run"], end["run"], *(one["run"]["facets"]["parent"]["run"] for one in stages)]
    assert {one["runId"] for one in runs} == {record.run_id}


def test_a_worse_version_is_refused_with_its_reasons(refused: Town) -> None:
    """It would be trained on."""
    record = read_records(refused.places.nights)[0]

    assert (record.outcome, record.tag, refused.tags()) == ("refused", "", [TODAY])
    assert json.loads((refused.places.nights / record.id / "gate.json").read_text())["gate"] == record.gate
    assert len(pd.read_csv(refused.places.nights / record.id / "scores.csv"))


def test_a_refusal_is_told_to_the_webhook(refused: Town, told: list[dict[str, Any]]) -> None:
    """Nobody would know until somebody looks; and the address, which is a password, would stand in a record."""
    assert ["is not worse" in one["message"] for one in told[1:] if one["outcome"] == "refused"] == [True]
    assert "secret" not in "".join(path.read_text() for path in refused.places.nights.rglob("*") if path.is_file())


def test_status_shows_what_the_nights_did(refused: Town) -> None:
    """One would have to read the records."""
    told = json.loads(run_verb("status", "--json").output)
    shown = run_verb("status").output
    (refused.places.home / "services.json").write_text("{}")

    assert [(one["outcome"], one["tag"]) for one in told] == [("refused", ""), ("published", TODAY)]
    assert "refused" in shown
    assert TODAY in shown
    assert f"{sum(not one['holds'] for one in told[0]['gate'])} checks failed" in " ".join(shown.split())
    assert "real_only" not in shown  # the checks themselves would fill a screen
    assert "schedule: " not in shown
    assert "schedule: no server and no worker of `make nightly-up` runs, so no night begins" in run_verb("status").output


def test_a_person_may_accept_a_worse_metric_and_never_a_leak(accepted: Town) -> None:
    """A version that is right and measures worse could not be published at all; or one be measured on what it was trained on."""
    assert accepted.tags() == [TODAY, f"{TODAY}.2"]

    accepted.commit("variant.txt", "leaky")
    with pytest.raises(Refusal, match="leaks, part: "):
        accepted.night(accept=True).run()


def test_a_person_may_accept_what_cannot_be_compared(town: Town) -> None:
    """Once the last version's results are lost, no version could ever be published."""
    town.commit("variant.txt", "worse")
    lock = YAML(typ="safe").load(shell(town.bare, f"git show {TODAY}:dvc.lock"))
    lost = next(one["md5"] for made in lock["stages"].values() for one in made["outs"] if one["path"] == "data/evaluate")
    for place in (town.project / ".dvc/cache", town.store):
        (place / "files/md5" / lost[:2] / lost[2:]).unlink()

    with pytest.raises(CorruptFileError, match="--accept` publishes"):
        town.night().run()
    await_another_name(town)
    assert "not compared" in (record := town.night(accept=True).run()).warnings[0]
    assert record.tag in town.tags()


PUSHES_WHAT_IS_LEFT = "nothing to do"
STEPS = (
    *("take in code", "take in photographs", "dvc repro", "gate", "dvc push", "commit", "push the branch", "tagged here"),
    PUSHES_WHAT_IS_LEFT,
)


def test_a_night_that_is_killed_after_a_step_is_finished_and_told_by_a_later_one(
    fresh: Town, told: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A version would be tagged whose data are nowhere, or be made twice, or never."""
    name = bring(fresh)
    fresh.places.webhook.write_text(told[0]["address"])
    for step in STEPS:
        monkeypatch.setenv("STAGE_FAULT", f"after {step}")
        child = os.fork()  # a new process would import for seconds
        if not child:
            fresh.night().run()
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL, step
        assert fresh.tags() == [TODAY] * (step == PUSHES_WHAT_IS_LEFT)
        await_another_name(fresh)
    monkeypatch.delenv("STAGE_FAULT")

    fresh.night().run()
    assert fresh.tags() == [TODAY]
    assert f"./{name}" in (fresh.fetched(TODAY) / "data/evaluate/images.txt").read_text()
    assert shell(fresh.bare, "git rev-list --count nightly").strip() == "2"
    records = read_records(fresh.places.nights)
    assert [one.outcome for one in records[1:]] == ["killed"] * len(STEPS)
    assert sorted(one["id"] for one in told[1:] if one["outcome"] == "killed") == sorted(one.id for one in records[1:])


def test_a_night_that_is_killed_inside_dvc_push_leaves_no_version_without_its_files(fresh: Town) -> None:
    """Lists of files arrive before the files, so a version could be tagged whose files are nowhere."""
    many, count, own = fresh.made / "many", 600, os.sched_getaffinity(0)
    shutil.copytree(fresh.made / "good", many, dirs_exist_ok=True)
    (many / "evaluate/many").mkdir(exist_ok=True)
    for number in range(count):
        (many / f"evaluate/many/{number}.txt").write_text(f"{number}\n")
    fresh.commit("variant.txt", "many")
    os.sched_setaffinity(0, {min(own)})  # the child's too: the push stands still while this looks at it
    child = os.fork()
    if not child:
        fresh.night().run()
        os._exit(0)
    try:
        until(lambda: len(objects(fresh.store)) > 100, pause_s=0.001)
    finally:
        kill_all(psutil.Process(child))
        os.sched_setaffinity(0, own)
    assert len(objects(fresh.store)) < count
    assert not fresh.tags()
    await_another_name(fresh)

    fresh.night().run()
    assert objects(fresh.project / ".dvc/cache") <= objects(fresh.store)  # which also has what the killed push left unfinished
    assert len([*(fresh.fetched(TODAY) / "data/evaluate/many").iterdir()]) == count


def await_another_name(town: Town) -> None:
    """Nights are named by the second in which they begin."""
    while Record.here(datetime.now().astimezone()).id == read_records(town.places.nights)[0].id:
        time.sleep(0.05)


def during(step: str, deed: Callable[[], object]) -> Callable[[str, Action], str]:
    """Does something just before a step of that name, the first time."""
    deeds = [deed]

    def around(name: str, action: Action) -> str:
        if name == step and deeds:
            deeds.pop()()
        return action()

    return around


def push_another_commit(town: Town) -> None:
    other = town.root / "other"
    shutil.rmtree(other, ignore_errors=True)
    shell(town.root, f"git clone --quiet --branch nightly {town.bare} other")
    shell(other, "git config user.email c@d.e && git config user.name C && git commit --quiet --allow-empty -m theirs && git push --quiet")


def test_a_branch_that_has_moved_on_is_taken_in(town: Town) -> None:
    """A night's work would be lost to a push of somebody else's, or theirs to the night's."""
    town.commit("look.sh", "true # again\n")
    bring(town)
    record = town.night(around=during("push the branch", lambda: push_another_commit(town))).run()

    assert (record.outcome, town.tags()) == ("published", [TODAY, f"{TODAY}.2"])
    assert "theirs" in shell(town.bare, f"git log --format=%s {TODAY}.2")
    assert shell(town.bare, "git rev-parse nightly").strip() == shell(town.bare, f"git rev-parse {TODAY}.2^{{commit}}").strip()


def be_killed_before_the_push(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    """A night with a new photograph that leaves its tag here."""
    bring(town)
    monkeypatch.setenv("STAGE_FAULT", "after tagged here")
    child = os.fork()
    if not child:
        town.night().run()
        os._exit(0)
    os.waitpid(child, 0)
    monkeypatch.delenv("STAGE_FAULT")
    assert town.tags() == [TODAY]
    await_another_name(town)


def test_a_version_killed_before_its_push_is_pushed_although_the_branch_has_moved_on(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every later night without a change would fail, and the version never leave this machine."""
    be_killed_before_the_push(town, monkeypatch)
    push_another_commit(town)

    assert town.night().run().outcome == "nothing to do"
    assert town.tags() == [TODAY, f"{TODAY}.2"]


def test_a_version_killed_before_its_push_is_pushed_with_the_next_one(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    """As soon as another photograph arrives, it would never leave this machine."""
    be_killed_before_the_push(town, monkeypatch)
    bring(town, f"{CATEGORY}/train/good/902.png")

    assert town.night().run().tag == f"{TODAY}.3"
    assert town.tags() == [TODAY, f"{TODAY}.2", f"{TODAY}.3"]


def test_the_upstream_decides_everything_but_the_lock(town: Town) -> None:
    """A conflict would wait for a person at night; a lock of somebody's own run would name data that are on their machine alone."""
    town.commit("variant.txt", "good")
    town.commit("dvc.lock", "schema: '2.0'\nstages: {}\n")
    bring(town)
    tag = town.night().run().tag

    assert shell(town.bare, f"git show {tag}:variant.txt") == "good"
    assert "data/synthesize" in shell(town.bare, f"git show {tag}:dvc.lock")
    assert not shell(town.bare, f"git diff --name-only main {tag} -- . ':!dvc.lock'")


def test_what_the_last_night_missed_is_an_input_of_this_one(town: Town) -> None:
    """Errors would drive nothing; or a version's commit would name other errors than its samples were planned with."""
    told = FoundDefect(defect="crack", image_path=f"{CATEGORY}/test/crack/000.png", mask_sha256="0" * 64, found=0.1)
    write_found([told], town.places.worktree / "data/segment" / CATEGORY / ERRORS.name)
    params = (town.project / "params.yaml").read_text()
    town.commit("params.yaml", params.replace("missed_share: 0.0", "missed_share: 0.5").replace("folds: 0", "folds: 2"))
    bring(town)

    record = town.night().run()

    assert {step.name: step.told for step in record.steps}["take in errors"] == f"missed defects: 1 of 1 of {CATEGORY}"
    shell(town.root, f"git clone --quiet --branch {record.tag} {town.bare} fetched")
    assert read_errors(town.root / "fetched" / ERRORS) == {CATEGORY: [told]}
    (town.places.worktree / ERRORS).unlink()
    town.night().steps.take_in_code()
    assert read_errors(town.places.worktree / ERRORS) == {CATEGORY: [told]}


def test_a_remote_that_is_away_costs_a_push_and_no_work(town: Town) -> None:
    """A network that fails at night would cost the night."""
    bring(town)
    town.bare.rename(town.root / "away.git")
    with pytest.raises(ProgramError, match="push"):
        town.night().run()
    (town.root / "away.git").rename(town.bare)

    record = read_records(town.places.nights)[0]
    assert record.outcome == "failed"
    assert "could not be reached" in record.warnings[0]
    await_another_name(town)
    assert town.night().run().tag == f"{TODAY}.2"
    assert f"{TODAY}.2" in town.tags()


def test_a_store_of_data_that_is_away_costs_a_push_and_no_work(town: Town) -> None:
    """A version would be tagged whose data are on this machine alone; or the work be done again once the store is back."""
    bring(town)
    away = town.project / ".dvc/config.local"
    away.write_text("['remote \"store\"']\n    url = http://127.0.0.1:9/store\n")
    with pytest.raises(ProgramError, match="Expected `dvc push` to work"):
        town.night().run()
    record = read_records(town.places.nights)[0]
    assert (record.outcome, record.steps[-1].name, record.tag, town.tags()) == ("failed", "dvc push", "", [TODAY])

    away.unlink()
    await_another_name(town)
    made = (town.places.worktree / "data/evaluate/images.txt").stat().st_mtime_ns
    assert town.night().run().tag == f"{TODAY}.2"
    assert (town.places.worktree / "data/evaluate/images.txt").stat().st_mtime_ns == made
    assert "901.png" in (town.fetched(f"{TODAY}.2") / "data/evaluate/images.txt").read_text()


def test_lists_of_files_without_the_files_are_not_taken_for_a_pushed_version(town: Town) -> None:
    """A push that was killed leaves them, and DVC would call everything up to date: a version would be tagged whose data are nowhere."""
    bring(town)
    kept = town.project / ".dvc/cache/files/md5"
    lists: list[Path] = []

    def kill_a_push() -> None:
        for path in kept.glob("*/*.dir"):
            if not (there := town.store / "files/md5" / path.relative_to(kept)).exists():
                there.parent.mkdir(exist_ok=True)
                shutil.copy(path, there)
                lists.append(there)

    with pytest.raises(ProgramError, match=r"Expected every output in DVC.s remote after `dvc push`, found .*data/evaluate/images\.txt"):
        town.night(around=during("dvc push", kill_a_push)).run()
    assert town.tags() == [TODAY]

    for path in lists:
        path.unlink()
    await_another_name(town)
    assert town.night().run().tag == f"{TODAY}.2"
    assert "901.png" in (town.fetched(f"{TODAY}.2") / "data/evaluate/images.txt").read_text()


def test_branches_that_somebody_rewrote_are_taken_as_they_are(town: Town) -> None:
    """A forced push would end every later night; or what it removed from the upstream come back; or its branch lose a version."""
    town.commit("look.sh", "true # a mistake\n")
    bring(town)

    def rewrite() -> None:
        (town.project / "look.sh").write_text("true # corrected\n")
        shell(town.project, "git commit --quiet --all --amend --message corrected && git push --quiet --force origin main main:nightly")

    record = town.night(around=during("push the branch", rewrite)).run()

    assert (record.outcome, town.tags()) == ("published", [TODAY, f"{TODAY}.2"])
    assert shell(town.bare, f"git show {TODAY}.2:look.sh") == "true # corrected\n"
    assert shell(town.bare, "git rev-parse nightly") == shell(town.bare, f"git rev-parse {TODAY}.2^{{commit}}")
    assert shell(town.bare, f"git merge-base --is-ancestor main nightly && git merge-base --is-ancestor {TODAY} nightly; echo $?") == "0\n"


def test_a_lock_that_a_killed_git_left_is_no_network_that_is_away(town: Town) -> None:
    """Every later night would work with old code, and say that the network is away."""
    town.commit("variant.txt", "good")
    shell(town.project, "git update-ref refs/remotes/origin/main HEAD~1")
    (town.project / ".git/refs/remotes/origin/main.lock").touch()

    with pytest.raises(ProgramError, match=r"main\.lock"):
        town.night().run()


def test_a_lock_from_before_the_machines_start_is_removed(town: Town) -> None:
    """After a power cut every night would fail, until somebody finds the file."""
    town.commit("variant.txt", "good")
    shell(town.project, "git update-ref refs/remotes/origin/main HEAD~1")
    lock = town.project / ".git/refs/remotes/origin/main.lock"
    lock.touch()
    os.utime(lock, (psutil.boot_time() - 60,) * 2)

    assert f"Removed {lock}" in town.night().run().warnings[0]
    assert not lock.exists()


def test_two_nights_do_not_run_at_once(town: Town) -> None:
    """Both would write into one worktree."""
    record = Record.here(datetime.now().astimezone())
    record.write(town.places.nights)
    with FileLock(town.places.home / "lock"), pytest.raises(NightIsRunning, match=rf"found night .*, process {os.getpid()} on .*, since "):
        town.night().run()


@pytest.fixture
def bare(tmp_path: Path, told: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> Places:
    """A project with a webhook and nothing else, as the working folder."""
    monkeypatch.chdir(tmp_path)
    places = Places(tmp_path)
    places.home.mkdir()
    places.webhook.write_text(told[0]["address"])
    shutil.copy(ROOT / "nightly.yaml", tmp_path)
    return places


def test_a_night_that_cannot_begin_is_told(bare: Places, told: list[dict[str, Any]]) -> None:
    """It would be found out when somebody misses a version."""
    bare.nights.touch()  # as if the disk took no folder
    with pytest.raises(FileExistsError):
        Night.here(bare, print).run()
    assert (told[-1]["outcome"], "FileExistsError" in told[-1]["message"]) == ("failed", True)

    (bare.root / "nightly.yaml").write_text("keep: 0\n")
    with pytest.raises(ConfigError):
        Night.here(bare, print)
    assert (told[-1]["outcome"], "nightly.yaml" in told[-1]["message"]) == ("failed", True)
    assert [one["eventType"] for one in events()] == ["START", "FAIL"] * 2


def test_a_night_that_is_stopped_is_told_and_found(bare: Places, told: list[dict[str, Any]]) -> None:
    """A machine that ends it every night would never have a version, and nobody know."""

    def stop(_name: str, _action: Action) -> str:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Night.here(bare, print, stop).run()

    assert told[-1]["outcome"] == "interrupted"
    assert "interrupted: stopped by someone" in doctor()[1]["look"]["last night"]


def test_a_night_waits_for_what_is_no_night_and_says_what_it_is(
    bare: Places, told: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A night that is due while `stage retain` asks a distant remote would be cancelled, and nobody be told."""
    begun = threading.Event()

    def retain_a_while() -> None:
        with held(bare, "`stage retain`"):
            begun.set()
            time.sleep(0.5)

    threading.Thread(target=retain_a_while).start()
    begun.wait()
    with pytest.raises(ProgramError, match="not a git repository"):
        Night.here(bare, print).run()

    monkeypatch.setattr("stage.nights.night.WAIT_S", 0.0)
    with held(bare, "`stage retain`"), pytest.raises(MachineError, match=rf"found `stage retain`, process {os.getpid()} on "):
        Night.here(bare, print).run()
    assert (told[-1]["outcome"], "stage retain" in told[-1]["message"]) == ("failed", True)


def test_old_records_and_logs_go_and_the_newest_stay(bare: Places) -> None:
    """After years they would fill the disk; or the night that was killed last never be told."""
    now, names = datetime.now().astimezone(), list[str]()
    for days in range(5):
        record = Record.here(now - timedelta(days=5 - days))
        record.ended = None if days == 1 else now  # the second was killed, and no later night has told it
        record.outcome = "killed" if days == 1 else "refused"
        names.append(record.id)
        bare.nights.mkdir(exist_ok=True)
        record.write(bare.nights)
        (bare.nights / record.id).mkdir()
        (bare.nights / record.id / "dvc-repro.log").touch()
    (bare.nights / "notes").mkdir()
    settings = load_nightly(bare.root).model_copy(update={"keep_nights": 2, "keep_log_mb": 1})
    log, line = bare.home / "worker.log", b"x" * 99 + b"\n"
    (bare.home / "server.log").write_bytes(line)
    with log.open("ab") as worker:  # at work all the time
        worker.write(line * 11_000 + b"last\n")
        worker.flush()
        before = sorted(bare.home.rglob("*"))
        assert forget(bare, settings, dry_run=True) == ([names[0], names[2]], ["worker.log"])
        assert (sorted(bare.home.rglob("*")), log.stat().st_size) == (before, 1_100_005)

        assert forget(bare, settings, dry_run=False) == ([names[0], names[2]], ["worker.log"])
        worker.write(b"next\n")

    assert {path.stem for path in bare.nights.iterdir()} == {names[1], *names[3:], "notes"}
    assert len(log.read_bytes()) == 9_999 * 100 + len(b"last\nnext\n")
    assert log.read_bytes().endswith(line + b"last\nnext\n")
    assert log.read_bytes().startswith(line)
    assert forget(bare, settings, dry_run=False) == ([], [])

    log.write_bytes(b"a" * 100 + b"x" * 1_000_000)
    forget(bare, settings, dry_run=False)
    assert log.read_bytes() == b"x" * 1_000_000  # one line, as of a damaged disk


def test_a_missed_week_is_made_good_by_one_night_that_finds_nothing_to_do(town: Town) -> None:
    """Six more nights would run in the morning, one after the other; or every morning have a version, and nobody look at one."""
    now = datetime.now().astimezone()
    here, there = (shell(folder, "git for-each-ref") for folder in (town.project, town.bare))
    with pytest.raises(Superseded, match="which has finished"):
        town.night().run(due=now - timedelta(days=3))
    assert len(read_records(town.places.nights)) == 1

    record = town.night().run(due=now)
    assert (record.outcome, record.changes) == ("nothing to do", [])
    assert (shell(town.project, "git for-each-ref"), shell(town.bare, "git for-each-ref")) == (here, there)


def until_gone(pid: int) -> None:
    deadline = time.monotonic() + 60
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline
        time.sleep(0.1)


def pid_of_stage(town: Town) -> int:
    deadline = time.monotonic() + 60
    while not (town.root / "pid").exists():
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return int((town.root / "pid").read_text())


def test_a_night_over_its_limit_is_ended_and_told(town: Town, told: list[dict[str, Any]]) -> None:
    """It would keep every later night from running, or nobody know."""
    town.places.webhook.write_text(told[0]["address"])
    with pytest.raises(MachineError, match="within the night's limit"):
        town.night(limit_h=1e-9).run()

    assert read_records(town.places.nights)[0].outcome == told[-1]["outcome"] == "failed"


def dead_folder(folder: Path) -> int:
    """Mount at a folder what never answers, like a network folder whose server is away; to close what is returned is its end."""
    try:
        device = os.open("/dev/fuse", os.O_RDWR)
    except OSError:
        pytest.skip("A DEAD FOLDER IS NOT TESTED: this user may not open /dev/fuse")
    folder.mkdir(parents=True, exist_ok=True)
    options = f"fd={device},rootmode=40000,user_id=0,group_id=0"
    if ctypes.CDLL(None).mount(b"dead", os.fsencode(folder), b"fuse", 0, options.encode()):
        os.close(device)
        pytest.skip("A DEAD FOLDER IS NOT TESTED: this user may mount none")
    return device


def test_a_drop_folder_that_does_not_answer_ends_the_night(town: Town, told: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    """The night would wait for it, and hold the place of every later one; and nobody be told."""
    town.places.webhook.write_text(told[0]["address"])
    drop = town.places.drop(town.settings)
    device = dead_folder(drop)
    try:
        monkeypatch.setattr("stage.nights.steps.SILENCE_S", QUIET_S)
        with pytest.raises(MachineError, match=r"Expected the intake to get on .* line: take_in begins .*drop and .* answer"):
            town.night().run()
    finally:
        os.close(device)
        ctypes.CDLL(None).umount2(os.fsencode(drop), 2)

    record = read_records(town.places.nights)[0]
    assert (record.outcome, record.steps[-1].name, told[-1]["id"]) == ("failed", "take in photographs", record.id)
    assert (town.places.nights / record.id / "intake.log").is_file()
    await_another_name(town)
    monkeypatch.setattr("stage.nights.steps.SILENCE_S", 600.0)
    assert town.night().run().outcome == "nothing to do"


def test_a_gate_that_hangs_ends_the_night(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    """It reads the last version's results from DVC's cache or remote, which may be a network folder as well."""
    town.commit("variant.txt", "worse")
    monkeypatch.setenv("STAGE_FAULT", f"inside examination:0:{signal.SIGSTOP:d}")
    monkeypatch.setattr("stage.nights.programs.GRACE_S", 0.5)
    shorten = during("gate", lambda: monkeypatch.setattr("stage.nights.steps.SILENCE_S", QUIET_S))

    with pytest.raises(MachineError, match=r"Expected the gate to get on .* line: examination begins .* `dvc status --cloud`"):
        town.night(around=shorten).run()
    assert read_records(town.places.nights)[0].steps[-1].name == "gate"


def test_a_killed_night_of_another_host_is_closed_and_told(fresh: Town, told: list[dict[str, Any]]) -> None:
    """Each container has a host name of its own: a killed one's night would run for ever in `stage status`, and nobody be told."""
    gone = Record.here(datetime.now().astimezone() - timedelta(days=1)).model_copy(update={"host": "5f0c2a7d9e11"})
    fresh.places.nights.mkdir(parents=True)
    gone.write(fresh.places.nights)
    fresh.places.webhook.write_text(told[0]["address"])
    with pytest.raises(MachineError):
        fresh.night(limit_h=1e-9).run()

    assert read_records(fresh.places.nights)[-1].outcome == "killed"
    assert [one["outcome"] for one in told if one.get("id") == gone.id] == ["killed"]
    assert [one["eventType"] for one in events() if one["run"]["runId"] == gone.run_id] == ["ABORT"]


def test_a_program_at_its_limit_is_ended_with_all_that_it_started(tmp_path: Path) -> None:
    """What hangs would go on behind a night that has given up."""
    command = ["sh", "-c", "sleep 600 & echo $! > pid; wait"]
    with pytest.raises(MachineError, match="within the night's limit"):
        work(command, tmp_path, tmp_path / "log", deadline=time.monotonic() + 5, say=lambda _line: None)

    until_gone(int((tmp_path / "pid").read_text()))


def test_a_program_that_gets_on_no_more_is_ended_with_all_that_it_started(tmp_path: Path) -> None:
    """A night whose training hangs would hold the place of every later one until its limit."""
    command = ["sh", "-c", "echo epoch 1; sleep 600 & echo $! > pid; wait"]
    with pytest.raises(MachineError, match="Its last line: epoch 1"):
        work(command, tmp_path, tmp_path / "log", deadline=time.monotonic() + 600, say=lambda _line: None, silence_s=3)

    until_gone(int((tmp_path / "pid").read_text()))


def test_a_program_that_gets_on_slowly_is_left_alone(tmp_path: Path) -> None:
    """A long run would be ended for being long."""
    command = ["sh", "-c", "for step in 1 2 3 4; do sleep 2; echo $step; done"]

    said = work(command, tmp_path, tmp_path / "log", deadline=time.monotonic() + 600, say=lambda _line: None, silence_s=7)

    assert said.split() == ["1", "2", "3", "4"]


def test_a_log_on_a_full_disk_ends_no_program(tmp_path: Path) -> None:
    """`stage nightly >> log` would end `dvc repro` with a broken pipe when the log's disk is full."""

    def say(_line: str) -> None:
        raise OSError(28, "No space left on device")

    command = ["sh", "-c", "echo first; sleep 0.2; echo second"]
    assert work(command, tmp_path, tmp_path / "log", deadline=time.monotonic() + 60, say=say) == "first\nsecond"


def test_what_a_killed_night_started_ends_with_it(town: Town) -> None:
    """Its `dvc` would go on, and write into the worktree beside the next night's."""
    town.commit("look.sh", f"echo $$ > {town.root}/pid; sleep 600\n")
    child = os.fork()
    if not child:
        town.night().run()
        os._exit(0)
    pid_of_stage(town)
    dvc = next(one for one in psutil.Process(child).children(recursive=True) if "repro" in one.cmdline())
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    until_gone(dvc.pid)
    (town.root / "pid").unlink()


def test_a_password_in_an_address_is_in_no_record_and_no_log(town: Town) -> None:
    """Whoever reads the log could push."""
    shell(town.project, "git remote set-url origin http://user:hunter2@127.0.0.1:9/x.git")
    town.night().run()

    texts = [path.read_text() for path in town.places.nights.rglob("*") if path.is_file()]
    assert any("127.0.0.1:9" in text for text in texts)
    assert not [text for text in texts if "hunter2" in text]


def test_a_long_signed_address_is_in_no_log_though_rich_folds_lines(tmp_path: Path) -> None:
    """The half of a signature that came to stand on a line of its own would be kept."""
    code = f"from rich.console import Console; Console(stderr=True).print('https://s3/{'a' * 50}?X-Amz-Signature={'b' * 64}: read', markup=False)"

    work([sys.executable, "-c", code], tmp_path, tmp_path / "log", deadline=time.monotonic() + 60, say=str)

    assert (tmp_path / "log").read_text() == f"https://s3/{'a' * 50}?X-Amz-Signature=... read\n"


def objects(folder: Path) -> set[str]:
    """DVC's objects in a cache or remote."""
    return {path.parent.name + path.name for path in (folder / "files" / "md5").glob("*/*")}


def test_versions_that_are_not_kept_lose_their_data_and_no_other_does(accepted: Town) -> None:
    """The disk would fill up; or a version that somebody trains on would lose its data."""
    town = accepted
    cache = town.project / ".dvc/cache"
    before = objects(cache), objects(town.store), town.tags()
    settings = town.settings.model_copy(update={"keep": 1})

    size = sum(path.stat().st_size for path in (cache / "files/md5").glob("*/*"))
    planned = retain(town.places, settings, cloud=True, dry_run=True)
    assert (planned.kept, planned.retired) == ([f"{TODAY}.2"], [TODAY])
    (town.project / "nightly.yaml").write_text((town.project / "nightly.yaml").read_text().replace("keep: 30", "keep: 1 "))
    told = run_verb("retain", "--dry-run", "--cloud").output
    assert (objects(cache), objects(town.store), town.tags()) == before

    gone = retain(town.places, settings, cloud=True, dry_run=False)
    assert planned == gone
    assert told.endswith(
        f"1 version kept. Would go: {TODAY}.\nWould go from DVC's cache: {gone.from_cache} objects, {gone.cache_bytes / 1e6:,.2f} MB; "
        f"{gone.from_remote} objects from its remote.\n"
    )
    assert gone.cache_bytes == size - sum(path.stat().st_size for path in (cache / "files/md5").glob("*/*")) > 0
    assert (gone.from_cache, gone.from_remote) == (len(before[0] - objects(cache)), len(before[1] - objects(town.store)))
    assert town.tags() == [f"{TODAY}.2"]
    assert shell(town.bare, f"git cat-file -t refs/retired/{TODAY}").strip() == "tag"
    assert objects(cache) < before[0]
    assert objects(town.store) < before[1]
    assert pd.read_parquet(town.fetched(f"{TODAY}.2") / "data/evaluate/scores.parquet").value.max() < 0.5
    assert town.night().run().outcome == "nothing to do"


def test_a_version_on_a_branch_keeps_its_data(accepted: Town) -> None:
    """Somebody's work on an older version would lose its photographs."""
    town = accepted
    shell(town.project, f"git push --quiet origin {TODAY}^{{commit}}:refs/heads/theirs")
    shell(town.project, "git fetch --quiet origin")
    before = objects(town.store)
    found = retain(town.places, town.settings.model_copy(update={"keep": 1, "keep_nights": 1}), cloud=True, dry_run=False)

    assert (town.tags(), found.nights) == ([f"{TODAY}.2"], [read_records(town.root / "published/project/.nightly/nights")[0].id])
    assert objects(town.store) == before


def test_a_full_disk_ends_a_night_and_the_next_one_goes_on(fresh: Town) -> None:
    """Half a version would be tagged, or every later night would stumble over what the full disk left."""
    small = fresh.root / "small"
    small.mkdir(exist_ok=True)
    with small_disk(small, "size=16k") as is_mounted:
        if not is_mounted:
            pytest.skip("A FULL DISK IS NOT TESTED: this user may mount none")
        (fresh.project / ".dvc/config.local").write_text(f"[cache]\n    dir = {small}/cache\n")
        with pytest.raises(ProgramError, match="No space left on device"):
            fresh.night().run()
        record = read_records(fresh.places.nights)[0]
        assert (record.outcome, record.tag, fresh.tags()) == ("failed", "", [])

        subprocess.run(["mount", "-o", "remount,size=64m", str(small)], check=True)
        assert fresh.night().run().tag == TODAY
        assert "./" in (fresh.fetched(TODAY) / "data/evaluate/images.txt").read_text()


def test_a_full_disk_of_the_nights_own_ends_one_and_the_next_goes_on(fresh: Town, told: list[dict[str, Any]]) -> None:
    """Its record could not say so, and nobody know; or the next night stumble over half a worktree."""
    home = fresh.places.home
    home.mkdir()
    with small_disk(home, "size=64k") as is_mounted:
        if not is_mounted:
            pytest.skip("A FULL DISK IS NOT TESTED: this user may mount none")
        fresh.places.webhook.write_text(told[0]["address"])
        with pytest.raises((OSError, Refusal), match="No space left on device"):
            fresh.night().run()
        assert (told[-1]["outcome"], "No space left on device" in told[-1]["message"], fresh.tags()) == ("failed", True, [])

        subprocess.run(["mount", "-o", "remount,size=64m", str(home)], check=True)
        time.sleep(1)  # the last night may have left no record to be named after
        assert fresh.night().run().tag == TODAY
        assert "./" in (fresh.fetched(TODAY) / "data/evaluate/images.txt").read_text()


def doctor() -> tuple[int, dict[str, dict[str, str]]]:
    """The exit status, and what was found, by level and name."""
    told = run_verb("doctor", "--json")
    found = {level: {} for level in ("fails", "look")}
    for one in json.loads(told.output):
        found.setdefault(one["level"], {})[one["what"]] = one["found"]
    return told.exit_code, found


def test_the_doctor_says_what_will_fail(town: Town) -> None:
    """A night would find it out at two in the morning."""
    status, found = doctor()
    assert (status, found["fails"]) == (0, {})
    missing = found["look"]["dvc.lock"]

    (town.project / "dvc.lock").touch()
    (town.project / "params.yaml").write_text((town.project / "params.yaml").read_text().replace(str(town.raw), "/nowhere"))
    town.bare.rename(town.root / "gone.git")
    status, found = doctor()
    (town.root / "gone.git").rename(town.bare)

    assert status == 1
    assert found["fails"]["photographs"] == "no folder /nowhere"
    assert "git ls-remote" in found["fails"]["git remote"]
    assert "params.yaml; the night runs what is committed" in found["look"]["git"]
    assert [missing, found["look"]["dvc.lock"]] == [
        f"{what}; with it a commit is a version of the data" for what in ("there is none", "git does not track it")
    ]


def test_the_doctor_finds_a_commit_that_is_not_pushed(town: Town) -> None:
    """The night would have nothing to do, and nobody know why."""
    params = town.project / "params.yaml"
    params.write_text(params.read_text().replace("missed_share: 0.0", "missed_share: 0.5"))
    shell(town.project, "git commit --quiet --all --message mine")
    told = {one["found"]: one["mend"] for one in json.loads(run_verb("doctor", "--json").output)}

    mend = told["main is 1 commit ahead of origin; the night runs what is pushed"]
    assert mend == "Run `git push origin main`."
    assert [one for one in told if one.startswith("differs from the night's, of ")]
    shell(town.project, mend.split("`")[1] + " --quiet")
    assert {"git", "params.yaml"}.isdisjoint(doctor()[1]["look"])


def test_the_doctor_names_a_mount_that_does_not_answer(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would hang for ever itself, or leave it to the user to find out what it waits for."""
    drop = town.places.drop(town.settings)
    device = dead_folder(drop)
    monkeypatch.setattr("stage.nights.silence.WITH_SILENT_S", 5.0)
    try:
        found = doctor()[1]["fails"]
    finally:
        os.close(device)
        ctypes.CDLL(None).umount2(os.fsencode(drop), 2)

    assert found["disks"] == f"no answer within 5 s; {drop} cannot be reached"


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


@pytest.fixture
def services(town: Town, own_home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Services]:
    """The project with its flows and schedule, on a port of its own; nothing of it is left running."""
    shutil.copytree(ROOT / "flows", town.project / "flows", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "prefect.yaml", town.project)
    shutil.copytree(own_home, town.places.home / "prefect")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("PREFECT_WORKER_QUERY_SECONDS", "2")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")  # which reaches nothing
    one = Services(town.places, free_port())
    yield one
    one.down()


def api(services: Services, path: str, body: dict[str, Any] | None = None) -> Any:
    """An answer of the server; by POST where there is a body. SQLite that is busy for long is a 503, which its clients ask again, too."""
    content = None if body is None else json.dumps(body).encode()
    deadline = time.monotonic() + 300
    while True:
        try:
            asked = Request(f"{services.url}/{path}", content, {"Content-Type": "application/json"})
            with build_opener(ProxyHandler({})).open(asked, timeout=60) as answer:
                return json.loads(answer.read())
        except (HTTPError, TimeoutError) as error:
            if getattr(error, "code", 503) != 503 or time.monotonic() > deadline:
                raise
            time.sleep(1)


def until(question: Callable[[], Any], pause_s: float = 0.5) -> Any:
    """The first answer that holds."""
    deadline = time.monotonic() + 900
    while not (answer := question()):
        assert time.monotonic() < deadline
        time.sleep(pause_s)
    return answer


def begun(services: Services, deployment: dict[str, Any], key: str, ago: timedelta = timedelta()) -> str:
    """A night that is due now, or was due a while ago; the id of its run."""
    at = (datetime.now().astimezone() - ago).isoformat()
    due = {"idempotency_key": key, "state": {"type": "SCHEDULED", "state_details": {"scheduled_time": at}}}
    return api(services, f"deployments/{deployment['id']}/create_flow_run", due)["id"]


def end_of(services: Services, run_id: str) -> Any:
    """The run once it has ended."""
    return until(lambda: (found := api(services, f"flow_runs/{run_id}"))["end_time"] and found)


def take_picture(services: Services, run_id: str, folder: Path) -> None:
    """The dashboard's page of a night, as docs/images/dashboard.png shows it."""
    with opened(f"{services.url.removesuffix('/api')}/runs/flow-run/{run_id}", folder / "profile") as window:
        window.call("Emulation.setDeviceMetricsOverride", width=1280, height=1400, deviceScaleFactor=1, mobile=False)
        window.until_it_says("dvc repro")
        window.picture(folder / "dashboard.png")
    assert (folder / "dashboard.png").stat().st_size > 20_000


def shows_the_night(services: Services, town: Town, run_id: str, folder: Path) -> None:
    """The artifacts of the run: what fell since the last version, which outputs changed, and where the report is; and its page."""
    found = api(services, "artifacts/filter", {"artifacts": {"flow_run_id": {"any_": [run_id]}}})
    kept = {one["key"]: one["data"] for one in found}
    tables = {name: json.loads(kept[f"nightly-{name}"]) for name in ("metrics", "changes", "gate")}
    fallen = [(one["before"], one["now"], one["worse"]) for one in tables["metrics"] if (one["arm"], one["metric"]) == ("real_only", "ap")]
    assert {*fallen} == {(0.5, 0.05, True)}
    assert "data/evaluate" in [one["output"] for one in tables["changes"]]
    assert False in [one["holds"] for one in tables["gate"]]
    assert f"file://{town.places.worktree}/data/evaluate/report/index.html" in kept["nightly-summary"]
    if CHROMIUM:
        take_picture(services, run_id, folder)


def idle_services_are_told(services: Services, town: Town, deployment: dict[str, Any]) -> None:
    """A server or a worker that hangs still runs: nights would be left out, and `stage status` call all well."""
    noted = noted_services(town.places)
    assert [one.found for one in schedule(town.places)] == ["server and worker run"]
    os.kill(noted["worker"]["pid"], signal.SIGSTOP)
    late = begun(services, deployment, "late", timedelta(hours=1))
    assert [one.found.partition(" since ")[0] for one in schedule(town.places)] == ["a night has been due"]
    os.kill(noted["server"]["pid"], signal.SIGSTOP)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("stage.nights.schedule.BUSY_S", 1.0)
        assert [one.found.partition(" at ")[0] for one in schedule(town.places)] == ["the server gives no answer"]
    os.kill(noted["server"]["pid"], signal.SIGCONT)
    api(services, f"flow_runs/{late}/set_state", {"state": {"type": "CANCELLED"}, "force": True})
    os.kill(noted["worker"]["pid"], signal.SIGCONT)


def outlive_the_worker(services: Services, town: Town) -> None:
    """A worker that is killed alone, for want of memory for example, is told and started again; its night goes on, and the server stays."""
    before = noted_services(town.places)
    os.kill(before["worker"]["pid"], signal.SIGKILL)
    until(lambda: not is_running(before["worker"]["pid"], before["worker"]["started"]))
    assert [one.found.partition(" of ")[0] for one in schedule(town.places)] == ["no worker"]
    services.up()
    after = noted_services(town.places)
    assert (after["server"], after["worker"] != before["worker"]) == (before["server"], True)
    assert [one.level for one in schedule(town.places)] == ["fine"]
    assert running_night(town.places.nights) is not None


def be_killed_alone(services: Services, town: Town, deployment: dict[str, Any]) -> None:
    """The server learns of a night whose own process is killed, and gives its place to the next one."""
    for name in ("go", "pid"):
        (town.root / name).unlink()
    run_id = begun(services, deployment, "killed")
    until((town.root / "pid").exists)
    night = running_night(town.places.nights)
    assert night
    os.kill(night.pid, signal.SIGKILL)
    assert end_of(services, run_id)["state_type"] == "CRASHED"
    (town.root / "go").touch()


def outlive_the_server(services: Services, town: Town, deployment: dict[str, Any]) -> None:
    """A night whose server and worker are killed after it has begun comes to its own end, and nothing waits for them."""
    for name in ("go", "pid"):
        (town.root / name).unlink()
    begun(services, deployment, "three")
    until((town.root / "pid").exists)
    outlive_the_worker(services, town)
    noted = json.loads((town.places.home / "services.json").read_text())
    for name in ("server", "worker"):
        os.kill(noted[name]["pid"], signal.SIGKILL)
    (town.root / "go").touch()
    until(lambda: running_night(town.places.nights) is None)
    last, *before = read_records(town.places.nights)
    assert (last.outcome, "is not worse than" in last.message) == ("refused", True)
    assert [one.outcome for one in before] == ["killed", "refused", "published"]


def kill_all(*roots: psutil.Process) -> None:
    """Processes and all that they started."""
    victims = [one for root in roots for one in (root, *root.children(recursive=True))]
    for one in victims:
        with suppress(psutil.NoSuchProcess):
            one.kill()
    psutil.wait_procs(victims)


def kill(services: Services) -> None:
    """The server, the worker and the night that it runs end at once, as with the machine."""
    noted = json.loads((services.places.home / "services.json").read_text())
    roots = [psutil.Process(noted[name]["pid"]) for name in ("server", "worker") if is_running(noted[name]["pid"], noted[name]["started"])]
    kill_all(*roots)


def let_leases_expire(services: Services) -> None:
    """Move to the past what is otherwise waited for, five minutes."""
    for path in (services.places.home / "prefect/concurrency_leases").glob("*.json"):
        path.write_text(re.sub(r"20\d\d-(?=\d\d-\d\dT[^\"]*\"[,}])", "2020-", path.read_text()))


def end_both(services: Services) -> None:
    """`make nightly-down` ends server and worker."""
    noted = json.loads((services.places.home / "services.json").read_text())
    assert services.down() == ["worker", "server"]
    assert not any(is_running(noted[name]["pid"], noted[name]["started"]) for name in ("server", "worker"))


def outlive_the_machine(services: Services, town: Town, deployment: dict[str, Any]) -> None:
    """A night that was killed with everything else does not keep its place: the next one runs.

    It runs although it was due before the last night that finished, since another one, which met the killed one, was due after it.
    """
    (town.root / "pid").unlink()
    (town.root / "go").unlink()
    services.up()
    let_leases_expire(services)
    until(lambda: not api(services, "deployments/name/nightly/nightly")["global_concurrency_limit"]["active_slots"])
    begun(services, deployment, "four")
    until((town.root / "pid").exists)
    assert end_of(services, begun(services, deployment, "five"))["state_type"] == "CANCELLED"
    kill(services)
    (town.root / "go").touch()
    services.up()
    let_leases_expire(services)
    until(lambda: not api(services, "deployments/name/nightly/nightly")["global_concurrency_limit"]["active_slots"])
    assert end_of(services, begun(services, deployment, "six", timedelta(days=1)))["state_name"] == "Refused"
    assert [one.outcome for one in read_records(town.places.nights)[:2]] == ["refused", "killed"]
    assert end_of(services, begun(services, deployment, "seven", timedelta(days=2)))["state_type"] == "CANCELLED"


def outlive_what_is_around(services: Services, town: Town, deployment: dict[str, Any]) -> None:
    """A remote of git that is away, a branch that moved on meanwhile, a store of data that is away and a full disk cost a night at most."""

    def outcome(key: str) -> tuple[str, str]:
        ended = end_of(services, begun(services, deployment, key))
        return ended["state_type"], ended["state"]["message"]

    town.commit("look.sh", "true\n")
    town.commit("variant.txt", "good\n")
    town.commit("nightly.yaml", re.sub(r"settle_s: \d+", "settle_s: 0.001", (town.project / "nightly.yaml").read_text()))
    bring(town)
    town.bare.rename(town.root / "away.git")
    kind, message = outcome("no remote")
    assert (kind, "Expected `git push" in message) == ("FAILED", True)
    (town.root / "away.git").rename(town.bare)
    push_another_commit(town)
    assert outcome("moved on")[0] == "COMPLETED"
    assert "theirs" in shell(town.bare, f"git log --format=%s {TODAY}.2")

    bring(town, f"{CATEGORY}/train/good/902.png")
    local, small = town.project / ".dvc/config.local", town.root / "small"
    local.write_text("['remote \"store\"']\n    url = http://127.0.0.1:9/store\n")
    kind, message = outcome("no store")
    assert (kind, "Expected `dvc push` to work" in message) == ("FAILED", True)
    local.unlink()
    small.mkdir(exist_ok=True)
    with small_disk(small, "size=16k") as is_mounted:
        if is_mounted:
            local.write_text(f"[cache]\n    dir = {small}/cache\n")
            kind, message = outcome("full disk")
            local.unlink()
            assert (kind, "No space left on device" in message) == ("FAILED", True)
    assert outcome("all well")[0] == "COMPLETED"
    assert "902.png" in (town.fetched(f"{TODAY}.3") / "data/evaluate/images.txt").read_text()


def test_nightly_up_schedules_a_night_that_the_worker_runs(services: Services, town: Town, tmp_path: Path) -> None:
    """Nothing would happen at night. With another SQLAlchemy, no schedule makes a run, and only the server's log says so.

    A late one must give way, one that has begun must not need the server, and one that is killed with it must not keep later ones from running.
    """
    town.commit("variant.txt", "worse")
    town.commit("look.sh", f"echo $$ > {town.root}/pid; while [ ! -e {town.root}/go ]; do sleep 0.2; done\n")
    services.up()
    noted = json.loads((town.places.home / "services.json").read_text())
    deployment = api(services, "deployments/name/nightly/nightly")
    scheduled = until(lambda: api(services, "flow_runs/filter", {"flow_runs": {"state": {"type": {"any_": ["SCHEDULED"]}}}}))

    assert {datetime.fromisoformat(one["expected_start_time"]).astimezone(ZoneInfo("Europe/Berlin")).hour for one in scheduled} == {2}
    assert (deployment["global_concurrency_limit"]["limit"], deployment["concurrency_options"]["collision_strategy"]) == (1, "CANCEL_NEW")

    services.up()  # a second time is no second server, and no second deployment
    assert json.loads((town.places.home / "services.json").read_text()) == noted

    run_id = begun(services, deployment, "one")
    until((town.root / "pid").exists)
    late = end_of(services, begun(services, deployment, "two"))
    assert (late["state_type"], running_night(town.places.nights) is not None) == ("CANCELLED", True)
    (town.root / "go").touch()
    ended = end_of(services, run_id)
    assert ended["state_name"] == "Refused"
    assert "is not worse than" in ended["state"]["message"]
    shows_the_night(services, town, run_id, tmp_path)
    lines = api(services, "logs/filter", {"logs": {"flow_run_id": {"any_": [run_id]}}})
    assert any("dvc repro" in one["message"] for one in lines)
    assert [one.outcome for one in read_records(town.places.nights)] == ["refused", "published"]
    idle_services_are_told(services, town, deployment)
    be_killed_alone(services, town, deployment)
    outlive_the_server(services, town, deployment)
    outlive_the_machine(services, town, deployment)
    outlive_what_is_around(services, town, deployment)

    end_both(services)


def programs_of_postgresql() -> Path | None:
    """Where Debian's package has them."""
    found = shutil.which("pg_ctl") or next(iter(sorted(map(str, Path("/usr/lib/postgresql").glob("*/bin/pg_ctl")), reverse=True)), None)
    return Path(found).resolve().parent if found else None


@pytest.fixture
def postgresql(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str | Path]]:
    """Prefect is told of an empty PostgreSQL on loopback; gives the command that asks it a query."""
    programs = programs_of_postgresql()
    if programs is None:
        pytest.skip("POSTGRESQL IS NOT TESTED: it is not installed (`apt-get install postgresql`)")
    user, port = None if os.geteuid() else "postgres", free_port()  # it does not run as root

    def call(*command: str) -> None:
        subprocess.run([programs / command[0], *command[1:]], cwd=folder, user=user, check=True, stdout=subprocess.DEVNULL)

    with tempfile.TemporaryDirectory(dir="/tmp") as folder:  # the tests' own folder is closed to other users
        if user:
            shutil.chown(folder, user)
        call("initdb", "--auth=trust", "--username=stage", "--no-sync", "-D", "db")
        options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync=off"
        call("pg_ctl", "start", "-w", "-D", "db", "-l", "log", "-o", options)
        monkeypatch.setenv("PREFECT_API_DATABASE_CONNECTION_URL", f"postgresql+asyncpg://stage@127.0.0.1:{port}/postgres")
        yield [programs / "psql", f"postgresql://stage@127.0.0.1:{port}/postgres", "-At", "-c"]
        call("pg_ctl", "stop", "-w", "-m", "fast", "-D", "db")


def test_the_same_works_with_postgresql(postgresql: list[str | Path], services: Services, town: Town) -> None:
    """Whoever outgrows SQLite would have no nights, or nights that are recorded elsewhere."""
    town.commit("variant.txt", "worse")
    services.up()
    deployment = api(services, "deployments/name/nightly/nightly")

    assert until(lambda: api(services, "flow_runs/filter", {"flow_runs": {"state": {"type": {"any_": ["SCHEDULED"]}}}}))
    assert end_of(services, begun(services, deployment, "one"))["state_name"] == "Refused"
    ended = "SELECT state_name FROM flow_run WHERE end_time IS NOT NULL"
    assert subprocess.run([*postgresql, ended], capture_output=True, text=True, check=True).stdout.split() == ["Refused"]
    end_both(services)
