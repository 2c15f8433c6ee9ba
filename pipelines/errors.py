"""Errors of the pipeline around the protocol core (`pipelines.atproto.errors` has the core's).

ProtocolError   the data is bad for good             -> quarantine
TransientError  a dependency is away                 -> pause, back off, the offset stays
ConfigError     the process was started wrongly      -> exit code 2
anything else   our own bug                          -> logged once, nothing committed, exit 1
"""


class TransientError(Exception):
    """Something outside is unavailable now and the same call may succeed later.

    Attributes:
        retry_after_s: seconds to wait before the next try, or None for the caller's default.
    """

    def __init__(self, message: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class IdentityUnavailableError(TransientError):
    """The directory or host that knows a DID cannot be reached now."""


class BrokerUnavailableError(TransientError):
    """No Kafka broker answers, or none that can serve the request now."""


class TopicShortError(BrokerUnavailableError):
    """A topic ends before an offset that it had once, or is not there at all.

    A new leader may not know yet how far it goes. Where that lasts, its end is lost, or it was
    deleted and perhaps made anew.
    """


class UpstreamUnavailableError(TransientError):
    """The relay (or PDS) whose socket we read cannot be reached now."""


class ConfigError(Exception):
    """The process was started with settings that cannot work.

    Attributes:
        problems: every problem found, one sentence each, with its remedy.
    """

    def __init__(self, *problems: str) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


class RefusalCeilingError(ConfigError):
    """So much is refused at once that a person has to say whether it is right.

    A start with the same settings would come to the same, a little further on in the quarantine:
    hence exit code 2, after which nobody starts the process again.
    """


class RebuildRequiredError(ConfigError):
    """What was made of topics cannot be continued with them: it has to be made anew.

    Hence exit code 2: a start with the same index would come to the same.
    """


class FencedError(Exception):
    """The transactional producer cannot go on; only a new one with the same id can.

    Another process took over its slot, or a transaction timed out on the broker.
    """


class HungCallError(FencedError):
    """A call into the client library does not come back, so its producer is given up."""


class RefusedByBrokerError(Exception):
    """The broker will never accept a message: its size, time or topic is wrong."""


class OffsetLostError(Exception):
    """The broker no longer has the position from which we want to read on."""
