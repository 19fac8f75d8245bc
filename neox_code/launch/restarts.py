"""Start a training again after a failure, from its newest checkpoint: `./deepy.py train CONFIG --max-restarts N`.

    status = run_with_restarts(start, config, max_restarts=3, min_nodes=1)      # start(config) -> Ending

A failure is a rank that crashed, was killed or hangs, and a host that was lost. A run is not started again if it has ended, has
saved after a signal, or failed by the user's mistake, such as a loss that diverges.

With `min_nodes` a start uses the hosts of the hostfile that answer, but at least so many of them: a host that is down is left out,
and a spare one takes its place if the hostfile has more than `num_nodes`. The number of samples in a step (train_batch_size) stays
the same, so gradient_accumulation_steps must not be set. The optimizer state is divided anew when it is loaded.
"""

import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from neox_code.config.derive import compute_data_parallel_size
from neox_code.config.neox import NeoXConfig
from neox_code.errors import EXIT_RESUME, EXIT_USER_ERROR, ConfigError, LaunchError
from neox_code.launch.hosts import Resources, find_resources, is_this_machine
from neox_code.launch.supervise import Ending

RESTART_SECONDS = 5.0
"""Seconds between the end of a run and its next start, in which devices and ports become free."""

ANSWER_SECONDS = 30.0
"""Seconds in which a host must answer; a busy one needs several for a login."""

WAITS = (15.0, 60.0, 180.0)
"""Seconds after which the hosts are asked again if too few answer: one that starts anew needs minutes."""


def run_with_restarts(start: Callable[[NeoXConfig], Ending], config: NeoXConfig, max_restarts: int, min_nodes: int | None) -> int:
    """Run `start` until the run needs no restart or `max_restarts` are used up; return the exit status.

    Raise ConfigError if there are no checkpoints to resume from, LaunchError if too few hosts answer.
    """
    if max_restarts and not config.training.save:
        raise ConfigError("--max-restarts needs checkpoints to resume from, and save is not set. Set save.")
    ending = start(config)
    for number in range(1, max_restarts + 1):
        if ending.received is not None or ending.status in (0, EXIT_USER_ERROR, EXIT_RESUME):
            break
        time.sleep(RESTART_SECONDS)
        chosen, remark = (config, "") if min_nodes is None else choose_hosts(config, min_nodes)
        place = f"from the newest checkpoint in {config.training.save}{remark}"
        print(f"restart {number} of at most {max_restarts} (exit status {ending.status}) {place}", file=sys.stderr, flush=True)
        ending = start(chosen)
    return ending.status


def choose_hosts(config: NeoXConfig, min_nodes: int) -> tuple[NeoXConfig, str]:
    """Return the configuration with the hosts that answer, and a remark on those that do not.

    If too few answer, ask them again after each of WAITS. Raise LaunchError if fewer than `min_nodes` answer at last, or if the
    batch cannot be divided over any number of them.
    """
    layout = config.parallelism
    hosts = find_resources(replace(layout, num_nodes=None))
    for seconds in (*WAITS, None):
        with ThreadPoolExecutor(min(64, len(hosts))) as pool:
            answers = dict(zip(hosts, pool.map(has_answer, hosts), strict=True))
        silent = [host for host, answer in answers.items() if not answer]
        there = [host for host in hosts if answers[host]][: layout.num_nodes]
        remark = f"; no answer from {', '.join(silent)}" if silent else ""
        for count in range(len(there), min_nodes - 1, -1):
            if fitted := fit_to_hosts(config, {host: hosts[host] for host in there[:count]}):
                return fitted, f" on {count} of {len(hosts)} hosts{remark}"
        found = f"{len(there)} of {len(hosts)} hosts answer{remark}"
        if not silent or seconds is None:
            break
        print(f"{found}. They are asked again in {seconds:.0f} s.", file=sys.stderr, flush=True)
        time.sleep(seconds)
    raise LaunchError(
        f"{found}, and no number of them from --min-nodes ({min_nodes}) on can divide train_batch_size. Repair the hosts, or "
        "change --min-nodes or the batch."
    )


def fit_to_hosts(config: NeoXConfig, hosts: Resources) -> NeoXConfig | None:
    """Return the configuration for these hosts; None if the batch or the layout cannot be divided over their ranks."""
    layout = config.parallelism
    include = "@".join(f"{host}:{','.join(devices)}" for host, devices in hosts.items())
    try:
        ranks = sum(map(len, hosts.values()))
        config.batch_sizes(compute_data_parallel_size(ranks, layout.pipe_parallel_size, layout.model_parallel_size))
    except ConfigError:
        return None
    return replace(config, parallelism=replace(layout, include=include, exclude=None, num_nodes=None))


def has_answer(host: str) -> bool:
    """Return True if a command can be run on the host by ssh, or if the host is this machine."""
    if is_this_machine(host):
        return True
    options = ["-o", "BatchMode=yes", "-o", f"ConnectTimeout={ANSWER_SECONDS / 2:.0f}"]
    try:
        return subprocess.run(["ssh", *options, host, "true"], capture_output=True, timeout=ANSWER_SECONDS).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False
