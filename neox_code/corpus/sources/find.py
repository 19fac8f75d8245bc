"""Open the sources that the user names, each by its kind.

    for source in find_sources(["local", "~/projects", "linux.tar.xz", "repositories.jsonl"]):
        for batch in source.batches(check):
            ...

`local` stands for this machine's Python library and packages. Any other argument is the path of a folder (folder_layout.py), a git
repository, a tar or zip archive, a folder of archives, a dataset (datasets.py) or a repository list (lines of JSON objects with a
`url` and no text). The sources are sorted, so that the order of the arguments does not matter.
"""

import re
import sysconfig
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from neox_code.corpus.sources.clone import CloneLimits
from neox_code.corpus.sources.columns import find_columns
from neox_code.corpus.sources.compressed import DAMAGED, open_decompressed
from neox_code.corpus.sources.datasets import JSON_LINES_SUFFIXES, find_archives, find_shards, read_first_row
from neox_code.corpus.sources.folder import FolderSource
from neox_code.corpus.sources.folder_layout import check_layout, detect_layout, is_bare_repository, is_git_repository
from neox_code.corpus.sources.git import GitSource
from neox_code.corpus.sources.json_lines import JsonLinesSource
from neox_code.corpus.sources.parquet import ParquetSource
from neox_code.corpus.sources.protocol import Project, Source
from neox_code.corpus.sources.repository_list import RepositoryList, RepositoryRule, parse_project_name
from neox_code.corpus.sources.source_names import TAR_SUFFIXES, drop_suffixes, make_names_unique, parse_project
from neox_code.corpus.sources.tar_archive import TarSource, is_tar_start
from neox_code.corpus.sources.work_tree import read_small_file
from neox_code.corpus.sources.zip_archive import ZipSource
from neox_code.errors import DataError
from neox_code.logs import get_logger

LOCAL = "local"
LOCAL_LANGUAGES = frozenset({"C", "C++", "JavaScript", "Python"})

PARQUET_MAGIC = b"PAR1"
HOSTED = re.compile(r"(?:https?|ssh|git)://|[\w.-]+@[\w.-]+:")
ORIGIN = re.compile(rb'^\[remote "origin"\][^\[]*?^\s*url\s*=\s*(\S+)', re.MULTILINE)
EXCLUDED = frozenset({"site-packages", "dist-packages"})
LARGEST_CONFIG = 2**20

log = get_logger(__name__)


@dataclass(frozen=True)
class Options:
    layout: str | None = None
    """Meaning of the folders in folder and archive sources, one of LAYOUTS; None: detect it."""
    language: str | None = None
    """The language of dataset rows that have neither a language nor a path."""
    repository_filters: Sequence[RepositoryRule] = ()
    """Filters that drop repositories by their row in a repository list."""
    limits: CloneLimits = field(default_factory=CloneLimits)
    clones: Path | None = None
    """Folder for clones of repositories; None: the system's temporary folder. Clones are kept there if `keep_clones` is true."""
    keep_clones: bool = False


def find_sources(arguments: Sequence[str | Path], options: Options | None = None) -> list[Source]:
    """Open each source once, in the order of name and path. Raise DataError if an argument does not exist or is not a source."""
    options = options or Options()
    options = replace(options, layout=options.layout and check_layout(options.layout))
    named = {expand_home(argument) for argument in arguments if argument != LOCAL}
    paths = sorted(
        dict.fromkeys(file for path in named for file in list_archives_or_path(path)), key=lambda path: (path.name, str(path))
    )
    local = list_local_folders() if LOCAL in arguments else []
    names = make_names_unique({path: path.name for path in local} | {path: choose_source_name(path) for path in paths})
    sources: list[Source] = [
        FolderSource(names[folder], folder, "project", LOCAL_LANGUAGES, EXCLUDED if folder == local[0] else frozenset())
        for folder in local
    ]
    return join_repository_lists([*sources, *(open_source(path, names[path], options) for path in paths)])


def list_archives_or_path(path: Path) -> tuple[Path, ...]:
    """Return the archives in a folder if it has archives and no source code; else the path itself."""
    try:
        return (path.is_dir() and not is_git_repository(path) and find_archives(path)) or (path,)
    except PermissionError:
        return (path,)


def choose_source_name(path: Path) -> str:
    """Return OWNER/NAME if the path is a repository cloned from a host such as GitHub, else the base name of the path."""
    if not path.is_dir():
        return parse_project(drop_suffixes(path.name))
    if is_git_repository(path):
        config = read_small_file(str(path / ".git/config" if (path / ".git").exists() else path / "config"), LARGEST_CONFIG)
        origin = ORIGIN.search(config)
        address = origin[1].decode("utf-8", "backslashreplace") if origin else ""
        return parse_project_name(address) if HOSTED.match(address) else path.name.removesuffix(".git")
    return path.name or "root"


def join_repository_lists(sources: Sequence[Source]) -> list[Source]:
    """Return the sources with all repository lists merged into one, so that a repository in two lists is read once."""
    lists = [source for source in sources if isinstance(source, RepositoryList)]
    if len(lists) < 2:
        return list(sources)
    joined = replace(lists[0], paths=tuple(path for source in lists for path in source.paths))
    return [joined, *(source for source in sources if not isinstance(source, RepositoryList))]


def expand_home(argument: str | Path) -> Path:
    """Return the absolute path of an argument, without links."""
    try:
        path = Path(argument).expanduser()
    except RuntimeError:
        raise DataError(f"source {argument}: the user does not exist. Write the whole path.") from None
    try:
        return path.resolve()
    except RuntimeError:
        raise DataError(f"source {argument} is a link to itself. Correct the link, or name its target.") from None


def list_local_folders() -> list[Path]:
    """Return the standard library, and the folders of installed packages of the running interpreter."""
    library = Path(sysconfig.get_path("stdlib")).resolve()
    packages = dict.fromkeys(Path(sysconfig.get_path(key)).resolve() for key in ("purelib", "platlib"))
    return [library, *(folder for folder in packages if folder.is_dir())]


def open_source(path: Path, name: str, options: Options) -> Source:
    """Return the source at a path. Raise DataError with the remedy if there is no source."""
    if not path.exists():
        if ":/" in str(path):
            raise DataError(
                f"source {path.name} is an address. Write a repository list, a file of lines as "
                '{"url": "https://github.com/organization/project"}, and name that.'
            )
        raise DataError(
            f"source {path} does not exist. Name a folder, a git repository, a tar or zip archive, a dataset, "
            f"a repository list, or {LOCAL!r}."
        )
    try:
        return open_folder(path, name, options) if path.is_dir() else open_file(path, name, options)
    except OSError as error:
        raise DataError(f"source {path} cannot be read: {error.strerror}. Check its permissions.") from None


def open_folder(path: Path, name: str, options: Options) -> Source:
    if options.layout in (None, "repository") and (shards := find_shards(path)):
        return open_dataset(name, shards, options.language)
    if is_bare_repository(path) or (options.layout in (None, "repository") and is_git_repository(path)):
        return GitSource(Project(name), path)
    layout = options.layout or detect_layout(path)
    log.info("source %s | read as %s%s", path, layout, "" if options.layout else " by its folders (--layout overrides this)")
    return FolderSource(name, path, layout)


def open_file(path: Path, name: str, options: Options) -> Source:
    """Return the source in a file. The suffix and the first bytes of the file show the kind of source."""
    layout = options.layout or "repository"
    suffixed = path.name.lower()
    start = read_first_bytes(path) if path.is_file() else None
    if start is not None:
        if suffixed.endswith(".parquet") or start.startswith(PARQUET_MAGIC):
            return ParquetSource(name, (path,), language=options.language)
        if suffixed.endswith(TAR_SUFFIXES) or is_tar_start(start):
            return TarSource(name, path, layout)
        if suffixed.endswith(JSON_LINES_SUFFIXES) or start.lstrip()[:1] in (b"{", b"["):
            if is_repository_list(path):
                return RepositoryList((path,), options.repository_filters, options.limits, options.clones, options.keep_clones)
            return JsonLinesSource(name, (path,), language=options.language)
        if suffixed.endswith(".zip") or zipfile.is_zipfile(path):
            return ZipSource(name, path, layout)
    raise DataError(
        f"source {path} is neither a folder, a tar or zip archive, a Parquet or JSON Lines dataset nor a repository list. "
        'Check the file, or get it again; a line of a repository list is {"url": "https://..."}.'
    )


def read_first_bytes(path: Path) -> bytes:
    """Return the first bytes of a file's content, decompressed if needed; b"" if the file is damaged."""
    try:
        with open_decompressed(path) as (stream, _):
            return stream.read(512)
    except PermissionError:
        raise
    except DAMAGED:
        return b""


def is_repository_list(path: Path) -> bool:
    """Return True if the first readable row of a file has a `url` and no text."""
    row = read_first_row(path)
    return row is not None and "url" in row and "text" not in find_columns(row)


def open_dataset(name: str, shards: tuple[Path, ...], language: str | None) -> Source:
    kind = ParquetSource if shards[0].suffix.lower() == ".parquet" else JsonLinesSource
    return kind(name, shards, language=language)
