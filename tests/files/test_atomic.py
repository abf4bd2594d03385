"""Files are replaced atomically: killed writers, concurrent writers, and file systems that cannot be written."""

import errno
import os
import subprocess
import sys
import threading

import pytest

from jaxconv.files.atomic import replacing
from jaxconv.files.errors import FileError

KILLED = """
import os, sys
from jaxconv.files.atomic import replacing
with replacing(sys.argv[1]) as handle:
    handle.write(b"half")
    handle.flush()
    os._exit(1)
"""


def write(path, content):
    with replacing(path) as handle:
        handle.write(content)


def leave_a_temporary_file(path):
    subprocess.run([sys.executable, "-c", KILLED, str(path)], check=False)
    (left,) = (one for one in path.parent.iterdir() if one.name.endswith(".tmp"))
    return left


def test_temporary_files_of_killed_processes_are_removed(tmp_path):
    path = tmp_path / "m.keras"
    left = leave_a_temporary_file(path)
    assert left.read_bytes() == b"half" and not path.exists()
    pid = left.name.split(".")[3].split("-")[0]
    running = tmp_path / left.name.replace(f".{pid}-", f".{os.getppid()}-")
    running.write_bytes(b"of a process that runs")
    write(path, b"whole")
    assert set(tmp_path.iterdir()) == {path, running}


def test_files_of_the_user_and_of_other_machines_stay(tmp_path):
    names = [".m.keras.backup.tmp", ".m.keras.1.tmp", ".m.keras.99999999-00000000-00000000.tmp", "m.keras.tmp"]
    for name in names:
        (tmp_path / name).write_bytes(b"")
    write(tmp_path / "m.keras", b"x")
    assert {one.name for one in tmp_path.iterdir()} == {"m.keras", *names}


def test_a_temporary_file_that_cannot_be_removed_does_not_prevent_saving(tmp_path):
    path = tmp_path / "m.keras"
    left = leave_a_temporary_file(path)
    left.unlink()
    left.mkdir()  # like a file of another user: unlink fails
    write(path, b"x")
    assert set(tmp_path.iterdir()) == {path, left}


def test_threads_that_save_to_one_path_never_show_a_part(tmp_path):
    path, size, torn, stop = tmp_path / "m", 2**16, [], threading.Event()
    write(path, bytes(size))

    def save(value):
        while not stop.is_set():
            write(path, bytes([value]) * size)

    def read():
        while not stop.is_set():
            content = path.read_bytes()
            if len(content) != size or len(set(content)) != 1:
                torn.append(len(content))

    threads = [threading.Thread(target=save, args=(value,)) for value in (1, 2)] + [threading.Thread(target=read)]
    for thread in threads:
        thread.start()
    stop.wait(1)
    stop.set()
    for thread in threads:
        thread.join()
    assert not torn and list(tmp_path.iterdir()) == [path]


def test_a_read_only_file_system_is_reported_for_the_file_itself(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise OSError(errno.EROFS, "Read-only file system", "temporary")

    monkeypatch.setattr("builtins.open", refuse)
    monkeypatch.setattr(os, "unlink", refuse)
    with pytest.raises(FileError) as caught:
        write(tmp_path / "m.keras", b"")
    assert str(caught.value) == f"{tmp_path / 'm.keras'} cannot be written: Read-only file system"
