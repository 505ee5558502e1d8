"""MD5 that stops and goes on at a block's end (RFC 1321), for CRAM-MD5 secrets.

CRAM-MD5 is checked with two intermediate states of HMAC-MD5 in place of the password (RFC 2195 section 2); hashlib
cannot give them out. A block takes some 30 microseconds here, which is no matter for a challenge of one or two.
"""

from __future__ import annotations

import math
import struct

_BLOCK_OCTETS = 64
_MASK = 0xFFFFFFFF
_INITIAL = (0x67452301, 0xEFCDAB89, 0x98BADCFE, 0x10325476)
_SINES = tuple(int(abs(math.sin(step + 1)) * 2**32) & _MASK for step in range(64))
_SHIFTS = tuple(
    row[step % 4] for row in ((7, 12, 17, 22), (5, 9, 14, 20), (4, 11, 16, 23), (6, 10, 15, 21)) for step in range(16)
)
_State = tuple[int, int, int, int]


def first_block(block: bytes) -> bytes:
    """Return the state, 16 octets, after a first block of 64 octets."""
    return struct.pack("<4I", *_compress(_INITIAL, block))


def resume(state: bytes, octets: bytes) -> bytes:
    """Return the digest of one block, known by its state, followed by `octets`."""
    padding = b"\x80" + bytes((55 - len(octets)) % _BLOCK_OCTETS)
    data = octets + padding + struct.pack("<Q", (_BLOCK_OCTETS + len(octets)) * 8)
    a, b, c, d = struct.unpack("<4I", state)
    current: _State = (a, b, c, d)
    for start in range(0, len(data), _BLOCK_OCTETS):
        current = _compress(current, data[start : start + _BLOCK_OCTETS])
    return struct.pack("<4I", *current)


def _compress(state: _State, block: bytes) -> _State:
    words = struct.unpack("<16I", block)
    a, b, c, d = state
    for step in range(64):
        if step < 16:
            mixed, word = (b & c) | (~b & d), step
        elif step < 32:
            mixed, word = (d & b) | (~d & c), (5 * step + 1) % 16
        elif step < 48:
            mixed, word = b ^ c ^ d, (3 * step + 5) % 16
        else:
            mixed, word = c ^ (b | (~d & _MASK)), (7 * step) % 16
        total = (a + mixed + _SINES[step] + words[word]) & _MASK
        shift = _SHIFTS[step]
        a, d, c, b = d, c, b, (b + ((total << shift) | (total >> (32 - shift)))) & _MASK
    return (state[0] + a) & _MASK, (state[1] + b) & _MASK, (state[2] + c) & _MASK, (state[3] + d) & _MASK
