"""Compile a C++ file of the package for this machine's processor, and load it. Each file is compiled once.

    library = load_library(Path(__file__).with_name("decoding.cpp"))     # None without a compiler

A library is kept in ~/.cache/neox-code (or below XDG_CACHE_HOME). Its name has a digest of the source, the compiler and the processor,
so another version or machine has its own. It is compiled under a temporary name and then renamed: several processes may start at once,
and a compilation that was killed changes nothing. `CXX` names another compiler than g++ or clang++.
"""

import ctypes
import os
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

FLAGS = "-std=c++17 -O3 -march=native -ffp-contract=fast -fno-math-errno -fno-trapping-math -fopenmp -fPIC -shared".split()
COMPILERS = ("g++", "clang++")
COMPILE_SECONDS = 300


@cache
def load_library(source: Path) -> ctypes.CDLL | None:
    """Return the library of a C++ file. Without a compiler, or if the file cannot be compiled, log the reason and return None."""
    compiler = find_compiler()
    if compiler is None:
        log.info("there is no C++ compiler (g++ or clang++), so %s is not used: generation on the CPU is slower", source.name)
        return None
    try:
        return ctypes.CDLL(str(compile_once(source, compiler, find_cache_folder())))
    except (OSError, subprocess.SubprocessError) as error:
        details = (getattr(error, "stderr", None) or str(error)).strip().splitlines()[:5]
        log.warning("%s cannot be compiled by %s, so generation on the CPU is slower: %s", source.name, compiler, "; ".join(details))
        return None


def find_compiler() -> str | None:
    names = [os.environ["CXX"]] if "CXX" in os.environ else COMPILERS
    return next((path for name in names if (path := shutil.which(name))), None)


def find_cache_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "neox-code"


def compile_once(source: Path, compiler: str, folder: Path) -> Path:
    """Return the path of the compiled library in `folder`; compile it if it is missing.

    If the folder cannot be written, compile into a temporary folder, which is used by this process alone.
    """
    features = sorted({line for line in read_cpuinfo().splitlines() if line.startswith(("model name", "flags", "Features"))})
    binary = Path(compiler).resolve()
    version = f"{binary} {binary.stat().st_size} {binary.stat().st_mtime_ns}"
    digest = sha256("\n".join([source.read_text(), *FLAGS, version, *features]).encode()).hexdigest()[:16]
    path = folder / f"{source.stem}-{digest}.so"
    if path.is_file():
        return path
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        temporary = tempfile.mkdtemp(prefix=path.stem, suffix=PARTIAL_SUFFIX, dir=folder)
    except OSError:
        temporary = tempfile.mkdtemp(prefix="neox-code")
        path = Path(temporary) / path.name
    log.info("compiling %s for this processor, once", source.name)
    built = Path(temporary) / path.name
    command = [compiler, *FLAGS, str(source), "-o", str(built)]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=COMPILE_SECONDS, stdin=subprocess.DEVNULL)
        built.replace(path)
    finally:
        if path.parent != built.parent:
            shutil.rmtree(temporary, ignore_errors=True)
    return path
