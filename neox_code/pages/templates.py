"""HTML pages from templates that extend frame.html and share its style.

make_page_environment("neox_code.quickstart").get_template("report.html").render(...)
"""

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined


def make_page_environment(package: str) -> Environment:
    """Return a jinja environment with a package's templates and the shared frame.html and style.css. It escapes inserted values."""
    loader = ChoiceLoader([PackageLoader(package, "."), PackageLoader(__package__, ".")])
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"grouped": "{:,}".format}
    return environment
