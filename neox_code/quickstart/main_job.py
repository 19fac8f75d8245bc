"""The main job of the command `quickstart`, from source code on this machine to a report. Its seven steps are corpus, vocabulary,
tokens, training, evaluation, completion, report.

    job = MainJob(Path("checkpoints/quickstart"), ("local",), Path("configs/quickstart.yml"))
    with claim_folder(job.output) as folder:
        records = run_steps(job.steps(), folder)

Each step calls the functions of the tools and commands. The steps that need torch run as processes of their own. OUTPUT then has:

    configs/paths.yml               all paths, to be merged with the configuration
    corpus/  vocabulary/  tokens/   in the format of the tools
    latest  global_stepN/           checkpoints; beside them configs/, metrics.jsonl, tensorboard/, data_cache/
    eval_results_N.json             bits per byte on held-out files
    prompts.txt  completions.jsonl  first lines of held-out files, and the model's completions
    report.html
"""

import shlex
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import yaml

from neox_code.checkpoint.layout import MERGED_CONFIG, STEP_PREFIX, find_checkpoint, get_latest_path
from neox_code.config.assembly import DEFAULT
from neox_code.config.fields import FIELDS
from neox_code.config.neox import NeoXConfig
from neox_code.corpus.pipeline.build import build_corpus, describe_path_and_time
from neox_code.corpus.recipes.mixed import RECIPE
from neox_code.corpus.shards import SPLITS, SUMMARY_FILE, iter_documents, load_summary
from neox_code.corpus.sources.find import LOCAL
from neox_code.corpus.tokens.tokenize_shards import TOKENS_FILE, count_kept_bytes, make_token_file_name, tokenize_corpus
from neox_code.errors import DataError
from neox_code.evaluation.heldout_result import HeldoutResult, load_heldout
from neox_code.files import read_json, read_json_lines, write_text
from neox_code.installation import find_launcher
from neox_code.launch.command import make_launch_command, make_launch_environment
from neox_code.launch.hosts import find_visible_gpus
from neox_code.launch.supervise import run
from neox_code.logs import get_logger, progress
from neox_code.machine import cpu_computes_bf16
from neox_code.quickstart.report import Findings, write_report
from neox_code.quickstart.sample_prompts import sample_prompts
from neox_code.quickstart.steps import FinishedStep, Step, make_folder_variable, read_records, remove_path
from neox_code.tokenizer.gpt2 import GPT2Tokenizer
from neox_code.tokenizer.train_bpe import MERGE_FILE, TOKENIZER_FILE, VOCAB_FILE, sample_documents, train_bpe
from neox_code.training.trackers import read_metrics

log = get_logger(__name__)

MAX_CORPUS_BYTES = 64_000_000
SHARES = (90, 5, 5)
VOCAB_SIZE = 8192
VOCABULARY_BYTES = 16_000_000
"""Bytes of training documents from which the vocabulary is learned. A larger sample changes few entries."""

LANGUAGE_EXPONENT = 0.3
"""Exponent of a language's bytes in its share of the training samples: share ~ bytes ** exponent, so that rare languages are
learned (Conneau et al. 2020, XLM-R)."""

COMPLETED_LANGUAGES = 3
PROMPTS_PER_LANGUAGE = 2
PROMPT_END = "\x1e"
"""Text between two prompts in prompts.txt: the ASCII record separator."""

TRAINING_LEAVES = ("latest", f"{STEP_PREFIX}*", "metrics.jsonl", "tensorboard", "data_cache", "eval_results_*.json")
"""Patterns of the files that training writes: files from which it resumes, and its results."""

PATHS_FILE = "paths.yml"


@dataclass(frozen=True)
class MainJob:
    output: Path
    sources: tuple[str, ...]
    """Sources of code: `local` (the code on this machine), folders, git repositories, archives."""

    config_file: Path
    """Configuration of model, training and generation, without paths."""

    @cached_property
    def config(self) -> NeoXConfig:
        """The configuration without the paths. Raise ConfigError if it is invalid."""
        return NeoXConfig.load([self.config_file])

    def steps(self) -> list[Step]:
        """Return the seven steps with their inputs."""
        training_inputs = collect_inputs(self.config, ("model", "parallelism", "optimizer", "data", "training"))
        evaluation_inputs = {key: training_inputs.pop(key) for key in list(training_inputs) if key.startswith("heldout")}
        corpus = {"sources": describe_sources(self.sources), "seed": self.seed, "max_bytes": MAX_CORPUS_BYTES, "shares": SHARES}
        return [
            Step("corpus", corpus, self.build_corpus, lambda: remove_path(self.corpus)),
            Step("vocabulary", {"vocab_size": VOCAB_SIZE, "sample_bytes": VOCABULARY_BYTES}, self.train_vocabulary),
            Step("tokens", {}, self.write_tokens),
            Step("training", training_inputs, self.train, self.delete_training_output, partial(describe_resume, self.output)),
            Step("evaluation", evaluation_inputs, self.evaluate),
            Step("completion", collect_inputs(self.config, ("generation",)), self.complete_prompts, self.delete_completions),
            Step("report", {}, self.report),
        ]

    @property
    def seed(self) -> int:
        return self.config.training.seed

    # ---- paths

    @property
    def corpus(self) -> Path:
        return self.output / "corpus"

    @property
    def vocabulary(self) -> Path:
        return self.output / "vocabulary"

    @property
    def report_file(self) -> Path:
        return self.output / "report.html"

    @property
    def tensorboard(self) -> Path:
        return self.output / "tensorboard"

    @property
    def paths_file(self) -> Path:
        return self.output / "configs" / PATHS_FILE

    def token_file(self, split: str, language: str | None = None) -> Path:
        """Return the path of a token file without .bin or .idx. The training split has one token file per language."""
        return self.output / "tokens" / make_token_file_name(split, language)

    def load_tokenizer(self) -> GPT2Tokenizer:
        return GPT2Tokenizer.from_files(self.vocabulary / VOCAB_FILE, self.vocabulary / MERGE_FILE)

    def write_configuration(self) -> NeoXConfig:
        """Write the file with the paths, and return the whole configuration. Raise ConfigError if it is invalid."""
        weights = self.compute_language_weights()
        paths = {
            "vocab_file": str(self.vocabulary / VOCAB_FILE),
            "merge_file": str(self.vocabulary / MERGE_FILE),
            **{f"{split}_data_paths": [str(self.token_file(split))] for split in SPLITS[1:] if self.find_sampled_languages(split)},
            "train_data_paths": [str(self.token_file("train", language)) for language in weights],
            "train_data_weights": list(weights.values()),
            "save": str(self.output),
            "load": str(self.output),
            "tensorboard_dir": str(self.tensorboard),
            "heldout_path": str(self.corpus),
        }
        text = "# Paths, relative to the folder in which the quickstart ran.\n" + yaml.safe_dump(paths, sort_keys=False)
        write_text(self.paths_file, text)
        config = NeoXConfig.load([self.config_file, self.paths_file], self.make_overrides())
        config.require_training_keys()
        return config

    def find_sampled_languages(self, split: str) -> dict[str, int]:
        """Return language -> bytes in a split, for languages with enough tokens for a sample; {} before the step `tokens`."""
        counts = self.output / "tokens" / TOKENS_FILE
        if not counts.exists():
            return {}
        languages = read_json(counts)["splits"][split]
        tokens = {language: count["tokens"] + count["documents"] for language, count in languages.items()}
        needed = self.config.model.sample_length
        if split != "train" and sum(tokens.values()) <= needed:
            return {}
        return {language: count["bytes"] for language, count in languages.items() if split != "train" or tokens[language] > needed}

    def compute_language_weights(self) -> dict[str | None, float]:
        """Return each language's weight in the training samples. Raise DataError if no language has enough tokens for a sample."""
        if not (self.output / "tokens" / TOKENS_FILE).exists():
            return {None: 1.0}
        sizes = self.find_sampled_languages("train")
        if not sizes:
            raise DataError(
                f"no language has the {self.config.model.sample_length + 1:,} tokens of a training sample. Add sources by --source."
            )
        return {language: round(size**LANGUAGE_EXPONENT, 3) for language, size in sizes.items()}

    # ---- the steps

    def build_corpus(self) -> FinishedStep:
        summary = build_corpus(self.sources, self.corpus, RECIPE, seed=self.seed, max_bytes=MAX_CORPUS_BYTES, shares=SHARES)
        return FinishedStep((self.corpus / SUMMARY_FILE,), {"files": summary.kept_files, "bytes": summary.kept_bytes})

    def train_vocabulary(self) -> FinishedStep:
        """Train the vocabulary on a sample of the training documents."""
        documents = sample_documents(iter_documents(self.corpus, "train"), max_bytes=VOCABULARY_BYTES, seed=self.seed)
        total = min(VOCABULARY_BYTES, sum(count_kept_bytes(self.corpus, "train").values()))
        with progress("vocabulary", total=total, unit="B") as advance:

            def texts() -> Iterator[str]:
                for document in documents:
                    yield document.text
                    advance(document.num_bytes)

            tokenizer = train_bpe(texts(), VOCAB_SIZE, self.vocabulary)
        files = tuple(self.vocabulary / name for name in (VOCAB_FILE, MERGE_FILE, TOKENIZER_FILE))
        return FinishedStep(files, {"vocab_size": tokenizer.vocab_size})

    def write_tokens(self) -> FinishedStep:
        folder = self.output / "tokens"
        splits = tokenize_corpus(self.corpus, folder, self.load_tokenizer(), by_language=["train"]).splits
        tokens = {split: sum(count.tokens for count in languages.values()) for split, languages in splits.items()}
        return FinishedStep((folder / TOKENS_FILE, *sorted(folder.glob("*_text_document.*"))), tokens)

    def train(self) -> FinishedStep:
        """Train the model on the token files."""
        config = self.write_configuration()
        if self.make_overrides():
            log.info("this CPU has no bf16 instructions, and bf16 would be several times slower: training in fp32")
        without = [split for split in SPLITS if not self.find_sampled_languages(split)]
        if without:
            log.info("too few tokens for a training sample of %d tokens in: %s", config.model.sample_length, ", ".join(without))
        command = make_launch_command("neox_code.commands.train", self.config_arguments, config)
        self.run(command, config.parallelism.stop_timeout_seconds)
        return FinishedStep((find_checkpoint(self.output),))

    def make_overrides(self) -> dict[str, Any]:
        """Return overrides for this machine: fp32 instead of bf16 on a CPU without bf16 instructions."""
        return choose_precision() if self.config.model.precision == "bfloat16" else {}

    def delete_training_output(self) -> None:
        for path in [path for pattern in TRAINING_LEAVES for path in self.output.glob(pattern)]:
            remove_path(path)

    def evaluate(self) -> FinishedStep:
        if not load_summary(self.corpus).evaluated_languages():
            log.info("no language is evaluated, because no language has enough held-out files")
            return FinishedStep(())
        self.run_command("evaluate")
        return FinishedStep((self.output / f"eval_results_{find_trained_iterations(self.output)}.json",))

    def complete_prompts(self) -> FinishedStep:
        """Sample prompts from the held-out files, and let the model complete them."""
        context = self.config.model.max_position_embeddings
        longest = max(context - self.config.generation.maximum_tokens, context // 2)
        tokenizer = self.load_tokenizer()

        def is_prompt(text: str) -> bool:
            return PROMPT_END not in text and len(tokenizer.encode(text)) <= longest

        languages = load_summary(self.corpus).evaluated_languages()[:COMPLETED_LANGUAGES]
        prompts = sample_prompts(self.corpus, "test", languages, is_prompt, per_language=PROMPTS_PER_LANGUAGE, seed=self.seed)
        if not prompts:
            log.info("no held-out file is long enough for a prompt")
            return FinishedStep(())
        prompt_file, completions = self.output / "prompts.txt", self.output / "completions.jsonl"
        remove_path(completions)  # `generate` refuses to add to those of another model
        write_text(prompt_file, PROMPT_END.join(prompt.text for prompt in prompts))
        self.run_command("generate", "-i", str(prompt_file), "-o", str(completions), "--set", r'prompt_end="\x1e"')
        sources = [{"language": prompt.language, "file": f"{prompt.repository}/{prompt.path}"} for prompt in prompts]
        return FinishedStep((completions,), {"sources": sources})

    def delete_completions(self) -> None:
        (self.output / "completions.jsonl").unlink(missing_ok=True)

    def read_heldout(self) -> HeldoutResult | None:
        """Return the result of the evaluation; None if there were no held-out files or the evaluation is not finished."""
        evaluated = read_records(self.steps(), self.output).get("evaluation")
        return load_heldout(self.output / evaluated.products[0]) if evaluated and evaluated.products else None

    def report(self) -> FinishedStep:
        with progress("report", total=1, unit=" page") as advance:
            write_report(self.collect_findings(), self.report_file)
            advance(1)
        return FinishedStep((self.report_file,))

    def collect_findings(self) -> Findings:
        """Return the results of the finished steps."""
        records = read_records(self.steps()[:-1], self.output)
        completion = records["completion"]
        rows = [row for product in completion.products for row in read_json_lines(self.output / product)]
        return Findings(
            config=self.write_configuration(),
            corpus=load_summary(self.corpus),
            vocab_size=records["vocabulary"].facts["vocab_size"],
            train_tokens=records["tokens"].facts["train"],
            metrics=read_metrics(self.output / "metrics.jsonl"),
            heldout=self.read_heldout(),
            completions=[source | row for source, row in zip(completion.facts.get("sources", ()), rows, strict=True)],
            seconds={step: record.seconds for step, record in records.items()},
            next_commands=self.make_next_commands(),
        )

    def make_next_commands(self) -> dict[str, str]:
        """Return purpose -> a command line that uses the trained model. Run it in the folder in which the quickstart ran."""
        launcher = find_launcher()
        config = str(self.paths_file.with_name(MERGED_CONFIG))
        samples = ["--set", "text_gen_type=unconditional", "-o", "samples.jsonl"]
        commands = {
            "Type the beginning of some code; the model completes it.": [launcher, "generate", config],
            "Write new files without a prompt.": [launcher, "generate", config, *samples],
            "Evaluate the model: bits per byte of held-out files, with standard errors.": [
                launcher,
                "evaluate",
                config,
                "--tasks",
                "heldout",
            ],
            "Evaluate the model on every held-out file.": [launcher, "evaluate", config, "--set", "heldout_bytes_per_language="],
            "Measure infilling by syntactic kind, beside the chance level.": [launcher, "evaluate", config, "--tasks", "infilling"],
            "Adapt the model to a language that it has not seen, and measure what it learns and forgets.": [
                *(launcher, "finetune", "--demo", "--base", str(self.output), "--output", f"{self.output}-demo"),
            ],
            "Show loss, learning rate and speed in a browser.": ["tensorboard", "--logdir", str(self.tensorboard)],
        }
        return {purpose: shlex.join(words) for purpose, words in commands.items()}

    # ---- processes

    @property
    def config_arguments(self) -> list[str]:
        overrides = [f"--set={key}={value}" for key, value in self.make_overrides().items()]
        return [str(self.config_file), str(self.paths_file), *overrides]

    def run_command(self, command: str, *options: str) -> None:
        """Run a command that needs no ranks on this machine."""
        self.run([sys.executable, "-m", f"neox_code.commands.{command}", *self.config_arguments, *options])

    def run(self, command: Sequence[str], stop_timeout: float | None = None) -> None:
        """Run a command. If its status is not 0 (EXIT_RESUME for a stopped training), raise SystemExit with it.

        `stop_timeout` (seconds) is set for a training: see `supervise.run`.
        """
        status = run(command, make_launch_environment(self.write_configuration()) | make_folder_variable(self.output), stop_timeout)
        if status != 0:
            raise SystemExit(status)


def choose_precision() -> dict[str, str]:
    """Return an override of bf16 for this machine: fp32 on a CPU without bf16 instructions."""
    return {} if find_visible_gpus() or cpu_computes_bf16() else {"precision": "fp32"}


def describe_resume(save: Path) -> str:
    """Return what a training that was interrupted does next."""
    if not get_latest_path(save).exists():
        return "starts over, as there is no checkpoint yet"
    return f"resumes after iteration {find_trained_iterations(save):,}"


def find_trained_iterations(save: Path) -> int:
    """Return the latest checkpoint's iteration. Raise CheckpointError if there is none."""
    return int(find_checkpoint(save).name.removeprefix(STEP_PREFIX))


def collect_inputs(config: NeoXConfig, sections: Sequence[str]) -> dict[str, Any]:
    """Return the keys of these sections that the configuration sets, with their values."""
    return {
        key: value for key, value in config.values().items() if FIELDS[key].section in sections and config.origins[key] != DEFAULT
    }


def describe_sources(sources: Sequence[str]) -> list[Any]:
    """Return values that change if the sources change: for a folder its name, for an archive its name, size and time."""
    return [source if source == LOCAL else describe_path_and_time(Path(source).expanduser().resolve()) for source in sources]
