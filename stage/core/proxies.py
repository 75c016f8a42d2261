"""Proxies: none between a flow and the server on its own machine, the user's own on the way to a hub.

Python's clients read the variables when they are made. Some refuse a proxy that they cannot use (SOCKS without its package, a
mistyped address) even for an address that needs none, so a list of exceptions would not do.
"""

import json
import os
from collections.abc import Generator, Mapping
from contextlib import contextmanager

SET_ASIDE = "STAGE_PROXIES"  # environment variable: the user's own variables as JSON, while they are set aside


def drop_proxies() -> None:
    """Use no proxy from now on, in this process and in those that it starts: threads of Prefect's outlive the flow."""
    if SET_ASIDE not in os.environ:  # otherwise a process above has done it
        given = _given()
        # `*` and not only nothing: without any variable, macOS answers with the proxies of its own settings.
        _set({**dict.fromkeys(given), "no_proxy": "*", SET_ASIDE: json.dumps(given)})


@contextmanager
def users_proxies() -> Generator[None]:
    """Use the proxies that `drop_proxies` has taken away, here or in a process above, while the block runs."""
    aside = _given()
    if SET_ASIDE in os.environ:
        _set({**dict.fromkeys(aside), **json.loads(os.environ[SET_ASIDE])})
    try:
        yield
    finally:
        if SET_ASIDE in os.environ:
            _set({**dict.fromkeys(_given()), **aside})


def _given() -> dict[str, str]:
    """The variables that Python's clients take for a proxy, or for exceptions from proxies."""
    return {name: value for name, value in os.environ.items() if name.lower().endswith("_proxy")}


def _set(values: Mapping[str, str | None]) -> None:
    """Change environment variables; None removes one."""
    for name, value in values.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
