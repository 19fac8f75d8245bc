"""Start the ranks of a run on one host, pass signals on to them, and end them together.

    python -m neox_code.launch.ranks --hosts='{"localhost": ["0", "1"]}' --master_addr=127.0.0.1 --master_port=29500 \
        --module neox_code.commands.train CONFIG...
    python -m neox_code.launch.ranks --nodes=2 --ranks_per_node=8 --node_rank=1 --master_addr=first-host --module ...

Our launcher uses the first form. The second form is for schedulers that start one process per host, like `torchrun`. But torchrun
exits with status 1 after any failure, while this module exits with the status of its ranks, for example EXIT_RESUME.

When a rank fails, the others are killed. When a rank exits with EXIT_RESUME, the others are sent SIGTERM to do the same.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from signal import SIGHUP, SIGTERM

from neox_code.errors import EXIT_RESUME, run_command
from neox_code.launch.hosts import Resources, find_visible_gpus, list_device_numbers
from neox_code.launch.rank_process import LAUNCHER_VARIABLE
from neox_code.launch.stop_signals import StopSignals
from neox_code.launch.supervise import convert_exit_status
from neox_code.processes.parent import die_with_parent
from neox_code.processes.procfs import read_start_time

RESUME_SECONDS = 10.0
"""Seconds from a rank's first exit with EXIT_RESUME until the other ranks are killed. All should end after the same step."""

POLL_SECONDS = 0.1


def main(argv: Sequence[str]) -> int:
    """Run the ranks of this host to their end; return 0, EXIT_RESUME or the status of the first rank that failed."""
    parsed = build_parser().parse_args(argv)
    hosts: Resources = parsed.hosts or {str(node): list_device_numbers(parsed.ranks_per_node) for node in range(parsed.nodes)}
    environments = make_environments(hosts, parsed.node_rank, parsed.master_addr, parsed.master_port)
    with StopSignals(relayed_by=os.getppid()) as signals:
        return run_ranks([sys.executable, "-u", "-m", *parsed.module], environments, signals)


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of this module's command line."""
    result = argparse.ArgumentParser(
        prog="python -m neox_code.launch.ranks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = result.add_argument
    add("--hosts", type=json.loads, metavar="JSON", help="devices of each host, in the order of the node ranks")
    add("--nodes", type=int, default=1, metavar="N", help="number of hosts, if --hosts does not name them")
    add("--ranks_per_node", type=int, default=1, metavar="N", help="ranks on each host")
    add("--node_rank", type=int, default=0, metavar="I", help="index of this host, from 0")
    add("--master_addr", default="127.0.0.1", metavar="HOST", help="address of the first host")
    add("--master_port", type=int, default=29500, metavar="PORT", help="port of the first host where the ranks connect")
    add("--module", nargs=argparse.REMAINDER, required=True, metavar="NAME ARGS...", help="Python module to run on each rank")
    return result


def make_environments(hosts: Resources, node: int, address: str, port: int) -> list[dict[str, str]]:
    """Return the variables of each rank on host number `node`, as torchrun and DeepSpeed's launcher set them."""
    slots = list(hosts.values())
    first_rank = sum(map(len, slots[:node]))
    shared = {
        "WORLD_SIZE": sum(map(len, slots)),
        "LOCAL_WORLD_SIZE": len(slots[node]),
        "LOCAL_SIZE": len(slots[node]),
        "CROSS_RANK": node,
        "CROSS_SIZE": len(hosts),
        "MASTER_ADDR": address,
        "MASTER_PORT": port,
    }
    if find_visible_gpus():
        shared["CUDA_VISIBLE_DEVICES"] = ",".join(slots[node])
    if LAUNCHER_VARIABLE not in os.environ:  # started by a user or scheduler: the ranks end with this process
        shared[LAUNCHER_VARIABLE] = f"{os.getpid()}:{read_start_time(os.getpid())}"
    own = [{"RANK": first_rank + local_rank, "LOCAL_RANK": local_rank} for local_rank in range(len(slots[node]))]
    return [{name: str(value) for name, value in (shared | rank).items()} for rank in own]


def run_ranks(command: Sequence[str], environments: Sequence[Mapping[str, str]], signals: StopSignals) -> int:
    """Start a rank with each environment, wait until all have ended, and return the exit status."""
    ranks = [
        subprocess.Popen(command, env={**os.environ, **environment}, preexec_fn=die_with_parent) for environment in environments
    ]
    try:
        return wait_for_ranks(ranks, signals)
    finally:
        for rank in ranks:
            rank.kill()
            rank.wait()


def wait_for_ranks(ranks: Sequence["subprocess.Popen[bytes]"], signals: StopSignals) -> int:
    """Wait until all ranks have ended or one has failed, pass signals on meanwhile, and return the exit status."""
    deadline = float("inf")
    while None in (codes := [rank.poll() for rank in ranks]):
        number = signals.wait(POLL_SECONDS)
        failed = [code for code in codes if code not in (None, 0, EXIT_RESUME)]
        if signals.is_urgent and signals.received is not None:
            return 128 + signals.received
        if failed:
            return convert_exit_status(failed[0])
        if EXIT_RESUME in codes and deadline == float("inf"):
            deadline, number = time.monotonic() + RESUME_SECONDS, SIGTERM
        if time.monotonic() > deadline:
            return EXIT_RESUME
        for rank in ranks:
            if number is not None:
                rank.send_signal(SIGTERM if number == SIGHUP else number)
    if EXIT_RESUME in codes:
        return EXIT_RESUME
    return convert_exit_status(next((code for code in codes if code), 0))


if __name__ == "__main__":
    sys.exit(run_command(main, sys.argv[1:]))
