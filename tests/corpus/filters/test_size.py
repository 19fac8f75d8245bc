from neox_code.corpus.filters.protocol import Candidate
from neox_code.corpus.filters.size import MaxBytes, NotEmpty


def test_the_size_limit_includes_its_bound():
    keep = MaxBytes(1_048_576).keep
    assert keep(Candidate("x.c", "C", 1_048_576)) is True
    assert keep(Candidate("x.c", "C", 1_048_577)) == "over 1 MiB"


def test_an_empty_file_is_dropped_by_name():
    assert NotEmpty().keep(Candidate("x.c", "C", 0)) == "empty"
    assert NotEmpty().keep(Candidate("x.c", "C", 1)) is True
