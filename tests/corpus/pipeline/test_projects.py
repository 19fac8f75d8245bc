import math
import random

import pytest

from neox_code.corpus.pipeline.projects import (
    find_common_folder,
    find_large_projects,
    locate_in_subproject,
    sample_projects,
    shuffle_projects,
    sum_language_bytes,
)


def many_projects(count: int = 400) -> dict[str, dict[str, int]]:
    """Projects with sizes over four orders of magnitude; the rare language is in 1% of them."""
    generator = random.Random(3)
    sizes = {}
    for number in range(count):
        size = int(10 ** generator.uniform(2, 5))
        sizes[f"p{number}"] = {"Python": size} if number % 4 else {"C": size, "Python": size // 3}
        if number % 100 == 7:
            sizes[f"p{number}"]["Scala"] = 500
    return sizes


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5])
def test_a_sample_nearly_fills_the_limit_and_never_passes_it(share):
    sizes = many_projects()
    limit = int(share * sum(sum_language_bytes(sizes).values()))
    taken = sample_projects(sizes, limit, seed=1)
    total = sum(sum(sizes[project].values()) for project in taken)
    assert 0.95 * limit <= total <= limit


def test_a_sample_favors_rare_languages():
    sizes = many_projects()
    everything = sum_language_bytes(sizes)
    for seed in range(5):
        taken = {project: sizes[project] for project in sample_projects(sizes, sum(everything.values()) // 10, seed)}
        sampled = sum_language_bytes(taken)
        assert sampled["C"] / sampled["Python"] == pytest.approx(math.sqrt(everything["C"] / everything["Python"]), rel=0.25)
        assert sum("Scala" in languages for languages in taken.values()) >= 3


def test_a_sample_depends_on_the_seed_and_on_no_order():
    sizes = many_projects()
    backwards = dict(reversed(sizes.items()))
    assert sample_projects(sizes, 500_000, seed=1) == sample_projects(backwards, 500_000, seed=1)
    assert sample_projects(sizes, 500_000, seed=1) != sample_projects(sizes, 500_000, seed=2)


def test_all_projects_are_taken_without_a_limit_or_below_it():
    sizes = many_projects()
    assert sample_projects(sizes, None, seed=1) == sample_projects(sizes, 10**9, seed=1) == set(sizes)


def test_a_project_over_the_limit_is_never_taken():
    assert sample_projects({"a": {"C": 100}, "b": {"C": 10}}, 50, seed=1) == {"b"}


def test_a_project_is_large_by_any_of_its_languages():
    sizes = {f"p{number}": {"C": 100} for number in range(99)} | {"mixed": {"C": 100, "Go": 1}}
    assert find_large_projects(sizes) == {"mixed"}


def test_subprojects_keep_the_whole_path():
    for path in ("a.c", "x/a.c", "top/a.c", "top/x/a.c", "top/x/y/a.c", "topmost/a.c"):
        repository, rest = locate_in_subproject("pkg/one", path, "top/")
        assert f"{repository}/{rest}" == f"pkg/one/{path}"
        assert repository == ("pkg/one/top/x" if path.startswith("top/x/") else "pkg/one")


def test_the_common_folder_consists_of_whole_names():
    assert find_common_folder(["lib/a/x", "lib/ab/x"]) == "lib/"
    assert find_common_folder(["lib/a/x"]) == "lib/a/"
    assert find_common_folder(["lib/a", "library/b"]) == ""


def test_a_seeded_order_is_a_permutation_that_differs_by_purpose():
    names = [f"p{number}" for number in range(50)]
    assert sorted(shuffle_projects(names, 1, "split")) == sorted(names)
    assert shuffle_projects(names, 1, "split") != shuffle_projects(names, 1, "sample")
