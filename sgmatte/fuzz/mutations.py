"""Damage to files: of single bytes and numbers, of stretches, and of the pieces that a format is made of."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping, Sequence

from sgmatte.fuzz.structures import Pieces, taken_apart

Files = Mapping[str, bytes]
"""One input: contents by file name, one file for most readers."""

LARGEST = 1 << 20  # bytes of an input; larger ones cost time without showing more
NUMBERS = (
    0,
    1,
    2,
    3,
    127,
    128,
    255,
    256,
    32767,
    32768,
    65535,
    65536,
    99_999_999,
    (1 << 31) - 1,
    1 << 31,
    (1 << 32) - 1,
)
WIDE = (1 << 40, (1 << 53) + 1, (1 << 63) - 1, 1 << 63, (1 << 64) - 1)
WORDS = (
    "0", "-1", "1e999", "NaN", "Infinity", "null", "true", "[]", "{}", '""', "9" * 400, "18446744073709551616",
    "../../x", "/etc/passwd", "C:\\x", "a\\u0000b", "\x1b[2J", "[" * 3000, '{"a":' * 3000, "<!DOCTYPE a>", "&a;",
    "%n{}", "é\ud7ff", "F8_E4M3", "BOOL", "F64",
)  # fmt: skip


def mutated(files: Files, others: Sequence[Files], rng: random.Random) -> dict[str, bytes]:
    """`files` after one to five kinds of damage, most of them to one file; `others` are material for splices."""
    result = dict(files)
    name = rng.choice(sorted(result))
    for _ in range(rng.choice((1, 1, 1, 2, 3, 5))):
        if rng.random() < 0.1:
            name = rng.choice(sorted(result))
        donor = rng.choice([other[each] for other in others for each in sorted(other)])
        result[name] = _damaged(result[name], donor, rng)[:LARGEST]
    return result


def _damaged(data: bytes, donor: bytes, rng: random.Random, depth: int = 0) -> bytes:
    if depth < 2 and rng.random() < 0.5:
        pieces = taken_apart(data)
        if pieces and pieces.parts:
            return _with_damaged_pieces(pieces, donor, rng, depth)
    if _is_text(data) and rng.random() < 0.6:
        return rng.choice(TEXT_DAMAGE)(data.decode("utf-8", "replace"), rng).encode("utf-8", "replace")
    if not data:
        return donor[: rng.randrange(len(donor) + 1)]
    if rng.random() < 0.1:
        return _splice(data, donor, rng)
    return rng.choice(DAMAGE)(data, rng)


def _with_damaged_pieces(pieces: Pieces, donor: bytes, rng: random.Random, depth: int) -> bytes:
    """One piece damaged, doubled, left out or moved, the rest put together with sums and lengths that are right."""
    parts = list(pieces.parts)
    place = rng.randrange(len(parts))
    match rng.randrange(8):
        case 0:
            del parts[place]
        case 1:
            parts[place:place] = [parts[place]] * (rng.choice((1, 2, 100)) if len(parts[place][1]) < 10_000 else 1)
        case 2:
            other = rng.randrange(len(parts))
            parts[place], parts[other] = parts[other], parts[place]
        case 3:
            foreign = taken_apart(donor)
            if foreign and foreign.parts:
                parts.insert(place, rng.choice(foreign.parts))
        case _:
            kind, content = parts[place]
            parts[place] = kind, _damaged(content, donor, rng, depth + 1)
    try:
        return pieces.put_together(parts)
    except (ValueError, OverflowError):  # a piece has become larger than its format can say
        return pieces.put_together(pieces.parts)[: rng.randrange(1, 200)]


# --- bytes


def _place(data: bytes, rng: random.Random) -> int:
    """Where to strike: headers and ends are short and matter most."""
    span = rng.choice((64, 512, len(data), len(data)))
    place = rng.randrange(min(span, len(data)))
    return place if rng.random() < 0.8 else len(data) - 1 - place


def _flipped(data: bytes, rng: random.Random) -> bytes:
    result = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 8, 64))):
        result[_place(data, rng)] ^= 1 << rng.randrange(8)
    return bytes(result)


def _overwritten(data: bytes, rng: random.Random) -> bytes:
    """A number of one to eight bytes with a telling value."""
    size = rng.choice((1, 2, 2, 4, 4, 4, 8))
    near = (len(data), len(data) - 1, len(data) + 1, len(data) // 2)
    value = rng.choice(NUMBERS + near + (WIDE if size == 8 else ())) & ((1 << 8 * size) - 1)
    place = _place(data, rng)
    return (data[:place] + value.to_bytes(size, rng.choice(("little", "big"))) + data[place + size :])[: len(data)]


def _truncated(data: bytes, rng: random.Random) -> bytes:
    return data[: _place(data, rng)]


def _without(data: bytes, rng: random.Random) -> bytes:
    start = _place(data, rng)
    return data[:start] + data[start + rng.choice((1, 2, 4, 16, 256)) :]


def _repeated(data: bytes, rng: random.Random) -> bytes:
    start = _place(data, rng)
    part = data[start : start + rng.choice((1, 4, 16, 64, 1024))]
    return data[:start] + part * rng.choice((2, 3, 10, 300)) + data[start:]


def _inserted(data: bytes, rng: random.Random) -> bytes:
    start = _place(data, rng)
    size = rng.choice((1, 2, 4, 16, 256))
    return data[:start] + rng.choice((bytes(size), b"\xff" * size, rng.randbytes(size))) + data[start:]


def _extended(data: bytes, rng: random.Random) -> bytes:
    return data + rng.choice((bytes(1), bytes(100_000), data, rng.randbytes(64)))


def _noise(data: bytes, rng: random.Random) -> bytes:
    start = _place(data, rng)
    size = rng.choice((4, 16, 64))
    return data[:start] + rng.randbytes(size) + data[start + size :]


def _splice(data: bytes, donor: bytes, rng: random.Random) -> bytes:
    cut = _place(data, rng)
    return data[:cut] + (donor[_place(donor, rng) :] if donor else b"")


DAMAGE: tuple[Callable[[bytes, random.Random], bytes], ...] = (
    _flipped, _flipped, _overwritten, _overwritten, _overwritten, _truncated, _without, _repeated, _inserted, _extended,
    _noise,
)  # fmt: skip


# --- text


def _is_text(data: bytes) -> bool:
    try:
        return (
            bool(data)
            and b"\0" not in data[:256]
            and data[:4096].decode("utf-8").isprintable() | (b"\n" in data[:4096])
        )
    except UnicodeDecodeError:
        return False


def _other_number(text: str, rng: random.Random) -> str:
    found = list(re.finditer(r"-?\d+(\.\d+)?", text))
    return _replaced(text, rng.choice(found), rng.choice((*WORDS, *map(str, NUMBERS))), rng) if found else text


def _other_word(text: str, rng: random.Random) -> str:
    found = list(re.finditer(r'"[^"\n]*"|\w+', text))
    return _replaced(text, rng.choice(found), rng.choice(WORDS), rng) if found else text


def _replaced(text: str, at: re.Match[str], word: str, rng: random.Random) -> str:
    quoted = f'"{word}"' if at[0][:1] == '"' and rng.random() < 0.7 else word
    return text[: at.start()] + quoted + text[at.end() :]


def _other_lines(text: str, rng: random.Random) -> str:
    lines = text.splitlines(keepends=True) or [""]
    place = rng.randrange(len(lines))
    match rng.randrange(3):
        case 0:
            lines.insert(rng.randrange(len(lines)), lines[place])
        case 1:
            del lines[place]
        case _:
            lines[place] = lines[place] * (rng.choice((2, 500)) if len(lines[place]) < 2000 else 2)
    return "".join(lines)


def _other_sign(text: str, rng: random.Random) -> str:
    signs = list(re.finditer(r"[^\w\s]", text))
    if not signs:
        return text
    at = rng.choice(signs)
    return text[: at.start()] + rng.choice(("", *'{}[]<>"&=,:\n/\\')) + text[at.end() :]


TEXT_DAMAGE: tuple[Callable[[str, random.Random], str], ...] = (
    _other_number, _other_number, _other_word, _other_word, _other_lines, _other_sign,
)  # fmt: skip
