"""Find GitHub repositories by language and stars, although GitHub's search returns at most 1,000 results per query.

    crawl(PRESETS["polycoder"], Path("repositories.jsonl"), GitHub(read_token()))

The search is divided into ranges of stars with at most 1,000 repositories each. If a single number of stars has more repositories,
it is divided into ranges of creation days. Ranges are read from the most stars down. The repositories of a range are written to
`repositories.jsonl.crawling` before the next range is requested, and a rerun resumes after the last range. `make_row` shows the
rows.
"""

import dataclasses
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import IO, Any

from neox_code.corpus.github.graphql import GitHub, QueryTooLarge
from neox_code.corpus.languages.polycoder_names import LANGUAGES
from neox_code.errors import DataError
from neox_code.files import read_json_lines, write_json_lines
from neox_code.logs import format_plural, get_logger, progress

log = get_logger(__name__)

SEARCH_LIMIT = 1000
"""Maximum number of results that GitHub returns for one query."""

SMALLEST_PAGE = 5
MOST_STARS = 1_000_000
FIRST_DAY = date(2007, 10, 1)
"""Earliest creation day: that of GitHub's own first repositories."""

SEARCH = """
query($query: String!, $first: Int!, $after: String, $commits: Boolean!) {
  rateLimit { cost remaining resetAt }
  search(query: $query, type: REPOSITORY, first: $first, after: $after) {
    repositoryCount
    pageInfo { endCursor hasNextPage }
    nodes { ... on Repository {
      nameWithOwner url stargazerCount isFork isPrivate isDisabled isLocked diskUsage pushedAt
      licenseInfo { spdxId }
      primaryLanguage { name }
      repositoryTopics(first: 20) { nodes { topic { name } } }
      defaultBranchRef { name target { oid ... on Commit @include(if: $commits) { history { totalCount } } } }
    } }
  }
}
"""


@dataclass(frozen=True)
class Criteria:
    """Criteria for repositories. Private, disabled and locked repositories are always left out."""

    languages: tuple[str, ...]
    min_stars: int = 50
    max_repositories: int = 25_000
    """Maximum number of repositories per language. Those with the most stars are taken."""
    licenses: tuple[str, ...] = ()
    """SPDX identifiers of the allowed licenses; if empty, repositories with any license or none are allowed."""
    has_license: bool = False
    min_commits: int = 0
    forks: bool = False
    max_size_kib: int | None = None
    pushed_after: str | None = None
    """Date YYYY-MM-DD; the last push must be on a later day."""

    def format_query(self, language: str, stars: "StarRange") -> str:
        """Return the query in the syntax of GitHub's search."""
        terms = [f'language:"{language}"', f"stars:{stars.low}..{stars.high}", f"fork:{str(self.forks).lower()}"]
        if self.max_size_kib is not None:
            terms.append(f"size:<={self.max_size_kib}")
        if self.pushed_after is not None:
            terms.append(f"pushed:>{self.pushed_after}")
        if len(self.licenses) == 1:
            terms.append(f"license:{self.licenses[0].lower()}")
        if stars.days is not None:
            terms.append(f"created:{stars.days[0]}..{stars.days[1]}")
        return " ".join(terms)

    def is_met_by(self, row: Mapping[str, Any]) -> bool:
        """Return True if a repository's row meets the criteria that GitHub's search cannot express."""
        allowed = {name.lower() for name in self.licenses}
        return (
            (not allowed or str(row["license"]).lower() in allowed)
            and (row["license"] is not None or not self.has_license)
            and (not self.min_commits or (row["commits"] or 0) >= self.min_commits)
            and (self.forks or not row["is_fork"])
        )


PRESETS = {
    # Xu et al. 2022, section 4.1; the day is that of Code-LMs' gh_crawler.py
    "polycoder": Criteria(LANGUAGES, pushed_after="2020-01-01"),
    # GPT-Code-Clippy's README; its "70708 bytes" are KiB, or half of the repositories that its notebook counts had under 712 bytes
    "code-clippy": Criteria(LANGUAGES, min_stars=11, min_commits=3, has_license=True, max_size_kib=70_707),
    "godot-dodo": Criteria(("GDScript",), min_stars=0, licenses=("MIT",)),
}
"""Name of a published corpus -> its criteria for repositories."""


@dataclass(frozen=True, order=True)
class StarRange:
    """A range of stars, `low` to `high`. If both are equal, `days` can limit the range to repositories created on some days."""

    low: int
    high: int
    days: tuple[str, str] | None = None
    """First and last day of creation, YYYY-MM-DD; None for all days."""

    def split(self, today: date) -> tuple["StarRange", "StarRange"]:
        """Divide the range in two; return first the half with more stars (or later days). Raise DataError for a single day.

        >>> StarRange(50, 800).split(date(2026, 1, 1))
        (StarRange(low=202, high=800, days=None), StarRange(low=50, high=201, days=None))
        """
        if self.low < self.high:
            middle = min(max(int(((self.low + 1) * (self.high + 1)) ** 0.5), self.low + 1), self.high)
            return StarRange(middle, self.high), StarRange(self.low, middle - 1)
        first, last = map(date.fromisoformat, self.days or (FIRST_DAY.isoformat(), today.isoformat()))
        if first >= last:
            raise DataError(
                f"more than {SEARCH_LIMIT:,} repositories with {self.low} stars were created on {first}. Raise --min-stars."
            )
        middle_day = first + (last - first + timedelta(days=1)) / 2
        return (
            StarRange(self.low, self.high, (middle_day.isoformat(), last.isoformat())),
            StarRange(self.low, self.high, (first.isoformat(), (middle_day - timedelta(days=1)).isoformat())),
        )


def crawl(criteria: Criteria, output: Path, api: GitHub, today: date | None = None) -> list[dict[str, Any]]:
    """Write the repositories to `output` and return them, sorted by language, descending stars and name.

    Raise DataError if `output` exists, if it was begun with other criteria, or if GitHub refuses a request.
    """
    if output.exists():
        raise DataError(f"{output} exists. Choose another --output, or remove it.")
    found: list[dict[str, Any]] = []
    with CrawlJournal(output, criteria, api.endpoint) as journal:
        total = len(criteria.languages) * criteria.max_repositories
        with progress("repositories", total, " repositories", done=len(journal.rows)) as advance:
            for number, language in enumerate(criteria.languages, 1):
                for num_new, num_expected in crawl_language(criteria, language, api, journal, today or date.today()):
                    total = min(total, (len(criteria.languages) - number) * criteria.max_repositories + len(found) + num_expected)
                    advance(num_new, total)
                found += select_rows(journal.rows, criteria, language)
    if found:
        write_json_lines(output, found)
    journal.path.unlink()
    if not found:
        raise DataError("no repository fits the criteria. Lower --min-stars, or leave a criterion out.")
    return found


def select_rows(rows: Sequence[Mapping[str, Any]], criteria: Criteria, language: str) -> list[dict[str, Any]]:
    """Return at most `max_repositories` rows of a language: those with the most stars, in descending order.

    If a repository has several rows, because its stars changed during the crawl, its last row is used.
    """
    by_name = {row["name"]: dict(row) for row in rows if row["language"] == language}
    order = sorted(by_name.values(), key=lambda row: (-row["stars"], row["name"]))
    return order[: criteria.max_repositories]


def crawl_language(
    criteria: Criteria, language: str, api: GitHub, journal: "CrawlJournal", today: date
) -> Iterator[tuple[int, int]]:
    """Read ranges of stars, from the most stars down, until `max_repositories` rows are found.

    Yield after each range the number of rows that it added, and the expected total number of rows of the language.
    """
    ranges = [StarRange(criteria.min_stars, MOST_STARS)]
    total: int | None = None
    while ranges and (num_before := len(select_rows(journal.rows, criteria, language))) < criteria.max_repositories:
        stars = ranges.pop()
        was_read = journal.ranges.get(make_key(language, stars))
        if was_read:
            continue
        if was_read is None:
            count, rows = crawl_star_range(criteria, language, stars, api)
            total = count if total is None else total
            journal.add(language, stars, None if rows is None else [row for row in rows if criteria.is_met_by(row)])
            if rows is not None:
                yield len(select_rows(journal.rows, criteria, language)) - num_before, min(total, criteria.max_repositories)
                continue
        ranges += reversed(stars.split(today))


def crawl_star_range(criteria: Criteria, language: str, stars: StarRange, api: GitHub) -> tuple[int, list[dict[str, Any]] | None]:
    """Return the number of repositories in the range and their rows; None instead of rows if there are more than SEARCH_LIMIT."""
    rows: dict[str, dict[str, Any]] = {}
    after = None
    query = f"{criteria.format_query(language, stars)} sort:stars-desc"
    while True:
        try:
            data = api.query(SEARCH, {"query": query, "first": api.page, "after": after, "commits": criteria.min_commits > 0})
        except QueryTooLarge:
            if api.page == SMALLEST_PAGE:
                raise DataError(
                    f"GitHub cannot complete queries for {api.page} repositories of {language}. "
                    "Rerun the same command later to resume."
                ) from None
            api.page = max(api.page // 2, SMALLEST_PAGE)
            log.info("GitHub cannot complete the query; requesting %d repositories at a time", api.page)
            continue
        search = data["search"]
        if search["repositoryCount"] > SEARCH_LIMIT:
            return search["repositoryCount"], None
        for node in search["nodes"]:
            if node and not (node["isPrivate"] or node["isDisabled"] or node["isLocked"]):
                rows[node["nameWithOwner"]] = make_row(node, language)
        if not search["pageInfo"]["hasNextPage"]:
            return search["repositoryCount"], list(rows.values())
        after = search["pageInfo"]["endCursor"]


def make_row(node: Mapping[str, Any], language: str) -> dict[str, Any]:
    """Return the row of a repository, as tools/build_corpus.py reads it. `language` is the language of the query."""
    branch = node.get("defaultBranchRef") or {}
    target = branch.get("target") or {}
    spdx = (node.get("licenseInfo") or {}).get("spdxId")
    return {
        "name": node["nameWithOwner"],
        "url": f"{node['url']}.git",
        "language": language,
        "stars": node["stargazerCount"],
        "license": None if spdx in (None, "NOASSERTION") else spdx,
        "default_branch": branch.get("name"),
        "commit": target.get("oid"),
        "is_fork": node["isFork"],
        "commits": (target.get("history") or {}).get("totalCount"),
        "size_kib": node["diskUsage"],
        "pushed_at": node["pushedAt"],
        "topics": [topic["topic"]["name"] for topic in (node.get("repositoryTopics") or {}).get("nodes") or ()],
    }


class CrawlJournal:
    """The state of a crawl on disk, one JSON object per line. If the last line is incomplete, it is dropped on resume.

    {"criteria": ..., "endpoint": ...}
    {"window": ["Rust", 200, 800, null], "rows": [...]}        a range that was read
    {"window": ["Rust", 50, 800, null], "rows": null}          a range that was split
    """

    def __init__(self, output: Path, criteria: Criteria, endpoint: str):
        self.path = output.with_name(f"{output.name}.crawling")
        self.head = json.loads(json.dumps({"criteria": dataclasses.asdict(criteria), "endpoint": endpoint}))
        self.rows: list[dict[str, Any]] = []
        self.ranges: dict[tuple[Any, ...], bool] = {}
        """Range -> True if it was read, False if it was split."""
        self.file: IO[str] | None = None

    def __enter__(self) -> "CrawlJournal":
        self.path.parent.mkdir(parents=True, exist_ok=True)
        lines = list(read_json_lines(self.path)) if self.path.exists() else []
        if lines and lines[0] != self.head:
            raise DataError(
                f"{self.path} was begun with other criteria. Give the same criteria to resume, or remove the file to start over."
            )
        for line in lines[1:]:
            self.load(line)
        write_json_lines(self.path, lines or [self.head])
        if lines:
            log.info("resuming with %s of the earlier run", format_plural(len(self.rows), "repository"))
        self.file = self.path.open("a", encoding="utf-8")
        return self

    def __exit__(self, *exception: object) -> None:
        assert self.file is not None
        self.file.close()

    def load(self, line: Mapping[str, Any]) -> None:
        self.ranges[tuple(map(str, line["window"]))] = line["rows"] is not None
        self.rows += line["rows"] or []

    def add(self, language: str, stars: StarRange, rows: list[dict[str, Any]] | None) -> None:
        """Write a range to the journal: its rows if it was read, None if it was split."""
        assert self.file is not None
        line = json.loads(json.dumps({"window": [language, *dataclasses.astuple(stars)], "rows": rows}))
        self.file.write(json.dumps(line, ensure_ascii=False) + "\n")
        self.file.flush()
        os.fsync(self.file.fileno())
        self.load(line)


def make_key(language: str, stars: StarRange) -> tuple[str, ...]:
    return tuple(map(str, (language, stars.low, stars.high, list(stars.days) if stars.days else None)))
