"""Seeded mutations of bytes and of command lines: the same seed gives the same inputs."""

from collections.abc import Callable, Sequence
from random import Random

# Of every format: what has broken a parser before.
TOKENS = (
    b"\0", b"\n", b"\r", b"\r\n", b"\t", b'"', b"'", b",", b";", b":", b"#", b"&a ", b"*a", b"<<: *a", b"[",
    b"]", b"{", b"}", b"- ", b"? ", b"|\n ", b"!!python/object:os.system ", b"${HOME}", b"${X:-", b"---\n",
    b"\xff", b"\xfe\xff", b"\xef\xbb\xbf", b"\xe2\x80\xae", b"\xed\xa0\x80", b"\xc0\x80", "é".encode(),
    "２".encode(), b"=1+1", b"@SUM(A1)", b"NaN", b"inf", b"-inf", b"1e400", b"-0", b"1e-400", b"1_000", b"0x10",
    b"9" * 400, b"9999-12-31", b"0001-01-01", b"2024-02-30", b"TRUE", b"NULL", b"NA", b"null", b"true",
    b"../../etc/passwd", b"<html>", b"PAR1", b"PK\x03\x04", b"\x1f\x8b", b"\x80\x05", b"\x7fELF", b"password: x\n",
    b"{\"a\":" * 50, b"[" * 200,
)  # fmt: skip
MOST_BYTES = 1 << 20


def _flip(data: bytearray, rng: Random) -> None:
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def _replace(data: bytearray, rng: Random) -> None:
    data[rng.randrange(len(data))] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))


def _insert(data: bytearray, rng: Random) -> None:
    place = rng.randrange(len(data) + 1)
    data[place:place] = rng.choice(TOKENS)


def _overwrite(data: bytearray, rng: Random) -> None:
    token, place = rng.choice(TOKENS), rng.randrange(len(data))
    data[place : place + len(token)] = token


def _span(data: bytearray, rng: Random) -> slice:
    start = rng.randrange(len(data))
    return slice(start, start + 1 + int(rng.expovariate(1 / 24)))


def _delete(data: bytearray, rng: Random) -> None:
    del data[_span(data, rng)]


def _duplicate(data: bytearray, rng: Random) -> None:
    span = _span(data, rng)
    data[span.stop : span.stop] = bytes(data[span]) * rng.choice((1, 1, 2, 50, 2000))


def _move(data: bytearray, rng: Random) -> None:
    span = _span(data, rng)
    cut = bytes(data[span])
    del data[span]
    place = rng.randrange(len(data) + 1)
    data[place:place] = cut


def _truncate(data: bytearray, rng: Random) -> None:
    del data[rng.randrange(len(data)) :]


def _digit(data: bytearray, rng: Random) -> None:
    digits = [i for i, byte in enumerate(data[:4096]) if 48 <= byte < 58]
    if digits:
        data[rng.choice(digits)] = 48 + rng.randrange(10)


_OPERATIONS: Sequence[Callable[[bytearray, Random], None]] = (
    _flip, _flip, _replace, _insert, _insert, _overwrite, _delete, _duplicate, _move, _truncate, _digit,
)  # fmt: skip


def mutated(seeds: Sequence[bytes], rng: Random) -> bytes:
    """One of the seeds after one to six mutations; one in twenty is spliced from two of them."""
    data = bytearray(rng.choice(seeds))
    if rng.random() < 0.05:
        other = rng.choice(seeds)
        data = data[: rng.randrange(len(data) + 1)] + bytearray(other[rng.randrange(len(other) + 1) :])
    for _ in range(rng.choice((1, 1, 1, 2, 3, 6))):
        if data:
            rng.choice(_OPERATIONS)(data, rng)
    return bytes(data[:MOST_BYTES])


def mutated_arguments(commands: Sequence[Sequence[str]], rng: Random) -> list[str]:
    """One of the command lines with words left out, repeated, exchanged, spoilt or put in."""
    words = list(rng.choice(commands))
    for _ in range(rng.choice((1, 1, 2, 3))):
        place = rng.randrange(len(words) + 1)
        match rng.randrange(5):
            case 0:
                words[place:place] = [rng.choice(TOKENS).decode("utf-8", "surrogateescape")]
            case 1 if words:
                del words[rng.randrange(len(words))]
            case 2 if words:
                words[place:place] = [rng.choice(words)]
            case 3 if words:
                spoilt = rng.randrange(len(words))
                words[spoilt] = mutated(
                    [words[spoilt].encode("utf-8", "surrogateescape") or b"-"], rng
                ).decode("utf-8", "surrogateescape")
            case _:
                words[place:place] = [
                    rng.choice(("--json", "--help", "-s", "--", "-", "", "--strategy=", "--nope"))
                ]
    return words
