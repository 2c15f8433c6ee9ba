"""A replay's blocks: where they are cut, and what a stop leaves."""

from collections.abc import Iterator, Sequence

import pytest

from pipelines.kafka.messages import InputMessage, Position
from pipelines.replay.job import Job, Tally
from pipelines.replay.progress import Progress
from pipelines.replay.window import Range

WHERE: Position = ("p.events", 0)
MESSAGES = [InputMessage(*WHERE, offset, 0, b"k", b"x" * 10, []) for offset in range(9)]


class Source:
    """Yields messages, and None after each third one."""

    def __init__(self) -> None:
        self.next_offsets = {WHERE: 0}
        self.read_count = 0
        self.is_whole = True

    def __iter__(self) -> Iterator[InputMessage | None]:
        for message in MESSAGES:
            self.next_offsets[WHERE] = message.offset + 1
            self.read_count += 1
            yield message
            if self.read_count % 3 == 0:
                yield None


class Output:
    """Keeps blocks, each with the offset that it goes up to."""

    def __init__(self, *, block_bytes: int, is_prompt: bool) -> None:
        self.block_bytes, self.is_prompt = block_bytes, is_prompt
        self.blocks: list[tuple[list[int], int]] = []
        self.is_finished = False

    def load(self) -> None: ...

    def begin(self, progress: Progress) -> None: ...

    def write(self, messages: Sequence[InputMessage], progress: Progress) -> None:
        offsets = [message.offset for message in messages]
        self.blocks.append((offsets, progress.ranges[WHERE].start))

    def finish(self) -> None:
        self.is_finished = True

    def close(self) -> None: ...


def run(output: Output, stop_after_count: int) -> bool:
    source = Source()
    job = Job(source, output, Progress({}, {WHERE: Range(0, len(MESSAGES))}))

    def ignore(_: Tally) -> None: ...

    return job.run(lambda: source.read_count >= stop_after_count, ignore)


def test_blocks_end_by_size_and_before_a_pause_where_somebody_waits() -> None:
    output = Output(block_bytes=40, is_prompt=False)
    assert run(output, stop_after_count=99)
    assert output.blocks == [([0, 1, 2, 3], 4), ([4, 5, 6, 7], 8), ([8], 9)]
    assert output.is_finished
    prompt = Output(block_bytes=1_000, is_prompt=True)
    assert run(prompt, stop_after_count=99)
    assert prompt.blocks[:3] == [([0, 1, 2], 3), ([3, 4, 5], 6), ([6, 7, 8], 9)]


@pytest.mark.parametrize("count", range(1, len(MESSAGES) + 1))
def test_a_stop_writes_all_that_was_read_where_somebody_waits(count: int) -> None:
    output = Output(block_bytes=1_000, is_prompt=True)
    assert not run(output, stop_after_count=count)
    assert [offset for offsets, _ in output.blocks for offset in offsets] == list(range(count))
    assert output.blocks[-1][1] == count
    assert not output.is_finished


@pytest.mark.parametrize("count", range(1, len(MESSAGES) + 1))
def test_a_stop_leaves_whole_blocks_where_nobody_waits(count: int) -> None:
    output = Output(block_bytes=40, is_prompt=False)
    assert not run(output, stop_after_count=count)
    assert output.blocks == [([0, 1, 2, 3], 4), ([4, 5, 6, 7], 8)][: len(output.blocks)]
    assert len(output.blocks) == (count - 1) // 4
    assert not output.is_finished
