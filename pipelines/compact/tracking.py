"""Which repositories are tracked: all, those of a list, or those with a given collection. Pure.

What is asked is only whether a repository is taken up. One that is known stays tracked, whatever
the settings have become: its records would be outdated otherwise, and nothing would say so.
"""

from dataclasses import dataclass
from typing import Final

from pipelines.atproto.syntax import Did, Nsid
from pipelines.compact.events import CommitEvent, Event
from pipelines.repair.manifests import Manifest
from pipelines.repair.requests import Cause


@dataclass(frozen=True, slots=True)
class Tracked:
    """Which repositories are taken up; all of them if nothing is named.

    Attributes:
        dids: those of these accounts, from whatever is heard of them first; None for no list.
        collections: those with records in one of these: from the first commit on that has an
            operation there. One that deletes a record may have others.
    """

    dids: frozenset[Did] | None = None
    collections: frozenset[Nsid] = frozenset()

    @property
    def is_everything(self) -> bool:
        """Whether no repository is passed over."""
        return self.dids is None and not self.collections

    def names(self, did: Did) -> bool:
        """Tells whether a repository is tracked whatever it has."""
        return self.is_everything or (self.dids is not None and did in self.dids)

    def takes_up(self, event: Event) -> bool:
        """Tells whether an event of a repository that is not known makes it tracked."""
        if self.names(event.did):
            return True
        return isinstance(event, CommitEvent) and any(
            op.collection in self.collections for op in event.ops
        )

    def takes_up_answer(self, manifest: Manifest) -> bool:
        """Tells whether what was fetched of a repository that is not known makes it tracked.

        What a backfill asks for was chosen by whoever started it.
        """
        return self.names(manifest.did) or manifest.cause is Cause.BACKFILL


EVERYTHING: Final = Tracked()
