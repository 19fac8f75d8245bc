"""The report page of a corpus: one file of HTML with its styles and drawings inside, that needs no network and no script.

    write_page(describe("corpus"), "report.html")

Everything that comes from source files is escaped: their names are anybody's.
"""

import os
from typing import Any

from neox_code.corpus.description.describe import Description
from neox_code.corpus.description.drawings import fates_that_occur, fertility_strips, histogram, language_panels
from neox_code.corpus.description.drops import drops, edited_files
from neox_code.corpus.description.summary_table import language_table
from neox_code.corpus.description.tables import tables, tokens_of
from neox_code.files import write_text
from neox_code.pages.number_formats import millions, name, size, visible, written
from neox_code.pages.templates import page_environment

TEMPLATE = "page.html"
NAMING_KEYS = ("name", "class")


def write_page(description: Description, path: str | os.PathLike[str]) -> None:
    write_text(path, render(description))


def render(description: Description) -> str:
    """The page's HTML."""
    environment = page_environment(__package__)
    environment.filters |= {
        "size": size,
        "name": name,
        "written": written,
        "setting": setting,
        "lines_of_setting": lines_of_setting,
        "millions": millions,
        "visible": visible,
    }
    return environment.get_template(TEMPLATE).render(
        description=description,
        summary=description.summary,
        tables=tables(description),
        fates=fates_that_occur(description.manifest.sizes),
        panels=language_panels(description),
        fertility=fertility_strips(description),
        languages_found=len(language_table(description.summary)),
        histogram=histogram(description.manifest.sizes),
        drops=drops(description),
        edited=edited_files(description),
        seen=description.manifest.files.total(),
        tokens=tokens_of(description.documents.languages, description),
        is_estimated=description.documents.tokens is None,
        duplicates=sum(amount.files for amount in description.manifest.duplicates.by("verdict").values()),
    )


def setting(value: Any) -> str:
    """A setting of the build, as its summary has it.

    >>> setting(["a", "b"]), setting(None), setting({"name": "size", "limit": 90, "exempt": ["C", "D"]}), setting({"train": 0.9})
    ('a, b', 'none', 'size (limit 90; exempt C, D)', 'train 0.9')
    """
    if isinstance(value, list | tuple):
        return ", ".join(map(setting, value)) or "none"
    if isinstance(value, dict):
        named = next((str(value[key]) for key in NAMING_KEYS if key in value), "")
        more = "; ".join(f"{key} {setting(item)}" for key, item in value.items() if key not in NAMING_KEYS)
        return f"{named} ({more})" if named and more else named or more
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "none" if value is None else str(value)


def lines_of_setting(value: Any) -> list[str]:
    """One for each of several filters.

    >>> lines_of_setting([{"name": "not empty"}, {"name": "size"}]), lines_of_setting(["a", "b"])
    (['not empty', 'size'], ['a, b'])
    """
    is_of_filters = isinstance(value, list | tuple) and any(isinstance(item, dict) for item in value)
    return [setting(item) for item in value] if is_of_filters else [setting(value)]
