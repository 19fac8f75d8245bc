"""Recipes: which languages a corpus has, and the filters a file passes to become a document, in order.

A recipe of one's own is a few lines:

    RECIPES["short"] = Recipe("short", before_reading=(NotEmpty(), MaxBytes(65_536)), after_reading=(MinTokens(20),))
"""

from dataclasses import dataclass

from neox_code.corpus.filters.protocol import Filter
from neox_code.corpus.filters.size import MaxBytes, NotEmpty
from neox_code.corpus.filters.tokens import MinTokens
from neox_code.corpus.language import LANGUAGES
from neox_code.errors import DataError


@dataclass(frozen=True)
class Recipe:
    name: str
    before_reading: tuple[Filter, ...]
    """Filters by name and size, which spare the reading."""
    after_reading: tuple[Filter, ...]
    """Filters by content."""
    languages: tuple[str, ...] = LANGUAGES


POLYCODER = Recipe(
    "polycoder",  # Xu et al. 2022, section 4.1
    before_reading=(NotEmpty(), MaxBytes(1_048_576)),
    after_reading=(MinTokens(100),),
)

RECIPES = {recipe.name: recipe for recipe in (POLYCODER,)}


def recipe_by_name(name: str) -> Recipe:
    """Raises DataError with the known names."""
    if name not in RECIPES:
        raise DataError(f"recipe {name!r} is not known. Known are: {', '.join(sorted(RECIPES))}.")
    return RECIPES[name]
