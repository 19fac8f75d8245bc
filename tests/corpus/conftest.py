"""A small tree of real projects to build corpora from."""

import shutil
from pathlib import Path

import pytest
from real_code import real_file

PACKAGES = ("checkpoint", "comm", "moe", "linear", "monitor", "nvme", "profiling", "sequence")

C_FUNCTION = """
int {name}(int first, int second) {{
    int result = first * {number} + second;
    for (int i = 0; i < {number}; i++) {{ result += i * (first - second); }}
    return result;
}}
"""


def c_source(name: str) -> str:
    return "#include <stdio.h>\n" + "".join(C_FUNCTION.format(name=f"{name}_{number}", number=number) for number in range(8))


@pytest.fixture(scope="session")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of a Python package beside projects in C, and files of every kind that is dropped."""
    root = tmp_path_factory.mktemp("sources") / "tree"
    for package in PACKAGES:
        shutil.copytree(real_file(f"deepspeed/{package}"), root / package, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("alpha", "beta", "gamma", "delta"):
        (root / name / "src").mkdir(parents=True)
        (root / name / "src" / "main.c").write_text(c_source(name))
        (root / name / "src" / "main.h").write_text(c_source(f"{name}_header"))
        (root / name / "README").write_text("Read me.\n")
    (root / "alpha" / "windows.c").write_bytes(c_source("windows").replace("\n", "\r\n").encode())
    (root / "alpha" / "latin.c").write_bytes(c_source("latin").encode() + "/* café */\n".encode("latin-1"))
    (root / "alpha" / "empty.c").touch()
    (root / "alpha" / "short.c").write_text("int x;\n")
    (root / "alpha" / "huge.c").write_text("int x;\n" * 200_000)
    shutil.copy(root / "alpha" / "src" / "main.c", root / "delta" / "copy.c")
    shutil.copy(real_file("pygments/regexopt.py"), root / "regexopt.py")
    return root
