"""Ranges of the sampling settings, also for callers of the library."""

import math
import re

import numpy as np
import pytest

from neox_code.errors import ConfigError
from neox_code.generation.request import SamplingSettings

WRONG = {
    "temperature (-0.1) must be at least 0": {"temperature": -0.1},
    "temperature (nan) must be": {"temperature": math.nan},
    "temperature (inf) must be": {"temperature": math.inf},
    "temperature ('1') must be": {"temperature": "1"},
    "temperature (True) must be": {"temperature": True},
    "top_k (2.5) must be a whole number at least 0": {"top_k": 2.5},
    "top_k (-1) must be": {"top_k": -1},
    "top_p (1.1) must be at least 0 and at most 1": {"top_p": 1.1},
    "min_p (-0.5) must be": {"min_p": -0.5},
    "repetition_penalty (0) must be above 0": {"repetition_penalty": 0},
    "frequency_penalty (3) must be at least -2 and at most 2": {"frequency_penalty": 3},
    "presence_penalty (-2.5) must be": {"presence_penalty": -2.5},
    "logit_bias of token 7 (101) must be at least -100 and at most 100": {"logit_bias": {7: 101}},
    "logit_bias of token 7 (inf) must be": {"logit_bias": {7: math.inf}},
    "logit_bias has the token id -1": {"logit_bias": {-1: 1}},
    "logit_bias has the token id '7'": {"logit_bias": {"7": 1}},
    "top_p (2) must be at least 0 and at most 1.\nmin_p (2) must be": {"top_p": 2, "min_p": 2},
}


@pytest.mark.parametrize("message", WRONG)
def test_a_sampling_setting_out_of_its_range_is_refused(message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        SamplingSettings(**WRONG[message])


def test_values_at_the_ends_of_the_ranges_and_numpy_numbers_are_accepted():
    SamplingSettings(0, 0, 0, 0, 5e-324, -2, -2, {0: -100, 1: -math.inf})
    settings = SamplingSettings(np.float32(1.5), np.int64(9), 1, 1, 10.0, 2, 2, {9: 100})
    settings.check_ids(10)
    with pytest.raises(ConfigError, match="token id 9; the vocabulary has the ids 0 to 8"):
        settings.check_ids(9)
