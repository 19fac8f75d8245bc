import random

import numpy as np
import pyarrow as pa
import pytest

from neox_code.corpus.pipeline import file_order
from neox_code.corpus.pipeline.file_order import FileOrder, make_key_array


@pytest.mark.parametrize("bucket_files", [1, 7, 100, 10**6])
def test_files_are_sorted_by_rank_then_path_then_row(tmp_path, monkeypatch, bucket_files):
    monkeypatch.setattr(file_order, "BUCKET_FILES", bucket_files)
    monkeypatch.setattr(file_order, "MAX_BUCKETS", 50)
    monkeypatch.setattr(file_order, "FILES_AT_ONCE", 5)
    rng = random.Random(bucket_files)
    files = [(rng.randrange(9), rng.choice("äabAB/.") * rng.randrange(1, 4), row, rng.randbytes(4)) for row in range(400)]
    by_rank = np.bincount([rank for rank, *_ in files], minlength=12)
    with FileOrder(tmp_path / "order", by_rank, num_keys=1) as order:
        for start in range(0, 400, 37):
            ranks, paths, rows, keys = zip(*files[start : start + 37], strict=True)
            chunks = [pa.chunked_array([pa.array(column)]) for column in (paths, pa.array(keys, pa.binary(4)))]
            order.add(np.array(ranks), chunks[0], np.array(rows), [chunks[1]])
        for _ in range(2):
            found = []
            for ranks, rows, (keys,) in order.read_sorted():
                found += zip(ranks.tolist(), rows.tolist(), (bytes(key) for key in make_key_array(keys, 4)), strict=True)
            expected = sorted(files, key=lambda file: (file[0], file[1].encode(), file[2]))
            assert found == [(rank, row, key) for rank, _, row, key in expected]
    assert not (tmp_path / "order").exists()
