"""Tables of admitted collections, as a deployment has them."""

from collections.abc import Collection, Sequence

from pipelines.kafka.admission import Admissions, Table
from pipelines.kafka.topics import registry

# More than any test has.
PARTITIONS = 64


def in_force(*tables: tuple[Collection[str], Sequence[int]]) -> Admissions:
    """Returns tables that followed each other: collections, and first offset by partition."""
    return Admissions(
        tuple(
            Table(number, tuple(sorted(collections)), tuple(next_offsets))
            for number, (collections, next_offsets) in enumerate(tables, 1)
        )
    )


def from_the_start(*collections: str) -> Admissions:
    """Returns a single table that is for all frames."""
    return in_force((collections, [0] * PARTITIONS))


PACKAGED = from_the_start(*registry().admitted_collections)
NOBODY = from_the_start()
