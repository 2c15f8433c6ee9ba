"""Everything about Kafka that the stages share: topics, clients, transactions, local broker."""
