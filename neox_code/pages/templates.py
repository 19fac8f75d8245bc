"""Pages of HTML from templates that extend frame.html, in the style that all pages of the project have.

page_environment("neox_code.quickstart").get_template("report.html").render(...)
"""

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined


def page_environment(package: str) -> Environment:
    """Templates of a package, and what all pages share (frame.html, style.css); whatever they show is escaped."""
    loader = ChoiceLoader([PackageLoader(package, "."), PackageLoader(__package__, ".")])
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"grouped": "{:,}".format}
    return environment
