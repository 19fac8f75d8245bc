"""Find large projects, which are divided into subprojects, and draw a seeded sample of whole projects.

sizes = {"pkg/numpy": {"Python": 5_000_000, "C": 900_000}, ...}        bytes by language of each project
sample_projects(sizes, limit=64_000_000, seed=1234)                    the sampled projects
"""

import hashlib
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from os.path import commonprefix

LARGE_SHARE = 0.05
"""A project with more than this share of a language's bytes is divided."""

PROJECTS_TO_SPLIT = 3
"""Minimum number of projects for a split: one each for train, valid and test."""

Sizes = Mapping[str, Mapping[str, int]]
"""The bytes by language of each project."""


def sum_language_bytes(sizes: Sizes) -> Counter[str]:
    total: Counter[str] = Counter()
    for languages in sizes.values():
        total.update(languages)
    return total


def find_large_projects(sizes: Sizes, share: float = LARGE_SHARE) -> set[str]:
    """Return the projects that have more than `share` of the bytes of one of their languages.

    >>> sorted(find_large_projects({"a": {"C": 90}, "b": {"C": 4}, "c": {"C": 6, "Go": 1}}))
    ['a', 'c']
    """
    total = sum_language_bytes(sizes)
    return {
        project
        for project, languages in sizes.items()
        if any(size > share * total[language] for language, size in languages.items())
    }


def find_common_folder(paths: Iterable[str]) -> str:
    """Return the deepest folder that contains all paths, with a slash at the end; empty if there is none.

    >>> find_common_folder(["linux-6.1/fs/ext4.c", "linux-6.1/mm/slab.c"]), find_common_folder(["a.c"])
    ('linux-6.1/', '')
    """
    prefix = commonprefix(list(paths))  # noqa: RUF071
    return prefix[: prefix.rfind("/") + 1]


def locate_in_subproject(project: str, path: str, folder: str) -> tuple[str, str]:
    """Return the name of the subproject of a file, and the file's path in the subproject.

    Each folder directly below `folder`, the common folder of the project's files, is a subproject. Other files stay in the project.

    >>> locate_in_subproject("pkg/torch", "distributed/rpc/api.py", ""), locate_in_subproject("pkg/torch", "hub.py", "")
    (('pkg/torch/distributed', 'rpc/api.py'), ('pkg/torch', 'hub.py'))
    """
    if not path.startswith(folder):
        return project, path
    first, _, rest = path[len(folder) :].partition("/")
    return (f"{project}/{folder}{first}", rest) if rest else (project, path)


def shuffle_projects(projects: Iterable[str], seed: int, purpose: str) -> list[str]:
    """Return the projects in a pseudorandom order that depends only on their names, the seed and the purpose."""
    return sorted(projects, key=lambda project: (hashlib.sha256(f"{purpose}\0{seed}\0{project}".encode()).digest(), project))


def sample_projects(sizes: Sizes, limit: int | None, seed: int) -> set[str]:
    """Return a sample of whole projects with at most `limit` bytes in total; all projects if they fit.

    The quota of a language is a part of the limit, in proportion to the square root of the language's bytes: a rare language gets
    more than its share. Languages are processed from the rarest to the most frequent. Their projects are tried in a seeded order,
    and a project is taken if it brings the language nearer to its quota. If fewer than three projects are taken, the smallest
    others are taken too, so that the language can be split. Then further projects are taken in the same order until the limit.
    """
    total = sum_language_bytes(sizes)
    if limit is None or sum(total.values()) <= limit:
        return set(sizes)
    order = shuffle_projects(sizes, seed, "sample")
    taken: set[str] = set()
    taken_bytes: Counter[str] = Counter()

    def add_if_within_limit(project: str) -> bool:
        """Take a project if it is new and fits; return True if it was taken."""
        if project in taken or sum(taken_bytes.values()) + sum(sizes[project].values()) > limit:
            return False
        taken.add(project)
        taken_bytes.update(sizes[project])
        return True

    for language in sorted(total, key=lambda language: (total[language], language)):
        members = [project for project in order if language in sizes[project]]
        quota = limit * math.sqrt(total[language]) / sum(map(math.sqrt, total.values()))
        for project in members:
            if sizes[project][language] < 2 * (quota - taken_bytes[language]):
                add_if_within_limit(project)
        num_taken = len(taken.intersection(members))
        for project in sorted(members, key=lambda project: sizes[project][language]):
            if num_taken < PROJECTS_TO_SPLIT:
                num_taken += add_if_within_limit(project)
    for project in order:
        add_if_within_limit(project)
    return taken
