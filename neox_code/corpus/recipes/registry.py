"""Recipes by name, and of the user's own.

recipe_by_name("polycoder")            RECIPE of recipes/polycoder.py
recipe_by_name("recipes/short.py")     RECIPE of a Python file
recipe_file(recipe)                    the file that a recipe was loaded from; None for one of this folder
"""

import importlib
import inspect
import pkgutil
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from neox_code.corpus import recipes
from neox_code.corpus.recipes.recipe import Recipe
from neox_code.errors import DataError, NeoXError

NOT_RECIPES = ("recipe", "registry")
PACKAGE = Path(__file__).resolve().parents[2]
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


def load_recipe(path: Path, original: Path | None = None) -> Recipe:
    """Return the RECIPE of a user's file, which is run. `original` is the file that it is a copy of, which errors name."""
    if not path.is_file():
        raise DataError(f"recipe {path} does not exist. Name one of {', '.join(recipe_names())}, or a Python file with a RECIPE.")
    named = str((original or path).absolute())
    module = ModuleType(USER_MODULE)
    module.__file__ = str(path)
    sys.modules[USER_MODULE] = module
    with errors_of_recipe(Path(named), "is loaded"):
        exec(compile(path.read_bytes(), named, "exec"), vars(module))
    recipe = getattr(module, "RECIPE", None)
    if not isinstance(recipe, Recipe):
        raise DataError(f"recipe {path} has no RECIPE = Recipe(...). See {recipes.__name__}.recipe for an example.")
    problems = list(problems_of(recipe))
    if problems:
        raise DataError("\n".join(f"recipe {path}: {problem} Mend the recipe." for problem in problems))
    return recipe


def problems_of(recipe: Recipe) -> Iterator[str]:
    """Yield what is wrong with a recipe's fields: each a sentence."""
    if not hasattr(recipe.language_rule, "by_name"):
        yield f"language_rule is {recipe.language_rule!r}, expected a rule such as FileLanguage(languages)."
    for field, methods in (("before_reading", ("keep",)), ("after_reading", ("keep", "edit"))):
        rules, expected = getattr(recipe, field), " or ".join(f"{method}(file)" for method in methods)
        if not isinstance(rules, tuple | list):
            yield f"{field} is {rules!r}, expected a tuple of objects with {expected}."
            continue
        for rule in rules:
            if not isinstance(getattr(rule, "name", None), str):
                yield f"{field} holds {rule!r}, which has no name (text)."
            if not any(takes_one_argument(getattr(rule, method, None)) for method in methods):
                yield f"{field} holds {rule!r}, which has no {expected}" + (
                    ": name an object, not its class." * isinstance(rule, type) or "."
                )


def takes_one_argument(method: Any) -> bool:
    try:
        inspect.signature(method).bind(None)
    except (TypeError, ValueError):
        return False
    return True


@contextmanager
def errors_of_recipe(file: Path | None, during: str) -> Iterator[None]:
    """Raise what code of a user's recipe raises as a DataError with its file and line; other exceptions stay as they are.

    A file beside the recipe counts as the recipe's. `during` is what the recipe was doing.
    """
    try:
        yield
    except NeoXError:
        raise
    except (Exception, SystemExit) as error:
        if file is None:
            raise
        places = [(frame.filename, frame.lineno) for frame in traceback.extract_tb(error.__traceback__)]
        if isinstance(error, SyntaxError) and error.filename:
            places.append((error.filename, error.lineno))
        own = [place for place in places if is_of_recipe(Path(place[0]), file.absolute())]
        if not own:
            raise
        where = f"{own[-1][0]}:{own[-1][1]}"
        raise DataError(f"{where} raises {type(error).__name__}: {error} while the recipe {during}. Mend the recipe.") from error


def is_of_recipe(path: Path, file: Path) -> bool:
    return path == file or (path.parent == file.parent and not path.is_relative_to(PACKAGE))


def recipe_file(recipe: Recipe) -> Path | None:
    module = sys.modules.get(USER_MODULE)
    return Path(str(module.__file__)) if module is not None and getattr(module, "RECIPE", None) is recipe else None
