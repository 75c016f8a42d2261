"""Where versions are kept: what is pushed to a folder or to S3 comes back the same after everything local is gone."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from small_factory import publish

from stage.chaos.damage import flipped
from stage.core.digests import folder_digest
from stage.nights.repository import share_cache
from stage.release.verification import verify

OUTPUT = "data/synthesize/part"
MISSING = [name for name in ("dvc_s3", "moto") if importlib.util.find_spec(name) is None]
needs_s3 = pytest.mark.skipif(
    bool(MISSING), reason=f"S3 IS NOT TESTED: {' and '.join(MISSING)} missing; `pip install '.[s3-test]'` brings them"
)
ACCOUNT = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing", "AWS_DEFAULT_REGION": "us-east-1"}


@pytest.fixture
def s3() -> Iterator[str]:
    """A server on loopback that speaks S3, with the bucket `samples`; yields its address."""
    command = [sys.executable, "-u", "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as server:
        try:
            assert server.stderr is not None
            address = next(found[0] for line in server.stderr if (found := re.search(r"http://127\.0\.0\.1:\d+", line)))
            client(address).create_bucket(Bucket="samples")
            yield address
        finally:
            server.terminate()
            server.communicate(timeout=30)  # empties the pipe, which a full log would block


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set as `synthesize` publishes it."""
    return publish(tmp_path_factory.mktemp("factory"))


@pytest.fixture
def project(published: Path, tmp_path: Path) -> Path:
    """A folder in which DVC can add a copy of it."""
    shutil.copytree(published, tmp_path / "project" / OUTPUT)
    return tmp_path / "project"


def test_a_folder_gives_back_what_was_pushed_and_damage_in_it_is_noticed(project: Path) -> None:
    """A version that is on no machine any more could not be restored; or a bit that flipped would stand in it under its name."""
    use_remote(project, url=project.parent / "store")

    assert push_wipe_pull(project) == (True, True)
    flip_a_bit(project, None)
    check_damage_is_noticed(project)


@needs_s3
def test_s3_gives_back_what_was_pushed_and_damage_in_it_is_noticed(project: Path, s3: str) -> None:
    """A team that shares its versions by S3 would lose them, or train on damaged ones."""
    use_remote(project, url="s3://samples/versions", endpointurl=s3)

    assert push_wipe_pull(project) == (True, True)
    objects = client(s3).list_objects_v2(Bucket="samples")["Contents"]
    sizes = {path.stat().st_size for path in (project / OUTPUT).rglob("*.parquet")}
    assert sizes <= {found["Size"] for found in objects}
    flip_a_bit(project, s3)
    check_damage_is_noticed(project)


def test_the_nights_worktree_has_every_remote_that_dvc_knows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A version would be tagged whose data are on this machine alone; or they be pushed to a folder with quotes in its name."""
    own, ours, worktree = (tmp_path / name for name in ("home", "project", "worktree"))
    for folder in (own, ours / ".dvc", worktree):
        folder.mkdir(parents=True)
    (own / "config").write_text("[core]\n    remote = far\n['remote \"far\"']\n    url = s3://samples/versions\n")
    (ours / ".dvc/config").write_text('[core]\n    no_scm = true\n[\'remote "near"\']\n    url = "../store, old"\n')
    monkeypatch.setenv("DVC_GLOBAL_CONFIG_DIR", str(own))

    assert {*share_cache(ours, worktree)} == {"near", "far"}
    told = dvc(worktree, "config", "--list").stdout.splitlines()  # its helper knows no global configuration
    assert {f"remote.near.url={ours}/store, old", "remote.far.url=s3://samples/versions", "core.remote=far"} <= {*told}
    assert f"cache.dir={ours}/.dvc/cache" in told


def check_damage_is_noticed(project: Path) -> None:
    """The pull to a fresh clone fails, and leaves nothing of what is damaged."""
    wipe(project)
    pulled = dvc(project, "pull", check=False)

    assert pulled.returncode != 0
    assert not (project / OUTPUT / "crack-00000.parquet").exists()


def use_remote(project: Path, **settings: object) -> None:
    """Make `project` a DVC project with one remote, as docs/data.md says: what comes from it is checked."""
    (project / ".dvc").mkdir()
    lines = [f"    {name} = {value}" for name, value in {**settings, "verify": "true"}.items()]
    text = "[core]\n    no_scm = true\n    remote = store\n['remote \"store\"']\n"
    (project / ".dvc" / "config").write_text(text + "\n".join(lines) + "\n")


def push_wipe_pull(project: Path) -> tuple[bool, bool]:
    """Whether all was gone between push and pull, and whether the same came back."""
    before = folder_digest(project / OUTPUT)
    dvc(project, "add", "-q", OUTPUT)
    dvc(project, "push", "-q")
    wipe(project)
    is_gone = not (project / OUTPUT).exists() and not (project / ".dvc" / "cache").exists()
    dvc(project, "pull", "-q")
    return is_gone, folder_digest(project / OUTPUT) == before and not verify(project / OUTPUT)


def wipe(project: Path) -> None:
    """A fresh clone: the pointer alone is there."""
    shutil.rmtree(project / OUTPUT)
    shutil.rmtree(project / ".dvc" / "cache")
    shutil.rmtree(project / ".dvc" / "tmp")


def flip_a_bit(project: Path, address: str | None) -> None:
    """In the largest object of the store."""
    if address is None:
        path = max((project.parent / "store").rglob("*"), key=lambda path: path.stat().st_size if path.is_file() else 0)
        path.chmod(0o644)
        path.write_bytes(flipped(path.read_bytes(), 4 * path.stat().st_size))
        return
    bucket = client(address)
    key = max(bucket.list_objects_v2(Bucket="samples")["Contents"], key=lambda found: found["Size"])["Key"]
    content = bucket.get_object(Bucket="samples", Key=key)["Body"].read()
    bucket.put_object(Bucket="samples", Key=key, Body=flipped(content, 4 * len(content)))


def client(address: str) -> Any:
    """An S3 client of the server there, which goes through no proxy."""
    import boto3
    from botocore.config import Config

    names = {name.lower(): value for name, value in ACCOUNT.items() if name != "AWS_DEFAULT_REGION"}
    return boto3.client("s3", endpoint_url=address, region_name=ACCOUNT["AWS_DEFAULT_REGION"], config=Config(proxies={}), **names)


def dvc(project: Path, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """A command of DVC there, without the way to any server but loopback's."""
    kept = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy") and not name.startswith("AWS_")}
    environment = kept | ACCOUNT | {"DVC_SITE_CACHE_DIR": str(project.parent / "site"), "DVC_GLOBAL_CONFIG_DIR": str(project.parent)}
    done = subprocess.run(
        [sys.executable, "-m", "dvc", *arguments], cwd=project, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0 or not check, done.stderr
    return done
