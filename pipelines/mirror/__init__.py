"""A copy of the PLC directory: its export, verified operation by operation → identities."""
