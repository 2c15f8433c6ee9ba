"""What is made from the contracts in `schemas/`, and what keeps them from breaking.

Everything here is derived: Python types, the reference, definitions for SQL engines and Kafka
Connect, subjects of a schema registry. `make generated` writes what is kept in files, and a test
compares, so that none of it can say something else than the schemas.
"""
