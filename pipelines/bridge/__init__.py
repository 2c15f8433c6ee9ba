"""The bridge: a relay's socket → `frames`, byte for byte, with the cursor beside them.

    socket.py     opens the websocket and reads messages from it
    intake.py     one message and what came before → what becomes of it       (pure)
    backoff.py    how long to wait before connecting again                    (pure)
    reader.py     connects, reads, judges, hands over; connects again
    handover.py   the bounded queue between the reader and the publisher
    messages.py   what a transaction consists of                              (pure)
    publisher.py  the thread that writes the transactions
    cursor.py     what the topics say at the start
    progress.py   what was done so far                                        (pure)
    service.py    wires all of it

The reader lives on an asyncio loop, the publisher in a thread of its own, because a transaction
blocks. When the publisher is slow or the broker away, the queue fills, the reader stops reading,
and TCP makes the upstream wait: nothing is dropped.
"""
