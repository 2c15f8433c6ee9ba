"""A whole pipeline on one machine: which processes, when to start, restart and stop them."""
