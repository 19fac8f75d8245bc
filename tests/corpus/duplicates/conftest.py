import sysconfig
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def library_texts():
    """Python's standard library, files of at most 64 kB."""
    paths = sorted(path for path in Path(sysconfig.get_path("stdlib")).rglob("*.py") if "site-packages" not in path.parts)
    texts = [path.read_bytes().decode("utf-8", "ignore") for path in paths if path.stat().st_size < 2**16]
    return texts[:1500]
