"""Compute the weights of a model from other models' weights: mean, exponential moving average, or sum with a difference.

    write_model(combine([open_source(Path("a")), open_source(Path("b"))], mean), Path("out"), "neox", ConversionOptions())

Each parameter is computed in fp32 when it is read, and rounded once to its type in the first model.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial

import torch

from neox_code.checkpoint.weights import LazyWeights
from neox_code.config.resume_rules import MODEL, compare
from neox_code.conversion.source import ModelSource
from neox_code.errors import ConversionError
from neox_code.tokenizer.comparison import compare_records, describe_vocabulary

Combination = Callable[[Iterator[torch.Tensor]], torch.Tensor]
"""Function of one parameter's fp32 tensors, in the order of the models, to the combined tensor. It may change its inputs."""


def mean(weights: Iterator[torch.Tensor]) -> torch.Tensor:
    """Return the mean of the tensors. The mean of equal tensors is exactly that tensor.

    >>> mean(iter([torch.tensor([1.0]), torch.tensor([2.0]), torch.tensor([6.0])]))
    tensor([3.])
    """
    result = next(weights)
    for number, weight in enumerate(weights, 2):
        result += weight.sub_(result).div_(number)
    return result


def moving_average(beta: float, weights: Iterator[torch.Tensor]) -> torch.Tensor:
    """Return the exponential moving average: each step is `beta` * (average so far) + (1 - `beta`) * (next tensor).

    >>> moving_average(0.75, iter([torch.tensor([0.0]), torch.tensor([4.0]), torch.tensor([9.0])]))
    tensor([3.])
    """
    result = next(weights)
    for weight in weights:
        result += weight.sub_(result).mul_(1 - beta)
    return result


def add_difference(scale: float, weights: Iterator[torch.Tensor]) -> torch.Tensor:
    """Return base + `scale` * (a - b) of three tensors.

    >>> add_difference(0.5, iter([torch.tensor([1.0]), torch.tensor([5.0]), torch.tensor([1.0])]))
    tensor([3.])
    """
    base, a, b = weights
    return base + scale * (a - b)


def combine(sources: Sequence[ModelSource], combination: Combination) -> ModelSource:
    """Return the combined model. Its configuration, vocabulary and iteration are those of the first model; it has no run.json.

    Raise ConversionError with the first difference if the models differ in shape or vocabulary.
    """
    first = sources[0]
    for other in sources[1:]:
        require_same_model(first, other)
    readers = {name: partial(combine_parameter, name, sources, combination) for name in first.weights}
    return replace(first, weights=LazyWeights(readers), record=None)


def combine_parameter(name: str, sources: Sequence[ModelSource], combination: Combination) -> torch.Tensor:
    """Return a combined parameter in the type that it has in the first model. Raise ConversionError if the shapes differ."""
    first = sources[0].read(name)

    def read() -> Iterator[torch.Tensor]:
        yield first.float().clone()
        for source in sources[1:]:
            weight = source.read(name)
            if weight.shape != first.shape:
                raise ConversionError(
                    f"{name} has shape {tuple(first.shape)} in {sources[0].folder} and {tuple(weight.shape)} in {source.folder}. "
                    "Choose models with the same shape."
                )
            yield weight.float().clone()

    return combination(read()).to(first.dtype)


def require_same_model(first: ModelSource, other: ModelSource) -> None:
    """Raise ConversionError with the first difference between two models that prevents a combination of their weights."""
    folders = f"{first.folder} and {other.folder}"
    for difference in compare(first.config.values(), other.config.values(), MODEL):
        raise ConversionError(
            f"{folders} are of different models: {difference.field} is {difference.before} in the first and {difference.now} in "
            "the second. Choose models of one shape."
        )
    for name in sorted(first.weights.keys() ^ other.weights.keys()):
        owner = first.folder if name in first.weights else other.folder
        raise ConversionError(f"{folders} are of different models: only {owner} has {name}. Choose models of one shape.")
    if first.tokenizer and other.tokenizer:
        records = describe_vocabulary(first.tokenizer), describe_vocabulary(other.tokenizer)
        if compare_records(*records) == "other":
            sizes = " and ".join(f"{record['vocab_size']:,}" for record in records)
            raise ConversionError(f"{folders} have different vocabularies, of {sizes} entries. Choose models of one vocabulary.")
    if first.vocab_rows != other.vocab_rows:
        raise ConversionError(
            f"{folders} have {first.vocab_rows:,} and {other.vocab_rows:,} vocabulary rows. Choose models with the same vocabulary."
        )
