import pytest

from neox_code.corpus.filters.repository import HasLicense, MaxSize, MinCommits, MinStars, NoForks
from neox_code.corpus.licenses.license import AllowedLicenses

ROW = {"name": "a/b", "stars": 50, "license": "MIT", "is_fork": False, "commits": 3, "size_kib": 1_000}
FILTERS = [MinStars(50), MinCommits(3), MaxSize(1_000), NoForks(), HasLicense(), HasLicense(AllowedLicenses())]


@pytest.mark.parametrize("rule", FILTERS, ids=lambda rule: rule.name)
def test_limits_include_their_bounds(rule):
    assert rule.keep(ROW) is True


@pytest.mark.parametrize(
    ("change", "reasons"),
    [
        ({"stars": 49}, {"under 50 stars"}),
        ({"commits": 0}, {"under 3 commits"}),
        ({"size_kib": 1_001}, {"repository over 1,000 KiB"}),
        ({"is_fork": True}, {"fork"}),
        ({"license": None}, {"repository without a license"}),
        ({"license": "GPL-3.0"}, {"license of the repository not allowed"}),
        ({"stars": None, "commits": None, "size_kib": None}, set()),
    ],
)
def test_a_repository_is_dropped_by_the_values_of_its_row(change, reasons):
    assert {verdict for rule in FILTERS if isinstance(verdict := rule.keep(ROW | change), str)} == reasons


def test_an_empty_row_is_dropped_only_for_its_license():
    assert {rule.keep({"name": "a/b"}) for rule in FILTERS} == {True, "repository without a license"}
