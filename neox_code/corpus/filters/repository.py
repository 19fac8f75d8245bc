"""Filters by a repository's row in a list of repositories: repositories.jsonl, as tools/crawl_github.py writes it.

    Recipe(..., repositories=(MinStars(11), NoForks(), HasLicense()))

If a row lacks the value (no such key, or null), the repository is kept, unless the filter's docstring states otherwise.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from neox_code.corpus.licenses.license import AllowedLicenses


@dataclass(frozen=True)
class MinStars:
    """Keep repositories with at least `limit` stars.

    >>> MinStars(50).keep({"name": "a/b", "stars": 49}), MinStars(50).keep({"name": "a/b", "stars": None})
    ('under 50 stars', True)
    """

    limit: int
    name = "minimal number of stars"

    def keep(self, row: Mapping[str, Any]) -> Literal[True] | str:
        return is_at_least(row.get("stars"), self.limit) or f"under {self.limit:,} stars"


@dataclass(frozen=True)
class MinCommits:
    """Keep repositories with at least `limit` commits on the default branch.

    >>> MinCommits(3).keep({"name": "a/b", "commits": 2})
    'under 3 commits'
    """

    limit: int
    name = "minimal number of commits"

    def keep(self, row: Mapping[str, Any]) -> Literal[True] | str:
        return is_at_least(row.get("commits"), self.limit) or f"under {self.limit:,} commits"


@dataclass(frozen=True)
class MaxSize:
    """Keep repositories of at most `kib` KiB, as GitHub counts them.

    >>> MaxSize(1_000).keep({"name": "a/b", "size_kib": 1_001})
    'repository over 1,000 KiB'
    """

    kib: int
    name = "maximal size of a repository"

    def keep(self, row: Mapping[str, Any]) -> Literal[True] | str:
        size = row.get("size_kib")
        return size is None or size <= self.kib or f"repository over {self.kib:,} KiB"


@dataclass(frozen=True)
class NoForks:
    """Drop forks.

    >>> NoForks().keep({"name": "a/b", "is_fork": True})
    'fork'
    """

    name = "no forks"

    def keep(self, row: Mapping[str, Any]) -> Literal[True] | str:
        return not row.get("is_fork") or "fork"


@dataclass(frozen=True)
class HasLicense:
    """Keep repositories with a license. If `allowed` is given, it must allow the license. A row without a license is dropped.

    >>> [HasLicense().keep({"license": license}) for license in (None, "NOASSERTION", "GPL-3.0")]
    ['repository without a license', 'repository without a license', True]
    >>> HasLicense(AllowedLicenses(("MIT",))).keep({"license": "GPL-3.0"})
    'license of the repository not allowed'
    """

    allowed: AllowedLicenses | None = None
    name = "a license"

    def keep(self, row: Mapping[str, Any]) -> Literal[True] | str:
        license = row.get("license")
        if license in (None, "", "NOASSERTION", "NONE"):  # the last two are SPDX's "no assertion" and GitHub's "other"
            return "repository without a license"
        return self.allowed is None or self.allowed.find_drop_reason(license) is None or "license of the repository not allowed"


def is_at_least(value: float | None, limit: float) -> bool:
    return value is None or value >= limit
