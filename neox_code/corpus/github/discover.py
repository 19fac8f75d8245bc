"""Repositories of GitHub by language and stars, in spite of its search, which shows no more than 1,000 results of any question.

    crawl(PRESETS["polycoder"], Path("repositories.jsonl"), GitHub(token_from_environment()))

The stars are divided into windows of at most 1,000 repositories, a single count with more by the day of creation, and the windows
are read from the most stars down. What a window held is on disk before the next is asked for, in `repositories.jsonl.crawling`; a
run that was killed or gave up goes on there. Rows are described at `row_of`.
"""

import dataclasses
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import IO, Any

from neox_code.corpus.github.graphql import GitHub, TooLarge
from neox_code.corpus.languages.polycoder_names import LANGUAGES
from neox_code.errors import DataError
from neox_code.files import read_json_lines, write_json_lines
from neox_code.logs import get_logger, progress

log = get_logger(__name__)

SEARCH_LIMIT = 1000
"""Results that GitHub shows of one question."""

SMALLEST_PAGE = 5
MOST_STARS = 1_000_000
FIRST_DAY = date(2007, 10, 1)
"""GitHub's own first repositories."""

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
    """Which repositories are wanted; private, disabled and locked ones never are."""

    languages: tuple[str, ...]
    min_stars: int = 50
    max_repositories: int = 25_000
    """Of each language, those with the most stars."""
    licenses: tuple[str, ...] = ()
    """SPDX identifiers, one of which it must have; empty: any or none."""
    has_license: bool = False
    min_commits: int = 0
    forks: bool = False
    max_size_kib: int | None = None
    pushed_after: str | None = None
    """YYYY-MM-DD: the day that the last push must be later than."""

    def question(self, language: str, window: "Window") -> str:
        """In the words of GitHub's search."""
        words = [f'language:"{language}"', f"stars:{window.low}..{window.high}", f"fork:{str(self.forks).lower()}"]
        if self.max_size_kib is not None:
            words.append(f"size:<={self.max_size_kib}")
        if self.pushed_after is not None:
            words.append(f"pushed:>{self.pushed_after}")
        if len(self.licenses) == 1:
            words.append(f"license:{self.licenses[0].lower()}")
        if window.days is not None:
            words.append(f"created:{window.days[0]}..{window.days[1]}")
        return " ".join(words)

    def wants(self, row: Mapping[str, Any]) -> bool:
        """Whether a row passes what the search cannot be asked."""
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
"""The criteria of the systems whose corpora these were."""


@dataclass(frozen=True, order=True)
class Window:
    """Repositories with `low` to `high` stars; of one count of stars, perhaps only those created on some days."""

    low: int
    high: int
    days: tuple[str, str] | None = None
    """First and last, YYYY-MM-DD."""

    def halves(self, today: date) -> tuple["Window", "Window"]:
        """The part with more stars (or the later days), and the other. Raises DataError where there is nothing to divide.

        >>> Window(50, 800).halves(date(2026, 1, 1))
        (Window(low=202, high=800, days=None), Window(low=50, high=201, days=None))
        """
        if self.low < self.high:
            middle = min(max(int(((self.low + 1) * (self.high + 1)) ** 0.5), self.low + 1), self.high)
            return Window(middle, self.high), Window(self.low, middle - 1)
        first, last = map(date.fromisoformat, self.days or (FIRST_DAY.isoformat(), today.isoformat()))
        if first >= last:
            raise DataError(
                f"more than {SEARCH_LIMIT:,} repositories with {self.low} stars were created on {first}. Raise --min-stars."
            )
        middle_day = first + (last - first + timedelta(days=1)) / 2
        return (
            Window(self.low, self.high, (middle_day.isoformat(), last.isoformat())),
            Window(self.low, self.high, (first.isoformat(), (middle_day - timedelta(days=1)).isoformat())),
        )


def crawl(criteria: Criteria, output: Path, api: GitHub, today: date | None = None) -> list[dict[str, Any]]:
    """Writes the wanted repositories to `output` and returns them: by language, most stars first, then by name.

    Raises DataError where `output` exists, or was begun with other criteria, or GitHub refuses.
    """
    if output.exists():
        raise DataError(f"{output} exists. Choose another --output, or remove it.")
    found: list[dict[str, Any]] = []
    with Diary(output, criteria, api.endpoint) as diary:
        total = len(criteria.languages) * criteria.max_repositories
        with progress("repositories", total, " repositories", done=len(diary.rows)) as advance:
            for number, language in enumerate(criteria.languages, 1):
                for new, whole in read_language(criteria, language, api, diary, today or date.today()):
                    total = min(total, (len(criteria.languages) - number) * criteria.max_repositories + len(found) + whole)
                    advance(new, total)
                found += chosen(diary.rows, criteria, language)
    if found:
        write_json_lines(output, found)
    diary.path.unlink()
    if not found:
        raise DataError("no repository fits the criteria. Lower --min-stars, or leave a criterion out.")
    return found


def chosen(rows: Sequence[Mapping[str, Any]], criteria: Criteria, language: str) -> list[dict[str, Any]]:
    """The rows of a language that are kept; of a repository that two windows show (its stars changed meanwhile) the last."""
    by_name = {row["name"]: dict(row) for row in rows if row["language"] == language}
    order = sorted(by_name.values(), key=lambda row: (-row["stars"], row["name"]))
    return order[: criteria.max_repositories]


def read_language(criteria: Criteria, language: str, api: GitHub, diary: "Diary", today: date) -> Iterator[tuple[int, int]]:
    """Reads windows from the most stars down until there is enough; yields how many each adds, and how many there are in all."""
    windows = [Window(criteria.min_stars, MOST_STARS)]
    whole: int | None = None
    while windows and (known := len(chosen(diary.rows, criteria, language))) < criteria.max_repositories:
        window = windows.pop()
        if diary.has(language, window):
            continue
        if diary.was_divided(language, window):
            windows += reversed(window.halves(today))
            continue
        count, rows = read_window(criteria, language, window, api)
        whole = count if whole is None else whole
        if rows is None:
            diary.note_division(language, window)
            windows += reversed(window.halves(today))
            continue
        wanted = [row for row in rows if criteria.wants(row)]
        diary.note_rows(language, window, wanted)
        yield len(chosen(diary.rows, criteria, language)) - known, min(whole, criteria.max_repositories)


def read_window(criteria: Criteria, language: str, window: Window, api: GitHub) -> tuple[int, list[dict[str, Any]] | None]:
    """How many repositories the window has, and their rows; None for rows where there are more than the search shows."""
    rows: dict[str, dict[str, Any]] = {}
    after = None
    question = f"{criteria.question(language, window)} sort:stars-desc"
    while True:
        try:
            data = api.ask(SEARCH, {"query": question, "first": api.page, "after": after, "commits": criteria.min_commits > 0})
        except TooLarge:
            if api.page == SMALLEST_PAGE:
                raise DataError(
                    f"GitHub gives up on pages of {api.page} repositories of {language}. Run the same command later: it goes on."
                ) from None
            api.page = max(api.page // 2, SMALLEST_PAGE)
            log.info("GitHub gives up; asking for %d repositories at a time", api.page)
            continue
        search = data["search"]
        if search["repositoryCount"] > SEARCH_LIMIT:
            return search["repositoryCount"], None
        for node in search["nodes"]:
            if node and not (node["isPrivate"] or node["isDisabled"] or node["isLocked"]):
                rows[node["nameWithOwner"]] = row_of(node, language)
        if not search["pageInfo"]["hasNextPage"]:
            return search["repositoryCount"], list(rows.values())
        after = search["pageInfo"]["endCursor"]


def row_of(node: Mapping[str, Any], language: str) -> dict[str, Any]:
    """A repository as tools/build_corpus.py reads it; `language` is the one that was asked for, which is GitHub's for it."""
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


class Diary:
    """What a crawl has found so far, a JSON object a line; a line that was cut off in mid-write is written again.

    {"criteria": ..., "endpoint": ...}
    {"window": ["Rust", 200, 800, null], "rows": [...]}        read
    {"window": ["Rust", 50, 800, null], "rows": null}          divided
    """

    def __init__(self, output: Path, criteria: Criteria, endpoint: str):
        self.path = output.with_name(f"{output.name}.crawling")
        self.head = json.loads(json.dumps({"criteria": dataclasses.asdict(criteria), "endpoint": endpoint}))
        self.rows: list[dict[str, Any]] = []
        self.windows: dict[tuple[Any, ...], bool] = {}
        self.file: IO[str] | None = None

    def __enter__(self) -> "Diary":
        self.path.parent.mkdir(parents=True, exist_ok=True)
        lines = list(read_json_lines(self.path)) if self.path.exists() else []
        if lines and lines[0] != self.head:
            raise DataError(
                f"{self.path} was begun with other criteria. Give the same ones to go on, or remove the file to begin anew."
            )
        for line in lines[1:]:
            self.take(line)
        write_json_lines(self.path, lines or [self.head])
        if lines:
            log.info("going on: %s repositories are known already", f"{len(self.rows):,}")
        self.file = self.path.open("a", encoding="utf-8")
        return self

    def __exit__(self, *exception: object) -> None:
        assert self.file is not None
        self.file.close()

    def take(self, line: Mapping[str, Any]) -> None:
        self.windows[tuple(map(str, line["window"]))] = line["rows"] is not None
        self.rows += line["rows"] or []

    def has(self, language: str, window: Window) -> bool:
        return self.windows.get(key_of(language, window)) is True

    def was_divided(self, language: str, window: Window) -> bool:
        return self.windows.get(key_of(language, window)) is False

    def note_rows(self, language: str, window: Window, rows: list[dict[str, Any]]) -> None:
        self.note({"window": [language, *dataclasses.astuple(window)], "rows": rows})

    def note_division(self, language: str, window: Window) -> None:
        self.note({"window": [language, *dataclasses.astuple(window)], "rows": None})

    def note(self, line: dict[str, Any]) -> None:
        assert self.file is not None
        line = json.loads(json.dumps(line))
        self.file.write(json.dumps(line, ensure_ascii=False) + "\n")
        self.file.flush()
        os.fsync(self.file.fileno())
        self.take(line)


def key_of(language: str, window: Window) -> tuple[str, ...]:
    return tuple(map(str, (language, window.low, window.high, list(window.days) if window.days else None)))
