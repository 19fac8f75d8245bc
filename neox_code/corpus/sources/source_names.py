"""Normalize the names of projects, files and languages in sources.

    make_printable(b"caf\\xe9.py")                 # "caf\\\\xe9.py": bytes that are no text become escapes
    clean_member_path("/etc/../passwd.py")         # "etc/passwd.py"
    find_language("c-sharp")                # "C#"

Names from archives, lists and datasets are never used as paths on disk. No file system allows names longer than LONGEST_NAME, so
they are truncated.
"""

import re
from collections.abc import Mapping
from pathlib import Path

UNNAMED = "unnamed"
LONGEST_NAME = 8_192
CUT = "..."
TAR_SUFFIXES = (".tar", ".tar.gz", ".tar.bz2", ".tar.xz", ".tar.zst", ".tgz", ".tbz2", ".txz", ".tzst")
ARCHIVE_SUFFIXES = (
    *(".gz", ".bz2", ".xz", ".zst", ".tar", ".tgz", ".tbz2", ".txz", ".tzst", ".zip"),
    *(".parquet", ".jsonl", ".ndjson", ".json"),
)

SPELLINGS = {
    "C": ("c", "clang"),
    "C#": ("c#", "csharp", "c-sharp", "cs"),
    "C++": ("c++", "cpp", "cplusplus", "cxx", "c-plus-plus"),
    "GDScript": ("gdscript", "gd", "godot"),
    "Go": ("go", "golang"),
    "Java": ("java",),
    "JavaScript": ("javascript", "js"),
    "Kotlin": ("kotlin", "kt"),
    "PHP": ("php",),
    "Python": ("python", "python3", "py"),
    "Ruby": ("ruby", "rb"),
    "Rust": ("rust", "rs"),
    "Scala": ("scala",),
    "TypeScript": ("typescript", "ts"),
    # not in any recipe, but found beside other languages in folders of many languages
    **{
        name: (name.lower(),)
        for name in ("CSS", "Clojure", "Dart", "Elixir", "Erlang", "Fortran", "Haskell", "HTML", "Julia", "Lua")
    },
    **{name: (name.lower(),) for name in ("Lua", "MATLAB", "OCaml", "Perl", "R", "SQL", "Swift", "Zig")},
    "Objective-C": ("objective-c", "objectivec"),
    "Shell": ("shell", "bash"),
}
LANGUAGE_OF = {spelling: language for language, spellings in SPELLINGS.items() for spelling in spellings}
UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def find_language(name: str) -> str | None:
    """Return linguist's name of the language in the name of a folder or column; None for an unknown one.

    >>> find_language("C-Sharp"), find_language("cpp"), find_language("Go"), find_language("src")
    ('C#', 'C++', 'Go', None)
    """
    return LANGUAGE_OF.get(name.casefold().replace(" ", "-").replace("_", "-"))


def make_printable(name: str | bytes) -> str:
    """Return a name as one line of text; bytes that are not UTF-8 and control characters become backslash escapes.

    >>> make_printable(b"caf\\xe9.py"), make_printable("two\\nlines")
    ('caf\\\\xe9.py', 'two\\\\x0alines')
    """
    if len(name) > LONGEST_NAME:
        return make_printable(name[: LONGEST_NAME - len(CUT)]) + CUT
    if isinstance(name, str) and name.isprintable():
        return name
    raw = name if isinstance(name, bytes) else name.encode("utf-8", "surrogateescape")
    return UNPRINTABLE.sub(escape_match, raw.decode("utf-8", "backslashreplace"))


def escape_match(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"


def clean_member_path(name: str | bytes) -> str:
    """Return the path of an archive's member without a root, `.` and `..`.

    >>> clean_member_path("/etc/../etc/./passwd.py")
    'etc/etc/passwd.py'
    """
    return "/".join(part for part in make_printable(name).split("/") if part not in ("", ".", ".."))


def drop_suffixes(name: str) -> str:
    """Return a file name without its archive suffixes.

    >>> drop_suffixes("linux-6.1.tar.xz"), drop_suffixes("src.zip"), drop_suffixes("code.tgz"), drop_suffixes("rows.jsonl.zst")
    ('linux-6.1', 'src', 'code', 'rows')
    """
    for suffix in ARCHIVE_SUFFIXES:
        name = name.removesuffix(suffix) or name
    return name


def parse_project(stem: str) -> str:
    """Return the project of an archive; PolyCoder writes `organization__project` in the file name.

    >>> parse_project("torvalds__linux"), parse_project("linux-6.1"), parse_project("__init__")
    ('torvalds/linux', 'linux-6.1', '__init__')
    """
    organization, _, project = stem.partition("__")
    return f"{organization}/{project}" if organization and project.strip("_") else stem


def make_names_unique(preferred: Mapping[Path, str]) -> dict[Path, str]:
    """Return a unique name for every source: its preferred name. Parent folders are added to equal names until they differ.

    >>> make_names_unique({Path("/src/one/app"): "app", Path("/src/two/app"): "app", Path("/src/lib.zip"): "lib"})
    {PosixPath('/src/one/app'): 'one/app', PosixPath('/src/two/app'): 'two/app', PosixPath('/src/lib.zip'): 'lib'}
    """
    groups: dict[str, list[Path]] = {}
    for path, name in preferred.items():
        groups.setdefault(make_printable(name), []).append(path)
    names: dict[Path, str] = {}
    for name, paths in groups.items():
        if len(paths) == 1:
            names[paths[0]] = name
            continue
        deepest = max(len(path.parts) for path in paths)
        levels = (
            [join_last_parts(path, depth, keeps) for path in paths] for keeps in (False, True) for depth in range(2, deepest + 1)
        )
        found = (level for level in levels if len(set(level)) == len(level) and groups.keys().isdisjoint(level))
        names.update(zip(paths, next(found, [make_printable(str(path)) for path in paths]), strict=True))
    return names


def join_last_parts(path: Path, depth: int, keeps_suffix: bool) -> str:
    """Return the last `depth` parts of a path, without archive suffixes."""
    last = path.name if keeps_suffix else drop_suffixes(path.name.removesuffix(".git"))
    return make_printable("/".join([part for part in path.parts[-depth:-1] if part != "/"] + [last]))
