"""Adapt a model to a language that it has not seen, by LoRA and by training all weights, and measure what it learns and forgets.

    job = AdaptationJob(Path("checkpoints/quickstart"), Path("checkpoints/demo"), None, None, None, config_file)
    with claim_folder(job.output):
        records = run_steps(job.steps(), job.output)

The steps are corpus, lora, full, evaluation, report. Training runs `finetune` in processes of its own. OUTPUT then has:

    corpus/                    the files of the language, from Debian's packages on this machine or from a folder
    lora/  full/               the runs: checkpoints, metrics.jsonl, lora/adapter in PEFT's format
    adaptation.json            bits per byte before and after, on the new and on the known languages; completions
    adaptation.html            the page
"""

import os
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from neox_code.checkpoint.layout import ADAPTER_FOLDER, find_checkpoint
from neox_code.checkpoint.model_folder import load_config
from neox_code.config.command_line import CommandLine, replace_non_json_values
from neox_code.config.neox import NeoXConfig
from neox_code.config.spelling import find_nearest
from neox_code.conversion.source import open_source
from neox_code.corpus.filters.characters import AlphabeticFraction
from neox_code.corpus.filters.origin import NotGenerated
from neox_code.corpus.languages.rules import describe_languages
from neox_code.corpus.linguist.detect import guess_by_name
from neox_code.corpus.linguist.tables import BY_ALIAS, GROUP, LANGUAGE_TYPES, LANGUAGES
from neox_code.corpus.pipeline.build import build_corpus
from neox_code.corpus.recipes.mixed import RECIPE
from neox_code.corpus.recipes.recipe import Recipe
from neox_code.corpus.shards import SUMMARY_FILE, is_corpus, load_summary
from neox_code.errors import ConfigError, DataError
from neox_code.evaluation.heldout import evaluate_heldout
from neox_code.files import read_json, write_json, write_text
from neox_code.generation.generator import Generator
from neox_code.generation.loading import load_model
from neox_code.installation import find_launcher
from neox_code.languages import LanguageFile, find_language, list_languages
from neox_code.launch.command import make_launch_command, make_launch_environment
from neox_code.launch.supervise import run
from neox_code.logs import get_logger, progress
from neox_code.pages.line_chart import make_line_chart
from neox_code.pages.number_formats import format_name, format_size
from neox_code.pages.templates import make_page_environment
from neox_code.quickstart.main_job import choose_precision, collect_inputs, describe_resume, describe_sources
from neox_code.quickstart.report import collect_losses, format_duration
from neox_code.quickstart.sample_prompts import Prompt, sample_prompts
from neox_code.quickstart.steps import FinishedStep, Step, make_folder_variable, read_records, remove_path
from neox_code.tokenizer.registry import build_tokenizer
from neox_code.training.trackers import read_metrics

log = get_logger(__name__)

DEBIAN_FOLDERS = ("/usr/share", "/usr/lib")
"""Folders with the source code that packages of Debian install."""

MAX_CORPUS_BYTES = 8_000_000
SHARES = (90, 0, 10)
NEW_BYTES, KNOWN_BYTES = 100_000, 30_000
"""Bytes of held-out files that are evaluated: of the new language, and of each language that the base was trained on."""

ADAPTER_KEYS = {"lora_rank": 16, "lora_alpha": 32.0}
METHODS = {"before": "before", "lora": f"LoRA, rank {ADAPTER_KEYS['lora_rank']}", "full": "all weights"}
"""Method -> its name on the page."""

TRAINED = ("lora", "full")
PROMPTS, PROMPT_CHARACTERS, COMPLETED_TOKENS = 2, 400, 48


def make_recipe(language: LanguageFile) -> Recipe:
    """Return the recipe of a corpus of one language, without generated files and tables of numbers."""
    filters = (*RECIPE.after_reading, NotGenerated(), AlphabeticFraction(0.25))
    rule = describe_languages([language])
    return replace(RECIPE, name="adaptation", languages=rule.languages, language_rule=rule, after_reading=filters)


def describe_language(name: str) -> LanguageFile:
    """Return the language of a YAML file, of configs/languages/ or of linguist. Raise ConfigError for another name."""
    if found := find_language(name):
        return found
    linguist = name if name in LANGUAGES else BY_ALIAS.get("-".join(name.lower().split()))
    if linguist is None or not LANGUAGES[linguist].get("extensions"):
        similar = "".join(f" Did you mean {other}?" for other in find_nearest(name, [*list_languages(), *LANGUAGES])[:1])
        raise ConfigError(f"--language {name} is no language of github-linguist or configs/languages/, and no YAML file.{similar}")
    return LanguageFile(linguist, tuple(LANGUAGES[linguist]["extensions"]))


def choose_language(folders: Sequence[str], known: Sequence[str]) -> LanguageFile:
    """Return the programming language with most bytes in folders, by file names, that is not known. Raise DataError without one."""
    sizes: Counter[str] = Counter()
    for folder in folders:
        for place, _, names in os.walk(folder):
            for name in names:
                language = guess_by_name(name)
                path = f"{place}/{name}"
                if language and LANGUAGE_TYPES[language] == "programming" and not Path(path).is_symlink():
                    sizes[GROUP[language]] += Path(path).stat().st_size
    found = [language for language, _ in sizes.most_common() if language not in known and LANGUAGES[language].get("extensions")]
    if not found:
        raise DataError(f"{', '.join(folders)}: no files of a language that the model has not seen. Name others by --data PATH.")
    log.info("language %s: %s of files that the model has not seen", found[0], format_size(sizes[found[0]]))
    return describe_language(found[0])


@dataclass(frozen=True)
class AdaptationJob:
    base: Path
    output: Path
    language_name: str | None
    """Name or YAML file of the language; None: that with most bytes that the model has not seen."""
    data: str | None
    """Folder, archive or repository with files of the language; None: DEBIAN_FOLDERS."""
    known: str | None
    """Corpus or folder of languages that the base was trained on; None: the corpus of its run."""
    config_file: Path

    def steps(self) -> list[Step]:
        """Return the steps with their inputs. Raise the errors of bad options before any work."""
        corpus = {"base": str(self.base.resolve()), "language": repr(self.language), "sources": describe_sources(self.sources)}
        training = collect_inputs(self.make_config("full"), ("model", "optimizer", "data", "training", "finetuning", "adapter"))
        return [
            Step("corpus", corpus | {"max_bytes": MAX_CORPUS_BYTES}, self.build_corpus, lambda: remove_path(self.corpus)),
            *(
                Step(
                    method,
                    training,
                    partial(self.train, method),
                    partial(self.delete_run, method),
                    partial(describe_resume, self.output / method),
                )
                for method in TRAINED
            ),
            Step("evaluation", {"known": self.known_corpus}, self.evaluate),
            Step("report", {}, self.report),
        ]

    @property
    def corpus(self) -> Path:
        return self.output / "corpus"

    @property
    def report_file(self) -> Path:
        return self.output / "adaptation.html"

    @property
    def figures_file(self) -> Path:
        return self.output / "adaptation.json"

    @property
    def sources(self) -> tuple[str, ...]:
        return (self.data,) if self.data else tuple(folder for folder in DEBIAN_FOLDERS if Path(folder).is_dir())

    @cached_property
    def known_corpus(self) -> str:
        """Corpus of the languages that the base was trained on. Raise ConfigError if it is not found."""
        if self.known:
            return self.known
        source = open_source(self.base)
        named = Path(str(source.record.config.get("heldout_path"))) if source.record else Path("corpus")
        for place in (named, source.folder.parent / named.name):
            if (place / SUMMARY_FILE).is_file():
                return str(place)
        raise ConfigError(
            f"{self.base}: the corpus of its run (heldout_path), on which forgetting is measured, is not here. Name a corpus or a "
            "folder of code in languages that it was trained on: --known PATH."
        )

    @cached_property
    def known_languages(self) -> list[str]:
        """Languages of the training split of the known corpus; empty for a folder, whose languages are measured alone."""
        return load_summary(self.known_corpus).languages("train") if is_corpus(self.known_corpus) else []

    @cached_property
    def language(self) -> LanguageFile:
        """The new language. Raise ConfigError if the model was trained on it."""
        if self.data and not Path(self.data).expanduser().exists():
            raise DataError(f"--data {self.data} does not exist. Name a folder, an archive or a repository.")
        if self.language_name is None:
            return choose_language(self.sources, self.known_languages)
        found = describe_language(self.language_name)
        if found.name in self.known_languages:
            raise ConfigError(f"--language {found.name}: {self.base} was trained on it. Choose another one.")
        return found

    def make_command_line(self, method: str) -> CommandLine:
        """Return the command line of `finetune` for a method."""
        keys: dict[str, Any] = {"train_rows": [str(self.corpus / "train")], "save": str(self.output / method)}
        keys |= ADAPTER_KEYS if method == "lora" else {}
        return CommandLine((self.base, self.config_file), keys | choose_precision())

    def make_config(self, method: str) -> NeoXConfig:
        """Return the configuration of a training. Raise ConfigError or CheckpointError for a base that is no model."""
        return load_config(self.make_command_line(method))

    # ---- the steps

    def build_corpus(self) -> FinishedStep:
        recipe = make_recipe(self.language)
        seed = self.make_config("full").training.seed
        summary = build_corpus(self.sources, self.corpus, recipe, seed=seed, max_bytes=MAX_CORPUS_BYTES, shares=SHARES, layout=None)
        if not summary.languages("test"):
            raise DataError(
                f"{', '.join(self.sources)} has {summary.kept_files} files of {self.language.name}, too few to hold some out. "
                "Name more by --data."
            )
        return FinishedStep((self.corpus / SUMMARY_FILE,), {"files": summary.kept_files, "bytes": summary.kept_bytes})

    def train(self, method: str) -> FinishedStep:
        """Fine-tune the base by a method. If the training ends by a signal or an error, raise SystemExit with its status."""
        config = self.make_config(method)
        command = make_launch_command("neox_code.commands.finetune", self.make_command_line(method).arguments, config)
        environment = make_launch_environment(config) | make_folder_variable(self.output)
        if status := run(command, environment, config.parallelism.stop_timeout_seconds):
            raise SystemExit(status)
        return FinishedStep((find_checkpoint(self.output / method),))

    def delete_run(self, method: str) -> None:
        if (self.output / method).exists():
            remove_path(self.output / method)

    def evaluate(self) -> FinishedStep:
        """Measure the model before and after on the new and the known languages, and let each complete the same prompts."""
        language = self.language.name
        prompts = self.sample_prompts()
        figures: dict[str, Any] = {
            "base": str(self.base),
            "language": language,
            "prompts": [{"file": f"{prompt.repository}/{prompt.path}", "text": prompt.text} for prompt in prompts],
            "methods": {},
        }
        for method in METHODS:
            keys: dict[str, Any] = {"adapters": [str(self.adapter)]} if method == "lora" else {}
            config = load_config(CommandLine((self.output / method if method == "full" else self.base,), keys))
            loaded = load_model(config)
            new = config.replace(heldout_path=str(self.corpus), heldout_split="test", heldout_bytes_per_language=NEW_BYTES)
            known = new.replace(heldout_path=self.known_corpus, heldout_bytes_per_language=KNOWN_BYTES)
            rows = [*evaluate_heldout(new, loaded).languages, *evaluate_heldout(known, loaded).languages]
            request = config.replace(maximum_tokens=COMPLETED_TOKENS, temperature=0.0).generation
            figures["methods"][method] = {
                "languages": {row.language: row.to_json() for row in rows},
                "completions": [each.text for each in Generator(loaded, request, 1).complete([prompt.text for prompt in prompts])],
                **self.measure_run(method),
            }
        write_json(self.figures_file, replace_non_json_values(figures))
        return FinishedStep((self.figures_file,))

    def sample_prompts(self) -> list[Prompt]:
        """Return beginnings of held-out files that, with their completions, are within the model's context length."""
        config = load_config(CommandLine((self.base,), {}))
        tokenizer, longest = build_tokenizer(config.data), config.model.max_position_embeddings - COMPLETED_TOKENS

        def is_prompt(text: str) -> bool:
            return len(tokenizer.encode(text)) <= longest

        languages, characters = [self.language.name], min(PROMPT_CHARACTERS, longest)
        return sample_prompts(self.corpus, "test", languages, is_prompt, per_language=PROMPTS, seed=1, longest=characters)

    @property
    def adapter(self) -> Path:
        return self.output / "lora" / ADAPTER_FOLDER

    def measure_run(self, method: str) -> dict[str, Any]:
        """Return steps, tokens, seconds and the size of the result of a training; {} for the base."""
        if method == "before":
            return {}
        rows = read_metrics(self.output / method / "metrics.jsonl")
        files = self.adapter if method == "lora" else find_checkpoint(self.output / method)
        return {
            "steps": max(int(row["iteration"]) for row in rows),
            "tokens": max(int(row.get("train/consumed_tokens", 0)) for row in rows),
            "seconds": read_records(self.steps(), self.output)[method].seconds,
            "bytes": sum(path.stat().st_size for path in files.iterdir() if path.is_file()),
        }

    def report(self) -> FinishedStep:
        """Write the page."""
        with progress("report", total=1, unit=" page") as advance:
            write_text(self.report_file, self.render_report())
            advance(1)
        return FinishedStep((self.report_file,))

    def render_report(self) -> str:
        """Return the page's HTML, which needs no other file."""
        figures, summary = read_json(self.figures_file), load_summary(self.corpus)
        environment = make_page_environment(__package__)
        environment.filters |= {"name": format_name, "size": format_size, "duration": format_duration}
        metrics = {method: read_metrics(self.output / method / "metrics.jsonl") for method in TRAINED}
        curves = {method: collect_losses(rows, "train/lm_loss") for method, rows in metrics.items()}
        return environment.get_template("adaptation.html").render(
            figures=figures,
            summary=summary,
            methods=METHODS,
            table=make_table(figures),
            losses=make_line_chart(curves),
            next_commands=self.make_next_commands(),
        )

    def print_results(self) -> None:
        """Print bits per byte by language and method, the page and the commands to continue with."""
        table = Table("bits per byte", *METHODS.values(), "gzip -9")
        for row in make_table(read_json(self.figures_file)):
            changes = [f"{row['bits'][method]:.3f} ({row['change'][method]:+.1%})" for method in TRAINED]
            table.add_row(row["language"], f"{row['bits']['before']:.3f}", *changes, f"{row['gzip']:.3f}")
        console = Console(highlight=False)
        console.print(table)
        console.print(f"\nreport: {self.report_file}\n\nnext:", soft_wrap=True)
        for purpose, command in self.make_next_commands().items():
            console.print(f"  # {purpose}\n  {command}", soft_wrap=True, markup=False)

    def make_next_commands(self) -> dict[str, str]:
        """Return purpose -> a command line that uses the results."""
        launcher = find_launcher()
        base, adapter = str(self.base), str(self.adapter)
        commands = {
            "Complete code with the adapter.": [launcher, "generate", base, "--set", f"adapters={adapter}"],
            "Complete code with the model whose weights were all trained.": [launcher, "generate", str(self.output / "full")],
            "Serve base and adapter to an editor.": [launcher, "serve", base, "--set", f"adapters={adapter}"],
            "Write the adapter into the weights.": [
                *(launcher, "convert", base, f"{self.output}/merged", "--to", "neox", "--merge-adapter", adapter),
            ],
        }
        return {purpose: shlex.join(words) for purpose, words in commands.items()}


def make_table(figures: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return a row for each language, the new one first: bytes, and for each method bits per byte and their change in percent."""
    methods = figures["methods"]
    rows = []
    for language, first in methods["before"]["languages"].items():
        found = {method: methods[method]["languages"][language] for method in METHODS}
        bits = {method: row["bits_per_byte"]["model"] for method, row in found.items()}
        rows.append({
            "language": language,
            "bytes": first["bytes"],
            "files": first["files"],
            "bits": bits,
            "error": {method: row["standard_error"] for method, row in found.items()},
            "change": {method: bits[method] / bits["before"] - 1 for method in TRAINED},
            "gzip": first["bits_per_byte"]["gzip_alone"],
        })  # fmt: skip
    return rows
