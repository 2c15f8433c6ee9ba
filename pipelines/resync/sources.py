"""Which server is asked for a repository: the one that was named first, then the account's own.

Pure. spec: I-05, I-06
"""

from typing import NamedTuple

from yarl import URL

from pipelines.resync.jobs import Job


class Source(NamedTuple):
    """A server.

    Attributes:
        origin: `https://host[:port]`.
        is_last: whether no other is left to ask; it has the last word on whether there is a
            repository.
    """

    origin: str
    is_last: bool


def choose_source(job: Job, own_server: str | None) -> Source | None:
    """Returns whom to ask at the next try.

    Each try in vain goes on to the next server, and after the last one begins anew. What is named
    and can be no server is passed over: names come from lists of outsiders, too.

    Args:
        job: what is asked for.
        own_server: origin of the account's server; None if its document names none.

    Returns:
        The server; None if there is none.
    """
    named = dict.fromkeys(filter(None, (job.host, own_server)))
    origins = [origin for origin in named if _is_origin(origin)]
    if not origins:
        return None
    index = job.attempts % len(origins)
    return Source(origins[index], is_last=index == len(origins) - 1)


def _is_origin(text: str) -> bool:
    try:
        url = URL(text)
    except ValueError:
        return False
    return url.scheme in {"http", "https"} and bool(url.host) and url == url.origin()
