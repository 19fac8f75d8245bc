"""Real source code that is the same on every machine: the files of packages whose versions are pinned exactly.

real_files(40)[0].read_text()               the first of 40 files
real_file("pygments/lexer.py")              a file or a folder by its path
"""

from importlib.util import find_spec
from itertools import islice
from pathlib import Path

PACKAGES = ("deepspeed", "megatron", "pygments")

MODULES = (
    "pygments/cmdline.py",
    "pygments/filters/__init__.py",
    "pygments/formatters/html.py",
    "pygments/formatters/img.py",
    "pygments/formatters/latex.py",
    "pygments/lexer.py",
    "pygments/lexers/c_cpp.py",
    "pygments/lexers/rust.py",
    "pygments/regexopt.py",
    "pygments/style.py",
    "pygments/token.py",
    "pygments/util.py",
)
"""A dozen files of Python for a small vocabulary or training, about 220 kB."""


def real_file(path: str) -> Path:
    """Return a file or folder by its path, which begins with the package's name."""
    package, _, rest = path.partition("/")
    spec = find_spec(package)
    assert spec is not None and spec.submodule_search_locations, f"{package} is not installed"
    return Path(next(iter(spec.submodule_search_locations))) / rest


def real_files(count: int, max_bytes: int = 1 << 16) -> list[Path]:
    """Return `count` Python files in a fixed order, each of 1 to `max_bytes` bytes."""
    paths = (path for package in PACKAGES for path in sorted(real_file(package).rglob("*.py")))
    chosen = list(islice((path for path in paths if 0 < path.stat().st_size <= max_bytes), count))
    assert len(chosen) == count
    return chosen


def real_texts(count: int) -> list[str]:
    """Return the texts of `real_files`, without empty ones."""
    return [text for file in real_files(count) if (text := file.read_text(encoding="utf-8"))]
