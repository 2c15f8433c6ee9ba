"""What the status knows of each stage. A new stage is a line here.

Pure. Which numbers a stage reports: `schemas/topics/status.yaml` and the stage itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from pipelines.config import KafkaConfig
from pipelines.kafka.topics import Registry

# Parts of the time for which an input is kept, by the age of the oldest message not yet processed:
# from here on it is worth a person's attention, and from here on it is urgent.
RETENTION_WARNING_SHARE: Final = 0.5
RETENTION_WRONG_SHARE: Final = 0.8


@dataclass(frozen=True, slots=True)
class StageSpec:
    """A stage as the status shows it.

    Attributes:
        name: of its beats and its consumer group.
        inputs: entries of the registry that its group reads; none for a stage without a group.
        taken: counter of what went in.
        given: counter of what came out.
        may_end: whether it is right that none of its processes runs any more.
    """

    name: str
    inputs: Sequence[str] = ()
    taken: str = "inputs"
    given: str = "outputs"
    may_end: bool = False


BRIDGE: Final = StageSpec("bridge", taken="received", given="frames")

# In the order of the data's flow.
STAGES: Final = (
    BRIDGE,
    StageSpec("explode", inputs=("frames",)),
    StageSpec("compact", inputs=("events", "snapshots", "overrides")),
    StageSpec("resync", inputs=("resyncs",)),
    StageSpec("analytics", inputs=("records",)),
    StageSpec("identity", may_end=True),
    StageSpec("crawl", may_end=True),
)


def lag_inputs(kafka: KafkaConfig, known: Registry) -> dict[str, list[str]]:
    """Returns for each consumer group the physical names of the topics that it reads."""
    return {
        kafka.group(stage.name): [
            kafka.topic(topic) for entry in stage.inputs for topic in known.specs[entry].topics
        ]
        for stage in STAGES
        if stage.inputs
    }


def retention_ms(stage: StageSpec, known: Registry) -> int | None:
    """Returns how long the most forgetful input of a stage keeps its messages; None for ever."""
    configs = [known.specs[entry].configs for entry in stage.inputs]
    kept = [int(config.get("retention.ms", -1)) for config in configs]
    return min((time_ms for time_ms in kept if time_ms >= 0), default=None)
