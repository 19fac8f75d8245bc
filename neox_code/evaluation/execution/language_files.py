"""How the programs of a language run: by the table in languages.py, or by its file, configs/languages/NAME.yml or the user's.

get_language("lua").run                  # ("lua", "harness.lua")
find_missing_program("gdscript")         # "godot3-server" if it is not installed

Workers do not import this module: it needs a package for YAML, and they start faster without it.
"""

from neox_code.evaluation.execution.languages import LANGUAGES, Language, find_program
from neox_code.languages import find_language, list_languages

FROM_FILE = ("programs", "file", "compile", "run", "reserves_memory", "processes")


def get_language(name: str) -> Language | None:
    """Return how the programs of a language run, by its name in lower case; None if no table and no file describes it."""
    if name in LANGUAGES:
        return LANGUAGES[name]
    found = find_language(name)
    if found is None or not found.run:
        return None
    harness = next(iter(found.harness.items()), None)
    return Language(**{key: getattr(found, key) for key in FROM_FILE}, harness=harness, takes_argument=True)


def list_language_names() -> list[str]:
    """Return the names of all languages whose programs can be run."""
    return [*LANGUAGES, *(name.lower() for name, language in list_languages().items() if language.run)]


def list_file_fields(name: str) -> dict[str, object]:
    """Return the fields of a language that a file describes, which a worker must receive; {} for one of the table."""
    language = None if name in LANGUAGES else get_language(name)
    return {key: getattr(language, key) for key in (*FROM_FILE, "harness", "takes_argument")} if language else {}


def find_missing_program(name: str) -> str | None:
    """Return the program that a language needs and that is not installed; None if there is none."""
    language = get_language(name)
    return next((program for program in language.programs if find_program(program) is None), None) if language else None
