"""The user's proxies and certificates: out of the way to this machine, in the way to the hub."""

import os
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from unittest.mock import patch
from urllib.request import getproxies, proxy_bypass

import pytest

from stage.core.errors import ConfigError
from stage.core.proxies import CERTIFICATES, PROXIES, drop_certificates, drop_proxies, users_certificates, users_proxies
from stage.segmentation.pretrained import fetch_weights

GIVEN = {
    "http_proxy": "http://proxy:1",
    "HTTPS_PROXY": "http://proxy:2",
    "NO_PROXY": "example.com",
    "SSL_CERT_FILE": "/no/such.pem",
    "SSLKEYLOGFILE": "/no/such/log",
}


@pytest.fixture(autouse=True)
def given() -> Iterator[None]:
    """An environment with these proxies and no others, which is dropped afterwards."""
    with patch.dict(os.environ):
        for name in [PROXIES, CERTIFICATES, *settings()]:
            os.environ.pop(name, None)
        os.environ.update(GIVEN)
        yield


def settings() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name.lower().endswith("_proxy") or name.startswith("SSL")}


def test_no_proxy_is_used_and_the_users_own_come_back() -> None:
    """A flow would not find its server behind a proxy, or the hub would not be found without one."""
    drop_proxies()
    assert proxy_bypass("127.0.0.1")
    assert {*getproxies()} == {"no"}

    with users_proxies():
        assert settings() == GIVEN
    assert {*getproxies()} == {"no"}


def test_a_checkpoint_comes_through_the_users_proxy(tmp_path: Path) -> None:
    """A flow behind a company's proxy could not fetch the weights of its segmenter."""

    class Proxy(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(self.path)))
            self.end_headers()
            self.wfile.write(self.path.encode())

    with HTTPServer(("127.0.0.1", 0), Proxy) as server:
        threading.Thread(target=server.handle_request, daemon=True).start()
        os.environ |= {"http_proxy": f"http://127.0.0.1:{server.server_port}", "TORCH_HOME": str(tmp_path)}
        drop_proxies()
        fetched = fetch_weights("http://weights.invalid/w.pth")
    assert fetched.read_text() == "http://weights.invalid/w.pth"


def test_no_certificates_are_used_and_the_users_own_come_back() -> None:
    """A file of certificates that was moved would end every flow, or the hub of a company would not be trusted."""
    drop_certificates()
    ssl.create_default_context()  # raises where a variable names a file that is gone
    assert users_certificates() == GIVEN["SSL_CERT_FILE"]

    drop_proxies()
    with users_proxies():
        assert settings() == GIVEN
    assert settings() == {"no_proxy": "*"}


def test_a_process_below_a_flow_finds_the_users_own() -> None:
    """A worker, or a flow below the nightly one, could not fetch the base, because what it inherits has no proxies."""
    ask = "import os; from stage.core.proxies import *\ndrop_proxies()\nwith users_proxies(): print(os.environ['http_proxy'])"
    drop_proxies()
    said = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=True).stdout

    assert said.strip() == GIVEN["http_proxy"]


def test_what_is_set_below_a_flow_is_set_aside_too() -> None:
    """A flow in a shell that another flow has opened would take the shell's proxy to its own server."""
    for proxy in ("http://proxy:1", "http://proxy:3"):
        os.environ["http_proxy"] = proxy
        drop_proxies()
        drop_certificates()

    with users_proxies():
        assert settings() == {**GIVEN, "http_proxy": "http://proxy:3"}
    assert settings() == {"no_proxy": "*"}


def test_without_a_flow_nothing_is_changed() -> None:
    """`stage plan` would lose the proxies of its shell."""
    with users_proxies():
        assert settings() == GIVEN
    assert settings() == GIVEN


@pytest.mark.parametrize("proxy", ["socks5://127.0.0.1:9", "nonsense://x", "http://["])
def test_a_proxy_that_the_hubs_client_cannot_use_is_one_message(proxy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A traceback of an HTTP library would greet who works behind a SOCKS proxy, or the hub would be asked past the proxy."""
    from huggingface_hub import close_session, constants

    from stage.model.base_source import locate

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("ALL_PROXY", proxy)
    close_session()
    drop_proxies()
    with pytest.raises(ConfigError, match=r"Expected base.source to be a folder .* can be fetched, found 'no/such'"):
        locate("no/such")
