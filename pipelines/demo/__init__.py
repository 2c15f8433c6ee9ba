"""What a run left in the topics, against what really happened in the simulated network."""
