"""Which entry of data_order.jsonl a step follows, over resumes and restarts."""

from dataclasses import replace

import pytest

from neox_code.config.data import DataConfig
from neox_code.data.order_log import ORDER_FILE, OrderEntry, find_order_entry, make_data_keys, maybe_record_order, read_data_keys
from neox_code.errors import DataError

DATA = DataConfig(train_data_paths=("a", "b"), train_data_weights=(2.0, 1.0), language_alpha=None, num_workers=7)
FIRST = OrderEntry(0, 0, 8, 2, 4, 2048, 8_000, 1234, 0, make_data_keys(DATA), {"a": "1", "b": "2"})


def test_a_step_follows_the_newest_start_before_it(tmp_path):
    save = str(tmp_path)
    other = replace(FIRST, iteration=100, consumed_samples=800, train_batch_size=16, num_samples=16_000)
    for entry in (FIRST, replace(FIRST, iteration=60, consumed_samples=480), other):  # the second continues the first
        maybe_record_order(save, entry)
    assert len((tmp_path / ORDER_FILE).read_text().splitlines()) == 2
    assert [find_order_entry(tmp_path, step).first_sample(step) for step in (1, 100, 101, 103)] == [0, 792, 800, 832]
    maybe_record_order(save, replace(FIRST, iteration=50, consumed_samples=400))  # from an earlier checkpoint
    (tmp_path / "global_step50").mkdir()
    assert [find_order_entry(tmp_path / "global_step50", step).first_sample(step) for step in (50, 51, 101)] == [392, 400, 800]


def test_another_order_of_the_samples_is_recorded_and_read_back(tmp_path):
    assert read_data_keys(FIRST.data) == replace(DATA, num_workers=2)
    maybe_record_order(str(tmp_path), FIRST)
    skipped = replace(FIRST, iteration=10, consumed_samples=88)  # a run that skipped a batch
    maybe_record_order(str(tmp_path), skipped)
    assert find_order_entry(tmp_path, 11) == skipped
    with pytest.raises(DataError, match="begins after step 3"):
        maybe_record_order(str(tmp_path / "new"), replace(FIRST, iteration=3, consumed_samples=24))
        find_order_entry(tmp_path / "new", 2)
    with pytest.raises(DataError, match=r"has no data_order\.jsonl"):
        find_order_entry(tmp_path / "nowhere", 2)
