"""Damage to a file's content: to its bytes, JSON, HDF5 objects, zip entries, declared sizes and compression.

Each function takes the content and a ``random.Random``, and returns the damaged content.
"""

import contextlib
import copy
import io
import json
import re
import struct
import warnings
import zipfile
import zlib

import h5py
import numpy as np

ODD = [None, -1, 0, 2**70, 1e308, "", "a/b", [], {}, [[[]]], True, [None] * 9, {"class_name": "Dense"}, "\udcff"]
SIZES = [0, 1, 2**16 - 1, 2**20, 2**31 - 1, 2**32 - 1, 2**40, 2**62, 2**63, 2**64 - 1]


def spoil_bytes(content, rng):
    """Change, wipe, cut off, put in or exchange bytes, mostly near the beginning."""
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


def spoil_sizes(content, rng):
    """Overwrite numbers of two, four or eight bytes that may be sizes or offsets in the file."""
    data = bytearray(content)
    for _ in range(rng.choice([1, 1, 2, 5])):
        width = rng.choice([2, 4, 8])
        start = rng.choice([0, 2 * rng.randrange(len(data) // 2 + 1), max(0, len(data) - 4096)])
        end = start + 4096
        words = [(at, int.from_bytes(data[at : at + width], "little")) for at in range(start, min(end, len(data)), 2)]
        words = [(at, value) for at, value in words if 0 < value <= len(data)]
        if words:
            at, value = rng.choice(words)
            other = rng.choice([*SIZES, value - 1, value + 1, 2 * value, len(data), at])
            data[at : at + width] = (other % 2 ** (8 * width)).to_bytes(width, "little")
    return bytes(data)


def spoil_numbers(content, rng):
    """Overwrite a number in a text: of JSON, TOML or a header of NumPy's."""
    found = list(re.finditer(rb"\d+", content[:8192]))
    if not found:
        return content
    start, end = rng.choice(found).span()
    number = rng.choice([*SIZES, -1, 10**29, "9" * 5000, "nan", "1e999", "[" * 300, '"'])
    return content[:start] + str(number).encode() + content[end:]


def spoil_json(content, rng):
    """Change the structure of a JSON text: values and keys are replaced, moved, repeated or removed."""
    value = json.loads(content)
    for _ in range(rng.randrange(1, 4)):
        above, key, here = None, None, value
        while isinstance(here, dict | list) and here and (above is None or rng.random() < 0.8):
            key = rng.choice(sorted(here)) if isinstance(here, dict) else rng.randrange(len(here))
            above, here = here, here[key]
        if above is None:
            break
        kind = rng.choice(["odd", "odd", "odd", "remove", "repeat", "nest", "move", "rename"])
        if kind == "remove":
            del above[key]
        elif kind == "repeat" and isinstance(above, list):
            above[key:key] = [copy.deepcopy(here)] * rng.choice([1, 50, 2000])
        elif kind == "nest":
            for _ in range(rng.choice([1, 30, 200])):
                here = {"class_name": "Sequential", "config": {"layers": [here]}} if rng.random() < 0.3 else [here]
            above[key] = here
        elif kind == "move":
            other = rng.choice([value, *(value.values() if isinstance(value, dict) else value)])
            above[key] = copy.deepcopy(other)
        elif kind == "rename" and isinstance(above, dict):
            above[rng.choice([key.upper(), "a/b", "\x1b[2J", "x" * 300, ""])] = above.pop(key)
        else:
            above[key] = copy.deepcopy(rng.choice(ODD))
    return json.dumps(value).encode()


def spoil_hdf5(content, rng):
    """Change the objects of an HDF5 file: links, attributes, types, shapes and chunks."""
    buffer = io.BytesIO(content)
    with h5py.File(buffer, "r+") as file:
        names: list[str] = []
        file.visit(names.append)
        groups = ["/", *(name for name in names if isinstance(file[name], h5py.Group))]
        # read before the damage, because libhdf5 may crash on it
        tables = {name: file[name][()] for name in names if isinstance(file[name], h5py.Dataset)}
        attributes = [(name, one) for name in groups for one in file[name].attrs]
        for _ in range(rng.randrange(1, 4)):
            with contextlib.suppress(
                KeyError, ValueError, TypeError, OSError, RuntimeError
            ):  # damaged by the step before
                kind = rng.choice([_spoil_links, _spoil_table, _spoil_chunks] + [_spoil_attribute] * bool(attributes))
                kind(file, rng, groups, tables, attributes)
    return buffer.getvalue()


def _spoil_links(file, rng, groups, tables, attributes):
    name, other = rng.choice([*groups, *tables]), rng.choice(groups)
    kind = rng.choice(["remove", "move", "hard", "soft", "external", "group", "many", "deep"])
    if kind == "remove" and name != "/":
        del file[name]
    elif kind == "move" and name != "/":
        file.move(name, f"{other}/moved")
    elif kind == "hard":
        file[f"{other}/again"] = file[name]
    elif kind == "soft":
        file[f"{other}/soft"] = h5py.SoftLink(name)
    elif kind == "external":
        file[f"{other}/out"] = h5py.ExternalLink("/etc/hostname", "/")
    elif kind == "group":
        file[other].create_group(rng.choice([b"\xff\xfe", b"..", b"a:b", b"\x1b[2J", b"x" * 1000]))
    elif kind == "many":
        for number in range(300):
            file[other].create_group(f"more{number}")
    else:
        file[other].create_group("/".join("g" * rng.choice([10, 70, 300])))


def _spoil_attribute(file, rng, groups, tables, attributes):
    group, name = rng.choice(attributes)
    place = file[group].attrs
    old = place[name]
    text = old.decode(errors="replace") if isinstance(old, bytes) else old
    odd = [3, [1.5, 2], b"", "", b"\xff", "x" * 3000, h5py.Empty("f4"), np.void(b"abc"), file.ref, True, ["a"] * 300]
    if isinstance(text, str) and text.startswith("{") and rng.random() < 0.6:
        value = spoil_json(text, rng)
    elif isinstance(old, np.ndarray) and old.size and rng.random() < 0.7:
        value = rng.choice([old[:-1], np.repeat(old, 2), old[::-1], old.reshape(1, 1, -1), old[:0], old[0]])
    else:
        value = rng.choice(odd)
    del place[name]
    if rng.random() < 0.8:
        place[rng.choice([name, name, name, f"{name}0"])] = value


def _spoil_table(file, rng, groups, tables, attributes):
    name, old = rng.choice(list(tables.items()))
    shape = old.shape
    del file[name]
    kind = rng.choice(["shape", "type", "values", "huge", "odd", "text", "empty", "external"])
    if kind == "shape":
        file[name] = rng.choice([old[None], np.ravel(old), np.transpose(old), old[:0] if shape else old, np.zeros(7)])
    elif kind == "type":
        numbers = old if old.dtype.kind in "fiu" else np.zeros(shape)
        file[name] = numbers.astype(rng.choice(["f2", "f8", ">f4", "i1", "u8", "?", "c8", "S3", "f4,i4"]))
    elif kind == "values":
        file[name] = np.full(shape, rng.choice([np.nan, np.inf, 1e300, -0.0]))
    elif kind == "huge":
        large = tuple(rng.choice([2**10, 2**20, 2**40]) for _ in range(rng.choice([1, 2, 4])))
        file.create_dataset(name, large, "f4", chunks=(1,) * len(large))
    elif kind == "odd":
        file.create_dataset(name, data=rng.choice([file.ref, "text", np.void(b"a" * 9), np.zeros((2, 0, 3))]))
    elif kind == "text":
        file.create_dataset(name, shape, h5py.string_dtype())
    elif kind == "empty":
        file[name] = h5py.Empty("f4")
    else:
        file.create_dataset(name, (4,), "f4", external=[("/etc/hostname", 0, 16)])


def _spoil_chunks(file, rng, groups, tables, attributes):
    """Write a table anew with filters, and with a chunk that has another size than it declares."""
    name, old = rng.choice(list(tables.items()))
    old = np.atleast_1d(old)
    del file[name]
    pack = {"compression": rng.choice(["gzip", "lzf", None]), "shuffle": rng.random() < 0.3}
    pack |= {"fletcher32": rng.random() < 0.3, "chunks": tuple(max(1, n - rng.randrange(2)) for n in old.shape)}
    table = file.create_dataset(name, data=old, **pack)
    if rng.random() < 0.7:
        size = rng.choice([0, 1, old.nbytes - 1, old.nbytes + 1, 10 * old.nbytes, 2**20, 2**26])
        packed = rng.choice([zlib.compress(bytes(size)), rng.randbytes(200), bytes(min(size, 2**16))])
        table.id.write_direct_chunk((0,) * old.ndim, packed, filter_mask=rng.choice([0, 0, 0, 1, 255]))


def spoil_safetensors(content, rng):
    """Change the header of a safetensors file, and keep its declared length right."""
    size = int.from_bytes(content[:8], "little")
    header = rng.choice([spoil_json, spoil_numbers])(content[8 : 8 + size], rng)
    return struct.pack("<Q", len(header)) + header + content[8 + size :]


def spoil_npy(content, rng):
    """Change the text of an ``.npy`` file's header, and keep its declared length right."""
    size = int.from_bytes(content[8:10], "little")
    header = content[10 : 10 + size]
    if rng.random() < 0.5:
        header = spoil_numbers(header, rng)
    else:
        old = rng.choice([b"descr", b"'<f4'", b"False", b"shape", b"(", b",", b"{"])
        new = rng.choice([b"", b"'|O'", b"[" * 300, b"None", b"'<q9'", b"(1,) * 99", b"'f4,f4'", b"os", b"\xff", b"'"])
        header = header.replace(old, new, 1)
    return content[:8] + struct.pack("<H", len(header) % 2**16) + header + content[10 + size :]


def spoil_zip(content, rng):
    """Change the entries of a zip file: their content, names, order, compression, flags and declared sizes."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        entries = [(name, archive.read(name)) for name in archive.namelist()]
    place, method = rng.randrange(len(entries)), zipfile.ZIP_STORED
    name, inner = entries[place]
    kind = rng.choice(["inside"] * 6 + ["remove", "repeat", "rename", "swap", "compress", "fields", "fields", "grow"])
    if kind == "inside":
        ways = {"json": [spoil_json, spoil_json, spoil_numbers], "h5": [spoil_hdf5, spoil_hdf5, spoil_sizes]}
        ways |= {"npy": [spoil_npy, spoil_sizes]}
        entries[place] = name, rng.choice([*ways.get(name.rpartition(".")[2], []), spoil_bytes])(inner, rng)
    elif kind == "remove":
        del entries[place]
    elif kind == "repeat":
        entries.append((name, rng.choice([inner, b"", rng.choice(entries)[1]])))
    elif kind == "rename":
        entries[place] = rng.choice(["../x", "/x", "", name.upper(), f"{name}/", "a\\..\\b", "\x1b[2J"]), inner
    elif kind == "swap":
        other = rng.randrange(len(entries))
        entries[place], entries[other] = (name, entries[other][1]), (entries[other][0], inner)
    elif kind == "compress":
        method = rng.choice([zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
    elif kind == "grow":
        method = zipfile.ZIP_DEFLATED
        entries[place] = name, inner + rng.choice([b" ", b"\0", b"["]) * rng.choice([2**10, 2**24, 2**27])
    buffer = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(buffer, "w") as archive:
        warnings.simplefilter("ignore")  # of names that occur twice
        for name, inner in entries:
            archive.writestr(zipfile.ZipInfo(name), inner, method, compresslevel=1)
    return spoil_zip_fields(buffer.getvalue(), rng) if kind == "fields" else buffer.getvalue()


def spoil_zip_fields(content, rng):
    """Set a field of one header of an entry, or of both: flags, method, checksum or sizes."""
    offset = rng.choice([6, 8, 14, 18, 22, 26, 28])  # in the local header; two more in the directory
    value = rng.choice([0, 1, 9, 77, 2**16 - 1]).to_bytes(2, "little")
    data, which = bytearray(content), rng.choice([(0, 2), (0,), (2,)])
    for signature, shift in ((b"PK\x03\x04", 0), (b"PK\x01\x02", 2)):
        place = data.find(signature) if shift in which else -1
        while place >= 0:
            if rng.random() < 0.7:
                data[place + offset + shift : place + offset + shift + 2] = value
            place = data.find(signature, place + 4)
    return bytes(data)


def spoil_toml(content, rng):
    """Change the lines of a TOML file: values and keys are replaced, lines repeated, moved or removed."""
    lines = content.decode().splitlines()
    for _ in range(rng.randrange(1, 3)):
        place = rng.randrange(len(lines))
        key, equals, _ = lines[place].partition("=")
        kind = rng.choice(["value", "value", "value", "key", "remove", "repeat", "move"])
        if kind == "value" and equals:
            odd = ["-1", "0", str(10**29), "1e308", "nan", '""', "[]", "{}", "true", '"../x"', '"relu"', "[[1]]", "3.5"]
            odd += [
                "[" * 300,
                "'''",
                '"\x1b"',
                '{name = "sgd", x = 1}',
                "9" * 5000,
                "1979-05-27",
                str(2**31),
                "1000000",
            ]
            lines[place] = f"{key}= {rng.choice(odd)}"
        elif kind == "key" and equals:
            lines[place] = rng.choice(["a.b.c", '""', "layer", "\x00", "name", "x" * 500, "=", "[model]"]) + " = 1"
        elif kind == "repeat":
            lines[place:place] = [lines[place]] * rng.choice([1, 500])
        elif kind == "move":
            lines.insert(rng.randrange(len(lines)), lines.pop(place))
        else:
            del lines[place]
        lines = lines or [""]
    return "\n".join(lines).encode()
