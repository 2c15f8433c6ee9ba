"""A sink of Kafka Connect: records into an object store, as JSON lines. Pure.

It is one for records, whose topics are named one by one: with a pattern of names a connector would
also read what somebody else put on the cluster under a name like ours.

Source: kafka.apache.org/documentation/#connect; the options of the S3 sink at
github.com/Aiven-Open/cloud-storage-connectors-for-apache-kafka.
"""

import json

from pipelines.contracts.columns import tables
from pipelines.kafka.topics import Registry


def render_connect_sink(known: Registry) -> str:
    """Returns the connector as the REST interface of Kafka Connect takes it."""
    records = next(table for table in tables(known) if table.spec.name == "records")
    config = {
        "connector.class": "io.aiven.kafka.connect.s3.AivenKafkaConnectS3SinkConnector",
        "tasks.max": "4",
        "topics": ",".join(records.topics),
        # Without it a worker reads what was aborted, too. A worker allows it by default.
        "consumer.override.isolation.level": "read_committed",
        "consumer.override.auto.offset.reset": "earliest",
        "key.converter": "org.apache.kafka.connect.storage.StringConverter",
        "value.converter": "org.apache.kafka.connect.json.JsonConverter",
        "value.converter.schemas.enable": "false",
        "aws.s3.bucket.name": "CHANGE-ME",
        "aws.s3.region": "CHANGE-ME",
        "format.output.type": "jsonl",
        "format.output.fields": "value",
        "format.output.envelope": "false",
        "file.compression.type": "zstd",
        # What is read again after a crash goes into the file of the same name.
        "file.name.template": "{{topic}}/{{partition}}-{{start_offset}}.jsonl.zst",
    }
    sink = {"name": "standpipe-records", "config": config}
    return json.dumps(sink, indent=2, ensure_ascii=False) + "\n"
