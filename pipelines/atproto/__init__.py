"""The AT protocol as a verifier needs it: bytes in, values or `ProtocolError` out.

No I/O, no clock, no Kafka: a library worth importing by itself.
"""
