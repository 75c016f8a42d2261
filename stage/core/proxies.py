"""Proxies and certificates: none between a flow and the server on its own machine, the user's own on the way to a hub.

Python's clients read the variables when they are made, some even when they are imported. They refuse a proxy that they cannot use
(SOCKS without its package, a mistyped address) and a file of certificates that is gone, even for an address that needs neither, so
a list of exceptions would not suffice.
"""

import json
import os
import re
from collections.abc import Generator, Mapping
from contextlib import contextmanager

PROXIES, CERTIFICATES = "STAGE_PROXIES", "STAGE_CERTIFICATES"  # environment variables: the user's own as JSON, while they are set aside
NAMES = {PROXIES: r"(?i:.*_proxy)", CERTIFICATES: "SSL_CERT_FILE|SSL_CERT_DIR|SSLKEYLOGFILE"}  # which are set aside, or replaced


def drop_proxies() -> None:
    """Use no proxy from now on, in this process and in those that it starts: Prefect's threads outlive the flow."""
    # `*` rather than nothing: without any variable, macOS answers with the proxies of its own settings.
    _drop(PROXIES, {"no_proxy": "*"})


def drop_certificates() -> None:
    """Use none of the user's files of certificates from now on, in this process and in those that it starts."""
    _drop(CERTIFICATES, {})


def users_certificates() -> str | None:
    """The file of certificates that `SSL_CERT_FILE` named before `drop_certificates`; None if there was none."""
    return json.loads(os.environ.get(CERTIFICATES, "{}")).get("SSL_CERT_FILE")


@contextmanager
def users_proxies() -> Generator[None]:
    """Use the proxies and certificates that were dropped, here or in a process above, while the block runs."""
    dropped = [kind for kind in NAMES if kind in os.environ]
    aside = {name: value for kind in dropped for name, value in _given(kind).items()}
    _set({**dict.fromkeys(aside), **{name: value for kind in dropped for name, value in json.loads(os.environ[kind]).items()}})
    try:
        yield
    finally:
        _set({**{name: None for kind in dropped for name in _given(kind)}, **aside})


def _drop(kind: str, instead: Mapping[str, str]) -> None:
    given = _given(kind)
    if kind in os.environ:  # a process above has done it; what was set since then is set aside, too
        given = json.loads(os.environ[kind]) | {name: value for name, value in given.items() if instead.get(name) != value}
    _set({**dict.fromkeys(_given(kind)), **instead, kind: json.dumps(given)})


def _given(kind: str) -> dict[str, str]:
    """The variables of a kind that Python's clients read."""
    return {name: value for name, value in os.environ.items() if re.fullmatch(NAMES[kind], name)}


def _set(values: Mapping[str, str | None]) -> None:
    """Change environment variables; None removes one."""
    for name, value in values.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
