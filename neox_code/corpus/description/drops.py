"""What each rule has dropped: how much, of which languages, and some of it to look at.

for drop in drops(description):
    print(drop.reason, drop.amount, drop.examples[0].place)
"""

from collections.abc import Mapping
from dataclasses import dataclass

from neox_code.corpus.description.describe import Description
from neox_code.corpus.description.manifest_figures import Example
from neox_code.corpus.description.summary_table import Amount
from neox_code.corpus.shards import KEPT


@dataclass(frozen=True)
class Drop:
    reason: str
    amount: Amount
    languages: Mapping[str | None, Amount]
    examples: list[Example]


def drops(description: Description) -> list[Drop]:
    """By reason, the one with most files first."""
    manifest = description.manifest
    return [
        Drop(reason, amount, manifest.files.by("language", verdict=reason), manifest.examples.of(reason))
        for reason, amount in manifest.files.by("verdict").items()
        if reason != KEPT
    ]


def edited_files(description: Description) -> dict[str, list[Example]]:
    """Kept files of every edit."""
    return {edit: description.manifest.edited.of(edit) for edit in description.manifest.edited.groups()}
