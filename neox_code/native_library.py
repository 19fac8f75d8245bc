"""Compile a C++ file of the package for this machine's processor, and load it. Each file is compiled once.

    library = load_library(Path(__file__).with_name("decoding.cpp"), "generation")     # None without a compiler

A library is kept in ~/.cache/neox-code (or below XDG_CACHE_HOME). Its name has a digest of the source with the files that it
includes, the compiler and the processor, so another version or machine has its own. It is renamed when it is complete: several
processes may start at once, and a compilation that was killed changes nothing. `CXX` names another compiler than g++ or clang++.
"""

import ctypes
import os
import re
import secrets
import shutil
import subprocess
import tempfile
from functools import cache
from hashlib import sha256
from pathlib import Path

from neox_code.files import PARTIAL_SUFFIX
from neox_code.logs import get_logger
from neox_code.machine import read_cpuinfo

log = get_logger(__name__)

FLAGS = (
    *("-std=c++17", "-O3", "-march=native", "-ffp-contract=fast", "-fno-math-errno", "-fno-trapping-math"),
    *("-pthread", "-fopenmp"),
)
COMPILERS = ("g++", "clang++")
COMPILE_SECONDS = 300


@cache
def load_library(source: Path, use: str) -> ctypes.CDLL | None:
    """Return the library of a C++ file. Without a compiler, or if the file cannot be compiled, log the reason and return None.

    `use` is what is slower without it.
    """
    compiler = find_compiler()
    if compiler is None:
        log.info("there is no C++ compiler (g++ or clang++) for %s, so %s on the CPU is slower", source.name, use)
        return None
    try:
        path = find_library_path(source, Path(compiler))
        return ctypes.CDLL(str(path)) if path.is_file() else compile_library(source, compiler, path)
    except (OSError, subprocess.SubprocessError) as error:
        details = (getattr(error, "stderr", None) or str(error)).strip().splitlines()[:5]
        log.warning("%s is not compiled, so %s on the CPU is slower: %s: %s", source.name, use, compiler, "; ".join(details))
        return None


def find_compiler() -> str | None:
    names = [os.environ["CXX"]] if "CXX" in os.environ else COMPILERS
    return next((path for name in names if (path := shutil.which(name))), None)


def find_library_path(source: Path, compiler: Path) -> Path:
    """Return the path at which the library of this source, compiler and processor is kept."""
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "neox-code"
    features = sorted({line for line in read_cpuinfo().splitlines() if line.startswith(("model name", "flags", "Features"))})
    binary = compiler.resolve()
    version = f"{binary} {binary.stat().st_size} {binary.stat().st_mtime_ns}"
    digest = sha256("\n".join([*read_sources(source), *FLAGS, version, *features]).encode()).hexdigest()
    return folder / f"{source.stem}-{digest[:16]}.so"


def read_sources(source: Path) -> list[str]:
    """Return the text of a C++ file, and of the files that it includes by a path relative to its folder."""
    text = source.read_text(encoding="utf-8")
    included = re.findall(r'^#include "(.+)"$', text, re.MULTILINE)
    return [text, *(part for name in included for part in read_sources(source.parent / name))]


def compile_library(source: Path, compiler: str, path: Path) -> ctypes.CDLL:
    """Return the compiled library, and keep it at `path`. If its folder cannot be written, each process compiles for itself."""
    log.info("compiling %s for this processor, once", source.name)
    with tempfile.TemporaryDirectory(prefix="neox-code-") as folder:
        built = Path(folder) / path.name
        command = [compiler, *FLAGS, "-fPIC", "-shared", str(source), "-o", str(built)]
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=COMPILE_SECONDS, stdin=subprocess.DEVNULL)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            copied = path.with_name(f"{path.name}.{secrets.token_hex(4)}{PARTIAL_SUFFIX}")
            shutil.copyfile(built, copied)
            copied.replace(path)
        except OSError as error:
            log.info("%s is compiled at each start, because %s cannot be written: %s", source.name, path.parent, error.strerror)
        return ctypes.CDLL(str(path if path.is_file() else built))
