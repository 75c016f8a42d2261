"""Texts without secrets, for everything that is shown, kept or sent to others: messages, logs, records, states of runs, events."""

import re

from stage.core.wording import printable

NAMES = r"[\w-]*(?:token|passw(?:or)?d|secret|key|signature|credential)[\w-]*|sig"  # `sig` is Azure's, the others of S3, git and the like
SECRETS = re.compile(
    r"(?<=://)[^/\s]+(?=@)"  # in an address
    rf"|(\b(?:{NAMES})=)(?:\"[^\"]*\"|'[^']*'|[^\s&\"']+)"  # in the query of a signed address, or in a setting
    rf"|([\"'](?:{NAMES})[\"']\s*:\s*)(?:\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*')"  # in JSON, or a dictionary of Python
    r"|(\bauthorization: *)[^\r\n\"']+",  # in a header of HTTP
    re.IGNORECASE,
)


def without_secrets(text: str) -> str:
    """A text without the user names and passwords in addresses, and without the values of tokens, signatures and the like."""
    return SECRETS.sub(lambda found: "".join([*filter(None, found.groups()), '"..."' if found[2] else "..."]), text)


def for_terminal(text: str) -> str:
    """A text of several lines without secrets, and without control characters that came from the data."""
    return "\n".join(map(printable, without_secrets(text).split("\n")))
