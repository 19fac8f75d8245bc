"""Read configuration files. Each setting is returned with its file and line.

    settings, problems = read_settings(["configs/small.yml", "configs/local_setup.yml"])

Files are YAML or JSON and flat; at the top level `train-iters` and `train_iters` are one key. A key that occurs twice, in one
file or in two, is a problem, and so is a file that cannot be read. All problems are returned together, one message each.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from neox_code.errors import ConfigError, DataError
from neox_code.files import read_bounded
from neox_code.installation import PACKAGED_CONFIGS

SUFFIXES = (".yml", ".yaml", ".json")


@dataclass(frozen=True)
class Setting:
    """A key from the top level of a configuration file, spelled with underscores, and its value."""

    key: str
    value: Any
    place: str
    """Origin of the value: `FILE:LINE`, or the name of an option."""

    inner_places: Mapping[str, str] = field(default_factory=dict)
    """Dotted name of a key inside a dictionary value, such as `params.lr` -> its `FILE:LINE`."""

    @property
    def file(self) -> str:
        return self.place.rpartition(":")[0]


DEEPEST = 50
"""Greatest depth of nested dictionaries and lists."""

MOST_BYTES = 5_000_000
"""Maximum bytes of a configuration file. A larger file is not read."""

MOST_NODES = 100_000
"""Maximum number of keys and values in a file. What a YAML alias repeats is counted each time."""

MOST_BITS = 1023
"""Maximum number of bits of a whole number, so that the number is finite as a float."""


class WrittenFloat(float):
    """A float that also holds the text that the user wrote, so that messages show `1e10` instead of 10000000000.0."""

    text: str

    def __repr__(self) -> str:
        return self.text


yaml.SafeDumper.add_representer(WrittenFloat, lambda dumper, value: dumper.represent_float(float(value)))


class Loader(yaml.SafeLoader):
    """YAML reader in which `1e-4` is a number, as in JSON. (PyYAML follows YAML 1.1, which reads `1e-4` as text.)

    Dates are read as text. YAML 1.1's numbers to base 60 and 8 are read as text too: `90:5:5` would be 324305, and `010` 8.

    All failures of PyYAML are raised as yaml.MarkedYAMLError.
    """

    depth = 0
    num_nodes = 0

    def __init__(self, text: str):
        super().__init__(text)
        self.sizes: dict[yaml.Node, int] = {}

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Return the next node. Raise ConstructorError if DEEPEST or MOST_NODES is exceeded or a value contains itself."""
        is_alias, mark, before = self.check_event(yaml.AliasEvent), self.peek_event().start_mark, self.num_nodes
        self.depth += 1
        if self.depth > DEEPEST:
            raise yaml.constructor.ConstructorError(None, None, f"it is nested more than {DEEPEST} deep", mark)
        node = super().compose_node(parent, index)
        assert node is not None
        self.depth -= 1
        if is_alias and node not in self.sizes:
            raise yaml.constructor.ConstructorError(None, None, "it has an alias within the value that the alias repeats", mark)
        self.num_nodes += self.sizes[node] if is_alias else 1
        self.sizes.setdefault(node, self.num_nodes - before)
        if self.num_nodes > MOST_NODES:
            raise yaml.constructor.ConstructorError(None, None, f"it has more than {MOST_NODES:,} keys and values", mark)
        return node

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """Return a node's value; a float holds its text too. Raise ConstructorError for a value that cannot be read."""
        try:
            value = super().construct_object(node, deep)
            is_readable = not isinstance(value, int) or value.bit_length() <= MOST_BITS
            if type(value) is float and isinstance(node, yaml.ScalarNode):
                value = WrittenFloat(value)
                value.text = node.value
        except (ValueError, KeyError):
            is_readable = False
        if not is_readable:
            raise yaml.constructor.ConstructorError(None, None, "it has a value that cannot be read", node.start_mark)
        return value


YAML_1_1 = ("tag:yaml.org,2002:timestamp", "tag:yaml.org,2002:int", "tag:yaml.org,2002:float")
Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag not in YAML_1_1]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
for tag, pattern in {
    "tag:yaml.org,2002:int": r"[-+]?(?:0|[1-9][\d_]*|0b[01_]+|0x[\da-fA-F_]+)$",
    "tag:yaml.org,2002:float": r"(?:[-+]?(?:\d[\d_]*\.[\d_]*(?:[eE][-+]\d+)?|\.[\d_]+|\.(?:inf|Inf|INF))|\.(?:nan|NaN|NAN))$",
}.items():
    Loader.add_implicit_resolver(tag, re.compile(pattern), list("-+.0123456789"))
Loader.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789"))


def parse_value(text: str) -> Any:
    """Return the value of a YAML text, as in a configuration file. Raise yaml.YAMLError if it is not valid.

    >>> parse_value("6e-4"), parse_value("[a, 1]"), parse_value("")
    (6e-4, ['a', 1], None)
    """
    loader = Loader(text)
    root = loader.get_single_node()
    return None if root is None else loader.construct_object(root, deep=True)


def find_config_path(name: str, folder: str | None = None) -> Path:
    """Return the path of a configuration file from its name on the command line. With `folder` the name is relative to it.

    `.yml` is added to a name without suffix, unless only the file without suffix exists. If no file `small.yml` or
    `configs/small.yml` exists, the file of this name in the project's own configs is used. A folder is returned unchanged, because
    it may hold a model.

    >>> str(find_config_path("mine", "settings")), str(find_config_path("pythia/70M.json"))
    ('settings/mine.yml', 'pythia/70M.json')
    """
    path = Path(folder or "", name)
    if not name.strip():
        raise ConfigError("the name of a configuration file is empty. Name a YAML or JSON file.")
    if path.name and path.is_dir() and not folder:
        return path
    if not path.name or path.is_dir():
        raise ConfigError(f"{name} is a folder, not a configuration file. Name the files in it, or use -d {name} and their names.")
    if path.exists() and not path.is_file():
        raise ConfigError(f"{name} is a pipe or a device, but each rank reads its configuration again. Save it as a file.")
    completed = path if path.suffix in SUFFIXES else path.with_name(path.name + ".yml")
    path = path if path.is_file() and not completed.exists() else completed
    packaged = PACKAGED_CONFIGS / path.name
    return packaged if path.parent in (Path(), Path("configs")) and not path.exists() and packaged.is_file() else path


def read_settings(paths: Iterable[str | Path]) -> tuple[list[Setting], list[str]]:
    """Return all files' settings in order, and the problems with the files.

    If a key occurs twice, its first setting is returned. Two files of the same name are a problem, because a checkpoint stores its
    configuration files by name.
    """
    settings: dict[str, Setting] = {}
    names: dict[str, Path] = {}
    problems = []
    for path in map(Path, paths):
        other = names.setdefault(path.name, path)
        if other is not path:
            problems.append(
                f"{other} and {path} have the same name, under which checkpoints keep them. Rename one, or give it once."
            )
            continue
        found, errors = read_file(path)
        problems.extend(errors)
        for setting in found:
            first = settings.setdefault(setting.key, setting)
            if first is not setting:
                problems.append(format_duplicate(setting.key, first.place, setting.place))
    return list(settings.values()), problems


def read_file(path: Path) -> tuple[list[Setting], list[str]]:
    """Return one file's settings (keys may repeat) and problems."""
    try:
        text = read_bounded(path, MOST_BYTES, "Check the name, and the folder given with -d.").decode()
    except DataError as error:
        return [], [str(error)]
    except UnicodeDecodeError as error:
        return [], [f"{path} is not UTF-8 text at byte {error.start}. Save it as UTF-8."]
    try:
        return parse_file(path, text.replace("\t", " ") if path.suffix == ".json" else text)
    except yaml.MarkedYAMLError as error:
        return [], [format_syntax_problem(path, error)]
    except yaml.YAMLError as error:
        return [], [f"{path} is not valid YAML: {' '.join(str(error).split())}. Correct or remove that part."]


def parse_file(path: Path, text: str) -> tuple[list[Setting], list[str]]:
    """Return the settings and problems of a file's text. Raise yaml.YAMLError."""
    loader = Loader(text)
    root = loader.get_single_node()
    if root is None:
        return [], []
    if not isinstance(root, yaml.MappingNode):
        kind = "a list" if isinstance(root, yaml.SequenceNode) else "a single value"
        return [], [f"{format_place(path, root)} begins {kind}. Write `key: value` lines."]
    problems = list(find_inner_duplicates(path, root))
    return [make_setting(path, loader, *pair) for pair in merge_pairs(loader, root)], problems


def merge_pairs(loader: Loader, root: yaml.MappingNode) -> list[tuple[yaml.Node, yaml.Node]]:
    """Return a file's keys and values, including those merged by `<<`. The file's own keys replace merged keys."""
    own = [pair for pair in root.value if not is_merge(pair[0])]
    loader.flatten_mapping(root)
    merged = {normalize_key(key): (key, value) for key, value in root.value[: len(root.value) - len(own)]}
    names = {normalize_key(key) for key, _ in own}
    return [*(pair for name, pair in merged.items() if name not in names), *own]


def is_merge(key: yaml.Node) -> bool:
    return key.tag == "tag:yaml.org,2002:merge"


def normalize_key(key: yaml.Node) -> str:
    return str(key.value).replace("-", "_")


def make_setting(path: Path, loader: Loader, key_node: yaml.Node, value_node: yaml.Node) -> Setting:
    key = str(loader.construct_object(key_node, deep=True)).replace("-", "_")
    value = loader.construct_object(value_node, deep=True)
    return Setting(key, value, format_place(path, key_node), dict(find_nested_places(path, value_node)))


def format_place(path: Path, node: yaml.Node) -> str:
    return f"{path}:{node.start_mark.line + 1}"


def find_nested_places(path: Path, node: yaml.Node, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield the dotted name and the place of each key within a dictionary."""
    if isinstance(node, yaml.MappingNode):
        for key_node, value_node in node.value:
            name = f"{prefix}{key_node.value}"
            yield name, format_place(path, key_node)
            yield from find_nested_places(path, value_node, f"{name}.")


def find_inner_duplicates(path: Path, root: yaml.MappingNode) -> Iterator[str]:
    """Yield a message for each key that occurs twice in a nested dictionary, where YAML would use the last value silently."""
    for top_node, top_value in root.value:
        if is_merge(top_node):
            continue
        seen: dict[str, str] = {}
        for name, where in find_nested_places(path, top_value):
            first = seen.setdefault(name, where)
            if first is not where:
                yield format_duplicate(f"{top_node.value}.{name}", first, where)


def format_duplicate(key: str, first: str, second: str) -> str:
    return f"{key} occurs twice, at {first} and at {second}. Remove one; to change a value for one run, use --set {key}=VALUE."


def format_syntax_problem(path: Path, error: yaml.MarkedYAMLError) -> str:
    mark = error.problem_mark or error.context_mark
    where = f"{path}:{mark.line + 1}" if mark else str(path)
    return f"{where} is not valid YAML: {error.problem or error.context}. Correct that line or the one before it."
