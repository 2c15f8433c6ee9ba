"""Settings every process shares, and where they come from: flags > environment > file > default.

The command line (`pipelines.cli`) collects the values; this module names the environment
variables, reads the file and checks the whole at once. Nothing else in the project reads the
environment or a configuration file.
"""

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipelines.errors import ConfigError

ENVIRONMENT_PREFIX = "STANDPIPE"
DEFAULT_CONFIG_FILE = Path("standpipe.toml")

DEFAULT_BOOTSTRAP_SERVERS = "127.0.0.1:9092"
DEFAULT_TOPIC_PREFIX = "atproto"

# What the delivery guarantee rests on: a value from outside would break it silently.
_RESERVED_KAFKA_KEYS = frozenset(
    {
        "acks",
        "auto.offset.reset",
        "bootstrap.servers",
        "enable.auto.commit",
        "enable.auto.offset.store",
        "enable.idempotence",
        "enable.partition.eof",
        "group.id",
        "isolation.level",
        "partitioner",
        "transactional.id",
    }
)


@dataclass(frozen=True, slots=True)
class KafkaConfig:
    """How to reach the Kafka cluster and which topics on it are ours.

    Attributes:
        bootstrap_servers: `host:port[,host:port…]`.
        topic_prefix: first part of every physical topic name, consumer group and transactional
            id, so that several deployments share one cluster.
        options: further librdkafka settings (security, client ids). Keys that the delivery
            guarantee rests on are refused.
        admitted: the collections whose records have topics of their own; None for those that
            `schemas/` lists.
    """

    bootstrap_servers: str = DEFAULT_BOOTSTRAP_SERVERS
    topic_prefix: str = DEFAULT_TOPIC_PREFIX
    options: Mapping[str, str] = field(default_factory=dict, repr=False)  # may hold secrets
    admitted: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        problems = []
        for server in self.bootstrap_servers.split(","):
            host, _, port = server.strip().rpartition(":")
            if not host or not port.isdecimal() or not 0 < int(port) < 65536:
                problems.append(f"bootstrap server {server!r} is not of the form host:port")
        bare = self.topic_prefix.replace(".", "").replace("-", "")
        if not bare.isascii() or not bare.isalnum():
            problems.append(
                f"topic prefix {self.topic_prefix!r} may hold letters, digits, '.' and '-' only"
            )
        problems += [
            f"kafka option {key!r} is set by standpipe itself and cannot be overridden"
            for key in self.options
            if key in _RESERVED_KAFKA_KEYS
        ]
        if problems:
            raise ConfigError(*problems)

    def topic(self, name: str) -> str:
        """Returns the physical name of the topic that the registry calls `name`."""
        return f"{self.topic_prefix}.{name}"

    def group(self, stage: str) -> str:
        """Returns the consumer group of a stage."""
        return f"standpipe.{self.topic_prefix}.{stage}"

    def transactional_id(self, stage: str, slot: str) -> str:
        """Returns the transactional id of one worker slot.

        It is stable over restarts: a process that takes over a slot fences whatever is left of
        its predecessor.
        """
        return f"standpipe.{self.topic_prefix}.{stage}.{slot}"


def load_config_file(path: Path | None) -> dict[str, Any]:
    """Reads a configuration file.

    Args:
        path: the file, or None for `standpipe.toml` in the working directory, if it exists.

    Returns:
        The tables of the file: top-level keys are options of every command, `[librdkafka]`
        holds settings of the client library, `[<command>]` the options of one command.

    Raises:
        ConfigError: the file cannot be read or is not TOML.
    """
    if path is None:
        if not DEFAULT_CONFIG_FILE.exists():
            return {}
        path = DEFAULT_CONFIG_FILE
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read the configuration file {path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not a TOML file: {error}") from None


def state_directory() -> Path:
    """Returns the folder for what a machine keeps: the local broker's data, logs and jars."""
    return Path(os.environ.get(f"{ENVIRONMENT_PREFIX}_HOME", ".standpipe")).absolute()
