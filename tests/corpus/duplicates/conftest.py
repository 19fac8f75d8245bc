import pytest
from real_code import real_files


@pytest.fixture(scope="session")
def library_texts():
    """Return 1,200 real Python files of at most 64 kB."""
    return [path.read_bytes().decode("utf-8", "ignore") for path in real_files(1200)]
