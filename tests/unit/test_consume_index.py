"""What an index says when its topics are not there any more while it reads them."""

from confluent_kafka import KafkaError, KafkaException

from pipelines.consume import RebuildRequiredError
from pipelines.consume.index import translated
from pipelines.errors import ConfigError


def test_what_was_deleted_before_it_was_read_cannot_be_made_up_for() -> None:
    code = KafkaError._AUTO_OFFSET_RESET
    error = translated(KafkaError(code, "offset out of range"))
    assert isinstance(error, RebuildRequiredError)
    assert "messages were deleted before they were read (offset out of range)" in str(error)
    assert "build the index anew" in str(error)


def test_a_topic_that_is_gone_is_for_the_next_start_to_judge() -> None:
    error = translated(KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART, "unknown topic"))
    assert isinstance(error, ConfigError)
    assert not isinstance(error, RebuildRequiredError)
    assert "start again" in str(error)


def test_any_other_error_is_what_it_is() -> None:
    error = translated(KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED, "no"))
    assert isinstance(error, KafkaException)
