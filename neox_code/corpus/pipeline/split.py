"""Split whole projects into train, valid and test, so that no project is in two splits.

assign_splits({"pkg/numpy": {"Python": 5_000_000}, ...}, {"train": 90, "valid": 5, "test": 5}, seed=1234)
{"pkg/numpy": "train", ...}
"""

from collections.abc import Mapping

from neox_code.corpus.pipeline.projects import Sizes, shuffle_projects, sum_language_bytes

REQUIRED_SPLITS = {1: ("train",), 2: ("train", "test")}
ALL_REQUIRED = ("train", "test", "valid")
HELD_OUT = ("test", "valid")


def assign_splits(sizes: Sizes, shares: Mapping[str, float], seed: int) -> dict[str, str]:
    """Return the split of each project. `sizes` has its bytes by language; `shares` has the splits' target shares in any unit.

    1. Languages are processed from the one with the fewest projects on. Each gets a project in train. A language of two or more
       projects also gets one in test; a language of three or more also gets one in valid. (All languages of a project are in the
       same split, so a language can lack a split.)
    2. The other projects are processed in a seeded order. A project goes to test or valid if the split still needs all of the
       project's bytes in each language.
    3. For test and for valid, the remaining project that brings the split nearest to its target goes there; this is repeated
       until no project brings the split nearer. All other projects go to train.
    """
    total = sum_language_bytes(sizes)
    order = shuffle_projects(sizes, seed, "split")
    held_out = [split for split in HELD_OUT if shares.get(split, 0) > 0]
    room = {split: {language: total[language] * shares[split] / sum(shares.values()) for language in total} for split in held_out}
    splits: dict[str, str] = {}

    def compute_overshoot(project: str, split: str) -> float:
        """Return by how much the project exceeds the bytes that the split needs: the sum over languages, each as a share of its
        total bytes."""
        return sum(max(0.0, size - room[split][language]) / max(total[language], 1) for language, size in sizes[project].items())

    def compute_change(project: str, split: str) -> float:
        """Return by how much the project moves the split away from its target, in the unit of `compute_overshoot`. A negative
        result means nearer."""
        lacking = room[split]
        return sum(
            (abs(lacking[language] - size) - abs(lacking[language])) / max(total[language], 1)
            for language, size in sizes[project].items()
        )

    def assign(project: str, split: str) -> None:
        splits[project] = split
        for language, size in sizes[project].items():
            if split in room:
                room[split][language] -= size

    members = {language: [project for project in order if language in sizes[project]] for language in total}
    for language in sorted(total, key=lambda language: (len(members[language]), language)):
        for split in REQUIRED_SPLITS.get(len(members[language]), ALL_REQUIRED):
            free = [project for project in members[language] if project not in splits]
            if not free or any(splits.get(project) == split for project in members[language]):
                continue
            if split == "train":
                assign(max(free, key=lambda project: sizes[project][language]), split)
            elif split in held_out:
                assign(min(free, key=lambda project: compute_overshoot(project, split)), split)
    for project in order:
        fitting = next((split for split in held_out if compute_overshoot(project, split) == 0), None)
        if project not in splits and fitting:
            assign(project, fitting)
    for split in held_out:
        rest = [project for project in order if project not in splits]
        while rest and compute_change(best := min(rest, key=lambda project: compute_change(project, split)), split) < 0:
            assign(best, split)
            rest.remove(best)
    return {project: splits.get(project, "train") for project in sizes}
