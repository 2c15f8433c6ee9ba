"""A real Apache Kafka on this machine: one node, on loopback, that outlives whoever started it.

    directory/
      server.properties log4j2.xml   written at every start, from deploy/kafka/
      topics/                        Kafka's data; survives stop, start and kill -9
      logs/kafka.log                 the broker's log; a new file at every start and 10 MB
      console.log                    what the Java machine itself printed since the last start
      broker.pid                     there from start to stop: tells a crash from a stop

The broker is nobody's child and has a session of its own: neither Ctrl-C nor the end of the
starting process reaches it. It is known by its command line, which names this very directory: a
pid that the system gave to another program is never signalled, and a broker whose pid file is
lost is found. (Kafka's own lock on the directory comes too late: a second broker writes to the
metadata of the first before it notices.)
"""

import base64
import importlib.resources
import os
import re
import select
import signal
import socket
import string
import subprocess
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from pipelines import logs
from pipelines.errors import BrokerUnavailableError, ConfigError
from pipelines.kafka.jars import Announce, KafkaJars, find_java, ignore
from pipelines.kafka.locks import exclusive

log = logs.get_logger("kafka")

_HOST = "127.0.0.1"
_POLL_S = 0.1
_PROBE_TIMEOUT_S = 3.0  # an idle broker answers within milliseconds, one in recovery later
_LAUNCH_TIMEOUT_S = 5.0
_FORMAT_TIMEOUT_S = 120.0
_KILL_TIMEOUT_S = 10.0
_LINES_SHOWN = 12
_PID_DIGITS_MAX = 10  # Linux counts to 2^22

_JAVA_OPTIONS = (
    "-Xms256m",
    "-Xmx512m",
    "-XX:+UseSerialGC",  # a small heap on few cores: the collector with the least overhead
    "-XX:+ExitOnOutOfMemoryError",  # a broker that died is found; one that limps is not
    "-Djava.awt.headless=true",
    "-Dlog4j2.configurationFile=log4j2.xml",
)
# Lines of a log that say what went wrong: errors and the exceptions below them, without stacks.
_FAILURE = re.compile(r"\S+ (ERROR|FATAL) |[\w.$]+(Exception|Error)\b|Caused by: ")
_ID_KEY = "cluster.id="
_PORT_OPTION = "-Dstandpipe.port="


@dataclass(frozen=True, slots=True)
class Running:
    """The broker of this directory runs and answers."""

    kind: ClassVar[str] = "running"
    pid: int
    bootstrap_servers: str


@dataclass(frozen=True, slots=True)
class Unresponsive:
    """The broker of this directory runs but does not answer: it is starting, or stuck."""

    kind: ClassVar[str] = "unresponsive"
    pid: int
    bootstrap_servers: str


@dataclass(frozen=True, slots=True)
class Stopped:
    """No broker, and nothing in the way of starting one."""

    kind: ClassVar[str] = "stopped"


@dataclass(frozen=True, slots=True)
class StalePid:
    """The broker of this directory ended without a stop; `start` continues from its data.

    Attributes:
        pid: the process that was the broker.
        program: the command that has this pid now, or None if no process has it.
    """

    kind: ClassVar[str] = "stale_pid"
    pid: int
    program: str | None


@dataclass(frozen=True, slots=True)
class PortOccupied:
    """No broker of this directory runs, and somebody else has its port.

    Attributes:
        port: the port.
        is_kafka: whether whoever has it answers as a Kafka broker.
    """

    kind: ClassVar[str] = "port_occupied"
    port: int
    is_kafka: bool


BrokerStatus = Running | Unresponsive | Stopped | StalePid | PortOccupied


class LocalBroker:
    """The broker whose data is in one directory.

    Attributes:
        directory: where its data, settings, logs and pid are; made by `start`.
        port: the port on 127.0.0.1 for clients.
        controller_port: a second port on 127.0.0.1, for Kafka's own use.
        jars: Kafka itself; by default shared by all brokers of the state directory.

    Raises:
        ConfigError: the two ports are the same.
    """

    def __init__(
        self,
        directory: Path,
        port: int = 9092,
        controller_port: int = 9093,
        jars: KafkaJars | None = None,
    ) -> None:
        if port == controller_port:
            raise ConfigError(f"the broker needs two ports, and both are {port}")
        self.directory = directory.resolve()
        self.port = port
        self.controller_port = controller_port
        self.jars = jars or KafkaJars.default()

    @property
    def bootstrap_servers(self) -> str:
        """What a client needs to know to connect: `host:port`."""
        return _address(self.port)

    @property
    def log_file(self) -> Path:
        """The broker's log."""
        return self.directory / "logs" / "kafka.log"

    def status(self) -> BrokerStatus:
        """Looks at pid, process and port; changes nothing.

        Returns:
            What is the case. A broker of this directory that runs on another port than ours is
            found all the same: `bootstrap_servers` in the status is the true one.
        """
        process = self._find_process()
        if process is not None:
            pid, port = process
            address = _address(port)
            answers = _cluster_id(_admin_client(address), _PROBE_TIMEOUT_S) is not None
            return Running(pid, address) if answers else Unresponsive(pid, address)
        if not _is_free(self.port):
            admin = _admin_client(self.bootstrap_servers)
            is_kafka = _cluster_id(admin, _PROBE_TIMEOUT_S) is not None
            return PortOccupied(self.port, is_kafka)
        stale = self._recorded_pid()
        return Stopped() if stale is None else StalePid(stale, _program(stale))

    def start(self, *, timeout_s: float = 120.0, announce: Announce = ignore) -> None:
        """Starts the broker and returns once it answers; does nothing if it runs already.

        Kafka's jars are fetched first if they are not here yet. Two processes may call it at
        once. If the wait ends early (time-out, Ctrl-C), the broker goes on starting: call `start`
        again to wait on, or `stop`.

        Args:
            timeout_s: how long to wait for an answer. A broker that was killed needs up to 15 s
                longer: it waits out its own last session, and checks its data.
            announce: called before anything that takes long, with a sentence for people.

        Raises:
            ConfigError: a port is taken, Java or Maven is missing, the directory cannot be
                written, or the broker runs already on another port.
            BrokerUnavailableError: the broker died, or does not answer in time; or Kafka's jars
                could not be fetched.
        """
        try:
            (self.directory / "logs").mkdir(parents=True, exist_ok=True)
            lock = exclusive(
                self.directory / "start.lock",
                purpose=f"starts the broker of {self.directory}",
                timeout_s=timeout_s,
            )
            with lock:
                self._start(timeout_s, announce)
        except OSError as error:
            raise ConfigError(
                f"cannot run a broker in {self.directory}: {error}; another folder is named with "
                "--data"
            ) from None

    def stop(self, *, timeout_s: float = 30.0) -> bool:
        """Stops the broker and returns once its process is gone.

        Args:
            timeout_s: how long it may take to close its files. Then it is killed, with a warning:
                nothing is lost, but the next start checks the data first.

        Returns:
            Whether there was a broker to stop.

        Raises:
            ConfigError: the broker belongs to another user.
            BrokerUnavailableError: not even a kill ended it.
        """
        process = self._find_process()
        was_running = process is not None and self._end_process(process[0], timeout_s)
        self._pid_file.unlink(missing_ok=True)
        return was_running

    @property
    def _pid_file(self) -> Path:
        return self.directory / "broker.pid"

    @property
    def _settings_file(self) -> Path:
        return self.directory / "server.properties"

    def _recorded_pid(self) -> int | None:
        try:
            text = self._pid_file.read_text(encoding="ascii", errors="replace").strip()
        except FileNotFoundError:
            return None
        # 0 is no process's pid: a damaged file is a stale one.
        return int(text) if text.isdecimal() and len(text) < _PID_DIGITS_MAX else 0

    def _find_process(self) -> tuple[int, int] | None:
        """Returns pid and port of this directory's broker, or None if it does not run."""
        for entry in Path("/proc").iterdir():
            if entry.name.isdecimal():
                port = self._port_of_broker(int(entry.name))
                if port is not None:
                    return int(entry.name), port
        return None

    def _port_of_broker(self, pid: int) -> int | None:
        arguments = _command_line(pid)
        if not arguments or arguments[-1] != str(self._settings_file):
            return None
        ports = [a.removeprefix(_PORT_OPTION) for a in arguments if a.startswith(_PORT_OPTION)]
        return int(ports[0]) if ports else None

    def _start(self, timeout_s: float, announce: Announce) -> None:
        match self.status():
            case Running(_, address) | Unresponsive(_, address):
                if address != self.bootstrap_servers:
                    raise ConfigError(
                        f"the broker of {self.directory} runs already, on {address}: stop it "
                        "first, or choose another data folder for a second broker"
                    )
            case PortOccupied(port, is_kafka):
                raise _port_error(port, is_kafka=is_kafka)
            case StalePid(pid, program):
                log.warning("stale_pid", pid=pid, program=program, directory=str(self.directory))
                self._launch(announce)
            case Stopped():
                self._launch(announce)
        self._wait_for_answer(timeout_s)

    def _launch(self, announce: Announce) -> None:
        if not _is_free(self.controller_port):
            raise ConfigError(
                f"port {self.controller_port}, which the broker needs for itself, is taken by "
                "another program: stop that, or choose another port with --port"
            )
        java = find_java()
        self.jars.fetch(announce=announce)
        self._write_settings()
        if not (self.directory / "topics" / "meta.properties").exists():  # written last
            self._format(java)
        self._pid_file.unlink(missing_ok=True)
        command = [
            java,
            *_JAVA_OPTIONS,
            f"{_PORT_OPTION}{self.port}",
            "-cp",
            self.jars.classpath,
            "kafka.Kafka",
            str(self._settings_file),
        ]
        with (self.directory / "console.log").open("wb") as console:
            subprocess.run(  # noqa: S603 - arguments of our own
                ["setsid", "--fork", *command],  # noqa: S607 - util-linux, on every Linux
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=subprocess.STDOUT,
                timeout=_LAUNCH_TIMEOUT_S,
                check=True,
            )
        # The process exists by now, but has no command line while it becomes Java.
        deadline = time.monotonic() + _LAUNCH_TIMEOUT_S
        while (process := self._find_process()) is None:
            if time.monotonic() > deadline:
                raise BrokerUnavailableError(f"the broker ended at once: {self._last_words()}")
            time.sleep(_POLL_S)
        self._pid_file.write_text(f"{process[0]}\n", encoding="ascii")

    def _write_settings(self) -> None:
        resources = importlib.resources.files("pipelines").joinpath("_deploy/kafka")
        template = string.Template(resources.joinpath("server.properties").read_text("utf-8"))
        settings = template.substitute(port=self.port, controller_port=self.controller_port)
        self._settings_file.write_text(settings, encoding="utf-8")
        log4j = resources.joinpath("log4j2.xml").read_text("utf-8")
        (self.directory / "log4j2.xml").write_text(log4j, encoding="utf-8")

    def _format(self, java: str) -> None:
        """Gives the data folder its cluster id, once in its life."""
        cluster_id = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        command = [
            java,
            "-cp",
            self.jars.classpath,
            "kafka.tools.StorageTool",
            "format",
            f"--cluster-id={cluster_id}",  # with '=': an id may begin with '-'
            f"--config={self._settings_file}",
        ]
        try:
            run = subprocess.run(  # noqa: S603 - arguments of our own
                command,
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                timeout=_FORMAT_TIMEOUT_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise BrokerUnavailableError(
                f"Kafka has not set up {self.directory} within {_FORMAT_TIMEOUT_S:g} s: try again "
                "when the machine has less to do"
            ) from None
        if run.returncode != 0:
            raise BrokerUnavailableError(
                f"Kafka could not set up {self.directory}; it said:\n"
                f"{_indented(run.stdout.splitlines())}"
            )

    def _own_cluster_id(self) -> str | None:
        lines = (self.directory / "topics" / "meta.properties").read_text("utf-8").splitlines()
        ids = [line.removeprefix(_ID_KEY) for line in lines if line.startswith(_ID_KEY)]
        return ids[0] if ids else None

    def _wait_for_answer(self, timeout_s: float) -> None:
        admin = _admin_client(self.bootstrap_servers)
        own_id = self._own_cluster_id()
        deadline = time.monotonic() + timeout_s
        while (answer := _cluster_id(admin, timeout_s=1.0)) is None or answer != own_id:
            if self._find_process() is None:
                last_words = self._last_words()
                self._pid_file.unlink(missing_ok=True)
                raise BrokerUnavailableError(f"the broker ended while it started: {last_words}")
            if time.monotonic() > deadline:
                raise BrokerUnavailableError(
                    f"the broker does not answer after {timeout_s:g} s and goes on starting: wait "
                    f"with another start, or stop it; {self._last_words()}"
                )
            time.sleep(_POLL_S)

    def _last_words(self) -> str:
        """Returns what the broker wrote about its failure since it was launched."""
        lines = _lines(self.directory / "console.log")
        # Older than the settings, it is the log of an earlier run.
        if _modified_ns(self.log_file) > _modified_ns(self._settings_file):
            logged = _lines(self.log_file)
            lines += [line for line in logged if _FAILURE.match(line)] or logged[-_LINES_SHOWN:]
        return f"it wrote the following (its log: {self.log_file}):\n{_indented(lines)}"

    def _end_process(self, pid: int, timeout_s: float) -> bool:
        try:
            process = os.pidfd_open(pid)  # stays with this process even if its pid is reused
        except OSError:
            return False
        try:
            if self._port_of_broker(pid) is None:
                return False
            signal.pidfd_send_signal(process, signal.SIGTERM)
            if not _has_ended(process, timeout_s):
                log.warning("broker_killed", pid=pid, waited_s=timeout_s)
                signal.pidfd_send_signal(process, signal.SIGKILL)
                if not _has_ended(process, _KILL_TIMEOUT_S):
                    raise BrokerUnavailableError(f"the broker (pid {pid}) survives even SIGKILL")
        except ProcessLookupError:
            return True
        except PermissionError:
            raise ConfigError(
                f"the broker (pid {pid}) belongs to another user, who must stop it"
            ) from None
        finally:
            os.close(process)
        return True


def _address(port: int) -> str:
    return f"{_HOST}:{port}"


def _port_error(port: int, *, is_kafka: bool) -> ConfigError:
    if is_kafka:
        return ConfigError(
            f"port {port} is taken by a Kafka broker that was not started from this data folder: "
            f"use it with --bootstrap-servers {_address(port)}, or stop it, or choose another "
            "port with --port"
        )
    return ConfigError(
        f"port {port} is taken by another program: stop that, or choose another port with --port"
    )


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        # As Java does: connections that are still closing do not keep a port from us.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((_HOST, port))
        except PermissionError:
            raise ConfigError(
                f"port {port} is reserved for root: choose one above 1023 with --port"
            ) from None
        except OSError:
            return False
    return True


def _admin_client(bootstrap_servers: str) -> AdminClient:
    return AdminClient(
        {
            "bootstrap.servers": bootstrap_servers,
            "log_level": 0,  # a broker that does not answer yet is what we ask about, no news
            "reconnect.backoff.max.ms": 200,
        }
    )


def _cluster_id(admin: AdminClient, timeout_s: float) -> str | None:
    """Returns the id of the cluster that answers, or None if none does in time."""
    try:
        metadata = admin.list_topics(timeout=timeout_s)
    except KafkaException:
        return None
    # A broker in its start answers a moment before its cluster has a member to place topics on.
    return metadata.cluster_id if metadata.brokers else None


def _command_line(pid: int) -> list[str]:
    try:
        raw = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return []
    return [os.fsdecode(argument) for argument in raw.split(b"\0")[:-1]]  # empty for a zombie


def _program(pid: int) -> str | None:
    arguments = _command_line(pid)
    return arguments[0] if arguments else None


def _has_ended(process: int, timeout_s: float) -> bool:
    poll = select.poll()
    poll.register(process, select.POLLIN)  # readable once the process has ended
    return bool(poll.poll(timeout_s * 1000))


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return []


def _modified_ns(file: Path) -> int:
    try:
        return file.stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def _indented(lines: list[str]) -> str:
    return "\n".join(f"  {line}" for line in lines[:_LINES_SHOWN])
