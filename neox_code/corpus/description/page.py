"""The report page of a corpus: one file of HTML with its styles and drawings inside, that needs no network and no script.

    write_page(describe("corpus"), "report.html")

Everything that comes from source files is escaped: their names are anybody's.
"""

import json
import os
from typing import Any

from neox_code.corpus.description.describe import Description
from neox_code.corpus.description.drawings import histogram, languages_by_fate
from neox_code.corpus.description.drops import drops, edited_files
from neox_code.corpus.description.manifest_figures import FATES
from neox_code.corpus.description.tables import tables, tokens_of
from neox_code.corpus.description.templates import page_environment
from neox_code.corpus.description.wording import millions, name, size, visible, written
from neox_code.files import write_text

TEMPLATE = "page.html"


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
        "millions": millions,
        "visible": visible,
    }
    return environment.get_template(TEMPLATE).render(
        description=description,
        summary=description.summary,
        tables=tables(description),
        fates=FATES,
        bars=languages_by_fate(description),
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

    >>> setting(["a", "b"]), setting(None), setting({"train": 90}), setting("lf")
    ('a, b', 'none', '{"train": 90}', 'lf')
    """
    if isinstance(value, list | tuple):
        return ", ".join(map(setting, value)) or "none"
    if isinstance(value, dict):
        return json.dumps(value, ensure_ascii=False)
    return "none" if value is None else str(value)
