"""Seeds that are derived from a study's seed."""

import hashlib


def derive_seed(*parts: int | str) -> int:
    """Return a 32-bit seed that depends on every part and on nothing else."""
    text = ":".join(str(part) for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")
