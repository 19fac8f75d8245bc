"""The agent on one host of a run: the head orders it to start this host's ranks, and it ends the ranks when the head ends.

    python -m neox_code.launch.agent --head=10.0.0.1:40001,10.1.0.1:40001 --key=/shared/project/.neox-code-key-8f2c --node=1

pdsh, mpirun and srun start one agent per host. The agent receives the command and the environment over its connection to the head
(`fleet`, the process that controls all hosts), so that no shell parses the command and no secret is on a command line. When the
connection is closed or silent, the agent ends the ranks, even if pdsh, mpirun or srun still runs. It accepts only a head with the
run's key.
"""

import argparse
import os
import queue
import re
import signal
import socket
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from neox_code.errors import LaunchError, run_command
from neox_code.launch.command import choose_port, make_host_environment, make_host_launcher
from neox_code.launch.connection import Connection, Message, authenticate
from neox_code.launch.rank_process import LAUNCHER_VARIABLE
from neox_code.launch.stop_signals import StopSignals
from neox_code.launch.supervise import Ending, run_to_end
from neox_code.processes.error_report import ERROR_VARIABLE
from neox_code.processes.procfs import read_command

CONNECT_SECONDS = 3.0
NODE_VARIABLES = ("OMPI_COMM_WORLD_RANK", "PMI_RANK", "SLURM_PROCID")
"""Variables in which MPI and Slurm pass the index of a process."""

MPI_PREFIXES = ("OMPI_", "PMI", "MPI_", "HYDRA_")
"""Prefixes of variables that describe the agent to MPI. The ranks do not get these variables, because DeepSpeed would read them."""

RELAYS = r"^(\S*/)?(orted|prted|hydra_pmi_proxy) |^sshd(-session)?: \S+@notty"
"""Pattern of command lines: agents of MPI, and ssh sessions without a terminal. The agent ends these parents of its own process."""


def main(argv: Sequence[str]) -> int:
    """Run this host's ranks. Return 0 if the head has received the ranks' exit status, else the exit status itself."""
    parser = argparse.ArgumentParser()
    for name in ("head", "key", "node"):
        parser.add_argument(f"--{name}")
    parsed = parser.parse_args(argv)
    node = int(parsed.node if parsed.node is not None else next(os.environ[name] for name in NODE_VARIABLES if name in os.environ))
    for name in [name for name in os.environ if name in (LAUNCHER_VARIABLE, ERROR_VARIABLE) or name.startswith(MPI_PREFIXES)]:
        del os.environ[name]
    with StopSignals(relayed_by=os.getpid()) as signals:  # before the threads of the connection start
        return serve_head(parsed, node, signals)


def serve_head(parsed: argparse.Namespace, node: int, signals: StopSignals) -> int:
    """Connect to the head, run the ranks that the head orders, report how they ended, and return the exit status."""
    inbox: queue.SimpleQueue[Message] = queue.SimpleQueue()
    connection = Connection(connect_to_head(parsed.head, read_key(Path(parsed.key))), lambda _, message: inbox.put(message))
    connection.send(kind="hello", node=node, host=os.environ.get("SLURMD_NODENAME"), port=choose_port(0, is_default=True))
    order = receive_order(connection, inbox)
    if order["kind"] != "start":
        return 1
    watch = threading.Thread(target=handle_orders, args=(connection, inbox, signals), daemon=True)
    ending = run_ranks(order, watch, signals)
    connection.send(
        kind="ended",
        status=ending.status,
        report=ending.report,
        received=ending.received.name if ending.received is not None and ending.was_killed else None,
    )
    watch.join()
    return 0 if ending.status == 0 or connection.is_open else ending.status


def read_key(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise LaunchError(
            f"{socket.gethostname()} cannot read the run's key {path} ({error.strerror}): the run is over, or its hosts do not "
            "share this folder. Start it in one that they share."
        ) from None


def connect_to_head(head: str, key: bytes) -> socket.socket:
    """Return a connection to the first address at which the head answers and is authenticated."""
    reason: OSError | str = ""
    for address in head.split(","):
        host, _, port = address.rpartition(":")
        connection = None
        try:
            connection = socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS)
            if authenticate(connection, key, "agent"):
                return connection
            reason = "the program that answers there does not have the run's key"
        except OSError as error:
            reason = error
        if connection is not None:
            connection.close()
    raise LaunchError(f"{socket.gethostname()} cannot connect to the run's head {head}: {reason}. Open its ports to this host.")


def receive_order(connection: Connection, inbox: "queue.SimpleQueue[Message]") -> Message:
    """Return the head's next message. Its kind is `lost` if the head has ended, and `silent` if the head sends no heartbeats."""
    while not connection.is_silent:
        try:
            return inbox.get(timeout=0.5)
        except queue.Empty:
            continue
    return {"kind": "silent"}


def handle_orders(connection: Connection, inbox: "queue.SimpleQueue[Message]", signals: StopSignals) -> None:
    """Pass the head's signals to the ranks until the message `goodbye`. End the ranks if the head orders this or is lost."""
    while (order := receive_order(connection, inbox))["kind"] != "goodbye":
        if order["kind"] == "signal":
            os.kill(os.getpid(), order["number"])
            continue
        if order["kind"] == "silent":
            end_relay(os.getppid())
        signals.is_urgent = True
        if order["kind"] != "stop":
            return


def end_relay(process: int) -> None:
    """End `process` and its ancestors if they are MPI agents or ssh sessions, because these would wait for the lost network."""
    while process > 1:
        found = read_command(process)
        if found is None:
            return
        command, parent = found
        if re.search(RELAYS, command):
            os.kill(process, signal.SIGTERM)
        process = parent


def run_ranks(order: Message, watch: threading.Thread, signals: StopSignals) -> Ending:
    """Start this host's ranks and the thread `watch`; return how the ranks ended."""
    os.environ.update(order["environment"])
    node = order["node"]
    if node == 0:
        try:
            choose_port(order["master_port"], is_default=False)
        except LaunchError as error:
            watch.start()
            return Ending(2, {"message": str(error), "is_users": True, "is_consequence": False}, None, False)
    hosts = {host: tuple(slots) for host, slots in order["hosts"].items()}
    launcher = make_host_launcher(hosts, node, order["master_addr"], order["master_port"])
    watch.start()
    environment = make_host_environment(len(list(hosts.values())[node]))
    return run_to_end([*launcher, "--module", *order["command"]], signals, environment, order["stop_timeout"])


if __name__ == "__main__":
    sys.exit(run_command(main, sys.argv[1:]))
