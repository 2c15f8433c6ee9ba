"""The bridge: upstreams' sockets → `frames`, byte for byte, with the cursors beside them.

    socket.py      opens a websocket and reads messages from it
    intake.py      one message and what came before → what becomes of it       (pure)
    window.py      which events any upstream brought lately                    (pure)
    gaps.py        where events are missing                                    (pure)
    vitals.py      whether an upstream still tells what happens                (pure)
    timeseek.py    which cursor a moment has                                   (pure)
    backoff.py     how long to wait before connecting again                    (pure)
    reader.py      connects, reads, judges, hands over; connects again
    upstream.py    an upstream's name, and what comes from it                  (pure)
    handover.py    the bounded queue between the readers and the publisher
    messages.py    what a transaction consists of                              (pure)
    publisher.py   the thread that writes the transactions
    cursor.py      where a bridge starts, by what the topics say
    leadership.py  which of several bridges works
    progress.py    what was done so far                                        (pure)
    service.py     wires all of it

The readers live on an asyncio loop, the publisher in a thread of its own, because a transaction
blocks. When the publisher is slow or the broker away, the queue fills, the readers stop reading,
and TCP makes the upstreams wait: nothing is dropped.
"""
