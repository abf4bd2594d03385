"""Functions that write hostile files, which cost much memory or time or stop a reader, and return the path."""

import functools
import io
import json
import os
import struct
import zipfile
import zlib

import h5py
import numpy as np

from tests.support.keras_files import (
    DENSE,
    functional,
    layer,
    sequential,
    write_dense,
    write_hdf5,
    write_keras,
)

GIGABYTES_3 = 3 * 2**30
TABLES = {"layers/dense/vars/0": np.ones((3, 2), np.float32), "layers/dense/vars/1": np.ones(2, np.float32)}
BIAS = "model_weights/dense_1/dense_1/bias:0"


@functools.cache
def deflated_zeros(size, raw=False):
    """Return a deflate stream of so many zeros (a multiple of 1 MB), made of equal blocks without compressing them."""
    compress = zlib.compressobj(9, wbits=-15)
    block = compress.compress(bytes(2**20)) + compress.flush(zlib.Z_FULL_FLUSH)
    body = block * (size // 2**20) + zlib.compressobj(9, wbits=-15).flush()
    return body if raw else b"\x78\x9c" + body + struct.pack(">I", (size % 65521) << 16 | 1)


def crc_of_zeros(size):
    crc, megabyte = 0, bytes(2**20)
    for _ in range(size // 2**20):
        crc = zlib.crc32(megabyte, crc)
    return crc


def zip_with_bomb(path, name, more=(), size=GIGABYTES_3):
    """Write a zip whose last entry unpacks to so many zeros."""
    with zipfile.ZipFile(path, "w") as archive:
        for other, content in more:
            archive.writestr(other, content)
        info = zipfile.ZipInfo(name)
        info.compress_type, body = zipfile.ZIP_DEFLATED, deflated_zeros(size, raw=True)
        info.file_size, info.compress_size, info.CRC = size, len(body), crc_of_zeros(size)
        info.header_offset = archive.start_dir
        archive.fp.seek(archive.start_dir)
        archive.fp.write(info.FileHeader(zip64=False) + body)
        archive.start_dir = archive.fp.tell()
        archive.filelist.append(info)
        archive.NameToInfo[name] = info
        archive._didModify = True
    return path


# -- unpacking


def shared_text(folder):
    """A list of 4,000 names, all of them one text of 1 MB."""

    def change(file):
        del file["model_weights"].attrs["layer_names"]
        names = file["model_weights"].attrs
        names.create("layer_names", ["x" * 2**20, *(str(n) for n in range(4000))], dtype=h5py.string_dtype())

    path = write_dense(folder / "m.h5", change)
    content = bytearray(path.read_bytes())
    place = next(at for at in range(len(content)) if content[at : at + 4] == struct.pack("<I", 2**20)
                 and content[at + 16 : at + 20] == struct.pack("<I", 1))  # fmt: skip
    for number in range(1, 4001):
        content[place + 16 * number : place + 16 * number + 16] = content[place : place + 16]
    path.write_bytes(content)
    return path


def chunk(folder, **options):
    """A small dataset with a chunk that unpacks to 3 GB."""

    def change(file):
        del file[BIAS]
        table = file.create_dataset(BIAS, (2,), "f4", chunks=(2,), compression="gzip", **options)
        table.id.write_direct_chunk((0,), deflated_zeros(GIGABYTES_3))

    return write_dense(folder / "m.h5", change)


def chunk_packed_twice(folder):
    """A small dataset with a chunk that is deflated twice."""

    def change(file):
        del file[BIAS]
        plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plan.set_chunk((2,))
        plan.set_deflate(9)
        plan.set_deflate(9)
        space = h5py.h5s.create_simple((2,))
        table = h5py.h5d.create(file.id, BIAS.encode(), h5py.h5t.IEEE_F32LE, space, plan)
        table.write_direct_chunk((0,), zlib.compress(deflated_zeros(GIGABYTES_3)))

    return write_dense(folder / "m.h5", change)


def chunk_wider_than_its_table(folder):
    """A small dataset whose only chunk is declared to have 3 GB."""

    def change(file):
        del file[BIAS]
        table = file.create_dataset(BIAS, (2,), "f4", chunks=(GIGABYTES_3 // 4,), maxshape=(None,), compression="gzip")
        table.id.write_direct_chunk((0,), deflated_zeros(GIGABYTES_3))

    return write_dense(folder / "m.h5", change)


def chunks_wider_than_their_table(folder):
    """A dataset of 2,000 numbers, each in a chunk of 16 MB."""

    def change(file):
        name, options = "model_weights/d/kernel:0", {"maxshape": (None, None), "compression": "gzip"}
        del file[name]
        table = file.create_dataset(name, (2000, 1), "f4", chunks=(1, 2**22), **options)
        for row in range(2000):
            table.id.write_direct_chunk((row, 0), deflated_zeros(2**24))

    config = sequential(layer("Dense", "d", units=1, use_bias=False, batch_input_shape=[None, 2000]))
    return write_hdf5(folder / "m.h5", config, {"d": [("kernel:0", np.ones(1))]}, "2.9.0", change=change)


def chunk_too_short(folder):
    """A dataset with a chunk of fewer bytes than declared: libhdf5 reads on behind its end."""

    def change(file):
        del file[BIAS]
        table = file.create_dataset(BIAS, (2,), "f4", chunks=(2,), fletcher32=True)
        table.id.write_direct_chunk((0,), b"abcd", filter_mask=1)

    return write_dense(folder / "m.h5", change)


def text_longer_than_its_object(folder):
    """A name that is declared to have 2 GB, in a heap of a few bytes."""

    def change(file):
        names = file["model_weights"].attrs
        del names["layer_names"]
        names.create("layer_names", ["dense_1"], dtype=h5py.string_dtype())

    path = write_dense(folder / "m.h5", change)
    content = path.read_bytes()
    reference = struct.pack("<IQ", len("dense_1"), content.index(b"GCOL"))
    assert content.count(reference) == 1
    path.write_bytes(content.replace(reference, struct.pack("<I", 2**31) + reference[4:]))
    return path


def chunk_in_archive(folder):
    content = chunk(folder).read_bytes()
    return write_keras(folder / "m.keras", DENSE, TABLES, more={"model.weights.h5": content})


def weights_in_archive(folder):
    more = [("metadata.json", "{}"), ("config.json", json.dumps(DENSE))]
    return zip_with_bomb(folder / "m.keras", "model.weights.h5", more)


def config_in_archive(folder):
    return zip_with_bomb(folder / "m.keras", "config.json", [("model.weights.h5", b"")])


def nested_lists(folder):
    """A config of 32 MB of empty lists in a few kilobytes."""
    config = "[" + "[]," * (2**25 // 3 - 10) + "[]]"
    return write_keras(folder / "m.keras", DENSE, TABLES, method=zipfile.ZIP_DEFLATED, more={"config.json": config})


def nested_lists_in_metadata(folder):
    text = '{"jaxconv": [' + "{}," * (2**25 // 3 - 10) + "{}]}"
    return write_keras(folder / "m.keras", DENSE, TABLES, method=zipfile.ZIP_DEFLATED, more={"metadata.json": text})


def sparse(folder):
    """A file of 40 GB, nearly all of them holes."""
    path = write_dense(folder / "m.h5")
    os.truncate(path, 40 * 2**30)
    return path


def many_entries(folder):
    """A zip with a directory of a million entries."""
    path = write_keras(folder / "m.keras", DENSE, TABLES)
    content = path.read_bytes()
    end = content.rindex(b"PK\x05\x06")
    start = content.index(b"PK\x01\x02")
    entry = struct.pack("<4s4B4HL2L5H2L", b"PK\x01\x02", *[20, 3, 20, 0], *[0] * 4, 0, 0, 0, 1, *[0] * 4, 0, 0) + b"a"
    directory = content[start:end] + entry * 1_000_000
    tail = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 65535, 65535, len(directory), start, 0)
    path.write_bytes(content[:start] + directory + tail)
    return path


# -- time


def _chain(folder, layers, weights, version="2.9.0"):
    return write_hdf5(folder / "m.h5", sequential(*layers), weights, version)


def add_of_20000(folder):
    source = layer("InputLayer", "i", [], batch_input_shape=[None, 3])
    add = layer("Add", "a", [[["i", 0, 0, {}]] * 20_000])
    config = functional([source, add], [["i", 0, 0]], [["a", 0, 0]])
    return write_hdf5(folder / "m.h5", config, {}, "2.9.0")


def many_normalizations(folder):
    layers = [layer("Normalization", f"n{n}", batch_input_shape=[None, 3]) for n in range(1500)]
    parts = ("mean", "variance", "count")
    weights = {f"n{n}": [(f"n{n}/{part}:0", np.ones(3, np.float32)) for part in parts] for n in range(1500)}
    return _chain(folder, layers, weights)


def many_normalizations_numbered(folder):
    layers = [layer("Normalization", f"n{n}", batch_input_shape=[None, 3]) for n in range(1500)]
    names = ["normalization", *(f"normalization_{n}" for n in range(1, 1500))]
    tables = {f"layers/{name}/vars/{index}": np.ones(3, np.float32) for name in names for index in range(3)}
    return write_keras(folder / "m.keras", sequential(*layers), tables)


def too_many_layers(folder):
    layers = [layer("BatchNormalization", f"b{n}", batch_input_shape=[None, 1]) for n in range(4900)]
    return write_keras(folder / "m.keras", sequential(*layers), {}, "2.13.1")


def many_layers_in_the_old_layout(folder):
    layers = [layer("Dense", f"d{n}", units=1, batch_input_shape=[None, 1]) for n in range(1500)]
    names = ["dense", *(f"dense_{2 * n}" for n in range(1, 1500))]
    shapes = [(1, 1), (1,)]
    tables = {
        f"_layer_checkpoint_dependencies/{name}/vars/{index}": np.ones(shape, np.float32)
        for name in names
        for index, shape in enumerate(shapes)
    }
    return write_keras(folder / "m.keras", sequential(*layers), tables, "2.13.1")


def many_groups(folder):
    """A group of more tables than a file may have."""

    def change(file):
        group = file.create_group("model_weights/x").id
        for number in range(20_001):
            h5py.h5d.create(group, b"%05d" % number, h5py.h5t.IEEE_F32LE, h5py.h5s.create(h5py.h5s.SCALAR))

    return write_dense(folder / "m.h5", change)


def many_groups_of_groups(folder):
    def change(file):
        for number in range(7_000):
            file.create_group(f"g{number}/h/i")

    return write_dense(folder / "m.h5", change)


def many_weight_names(folder):
    """A layer that names one table 200,000 times."""

    def change(file):
        attributes = file["model_weights/dense_1"].attrs
        del attributes["weight_names"]
        for number in range(50):
            attributes[f"weight_names{number}"] = [b"dense_1/bias:0"] * 4000

    return write_dense(folder / "m.h5", change)


def names_in_many_pieces(folder):
    def change(file):
        attributes = file["model_weights"].attrs
        del attributes["layer_names"]
        for number in range(2_000):
            attributes[f"layer_names{number}"] = [b"dense_1"]

    return write_dense(folder / "m.h5", change)


def deep_name(folder):
    """A safetensors file whose only array is 400,000 dicts deep."""
    return _safetensors(folder, ["a/" * 400_000 + "a"])


def many_arrays(folder):
    return _safetensors(folder, range(100_000))


def _safetensors(folder, names):
    header = {str(name): {"dtype": "U8", "shape": [0], "data_offsets": [0, 0]} for name in names}
    text = json.dumps(header).encode()
    path = folder / "w.safetensors"
    path.write_bytes(struct.pack("<Q", len(text)) + text)
    return path


# -- other formats


def exported_header(folder):
    return zip_with_bomb(folder / "m.jaxexport", "header.json")


def exported_array(folder):
    spec = {"program": {"shape": [GIGABYTES_3], "dtype": "uint8"}}
    header = {"format": "jaxconv exported model", "version": 1, "arrays": spec}
    return zip_with_bomb(folder / "m.jaxexport", "program.npy", [("header.json", json.dumps(header))])


def exported_claim(folder):
    """An array of a few bytes whose two headers claim a petabyte."""
    entry = io.BytesIO()
    np.lib.format.write_array_header_1_0(entry, {"descr": "|u1", "fortran_order": False, "shape": (2**50,)})
    spec = {"program": {"shape": [2**50], "dtype": "uint8"}}
    header = {"format": "jaxconv exported model", "version": 1, "arrays": spec}
    with zipfile.ZipFile(folder / "m.jaxexport", "w") as archive:
        archive.writestr("header.json", json.dumps(header))
        archive.writestr("program.npy", entry.getvalue())
    return folder / "m.jaxexport"


def header_of_nested_lists(folder):
    """A file like a safetensors file whose header is 16 MB of empty lists."""
    header = b'{"a": [' + b"[]," * (2**24 // 3) + b"[]]}"
    (folder / "w.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
    return folder / "w.safetensors"


# -- values of another kind


def registered_name(value):
    def write(folder):
        config = sequential({**layer("Dense", "d", units=2, batch_input_shape=[None, 3]), "registered_name": value})
        return write_keras(folder / "m.keras", config, TABLES)

    return write


def metadata(**values):
    def write(folder):
        text = json.dumps({"keras_version": "3.15.1", **values})
        return write_keras(folder / "m.keras", DENSE, TABLES, more={"metadata.json": text})

    return write


def fifo(folder, name="m.keras"):
    os.mkfifo(folder / name)
    return folder / name


def sparse_text(folder, name):
    """A file of 40 GB that is nothing but a hole."""
    (folder / name).touch()
    os.truncate(folder / name, 40 * 2**30)
    return folder / name
