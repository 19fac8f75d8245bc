"""The head of a run on several hosts: starts an agent on each, tells them what to run, and ends all of them together.

    python -m neox_code.launch.fleet --launcher=pdsh --hosts='{"node0": ["0", "1"], "node1": ["0", "1"]}' \
        --module neox_code.commands.train CONFIG...

    head (here) ── pdsh, mpirun or srun ──> agent (one a host) ──> launch.ranks ──> ranks
      └───────────── a connection to each agent: orders, beats, errors ────┘

The launcher's part is to start the agents; nothing is concluded from its exit status as long as they are there. A host that does
not answer, falls silent or fails ends the run on all others, and the first host's error, not its consequences elsewhere, is what
the supervisor prints.

No secret stands on a command line, which every user of a machine can read. The agents read the run's key from a file that its owner
alone can read, in this folder, which the hosts share; it is removed as soon as all have. Only who knows it is listened to. The
ranks' variables, WANDB_API_KEY among them, go over the connections, in clear text: the hosts' network is to be one that you trust.
"""

import argparse
import ipaddress
import json
import os
import queue
import secrets
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from neox_code.errors import EXIT_RESUME, EXIT_USER_ERROR, LaunchError
from neox_code.launch.contact import SILENT_SECONDS, Contact, Message, know_each_other
from neox_code.launch.hosts import address_of
from neox_code.launch.rank_process import run_rank
from neox_code.launch.stop_signals import StopSignals
from neox_code.launch.supervise import signal_sentence, start
from neox_code.processes.error_report import ERROR_VARIABLE, write_report

ANSWER_SECONDS = 20.0
"""From the start until every host's agent has answered."""

SETTLE_SECONDS = 1.0
"""After the first bad news, until it is decided which is the cause."""

STOP_SECONDS = 14.0
"""After the order to stop, until agents are waited for no longer."""

UNPROVED = 64
"""Connections at once that have not shown yet that they know the key; more wait."""

EXPORTED = ("PYTHON", "NCCL_", "GLOO_", "OMP_", "DS_", "CUDA_DEVICE", "TORCH", "UCX", "MV2", "MLFLOW", "WANDB_", "HF_", "LOGLEVEL")
"""How the variables begin that the ranks of other hosts get as well, besides those in .deepspeed_env."""


LAUNCHER_REMEDIES = {
    126: "A command that it needs, such as ssh, cannot be executed here: its output above names it.",
    127: "A command that it needs, such as ssh, is not installed here: its output above names it. Install it.",
    255: "ssh could not connect or log in: its output above names the reason. Check `ssh HOST true`, which must ask for nothing.",
}
"""What to do about a launcher's exit status; a shell gives the first two, ssh the last."""


@dataclass
class Fault:
    """Bad news."""

    message: str
    status: int = 1
    is_users: bool = False
    weight: int = 1
    """0 for an error of a rank's own, 1 for a host or process that is gone, 2 for what follows from others'."""


@dataclass
class Host:
    """What the head knows of a host."""

    name: str
    slots: tuple[str, ...]
    contact: Contact | None = None
    hello: Message = field(default_factory=dict)
    is_over: bool = False
    """Whether nothing more is to be expected of it."""


def main(argv: Sequence[str]) -> int:
    """Runs the head of a run and returns its exit status."""
    parser = argparse.ArgumentParser()
    for name in ("launcher", "master_addr"):
        parser.add_argument(f"--{name}")
    parser.add_argument("--hosts", type=json.loads)
    parser.add_argument("--stop_timeout", type=float)
    parser.add_argument("--master_port", type=int)
    parser.add_argument("--module", nargs=argparse.REMAINDER)
    parsed = parser.parse_args(argv)
    with listener() as server, StopSignals(relayed_by=os.getppid()) as signals:
        return Fleet(parsed, server, signals).to_the_end()


def listener() -> socket.socket:
    """A free port of this machine, on IPv6 as well where it has that."""
    is_dual = socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if is_dual else socket.AF_INET
    return socket.create_server(("", 0), family=family, backlog=1024, dualstack_ipv6=is_dual)


class Fleet:
    """One run on several hosts."""

    def __init__(self, parsed: argparse.Namespace, server: socket.socket, signals: StopSignals) -> None:
        self.parsed, self.signals = parsed, signals
        self.hosts = [Host(name, tuple(slots)) for name, slots in parsed.hosts.items()]
        self.environment = exported(os.environ)
        self.key = secrets.token_bytes(32)
        self.unproved = threading.BoundedSemaphore(UNPROVED)
        self.server = server
        self.inbox: queue.SimpleQueue[tuple[Contact, Message]] = queue.SimpleQueue()
        self.faults: list[Fault] = []
        self.has_begun = False
        self.is_to_resume = False
        """True once a host's ranks have ended to be resumed."""

    def to_the_end(self) -> int:
        """The whole run; returns its exit status."""
        threading.Thread(target=self.accept, daemon=True).start()
        addresses = [f"{address}:{self.server.getsockname()[1]}" for address in own_addresses([host.name for host in self.hosts])]
        self.key_file = leave_key(self.key, Path.cwd())
        try:
            agent = agent_command(",".join(addresses), self.key_file)
            command, environment = launcher_command(self.parsed.launcher, [host.name for host in self.hosts], agent)
            launcher = start(command, {**os.environ, **environment}, signal.SIGTERM)
            try:
                self.watch(launcher, addresses)
                self.stop()
            finally:
                end_group(launcher)
        finally:
            self.key_file.unlink(missing_ok=True)
        if self.signals.is_urgent and self.signals.received is not None:
            return 128 + self.signals.received
        if self.is_to_resume and all(fault.weight == 2 for fault in self.faults):
            return EXIT_RESUME
        if not self.faults:
            return 0
        cause = min(self.faults, key=lambda fault: fault.weight)
        write_report(Path(os.environ.get(ERROR_VARIABLE, os.devnull)), cause.message, cause.is_users, is_consequence=False)
        return EXIT_USER_ERROR if cause.is_users else cause.status

    def accept(self) -> None:
        while True:
            try:
                connection, _ = self.server.accept()
            except ConnectionAbortedError:
                continue
            except OSError:
                return
            self.unproved.acquire()
            threading.Thread(target=self.admit, args=(connection,), daemon=True).start()

    def admit(self, connection: socket.socket) -> None:
        """Listens to a connection that shows that it knows the run's key, and closes a stranger's."""
        try:
            if not know_each_other(connection, self.key, "head"):
                raise ConnectionError("a stranger")
            Contact(connection, lambda contact, message: self.inbox.put((contact, message)))
        except OSError:
            connection.close()
        finally:
            self.unproved.release()

    def watch(self, launcher: "subprocess.Popen[bytes]", addresses: Sequence[str]) -> None:
        """Until every host has ended well, or something is wrong and it is clear what."""
        deadline = time.monotonic() + ANSWER_SECONDS
        settled = float("inf")
        while not self.signals.is_urgent and time.monotonic() < settled and not all(host.is_over for host in self.hosts):
            self.hear(0.1)
            number = self.signals.look(0.1)
            if number is not None:
                if not self.has_begun:  # no rank runs yet
                    self.is_to_resume = True
                    return
                self.hand_on(number)
            now = time.monotonic()
            missing = [host.name for host in self.hosts if host.contact is None]
            if not missing and not self.has_begun:
                self.begin()
            if missing and now > deadline and not self.may_queue and not self.faults:
                self.faults.append(Fault(
                    f"{', '.join(missing)} did not answer within {ANSWER_SECONDS:.0f} s. Check that it is up, that "
                    f"{self.parsed.launcher} reaches it from here without a password, and that it reaches {' or '.join(addresses)}."
                ))  # fmt: skip
            for host in self.hosts:
                if host.contact is not None and not host.is_over and host.contact.is_silent:
                    host.is_over = True
                    self.faults.append(Fault(
                        f"{host.name} has not been heard of for {SILENT_SECONDS:.0f} s: it is cut off or down. Repair or "
                        "replace it, and rerun the same command."
                    ))  # fmt: skip
            code = launcher.poll()
            if code is not None and not self.faults and not all(host.is_over for host in self.hosts):
                self.hear(2.0)
                if not self.faults and not all(host.is_over for host in self.hosts):
                    self.faults.append(self.launcher_fault(code, missing))
            if self.faults and settled == float("inf"):
                settled = now + SETTLE_SECONDS
        code = launcher.poll()
        if self.faults and code is not None and code < 0:  # killed, and the agents by it
            self.faults.append(self.launcher_fault(code))

    def launcher_fault(self, code: int, missing: Sequence[str] = ()) -> Fault:
        """What to say of a launcher that has ended before the run; a signal is never a consequence of what happened elsewhere."""
        how = f"by {signal.Signals(-code).name}" if code < 0 else f"with status {code}"
        missed = f" before {', '.join(missing)} answered" if missing else ""
        remedy = (
            "Rerun the same command." if code < 0 else LAUNCHER_REMEDIES.get(code, "Its output above names the reason: remove it.")
        )
        return Fault(
            f"{self.parsed.launcher} ended {how}{missed}. {remedy}",
            128 - code if code < 0 else code or 1,
            weight=0 if code < 0 else 1,
        )

    @property
    def may_queue(self) -> bool:
        """Whether the hosts are still to be allocated."""
        return self.parsed.launcher == "slurm" and "SLURM_JOB_ID" not in os.environ

    def hear(self, seconds: float) -> None:
        """Takes in what the agents say, for so long."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            try:
                contact, message = self.inbox.get(timeout=left)
            except queue.Empty:
                return
            if message["kind"] == "hello":
                self.welcome(contact, message)
            for host in self.hosts:
                if host.contact is contact and not host.is_over and message["kind"] in ("ended", "lost"):
                    host.is_over = True
                    self.note_end(host, message)

    def welcome(self, contact: Contact, hello: Message) -> None:
        """A host's agent is there; a second one is sent away."""
        by_name = {host.name: host for host in self.hosts}
        host = None
        if 0 <= hello["node"] < len(self.hosts):
            host = by_name.get(hello["host"]) or self.hosts[hello["node"]]  # Slurm has an order of its own
        if host is None or host.contact is not None:
            contact.close()
            return
        host.contact, host.hello = contact, hello

    def begin(self) -> None:
        """Every agent gets the order to start its ranks; nobody else is let in any more."""
        self.has_begun = True
        self.server.shutdown(socket.SHUT_RDWR)
        self.key_file.unlink(missing_ok=True)
        first = self.hosts[0]
        assert first.contact is not None
        address = self.parsed.master_addr or first.contact.address
        for node, host in enumerate(self.hosts):
            assert host.contact is not None
            host.contact.send(
                kind="start",
                node=node,
                hosts={host.name: host.slots for host in self.hosts},
                master_addr=address,
                master_port=self.parsed.master_port or first.hello["port"],
                command=self.parsed.module,
                stop_timeout=self.parsed.stop_timeout,
                environment=self.environment,
            )

    def hand_on(self, number: signal.Signals) -> None:
        """Send a signal to the ranks of all hosts that still run: a warning as it is, others as SIGTERM, since the shell that
        starts an agent may have SIGINT ignored.
        """
        sent = number if number == signal.SIGUSR1 else signal.SIGTERM
        for host in self.hosts:
            if host.contact is not None and not host.is_over:
                host.contact.send(kind="signal", number=sent)

    def note_end(self, host: Host, message: Message) -> None:
        """Record the failure of a host's ranks, if they failed; where they ended to be resumed, all others are to do the same."""
        if message["kind"] == "lost":
            self.faults.append(Fault(
                f"the run on {host.name} was killed, or the host went down. Look there for the reason (dmesg names a process that "
                "was killed for memory), remove it, and rerun the same command."
            ))  # fmt: skip
            return
        status, report = message["status"], message["report"]
        if status == EXIT_RESUME:
            if not self.is_to_resume:
                self.hand_on(signal.SIGTERM)
            self.is_to_resume = True
            return
        signaled = signal_sentence(status)
        if report is not None and not (report["is_consequence"] and signaled):
            weight = 2 if report["is_consequence"] else 0
            self.faults.append(Fault(f"{host.name}: {report['message']}", status or 1, report["is_users"], weight))
        elif message["received"]:
            self.faults.append(Fault(
                f"the run on {host.name} was stopped by {message['received']}, from that host or its scheduler. Rerun the "
                "same command.",
                status,
            ))  # fmt: skip
        elif status != 0:
            self.faults.append(Fault(f"{host.name}: {signaled or f'the ranks ended with status {status}.'}", status))

    def stop(self) -> None:
        """Ends the run where it still goes on, and lets the agents go."""
        for host in self.hosts:
            if host.contact is not None and not host.is_over:
                host.contact.send(kind="stop")
        until = time.monotonic() + STOP_SECONDS
        faults, self.faults = self.faults, []
        while time.monotonic() < until and any(host.contact is not None and not host.is_over for host in self.hosts):
            self.hear(0.1)
            for host in self.hosts:
                host.is_over = host.is_over or (host.contact is not None and host.contact.is_silent)
        self.faults = faults
        for host in self.hosts:
            if host.contact is not None:
                host.contact.send(kind="goodbye")


def exported(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables that the ranks of all hosts get: those of EXPORTED, and the lines NAME=VALUE of .deepspeed_env.

    Raises LaunchError for such a file that cannot be followed.
    """
    chosen = {name: value for name, value in environment.items() if name.startswith(EXPORTED)}
    name = environment.get("DS_ENV_FILE", ".deepspeed_env")
    for path in (Path.home() / name, Path(name)):
        if path.is_file():
            chosen |= read_variables(path)
    return chosen


def read_variables(path: Path) -> dict[str, str]:
    """The lines NAME=VALUE of a file, empty ones and comments left out."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        raise LaunchError(f"{path} is not a text file in UTF-8 that can be read. Write a line NAME=VALUE per variable.") from None
    variables = {}
    for number, line in enumerate(map(str.strip, lines), 1):
        name, equals, value = line.partition("=")
        if line and not line.startswith("#"):
            if not equals or not name:
                raise LaunchError(f"{path}:{number} ({name}) is not NAME=VALUE. Write the line in that form.")
            variables[name] = value
    return variables


def own_addresses(hosts: Sequence[str]) -> list[str]:
    """This machine's addresses as the hosts may see them, IPv4 first.

    The loopback ones only where there are no others: on another host they are that host's own.
    """
    found: dict[str, None] = {}
    for host in hosts:
        with suppress(OSError, UnicodeError):
            for family, kind, protocol, _, place in socket.getaddrinfo(address_of(host), 9, type=socket.SOCK_DGRAM):
                with suppress(OSError), socket.socket(family, kind, protocol) as probe:
                    probe.connect(place)
                    found[probe.getsockname()[0]] = None
    known = {address: ipaddress.ip_address(address) for address in found if "%" not in address}
    seen = [address for address, parsed in known.items() if not parsed.is_loopback] or list(known)
    ordered = sorted(seen, key=lambda address: known[address].version)
    return [f"[{address}]" if ":" in address else address for address in ordered] or [socket.gethostname()]


def leave_key(key: bytes, folder: Path) -> Path:
    """A new file in a folder, for its owner's eyes alone, that holds the key."""
    try:
        with tempfile.NamedTemporaryFile(prefix=".neox-code-key-", dir=folder, delete=False) as file:
            file.write(key)
    except OSError as error:
        raise LaunchError(
            f"{folder} cannot be written ({error.strerror}), and a run on several hosts leaves its key there for a few seconds. "
            "Start it in a folder that all hosts share and that you may write."
        ) from None
    return Path(file.name)


def agent_command(head: str, key: Path) -> list[str]:
    """The words that start an agent, in this folder and with this Python, which all hosts share."""
    path = os.environ.get("PYTHONPATH", "")
    return [
        *("env", "-C", str(Path.cwd()), f"PYTHONPATH={path}", sys.executable, "-u", "-m", "neox_code.launch.agent"),
        f"--head={head}",
        f"--key={key}",
    ]


def launcher_command(launcher: str, hosts: Sequence[str], agent: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """The command that starts an agent on each host, and what it needs in its environment.

    Raises LaunchError where the launcher is not installed.
    """
    count, names = str(len(hosts)), ",".join(hosts)
    program = next(filter(shutil.which, PROGRAMS[launcher]), None)
    if program is None:
        raise LaunchError(f"launcher {launcher} needs {PROGRAMS[launcher][-1]}, which is not installed here. {INSTALL}")
    as_root = ["--allow-run-as-root"] if os.geteuid() == 0 else []
    one_each = ["--map-by", "ppr:1:node", "--bind-to", "none"]
    commands = {
        "pdsh": [program, "-S", "-f", "1024", "-w", names, shlex.join(agent).replace("%", "%%") + " --node=%n"],
        "openmpi": [program, *as_root, "--host", ",".join(f"{host}:1" for host in hosts), "-np", count, *one_each, *agent],
        "mpich": [program, "-n", count, "-ppn", "1", "-hosts", names, *agent],
        "slurm": [
            *(program, f"--nodes={count}", f"--ntasks={count}", "--ntasks-per-node=1", f"--nodelist={names}", "--cpu-bind=none"),
            *agent,
        ],
    }
    environment = {"PDSH_RCMD_TYPE": "ssh", "PDSH_SSH_ARGS_APPEND": f"{os.environ.get('PDSH_SSH_ARGS_APPEND', '')} {SSH}".strip()}
    return commands[launcher], environment if launcher == "pdsh" else {}


PROGRAMS: dict[str, tuple[str, ...]] = {
    "pdsh": ("pdsh",),
    "openmpi": ("mpirun.openmpi", "mpirun"),
    "mpich": ("mpirun.mpich", "mpiexec.hydra", "mpirun"),
    "slurm": ("srun",),
}
INSTALL = "Install it, or set another launcher (pdsh, openmpi, mpich, slurm)."

SSH = "-o BatchMode=yes -o ServerAliveInterval=5 -o ServerAliveCountMax=2"
"""Asks nothing, and gives a host up that is silent."""


def end_group(launcher: "subprocess.Popen[Any]") -> None:
    """Ends the launcher and its process group, which it may do on its own first."""
    for number, seconds in ((None, 2.0), (signal.SIGTERM, 2.0), (signal.SIGKILL, 5.0)):
        if number is not None:
            try:
                os.killpg(launcher.pid, number)
            except ProcessLookupError:
                return
        try:
            launcher.wait(seconds)
        except subprocess.TimeoutExpired:
            continue


if __name__ == "__main__":
    sys.exit(run_rank(main, sys.argv[1:]))
