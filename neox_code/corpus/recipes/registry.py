"""Recipes by name, and of the user's own.

recipe_by_name("polycoder")            RECIPE of recipes/polycoder.py
recipe_by_name("recipes/short.py")     RECIPE of a Python file
recipe_file(recipe)                    the file that a recipe was loaded from; None for one of this folder
"""

import importlib
import importlib.util
import pkgutil
import sys
from pathlib import Path

from neox_code.corpus import recipes
from neox_code.corpus.recipes.recipe import Recipe
from neox_code.errors import DataError

NOT_RECIPES = ("recipe", "registry")
USER_MODULE = "neox_code_user_recipe"
"""The name a user's file has as a module: objects of its classes are known by it in every process."""


def recipe_names() -> list[str]:
    modules = (module.name for module in pkgutil.iter_modules(recipes.__path__))
    return sorted(name.replace("_", "-") for name in modules if name not in NOT_RECIPES)


def recipe_by_name(name_or_path: str | Path) -> Recipe:
    """Raises DataError with the known names, or what is wrong with the file."""
    name = str(name_or_path)
    if name in recipe_names():
        return importlib.import_module(f"{recipes.__name__}.{name.replace('-', '_')}").RECIPE
    if name.endswith(".py"):
        return load_recipe(Path(name).expanduser())
    raise DataError(f"recipe {name!r} is not known. Known are: {', '.join(recipe_names())}; or name a Python file with a RECIPE.")


def load_recipe(path: Path) -> Recipe:
    """The RECIPE of a user's file, which is run."""
    if not path.is_file():
        raise DataError(f"recipe {path} does not exist. Name one of {', '.join(recipe_names())}, or a Python file with a RECIPE.")
    spec = importlib.util.spec_from_file_location(USER_MODULE, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[USER_MODULE] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise DataError(f"recipe {path} cannot be loaded: {type(error).__name__}: {error}. Mend the file.") from error
    recipe = getattr(module, "RECIPE", None)
    if not isinstance(recipe, Recipe):
        raise DataError(f"recipe {path} has no RECIPE = Recipe(...). See {recipes.__name__}.recipe for an example.")
    return recipe


def recipe_file(recipe: Recipe) -> Path | None:
    module = sys.modules.get(USER_MODULE)
    return Path(str(module.__file__)) if module is not None and getattr(module, "RECIPE", None) is recipe else None
