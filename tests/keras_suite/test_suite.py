"""Keras's own test cases, from the installed wheel and untouched, run against jaxconv in the place of Keras.

Each case that is not run stands in left_out.py with its reason; all others pass, but for those that Keras itself skips.
"""

import pytest

pytest.importorskip("keras", reason="runs Keras's own tests")

from keras_suite import collect
from keras_suite.left_out import DIFFERS, LEFT_OUT, reason

pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),  # of Keras's Variable
    pytest.mark.filterwarnings("ignore:overflow encountered in exp:RuntimeWarning"),  # of Keras's reference in numpy
]

SKIPPED_BY_KERAS = 164  # convolution cases: output_padding not below strides, strides with dilation

CONVOLUTIONS = {case: cls for name in collect.CONVOLUTIONS for case, cls in collect.cases(name)}
OTHERS = {case: cls for name in collect.OTHERS for case, cls in collect.cases(name)}


def items(cases):
    """Give the cases that are run as pytest's parameters."""
    marks = {case: reason(case, DIFFERS) for case in cases if not reason(case, LEFT_OUT)}
    return [
        pytest.param(case, marks=[pytest.mark.xfail(strict=True, reason=why)] if why else [], id=case)
        for case, why in marks.items()
    ]


@pytest.mark.parametrize("case", items(CONVOLUTIONS))
def test_convolution_case_of_keras(case):
    collect.run(case, CONVOLUTIONS[case])


@pytest.mark.slow
@pytest.mark.parametrize("case", items(OTHERS))
def test_other_case_of_keras(case):
    collect.run(case, OTHERS[case])


def test_at_least_358_convolution_cases_pass():
    run = [case for case in CONVOLUTIONS if not reason(case, LEFT_OUT) and not reason(case, DIFFERS)]
    assert len(run) - SKIPPED_BY_KERAS >= 358  # each of these passes, or its own item above fails


def test_95_of_100_other_cases_pass():
    run = [case for case in OTHERS if not reason(case, LEFT_OUT)]
    assert sum(not reason(case, DIFFERS) for case in run) >= 0.95 * len(run)


def test_each_entry_of_the_lists_names_a_case():
    cases = [*CONVOLUTIONS, *OTHERS]
    unknown = [key for key in [*LEFT_OUT, *DIFFERS] if not any(case.startswith(key) for case in cases)]
    assert not unknown


def test_no_case_is_found_twice_and_none_is_missing():
    assert (len(CONVOLUTIONS), len(OTHERS)) == (537, 652)  # of Keras 3.15.1
