"""What the user names as sources of files, opened by what it is.

    for source in find_sources(["local", "~/projects", "linux.tar.xz", "repositories.jsonl"]):
        for batch in source.batches(judge):
            ...

`local` is this machine's Python library and packages. A path is a folder (layout.py tells what its folders are), a git repository,
a tar or zip archive, a Parquet or JSON Lines dataset or a folder of its shards, or a repository list: an object a line that has
a `url` and no text. The sources come in an order of their own, so that the order of the arguments does not matter.
"""

import os
import sysconfig
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path

from neox_code.corpus.sources.clone import CloneLimits
from neox_code.corpus.sources.columns import columns_of
from neox_code.corpus.sources.compressed import DAMAGED, open_expanded
from neox_code.corpus.sources.folder import FolderSource
from neox_code.corpus.sources.git import GitSource
from neox_code.corpus.sources.json_lines import JsonLinesSource, parsed
from neox_code.corpus.sources.layout import SAMPLE, check_layout, detect_layout, is_git_repository, visible_entries
from neox_code.corpus.sources.names import archive_project, archive_stem, unique
from neox_code.corpus.sources.parquet import ParquetSource
from neox_code.corpus.sources.protocol import Project, Source
from neox_code.corpus.sources.repository_list import RepositoryList, RepositoryRule
from neox_code.corpus.sources.tar_archive import TarSource, is_tar_start
from neox_code.corpus.sources.zip_archive import ZipSource
from neox_code.errors import DataError
from neox_code.logs import get_logger

LOCAL = "local"
LOCAL_LANGUAGES = frozenset({"C", "C++", "JavaScript", "Python"})

PARQUET_MAGIC = b"PAR1"
TAR_SUFFIXES = (".tar", ".tar.gz", ".tar.bz2", ".tar.xz", ".tar.zst", ".tgz", ".tbz2", ".txz", ".tzst")
PACKED = ("", ".gz", ".bz2", ".xz", ".zst")
JSON_LINES_SUFFIXES = tuple(f"{suffix}{packed}" for suffix in (".jsonl", ".ndjson") for packed in PACKED)
NOTE_SUFFIXES = (".md", ".txt", ".json", ".yaml", ".yml", ".tsv", ".csv")
NOTE_NAMES = ("LICENSE", "README", "_SUCCESS")
CORPUS_SUMMARY = "corpus.json"
ROWS_TO_LOOK_AT = 100
LARGEST_FIRST_ROW = 2**26

log = get_logger(__name__)


@dataclass(frozen=True)
class Options:
    """What is told of all sources alike."""

    layout: str | None = None
    repository_filters: Sequence[RepositoryRule] = ()
    limits: CloneLimits = field(default_factory=CloneLimits)
    clones: Path | None = None
    keep_clones: bool = False


def find_sources(
    arguments: Sequence[str | Path],
    layout: str | None = None,
    *,
    repository_filters: Sequence[RepositoryRule] = (),
    limits: CloneLimits | None = None,
    clones: Path | None = None,
    keep_clones: bool = False,
) -> list[Source]:
    """Opens what the user named, each thing once, ordered by name and place.

    `layout`, one of LAYOUTS, says what the folders of folders and archives are, instead of what they look like.
    `repository_filters` judge the rows of repository lists, `limits` bound their cloning, `clones` is the folder that they are
    cloned into (the system's temporary one by default), where they stay with `keep_clones`.
    Raises DataError where there is no such thing, or it is no source.
    """
    options = Options(layout and check_layout(layout), repository_filters, limits or CloneLimits(), clones, keep_clones)
    names: set[str] = set()
    sources: list[Source] = local_sources(names) if LOCAL in arguments else []
    paths = {home_expanded(argument) for argument in arguments if argument != LOCAL}
    for path in sorted(paths, key=lambda path: (path.name, str(path))):
        sources.append(open_source(path, names, options))
    return with_lists_joined(sources)


def with_lists_joined(sources: Sequence[Source]) -> list[Source]:
    """The sources with one repository list in place of several, so that a repository of two of them is read once."""
    lists = [source for source in sources if isinstance(source, RepositoryList)]
    if len(lists) < 2:
        return list(sources)
    joined = replace(lists[0], paths=tuple(path for source in lists for path in source.paths))
    return [joined, *(source for source in sources if not isinstance(source, RepositoryList))]


def home_expanded(argument: str | Path) -> Path:
    """The path that an argument names, from the root and without links."""
    try:
        path = Path(argument).expanduser()
    except RuntimeError:
        raise DataError(f"source {argument}: there is no such user. Write the path out.") from None
    try:
        return path.resolve()
    except RuntimeError:
        raise DataError(f"source {argument} is a link that leads to itself. Name what it was to lead to.") from None


def local_sources(names: set[str]) -> list[Source]:
    """The standard library, and the installed packages of the running interpreter."""
    library = Path(sysconfig.get_path("stdlib")).resolve()
    packages = dict.fromkeys(Path(sysconfig.get_path(key)).resolve() for key in ("purelib", "platlib"))
    folders = [library, *(folder for folder in packages if folder.is_dir())]
    excluded = frozenset({"site-packages", "dist-packages"})
    return [
        FolderSource(unique(folder.name, names), folder, "project", LOCAL_LANGUAGES, excluded if folder == library else frozenset())
        for folder in folders
    ]


def open_source(path: Path, names: set[str], options: Options) -> Source:
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
        return open_folder(path, names, options) if path.is_dir() else open_file(path, names, options)
    except OSError as error:
        raise DataError(f"source {path} cannot be read: {error.strerror}. Check its permissions.") from None


def open_folder(path: Path, names: set[str], options: Options) -> Source:
    name = path.name or "root"
    if options.layout in (None, "repository"):
        if shards := dataset_shards(path):
            return open_dataset(unique(name, names), shards)
        if is_git_repository(path):
            return GitSource(Project(unique(name.removesuffix(".git"), names)), path)
    layout = options.layout or detect_layout(path)
    log.info("source %s | read as %s%s", path, layout, "" if options.layout else " by its folders (--layout says otherwise)")
    return FolderSource(unique(name, names), path, layout)


def open_file(path: Path, names: set[str], options: Options) -> Source:
    name = unique(archive_project(archive_stem(path.name)), names)
    layout = options.layout or "repository"
    suffixed = path.name.lower()
    start = first_bytes(path) if path.is_file() else None
    if start is not None:
        if suffixed.endswith(".parquet") or start.startswith(PARQUET_MAGIC):
            return ParquetSource(name, (path,))
        if suffixed.endswith(TAR_SUFFIXES) or is_tar_start(start):
            return TarSource(name, path, layout)
        if suffixed.endswith(JSON_LINES_SUFFIXES) or start.lstrip()[:1] == b"{":
            if is_repository_list(path):
                return RepositoryList((path,), options.repository_filters, options.limits, options.clones, options.keep_clones)
            return JsonLinesSource(name, (path,))
        if suffixed.endswith(".zip") or zipfile.is_zipfile(path):
            return ZipSource(name, path, layout)
    raise DataError(
        f"source {path} is neither a folder, a tar or zip archive, a Parquet or JSON Lines dataset nor a repository list. "
        'Check the file, or get it again; a line of a repository list is {"url": "https://..."}.'
    )


def first_bytes(path: Path) -> bytes:
    """The beginning of a file's content, expanded if it is compressed; nothing of one that is damaged there."""
    try:
        with open_expanded(path) as (stream, _):
            return stream.read(512)
    except PermissionError:
        raise
    except DAMAGED:
        return b""


def is_repository_list(path: Path) -> bool:
    """Whether the first row that can be read has a `url`, and no text."""
    try:
        with open_expanded(path) as (stream, _):
            for line in islice(iter(lambda: stream.readline(LARGEST_FIRST_ROW), b""), ROWS_TO_LOOK_AT):
                row = parsed(line)
                if row is not None:
                    return "url" in row and "text" not in columns_of(row)
    except DAMAGED:
        return False
    return False


def dataset_shards(folder: Path) -> tuple[Path, ...]:
    """The shards of a dataset's folder; none where what is visible in it and in its folders is not only shards and notes."""
    if (folder / CORPUS_SUMMARY).is_file():
        return tuple(sorted(folder.glob("*/shard-*.parquet")))
    has_shards = False
    folders, _ = visible_entries(folder)
    for place in (folder, *(folder / name for name in folders[:SAMPLE])):
        try:
            names = list(visible_files(place))
        except OSError:
            return ()
        for name in names:
            if name.lower().endswith((".parquet", *JSON_LINES_SUFFIXES)):
                has_shards = True
            elif not name.lower().endswith(NOTE_SUFFIXES) and name not in NOTE_NAMES:
                return ()
    if not has_shards:
        return ()
    return shards_below(folder, (".parquet",)) or shards_below(folder, JSON_LINES_SUFFIXES)


def shards_below(folder: Path, suffixes: tuple[str, ...]) -> tuple[Path, ...]:
    """Files, and links that lead to none, by their names; no folders, and no pipes, which would be waited for."""
    named = (path for path in folder.rglob("*") if path.name.lower().endswith(suffixes))
    return tuple(sorted(path for path in named if path.is_file() or not path.exists()))


def visible_files(folder: Path) -> Iterator[str]:
    with os.scandir(folder) as scan:
        for entry in scan:
            if not entry.name.startswith(".") and not entry.is_dir(follow_symlinks=False):
                yield entry.name


def open_dataset(name: str, shards: tuple[Path, ...]) -> Source:
    return ParquetSource(name, shards) if shards[0].suffix.lower() == ".parquet" else JsonLinesSource(name, shards)
