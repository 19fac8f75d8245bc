"""The head of a run on several hosts: it starts an agent on each host, sends the command to the agents, and ends them together.

    python -m neox_code.launch.fleet --launcher=pdsh --hosts='{"node0": ["0", "1"], "node1": ["0", "1"]}' \
        --module neox_code.commands.train CONFIG...

    head (here) ── pdsh, mpirun or srun ──> agent (one a host) ──> launch.ranks ──> ranks
      └───────────── a connection to each agent: orders, heartbeats, errors ┘

The launcher (pdsh, mpirun or srun) only starts the agents. Its exit status is ignored while the agents are connected. If a host
does not answer, becomes silent or fails, the run ends on all hosts. The supervisor prints only the error of the host that failed
first, because errors on other hosts are its consequences.

Every user of a host can read command lines, so they contain no secret. The agents read the run's key from a file in this folder,
which the hosts share. Only its owner can read the file, and it is removed when all agents have read it. Connections without the key
are closed. The ranks' variables, including WANDB_API_KEY, are sent unencrypted: use a network that you trust.
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
from neox_code.launch.connection import SILENT_SECONDS, Connection, Message, authenticate
from neox_code.launch.hosts import strip_user
from neox_code.launch.rank_process import run_rank
from neox_code.launch.stop_signals import StopSignals
from neox_code.launch.supervise import format_signal, start
from neox_code.processes.error_report import ERROR_VARIABLE, write_report

ANSWER_SECONDS = 20.0
"""Time limit in seconds for the agents of all hosts to connect."""

CAUSE_SECONDS = 1.0
"""Seconds from the first failure until the head decides which failure is the cause."""

STOP_SECONDS = 14.0
"""Time limit in seconds for agents to end after the order to stop."""

MOST_UNAUTHENTICATED = 64
"""Maximum number of connections that are authenticated at the same time. Further connections wait."""

EXPORTED = ("PYTHON", "NCCL_", "GLOO_", "OMP_", "DS_", "CUDA_DEVICE", "TORCH", "UCX", "MV2", "MLFLOW", "WANDB_", "HF_", "LOGLEVEL")
"""Prefixes of the variables that are sent to the ranks of other hosts, in addition to those in .deepspeed_env."""


LAUNCHER_REMEDIES = {
    126: "A command that it needs, such as ssh, cannot be executed here: its output above names it.",
    127: "A command that it needs, such as ssh, is not installed here: its output above names it. Install it.",
    255: "ssh could not connect or log in: its output above names the reason. Check `ssh HOST true`, which must ask for nothing.",
}
"""Exit status of the launcher -> remedy. 126 and 127 come from a shell, 255 from ssh."""


@dataclass
class HostFailure:
    """A failure on a host, with a weight. The failure with the smallest weight is reported as the probable cause of the others."""

    message: str
    status: int = 1
    is_users: bool = False
    weight: int = 1
    """Order of causes: 0 for an error in a rank, 1 for a lost host or process, 2 for a consequence of another failure."""


@dataclass
class Host:
    name: str
    slots: tuple[str, ...]
    connection: Connection | None = None
    hello: Message = field(default_factory=dict)
    is_over: bool = False
    """True if the host's ranks have ended or the host was lost."""


def main(argv: Sequence[str]) -> int:
    """Run the head of a run and return its exit status."""
    parser = argparse.ArgumentParser()
    for name in ("launcher", "master_addr"):
        parser.add_argument(f"--{name}")
    parser.add_argument("--hosts", type=json.loads)
    parser.add_argument("--stop_timeout", type=float)
    parser.add_argument("--master_port", type=int)
    parser.add_argument("--module", nargs=argparse.REMAINDER)
    parsed = parser.parse_args(argv)
    with open_listener() as server, StopSignals(relayed_by=os.getppid()) as signals:
        return Fleet(parsed, server, signals).run()


def open_listener() -> socket.socket:
    """Return a socket that listens on a free port, on IPv4 and, if this host has it, IPv6."""
    is_dual = socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if is_dual else socket.AF_INET
    return socket.create_server(("", 0), family=family, backlog=1024, dualstack_ipv6=is_dual)


class Fleet:
    def __init__(self, parsed: argparse.Namespace, server: socket.socket, signals: StopSignals) -> None:
        self.parsed, self.signals = parsed, signals
        self.hosts = [Host(name, tuple(slots)) for name, slots in parsed.hosts.items()]
        self.environment = select_variables(os.environ)
        self.key = secrets.token_bytes(32)
        self.unauthenticated = threading.BoundedSemaphore(MOST_UNAUTHENTICATED)
        self.server = server
        self.inbox: queue.SimpleQueue[tuple[Connection, Message]] = queue.SimpleQueue()
        self.failures: list[HostFailure] = []
        self.has_started = False
        self.is_resumable = False
        """True once the ranks of a host have exited with EXIT_RESUME."""

    def run(self) -> int:
        """Run all hosts to the end and return the exit status."""
        threading.Thread(target=self.accept, daemon=True).start()
        addresses = [
            f"{address}:{self.server.getsockname()[1]}" for address in find_own_addresses([host.name for host in self.hosts])
        ]
        self.key_file = write_key(self.key, Path.cwd())
        try:
            agent = make_agent_command(",".join(addresses), self.key_file)
            command, environment = make_launcher_command(self.parsed.launcher, [host.name for host in self.hosts], agent)
            launcher = start(command, {**os.environ, **environment}, signal.SIGTERM)
            try:
                self.watch(launcher, addresses)
                self.stop()
            finally:
                stop_process_group(launcher)
        finally:
            self.key_file.unlink(missing_ok=True)
        if self.signals.is_urgent and self.signals.received is not None:
            return 128 + self.signals.received
        if self.is_resumable and all(failure.weight == 2 for failure in self.failures):
            return EXIT_RESUME
        if not self.failures:
            return 0
        cause = min(self.failures, key=lambda failure: failure.weight)
        write_report(Path(os.environ.get(ERROR_VARIABLE, os.devnull)), cause.message, cause.is_users, is_consequence=False)
        return EXIT_USER_ERROR if cause.is_users else cause.status

    def accept(self) -> None:
        """Accept connections, and authenticate each in a thread of its own."""
        while True:
            try:
                connection, _ = self.server.accept()
            except ConnectionAbortedError:
                continue
            except OSError:
                return
            self.unauthenticated.acquire()
            threading.Thread(target=self.authenticate, args=(connection,), daemon=True).start()

    def authenticate(self, connection: socket.socket) -> None:
        """Read the messages of a connection whose other end has the run's key; close any other."""
        try:
            if not authenticate(connection, self.key, "head"):
                raise ConnectionError("the other end does not have the run's key")
            Connection(connection, lambda agent, message: self.inbox.put((agent, message)))
        except OSError:
            connection.close()
        finally:
            self.unauthenticated.release()

    def watch(self, launcher: "subprocess.Popen[bytes]", addresses: Sequence[str]) -> None:
        """Start the ranks when all agents have connected; return when all hosts have ended, or CAUSE_SECONDS after a failure."""
        deadline = time.monotonic() + ANSWER_SECONDS
        decision_time = float("inf")
        while not self.signals.is_urgent and time.monotonic() < decision_time and not all(host.is_over for host in self.hosts):
            self.receive(0.1)
            number = self.signals.wait(0.1)
            if number is not None:
                if not self.has_started:  # no rank runs yet
                    self.is_resumable = True
                    return
                self.send_signal(number)
            now = time.monotonic()
            missing = [host.name for host in self.hosts if host.connection is None]
            if not missing and not self.has_started:
                self.start_ranks()
            if missing and now > deadline and not self.is_queued and not self.failures:
                self.failures.append(HostFailure(
                    f"{', '.join(missing)} did not answer within {ANSWER_SECONDS:.0f} s. Check that it is up, that "
                    f"{self.parsed.launcher} reaches it from here without a password, and that it reaches {' or '.join(addresses)}."
                ))  # fmt: skip
            for host in self.hosts:
                if host.connection is not None and not host.is_over and host.connection.is_silent:
                    host.is_over = True
                    self.failures.append(HostFailure(
                        f"{host.name} has sent no heartbeat for {SILENT_SECONDS:.0f} s: it is cut off or down. Repair or "
                        "replace it. Rerun the same command to resume."
                    ))  # fmt: skip
            code = launcher.poll()
            if code is not None and not self.failures and not all(host.is_over for host in self.hosts):
                self.receive(2.0)
                if not self.failures and not all(host.is_over for host in self.hosts):
                    self.failures.append(self.make_launcher_failure(code, missing))
            if self.failures and decision_time == float("inf"):
                decision_time = now + CAUSE_SECONDS
        code = launcher.poll()
        if self.failures and code is not None and code < 0:  # the launcher was killed, and the agents with it
            self.failures.append(self.make_launcher_failure(code))

    def make_launcher_failure(self, code: int, missing: Sequence[str] = ()) -> HostFailure:
        """Return the failure of a launcher that ended before the run. If a signal ended the launcher, this failure is the cause."""
        how = f"by {signal.Signals(-code).name}" if code < 0 else f"with status {code}"
        missed = f" before {', '.join(missing)} answered" if missing else ""
        remedy = (
            "Rerun the same command to resume."
            if code < 0
            else LAUNCHER_REMEDIES.get(code, "Its output above names the reason: remove it.")
        )
        return HostFailure(
            f"{self.parsed.launcher} ended {how}{missed}. {remedy}",
            128 - code if code < 0 else code or 1,
            weight=0 if code < 0 else 1,
        )

    @property
    def is_queued(self) -> bool:
        """True if srun has to wait for an allocation before it starts the agents."""
        return self.parsed.launcher == "slurm" and "SLURM_JOB_ID" not in os.environ

    def receive(self, seconds: float) -> None:
        """Handle the agents' messages for `seconds`."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            try:
                agent, message = self.inbox.get(timeout=left)
            except queue.Empty:
                return
            if message["kind"] == "hello":
                self.add_agent(agent, message)
            for host in self.hosts:
                if host.connection is agent and not host.is_over and message["kind"] in ("ended", "lost"):
                    host.is_over = True
                    self.record_host_exit(host, message)

    def add_agent(self, agent: Connection, hello: Message) -> None:
        """Assign an agent to its host. If the host already has an agent, close the new connection."""
        by_name = {host.name: host for host in self.hosts}
        host = None
        if 0 <= hello["node"] < len(self.hosts):
            host = by_name.get(hello["host"]) or self.hosts[hello["node"]]  # Slurm numbers its hosts in its own order
        if host is None or host.connection is not None:
            agent.close()
            return
        host.connection, host.hello = agent, hello

    def start_ranks(self) -> None:
        """Order every agent to start its ranks, and accept no more connections."""
        self.has_started = True
        self.server.shutdown(socket.SHUT_RDWR)
        self.key_file.unlink(missing_ok=True)
        first = self.hosts[0]
        assert first.connection is not None
        address = self.parsed.master_addr or first.connection.address
        for node, host in enumerate(self.hosts):
            assert host.connection is not None
            host.connection.send(
                kind="start",
                node=node,
                hosts={host.name: host.slots for host in self.hosts},
                master_addr=address,
                master_port=self.parsed.master_port or first.hello["port"],
                command=self.parsed.module,
                stop_timeout=self.parsed.stop_timeout,
                environment=self.environment,
            )

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal to the ranks of all hosts that still run. All signals except SIGUSR1 are sent as SIGTERM, because the shell
        that starts an agent may ignore SIGINT.
        """
        sent = number if number == signal.SIGUSR1 else signal.SIGTERM
        for host in self.hosts:
            if host.connection is not None and not host.is_over:
                host.connection.send(kind="signal", number=sent)

    def record_host_exit(self, host: Host, message: Message) -> None:
        """Record the failure of a host's ranks. If they exited with EXIT_RESUME, signal all other hosts to do the same."""
        if message["kind"] == "lost":
            self.failures.append(HostFailure(
                f"the run on {host.name} was killed, or the host went down. Look there for the reason (dmesg names a process that "
                "was killed for memory) and remove it. Rerun the same command to resume."
            ))  # fmt: skip
            return
        status, report = message["status"], message["report"]
        if status == EXIT_RESUME:
            if not self.is_resumable:
                self.send_signal(signal.SIGTERM)
            self.is_resumable = True
            return
        signaled = format_signal(status)
        if report is not None and not (report["is_consequence"] and signaled):
            weight = 2 if report["is_consequence"] else 0
            self.failures.append(HostFailure(f"{host.name}: {report['message']}", status or 1, report["is_users"], weight))
        elif message["received"]:
            self.failures.append(HostFailure(
                f"the run on {host.name} was stopped by {message['received']}, from that host or its scheduler. Rerun the "
                "same command to resume.",
                status,
            ))  # fmt: skip
        elif status != 0:
            self.failures.append(HostFailure(f"{host.name}: {signaled or f'the ranks ended with status {status}.'}", status))

    def stop(self) -> None:
        """End the run on the hosts where it still runs, and let all agents end."""
        for host in self.hosts:
            if host.connection is not None and not host.is_over:
                host.connection.send(kind="stop")
        until = time.monotonic() + STOP_SECONDS
        failures, self.failures = self.failures, []
        while time.monotonic() < until and any(host.connection is not None and not host.is_over for host in self.hosts):
            self.receive(0.1)
            for host in self.hosts:
                host.is_over = host.is_over or (host.connection is not None and host.connection.is_silent)
        self.failures = failures
        for host in self.hosts:
            if host.connection is not None:
                host.connection.send(kind="goodbye")


def select_variables(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables for the ranks of all hosts: those with a prefix in EXPORTED, and those in .deepspeed_env (NAME=VALUE).

    Raise LaunchError if .deepspeed_env cannot be read or has an invalid line.
    """
    chosen = {name: value for name, value in environment.items() if name.startswith(EXPORTED)}
    name = environment.get("DS_ENV_FILE", ".deepspeed_env")
    for path in (Path.home() / name, Path(name)):
        if path.is_file():
            chosen |= read_variables(path)
    return chosen


def read_variables(path: Path) -> dict[str, str]:
    """Return the variables of a file with lines NAME=VALUE; empty lines and comments are skipped."""
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


def find_own_addresses(hosts: Sequence[str]) -> list[str]:
    """Return the addresses at which other hosts can reach this host, IPv4 first.

    Loopback addresses are returned only if there are no others, because another host would connect to itself.
    """
    found: dict[str, None] = {}
    for host in hosts:
        with suppress(OSError, UnicodeError):
            for family, kind, protocol, _, place in socket.getaddrinfo(strip_user(host), 9, type=socket.SOCK_DGRAM):
                with suppress(OSError), socket.socket(family, kind, protocol) as probe:
                    probe.connect(place)
                    found[probe.getsockname()[0]] = None
    known = {address: ipaddress.ip_address(address) for address in found if "%" not in address}
    seen = [address for address, parsed in known.items() if not parsed.is_loopback] or list(known)
    ordered = sorted(seen, key=lambda address: known[address].version)
    return [f"[{address}]" if ":" in address else address for address in ordered] or [socket.gethostname()]


def write_key(key: bytes, folder: Path) -> Path:
    """Write the key to a new file in `folder` that only its owner can read; return its path."""
    try:
        with tempfile.NamedTemporaryFile(prefix=".neox-code-key-", dir=folder, delete=False) as file:
            file.write(key)
    except OSError as error:
        raise LaunchError(
            f"{folder} cannot be written ({error.strerror}), and a run on several hosts keeps its key there for a few seconds. "
            "Start it in a folder that all hosts share and that you may write."
        ) from None
    return Path(file.name)


def make_agent_command(head: str, key: Path) -> list[str]:
    """Return the command line that starts an agent in this folder with this Python. All hosts must have both at the same path."""
    path = os.environ.get("PYTHONPATH", "")
    return [
        *("env", "-C", str(Path.cwd()), f"PYTHONPATH={path}", sys.executable, "-u", "-m", "neox_code.launch.agent"),
        f"--head={head}",
        f"--key={key}",
    ]


def make_launcher_command(launcher: str, hosts: Sequence[str], agent: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Return the command line that starts an agent on each host, and the variables that it needs.

    Raise LaunchError if the launcher is not installed.
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
"""Options of ssh: never ask for input, and end the connection to a silent host."""


def stop_process_group(launcher: "subprocess.Popen[Any]") -> None:
    """Wait two seconds for the launcher to end, then kill it and its process group."""
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
