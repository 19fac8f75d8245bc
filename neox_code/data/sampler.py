"""Choose the samples that each rank reads. The state is one integer: the number of samples that all ranks together have consumed.

With 2 data ranks and micro batches of 2, rank 0 reads the samples 0 1, 4 5, 8 9, ... and rank 1 reads 2 3, 6 7, 10 11, ...
A resumed run starts with the sample after the last consumed one, also with another number of ranks.
"""

from collections.abc import Iterator

from torch.utils.data import Sampler


class ConsecutiveSampler(Sampler[list[int]]):
    """Batches of sample indices for one data rank; `seek` sets the number of consumed samples.

    >>> sampler = ConsecutiveSampler(10, micro_batch_size=2, data_rank=1, data_size=2)
    >>> list(sampler)
    [[2, 3], [6, 7]]
    >>> sampler.seek(4)
    >>> list(sampler)
    [[6, 7]]
    """

    def __init__(self, num_samples: int, micro_batch_size: int, data_rank: int, data_size: int):
        self.num_samples = num_samples
        self.micro_batch_size = micro_batch_size
        self.data_rank = data_rank
        self.data_size = data_size
        self.consumed_samples = 0

    def seek(self, consumed_samples: int) -> None:
        """Make the next batch begin after `consumed_samples` samples."""
        self.consumed_samples = consumed_samples

    def __iter__(self) -> Iterator[list[int]]:
        stride = self.micro_batch_size * self.data_size
        for begin in range(self.consumed_samples, self.num_samples - stride + 1, stride):
            first = begin + self.data_rank * self.micro_batch_size
            yield list(range(first, first + self.micro_batch_size))

    def __len__(self) -> int:
        return max(0, self.num_samples - self.consumed_samples) // (self.micro_batch_size * self.data_size)
