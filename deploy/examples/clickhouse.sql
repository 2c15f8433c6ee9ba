-- Made by `make generated` from schemas/: do not edit.
--
-- ClickHouse reads the topics with its Kafka engine. clickhouse-kafka.xml belongs to it, into
-- config.d/ of the server: it makes the engine read committed messages only. Take the tables that
-- you want; the broker is 127.0.0.1:9092 and the prefix of the topics `atproto`.
--
-- Rows that were delivered twice go when ClickHouse merges; `SELECT … FINAL` shows each once.
-- Objects of unknown form are JSON in a String: JSONExtractString(record, 'text').
-- The engine skips messages without a value. Where a table keeps the last message of a key, a row
-- whose key was deleted stays: look into `records`, whose deletes have a value.

CREATE DATABASE IF NOT EXISTS atproto;

-- admissions

CREATE TABLE atproto.admissions_queue
(
    `number` Int64,
    `collections` Array(String),
    `sha256` String,
    `next_offsets` Array(Int64),
    `written_us` Int64
)
ENGINE = Kafka
SETTINGS
    kafka_broker_list = '127.0.0.1:9092',
    kafka_topic_list = 'atproto.admissions',
    kafka_group_name = 'clickhouse.admissions',
    kafka_format = 'JSONEachRow',
    input_format_skip_unknown_fields = 1,
    input_format_json_read_objects_as_strings = 1;

CREATE TABLE atproto.admissions
(
    message_key String,
    kafka_topic LowCardinality(String),
    kafka_partition UInt64,
    kafka_offset UInt64,
    `number` Int64 COMMENT 'From 1, without holes. Unit: position in the sequence of tables.',
    `collections` Array(String) COMMENT 'NSIDs, sorted by their bytes. Those of all others go to records.other and latest.other.',
    `sha256` String COMMENT 'Hexadecimal SHA-256 of the collections, each with a line feed after it.',
    `next_offsets` Array(Int64) COMMENT 'For each partition of frames, in order of its number: the offset of the first frame that the table is for. null while it is announced and not in force. Unit: offset.',
    `written_us` Int64 COMMENT 'When this was written, microseconds since 1970 by the clock of who wrote it. Unit: microseconds since 1970-01-01T00:00:00Z.'
)
ENGINE = ReplacingMergeTree(kafka_offset)
ORDER BY (message_key, kafka_topic)
COMMENT 'Which collections have topics of their own, from which frames on. Key: number, in decimal.';

CREATE MATERIALIZED VIEW atproto.admissions_view TO atproto.admissions AS
SELECT
    _key AS message_key,
    _topic AS kafka_topic,
    _partition AS kafka_partition,
    _offset AS kafka_offset,
    `number`,
    `collections`,
    `sha256`,
    `next_offsets`,
    `written_us`
FROM atproto.admissions_queue;

-- chunks

CREATE TABLE atproto.chunks_queue
(
    `did` String,
    `rev` String,
    `index` Int64,
    `records` Array(Tuple(`collection` String, `rkey` String, `cid` String, `record` Nullable(String), `record_error` LowCardinality(Nullable(String)), `record_cbor` Nullable(String)))
)
ENGINE = Kafka
SETTINGS
    kafka_broker_list = '127.0.0.1:9092',
    kafka_topic_list = 'atproto.chunks',
    kafka_group_name = 'clickhouse.chunks',
    kafka_format = 'JSONEachRow',
    input_format_skip_unknown_fields = 1,
    input_format_json_read_objects_as_strings = 1;

CREATE TABLE atproto.chunks
(
    message_key String,
    kafka_topic LowCardinality(String),
    kafka_partition UInt64,
    kafka_offset UInt64,
    `did` String COMMENT 'DID of the repository or account, at most 2,048 characters.',
    `rev` String COMMENT 'Revision of the snapshot''s commit.',
    `index` Int64 COMMENT 'Which chunk of the snapshot it is, from 0. Unit: position in the snapshot.',
    `records` Array(Tuple(`collection` String, `rkey` String, `cid` String, `record` Nullable(String), `record_error` LowCardinality(Nullable(String)), `record_cbor` Nullable(String))) COMMENT 'The records, with rising paths; the paths of the next chunk go on from there.'
)
ENGINE = ReplacingMergeTree
ORDER BY (message_key, kafka_topic, kafka_partition, kafka_offset)
COMMENT 'Some records of a repository as its server had it, in the order of the paths'' bytes. Key: DID. It counts only once a manifest in snapshots names it. Every field is always present.';

CREATE MATERIALIZED VIEW atproto.chunks_view TO atproto.chunks AS
SELECT
    _key AS message_key,
    _topic AS kafka_topic,
    _partition AS kafka_partition,
    _offset AS kafka_offset,
    `did`,
    `rev`,
    `index`,
    `records`
FROM atproto.chunks_queue;

-- crawls

CREATE TABLE atproto.crawls_queue
(
    `job` LowCardinality(String),
    `subject` String,
    `state` LowCardinality(String),
    `cursor` Nullable(String),
    `pages_count` Int64,
    `empty_count` Int64,
    `mark` Nullable(String),
    `counts` Tuple(`requested` Int64, `synchronized` Int64, `inactive` Int64, `on_its_way` Int64, `repeated` Int64, `again` Int64, `older` Int64),
    `invalid_count` Int64,
    `problem` Nullable(String),
    `answer` Nullable(String),
    `updated_us` Int64
)
ENGINE = Kafka
SETTINGS
    kafka_broker_list = '127.0.0.1:9092',
    kafka_topic_list = 'atproto.crawls',
    kafka_group_name = 'clickhouse.crawls',
    kafka_format = 'JSONEachRow',
    input_format_skip_unknown_fields = 1,
    input_format_json_read_objects_as_strings = 1;

CREATE TABLE atproto.crawls
(
    message_key String,
    kafka_topic LowCardinality(String),
    kafka_partition UInt64,
    kafka_offset UInt64,
    `job` LowCardinality(String) COMMENT 'What it is read for. backfill: to ask for whatever is missing. sweep: to find what changed in a gap of an upstream.',
    `subject` String COMMENT 'The list: `repos <base URL>` (listRepos), `<collection> <base URL>` (listReposByCollection), `dids sha256:<hash of a file>`; of a sweep also `gaps <host>`: the messages of an upstream in the topic gaps.',
    `state` LowCardinality(String) COMMENT 'running: there is more to read. done: it was read to its end. cut: it cannot be read on, see problem.',
    `cursor` Nullable(String) COMMENT 'What the next page is asked for with, as the host gave it; null for the first page. Of a file the position in it; of `gaps <host>` the offset in gaps from which on gaps are still to be dealt with.',
    `pages_count` Int64 COMMENT 'Pages read so far, but for the last one. Unit: pages.',
    `empty_count` Int64 COMMENT 'Pages in a row, up to here, without a repository that the list had not named before. Unit: pages.',
    `mark` Nullable(String) COMMENT 'The cursor of an earlier page, to notice a list that leads in a circle; null where there is none.',
    `counts` Tuple(`requested` Int64, `synchronized` Int64, `inactive` Int64, `on_its_way` Int64, `repeated` Int64, `again` Int64, `older` Int64) COMMENT 'What became of the repositories so far.',
    `invalid_count` Int64 COMMENT 'Entries so far that are no repository. Unit: entries of a list.',
    `problem` Nullable(String) COMMENT 'Why the list was cut, for a person; else null.',
    `answer` Nullable(String) COMMENT 'What a list that a sweep is reading is the answer to, and what reading it on needs; null of all others.',
    `updated_us` Int64 COMMENT 'When this was written, microseconds since 1970. Unit: microseconds since 1970-01-01T00:00:00Z.'
)
ENGINE = ReplacingMergeTree(kafka_offset)
ORDER BY (message_key, kafka_topic)
COMMENT 'How far a list of repositories has been read. Key: job, a space, subject.';

CREATE MATERIALIZED VIEW atproto.crawls_view TO atproto.crawls AS
SELECT
    _key AS message_key,
    _topic AS kafka_topic,
    _partition AS kafka_partition,
    _offset AS kafka_offset,
    `job`,
    `subject`,
    `state`,
    `cursor`,
    `pages_count`,
    `empty_count`,
    `mark`,
    `counts`,
    `invalid_count`,
    `problem`,
    `answer`,
    `updated_us`
FROM atproto.crawls_queue;

-- cursors

CREATE TABLE atproto.cursors_queue
(
    `host` String,
    `seq` Int64,
    `generation` Int64,
    `time` Nullable(String),
    `updated_us` Int64
)
ENGINE = Kafka
SETTINGS
    kafka_broker_list = '127.0.0.1:9092',
    kafka_topic_list = 'atproto.cursors',
    kafka_group_name = 'clickhouse.cursors',
    kafka_format = 'JSONEachRow',
    input_format_skip_unknown_fields = 1,
    input_format_json_read_objects_as_strings = 1;

CREATE TABLE atproto.cursors
(
    message_key String,
    kafka_topic LowCardinality(String),
    kafka_partition UInt64,
    kafka_offset UInt64,
    `host` String COMMENT 'Host of the upstream the frame came from, with its port where that is not the default.',
    `seq` Int64 COMMENT 'Highest sequence number with everything up to it in frames; 0 before the first one. Unit: sequence number.',
    `generation` Int64 COMMENT 'How often the bridge has been started for this host, from 1. A newer generation may repeat or skip sequence numbers. Unit: starts of the bridge.',
    `time` Nullable(String) COMMENT 'The upstream''s `time` of the event with that number, as it stood there; null where it had none.',
    `updated_us` Int64 COMMENT 'When this was written, microseconds since 1970 by the bridge''s clock. Unit: microseconds since 1970-01-01T00:00:00Z.'
)
ENGINE = ReplacingMergeTree(kafka_offset)
ORDER BY (message_key, kafka_topic)
COMMENT 'How far one upstream has been copied into frames. Key: host.';

CREATE MATERIALIZED VIEW atproto.cursors_view TO atproto.cursors AS
SELECT
    _key AS message_key,
    _topic AS kafka_topic,
    _partition AS kafka_partition,
    _offset AS kafka_offset,
    `host`,
    `seq`,
    `generation`,
    `time`,
    `updated_us`
FROM atproto.cursors_queue;

-- epochs

CREATE TABLE atproto.epochs_queue
(
    `host` String,
    `generation` Int64,
    `seq_lo` Int64,
    `seq_hi` Int64,
    `time` Nullable(String),
    `received_us` Int64,
    `next_offsets` Array(Int64)
)
ENGINE = Kafka
SETTINGS
    kafka_broker_list = '127.0.0.1:9092',
    kafka_topic_list = 'atproto.epochs',
    kafka_group_name = 'clickhouse.epochs',
    kafka_format = 'JSONEachRow',
    input_format_skip_unknown_fields = 1,
    input_format_json_read_objects_as_strings = 1;

CREATE TABLE atproto.epochs
(
    message_key String,
    kafka_topic LowCardinality(String),
    kafka_partition UInt64,
    kafka_offset UInt64,
    `host` String COMMENT 'Host of the upstream the frame came from, with its port where that is not the default.',
    `generation` Int64 COMMENT 'How often the bridge has been started for this host, from 1. A newer generation may repeat or skip sequence numbers. Unit: starts of the bridge.',
    `seq_lo` Int64 COMMENT 'Lowest sequence number of the transaction. Unit: sequence number.',
    `seq_hi` Int64 COMMENT 'Highest sequence number of the transaction. Unit: sequence number.',
    `time` Nullable(String) COMMENT 'The upstream''s `time` of the event seq_hi, as it stood there; null where it had none.',
    `received_us` Int64 COMMENT 'When the bridge received the frame seq_hi, microseconds since 1970 by the bridge''s clock. Unit: microseconds since 1970-01-01T00:00:00Z.',
    `next_offsets` Array(Int64) COMMENT 'For each partition of frames, in order of its number: the offset after the last frame of this host up to seq_hi, or a later one. Unit: offset.'
)
ENGINE = ReplacingMergeTree
ORDER BY (message_key, kafka_topic, kafka_partition, kafka_offset)
COMMENT 'What one transaction of the bridge added to frames. Key: host. Every frame of this host with a sequence number up to seq_hi is below next_offsets.';

CREATE MATERIALIZED VIEW atproto.epochs_view TO atproto.epochs AS
SELECT
    _key AS message_key,
    _topic AS kafka_topic,
    _partition AS kafka_partition,
    _offset AS kafka_offset,
    `host`,
    `generation`,
    `seq_lo`,
    `seq_hi`,
    `time`,
    `received_us`,
    `next_offsets`
FROM atproto.epochs_queue;

-- events

CREATE TABLE atproto.events_queue
(
    `kind` LowCardinality(String),
    `did` String,
    `seq` Int64,
    `host` String,
    `time` Nullable(String),
    `received_us` Int64,
    `frame_partition` Int64,
    `frame_offset` Int64,
    `rev` Nullable(String),
    `since` Nullable(String),
    `commit` Nullable(String),
    `data` Nullable(String),
    `prev_data` Nullable(String),
    `commit_block` Nullable(String),
    `ops` Array(Tuple(`operation` LowCardinality(String), `collection` String, `rkey` String, `cid` Nullable(String), `prev` Nullable(String), `record` Nullable(String), `record_error` LowCardinality(Nullable(String)), `record_cbor` Nullable(String), `record_from` Nullable(Int64))),
    `handle` Nullable(String),
    `active` Nullable(Bool),
    `status` Nullable(String),
    `refused_kind` LowCardinality(Nullable(String)),
    `reason` Nullable(String),
    `detail` Nullable(String)
)
ENGINE = Kafka
SETTINGS
    kafka_broker_list = '127.0.0.1:9092',
    kafka_topic_list = 'atproto.events',
    kafka_group_name = 'clickhouse.events',
    kafka_format = 'JSONEachRow',
    input_format_skip_unknown_fields = 1,
    input_format_json_read_objects_as_strings = 1;

CREATE TABLE atproto.events
(
    message_key String,
    kafka_topic LowCardinality(String),
    kafka_partition UInt64,
    kafka_offset UInt64,
    `kind` LowCardinality(String) COMMENT 'Always `commit`.',
    `did` String COMMENT 'DID of the repository or account, at most 2,048 characters.',
    `seq` Int64 COMMENT 'The upstream''s sequence number of the frame. Increases per host, with gaps. Unit: sequence number.',
    `host` String COMMENT 'Host of the upstream the frame came from, with its port where that is not the default.',
    `time` Nullable(String) COMMENT 'When the upstream says the event happened, RFC 3339. A claim, from a clock that nobody checked.',
    `received_us` Int64 COMMENT 'When the bridge received the frame, microseconds since 1970 by the bridge''s clock. Unit: microseconds since 1970-01-01T00:00:00Z.',
    `frame_partition` Int64 COMMENT 'Partition of the topic frames that holds the frame this was proven from. Unit: partition number.',
    `frame_offset` Int64 COMMENT 'Offset of that frame in its partition. Unit: offset.',
    `rev` Nullable(String) COMMENT 'Revision of the signed commit.',
    `since` Nullable(String) COMMENT 'Claimed revision of the commit before; null for a first commit. Not signed: true only once the chain is.',
    `commit` Nullable(String) COMMENT 'CID of the signed commit block.',
    `data` Nullable(String) COMMENT 'CID of the root of the repository''s Merkle search tree, from the signed commit.',
    `prev_data` Nullable(String) COMMENT 'Root of the tree before, to which undoing the operations leads; null for a first commit, where it leads to the empty tree.',
    `commit_block` Nullable(String) COMMENT 'The signed commit block (DAG-CBOR), whose SHA-256 is in `commit`.',
    `ops` Array(Tuple(`operation` LowCardinality(String), `collection` String, `rkey` String, `cid` Nullable(String), `prev` Nullable(String), `record` Nullable(String), `record_error` LowCardinality(Nullable(String)), `record_cbor` Nullable(String), `record_from` Nullable(Int64))) COMMENT 'The operations, in the frame''s order; no path occurs twice.',
    `handle` Nullable(String) COMMENT 'The handle that the upstream names, unverified, or null where it names none.',
    `active` Nullable(Bool) COMMENT 'Whether the repository may be shown.',
    `status` Nullable(String) COMMENT 'Why not (deleted, deactivated, takendown, suspended, …: an open set), or null. May be set although active.',
    `refused_kind` LowCardinality(Nullable(String)) COMMENT 'What the frame was.',
    `reason` Nullable(String) COMMENT 'Why it was refused, the stable name that q.reason has in quarantine.',
    `detail` Nullable(String) COMMENT 'One sentence for a person; its wording may change.'
)
ENGINE = ReplacingMergeTree
ORDER BY (message_key, kafka_topic, kafka_partition, kafka_offset)
COMMENT 'One proven frame. Key: DID. Which further fields there are depends on kind; all of a kind''s fields are always present.';

CREATE MATERIALIZED VIEW atproto.events_view TO atproto.events AS
SELECT
    _key AS message_key,
    _topic AS kafka_topic,
    _partition AS kafka_partition,
    _offset AS kafka_offset,
    `kind`,
    `did`,
    `seq`,
    `host`,
    `time`,
    `received_us`,
    `frame_partition`,
    `frame_offset`,
    `rev`,
    `since`,
    `commit`,
    `data`,
    `prev_data`,
    `commit_block`,
    `ops`,
    `handle`,
    `active`,
    `status`,
    `refused_kind`,
    `reason`,
    `detail`
FROM atproto.events_queue;

-- gaps

CREATE TABLE atproto.gaps_queue
(
    `host` String,
    `generation` Int64,
    `reason` LowCardinality(String),
    `from_seq` Int64,
    `from_time` Nullable(String),
    `to_seq` Int64,
    `to_time` Nullable(String),
    `received_us` Int64,
    `next_offsets` Array(Int64)
)
ENGINE = Kafka
SETTINGS
    kafka_broker_list = '127.0.0.1:9092',
    kafka_topic_list = 'atproto.gaps',
    kafka_group_name = 'clickhouse.gaps',
    kafka_format = 'JSONEachRow',
    input_format_skip_unknown_fields = 1,
    input_format_json_read_objects_as_strings = 1;

CREATE TABLE atproto.gaps
(
    message_key String,
    kafka_topic LowCardinality(String),
    kafka_partition UInt64,
    kafka_offset UInt64,
    `host` String COMMENT 'Host of the upstream the frame came from, with its port where that is not the default.',
    `generation` Int64 COMMENT 'How often the bridge has been started for this host, from 1. A newer generation may repeat or skip sequence numbers. Unit: starts of the bridge.',
    `reason` LowCardinality(String) COMMENT 'How we know. outdated_cursor: the upstream said that it no longer has what followed. jump: it did not say so, but numbers and times jump, or the numbers by a million. cursor_given_up: a person had the bridge start anew, as where an upstream was reset; then the numbers before and after have nothing to do with each other.',
    `from_seq` Int64 COMMENT 'The last event before the gap that was taken in. Unit: sequence number.',
    `from_time` Nullable(String) COMMENT 'The upstream''s `time` of that event; null where it had none, or where nobody knows.',
    `to_seq` Int64 COMMENT 'The first event after the gap. Unit: sequence number.',
    `to_time` Nullable(String) COMMENT 'The upstream''s `time` of that event; null where it had none.',
    `received_us` Int64 COMMENT 'When the bridge received the first event after the gap, microseconds since 1970 by the bridge''s clock. Unit: microseconds since 1970-01-01T00:00:00Z.',
    `next_offsets` Array(Int64) COMMENT 'For each partition of frames, in order of its number: no frame of this host after the gap is before this offset. Unit: offset.'
)
ENGINE = ReplacingMergeTree
ORDER BY (message_key, kafka_topic, kafka_partition, kafka_offset)
COMMENT 'Events of one upstream may be missing between two of its events. Key: host.';

CREATE MATERIALIZED VIEW atproto.gaps_view TO atproto.gaps AS
SELECT
    _key AS message_key,
    _topic AS kafka_topic,
    _partition AS kafka_partition,
    _offset AS kafka_offset,
    `host`,
    `generation`,
    `reason`,
    `from_seq`,
    `from_time`,
    `to_seq`,
    `to_time`,
    `received_us`,
    `next_offsets`
FROM atproto.gaps_queue;

-- identities

CREATE TABLE atproto.identities_queue
(
    `did` String,
    `signing_key` Nullable(String),
    `pds` Nullable(String),
    `handle` Nullable(String),
    `reason` Nullable(String),
    `origin` LowCardinality(String),
    `source` String,
    `as_of_us` Int64,
    `seq` Nullable(Int64),
    `fetched_us` Int64,
    `stale` Bool
)
ENGINE = Kafka
SETTINGS
    kafka_broker_list = '127.0.0.1:9092',
    kafka_topic_list = 'atproto.identities',
    kafka_group_name = 'clickhouse.identities',
    kafka_format = 'JSONEachRow',
    input_format_skip_unknown_fields = 1,
    input_format_json_read_objects_as_strings = 1;

CREATE TABLE atproto.identities
(
    message_key String,
    kafka_topic LowCardinality(String),
    kafka_partition UInt64,
    kafka_offset UInt64,
    `did` String COMMENT 'DID of the repository or account, at most 2,048 characters.',
    `signing_key` Nullable(String) COMMENT 'The public key that the account''s commits are signed with, as did:key; null where it has no usable one.',
    `pds` Nullable(String) COMMENT 'Origin of the account''s server, or null where it names none.',
    `handle` Nullable(String) COMMENT 'The handle that the account claims, in lower case and not proven, or null where it claims none.',
    `reason` Nullable(String) COMMENT 'Why there is no signing key, the stable name that q.reason has in quarantine; null if there is one.',
    `origin` LowCardinality(String) COMMENT 'What this was made from. document: the DID document. operation: an operation in the directory''s export.',
    `source` String COMMENT 'Who said it: base URL of the directory or host.',
    `as_of_us` Int64 COMMENT 'The moment whose state this is, microseconds since 1970: when the directory received the operation, or by our own clock when the document was asked for. Unit: microseconds since 1970-01-01T00:00:00Z.',
    `seq` Nullable(Int64) COMMENT 'Sequence number of the operation in the directory''s export, or null. Unit: sequence number.',
    `fetched_us` Int64 COMMENT 'When it was learned, microseconds since 1970 by the clock of the machine that learned it. Unit: microseconds since 1970-01-01T00:00:00Z.',
    `stale` Bool COMMENT 'Whether the account announced a change since: who needs the key asks again.'
)
ENGINE = ReplacingMergeTree(kafka_offset)
ORDER BY (message_key, kafka_topic)
COMMENT 'What is known of an account''s identity. Key: DID. Of several messages the one with the highest as_of_us counts, of equal ones the later.';

CREATE MATERIALIZED VIEW atproto.identities_view TO atproto.identities AS
SELECT
    _key AS message_key,
    _topic AS kafka_topic,
    _partition AS kafka_partition,
    _offset AS kafka_offset,
    `did`,
    `signing_key`,
    `pds`,
    `handle`,
    `reason`,
    `origin`,
    `source`,
    `as_of_us`,
    `seq`,
    `fetched_us`,
    `stale`
FROM atproto.identities_queue;

-- latest

CREATE TABLE atproto.latest_queue
(
    `uri` String,
    `did` String,
    `collection` String,
    `rkey` String,
    `cid` String,
    `rev` String,
    `host` String,
    `seq` Nullable(Int64),
    `time` Nullable(String),
    `received_us` Int64,
    `frame_partition` Nullable(Int64),
    `frame_offset` Nullable(Int64),
    `snapshot_offset` Nullable(Int64),
    `record` Nullable(String),
    `record_error` LowCardinality(Nullable(String)),
    `record_cbor` Nullable(String)
)
ENGINE = Kafka
SETTINGS
    kafka_broker_list = '127.0.0.1:9092',
    kafka_topic_list = 'atproto.latest.app.bsky.actor.profile,
        atproto.latest.app.bsky.feed.generator,
        atproto.latest.app.bsky.feed.like,
        atproto.latest.app.bsky.feed.post,
        atproto.latest.app.bsky.feed.postgate,
        atproto.latest.app.bsky.feed.repost,
        atproto.latest.app.bsky.feed.threadgate,
        atproto.latest.app.bsky.graph.block,
        atproto.latest.app.bsky.graph.follow,
        atproto.latest.app.bsky.graph.list,
        atproto.latest.app.bsky.graph.listblock,
        atproto.latest.app.bsky.graph.listitem,
        atproto.latest.app.bsky.graph.starterpack,
        atproto.latest.app.bsky.labeler.service,
        atproto.latest.chat.bsky.actor.declaration,
        atproto.latest.other',
    kafka_group_name = 'clickhouse.latest',
    kafka_format = 'JSONEachRow',
    input_format_skip_unknown_fields = 1,
    input_format_json_read_objects_as_strings = 1;

CREATE TABLE atproto.latest
(
    message_key String,
    kafka_topic LowCardinality(String),
    kafka_partition UInt64,
    kafka_offset UInt64,
    `uri` String COMMENT 'The record''s address, at://<did>/<collection>/<rkey>; also the message key.',
    `did` String COMMENT 'DID of the repository or account, at most 2,048 characters.',
    `collection` String COMMENT 'NSID of a collection, at most 317 characters, case-sensitive.',
    `rkey` String COMMENT 'Record key within the collection, 1 to 512 characters, case-sensitive.',
    `cid` String COMMENT 'CID of the record block.',
    `rev` String COMMENT 'Revision of the commit that wrote the record; of a record from a snapshot, the snapshot''s.',
    `host` String COMMENT 'Host of the upstream the frame came from, or host that was asked for the repository, with its port where that is not the default.',
    `seq` Nullable(Int64) COMMENT 'The upstream''s sequence number of the frame; null for a record from a snapshot. Unit: sequence number.',
    `time` Nullable(String) COMMENT 'When the upstream says the event happened; null for a record from a snapshot.',
    `received_us` Int64 COMMENT 'When the bridge received the frame, or the repository was fetched, microseconds since 1970 by our clock. Unit: microseconds since 1970-01-01T00:00:00Z.',
    `frame_partition` Nullable(Int64) COMMENT 'Partition of the topic frames that holds the frame this was proven from; null for a record from a snapshot. Unit: partition number.',
    `frame_offset` Nullable(Int64) COMMENT 'Offset of that frame in its partition; null for a record from a snapshot. Unit: offset.',
    `snapshot_offset` Nullable(Int64) COMMENT 'Offset in the topic snapshots, same partition, of the snapshot that the record comes from; null for one from a frame. Unit: offset.',
    `record` Nullable(String) COMMENT 'The record; null where record_error says why.',
    `record_error` LowCardinality(Nullable(String)) COMMENT 'Why there is no JSON, or null.',
    `record_cbor` Nullable(String) COMMENT 'The record block, where record_error says why there is no JSON; else null. Also null for a large record that one commit named so often that its messages would not fit into a transaction (json.too_large).'
)
ENGINE = ReplacingMergeTree(kafka_offset)
ORDER BY (message_key, kafka_topic)
COMMENT 'The latest record at one at-uri. Key: at-uri. A null value says that the record is gone. Every field is always present.';

CREATE MATERIALIZED VIEW atproto.latest_view TO atproto.latest AS
SELECT
    _key AS message_key,
    _topic AS kafka_topic,
    _partition AS kafka_partition,
    _offset AS kafka_offset,
    `uri`,
    `did`,
    `collection`,
    `rkey`,
    `cid`,
    `rev`,
    `host`,
    `seq`,
    `time`,
    `received_us`,
    `frame_partition`,
    `frame_offset`,
    `snapshot_offset`,
    `record`,
    `record_error`,
    `record_cbor`
FROM atproto.latest_queue;

-- listings

CREATE TABLE atproto.listings_queue
(
    `host` String,
    `listed_us` Int64,
    `fingerprints` String
)
ENGINE = Kafka
SETTINGS
    kafka_broker_list = '127.0.0.1:9092',
    kafka_topic_list = 'atproto.listings',
    kafka_group_name = 'clickhouse.listings',
    kafka_format = 'JSONEachRow',
    input_format_skip_unknown_fields = 1,
    input_format_json_read_objects_as_strings = 1;

CREATE TABLE atproto.listings
(
    message_key String,
    kafka_topic LowCardinality(String),
    kafka_partition UInt64,
    kafka_offset UInt64,
    `host` String COMMENT 'Host of the upstream the frame came from, with its port where that is not the default.',
    `listed_us` Int64 COMMENT 'When reading the list began, microseconds since 1970: all messages of one sweep of an upstream have the same. Unit: microseconds since 1970-01-01T00:00:00Z.',
    `fingerprints` String COMMENT 'Base64 of fingerprints in the list''s order, one after another: of each DID the first 9 bytes of its SHA-256.'
)
ENGINE = ReplacingMergeTree
ORDER BY (message_key, kafka_topic, kafka_partition, kafka_offset)
COMMENT 'Repositories that an upstream listed, of some pages. Key: host.';

CREATE MATERIALIZED VIEW atproto.listings_view TO atproto.listings AS
SELECT
    _key AS message_key,
    _topic AS kafka_topic,
    _partition AS kafka_partition,
    _offset AS kafka_offset,
    `host`,
    `listed_us`,
    `fingerprints`
FROM atproto.listings_queue;

-- minutes

CREATE TABLE atproto.minutes_queue
(
    `minute` String,
    `collection` String,
    `language` String,
    `partition` Int64,
    `first_offset` Int64,
    `next_offset` Int64,
    `creates` Int64,
    `updates` Int64,
    `deletes` Int64
)
ENGINE = Kafka
SETTINGS
    kafka_broker_list = '127.0.0.1:9092',
    kafka_topic_list = 'atproto.minutes',
    kafka_group_name = 'clickhouse.minutes',
    kafka_format = 'JSONEachRow',
    input_format_skip_unknown_fields = 1,
    input_format_json_read_objects_as_strings = 1;

CREATE TABLE atproto.minutes
(
    message_key String,
    kafka_topic LowCardinality(String),
    kafka_partition UInt64,
    kafka_offset UInt64,
    `minute` String COMMENT 'Start of the minute in which the bridge received the frames, by the bridge''s clock, UTC.',
    `collection` String COMMENT 'NSID of the collection where it has a record topic of its own, else `other`. The topic counted is records.<collection>.',
    `language` String COMMENT 'Two-letter code (ISO 639-1) of the language that the record says it is in; `mul` for several; `other` for what is no such code; `und` where the record says nothing, as those of most collections and every delete.',
    `partition` Int64 COMMENT 'Partition of the record topic; also of this message. Unit: partition number.',
    `first_offset` Int64 COMMENT 'Offset of the first record that is counted here. Unit: offset.',
    `next_offset` Int64 COMMENT 'Offset after the last record that is counted here. Unit: offset.',
    `creates` Int64 COMMENT 'Records created. Unit: records.',
    `updates` Int64 COMMENT 'Records updated. Unit: records.',
    `deletes` Int64 COMMENT 'Records deleted. Unit: records.'
)
ENGINE = ReplacingMergeTree(kafka_offset)
ORDER BY (message_key, kafka_topic)
COMMENT 'How many records of one collection and language one minute brought, in an interval of offsets of one partition. Key: `<minute>/<collection>/<language>/<partition>/<first_offset>`.';

CREATE MATERIALIZED VIEW atproto.minutes_view TO atproto.minutes AS
SELECT
    _key AS message_key,
    _topic AS kafka_topic,
    _partition AS kafka_partition,
    _offset AS kafka_offset,
    `minute`,
    `collection`,
    `language`,
    `partition`,
    `first_offset`,
    `next_offset`,
    `creates`,
    `updates`,
    `deletes`
FROM atproto.minutes_queue;

-- overrides

CREATE TABLE atproto.overrides_queue
(
    `did` String,
    `status` LowCardinality(String),
    `reason` String,
    `decided_us` Int64
)
ENGINE = Kafka
SETTINGS
    kafka_broker_list = '127.0.0.1:9092',
    kafka_topic_list = 'atproto.overrides',
    kafka_group_name = 'clickhouse.overrides',
    kafka_format = 'JSONEachRow',
    input_format_skip_unknown_fields = 1,
    input_format_json_read_objects_as_strings = 1;

CREATE TABLE atproto.overrides
(
    message_key String,
    kafka_topic LowCardinality(String),
    kafka_partition UInt64,
    kafka_offset UInt64,
    `did` String COMMENT 'DID of the repository or account, at most 2,048 characters.',
    `status` LowCardinality(String) COMMENT 'What counts of the account. active: it may be shown, whatever upstream says. deleted: its records go at once. Else they are hidden, or go where compact purges.',
    `reason` String COMMENT 'Why, for people.',
    `decided_us` Int64 COMMENT 'When the operator said so, microseconds since 1970 by the clock of the command''s machine. Unit: microseconds since 1970-01-01T00:00:00Z.'
)
ENGINE = ReplacingMergeTree(kafka_offset)
ORDER BY (message_key, kafka_topic)
COMMENT 'What the operator says of an account, which counts instead of upstream''s word. Key: DID. A null lifts it. Every field is always present.';

CREATE MATERIALIZED VIEW atproto.overrides_view TO atproto.overrides AS
SELECT
    _key AS message_key,
    _topic AS kafka_topic,
    _partition AS kafka_partition,
    _offset AS kafka_offset,
    `did`,
    `status`,
    `reason`,
    `decided_us`
FROM atproto.overrides_queue;

-- parked

CREATE TABLE atproto.parked_queue
(
    `did` String,
    `seq` Int64,
    `host` String,
    `kind` LowCardinality(String),
    `received_us` Int64,
    `frame_partition` Int64,
    `frame_offset` Int64,
    `parked_us` Int64,
    `detail` Nullable(String)
)
ENGINE = Kafka
SETTINGS
    kafka_broker_list = '127.0.0.1:9092',
    kafka_topic_list = 'atproto.parked',
    kafka_group_name = 'clickhouse.parked',
    kafka_format = 'JSONEachRow',
    input_format_skip_unknown_fields = 1,
    input_format_json_read_objects_as_strings = 1;

CREATE TABLE atproto.parked
(
    message_key String,
    kafka_topic LowCardinality(String),
    kafka_partition UInt64,
    kafka_offset UInt64,
    `did` String COMMENT 'DID of the repository or account, at most 2,048 characters.',
    `seq` Int64 COMMENT 'The upstream''s sequence number of the frame. Increases per host, with gaps. Unit: sequence number.',
    `host` String COMMENT 'Host of the upstream the frame came from, with its port where that is not the default.',
    `kind` LowCardinality(String) COMMENT 'What the frame''s own header says it is.',
    `received_us` Int64 COMMENT 'When the bridge received the frame, microseconds since 1970 by the bridge''s clock. Unit: microseconds since 1970-01-01T00:00:00Z.',
    `frame_partition` Int64 COMMENT 'Partition of the topic frames that holds the frame. Unit: partition number.',
    `frame_offset` Int64 COMMENT 'Offset of the frame in its partition. Unit: offset.',
    `parked_us` Int64 COMMENT 'Since when it waits, microseconds since 1970 by the worker''s clock. Unit: microseconds since 1970-01-01T00:00:00Z.',
    `detail` Nullable(String) COMMENT 'Why it could not be judged, for a person; null if it waits because an earlier frame of the account does.'
)
ENGINE = ReplacingMergeTree(kafka_offset)
ORDER BY (message_key, kafka_topic)
COMMENT 'A frame that waits for its account''s identity. Key: `<did>/<offset of the frame>`. A null means that it waits no longer.';

CREATE MATERIALIZED VIEW atproto.parked_view TO atproto.parked AS
SELECT
    _key AS message_key,
    _topic AS kafka_topic,
    _partition AS kafka_partition,
    _offset AS kafka_offset,
    `did`,
    `seq`,
    `host`,
    `kind`,
    `received_us`,
    `frame_partition`,
    `frame_offset`,
    `parked_us`,
    `detail`
FROM atproto.parked_queue;

-- records

CREATE TABLE atproto.records_queue
(
    `uri` String,
    `did` String,
    `collection` String,
    `rkey` String,
    `operation` LowCardinality(String),
    `cid` Nullable(String),
    `prev` Nullable(String),
    `rev` String,
    `seq` Int64,
    `host` String,
    `time` String,
    `received_us` Int64,
    `frame_partition` Int64,
    `frame_offset` Int64,
    `record` Nullable(String),
    `record_error` LowCardinality(Nullable(String)),
    `record_cbor` Nullable(String)
)
ENGINE = Kafka
SETTINGS
    kafka_broker_list = '127.0.0.1:9092',
    kafka_topic_list = 'atproto.records.app.bsky.actor.profile,
        atproto.records.app.bsky.feed.generator,
        atproto.records.app.bsky.feed.like,
        atproto.records.app.bsky.feed.post,
        atproto.records.app.bsky.feed.postgate,
        atproto.records.app.bsky.feed.repost,
        atproto.records.app.bsky.feed.threadgate,
        atproto.records.app.bsky.graph.block,
        atproto.records.app.bsky.graph.follow,
        atproto.records.app.bsky.graph.list,
        atproto.records.app.bsky.graph.listblock,
        atproto.records.app.bsky.graph.listitem,
        atproto.records.app.bsky.graph.starterpack,
        atproto.records.app.bsky.labeler.service,
        atproto.records.chat.bsky.actor.declaration,
        atproto.records.other',
    kafka_group_name = 'clickhouse.records',
    kafka_format = 'JSONEachRow',
    input_format_skip_unknown_fields = 1,
    input_format_json_read_objects_as_strings = 1;

CREATE TABLE atproto.records
(
    message_key String,
    kafka_topic LowCardinality(String),
    kafka_partition UInt64,
    kafka_offset UInt64,
    `uri` String COMMENT 'The record''s address, at://<did>/<collection>/<rkey>; also the message key.',
    `did` String COMMENT 'DID of the repository or account, at most 2,048 characters.',
    `collection` String COMMENT 'NSID of a collection, at most 317 characters, case-sensitive.',
    `rkey` String COMMENT 'Record key within the collection, 1 to 512 characters, case-sensitive.',
    `operation` LowCardinality(String) COMMENT 'What the commit did to the record.',
    `cid` Nullable(String) COMMENT 'CID of the record block afterwards; null for a delete.',
    `prev` Nullable(String) COMMENT 'CID of the record block before; null for a create. Equal to `cid` for an update that changed nothing.',
    `rev` String COMMENT 'Revision of the commit.',
    `seq` Int64 COMMENT 'The upstream''s sequence number of the frame. Increases per host, with gaps. Unit: sequence number.',
    `host` String COMMENT 'Host of the upstream the frame came from, with its port where that is not the default.',
    `time` String COMMENT 'When the upstream says the event happened, RFC 3339. A claim, from a clock that nobody checked.',
    `received_us` Int64 COMMENT 'When the bridge received the frame, microseconds since 1970 by the bridge''s clock. Unit: microseconds since 1970-01-01T00:00:00Z.',
    `frame_partition` Int64 COMMENT 'Partition of the topic frames that holds the frame this was proven from. Unit: partition number.',
    `frame_offset` Int64 COMMENT 'Offset of that frame in its partition. Unit: offset.',
    `record` Nullable(String) COMMENT 'The record afterwards; null for a delete, and where record_error says why.',
    `record_error` LowCardinality(Nullable(String)) COMMENT 'Why there is no JSON although there is a record, or null.',
    `record_cbor` Nullable(String) COMMENT 'The record block: where record_error says why there is no JSON (null if it would not fit either), or always, if explode was told so with --record-cbor; else null.'
)
ENGINE = ReplacingMergeTree
ORDER BY (message_key, kafka_topic, kafka_partition, kafka_offset)
COMMENT 'One operation of a proven commit. Key: at-uri. Every field is always present.';

CREATE MATERIALIZED VIEW atproto.records_view TO atproto.records AS
SELECT
    _key AS message_key,
    _topic AS kafka_topic,
    _partition AS kafka_partition,
    _offset AS kafka_offset,
    `uri`,
    `did`,
    `collection`,
    `rkey`,
    `operation`,
    `cid`,
    `prev`,
    `rev`,
    `seq`,
    `host`,
    `time`,
    `received_us`,
    `frame_partition`,
    `frame_offset`,
    `record`,
    `record_error`,
    `record_cbor`
FROM atproto.records_queue;

-- repairs

CREATE TABLE atproto.repairs_queue
(
    `did` String,
    `cause` LowCardinality(String),
    `reason` Nullable(String),
    `min_rev` Nullable(String),
    `host` Nullable(String),
    `requested_us` Int64,
    `request_offset` Int64,
    `attempts` Int64,
    `not_before_us` Int64,
    `last_error` Nullable(String)
)
ENGINE = Kafka
SETTINGS
    kafka_broker_list = '127.0.0.1:9092',
    kafka_topic_list = 'atproto.repairs',
    kafka_group_name = 'clickhouse.repairs',
    kafka_format = 'JSONEachRow',
    input_format_skip_unknown_fields = 1,
    input_format_json_read_objects_as_strings = 1;

CREATE TABLE atproto.repairs
(
    message_key String,
    kafka_topic LowCardinality(String),
    kafka_partition UInt64,
    kafka_offset UInt64,
    `did` String COMMENT 'DID of the repository or account, at most 2,048 characters.',
    `cause` LowCardinality(String) COMMENT 'Why the repository was asked for. desynchronized: something is missing. backfill: it was never followed. audit: what we hold is not what the account signed. redrive: somebody asked for it. sweep: a gap in an upstream''s stream may hide something. reactivation: the account is active again. deletion: whether the account is really gone.',
    `reason` Nullable(String) COMMENT 'What broke, as in repos; null where nothing did.',
    `min_rev` Nullable(String) COMMENT 'Revision that the repository has to have reached: an older one is a stale copy. Null if any will do.',
    `host` Nullable(String) COMMENT 'Server to ask first; null for the one in the DID document.',
    `requested_us` Int64 COMMENT 'When it became necessary, microseconds since 1970: that of the oldest request that is not answered. Unit: microseconds since 1970-01-01T00:00:00Z.',
    `request_offset` Int64 COMMENT 'Offset of the newest request in the topic resyncs, same partition. Unit: offset.',
    `attempts` Int64 COMMENT 'How often it was tried in vain. Unit: attempts.',
    `not_before_us` Int64 COMMENT 'When to try again at the earliest, microseconds since 1970 by the worker''s clock. Unit: microseconds since 1970-01-01T00:00:00Z.',
    `last_error` Nullable(String) COMMENT 'Why the last try was in vain, for a person; null before the first.'
)
ENGINE = ReplacingMergeTree(kafka_offset)
ORDER BY (message_key, kafka_topic)
COMMENT 'What is asked for of a repository and not done. Key: DID. A null means that nothing is. Every field is always present.';

CREATE MATERIALIZED VIEW atproto.repairs_view TO atproto.repairs AS
SELECT
    _key AS message_key,
    _topic AS kafka_topic,
    _partition AS kafka_partition,
    _offset AS kafka_offset,
    `did`,
    `cause`,
    `reason`,
    `min_rev`,
    `host`,
    `requested_us`,
    `request_offset`,
    `attempts`,
    `not_before_us`,
    `last_error`
FROM atproto.repairs_queue;

-- repos

CREATE TABLE atproto.repos_queue
(
    `did` String,
    `active` Bool,
    `status` Nullable(String),
    `account_host` Nullable(String),
    `account_seq` Nullable(Int64),
    `account_time` Nullable(String),
    `account_received_us` Nullable(Int64),
    `upstream_active` Bool,
    `upstream_status` Nullable(String),
    `override_status` LowCardinality(Nullable(String)),
    `override_reason` Nullable(String),
    `override_us` Nullable(Int64),
    `sync` LowCardinality(String),
    `reason` Nullable(String),
    `desynchronized_us` Nullable(Int64),
    `requested_us` Nullable(Int64),
    `rev` Nullable(String),
    `commit` Nullable(String),
    `data` Nullable(String),
    `commit_block` Nullable(String),
    `seen_rev` Nullable(String),
    `seen_commit` Nullable(String),
    `seen_data` Nullable(String),
    `waiting` Array(Tuple(`rev` Nullable(String), `events_offset` Int64)),
    `applying` Nullable(String),
    `deletion_us` Nullable(Int64),
    `deleted_rev` Nullable(String),
    `purging` Bool,
    `host` String,
    `seq` Nullable(Int64),
    `time` Nullable(String),
    `received_us` Int64,
    `frame_partition` Nullable(Int64),
    `frame_offset` Nullable(Int64),
    `snapshot_offset` Nullable(Int64)
)
ENGINE = Kafka
SETTINGS
    kafka_broker_list = '127.0.0.1:9092',
    kafka_topic_list = 'atproto.repos',
    kafka_group_name = 'clickhouse.repos',
    kafka_format = 'JSONEachRow',
    input_format_skip_unknown_fields = 1,
    input_format_json_read_objects_as_strings = 1;

CREATE TABLE atproto.repos
(
    message_key String,
    kafka_topic LowCardinality(String),
    kafka_partition UInt64,
    kafka_offset UInt64,
    `did` String COMMENT 'DID of the repository or account, at most 2,048 characters.',
    `active` Bool COMMENT 'Whether the repository may be shown: by the operator''s override if there is one, else as in upstream_active.',
    `status` Nullable(String) COMMENT 'Why it may not be shown, by the override if there is one, else as in upstream_status; or null.',
    `account_host` Nullable(String) COMMENT 'Who said that: the upstream of the #account, or the host that was asked for the repository; null if nobody did.',
    `account_seq` Nullable(Int64) COMMENT 'Sequence number of that #account; null if it was not one. Unit: sequence number.',
    `account_time` Nullable(String) COMMENT 'When it was said, by the upstream''s clock or, of a host that was asked, by ours; or null.',
    `account_received_us` Nullable(Int64) COMMENT 'When it was received, or the host was asked, by our clock, microseconds since 1970; or null. Between what hosts were asked for and what the upstream said this decides. Unit: microseconds since 1970-01-01T00:00:00Z.',
    `upstream_active` Bool COMMENT 'Whether the repository may be shown by the account''s last #account or what its server said last; true if there was neither.',
    `upstream_status` Nullable(String) COMMENT 'Why it may not be shown by upstream''s word (deleted, deactivated, takendown, suspended, …: an open set), or null. May be set although active.',
    `override_status` LowCardinality(Nullable(String)) COMMENT 'What the operator says of the account, which counts instead (active, deactivated, deleted, suspended, takendown); null if there is no override.',
    `override_reason` Nullable(String) COMMENT 'Why the operator says so, for people; or null.',
    `override_us` Nullable(Int64) COMMENT 'When the operator said so, microseconds since 1970 by the clock of the command''s machine; or null. Unit: microseconds since 1970-01-01T00:00:00Z.',
    `sync` LowCardinality(String) COMMENT 'unknown: no commit seen, or none since the account was deleted. synchronized: latest.* has exactly the records of the newest commit seen. desynchronized: something is missing; latest.* stays at the commit below until it is repaired. applying: it is being repaired; latest.* is on its way from the commit below to the one in `applying`.',
    `reason` Nullable(String) COMMENT 'Why it is desynchronized, or was when it began to be repaired; else null. history.unknown: it was not followed from its first commit. chain.since, chain.prev_data: a commit does not follow the one we hold, by revision or by root. chain.restarted: a first commit for a repository that had one. sync.data: a #sync with another root. account.inactive: something signed came of an account that upstream says is not active, whose server is asked. identity.unavailable: nobody could tell whether the account made a commit. Else the reason for which an authentic commit was refused, as in q.reason.',
    `desynchronized_us` Nullable(Int64) COMMENT 'Since when it is so: received_us of what broke it; else null. Unit: microseconds since 1970-01-01T00:00:00Z.',
    `requested_us` Nullable(Int64) COMMENT 'When the repository was last asked for, to repair what is missing, by received_us of what made it necessary; null if nothing is missing, or nobody repairs. Unit: microseconds since 1970-01-01T00:00:00Z.',
    `rev` Nullable(String) COMMENT 'Revision of the commit whose records latest.* holds, or held when it began to be repaired; null if it holds none.',
    `commit` Nullable(String) COMMENT 'CID of that commit''s block, or null.',
    `data` Nullable(String) COMMENT 'Root of that commit''s Merkle search tree, or null: the records of this repository in latest.* have exactly this root, except while they are being repaired.',
    `commit_block` Nullable(String) COMMENT 'That commit''s signed block (DAG-CBOR), or null.',
    `seen_rev` Nullable(String) COMMENT 'Revision of the newest commit that the account is known to have signed; the same as rev if synchronized; null if there is none.',
    `seen_commit` Nullable(String) COMMENT 'CID of that commit''s block, or null.',
    `seen_data` Nullable(String) COMMENT 'Root of that commit''s Merkle search tree, or null.',
    `waiting` Array(Tuple(`rev` Nullable(String), `events_offset` Int64)) COMMENT 'What came while something was missing, and is judged once the repository is repaired; 256 at most, else the oldest is forgotten.',
    `applying` Nullable(String) COMMENT 'The snapshot that the records are being brought to, and how far that is; null if none is.',
    `deletion_us` Nullable(Int64) COMMENT 'Since when the account counts as deleted and its records wait for a confirmation, by received_us of its #account: they are still in latest.*, and nobody may show them. Null if none wait. Unit: microseconds since 1970-01-01T00:00:00Z.',
    `deleted_rev` Nullable(String) COMMENT 'Last revision that went with a deletion of the account: records up to it are gone or going. Null if there was no deletion.',
    `purging` Bool COMMENT 'Whether some of those records still wait for their tombstones.',
    `host` String COMMENT 'Host of the upstream of the event, or host that was asked, with its port where that is not the default; operator where an override, or its end, changed this.',
    `seq` Nullable(Int64) COMMENT 'The upstream''s sequence number of the frame; null without one. Unit: sequence number.',
    `time` Nullable(String) COMMENT 'The upstream''s `time` of an event, as it stood there, or null where there was none.',
    `received_us` Int64 COMMENT 'When the frame was received or the server asked, microseconds since 1970 by our clock. Unit: microseconds since 1970-01-01T00:00:00Z.',
    `frame_partition` Nullable(Int64) COMMENT 'Partition of the topic frames that holds the frame; null without one. Unit: partition number.',
    `frame_offset` Nullable(Int64) COMMENT 'Offset of that frame in its partition; null without one. Unit: offset.',
    `snapshot_offset` Nullable(Int64) COMMENT 'Offset in the topic snapshots, same partition, of what the server said; null for an event. Unit: offset.'
)
ENGINE = ReplacingMergeTree(kafka_offset)
ORDER BY (message_key, kafka_topic)
COMMENT 'What is known of one repository. Key: DID. Every field is always present; host to snapshot_offset lead to what changed it last: an event, an answer of a server that was asked for the repository, or the operator (host: operator, and no position).';

CREATE MATERIALIZED VIEW atproto.repos_view TO atproto.repos AS
SELECT
    _key AS message_key,
    _topic AS kafka_topic,
    _partition AS kafka_partition,
    _offset AS kafka_offset,
    `did`,
    `active`,
    `status`,
    `account_host`,
    `account_seq`,
    `account_time`,
    `account_received_us`,
    `upstream_active`,
    `upstream_status`,
    `override_status`,
    `override_reason`,
    `override_us`,
    `sync`,
    `reason`,
    `desynchronized_us`,
    `requested_us`,
    `rev`,
    `commit`,
    `data`,
    `commit_block`,
    `seen_rev`,
    `seen_commit`,
    `seen_data`,
    `waiting`,
    `applying`,
    `deletion_us`,
    `deleted_rev`,
    `purging`,
    `host`,
    `seq`,
    `time`,
    `received_us`,
    `frame_partition`,
    `frame_offset`,
    `snapshot_offset`
FROM atproto.repos_queue;

-- resyncs

CREATE TABLE atproto.resyncs_queue
(
    `did` String,
    `cause` LowCardinality(String),
    `reason` Nullable(String),
    `min_rev` Nullable(String),
    `host` Nullable(String),
    `requested_us` Int64
)
ENGINE = Kafka
SETTINGS
    kafka_broker_list = '127.0.0.1:9092',
    kafka_topic_list = 'atproto.resyncs',
    kafka_group_name = 'clickhouse.resyncs',
    kafka_format = 'JSONEachRow',
    input_format_skip_unknown_fields = 1,
    input_format_json_read_objects_as_strings = 1;

CREATE TABLE atproto.resyncs
(
    message_key String,
    kafka_topic LowCardinality(String),
    kafka_partition UInt64,
    kafka_offset UInt64,
    `did` String COMMENT 'DID of the repository or account, at most 2,048 characters.',
    `cause` LowCardinality(String) COMMENT 'Why the repository was asked for. desynchronized: something is missing. backfill: it was never followed. audit: what we hold is not what the account signed. redrive: somebody asked for it. sweep: a gap in an upstream''s stream may hide something. reactivation: the account is active again. deletion: whether the account is really gone.',
    `reason` Nullable(String) COMMENT 'What broke, as in repos; null where nothing did.',
    `min_rev` Nullable(String) COMMENT 'Revision that the repository has to have reached: an older one is a stale copy. Null if any will do.',
    `host` Nullable(String) COMMENT 'Server to ask first; null for the one in the DID document.',
    `requested_us` Int64 COMMENT 'When it became necessary, microseconds since 1970: received_us of the event, or the time of day where somebody asked. Unit: microseconds since 1970-01-01T00:00:00Z.'
)
ENGINE = ReplacingMergeTree
ORDER BY (message_key, kafka_topic, kafka_partition, kafka_offset)
COMMENT 'Asks for a repository as its server has it now. Key: DID. Every field is always present.';

CREATE MATERIALIZED VIEW atproto.resyncs_view TO atproto.resyncs AS
SELECT
    _key AS message_key,
    _topic AS kafka_topic,
    _partition AS kafka_partition,
    _offset AS kafka_offset,
    `did`,
    `cause`,
    `reason`,
    `min_rev`,
    `host`,
    `requested_us`
FROM atproto.resyncs_queue;

-- snapshots

CREATE TABLE atproto.snapshots_queue
(
    `kind` LowCardinality(String),
    `did` String,
    `rev` Nullable(String),
    `commit` Nullable(String),
    `data` Nullable(String),
    `commit_block` Nullable(String),
    `records_count` Nullable(Int64),
    `chunks_count` Nullable(Int64),
    `chunks_sha256` Nullable(String),
    `first_chunk_offset` Nullable(Int64),
    `end_chunk_offset` Nullable(Int64),
    `host` String,
    `fetched_us` Int64,
    `cause` LowCardinality(String),
    `error` LowCardinality(Nullable(String)),
    `status` LowCardinality(Nullable(String))
)
ENGINE = Kafka
SETTINGS
    kafka_broker_list = '127.0.0.1:9092',
    kafka_topic_list = 'atproto.snapshots',
    kafka_group_name = 'clickhouse.snapshots',
    kafka_format = 'JSONEachRow',
    input_format_skip_unknown_fields = 1,
    input_format_json_read_objects_as_strings = 1;

CREATE TABLE atproto.snapshots
(
    message_key String,
    kafka_topic LowCardinality(String),
    kafka_partition UInt64,
    kafka_offset UInt64,
    `kind` LowCardinality(String) COMMENT 'Always `snapshot`: the repository, proven against its signature.',
    `did` String COMMENT 'DID of the repository or account, at most 2,048 characters.',
    `rev` Nullable(String) COMMENT 'Revision of its commit.',
    `commit` Nullable(String) COMMENT 'CID of the commit block.',
    `data` Nullable(String) COMMENT 'Root of its Merkle search tree: the records in the chunks have exactly this root.',
    `commit_block` Nullable(String) COMMENT 'The signed commit block (DAG-CBOR).',
    `records_count` Nullable(Int64) COMMENT 'Records in all chunks. Unit: records.',
    `chunks_count` Nullable(Int64) COMMENT 'Chunks; 0 for an empty repository. Unit: chunks.',
    `chunks_sha256` Nullable(String) COMMENT 'SHA-256 over the chunks'' values, one after the other.',
    `first_chunk_offset` Nullable(Int64) COMMENT 'Offset in the topic chunks, same partition, from which on the chunks lie; earlier ones of the repository belong to a snapshot that was not finished. Unit: offset.',
    `end_chunk_offset` Nullable(Int64) COMMENT 'Offset up to which they lie, itself not included. Unit: offset.',
    `host` String COMMENT 'Host that was asked for the repository, with its port where that is not the default.',
    `fetched_us` Int64 COMMENT 'When the answer came, microseconds since 1970 by the clock of who asked. Unit: microseconds since 1970-01-01T00:00:00Z.',
    `cause` LowCardinality(String) COMMENT 'Why the repository was asked for. desynchronized: something is missing. backfill: it was never followed. audit: what we hold is not what the account signed. redrive: somebody asked for it. sweep: a gap in an upstream''s stream may hide something. reactivation: the account is active again. deletion: whether the account is really gone.',
    `error` LowCardinality(Nullable(String)) COMMENT 'Name of the server''s error.',
    `status` LowCardinality(Nullable(String)) COMMENT 'What that makes of the account; null where the server merely does not know the repository.'
)
ENGINE = ReplacingMergeTree
ORDER BY (message_key, kafka_topic, kafka_partition, kafka_offset)
COMMENT 'The answer to a request in resyncs: a manifest of the chunks that hold the repository, written after them, or that there is none. Key: DID. Every field of a kind is always present.';

CREATE MATERIALIZED VIEW atproto.snapshots_view TO atproto.snapshots AS
SELECT
    _key AS message_key,
    _topic AS kafka_topic,
    _partition AS kafka_partition,
    _offset AS kafka_offset,
    `kind`,
    `did`,
    `rev`,
    `commit`,
    `data`,
    `commit_block`,
    `records_count`,
    `chunks_count`,
    `chunks_sha256`,
    `first_chunk_offset`,
    `end_chunk_offset`,
    `host`,
    `fetched_us`,
    `cause`,
    `error`,
    `status`
FROM atproto.snapshots_queue;

-- status

CREATE TABLE atproto.status_queue
(
    `stage` String,
    `slot` String,
    `machine` String,
    `pid` Int64,
    `started_us` Int64,
    `updated_us` Int64,
    `state` LowCardinality(String),
    `detail` Nullable(String),
    `counters` Map(String, Int64),
    `groups` Map(String, Map(String, Int64))
)
ENGINE = Kafka
SETTINGS
    kafka_broker_list = '127.0.0.1:9092',
    kafka_topic_list = 'atproto.status',
    kafka_group_name = 'clickhouse.status',
    kafka_format = 'JSONEachRow',
    input_format_skip_unknown_fields = 1,
    input_format_json_read_objects_as_strings = 1;

CREATE TABLE atproto.status
(
    message_key String,
    kafka_topic LowCardinality(String),
    kafka_partition UInt64,
    kafka_offset UInt64,
    `stage` String COMMENT 'Name of the stage: bridge, explode, …',
    `slot` String COMMENT 'Stable name of the process among those of its stage.',
    `machine` String COMMENT 'Name of the machine it runs on.',
    `pid` Int64 COMMENT 'Its process id there. Unit: process id.',
    `started_us` Int64 COMMENT 'When it started, microseconds since 1970 by its own clock. Unit: microseconds since 1970-01-01T00:00:00Z.',
    `updated_us` Int64 COMMENT 'When this was written, microseconds since 1970 by its own clock. Unit: microseconds since 1970-01-01T00:00:00Z.',
    `state` LowCardinality(String) COMMENT 'What it is doing. starting: not connected yet. restoring: reading its state back. running. waiting: for what `detail` says. stopped: it was asked to end. failed: it ended by itself, `detail` says why.',
    `detail` Nullable(String) COMMENT 'What it waits for or why it failed, for a person; null in other states.',
    `counters` Map(String, Int64) COMMENT 'Numbers by name: counts since `started_us`, or what is now. Which ones depends on the stage; new ones may appear. Unit: as the name says.',
    `groups` Map(String, Map(String, Int64)) COMMENT 'Counts by the name of a group and of its member, such as `refused` by reason; of a bridge also numbers by upstream, such as `seq`. Unit: as the name says.'
)
ENGINE = ReplacingMergeTree(kafka_offset)
ORDER BY (message_key, kafka_topic)
COMMENT 'What one stage process says about itself. Key: `<stage>.<slot>`.';

CREATE MATERIALIZED VIEW atproto.status_view TO atproto.status AS
SELECT
    _key AS message_key,
    _topic AS kafka_topic,
    _partition AS kafka_partition,
    _offset AS kafka_offset,
    `stage`,
    `slot`,
    `machine`,
    `pid`,
    `started_us`,
    `updated_us`,
    `state`,
    `detail`,
    `counters`,
    `groups`
FROM atproto.status_queue;

-- trends

CREATE TABLE atproto.trends_queue
(
    `hour` String,
    `partition` Int64,
    `collection` String,
    `first_offset` Int64,
    `records` Int64,
    `accounts` Int64,
    `accounts_sketch` String,
    `links` Array(Tuple(`item` String, `low` Int64, `high` Int64)),
    `links_unlisted_high` Int64,
    `hashtags` Array(Tuple(`item` String, `low` Int64, `high` Int64)),
    `hashtags_unlisted_high` Int64,
    `posts` Array(Tuple(`item` String, `low` Int64, `high` Int64)),
    `posts_unlisted_high` Int64
)
ENGINE = Kafka
SETTINGS
    kafka_broker_list = '127.0.0.1:9092',
    kafka_topic_list = 'atproto.trends',
    kafka_group_name = 'clickhouse.trends',
    kafka_format = 'JSONEachRow',
    input_format_skip_unknown_fields = 1,
    input_format_json_read_objects_as_strings = 1;

CREATE TABLE atproto.trends
(
    message_key String,
    kafka_topic LowCardinality(String),
    kafka_partition UInt64,
    kafka_offset UInt64,
    `hour` String COMMENT 'Start of the hour in which the bridge received the frames, by the bridge''s clock, UTC.',
    `partition` Int64 COMMENT 'Partition of the record topics; also of this message. Unit: partition number.',
    `collection` String COMMENT 'Of the first record counted: NSID of the collection where it has a record topic of its own, else `other`. With first_offset it names this message among those of the hour and partition.',
    `first_offset` Int64 COMMENT 'Offset of that record in its topic. Unit: offset.',
    `records` Int64 COMMENT 'Records counted, of any collection, created, updated or deleted. Unit: records.',
    `accounts` Int64 COMMENT 'Distinct accounts whose records these are, estimated from the sketch (standard error 1.6 %). An account is in one partition; messages of the same partition may share accounts. Unit: accounts.',
    `accounts_sketch` String COMMENT 'HyperLogLog sketch of the accounts'' DIDs (UTF-8), 2^12 registers: the compact serialisation of Apache DataSketches, base64 (RFC 4648, section 4). Union of the sketches counts accounts over messages.',
    `links` Array(Tuple(`item` String, `low` Int64, `high` Int64)) COMMENT 'Web addresses in the text or the card of created posts, as they stand there.',
    `links_unlisted_high` Int64 COMMENT 'An address that is not listed was mentioned so often at most. Unit: records.',
    `hashtags` Array(Tuple(`item` String, `low` Int64, `high` Int64)) COMMENT 'Hashtags of created posts, in lower case, without `#`.',
    `hashtags_unlisted_high` Int64 COMMENT 'A hashtag that is not listed was mentioned so often at most. Unit: records.',
    `posts` Array(Tuple(`item` String, `low` Int64, `high` Int64)) COMMENT 'At-uris of the posts that created likes and reposts are about.',
    `posts_unlisted_high` Int64 COMMENT 'A post that is not listed was mentioned so often at most. Unit: records.'
)
ENGINE = ReplacingMergeTree(kafka_offset)
ORDER BY (message_key, kafka_topic)
COMMENT 'What one hour was about, as far as one life of a process counted the records of one partition number. Key: `<hour>/<partition>/<collection>/<first_offset>`.';

CREATE MATERIALIZED VIEW atproto.trends_view TO atproto.trends AS
SELECT
    _key AS message_key,
    _topic AS kafka_topic,
    _partition AS kafka_partition,
    _offset AS kafka_offset,
    `hour`,
    `partition`,
    `collection`,
    `first_offset`,
    `records`,
    `accounts`,
    `accounts_sketch`,
    `links`,
    `links_unlisted_high`,
    `hashtags`,
    `hashtags_unlisted_high`,
    `posts`,
    `posts_unlisted_high`
FROM atproto.trends_queue;
