"""Load recipes by name or from the user's Python files.

find_recipe("polycoder")            RECIPE of recipes/polycoder.py
find_recipe("recipes/short.py")     RECIPE of a Python file
get_recipe_file(recipe)                    the user's file that a recipe was loaded from; None for a recipe of this folder
"""

import dataclasses
import importlib
import inspect
import pkgutil
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from neox_code.corpus import recipes
from neox_code.corpus.languages.rules import describe_languages
from neox_code.corpus.recipes.recipe import Recipe
from neox_code.errors import DataError, NeoXError
from neox_code.languages import find_language

NOT_RECIPES = ("recipe", "registry")
PACKAGE = Path(__file__).resolve().parents[2]
USER_MODULE = "neox_code_user_recipe"
"""Module name under which a user's file is imported. All processes unpickle objects of the file's classes by this name."""


def list_recipe_names() -> list[str]:
    modules = (module.name for module in pkgutil.iter_modules(recipes.__path__))
    return sorted(name.replace("_", "-") for name in modules if name not in NOT_RECIPES)


def find_recipe(name_or_path: str | Path) -> Recipe:
    """Return a recipe by its name or file. Raise DataError for an unknown name or an invalid file."""
    name = str(name_or_path)
    if name in list_recipe_names():
        return importlib.import_module(f"{recipes.__name__}.{name.replace('-', '_')}").RECIPE
    if name.endswith(".py"):
        return load_recipe(Path(name).expanduser())
    raise DataError(
        f"recipe {name!r} is not known. Choose one of {', '.join(list_recipe_names())}, or a Python file with a RECIPE."
    )


def add_described_languages(recipe: Recipe, names: Sequence[str]) -> tuple[Recipe, tuple[str, ...]]:
    """Return the recipe with the languages of names that it lacks and a language file describes, and the languages of all names.

    A name is a language, in any case if configs/languages/ has it, or the path of a YAML file. If one is added, each file has its
    own language. Other names are returned unchanged. Raise ConfigError for a bad file.
    """
    files = {name: file for name in names if name not in recipe.languages and (file := find_language(name))}
    languages = tuple(files[name].name if name in files else name for name in names)
    if added := [file for file in files.values() if file.name not in recipe.languages]:
        rule = describe_languages(added, recipe.languages)
        recipe = dataclasses.replace(recipe, languages=rule.languages, language_rule=rule)
    return recipe, languages


def load_recipe(path: Path, original: Path | None = None) -> Recipe:
    """Run a user's file and return its RECIPE. If the file is a copy, errors name the `original`."""
    if not path.is_file():
        raise DataError(
            f"recipe {path} does not exist. Choose one of {', '.join(list_recipe_names())}, or a Python file with a RECIPE."
        )
    named = str((original or path).absolute())
    module = ModuleType(USER_MODULE)
    module.__file__ = str(path)
    sys.modules[USER_MODULE] = module
    with report_recipe_errors(Path(named), "is loaded"):
        exec(compile(path.read_bytes(), named, "exec"), vars(module))
    recipe = getattr(module, "RECIPE", None)
    if not isinstance(recipe, Recipe):
        raise DataError(f"recipe {path} has no RECIPE = Recipe(...). See {recipes.__name__}.recipe for an example.")
    problems = list(find_problems(recipe))
    if problems:
        raise DataError("\n".join(f"recipe {path}: {problem} Fix the recipe." for problem in problems))
    return recipe


def find_problems(recipe: Recipe) -> Iterator[str]:
    """Yield a sentence for each invalid field of a recipe."""
    if not hasattr(recipe.language_rule, "find_languages_by_name"):
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
                    ": give an object, not its class." * isinstance(rule, type) or "."
                )


def takes_one_argument(method: Any) -> bool:
    try:
        inspect.signature(method).bind(None)
    except (TypeError, ValueError):
        return False
    return True


@contextmanager
def report_recipe_errors(file: Path | None, during: str) -> Iterator[None]:
    """Turn an exception in code of a user's recipe into a DataError with file and line; other exceptions stay unchanged.

    Files in the folder of the recipe count as its code. `during` completes the sentence "while the recipe ...".
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
        own = [place for place in places if belongs_to_recipe(Path(place[0]), file.absolute())]
        if not own:
            raise
        where = f"{own[-1][0]}:{own[-1][1]}"
        raise DataError(f"{where} raises {type(error).__name__}: {error} while the recipe {during}. Fix the recipe.") from error


def belongs_to_recipe(path: Path, file: Path) -> bool:
    return path == file or (path.parent == file.parent and not path.is_relative_to(PACKAGE))


def get_recipe_file(recipe: Recipe) -> Path | None:
    module = sys.modules.get(USER_MODULE)
    return Path(str(module.__file__)) if module is not None and getattr(module, "RECIPE", None) is recipe else None
