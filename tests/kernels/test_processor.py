"""The description of the processor."""

import pytest

from jaxconv.kernels import processor

AVX512 = "model name\t: EPYC\nflags\t\t: fpu avx512f avx512_bf16\n\nmodel name\t: of the second core\n"


@pytest.mark.parametrize(
    ("text", "model", "units"),
    [
        (AVX512, "EPYC", False),
        (AVX512.replace("avx512_bf16", "amx_bf16 amx_tile"), "EPYC", True),
        ("processor\t: 0\nFeatures\t: fp asimd bf16\n", None, True),  # ARM
        (None, None, True),  # no such file
    ],
)
def test_model_and_matrix_units(text, model, units, tmp_path, monkeypatch):
    path = tmp_path / "cpuinfo"
    if text is not None:
        path.write_text(text)
    monkeypatch.setattr(processor, "CPUINFO", path)
    processor.may_have_matrix_units.cache_clear()
    try:
        assert processor.may_have_matrix_units() is units
        assert processor.model() == model or (model is None and processor.model())
    finally:
        processor.may_have_matrix_units.cache_clear()
