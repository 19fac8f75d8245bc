"""Keys of the token files and of the vocabulary."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True)
class DataConfig:
    data_path: str | None = None
    """Token file (prefix of .bin and .idx), divided by `split`; or use the three `*_data_paths`."""

    split: tuple[float, ...] = (969, 30, 1)
    """Shares of `data_path` for training, validation and test, by documents."""

    train_data_paths: tuple[str, ...] = ()
    """Token files for training."""

    valid_data_paths: tuple[str, ...] = ()
    """Token files for validation."""

    test_data_paths: tuple[str, ...] = ()
    """Token files for the test."""

    valid_by_language: bool = False
    """True: every language of the validation data is evaluated too, by at most `eval_iters` batches of its own documents. Loss and
    bits per byte are logged as `validation/LANGUAGE`."""

    train_data_weights: tuple[float, ...] = ()
    """Relative numbers of samples from the training files; default equal."""

    valid_data_weights: tuple[float, ...] = ()
    """Relative numbers of samples from the validation files."""

    test_data_weights: tuple[float, ...] = ()
    """Relative numbers of samples from the test files."""

    weight_by_num_documents: bool = False
    """True: the weights of the files of each split follow from their numbers of documents, in place of `*_data_weights`. As in
    GPT-NeoX, a file with the share p of the documents has q = p ** `weighted_sampler_alpha`, normalized, and the weight
    q * (1 - q)."""

    weighted_sampler_alpha: float = 1.0
    """Exponent of `weight_by_num_documents`; the lower it is, the more often small files are sampled."""

    language_weights: Mapping[str, Any] = field(default_factory=dict)
    """Relative numbers of training samples by language, in the corpus's names, in place of `train_data_weights`:
    {Python: 2, C++: 1}. Other languages are left out. The token files may have one language or many."""

    language_alpha: float | None = None
    """Languages are sampled in proportion to their bytes to this power, in place of `train_data_weights`; 1 keeps their
    proportions."""

    directory_alpha: float | None = None
    """Within a language, or a file, directories are sampled in proportion to their bytes to this power, such as 0.5; by default all
    documents are read equally often. A directory is a repository and at most two folders of the path. An epoch repeats documents
    of small directories and omits others of large ones."""

    unseen_share: float = 0.0
    """Share of the training documents, such as 0.02, that training leaves out and each validation reads as `validation/unseen`,
    with the weights of training: the loss on unseen files of the training projects. A hash of repository and path chooses the
    documents, the same ones in every run."""

    pack_impl: Literal["packed", "best_fit"] = "packed"
    """`packed`: samples are cut from documents joined end to end. `best_fit`: samples are rows of whole documents, each with an
    end-of-document token before it; only longer documents are cut, and the empty ends of rows are masked in the loss."""

    fim_rate: float = 0.0
    """Share of the training documents that are rearranged as prefix, suffix, middle, so that the model learns to fill in the middle
    (docs/data.md). Each document of a sample is rearranged alone. The vocabulary needs the infilling tokens."""

    fim_spm_rate: float = 0.5
    """Share of the rearranged documents whose suffix comes before the prefix (SPM); the others are in the order PSM."""

    fim_cut: Literal["character", "token"] = "character"
    """Borders at which a document is divided: of characters, so that the three parts are encoded again, or of tokens."""

    fim_syntax_rate: float = 0.0
    """Share of the rearranged documents whose middle is a block, call, condition or argument of the syntax tree. The middle is
    drawn from all positions if the document has none, cannot be parsed, or its language has no grammar."""

    sample_order: Literal["per_epoch", "all_epochs"] = "per_epoch"
    """`per_epoch`: each epoch of a file is shuffled separately, so that the samples of a step do not depend on the length of the
    run. Each epoch skips fewer than `seq_length` tokens, not the same ones in every epoch. `all_epochs`: all epochs are shuffled
    together, as in megatron-core and nearly as in GPT-NeoX; the length of the run then changes the order of all samples.
    For at most one epoch both orders are equal."""

    data_cache_path: str | None = None
    """Folder for the computed sample indices, which several runs can share; default `data_cache` in `save`. Without a folder, and
    for small files, the indices are computed at the start and stay in memory."""

    tokenizer_type: Literal[
        "GPT2BPETokenizer", "HFTokenizer", "HFGPT2Tokenizer", "SPMTokenizer", "CharLevelTokenizer", "TiktokenTokenizer"
    ] = "GPT2BPETokenizer"
    """Tokenizer of prompts, held-out files and preprocess_data.py."""

    vocab_file: str | None = None
    """Vocabulary file. GPT2BPETokenizer: vocab.json. HFTokenizer: tokenizer.json. HFGPT2Tokenizer: tokenizer.json, or a folder with
    it or with vocab.json and merges.txt. SPMTokenizer: the .model file. TiktokenTokenizer: a .tiktoken file, or the name of an
    encoding. CharLevelTokenizer reads none."""

    merge_file: str | None = None
    """Merge file of a GPT2BPETokenizer: merges.txt."""

    merge_file_reader: Literal["whole", "gpt-neox"] = "whole"
    """`gpt-neox` ignores the first and the last line of the merge file even if they are merges, as GPT-NeoX does; `whole` ignores
    the first line only if it is a `#version` header."""

    newlines: Literal["lf", "keep", "refuse"] | None = None
    """Treatment of line ends with CR in prompts and held-out files: converted to LF, kept, or refused. Default: `lf` if the
    vocabulary has no CR, as PolyCoder's, else `keep`. For token files use `--newlines` of preprocess_data.py."""

    eod_mask_loss: bool = False
    """True: positions whose input is an end-of-document token are excluded from the loss."""

    num_workers: int = 2
    """Number of processes per rank that read the next samples in advance; 0: the training process reads them."""

    heldout_path: str | None = None
    """Files that `evaluate` reads: a corpus folder, of which it reads the documents of `heldout_split`, or any folder, repository
    or archive of source code."""

    heldout_split: Literal["valid", "test"] = "test"
    """The split that is read, if `heldout_path` is a corpus."""

    heldout_bytes_per_language: int | None = None
    """Maximum number of bytes per language that `evaluate` reads; default: all. Whole files are chosen, shuffled by `seed`."""
