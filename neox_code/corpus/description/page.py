"""The report page of a corpus: one HTML file with its styles and drawings, which needs no network and no script.

    write_page(describe("corpus"), "report.html")

Everything that comes from source files is escaped, as file names may contain markup.
"""

import os
from typing import Any

from neox_code.corpus.description.describe import Description
from neox_code.corpus.description.drawings import find_outcomes, make_fertility_bars, make_histogram, make_language_panels
from neox_code.corpus.description.drops import list_drops, list_edited_files
from neox_code.corpus.description.summary_table import summarize_languages
from neox_code.corpus.description.tables import estimate_tokens, make_tables
from neox_code.files import write_text
from neox_code.pages.number_formats import escape_invisible, format_millions, format_name, format_size, format_value
from neox_code.pages.templates import make_page_environment

TEMPLATE = "page.html"
NAMING_KEYS = ("name", "class")


def write_page(description: Description, path: str | os.PathLike[str]) -> None:
    write_text(path, render_page(description))


def render_page(description: Description) -> str:
    """Return the page's HTML."""
    environment = make_page_environment(__package__)
    environment.filters |= {
        "size": format_size,
        "name": format_name,
        "format_value": format_value,
        "setting": format_setting,
        "lines_of_setting": format_setting_lines,
        "millions": format_millions,
        "visible": escape_invisible,
    }
    return environment.get_template(TEMPLATE).render(
        description=description,
        summary=description.summary,
        tables=make_tables(description),
        outcomes=find_outcomes(description.manifest.sizes),
        panels=make_language_panels(description),
        fertility=make_fertility_bars(description),
        languages_found=len(summarize_languages(description.summary)),
        histogram=make_histogram(description.manifest.sizes),
        drops=list_drops(description),
        edited=list_edited_files(description),
        seen=description.manifest.files.total(),
        tokens=estimate_tokens(description.documents.languages, description),
        is_estimated=description.documents.tokens is None,
        duplicates=sum(amount.files for amount in description.manifest.duplicates.group_by("verdict").values()),
    )


def format_setting(value: Any) -> str:
    """Return a setting of the build, as corpus.json stores it, as text for the page.

    >>> format_setting(["a", "b"]), format_setting(None), format_setting({"train": 0.9})
    ('a, b', 'none', 'train 0.9')
    >>> format_setting({"name": "size", "limit": 90, "exempt": ["C", "D"]})
    'size (limit 90; exempt C, D)'
    """
    if isinstance(value, list | tuple):
        return ", ".join(map(format_setting, value)) or "none"
    if isinstance(value, dict):
        named = next((str(value[key]) for key in NAMING_KEYS if key in value), "")
        more = "; ".join(f"{key} {format_setting(item)}" for key, item in value.items() if key not in NAMING_KEYS)
        return f"{named} ({more})" if named and more else named or more
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "none" if value is None else str(value)


def format_setting_lines(value: Any) -> list[str]:
    """Return a setting as lines of text: a list of filters has a line for each filter, another setting has one line.

    >>> format_setting_lines([{"name": "not empty"}, {"name": "size"}]), format_setting_lines(["a", "b"])
    (['not empty', 'size'], ['a, b'])
    """
    is_list_of_filters = isinstance(value, list | tuple) and any(isinstance(item, dict) for item in value)
    return [format_setting(item) for item in value] if is_list_of_filters else [format_setting(value)]
