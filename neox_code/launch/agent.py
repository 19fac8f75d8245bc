"""The agent of a run on one of its hosts: starts this host's ranks when the head says so, and ends them when the head is gone.

    python -m neox_code.launch.agent --head=10.0.0.1:40001,10.1.0.1:40001 --key=/shared/project/.neox-code-key-8f2c --node=1

pdsh, mpirun and srun start one agent a host; everything else it gets over its connection to the head (`fleet`): the command, so
that no shell on the way reads it, and the environment, so that no secret stands on a command line. It ends the ranks when the
connection is closed or silent, whatever has become of the program that started it. It obeys only who knows the run's key.
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
from neox_code.launch.command import environment_here, host_launcher, meeting_port
from neox_code.launch.contact import Contact, Message, know_each_other
from neox_code.launch.rank_process import LAUNCHER_VARIABLE
from neox_code.launch.stop_signals import StopSignals
from neox_code.launch.supervise import Ending, run_to_end
from neox_code.processes.error_report import ERROR_VARIABLE

CONNECT_SECONDS = 3.0
NODE_VARIABLES = ("OMPI_COMM_WORLD_RANK", "PMI_RANK", "SLURM_PROCID")
"""Where MPI and Slurm say which of their processes this is."""

MPI_PREFIXES = ("OMPI_", "PMI", "MPI_", "HYDRA_")
"""Of variables that describe the agent to MPI; DeepSpeed would take them for its ranks'."""

RELAYS = r"^(\S*/)?(orted|prted|hydra_pmi_proxy) |^sshd(-session)?: \S+@notty"
"""The command lines of MPI's own agents and of ssh's sessions without a terminal."""


def main(argv: Sequence[str]) -> int:
    """Run this host's ranks; return 0 when the head was told how they ended, else their status."""
    parser = argparse.ArgumentParser()
    for name in ("head", "key", "node"):
        parser.add_argument(f"--{name}")
    parsed = parser.parse_args(argv)
    node = int(parsed.node if parsed.node is not None else next(os.environ[name] for name in NODE_VARIABLES if name in os.environ))
    for name in [name for name in os.environ if name in (LAUNCHER_VARIABLE, ERROR_VARIABLE) or name.startswith(MPI_PREFIXES)]:
        del os.environ[name]
    with StopSignals(relayed_by=os.getpid()) as signals:  # before the contact's threads start
        return follow_head(parsed, node, signals)


def follow_head(parsed: argparse.Namespace, node: int, signals: StopSignals) -> int:
    inbox: queue.SimpleQueue[Message] = queue.SimpleQueue()
    contact = Contact(connect(parsed.head, read_key(Path(parsed.key))), lambda _, message: inbox.put(message))
    contact.send(kind="hello", node=node, host=os.environ.get("SLURMD_NODENAME"), port=meeting_port(0, is_default=True))
    order = next_order(contact, inbox)
    if order["kind"] != "start":
        return 1
    watch = threading.Thread(target=obey, args=(contact, inbox, signals), daemon=True)
    ending = run_ranks(order, watch, signals)
    contact.send(
        kind="ended",
        status=ending.status,
        report=ending.report,
        received=ending.received.name if ending.received is not None and ending.was_cut else None,
    )
    watch.join()
    return 0 if ending.status == 0 or contact.is_open else ending.status


def read_key(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise LaunchError(
            f"{socket.gethostname()} cannot read the run's key {path} ({error.strerror}): the run is over, or its hosts do not "
            "share this folder. Start it in one that they share."
        ) from None


def connect(head: str, key: bytes) -> socket.socket:
    """A connection to the first of the head's addresses where it answers, and no stranger."""
    reason: OSError | str = ""
    for address in head.split(","):
        host, _, port = address.rpartition(":")
        connection = None
        try:
            connection = socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS)
            if know_each_other(connection, key, "agent"):
                return connection
            reason = "another program answers there"
        except OSError as error:
            reason = error
        if connection is not None:
            connection.close()
    raise LaunchError(f"{socket.gethostname()} cannot reach the run's head at {head}: {reason}. Open its ports to this host.")


def next_order(contact: Contact, inbox: "queue.SimpleQueue[Message]") -> Message:
    """What the head says next; `lost` where it is gone or silent."""
    while not contact.is_silent:
        try:
            return inbox.get(timeout=0.5)
        except queue.Empty:
            continue
    return {"kind": "silent"}


def obey(contact: Contact, inbox: "queue.SimpleQueue[Message]", signals: StopSignals) -> None:
    """Hand on the head's signals, and end the run at once when the head orders it or is gone; return when it says goodbye."""
    while (order := next_order(contact, inbox))["kind"] != "goodbye":
        if order["kind"] == "signal":
            os.kill(os.getpid(), order["number"])
            continue
        if order["kind"] == "silent":
            end_relay(os.getppid())
        signals.is_urgent = True
        if order["kind"] != "stop":
            return


def end_relay(process: int) -> None:
    """Ends this process and its ancestors as far as they are MPI's agents or sshd's sessions, which would wait for the network."""
    while process > 1:
        try:
            words = Path(f"/proc/{process}/cmdline").read_bytes().replace(b"\0", b" ").decode()
            parent = int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            return
        if re.search(RELAYS, words):
            os.kill(process, signal.SIGTERM)
        process = parent


def run_ranks(order: Message, watch: threading.Thread, signals: StopSignals) -> Ending:
    """This host's ranks, from their start to their end."""
    os.environ.update(order["environment"])
    node = order["node"]
    if node == 0:
        try:
            meeting_port(order["master_port"], is_default=False)
        except LaunchError as error:
            watch.start()
            return Ending(2, {"message": str(error), "is_users": True, "is_consequence": False}, None, False)
    hosts = {host: tuple(slots) for host, slots in order["hosts"].items()}
    words = host_launcher(hosts, node, order["master_addr"], order["master_port"])
    watch.start()
    environment = environment_here(len(list(hosts.values())[node]))
    return run_to_end([*words, "--module", *order["command"]], signals, environment, order["stop_timeout"])


if __name__ == "__main__":
    sys.exit(run_command(main, sys.argv[1:]))
