"""What is wrong with a running deployment, and what to do about it."""
