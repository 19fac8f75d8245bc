"""What is said of a file before it is read: by its project, its name and its size.

judge = Judge(recipe, ("C", "Python"))
judge(Project("me/tree"), "src/main.c", 1_200)        None: it is read
judge(Project("me/tree"), "README.md", 1_200)         "no known language"
"""

from dataclasses import dataclass

from neox_code.corpus.filters.license import is_license_file
from neox_code.corpus.filters.protocol import Candidate
from neox_code.corpus.recipes.recipe import Recipe
from neox_code.corpus.sources.protocol import Project

NO_LANGUAGE = "no known language"
NOT_CHOSEN = "language not chosen"
LARGEST_TOLD_BY = 2**18
"""Files that are read for what they say of their project are not longer."""


@dataclass(frozen=True)
class Judge:
    """Says why a file is not read; None if it is. A file that can be in several languages is judged in the first."""

    recipe: Recipe
    languages: tuple[str, ...]
    """Languages to take."""

    def __call__(self, project: Project, path: str, num_bytes: int) -> str | None:
        reason = self._reason(project, path, num_bytes)
        if reason is not None and 0 < num_bytes <= LARGEST_TOLD_BY and self.speaks_for_project(project, path):
            return None
        return reason

    def _reason(self, project: Project, path: str, num_bytes: int) -> str | None:
        possible = self.recipe.language_rule.by_name(project, path)
        if possible == ():
            return NO_LANGUAGE
        if possible and not any(language in self.languages for language in possible):
            return NOT_CHOSEN
        file = Candidate(path, possible[0] if possible else "", num_bytes)
        for rule in self.recipe.before_reading:
            verdict = rule.keep(file)
            if isinstance(verdict, str):
                return verdict
        return None

    def says_license(self, project: Project, path: str) -> bool:
        """Whether the file is read for the licence of its project that it may be."""
        return project.license is None and is_license_file(path)

    def speaks_for_project(self, project: Project, path: str) -> bool:
        return self.says_license(project, path) or (self.recipe.rows is not None and self.recipe.rows.says_version(path))
