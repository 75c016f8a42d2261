"""Seeds from identities: who something is decides its random numbers; never where, when or in which order it is made."""

import hashlib


def derived_seed(*identity: str | int) -> int:
    """63 bits from the parts of an identity, the root seed first."""
    text = "|".join(map(str, identity))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest()) >> 1
