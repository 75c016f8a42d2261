"""`make nightly-down` against processes that end by themselves, and beside another `up` or `down`."""

import json
import subprocess
import threading
from pathlib import Path

import psutil
import pytest
from filelock import FileLock

from flows.services import Services, main
from stage.core.errors import ConfigError
from stage.core.processes import started_s
from stage.nights.settings import Places


@pytest.fixture
def services(tmp_path: Path) -> Services:
    """A project whose nights have a home, and in which nothing runs."""
    one = Services(Places(tmp_path), 1)
    one.places.home.mkdir()
    return one


def test_a_service_that_ends_while_it_is_looked_at_is_no_traceback(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server would go on running, because the worker had ended a moment before."""
    child = subprocess.Popen(["sleep", "600"])
    noted = {"worker": {"pid": child.pid, "started": started_s(psutil.Process(child.pid))}}
    (services.places.home / "services.json").write_text(json.dumps(noted))
    true, looks = psutil.Process, list[int]()

    def ends_after_the_first_look(pid: int) -> psutil.Process:
        if looks:
            child.kill()
            child.wait()
        looks.append(pid)
        return true(pid)

    monkeypatch.setattr(psutil, "Process", ends_after_the_first_look)

    assert services.down() == []
    assert looks == [child.pid] * 2
    assert not (services.places.home / "services.json").exists()


def test_down_waits_for_an_up_that_is_under_way(services: Services) -> None:
    """It would forget a server that `up` had just started, and nobody would end that one any more."""
    ended: list[list[str]] = []
    down = threading.Thread(target=lambda: ended.append(services.down()))
    with FileLock(services.places.home / "services.lock"):
        down.start()
        down.join(1)
        assert not ended
    down.join(60)

    assert ended == [[]]


def test_an_older_nightly_yaml_is_mended_by_git_and_keeps_nothing_running(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Who has changed the file, and takes newer code, would be sent to a page without it; and could not end the server."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nightly.yaml").write_text("port: 4200\n")
    main(["down"])

    assert capsys.readouterr().out == "Ended: nothing, since nothing ran.\n"
    with pytest.raises(ConfigError, match=r"keep_log_mb: Field required (?s:.)*`git log --patch nightly\.yaml` shows"):
        main(["up"])


def test_a_project_without_nights_has_nothing_to_end(tmp_path: Path) -> None:
    """A folder would appear, or an error of the system's, where someone only made sure that nothing runs."""
    assert Services(Places(tmp_path), 1).down() == []
    assert [*tmp_path.iterdir()] == []
