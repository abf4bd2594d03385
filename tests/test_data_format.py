"""The default of ``data_format``: set, or read from Keras's file at first use, never written."""

import json
import os

import pytest

import jaxconv as jc
from jaxconv import data_format as formats


@pytest.fixture(autouse=True)
def home(monkeypatch, tmp_path):
    """Return an empty Keras home directory; reset the default that was read."""
    monkeypatch.setattr(formats, "_default", None)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    return tmp_path


def test_channels_last_without_a_file_and_none_is_written(home):
    assert jc.image_data_format() == "channels_last"
    assert list(home.iterdir()) == []


@pytest.mark.parametrize("data_format", formats.FORMATS)
def test_the_file_decides(home, data_format):
    text = json.dumps({"image_data_format": data_format, "floatx": "float16", "backend": "tensorflow"})
    (home / "keras.json").write_text(text)
    assert jc.image_data_format() == data_format == jc.Conv2D(1, 1).data_format
    assert (home / "keras.json").read_text() == text


def test_the_file_is_read_once(home):
    assert jc.image_data_format() == "channels_last"
    (home / "keras.json").write_text('{"image_data_format": "channels_first"}')
    assert jc.image_data_format() == "channels_last"


def test_the_home_directory_is_the_second_place(home, monkeypatch):
    monkeypatch.delenv("KERAS_HOME")
    monkeypatch.setenv("HOME", str(home))
    (home / ".keras").mkdir()
    (home / ".keras" / "keras.json").write_text('{"image_data_format": "channels_first"}')
    assert jc.image_data_format() == "channels_first"


@pytest.mark.parametrize("text", ["{}", '{"floatx": "float32"}'])
def test_a_file_without_the_key_is_channels_last(home, text):
    (home / "keras.json").write_text(text)
    assert jc.image_data_format() == "channels_last"


@pytest.mark.parametrize(
    "content, message",
    [
        (b"{", r"keras\.json .*JSON object"),
        (b"[]", r"keras\.json .*JSON object"),
        (b"\xff\xfe", r"keras\.json .*utf-8"),
        (b'{"image_data_format": "NHWC"}', r"keras\.json: .*image_data_format 'NHWC'; expected channels_first"),
        (b"[" * 100_000, r"keras\.json .*JSON object"),
        (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, r"keras\.json .*JSON object"),
        (b'{"image_data_format": ' + b"[" * 900 + b"]" * 900 + b"}", r"keras\.json: .*image_data_format .*list"),
        (b'{"image_data_format": "' + b"x" * 10**6 + b'"}', r"keras\.json: .*image_data_format .*channels_first"),
        (b'{"image_data_format": {}}', r"keras\.json: .*image_data_format .*dict"),
        (b'{"image_data_format": null}', r"keras\.json: .*image_data_format .*None"),
        (b'{"image_data_format": "Channels_First"}', "image_data_format 'Channels_First'.* 'channels_first'"),
    ],
)
def test_an_invalid_file_is_an_error_with_its_path(home, content, message):
    (home / "keras.json").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        jc.image_data_format()
    assert jc.Conv2D(1, 1, data_format="channels_last").data_format == "channels_last"  # does not use the default


def test_an_error_about_the_file_is_short(home):
    (home / "keras.json").write_text(json.dumps({"image_data_format": "x" * 10**6}))
    with pytest.raises(ValueError) as error:
        jc.image_data_format()
    assert len(str(error.value)) < 500


def test_a_file_that_cannot_be_opened_is_an_error_with_its_path(home):
    (home / "keras.json").mkdir()
    with pytest.raises(ValueError, match=r"keras\.json .*directory"):
        jc.image_data_format()


def test_a_pipe_does_not_block(home):
    os.mkfifo(home / "keras.json")
    with pytest.raises(ValueError, match=r"keras\.json .*file"):
        jc.image_data_format()


def test_channels_last_without_a_home_directory(monkeypatch):
    monkeypatch.delenv("KERAS_HOME")
    monkeypatch.delenv("HOME")
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # as for a user without an entry in passwd
    assert jc.image_data_format() == "channels_last"


def test_a_new_default_applies_to_later_layers_only():
    before = jc.Conv2D(1, 1)
    jc.set_image_data_format("Channels_First")
    after = jc.Conv2D(1, 1)
    assert (before.data_format, after.data_format) == ("channels_last", "channels_first")
    assert after.get_config()["data_format"] == "channels_first"
    assert jc.Conv2D.from_config(before.get_config()) == before
    assert jc.Conv1D(1, 1).data_format == "channels_first"  # as in Keras 3, unlike TF 2


@pytest.mark.parametrize("value", [None, "NHWC", 1])
def test_only_the_two_formats_can_be_set(value):
    with pytest.raises(ValueError, match=r"set_image_data_format: .*channels_last"):
        jc.set_image_data_format(value)
    assert jc.image_data_format() == "channels_last"
