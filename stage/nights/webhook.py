"""Tells a webhook that a night failed, was refused, interrupted or killed: JSON by POST to the address in `.nightly/webhook`."""

import json
from http.client import HTTPException
from urllib.error import URLError
from urllib.request import Request, urlopen

from stage.nights.record import Record
from stage.nights.settings import Places

BAD_OUTCOMES = ("refused", "failed", "interrupted", "killed")
TIMEOUT_S = 10.0


def notify(places: Places, record: Record) -> list[str]:
    """Post the outcome of a night that somebody must look at; returns why that did not work. The address is never shown."""
    if record.outcome not in BAD_OUTCOMES:
        return []
    body = record.model_dump(mode="json", include={"id", "host", "outcome", "message", "began", "ended"}) | {"project": places.root.name}
    # Chat programs show `text`.
    content = json.dumps(body | {"text": f"{places.root.name}: night {record.id} {record.outcome}: {record.message}"}).encode()
    try:
        address = places.webhook.read_text(encoding="utf-8").strip()
        if not address.startswith(("http://", "https://")):
            return [f"Nobody was told: expected an address that begins with http in {places.webhook}, found another text."]
        with urlopen(Request(address, content, {"Content-Type": "application/json"}), timeout=TIMEOUT_S):
            return []
    except FileNotFoundError:
        return []
    except (URLError, HTTPException, OSError, ValueError) as error:
        return [f"Nobody was told: the address in {places.webhook} gave {type(error).__name__}."]
