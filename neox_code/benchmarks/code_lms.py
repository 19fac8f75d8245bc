"""The steps of Code-LMs' extract_code.py and deduplicate.py, as they do them, on one core.

    extract(Path("repositories"), Path("Code"))           # LANGUAGE/organization/project -> Code/LANGUAGE/organization/project
    deduplicate(Path("Code"))

This is a reimplementation to compare speed with: it lexes every file to count tokens, copies the files, and finds duplicates by
SHA-256. Code-LMs starts an interpreter for each project; this module handles all projects in one.
"""

import hashlib
import os
import shutil
from pathlib import Path

from pygments import lex
from pygments.lexers import get_lexer_by_name

MAX_FILE_BYTES = 1024**2
MIN_FILE_TOKENS = 100


def extract(repositories: Path, output: Path) -> None:
    for language in repositories.iterdir():
        for organization in language.iterdir():
            for project in organization.iterdir():
                extract_project(language.name, project, output / project.relative_to(repositories))


def extract_project(language: str, project: Path, output: Path) -> None:
    """Copy the files of the language that are neither too long nor too short."""
    lexer = get_lexer_by_name(language)
    suffixes = {pattern.lower()[1:] for pattern in lexer.filenames}
    output.mkdir(parents=True, exist_ok=True)
    for root, _, names in os.walk(project):
        for name in names:
            if not any(name.endswith(suffix) for suffix in suffixes):
                continue
            path = Path(root, name)
            if path.stat().st_size > MAX_FILE_BYTES:
                continue
            with path.open(encoding="utf-8", errors="ignore") as file:
                text = file.read()
            if sum(1 for _ in lex(text, lexer)) < MIN_FILE_TOKENS:
                continue
            copy = output / str(path.relative_to(project)).replace("/", "__")
            if not copy.exists():
                shutil.copyfile(path, copy)


def deduplicate(output: Path) -> None:
    """Delete every file whose content equals that of an earlier file."""
    seen = set()
    for root, _, names in os.walk(output):
        for name in names:
            path = Path(root, name)
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            if digest in seen:
                path.unlink()
            else:
                seen.add(digest)
