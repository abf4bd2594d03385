"""Keras's own test cases, from the installed wheel and untouched, run against jaxconv."""

import pytest

pytest.importorskip("keras")

from keras_suite import collect
from keras_suite.left_out import LEFT_OUT

CONVOLUTIONS = {case: cls for name in collect.CONVOLUTIONS for case, cls in collect.cases(name)}
OTHERS = {case: cls for name in collect.OTHERS for case, cls in collect.cases(name)}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("case", CONVOLUTIONS)
def test_convolution_case_of_keras(case):
    collect.run(case, CONVOLUTIONS[case])


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("case", OTHERS)
def test_other_case_of_keras(case):
    collect.run(case, OTHERS[case])
