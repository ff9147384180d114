"""Jitter without a die: what spreads looks and pauses, the same each time a run is repeated."""

from __future__ import annotations

import hashlib

# 2 to the power of this is beyond every bound here; larger exponents would only overflow.
STEEPEST = 30


def jitter(*parts: object) -> float:
    """A number from 0 up to 1 that is the same for the same parts."""
    text = "\x1f".join(map(str, parts)).encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest()) / 2**64
