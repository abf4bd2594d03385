"""Damage to a file's bytes, and the check that reading it gives a model or a FileError."""

import random

from jaxconv.files.errors import FileError
from jaxconv.files.loading import read_model


def mutate(content, rng):
    """Spoil a file: bytes changed, wiped, cut off, put in or exchanged; mostly near its beginning."""
    data = bytearray(content)

    def place():
        return rng.randrange(min(len(data), rng.choice([200, 4096, 65536, len(data)])))

    kind = rng.choice(["bytes", "bytes", "bits", "wipe", "cut", "insert", "exchange"])
    if kind == "bytes":
        for _ in range(rng.choice([1, 3, 30])):
            data[place()] = rng.randrange(256)
    elif kind == "bits":
        for _ in range(20):
            data[rng.randrange(min(2048, len(data)))] ^= 1 << rng.randrange(8)
    elif kind == "wipe":
        start, size = place(), rng.randrange(1, 2000)
        data[start : start + size] = bytes(len(data[start : start + size]))
    elif kind == "cut":
        del data[rng.randrange(len(data)) :]
    elif kind == "insert":
        start = place()
        data[start:start] = rng.randbytes(rng.randrange(1, 50))
    else:
        a, b, size = place(), place(), rng.randrange(1, 64)
        data[a : a + size], data[b : b + size] = data[b : b + size], data[a : a + size]
    return bytes(data)


def survives(path, content, seed, **options):
    """Load a spoilt file: it gives a model or a FileError."""
    path.write_bytes(mutate(content, random.Random(seed)))
    try:
        read_model(path, **options)
    except FileError as error:
        str(error).encode()
