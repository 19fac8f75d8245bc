"""Files that each rule dropped: their amount, languages and examples.

for drop in list_drops(description):
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


def list_drops(description: Description) -> list[Drop]:
    """Return a Drop for each reason, the one with most files first."""
    manifest = description.manifest
    return [
        Drop(reason, amount, manifest.files.group_by("language", verdict=reason), manifest.examples.get_rows(reason))
        for reason, amount in manifest.files.group_by("verdict").items()
        if reason != KEPT
    ]


def list_edited_files(description: Description) -> dict[str, list[Example]]:
    return {edit: description.manifest.edited.get_rows(edit) for edit in description.manifest.edited.groups()}
