"""One look at a running pipeline, from Kafka alone: who runs, how fast, how far behind."""
