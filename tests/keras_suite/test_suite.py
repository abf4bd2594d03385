"""Keras's own test cases, unchanged from the installed wheel, run on jaxconv instead of Keras.

left_out.py lists the cases that do not run, with reasons; all others pass, except those that Keras skips.
figures.py counts them.
"""

import pytest

pytest.importorskip("keras", reason="runs Keras's own tests")

from tests.keras_suite import collect
from tests.keras_suite.figures import CONVOLUTIONS, OTHERS, RECURRENT, Figures, figures
from tests.keras_suite.left_out import DIFFERS, LEFT_OUT, SKIPPED, reason

pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),  # by Keras's Variable
    pytest.mark.filterwarnings("ignore:overflow encountered in exp:RuntimeWarning"),  # by Keras's numpy reference
]


def items(cases):
    """Return the cases that run as pytest parameters."""
    marks = {case: reason(case, DIFFERS) for case in cases if not reason(case, LEFT_OUT)}
    return [
        pytest.param(case, marks=[pytest.mark.xfail(strict=True, reason=why)] if why else [], id=case)
        for case, why in marks.items()
    ]


@pytest.mark.few(100)
@pytest.mark.parametrize("case", items(CONVOLUTIONS))
def test_convolution_case_of_keras(case):
    collect.run(case, CONVOLUTIONS[case])


@pytest.mark.slow
@pytest.mark.parametrize("case", items(OTHERS))
def test_other_case_of_keras(case):
    collect.run(case, OTHERS[case])


@pytest.mark.slow
@pytest.mark.parametrize("case", items(RECURRENT))
def test_recurrent_case_of_keras(case):
    collect.run(case, RECURRENT[case])


def test_33_recurrent_cases_pass_and_those_of_states_between_calls_are_left_out():
    # 5 of states between calls, 5 of the choice of a cuDNN kernel
    assert figures(RECURRENT) == Figures(cases=43, left_out=10, differ=0, skipped=0)


def test_at_least_358_convolution_cases_pass():
    # Keras 3.15.1 skips output_padding >= strides (2 x 80) and strides with dilation (4)
    assert figures(CONVOLUTIONS) == Figures(cases=537, left_out=11, differ=0, skipped=164)
    assert figures(CONVOLUTIONS).passed == 362 >= 358


def test_95_of_100_other_cases_pass_and_fewer_than_5_are_left_out():
    found = figures(OTHERS)
    assert found.cases == 652  # of Keras 3.15.1
    assert found.passed >= 0.95 * found.cases  # the cases that Keras skips do not count as passed
    assert found.left_out < 0.05 * found.cases


def test_each_entry_of_the_lists_names_a_case():
    cases = [*CONVOLUTIONS, *OTHERS, *RECURRENT]
    unknown = [key for key in [*LEFT_OUT, *DIFFERS, *SKIPPED] if not any(case.startswith(key) for case in cases)]
    assert not unknown
