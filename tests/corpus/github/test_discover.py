"""The crawler against a server that imitates GitHub's GraphQL endpoint, including its limits and failures."""

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import date, timedelta
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from json_server import JsonServer

from neox_code.corpus.github.discover import PRESETS, Criteria, StarRange, crawl
from neox_code.corpus.github.graphql import GitHub
from neox_code.corpus.json_endpoint import parse_json_object
from neox_code.errors import DataError

TOKEN = "a-token"
TODAY = date(2024, 12, 31)
TOOL = Path(__file__).parents[3] / "tools" / "crawl_github.py"


def make_repository(number: int, language: str, stars: int, created: date, **more: Any) -> dict[str, Any]:
    return {
        "name": f"organization{number % 97}/project{number}",
        "language": language,
        "stars": stars,
        "created": created.isoformat(),
        "license": "MIT" if number % 2 else "GPL-3.0",
        "is_fork": number % 10 == 0,
        "commits": number % 7,
        "size": number % 1000,
        "pushed": f"{2018 + number % 6}-01-01",
        "is_private": False,
    } | more


def make_repositories(language: str, count: int, seed: int) -> list[dict[str, Any]]:
    """Return repositories with a realistic distribution of stars: most have few."""
    chance = random.Random(seed)
    start = date(2010, 1, 1)
    return [
        make_repository(
            seed * 100_000 + number, language, int(50 / (1 - chance.random()) ** 0.8), start + timedelta(chance.randrange(5000))
        )
        for number in range(count)
    ]


class GitHubServer(JsonServer):
    """Answer queries as GitHub's search does: at most 1,000 results, in pages of at most 100."""

    def __init__(self, repositories: list[dict[str, Any]]):
        self.repositories = repositories
        super().__init__()

    @property
    def endpoint(self) -> str:
        return f"{self.url}/graphql"

    @property
    def queries(self) -> list[str]:
        return [asked["variables"]["query"] for asked in self.asked]

    def refusal(self, path: str, authorization: str) -> tuple[int, Any] | None:
        return None if authorization == f"bearer {TOKEN}" else (401, {"message": "Bad credentials"})

    def answer(self, question: dict[str, Any]) -> Any:
        variables = question["variables"]
        rows = self.found(variables["query"])
        shown = rows[:1000]
        begin = int(variables["after"] or 0)
        end = begin + min(variables["first"], 100)
        return {
            "data": {
                "rateLimit": {"cost": 1, "remaining": 4000, "resetAt": "2024-01-01T00:00:00Z"},
                "search": {
                    "repositoryCount": len(rows),
                    "pageInfo": {"endCursor": str(end), "hasNextPage": end < len(shown)},
                    "nodes": [node(row, variables["commits"]) for row in shown[begin:end]],
                },
            }
        }

    def found(self, question: str) -> list[dict[str, Any]]:
        words = dict(word.split(":", 1) for word in re.findall(r'\w+:(?:"[^"]*"|\S+)', question))
        low, high = (int(part) for part in words["stars"].split(".."))
        first, last = words["created"].split("..") if "created" in words else ("0", "9")
        rows = [
            row
            for row in self.repositories
            if row["language"] == words["language"].strip('"')
            and low <= row["stars"] <= high
            and first <= row["created"] <= last
            and not (words["fork"] == "false" and row["is_fork"])
            and ("license" not in words or str(row["license"]).lower() == words["license"])
            and ("size" not in words or row["size"] <= int(words["size"].removeprefix("<=")))
            and ("pushed" not in words or row["pushed"] > words["pushed"].removeprefix(">"))
        ]
        return sorted(rows, key=lambda row: -row["stars"])


def node(row: dict[str, Any], commits: bool) -> dict[str, Any]:
    return {
        "nameWithOwner": row["name"],
        "url": f"https://github.com/{row['name']}",
        "stargazerCount": row["stars"],
        "isFork": row["is_fork"],
        "isPrivate": row["is_private"],
        "isDisabled": False,
        "isLocked": False,
        "diskUsage": row["size"],
        "pushedAt": f"{row['pushed']}T00:00:00Z",
        "licenseInfo": {"spdxId": row["license"]} if row["license"] else None,
        "primaryLanguage": {"name": row["language"]},
        "repositoryTopics": {"nodes": [{"topic": {"name": "code"}}]},
        "defaultBranchRef": {
            "name": "main",
            "target": {"oid": "0" * 40} | ({"history": {"totalCount": row["commits"]}} if commits else {}),
        },
    }


@pytest.fixture
def github() -> Iterator[GitHubServer]:
    with GitHubServer(make_repositories("Rust", 3000, 1) + make_repositories("Go", 1500, 2)) as server:
        yield server


def make_client(server: GitHubServer) -> tuple[GitHub, list[float]]:
    pauses: list[float] = []
    return GitHub(TOKEN, server.endpoint, sleep=pauses.append, clock=lambda: 1_000_000.0), pauses


def select_expected(server: GitHubServer, criteria: Criteria, language: str) -> list[tuple[str, int]]:
    """Return the repositories that the criteria select from all of the server's."""
    rows = [
        row
        for row in server.repositories
        if row["language"] == language and row["stars"] >= criteria.min_stars and (criteria.forks or not row["is_fork"])
    ]
    return sorted(((row["name"], row["stars"]) for row in rows), key=lambda row: (-row[1], row[0]))[: criteria.max_repositories]


def test_all_repositories_are_found_although_a_query_returns_a_thousand(github: GitHubServer, tmp_path: Path) -> None:
    criteria = Criteria(("Rust", "Go"))
    api, _ = make_client(github)
    rows = crawl(criteria, tmp_path / "repositories.jsonl", api, TODAY)
    for language in criteria.languages:
        found = [(row["name"], row["stars"]) for row in rows if row["language"] == language]
        assert found == select_expected(github, criteria, language)
    assert len([row for row in rows if row["language"] == "Rust"]) > 2000
    written = [json.loads(line) for line in (tmp_path / "repositories.jsonl").read_text().splitlines()]
    assert written == rows
    assert not list(tmp_path.glob("*.crawling"))


def test_a_star_count_with_more_than_a_thousand_repositories_is_split_by_days(tmp_path: Path) -> None:
    days = [date(2015, 1, 1) + timedelta(number % 400) for number in range(2500)]
    repositories = [make_repository(number, "Ruby", 50, days[number], is_fork=False) for number in range(2500)]
    with GitHubServer(repositories) as server:
        api, _ = make_client(server)
        rows = crawl(Criteria(("Ruby",)), tmp_path / "r.jsonl", api, TODAY)
        assert {row["name"] for row in rows} == {row["name"] for row in repositories}


def test_the_most_starred_are_found_without_reading_further_ranges(github: GitHubServer, tmp_path: Path) -> None:
    criteria = Criteria(("Rust",), max_repositories=300)
    api, _ = make_client(github)
    rows = crawl(criteria, tmp_path / "r.jsonl", api, TODAY)
    assert [(row["name"], row["stars"]) for row in rows] == select_expected(github, criteria, "Rust")
    assert len(github.queries) < 20
    assert not any(question.startswith('language:"Rust" stars:50..20') for question in github.queries)


def test_criteria_that_the_search_cannot_express_are_applied(github: GitHubServer, tmp_path: Path) -> None:
    api, _ = make_client(github)
    criteria = Criteria(("Go",), licenses=("MIT",), min_commits=3, max_size_kib=500)
    rows = crawl(criteria, tmp_path / "r.jsonl", api, TODAY)
    wanted = {
        row["name"]
        for row in github.repositories
        if row["language"] == "Go" and row["license"] == "MIT" and row["commits"] >= 3 and row["size"] <= 500 and not row["is_fork"]
    }
    assert {row["name"] for row in rows} == wanted


@pytest.mark.parametrize(
    ("preset", "words", "wanted"),
    [
        (
            "polycoder",
            'language:"Rust" stars:50..1000000 fork:false pushed:>2020-01-01',
            lambda row: row["stars"] >= 50 and row["pushed"] > "2020-01-01",
        ),
        (
            "code-clippy",
            'language:"Rust" stars:11..1000000 fork:false size:<=70707',
            lambda row: row["stars"] > 10 and row["commits"] > 2 and row["license"] and row["size"] < 70_708,
        ),
        (
            "godot-dodo",
            'language:"GDScript" stars:0..1000000 fork:false license:mit',
            lambda row: row["license"] == "MIT",
        ),
    ],
)
def test_presets_select_what_the_original_systems_selected(
    tmp_path: Path, preset: str, words: str, wanted: Callable[[dict[str, Any]], bool]
) -> None:
    known = [
        make_repository(number, language, stars, date(2015, 1, 1), license=license, size=size)
        for number, (language, stars, license, size) in enumerate(
            product(("Rust", "GDScript"), (0, 10, 11, 49, 50), ("MIT", "GPL-3.0", None), (70_707, 70_708))
        )
    ]
    criteria = replace(PRESETS[preset], languages=tuple(re.findall('"(.*)"', words)))
    with GitHubServer(known) as server:
        rows = crawl(criteria, tmp_path / "r.jsonl", make_client(server)[0], TODAY)
        assert {question.removesuffix(" sort:stars-desc") for question in server.queries} == {words}
    assert {row["name"] for row in rows} == {
        row["name"] for row in known if row["language"] == criteria.languages[0] and not row["is_fork"] and wanted(row)
    }
    assert rows and criteria.max_repositories == 25_000


def test_presets_of_several_languages_use_polycoders_twelve() -> None:
    languages = {"C", "C#", "C++", "Go", "Java", "JavaScript", "PHP", "Python", "Ruby", "Rust", "Scala", "TypeScript"}
    assert set(PRESETS["polycoder"].languages) == set(PRESETS["code-clippy"].languages) == languages


def test_private_repositories_are_not_listed(tmp_path: Path) -> None:
    repositories = [make_repository(number, "Rust", 60, date(2015, 1, 1), is_private=number % 3 == 0) for number in range(1, 9)]
    with GitHubServer(repositories) as server:
        rows = crawl(Criteria(("Rust",)), tmp_path / "r.jsonl", make_client(server)[0], TODAY)
    assert {row["name"] for row in rows} == {f"organization{number}/project{number}" for number in (1, 2, 4, 5, 7, 8)}


RESET = {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "1000300"}


@pytest.mark.parametrize(
    ("trouble", "pause"),
    [
        ((403, {"message": "You have exceeded a secondary rate limit."}, {"retry-after": "17"}), 17),
        ((403, {"message": "You have exceeded a secondary rate limit."}), 60),
        ((200, {"errors": [{"message": "You have exceeded a secondary rate limit."}]}), 60),
        ((429, {"message": "slow down"}, {"retry-after": "5"}), 5),
        ((403, {"message": "API rate limit exceeded"}, RESET), 301),
        ((200, {"errors": [{"type": "RATE_LIMITED", "message": "API rate limit exceeded"}]}, RESET), 301),
        ((502, {"message": "Bad Gateway"}), 2),
        ((200, {"data": None, "errors": [{"message": "Something went wrong while executing your query. Include `A0`."}]}), 2),
        ("drop", 2),
        ("half", 2),
    ],
)
def test_a_temporary_failure_is_retried_after_a_pause(github: GitHubServer, tmp_path: Path, trouble: Any, pause: float) -> None:
    api, pauses = make_client(github)
    github.trouble = [None, trouble, None, trouble]
    criteria = Criteria(("Rust",), max_repositories=500)
    rows = crawl(criteria, tmp_path / "r.jsonl", api, TODAY)
    assert [(row["name"], row["stars"]) for row in rows] == select_expected(github, criteria, "Rust")
    assert pauses == [pause, pause]


EXCEEDED = {
    "type": "RESOURCE_LIMITS_EXCEEDED",
    "path": ["search", "nodes", 7],
    "message": "Resource limits for this query exceeded.",
}


@pytest.mark.parametrize(
    ("trouble", "pauses"),
    [
        ([(502, {"message": "Something went wrong"})] * 3, [2, 4]),
        ([(200, {"data": {"search": {"nodes": [None]}}, "errors": [EXCEEDED]})], []),
    ],
)
def test_smaller_pages_are_requested_after_the_server_fails_on_large_ones(
    github: GitHubServer, tmp_path: Path, trouble: list[Any], pauses: list[float]
) -> None:
    api, paused = make_client(github)
    github.trouble = [*trouble, None, *trouble]
    criteria = Criteria(("Go",), max_repositories=400)
    rows = crawl(criteria, tmp_path / "r.jsonl", api, TODAY)
    assert [(row["name"], row["stars"]) for row in rows] == select_expected(github, criteria, "Go")
    sizes = [asked["variables"]["first"] for asked in github.asked]
    assert sizes[: 2 * len(trouble) + 1] == [100] * len(trouble) + [50] * (len(trouble) + 1)
    assert set(sizes[2 * len(trouble) + 1 :]) == {25}
    assert paused == pauses * 2


def test_a_failure_on_the_smallest_page_ends_the_crawl(github: GitHubServer, tmp_path: Path) -> None:
    api, _ = make_client(github)
    github.trouble = [(200, {"data": None, "errors": [EXCEEDED]})] * 6
    with pytest.raises(DataError, match=r"cannot complete queries for 5 repositories of Go\. Rerun the same command later"):
        crawl(Criteria(("Go",)), tmp_path / "r.jsonl", api, TODAY)
    assert [asked["variables"]["first"] for asked in github.asked] == [100, 50, 25, 12, 6, 5]


def test_repositories_without_access_are_skipped_and_logged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    class Guarded(GitHubServer):
        def answer(self, question: dict[str, Any]) -> Any:
            whole = super().answer(question)
            whole["data"]["search"]["nodes"][2] = None
            message = "Resource protected by organization SAML enforcement."
            return whole | {"errors": [{"type": "FORBIDDEN", "path": ["search", "nodes", 2], "message": message}]}

    with Guarded([make_repository(number, "Rust", 90 - number, date(2015, 1, 1), is_fork=False) for number in range(5)]) as server:
        rows = crawl(Criteria(("Rust",)), tmp_path / "r.jsonl", make_client(server)[0], TODAY)
    assert [row["stars"] for row in rows] == [90, 89, 87, 86]
    assert "GitHub left out 1 parts of its answer: Resource protected" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("trouble", "word"),
    [
        ((200, {"errors": [{"type": "SOMETHING", "message": "Field 'x' does not exist"}]}), "does not exist"),
        ((403, {"message": "Resource not accessible by integration"}), "not accessible"),
    ],
)
def test_a_refused_query_ends_the_crawl_with_its_message_and_a_rerun_resumes(
    github: GitHubServer, tmp_path: Path, trouble: Any, word: str
) -> None:
    output = tmp_path / "r.jsonl"
    api, _ = make_client(github)
    github.trouble = [*[None] * 12, trouble]
    with pytest.raises(DataError, match=word):
        crawl(Criteria(("Rust",)), output, api, TODAY)
    assert not output.exists()
    before = len(github.queries)
    rows = crawl(Criteria(("Rust",)), output, api, TODAY)
    assert [(row["name"], row["stars"]) for row in rows] == select_expected(github, Criteria(("Rust",)), "Rust")
    whole, _ = make_client(github)
    again = len(github.queries)
    crawl(Criteria(("Rust",)), tmp_path / "again.jsonl", whole, TODAY)
    assert again - before < len(github.queries) - again
    assert output.read_bytes() == (tmp_path / "again.jsonl").read_bytes()


def test_a_crawl_is_not_resumed_with_other_criteria(github: GitHubServer, tmp_path: Path) -> None:
    api, _ = make_client(github)
    github.trouble = [None] * 5 + [(400, {"message": "no"})]
    with pytest.raises(DataError):
        crawl(Criteria(("Rust",)), tmp_path / "r.jsonl", api, TODAY)
    with pytest.raises(DataError, match="other criteria"):
        crawl(Criteria(("Rust",), min_stars=60), tmp_path / "r.jsonl", api, TODAY)


def test_criteria_without_results_can_be_changed(github: GitHubServer, tmp_path: Path) -> None:
    output = tmp_path / "r.jsonl"
    with pytest.raises(DataError, match=r"no repository fits the criteria\. Lower --min-stars"):
        crawl(Criteria(("Rust",), min_stars=900_000), output, make_client(github)[0], TODAY)
    assert crawl(Criteria(("Rust",), max_repositories=5), output, make_client(github)[0], TODAY)


def test_a_rejected_token_ends_the_crawl_at_once(github: GitHubServer, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="GITHUB_TOKEN"):
        crawl(PRESETS["godot-dodo"], tmp_path / "r.jsonl", GitHub("wrong", github.endpoint), TODAY)


def test_the_token_is_not_sent_in_clear_text_or_to_an_invalid_address() -> None:
    with pytest.raises(DataError, match=r"in clear text\. Give an address that begins with https"):
        GitHub(TOKEN, "http://example.org/graphql")
    for endpoint in ("api.github.com", "ftp://example.org", "https://", "https://[::1", "https://example.org:port/graphql"):
        with pytest.raises(DataError, match=r"is not a web address\. Give one that begins with https"):
            GitHub(TOKEN, endpoint)


def test_a_token_with_a_line_end_is_refused_and_not_printed() -> None:
    with pytest.raises(DataError, match=r"the header Authorization holds a line end .*Set the token or key again") as caught:
        GitHub("secret\nsecret", "https://example.org/graphql")
    assert "secret" not in str(caught.value)


def test_an_answer_that_is_nested_too_deeply_is_rejected() -> None:
    with pytest.raises(ValueError, match="nested too deeply"):
        parse_json_object(b'{"a":' * 100_000)


def test_ranges_split_into_disjoint_halves_that_cover_them() -> None:
    stars = StarRange(50, 51)
    assert stars.split(TODAY) == (StarRange(51, 51), StarRange(50, 50))
    days = [StarRange(7, 7)]
    leaves = []
    while days:
        part = days.pop()
        if part.days and part.days[0] == part.days[1]:
            leaves.append(part.days[0])
        else:
            days += part.split(date(2008, 1, 10))
    assert sorted(leaves) == [(date(2007, 10, 1) + timedelta(number)).isoformat() for number in range(len(leaves))]
    assert len(leaves) == (date(2008, 1, 10) - date(2007, 10, 1)).days + 1


def test_a_killed_command_resumes(github: GitHubServer, tmp_path: Path) -> None:
    output = tmp_path / "repositories.jsonl"
    command = [
        *(sys.executable, str(TOOL), "--languages", "Rust,Go", "--min-stars", "50", "--no-forks"),
        *("--endpoint", github.endpoint, "--output", str(output)),
    ]
    environment = os.environ | {"GITHUB_TOKEN": TOKEN}
    github.delay = 0.02
    process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    partial = output.with_name("repositories.jsonl.crawling")
    until = time.monotonic() + 60
    while time.monotonic() < until and (not partial.exists() or partial.read_text().count('"stars"') < 500):
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not output.exists()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert "resuming with" in done.stderr
    rows = [json.loads(line) for line in output.read_text().splitlines()]
    for language in ("Rust", "Go"):
        found = [(row["name"], row["stars"]) for row in rows if row["language"] == language]
        assert found == select_expected(github, Criteria((language,)), language)
    without_token = subprocess.run(command, env={**environment, "GITHUB_TOKEN": ""}, capture_output=True, text=True, check=False)
    assert without_token.returncode == 2 and "GITHUB_TOKEN" in without_token.stderr


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ([], "no languages. Give --languages, or --preset with one of polycoder, code-clippy, godot-dodo."),
        (["--preset", "polycoder", "--min-stars", "-1"], "--min-stars: -1 is not a whole number of at least 0"),
        (["--preset", "polycoder", "--max-repositories", "0"], "--max-repositories: 0 is not a whole number above 0"),
        (["--preset", "polycoder", "--languages", ","], "--languages: ',' contains no name"),
        (["--preset", "polycoder", "--pushed-after", "yesterday"], "--pushed-after: invalid day value: 'yesterday'"),
    ],
)
def test_invalid_options_are_reported(tmp_path: Path, options: list[str], words: str) -> None:
    command = [sys.executable, str(TOOL), *options, "--output", str(tmp_path / "r.jsonl")]
    done = subprocess.run(command, env=os.environ | {"GITHUB_TOKEN": TOKEN}, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert words in done.stderr
    assert not list(tmp_path.iterdir())
