"""Damage to bytes, as the property tests and the fuzzer do it."""

import random

# Heads of CBOR that change what follows: null, booleans, containers, long lengths, links, breaks.
_TELLING_BYTES = bytes.fromhex("000117181a1b203b4058605b7b80819f9ba0a1bfbbc2d8f4f5f6f7f9fafbff")
# Lengths of pieces: a byte, a small field, a CID, about a node.
_LENGTHS = (1, 1, 1, 2, 4, 36, 300)


def damage(raw: bytes, rng: random.Random, times: int) -> bytes:
    """Changes, removes, inserts or repeats something, so many times.

    Args:
        raw: what to damage.
        rng: what it draws from; the same state does the same damage.
        times: number of damages.
    """
    damaged = bytearray(raw)
    for _ in range(times):
        start = rng.randrange(len(damaged) + 1)
        end = min(len(damaged), start + rng.choice(_LENGTHS))
        match rng.randrange(6):
            case 0 | 1 if start < len(damaged):
                damaged[start] ^= 1 << rng.randrange(8)
            case 2 if start < len(damaged):
                damaged[start] = rng.choice(_TELLING_BYTES)
            case 3:
                del damaged[start:end]
            case 4:
                damaged[start:start] = rng.randbytes(rng.randrange(1, 5))
            case _:
                damaged[start:start] = damaged[start:end]
    return bytes(damaged)
