"""The split into train, valid and test, by whole projects, so that no project stands on two sides.

assign_splits({"pkg/numpy": {"Python": 5_000_000}, ...}, {"train": 90, "valid": 5, "test": 5}, seed=1234)
{"pkg/numpy": "train", ...}
"""

from collections.abc import Mapping

from neox_code.corpus.pipeline.projects import Sizes, language_bytes, seeded_order

REQUIRED_SPLITS = {1: ("train",), 2: ("train", "test")}
ALL_REQUIRED = ("train", "test", "valid")
HELD_OUT = ("test", "valid")


def assign_splits(sizes: Sizes, shares: Mapping[str, float], seed: int) -> dict[str, str]:
    """The split of each project; `sizes` has its bytes by language, `shares` the aim, in any unit, for each language.

    First every language, beginning with the one of fewest projects, is given what it needs: a project in train; with two
    projects one in test; with three one in valid. (A project of several languages decides for all of them, so a language can
    miss one where its projects are needed elsewhere.) Then the other projects, in a seeded order, go to test or valid where
    these still lack that much of each of its languages. Of those that fit nowhere, the ones that bring test or valid nearer to
    their shares nevertheless go there, the best first, and all others to train.
    """
    total = language_bytes(sizes)
    order = seeded_order(sizes, seed, "split")
    held_out = [split for split in HELD_OUT if shares.get(split, 0) > 0]
    room = {split: {language: total[language] * shares[split] / sum(shares.values()) for language in total} for split in held_out}
    splits: dict[str, str] = {}

    def overshoot(project: str, split: str) -> float:
        """By how much the project is too large for what the split lacks: shares of its languages, summed; 0 where it fits."""
        return sum(max(0.0, size - room[split][language]) / max(total[language], 1) for language, size in sizes[project].items())

    def change(project: str, split: str) -> float:
        """How the project would change the distance of the split from its shares, summed likewise; negative: for the better."""
        lacking = room[split]
        return sum(
            (abs(lacking[language] - size) - abs(lacking[language])) / max(total[language], 1)
            for language, size in sizes[project].items()
        )

    def put(project: str, split: str) -> None:
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
                put(max(free, key=lambda project: sizes[project][language]), split)
            elif split in held_out:
                put(min(free, key=lambda project: overshoot(project, split)), split)
    for project in order:
        fitting = next((split for split in held_out if overshoot(project, split) == 0), None)
        if project not in splits and fitting:
            put(project, fitting)
    for split in held_out:
        rest = [project for project in order if project not in splits]
        while rest and change(best := min(rest, key=lambda project: change(project, split)), split) < 0:
            put(best, split)
            rest.remove(best)
    return {project: splits.get(project, "train") for project in sizes}
