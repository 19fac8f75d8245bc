"""The main job in seven stages, from source code on this machine to a report: corpus, vocabulary, tokens, training, judging,
completion, report.

    job = MainJob(Path("checkpoints/quickstart"), ("local",), Path("configs/quickstart.yml"))
    with claimed(job.output) as folder:
        records = run_stages(job.stages(), folder)

Each stage calls what the tools and scripts call. The stages that need torch run as processes of their own. What OUTPUT has then:

    configs/paths.yml               where everything is, to be merged with the configuration
    corpus/  vocabulary/  tokens/   as the tools leave them
    latest  global_stepN/           checkpoints; beside them configs/, metrics.jsonl, tensorboard/, data_cache/
    eval_results_N.json             bits per byte on held-out files
    prompts.txt  completions.jsonl  beginnings of held-out files, and how the model goes on
    report.html
"""

import shlex
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from neox_code.checkpoint.layout import MERGED_CONFIG, STEP_PREFIX, find_checkpoint, latest_file
from neox_code.config.assembly import DEFAULT
from neox_code.config.fields import FIELDS
from neox_code.config.neox import NeoXConfig
from neox_code.corpus.pipeline.build import build_corpus
from neox_code.corpus.recipes.mixed import RECIPE
from neox_code.corpus.shards import SPLITS, SUMMARY_FILE, iter_documents, load_summary
from neox_code.corpus.sources.find import LOCAL
from neox_code.corpus.tokens.tokenize_shards import TOKENS_FILE, kept_bytes, token_file_name, tokenize_corpus
from neox_code.errors import DataError
from neox_code.evaluation.heldout_result import HeldoutResult, load_heldout
from neox_code.files import read_json, read_json_lines, write_text
from neox_code.installation import CHECKOUT, LAUNCHER
from neox_code.launch.command import launch_command, launch_environment
from neox_code.launch.hosts import visible_gpus
from neox_code.launch.supervise import run
from neox_code.logs import get_logger, progress
from neox_code.machine import cpu_computes_bf16
from neox_code.quickstart.prompts import beginnings
from neox_code.quickstart.report import Findings, write_report
from neox_code.quickstart.stages import Done, Stage, mark_of, read_records, remove
from neox_code.tokenizer.gpt2 import GPT2Tokenizer
from neox_code.tokenizer.train_bpe import MERGE_FILE, TOKENIZER_FILE, VOCAB_FILE, sample_documents, train_bpe
from neox_code.training.trackers import read_metrics

log = get_logger(__name__)

MAX_CORPUS_BYTES = 64_000_000
SHARES = (90, 5, 5)
VOCAB_SIZE = 8192
VOCABULARY_BYTES = 16_000_000
"""Training documents that the vocabulary is learnt from: more changes few of its entries."""

LANGUAGE_EXPONENT = 0.3
"""A language's share of a training step goes with its bytes to this power, so that a rare one is learnt as well
(Conneau et al. 2020, XLM-R)."""

COMPLETED_LANGUAGES = 3
PROMPTS_PER_LANGUAGE = 2
PROMPT_END = "\x1e"
"""ASCII's record separator, between the prompts."""

TRAINING_LEAVES = ("latest", f"{STEP_PREFIX}*", "metrics.jsonl", "tensorboard", "data_cache", "eval_results_*.json")
"""What a training would go on from, and what was found out about it."""

PATHS_FILE = "paths.yml"


@dataclass(frozen=True)
class MainJob:
    output: Path
    sources: tuple[str, ...]
    """`local`, folders, git repositories, archives."""

    config_file: Path
    """Model, training and generation, without any path."""

    @cached_property
    def config(self) -> NeoXConfig:
        """The configuration without the paths. Raises ConfigError."""
        return NeoXConfig.load([self.config_file])

    def stages(self) -> list[Stage]:
        trained_on = inputs_of(self.config, ("model", "parallelism", "optimizer", "data", "training"))
        judged_by = {key: trained_on.pop(key) for key in list(trained_on) if key.startswith("heldout")}
        corpus = {"sources": source_inputs(self.sources), "seed": self.seed, "max_bytes": MAX_CORPUS_BYTES, "shares": SHARES}
        return [
            Stage("corpus", corpus, self.build_corpus, lambda: remove(self.corpus)),
            Stage("vocabulary", {"vocab_size": VOCAB_SIZE, "sample_bytes": VOCABULARY_BYTES}, self.learn_vocabulary),
            Stage("tokens", {}, self.write_tokens),
            Stage("training", trained_on, self.train, self.clear_training, self.going_on_training),
            Stage("judging", judged_by, self.judge),
            Stage("completion", inputs_of(self.config, ("generation",)), self.complete),
            Stage("report", {}, self.report),
        ]

    @property
    def seed(self) -> int:
        return self.config.training.seed

    # ---- where things are

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
        """Without .bin and .idx; training's are divided by language."""
        return self.output / "tokens" / token_file_name(split, language)

    def tokenizer(self) -> GPT2Tokenizer:
        return GPT2Tokenizer.from_files(self.vocabulary / VOCAB_FILE, self.vocabulary / MERGE_FILE)

    def configuration(self) -> NeoXConfig:
        """The whole configuration, for which the file with the paths is written. Raises ConfigError."""
        weights = self.language_weights()
        paths = {
            "vocab_file": str(self.vocabulary / VOCAB_FILE),
            "merge_file": str(self.vocabulary / MERGE_FILE),
            **{f"{split}_data_paths": [str(self.token_file(split))] for split in SPLITS[1:] if self.sampled_languages(split)},
            "train_data_paths": [str(self.token_file("train", language)) for language in weights],
            "train_data_weights": list(weights.values()),
            "save": str(self.output),
            "load": str(self.output),
            "tensorboard_dir": str(self.tensorboard),
            "heldout_path": str(self.corpus),
        }
        text = "# Where things are, seen from the folder in which the quickstart ran.\n" + yaml.safe_dump(paths, sort_keys=False)
        write_text(self.paths_file, text)
        config = NeoXConfig.load([self.config_file, self.paths_file], self.settings())
        config.require_training()
        return config

    def sampled_languages(self, split: str) -> dict[str, int]:
        """Bytes of the languages in the token files of a split that training can read samples of, as far as they are written."""
        counts = self.output / "tokens" / TOKENS_FILE
        if not counts.exists():
            return {}
        languages = read_json(counts)["splits"][split]
        tokens = {language: count["tokens"] + count["documents"] for language, count in languages.items()}
        needed = self.config.model.sample_length
        if split != "train" and sum(tokens.values()) <= needed:
            return {}
        return {language: count["bytes"] for language, count in languages.items() if split != "train" or tokens[language] > needed}

    def language_weights(self) -> dict[str | None, float]:
        """Each language's share of the samples, not normalized. Raises DataError where there is no sample in any."""
        if not (self.output / "tokens" / TOKENS_FILE).exists():
            return {None: 1.0}
        sizes = self.sampled_languages("train")
        if not sizes:
            raise DataError(
                f"no language has the {self.config.model.sample_length + 1:,} tokens of a training sample. Add sources by --source."
            )
        return {language: round(size**LANGUAGE_EXPONENT, 3) for language, size in sizes.items()}

    # ---- the stages

    def build_corpus(self) -> Done:
        summary = build_corpus(self.sources, self.corpus, RECIPE, seed=self.seed, max_bytes=MAX_CORPUS_BYTES, shares=SHARES)
        return Done((self.corpus / SUMMARY_FILE,), {"files": summary.kept_files, "bytes": summary.kept_bytes})

    def learn_vocabulary(self) -> Done:
        documents = sample_documents(iter_documents(self.corpus, "train"), max_bytes=VOCABULARY_BYTES, seed=self.seed)
        total = min(VOCABULARY_BYTES, sum(kept_bytes(self.corpus, "train").values()))
        with progress("vocabulary", total=total, unit="B") as advance:

            def texts() -> Iterator[str]:
                for document in documents:
                    yield document.text
                    advance(document.num_bytes)

            tokenizer = train_bpe(texts(), VOCAB_SIZE, self.vocabulary)
        files = tuple(self.vocabulary / name for name in (VOCAB_FILE, MERGE_FILE, TOKENIZER_FILE))
        return Done(files, {"vocab_size": tokenizer.vocab_size})

    def write_tokens(self) -> Done:
        folder = self.output / "tokens"
        splits = tokenize_corpus(self.corpus, folder, self.tokenizer(), by_language=["train"]).splits
        tokens = {split: sum(count.tokens for count in languages.values()) for split, languages in splits.items()}
        return Done((folder / TOKENS_FILE, *sorted(folder.glob("*_text_document.*"))), tokens)

    def train(self) -> Done:
        config = self.configuration()
        if self.settings():
            log.info("this CPU has no bf16 instructions and would be several times slower with it: training in fp32")
        without = [split for split in SPLITS if not self.sampled_languages(split)]
        if without:
            log.info("too few tokens for a sample of %d: %s", config.model.sample_length, ", ".join(without))
        self.run(launch_command("neox_code.commands.train", self.config_words, config), config.parallelism.stop_timeout_seconds)
        return Done((find_checkpoint(self.output),))

    def settings(self) -> dict[str, Any]:
        """Return overrides for this machine: fp32 instead of bf16 on a CPU without bf16 instructions."""
        is_emulated = self.config.model.precision == "bfloat16" and not visible_gpus() and not cpu_computes_bf16()
        return {"precision": "fp32"} if is_emulated else {}

    def clear_training(self) -> None:
        for path in [path for pattern in TRAINING_LEAVES for path in self.output.glob(pattern)]:
            remove(path)

    def going_on_training(self) -> str:
        if not latest_file(self.output).exists():
            return "begins again, as there was no checkpoint yet"
        return f"goes on after iteration {self.trained_iterations():,}"

    def trained_iterations(self) -> int:
        """The latest checkpoint's iteration. Raises CheckpointError where there is none."""
        return int(find_checkpoint(self.output).name.removeprefix(STEP_PREFIX))

    def judge(self) -> Done:
        if not load_summary(self.corpus).judged_languages():
            log.info("no language is evaluated: none has held-out files, or there is too little of it")
            return Done(())
        self.run_command("evaluate")
        return Done((self.output / f"eval_results_{self.trained_iterations()}.json",))

    def complete(self) -> Done:
        context = self.config.model.max_position_embeddings
        longest = max(context - self.config.generation.maximum_tokens, context // 2)
        tokenizer = self.tokenizer()

        def is_prompt(text: str) -> bool:
            return PROMPT_END not in text and len(tokenizer.encode(text)) <= longest

        languages = load_summary(self.corpus).judged_languages()[:COMPLETED_LANGUAGES]
        prompts = beginnings(self.corpus, "test", languages, is_prompt, per_language=PROMPTS_PER_LANGUAGE, seed=self.seed)
        if not prompts:
            log.info("no held-out file has a beginning to complete")
            return Done(())
        prompt_file, completions = self.output / "prompts.txt", self.output / "completions.jsonl"
        write_text(prompt_file, PROMPT_END.join(prompt.text for prompt in prompts))
        self.run_command("generate", "-i", str(prompt_file), "-o", str(completions), "--set", r'prompt_end="\x1e"')
        sources = [{"language": prompt.language, "file": f"{prompt.repository}/{prompt.path}"} for prompt in prompts]
        return Done((completions,), {"sources": sources})

    def heldout(self) -> HeldoutResult | None:
        """What judging found; None where it had no files, or has not ended."""
        judged = read_records(self.stages(), self.output).get("judging")
        return load_heldout(self.output / judged.products[0]) if judged and judged.products else None

    def report(self) -> Done:
        with progress("report", total=1, unit=" page") as advance:
            write_report(self.findings(), self.report_file)
            advance(1)
        return Done((self.report_file,))

    def findings(self) -> Findings:
        """Return what the finished stages found."""
        records = read_records(self.stages()[:-1], self.output)
        completed = records["completion"]
        rows = [row for product in completed.products for row in read_json_lines(self.output / product)]
        return Findings(
            config=self.configuration(),
            corpus=load_summary(self.corpus),
            vocab_size=records["vocabulary"].facts["vocab_size"],
            train_tokens=records["tokens"].facts["train"],
            metrics=read_metrics(self.output / "metrics.jsonl"),
            heldout=self.heldout(),
            completions=[source | row for source, row in zip(completed.facts.get("sources", ()), rows, strict=True)],
            seconds={stage: record.seconds for stage, record in records.items()},
            next_commands=self.next_commands(),
        )

    def next_commands(self) -> dict[str, str]:
        """Return what one may want to do with the model and the command for it, for the folder in which the quickstart ran."""
        launcher = LAUNCHER if CHECKOUT in (None, Path.cwd()) else str(CHECKOUT / "deepy.py")
        config = str(self.paths_file.with_name(MERGED_CONFIG))
        samples = ["--set", "text_gen_type=unconditional", "-o", "samples.jsonl"]
        commands = {
            "Type the beginning of some code; the model completes it.": [launcher, "generate", config],
            "Write new files without a prompt.": [launcher, "generate", config, *samples],
            "Evaluate the model on every held-out file.": [launcher, "evaluate", config, "--set", "heldout_bytes_per_language="],
            "Show loss, learning rate and speed in a browser.": ["tensorboard", "--logdir", str(self.tensorboard)],
        }
        return {purpose: shlex.join(words) for purpose, words in commands.items()}

    # ---- processes

    @property
    def config_words(self) -> list[str]:
        return [str(self.config_file), str(self.paths_file), *(f"--set={key}={value}" for key, value in self.settings().items())]

    def run_command(self, command: str, *options: str) -> None:
        """A command that needs no ranks, on this machine."""
        self.run([sys.executable, "-m", f"neox_code.commands.{command}", *self.config_words, *options])

    def run(self, command: Sequence[str], stop_timeout: float | None = None) -> None:
        """Run a command; raise SystemExit with its status, EXIT_RESUME for a stopped training, unless it is 0.

        `stop_timeout` (seconds) is set for a training: see `supervise.run`.
        """
        status = run(command, launch_environment(self.configuration()) | mark_of(self.output), stop_timeout)
        if status != 0:
            raise SystemExit(status)


def inputs_of(config: NeoXConfig, sections: Sequence[str]) -> dict[str, Any]:
    """The values that some sections were given, by key."""
    return {
        key: value for key, value in config.values().items() if FIELDS[key].section in sections and config.origins[key] != DEFAULT
    }


def source_inputs(sources: Sequence[str]) -> list[Any]:
    """What the sources are, without looking through them: folders by name, archives by size and time, too."""
    return [source if source == LOCAL else path_inputs(Path(source).expanduser()) for source in sources]


def path_inputs(path: Path) -> list[Any]:
    status = path.stat() if path.is_file() else None
    return [str(path.resolve()), *((status.st_size, status.st_mtime_ns) if status else ())]
