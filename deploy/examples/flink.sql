-- Made by `make generated` from schemas/: do not edit.
--
-- Tables of Flink SQL over the topics; flink-sql-connector-kafka has to be on its class path. The
-- broker is 127.0.0.1:9092 and the prefix of the topics `atproto`.
--
-- Objects of unknown form are JSON in a STRING: JSON_VALUE(record, '$.text').
-- kafka_time is when the frame was received. What Flink writes is only as exact as its sink.

-- admissions

CREATE TABLE admissions (
    message_key STRING NOT NULL,
    `number` BIGINT COMMENT 'From 1, without holes. Unit: position in the sequence of tables.',
    `collections` ARRAY<STRING> COMMENT 'NSIDs, sorted by their bytes. Those of all others go to records.other and latest.other.',
    `sha256` STRING COMMENT 'Hexadecimal SHA-256 of the collections, each with a line feed after it.',
    `next_offsets` ARRAY<BIGINT> COMMENT 'For each partition of frames, in order of its number: the offset of the first frame that the table is for. null while it is announced and not in force. Unit: offset.',
    `written_us` BIGINT COMMENT 'When this was written, microseconds since 1970 by the clock of who wrote it. Unit: microseconds since 1970-01-01T00:00:00Z.',
    kafka_topic STRING METADATA FROM 'topic' VIRTUAL,
    kafka_partition INT METADATA FROM 'partition' VIRTUAL,
    kafka_offset BIGINT METADATA FROM 'offset' VIRTUAL,
    kafka_time TIMESTAMP_LTZ(3) METADATA FROM 'timestamp' VIRTUAL,
    PRIMARY KEY (message_key) NOT ENFORCED
)
COMMENT 'Which collections have topics of their own, from which frames on. Key: number, in decimal.'
WITH (
    'connector' = 'upsert-kafka',
    'topic' = 'atproto.admissions',
    'properties.bootstrap.servers' = '127.0.0.1:9092',
    'properties.group.id' = 'flink.admissions',
    'properties.isolation.level' = 'read_committed',
    'key.format' = 'raw',
    'key.fields-prefix' = 'message_',
    'value.format' = 'json',
    'value.fields-include' = 'EXCEPT_KEY'
);

-- chunks

CREATE TABLE chunks (
    message_key STRING NOT NULL,
    `did` STRING COMMENT 'DID of the repository or account, at most 2,048 characters.',
    `rev` STRING COMMENT 'Revision of the snapshot''s commit.',
    `index` BIGINT COMMENT 'Which chunk of the snapshot it is, from 0. Unit: position in the snapshot.',
    `records` ARRAY<ROW<`collection` STRING, `rkey` STRING, `cid` STRING, `record` STRING, `record_error` STRING, `record_cbor` STRING>> COMMENT 'The records, with rising paths; the paths of the next chunk go on from there.',
    kafka_topic STRING METADATA FROM 'topic' VIRTUAL,
    kafka_partition INT METADATA FROM 'partition' VIRTUAL,
    kafka_offset BIGINT METADATA FROM 'offset' VIRTUAL,
    kafka_time TIMESTAMP_LTZ(3) METADATA FROM 'timestamp' VIRTUAL,
    WATERMARK FOR kafka_time AS kafka_time - INTERVAL '1' MINUTE
)
COMMENT 'Some records of a repository as its server had it, in the order of the paths'' bytes. Key: DID. It counts only once a manifest in snapshots names it. Every field is always present.'
WITH (
    'connector' = 'kafka',
    'topic' = 'atproto.chunks',
    'properties.bootstrap.servers' = '127.0.0.1:9092',
    'properties.group.id' = 'flink.chunks',
    'properties.isolation.level' = 'read_committed',
    'scan.startup.mode' = 'earliest-offset',
    'key.fields' = 'message_key',
    'key.format' = 'raw',
    'key.fields-prefix' = 'message_',
    'value.format' = 'json',
    'value.fields-include' = 'EXCEPT_KEY'
);

-- crawls

CREATE TABLE crawls (
    message_key STRING NOT NULL,
    `job` STRING COMMENT 'What it is read for. backfill: to ask for whatever is missing. sweep: to find what changed in a gap of an upstream.',
    `subject` STRING COMMENT 'The list: `repos <base URL>` (listRepos), `<collection> <base URL>` (listReposByCollection), `dids sha256:<hash of a file>`; of a sweep also `gaps <host>`: the messages of an upstream in the topic gaps.',
    `state` STRING COMMENT 'running: there is more to read. done: it was read to its end. cut: it cannot be read on, see problem.',
    `cursor` STRING COMMENT 'What the next page is asked for with, as the host gave it; null for the first page. Of a file the position in it; of `gaps <host>` the offset in gaps from which on gaps are still to be dealt with.',
    `pages_count` BIGINT COMMENT 'Pages read so far, but for the last one. Unit: pages.',
    `empty_count` BIGINT COMMENT 'Pages in a row, up to here, without a repository that the list had not named before. Unit: pages.',
    `mark` STRING COMMENT 'The cursor of an earlier page, to notice a list that leads in a circle; null where there is none.',
    `counts` ROW<`requested` BIGINT, `synchronized` BIGINT, `inactive` BIGINT, `on_its_way` BIGINT, `repeated` BIGINT, `again` BIGINT, `older` BIGINT> COMMENT 'What became of the repositories so far.',
    `invalid_count` BIGINT COMMENT 'Entries so far that are no repository. Unit: entries of a list.',
    `problem` STRING COMMENT 'Why the list was cut, for a person; else null.',
    `answer` ROW<`host` STRING, `next_offset` BIGINT, `since_us` BIGINT, `listed_us` BIGINT, `listings_offset` BIGINT, `missed_did` STRING> COMMENT 'What a list that a sweep is reading is the answer to, and what reading it on needs; null of all others.',
    `updated_us` BIGINT COMMENT 'When this was written, microseconds since 1970. Unit: microseconds since 1970-01-01T00:00:00Z.',
    kafka_topic STRING METADATA FROM 'topic' VIRTUAL,
    kafka_partition INT METADATA FROM 'partition' VIRTUAL,
    kafka_offset BIGINT METADATA FROM 'offset' VIRTUAL,
    kafka_time TIMESTAMP_LTZ(3) METADATA FROM 'timestamp' VIRTUAL,
    PRIMARY KEY (message_key) NOT ENFORCED
)
COMMENT 'How far a list of repositories has been read. Key: job, a space, subject.'
WITH (
    'connector' = 'upsert-kafka',
    'topic' = 'atproto.crawls',
    'properties.bootstrap.servers' = '127.0.0.1:9092',
    'properties.group.id' = 'flink.crawls',
    'properties.isolation.level' = 'read_committed',
    'key.format' = 'raw',
    'key.fields-prefix' = 'message_',
    'value.format' = 'json',
    'value.fields-include' = 'EXCEPT_KEY'
);

-- cursors

CREATE TABLE cursors (
    message_key STRING NOT NULL,
    `host` STRING COMMENT 'Host of the upstream the frame came from, with its port where that is not the default.',
    `seq` BIGINT COMMENT 'Highest sequence number with everything up to it in frames; 0 before the first one. Unit: sequence number.',
    `generation` BIGINT COMMENT 'How often the bridge has been started for this host, from 1. A newer generation may repeat or skip sequence numbers. Unit: starts of the bridge.',
    `time` STRING COMMENT 'The upstream''s `time` of the event with that number, as it stood there; null where it had none.',
    `updated_us` BIGINT COMMENT 'When this was written, microseconds since 1970 by the bridge''s clock. Unit: microseconds since 1970-01-01T00:00:00Z.',
    kafka_topic STRING METADATA FROM 'topic' VIRTUAL,
    kafka_partition INT METADATA FROM 'partition' VIRTUAL,
    kafka_offset BIGINT METADATA FROM 'offset' VIRTUAL,
    kafka_time TIMESTAMP_LTZ(3) METADATA FROM 'timestamp' VIRTUAL,
    PRIMARY KEY (message_key) NOT ENFORCED
)
COMMENT 'How far one upstream has been copied into frames. Key: host.'
WITH (
    'connector' = 'upsert-kafka',
    'topic' = 'atproto.cursors',
    'properties.bootstrap.servers' = '127.0.0.1:9092',
    'properties.group.id' = 'flink.cursors',
    'properties.isolation.level' = 'read_committed',
    'key.format' = 'raw',
    'key.fields-prefix' = 'message_',
    'value.format' = 'json',
    'value.fields-include' = 'EXCEPT_KEY'
);

-- epochs

CREATE TABLE epochs (
    message_key STRING NOT NULL,
    `host` STRING COMMENT 'Host of the upstream the frame came from, with its port where that is not the default.',
    `generation` BIGINT COMMENT 'How often the bridge has been started for this host, from 1. A newer generation may repeat or skip sequence numbers. Unit: starts of the bridge.',
    `seq_lo` BIGINT COMMENT 'Lowest sequence number of the transaction. Unit: sequence number.',
    `seq_hi` BIGINT COMMENT 'Highest sequence number of the transaction. Unit: sequence number.',
    `time` STRING COMMENT 'The upstream''s `time` of the event seq_hi, as it stood there; null where it had none.',
    `received_us` BIGINT COMMENT 'When the bridge received the frame seq_hi, microseconds since 1970 by the bridge''s clock. Unit: microseconds since 1970-01-01T00:00:00Z.',
    `next_offsets` ARRAY<BIGINT> COMMENT 'For each partition of frames, in order of its number: the offset after the last frame of this host up to seq_hi, or a later one. Unit: offset.',
    kafka_topic STRING METADATA FROM 'topic' VIRTUAL,
    kafka_partition INT METADATA FROM 'partition' VIRTUAL,
    kafka_offset BIGINT METADATA FROM 'offset' VIRTUAL,
    kafka_time TIMESTAMP_LTZ(3) METADATA FROM 'timestamp' VIRTUAL,
    WATERMARK FOR kafka_time AS kafka_time - INTERVAL '1' MINUTE
)
COMMENT 'What one transaction of the bridge added to frames. Key: host. Every frame of this host with a sequence number up to seq_hi is below next_offsets.'
WITH (
    'connector' = 'kafka',
    'topic' = 'atproto.epochs',
    'properties.bootstrap.servers' = '127.0.0.1:9092',
    'properties.group.id' = 'flink.epochs',
    'properties.isolation.level' = 'read_committed',
    'scan.startup.mode' = 'earliest-offset',
    'key.fields' = 'message_key',
    'key.format' = 'raw',
    'key.fields-prefix' = 'message_',
    'value.format' = 'json',
    'value.fields-include' = 'EXCEPT_KEY'
);

-- events

CREATE TABLE events (
    message_key STRING NOT NULL,
    `kind` STRING COMMENT 'Always `commit`.',
    `did` STRING COMMENT 'DID of the repository or account, at most 2,048 characters.',
    `seq` BIGINT COMMENT 'The upstream''s sequence number of the frame. Increases per host, with gaps. Unit: sequence number.',
    `host` STRING COMMENT 'Host of the upstream the frame came from, with its port where that is not the default.',
    `time` STRING COMMENT 'When the upstream says the event happened, RFC 3339. A claim, from a clock that nobody checked.',
    `received_us` BIGINT COMMENT 'When the bridge received the frame, microseconds since 1970 by the bridge''s clock. Unit: microseconds since 1970-01-01T00:00:00Z.',
    `frame_partition` BIGINT COMMENT 'Partition of the topic frames that holds the frame this was proven from. Unit: partition number.',
    `frame_offset` BIGINT COMMENT 'Offset of that frame in its partition. Unit: offset.',
    `rev` STRING COMMENT 'Revision of the signed commit.',
    `since` STRING COMMENT 'Claimed revision of the commit before; null for a first commit. Not signed: true only once the chain is.',
    `commit` STRING COMMENT 'CID of the signed commit block.',
    `data` STRING COMMENT 'CID of the root of the repository''s Merkle search tree, from the signed commit.',
    `prev_data` STRING COMMENT 'Root of the tree before, to which undoing the operations leads; null for a first commit, where it leads to the empty tree.',
    `commit_block` STRING COMMENT 'The signed commit block (DAG-CBOR), whose SHA-256 is in `commit`.',
    `ops` ARRAY<ROW<`operation` STRING, `collection` STRING, `rkey` STRING, `cid` STRING, `prev` STRING, `record` STRING, `record_error` STRING, `record_cbor` STRING, `record_from` BIGINT>> COMMENT 'The operations, in the frame''s order; no path occurs twice.',
    `handle` STRING COMMENT 'The handle that the upstream names, unverified, or null where it names none.',
    `active` BOOLEAN COMMENT 'Whether the repository may be shown.',
    `status` STRING COMMENT 'Why not (deleted, deactivated, takendown, suspended, …: an open set), or null. May be set although active.',
    `refused_kind` STRING COMMENT 'What the frame was.',
    `reason` STRING COMMENT 'Why it was refused, the stable name that q.reason has in quarantine.',
    `detail` STRING COMMENT 'One sentence for a person; its wording may change.',
    kafka_topic STRING METADATA FROM 'topic' VIRTUAL,
    kafka_partition INT METADATA FROM 'partition' VIRTUAL,
    kafka_offset BIGINT METADATA FROM 'offset' VIRTUAL,
    kafka_time TIMESTAMP_LTZ(3) METADATA FROM 'timestamp' VIRTUAL,
    WATERMARK FOR kafka_time AS kafka_time - INTERVAL '1' MINUTE
)
COMMENT 'One proven frame. Key: DID. Which further fields there are depends on kind; all of a kind''s fields are always present.'
WITH (
    'connector' = 'kafka',
    'topic' = 'atproto.events',
    'properties.bootstrap.servers' = '127.0.0.1:9092',
    'properties.group.id' = 'flink.events',
    'properties.isolation.level' = 'read_committed',
    'scan.startup.mode' = 'earliest-offset',
    'key.fields' = 'message_key',
    'key.format' = 'raw',
    'key.fields-prefix' = 'message_',
    'value.format' = 'json',
    'value.fields-include' = 'EXCEPT_KEY'
);

-- gaps

CREATE TABLE gaps (
    message_key STRING NOT NULL,
    `host` STRING COMMENT 'Host of the upstream the frame came from, with its port where that is not the default.',
    `generation` BIGINT COMMENT 'How often the bridge has been started for this host, from 1. A newer generation may repeat or skip sequence numbers. Unit: starts of the bridge.',
    `reason` STRING COMMENT 'How we know. outdated_cursor: the upstream said that it no longer has what followed. jump: it did not say so, but numbers and times jump, or the numbers by a million. cursor_given_up: a person had the bridge start anew, as where an upstream was reset; then the numbers before and after have nothing to do with each other.',
    `from_seq` BIGINT COMMENT 'The last event before the gap that was taken in. Unit: sequence number.',
    `from_time` STRING COMMENT 'The upstream''s `time` of that event; null where it had none, or where nobody knows.',
    `to_seq` BIGINT COMMENT 'The first event after the gap. Unit: sequence number.',
    `to_time` STRING COMMENT 'The upstream''s `time` of that event; null where it had none.',
    `received_us` BIGINT COMMENT 'When the bridge received the first event after the gap, microseconds since 1970 by the bridge''s clock. Unit: microseconds since 1970-01-01T00:00:00Z.',
    `next_offsets` ARRAY<BIGINT> COMMENT 'For each partition of frames, in order of its number: no frame of this host after the gap is before this offset. Unit: offset.',
    kafka_topic STRING METADATA FROM 'topic' VIRTUAL,
    kafka_partition INT METADATA FROM 'partition' VIRTUAL,
    kafka_offset BIGINT METADATA FROM 'offset' VIRTUAL,
    kafka_time TIMESTAMP_LTZ(3) METADATA FROM 'timestamp' VIRTUAL,
    WATERMARK FOR kafka_time AS kafka_time - INTERVAL '1' MINUTE
)
COMMENT 'Events of one upstream may be missing between two of its events. Key: host.'
WITH (
    'connector' = 'kafka',
    'topic' = 'atproto.gaps',
    'properties.bootstrap.servers' = '127.0.0.1:9092',
    'properties.group.id' = 'flink.gaps',
    'properties.isolation.level' = 'read_committed',
    'scan.startup.mode' = 'earliest-offset',
    'key.fields' = 'message_key',
    'key.format' = 'raw',
    'key.fields-prefix' = 'message_',
    'value.format' = 'json',
    'value.fields-include' = 'EXCEPT_KEY'
);

-- identities

CREATE TABLE identities (
    message_key STRING NOT NULL,
    `did` STRING COMMENT 'DID of the repository or account, at most 2,048 characters.',
    `signing_key` STRING COMMENT 'The public key that the account''s commits are signed with, as did:key; null where it has no usable one.',
    `pds` STRING COMMENT 'Origin of the account''s server, or null where it names none.',
    `handle` STRING COMMENT 'The handle that the account claims, in lower case and not proven, or null where it claims none.',
    `reason` STRING COMMENT 'Why there is no signing key, the stable name that q.reason has in quarantine; null if there is one.',
    `origin` STRING COMMENT 'What this was made from. document: the DID document. operation: an operation in the directory''s export.',
    `source` STRING COMMENT 'Who said it: base URL of the directory or host.',
    `as_of_us` BIGINT COMMENT 'The moment whose state this is, microseconds since 1970: when the directory received the operation, or by our own clock when the document was asked for. Unit: microseconds since 1970-01-01T00:00:00Z.',
    `seq` BIGINT COMMENT 'Sequence number of the operation in the directory''s export, or null. Unit: sequence number.',
    `fetched_us` BIGINT COMMENT 'When it was learned, microseconds since 1970 by the clock of the machine that learned it. Unit: microseconds since 1970-01-01T00:00:00Z.',
    `stale` BOOLEAN COMMENT 'Whether the account announced a change since: who needs the key asks again.',
    kafka_topic STRING METADATA FROM 'topic' VIRTUAL,
    kafka_partition INT METADATA FROM 'partition' VIRTUAL,
    kafka_offset BIGINT METADATA FROM 'offset' VIRTUAL,
    kafka_time TIMESTAMP_LTZ(3) METADATA FROM 'timestamp' VIRTUAL,
    PRIMARY KEY (message_key) NOT ENFORCED
)
COMMENT 'What is known of an account''s identity. Key: DID. Of several messages the one with the highest as_of_us counts, of equal ones the later.'
WITH (
    'connector' = 'upsert-kafka',
    'topic' = 'atproto.identities',
    'properties.bootstrap.servers' = '127.0.0.1:9092',
    'properties.group.id' = 'flink.identities',
    'properties.isolation.level' = 'read_committed',
    'key.format' = 'raw',
    'key.fields-prefix' = 'message_',
    'value.format' = 'json',
    'value.fields-include' = 'EXCEPT_KEY'
);

-- latest

CREATE TABLE latest_app_bsky_actor_profile (
    message_key STRING NOT NULL,
    `uri` STRING COMMENT 'The record''s address, at://<did>/<collection>/<rkey>; also the message key.',
    `did` STRING COMMENT 'DID of the repository or account, at most 2,048 characters.',
    `collection` STRING COMMENT 'NSID of a collection, at most 317 characters, case-sensitive.',
    `rkey` STRING COMMENT 'Record key within the collection, 1 to 512 characters, case-sensitive.',
    `cid` STRING COMMENT 'CID of the record block.',
    `rev` STRING COMMENT 'Revision of the commit that wrote the record; of a record from a snapshot, the snapshot''s.',
    `host` STRING COMMENT 'Host of the upstream the frame came from, or host that was asked for the repository, with its port where that is not the default.',
    `seq` BIGINT COMMENT 'The upstream''s sequence number of the frame; null for a record from a snapshot. Unit: sequence number.',
    `time` STRING COMMENT 'When the upstream says the event happened; null for a record from a snapshot.',
    `received_us` BIGINT COMMENT 'When the bridge received the frame, or the repository was fetched, microseconds since 1970 by our clock. Unit: microseconds since 1970-01-01T00:00:00Z.',
    `frame_partition` BIGINT COMMENT 'Partition of the topic frames that holds the frame this was proven from; null for a record from a snapshot. Unit: partition number.',
    `frame_offset` BIGINT COMMENT 'Offset of that frame in its partition; null for a record from a snapshot. Unit: offset.',
    `snapshot_offset` BIGINT COMMENT 'Offset in the topic snapshots, same partition, of the snapshot that the record comes from; null for one from a frame. Unit: offset.',
    `record` STRING COMMENT 'The record; null where record_error says why.',
    `record_error` STRING COMMENT 'Why there is no JSON, or null.',
    `record_cbor` STRING COMMENT 'The record block, where record_error says why there is no JSON; else null. Also null for a large record that one commit named so often that its messages would not fit into a transaction (json.too_large).',
    kafka_topic STRING METADATA FROM 'topic' VIRTUAL,
    kafka_partition INT METADATA FROM 'partition' VIRTUAL,
    kafka_offset BIGINT METADATA FROM 'offset' VIRTUAL,
    kafka_time TIMESTAMP_LTZ(3) METADATA FROM 'timestamp' VIRTUAL,
    PRIMARY KEY (message_key) NOT ENFORCED
)
COMMENT 'The latest record at one at-uri. Key: at-uri. A null value says that the record is gone. Every field is always present.'
WITH (
    'connector' = 'upsert-kafka',
    'topic' = 'atproto.latest.app.bsky.actor.profile',
    'properties.bootstrap.servers' = '127.0.0.1:9092',
    'properties.group.id' = 'flink.latest_app_bsky_actor_profile',
    'properties.isolation.level' = 'read_committed',
    'key.format' = 'raw',
    'key.fields-prefix' = 'message_',
    'value.format' = 'json',
    'value.fields-include' = 'EXCEPT_KEY'
);

CREATE TABLE latest_app_bsky_feed_generator WITH ('topic' = 'atproto.latest.app.bsky.feed.generator') LIKE latest_app_bsky_actor_profile;

CREATE TABLE latest_app_bsky_feed_like WITH ('topic' = 'atproto.latest.app.bsky.feed.like') LIKE latest_app_bsky_actor_profile;

CREATE TABLE latest_app_bsky_feed_post WITH ('topic' = 'atproto.latest.app.bsky.feed.post') LIKE latest_app_bsky_actor_profile;

CREATE TABLE latest_app_bsky_feed_postgate WITH ('topic' = 'atproto.latest.app.bsky.feed.postgate') LIKE latest_app_bsky_actor_profile;

CREATE TABLE latest_app_bsky_feed_repost WITH ('topic' = 'atproto.latest.app.bsky.feed.repost') LIKE latest_app_bsky_actor_profile;

CREATE TABLE latest_app_bsky_feed_threadgate WITH ('topic' = 'atproto.latest.app.bsky.feed.threadgate') LIKE latest_app_bsky_actor_profile;

CREATE TABLE latest_app_bsky_graph_block WITH ('topic' = 'atproto.latest.app.bsky.graph.block') LIKE latest_app_bsky_actor_profile;

CREATE TABLE latest_app_bsky_graph_follow WITH ('topic' = 'atproto.latest.app.bsky.graph.follow') LIKE latest_app_bsky_actor_profile;

CREATE TABLE latest_app_bsky_graph_list WITH ('topic' = 'atproto.latest.app.bsky.graph.list') LIKE latest_app_bsky_actor_profile;

CREATE TABLE latest_app_bsky_graph_listblock WITH ('topic' = 'atproto.latest.app.bsky.graph.listblock') LIKE latest_app_bsky_actor_profile;

CREATE TABLE latest_app_bsky_graph_listitem WITH ('topic' = 'atproto.latest.app.bsky.graph.listitem') LIKE latest_app_bsky_actor_profile;

CREATE TABLE latest_app_bsky_graph_starterpack WITH ('topic' = 'atproto.latest.app.bsky.graph.starterpack') LIKE latest_app_bsky_actor_profile;

CREATE TABLE latest_app_bsky_labeler_service WITH ('topic' = 'atproto.latest.app.bsky.labeler.service') LIKE latest_app_bsky_actor_profile;

CREATE TABLE latest_chat_bsky_actor_declaration WITH ('topic' = 'atproto.latest.chat.bsky.actor.declaration') LIKE latest_app_bsky_actor_profile;

CREATE TABLE latest_other WITH ('topic' = 'atproto.latest.other') LIKE latest_app_bsky_actor_profile;

-- listings

CREATE TABLE listings (
    message_key STRING NOT NULL,
    `host` STRING COMMENT 'Host of the upstream the frame came from, with its port where that is not the default.',
    `listed_us` BIGINT COMMENT 'When reading the list began, microseconds since 1970: all messages of one sweep of an upstream have the same. Unit: microseconds since 1970-01-01T00:00:00Z.',
    `fingerprints` STRING COMMENT 'Base64 of fingerprints in the list''s order, one after another: of each DID the first 9 bytes of its SHA-256.',
    kafka_topic STRING METADATA FROM 'topic' VIRTUAL,
    kafka_partition INT METADATA FROM 'partition' VIRTUAL,
    kafka_offset BIGINT METADATA FROM 'offset' VIRTUAL,
    kafka_time TIMESTAMP_LTZ(3) METADATA FROM 'timestamp' VIRTUAL,
    WATERMARK FOR kafka_time AS kafka_time - INTERVAL '1' MINUTE
)
COMMENT 'Repositories that an upstream listed, of some pages. Key: host.'
WITH (
    'connector' = 'kafka',
    'topic' = 'atproto.listings',
    'properties.bootstrap.servers' = '127.0.0.1:9092',
    'properties.group.id' = 'flink.listings',
    'properties.isolation.level' = 'read_committed',
    'scan.startup.mode' = 'earliest-offset',
    'key.fields' = 'message_key',
    'key.format' = 'raw',
    'key.fields-prefix' = 'message_',
    'value.format' = 'json',
    'value.fields-include' = 'EXCEPT_KEY'
);

-- minutes

CREATE TABLE minutes (
    message_key STRING NOT NULL,
    `minute` STRING COMMENT 'Start of the minute in which the bridge received the frames, by the bridge''s clock, UTC.',
    `collection` STRING COMMENT 'NSID of the collection where it has a record topic of its own, else `other`. The topic counted is records.<collection>.',
    `language` STRING COMMENT 'Two-letter code (ISO 639-1) of the language that the record says it is in; `mul` for several; `other` for what is no such code; `und` where the record says nothing, as those of most collections and every delete.',
    `partition` BIGINT COMMENT 'Partition of the record topic; also of this message. Unit: partition number.',
    `first_offset` BIGINT COMMENT 'Offset of the first record that is counted here. Unit: offset.',
    `next_offset` BIGINT COMMENT 'Offset after the last record that is counted here. Unit: offset.',
    `creates` BIGINT COMMENT 'Records created. Unit: records.',
    `updates` BIGINT COMMENT 'Records updated. Unit: records.',
    `deletes` BIGINT COMMENT 'Records deleted. Unit: records.',
    kafka_topic STRING METADATA FROM 'topic' VIRTUAL,
    kafka_partition INT METADATA FROM 'partition' VIRTUAL,
    kafka_offset BIGINT METADATA FROM 'offset' VIRTUAL,
    kafka_time TIMESTAMP_LTZ(3) METADATA FROM 'timestamp' VIRTUAL,
    PRIMARY KEY (message_key) NOT ENFORCED
)
COMMENT 'How many records of one collection and language one minute brought, in an interval of offsets of one partition. Key: `<minute>/<collection>/<language>/<partition>/<first_offset>`.'
WITH (
    'connector' = 'upsert-kafka',
    'topic' = 'atproto.minutes',
    'properties.bootstrap.servers' = '127.0.0.1:9092',
    'properties.group.id' = 'flink.minutes',
    'properties.isolation.level' = 'read_committed',
    'key.format' = 'raw',
    'key.fields-prefix' = 'message_',
    'value.format' = 'json',
    'value.fields-include' = 'EXCEPT_KEY'
);

-- overrides

CREATE TABLE overrides (
    message_key STRING NOT NULL,
    `did` STRING COMMENT 'DID of the repository or account, at most 2,048 characters.',
    `status` STRING COMMENT 'What counts of the account. active: it may be shown, whatever upstream says. deleted: its records go at once. Else they are hidden, or go where compact purges.',
    `reason` STRING COMMENT 'Why, for people.',
    `decided_us` BIGINT COMMENT 'When the operator said so, microseconds since 1970 by the clock of the command''s machine. Unit: microseconds since 1970-01-01T00:00:00Z.',
    kafka_topic STRING METADATA FROM 'topic' VIRTUAL,
    kafka_partition INT METADATA FROM 'partition' VIRTUAL,
    kafka_offset BIGINT METADATA FROM 'offset' VIRTUAL,
    kafka_time TIMESTAMP_LTZ(3) METADATA FROM 'timestamp' VIRTUAL,
    PRIMARY KEY (message_key) NOT ENFORCED
)
COMMENT 'What the operator says of an account, which counts instead of upstream''s word. Key: DID. A null lifts it. Every field is always present.'
WITH (
    'connector' = 'upsert-kafka',
    'topic' = 'atproto.overrides',
    'properties.bootstrap.servers' = '127.0.0.1:9092',
    'properties.group.id' = 'flink.overrides',
    'properties.isolation.level' = 'read_committed',
    'key.format' = 'raw',
    'key.fields-prefix' = 'message_',
    'value.format' = 'json',
    'value.fields-include' = 'EXCEPT_KEY'
);

-- parked

CREATE TABLE parked (
    message_key STRING NOT NULL,
    `did` STRING COMMENT 'DID of the repository or account, at most 2,048 characters.',
    `seq` BIGINT COMMENT 'The upstream''s sequence number of the frame. Increases per host, with gaps. Unit: sequence number.',
    `host` STRING COMMENT 'Host of the upstream the frame came from, with its port where that is not the default.',
    `kind` STRING COMMENT 'What the frame''s own header says it is.',
    `received_us` BIGINT COMMENT 'When the bridge received the frame, microseconds since 1970 by the bridge''s clock. Unit: microseconds since 1970-01-01T00:00:00Z.',
    `frame_partition` BIGINT COMMENT 'Partition of the topic frames that holds the frame. Unit: partition number.',
    `frame_offset` BIGINT COMMENT 'Offset of the frame in its partition. Unit: offset.',
    `parked_us` BIGINT COMMENT 'Since when it waits, microseconds since 1970 by the worker''s clock. Unit: microseconds since 1970-01-01T00:00:00Z.',
    `detail` STRING COMMENT 'Why it could not be judged, for a person; null if it waits because an earlier frame of the account does.',
    kafka_topic STRING METADATA FROM 'topic' VIRTUAL,
    kafka_partition INT METADATA FROM 'partition' VIRTUAL,
    kafka_offset BIGINT METADATA FROM 'offset' VIRTUAL,
    kafka_time TIMESTAMP_LTZ(3) METADATA FROM 'timestamp' VIRTUAL,
    PRIMARY KEY (message_key) NOT ENFORCED
)
COMMENT 'A frame that waits for its account''s identity. Key: `<did>/<offset of the frame>`. A null means that it waits no longer.'
WITH (
    'connector' = 'upsert-kafka',
    'topic' = 'atproto.parked',
    'properties.bootstrap.servers' = '127.0.0.1:9092',
    'properties.group.id' = 'flink.parked',
    'properties.isolation.level' = 'read_committed',
    'key.format' = 'raw',
    'key.fields-prefix' = 'message_',
    'value.format' = 'json',
    'value.fields-include' = 'EXCEPT_KEY'
);

-- records

CREATE TABLE records (
    message_key STRING NOT NULL,
    `uri` STRING COMMENT 'The record''s address, at://<did>/<collection>/<rkey>; also the message key.',
    `did` STRING COMMENT 'DID of the repository or account, at most 2,048 characters.',
    `collection` STRING COMMENT 'NSID of a collection, at most 317 characters, case-sensitive.',
    `rkey` STRING COMMENT 'Record key within the collection, 1 to 512 characters, case-sensitive.',
    `operation` STRING COMMENT 'What the commit did to the record.',
    `cid` STRING COMMENT 'CID of the record block afterwards; null for a delete.',
    `prev` STRING COMMENT 'CID of the record block before; null for a create. Equal to `cid` for an update that changed nothing.',
    `rev` STRING COMMENT 'Revision of the commit.',
    `seq` BIGINT COMMENT 'The upstream''s sequence number of the frame. Increases per host, with gaps. Unit: sequence number.',
    `host` STRING COMMENT 'Host of the upstream the frame came from, with its port where that is not the default.',
    `time` STRING COMMENT 'When the upstream says the event happened, RFC 3339. A claim, from a clock that nobody checked.',
    `received_us` BIGINT COMMENT 'When the bridge received the frame, microseconds since 1970 by the bridge''s clock. Unit: microseconds since 1970-01-01T00:00:00Z.',
    `frame_partition` BIGINT COMMENT 'Partition of the topic frames that holds the frame this was proven from. Unit: partition number.',
    `frame_offset` BIGINT COMMENT 'Offset of that frame in its partition. Unit: offset.',
    `record` STRING COMMENT 'The record afterwards; null for a delete, and where record_error says why.',
    `record_error` STRING COMMENT 'Why there is no JSON although there is a record, or null.',
    `record_cbor` STRING COMMENT 'The record block: where record_error says why there is no JSON (null if it would not fit either), or always, if explode was told so with --record-cbor; else null.',
    kafka_topic STRING METADATA FROM 'topic' VIRTUAL,
    kafka_partition INT METADATA FROM 'partition' VIRTUAL,
    kafka_offset BIGINT METADATA FROM 'offset' VIRTUAL,
    kafka_time TIMESTAMP_LTZ(3) METADATA FROM 'timestamp' VIRTUAL,
    WATERMARK FOR kafka_time AS kafka_time - INTERVAL '1' MINUTE
)
COMMENT 'One operation of a proven commit. Key: at-uri. Every field is always present.'
WITH (
    'connector' = 'kafka',
    'topic' = 'atproto.records.app.bsky.actor.profile;atproto.records.app.bsky.feed.generator;atproto.records.app.bsky.feed.like;atproto.records.app.bsky.feed.post;atproto.records.app.bsky.feed.postgate;atproto.records.app.bsky.feed.repost;atproto.records.app.bsky.feed.threadgate;atproto.records.app.bsky.graph.block;atproto.records.app.bsky.graph.follow;atproto.records.app.bsky.graph.list;atproto.records.app.bsky.graph.listblock;atproto.records.app.bsky.graph.listitem;atproto.records.app.bsky.graph.starterpack;atproto.records.app.bsky.labeler.service;atproto.records.chat.bsky.actor.declaration;atproto.records.other',
    'properties.bootstrap.servers' = '127.0.0.1:9092',
    'properties.group.id' = 'flink.records',
    'properties.isolation.level' = 'read_committed',
    'scan.startup.mode' = 'earliest-offset',
    'key.fields' = 'message_key',
    'key.format' = 'raw',
    'key.fields-prefix' = 'message_',
    'value.format' = 'json',
    'value.fields-include' = 'EXCEPT_KEY'
);

-- repairs

CREATE TABLE repairs (
    message_key STRING NOT NULL,
    `did` STRING COMMENT 'DID of the repository or account, at most 2,048 characters.',
    `cause` STRING COMMENT 'Why the repository was asked for. desynchronized: something is missing. backfill: it was never followed. audit: what we hold is not what the account signed. redrive: somebody asked for it. sweep: a gap in an upstream''s stream may hide something. reactivation: the account is active again. deletion: whether the account is really gone.',
    `reason` STRING COMMENT 'What broke, as in repos; null where nothing did.',
    `min_rev` STRING COMMENT 'Revision that the repository has to have reached: an older one is a stale copy. Null if any will do.',
    `host` STRING COMMENT 'Server to ask first; null for the one in the DID document.',
    `requested_us` BIGINT COMMENT 'When it became necessary, microseconds since 1970: that of the oldest request that is not answered. Unit: microseconds since 1970-01-01T00:00:00Z.',
    `request_offset` BIGINT COMMENT 'Offset of the newest request in the topic resyncs, same partition. Unit: offset.',
    `attempts` BIGINT COMMENT 'How often it was tried in vain. Unit: attempts.',
    `not_before_us` BIGINT COMMENT 'When to try again at the earliest, microseconds since 1970 by the worker''s clock. Unit: microseconds since 1970-01-01T00:00:00Z.',
    `last_error` STRING COMMENT 'Why the last try was in vain, for a person; null before the first.',
    kafka_topic STRING METADATA FROM 'topic' VIRTUAL,
    kafka_partition INT METADATA FROM 'partition' VIRTUAL,
    kafka_offset BIGINT METADATA FROM 'offset' VIRTUAL,
    kafka_time TIMESTAMP_LTZ(3) METADATA FROM 'timestamp' VIRTUAL,
    PRIMARY KEY (message_key) NOT ENFORCED
)
COMMENT 'What is asked for of a repository and not done. Key: DID. A null means that nothing is. Every field is always present.'
WITH (
    'connector' = 'upsert-kafka',
    'topic' = 'atproto.repairs',
    'properties.bootstrap.servers' = '127.0.0.1:9092',
    'properties.group.id' = 'flink.repairs',
    'properties.isolation.level' = 'read_committed',
    'key.format' = 'raw',
    'key.fields-prefix' = 'message_',
    'value.format' = 'json',
    'value.fields-include' = 'EXCEPT_KEY'
);

-- repos

CREATE TABLE repos (
    message_key STRING NOT NULL,
    `did` STRING COMMENT 'DID of the repository or account, at most 2,048 characters.',
    `active` BOOLEAN COMMENT 'Whether the repository may be shown: by the operator''s override if there is one, else as in upstream_active.',
    `status` STRING COMMENT 'Why it may not be shown, by the override if there is one, else as in upstream_status; or null.',
    `account_host` STRING COMMENT 'Who said that: the upstream of the #account, or the host that was asked for the repository; null if nobody did.',
    `account_seq` BIGINT COMMENT 'Sequence number of that #account; null if it was not one. Unit: sequence number.',
    `account_time` STRING COMMENT 'When it was said, by the upstream''s clock or, of a host that was asked, by ours; or null.',
    `account_received_us` BIGINT COMMENT 'When it was received, or the host was asked, by our clock, microseconds since 1970; or null. Between what hosts were asked for and what the upstream said this decides. Unit: microseconds since 1970-01-01T00:00:00Z.',
    `upstream_active` BOOLEAN COMMENT 'Whether the repository may be shown by the account''s last #account or what its server said last; true if there was neither.',
    `upstream_status` STRING COMMENT 'Why it may not be shown by upstream''s word (deleted, deactivated, takendown, suspended, …: an open set), or null. May be set although active.',
    `override_status` STRING COMMENT 'What the operator says of the account, which counts instead (active, deactivated, deleted, suspended, takendown); null if there is no override.',
    `override_reason` STRING COMMENT 'Why the operator says so, for people; or null.',
    `override_us` BIGINT COMMENT 'When the operator said so, microseconds since 1970 by the clock of the command''s machine; or null. Unit: microseconds since 1970-01-01T00:00:00Z.',
    `sync` STRING COMMENT 'unknown: no commit seen, or none since the account was deleted. synchronized: latest.* has exactly the records of the newest commit seen. desynchronized: something is missing; latest.* stays at the commit below until it is repaired. applying: it is being repaired; latest.* is on its way from the commit below to the one in `applying`.',
    `reason` STRING COMMENT 'Why it is desynchronized, or was when it began to be repaired; else null. history.unknown: it was not followed from its first commit. chain.since, chain.prev_data: a commit does not follow the one we hold, by revision or by root. chain.restarted: a first commit for a repository that had one. sync.data: a #sync with another root. account.inactive: something signed came of an account that upstream says is not active, whose server is asked. identity.unavailable: nobody could tell whether the account made a commit. Else the reason for which an authentic commit was refused, as in q.reason.',
    `desynchronized_us` BIGINT COMMENT 'Since when it is so: received_us of what broke it; else null. Unit: microseconds since 1970-01-01T00:00:00Z.',
    `requested_us` BIGINT COMMENT 'When the repository was last asked for, to repair what is missing, by received_us of what made it necessary; null if nothing is missing, or nobody repairs. Unit: microseconds since 1970-01-01T00:00:00Z.',
    `rev` STRING COMMENT 'Revision of the commit whose records latest.* holds, or held when it began to be repaired; null if it holds none.',
    `commit` STRING COMMENT 'CID of that commit''s block, or null.',
    `data` STRING COMMENT 'Root of that commit''s Merkle search tree, or null: the records of this repository in latest.* have exactly this root, except while they are being repaired.',
    `commit_block` STRING COMMENT 'That commit''s signed block (DAG-CBOR), or null.',
    `seen_rev` STRING COMMENT 'Revision of the newest commit that the account is known to have signed; the same as rev if synchronized; null if there is none.',
    `seen_commit` STRING COMMENT 'CID of that commit''s block, or null.',
    `seen_data` STRING COMMENT 'Root of that commit''s Merkle search tree, or null.',
    `waiting` ARRAY<ROW<`rev` STRING, `events_offset` BIGINT>> COMMENT 'What came while something was missing, and is judged once the repository is repaired; 256 at most, else the oldest is forgotten.',
    `applying` ROW<`rev` STRING, `commit` STRING, `data` STRING, `commit_block` STRING, `records_count` BIGINT, `chunks_count` BIGINT, `chunks_sha256` STRING, `snapshot_offset` BIGINT, `first_chunk_offset` BIGINT, `end_chunk_offset` BIGINT, `next_chunk_offset` BIGINT, `next_chunk_index` BIGINT, `after_path` STRING, `partial` BOOLEAN, `merged` BOOLEAN, `lost` BOOLEAN, `host` STRING, `fetched_us` BIGINT, `cause` STRING> COMMENT 'The snapshot that the records are being brought to, and how far that is; null if none is.',
    `deletion_us` BIGINT COMMENT 'Since when the account counts as deleted and its records wait for a confirmation, by received_us of its #account: they are still in latest.*, and nobody may show them. Null if none wait. Unit: microseconds since 1970-01-01T00:00:00Z.',
    `deleted_rev` STRING COMMENT 'Last revision that went with a deletion of the account: records up to it are gone or going. Null if there was no deletion.',
    `purging` BOOLEAN COMMENT 'Whether some of those records still wait for their tombstones.',
    `host` STRING COMMENT 'Host of the upstream of the event, or host that was asked, with its port where that is not the default; operator where an override, or its end, changed this.',
    `seq` BIGINT COMMENT 'The upstream''s sequence number of the frame; null without one. Unit: sequence number.',
    `time` STRING COMMENT 'The upstream''s `time` of an event, as it stood there, or null where there was none.',
    `received_us` BIGINT COMMENT 'When the frame was received or the server asked, microseconds since 1970 by our clock. Unit: microseconds since 1970-01-01T00:00:00Z.',
    `frame_partition` BIGINT COMMENT 'Partition of the topic frames that holds the frame; null without one. Unit: partition number.',
    `frame_offset` BIGINT COMMENT 'Offset of that frame in its partition; null without one. Unit: offset.',
    `snapshot_offset` BIGINT COMMENT 'Offset in the topic snapshots, same partition, of what the server said; null for an event. Unit: offset.',
    kafka_topic STRING METADATA FROM 'topic' VIRTUAL,
    kafka_partition INT METADATA FROM 'partition' VIRTUAL,
    kafka_offset BIGINT METADATA FROM 'offset' VIRTUAL,
    kafka_time TIMESTAMP_LTZ(3) METADATA FROM 'timestamp' VIRTUAL,
    PRIMARY KEY (message_key) NOT ENFORCED
)
COMMENT 'What is known of one repository. Key: DID. Every field is always present; host to snapshot_offset lead to what changed it last: an event, an answer of a server that was asked for the repository, or the operator (host: operator, and no position).'
WITH (
    'connector' = 'upsert-kafka',
    'topic' = 'atproto.repos',
    'properties.bootstrap.servers' = '127.0.0.1:9092',
    'properties.group.id' = 'flink.repos',
    'properties.isolation.level' = 'read_committed',
    'key.format' = 'raw',
    'key.fields-prefix' = 'message_',
    'value.format' = 'json',
    'value.fields-include' = 'EXCEPT_KEY'
);

-- resyncs

CREATE TABLE resyncs (
    message_key STRING NOT NULL,
    `did` STRING COMMENT 'DID of the repository or account, at most 2,048 characters.',
    `cause` STRING COMMENT 'Why the repository was asked for. desynchronized: something is missing. backfill: it was never followed. audit: what we hold is not what the account signed. redrive: somebody asked for it. sweep: a gap in an upstream''s stream may hide something. reactivation: the account is active again. deletion: whether the account is really gone.',
    `reason` STRING COMMENT 'What broke, as in repos; null where nothing did.',
    `min_rev` STRING COMMENT 'Revision that the repository has to have reached: an older one is a stale copy. Null if any will do.',
    `host` STRING COMMENT 'Server to ask first; null for the one in the DID document.',
    `requested_us` BIGINT COMMENT 'When it became necessary, microseconds since 1970: received_us of the event, or the time of day where somebody asked. Unit: microseconds since 1970-01-01T00:00:00Z.',
    kafka_topic STRING METADATA FROM 'topic' VIRTUAL,
    kafka_partition INT METADATA FROM 'partition' VIRTUAL,
    kafka_offset BIGINT METADATA FROM 'offset' VIRTUAL,
    kafka_time TIMESTAMP_LTZ(3) METADATA FROM 'timestamp' VIRTUAL,
    WATERMARK FOR kafka_time AS kafka_time - INTERVAL '1' MINUTE
)
COMMENT 'Asks for a repository as its server has it now. Key: DID. Every field is always present.'
WITH (
    'connector' = 'kafka',
    'topic' = 'atproto.resyncs',
    'properties.bootstrap.servers' = '127.0.0.1:9092',
    'properties.group.id' = 'flink.resyncs',
    'properties.isolation.level' = 'read_committed',
    'scan.startup.mode' = 'earliest-offset',
    'key.fields' = 'message_key',
    'key.format' = 'raw',
    'key.fields-prefix' = 'message_',
    'value.format' = 'json',
    'value.fields-include' = 'EXCEPT_KEY'
);

-- snapshots

CREATE TABLE snapshots (
    message_key STRING NOT NULL,
    `kind` STRING COMMENT 'Always `snapshot`: the repository, proven against its signature.',
    `did` STRING COMMENT 'DID of the repository or account, at most 2,048 characters.',
    `rev` STRING COMMENT 'Revision of its commit.',
    `commit` STRING COMMENT 'CID of the commit block.',
    `data` STRING COMMENT 'Root of its Merkle search tree: the records in the chunks have exactly this root.',
    `commit_block` STRING COMMENT 'The signed commit block (DAG-CBOR).',
    `records_count` BIGINT COMMENT 'Records in all chunks. Unit: records.',
    `chunks_count` BIGINT COMMENT 'Chunks; 0 for an empty repository. Unit: chunks.',
    `chunks_sha256` STRING COMMENT 'SHA-256 over the chunks'' values, one after the other.',
    `first_chunk_offset` BIGINT COMMENT 'Offset in the topic chunks, same partition, from which on the chunks lie; earlier ones of the repository belong to a snapshot that was not finished. Unit: offset.',
    `end_chunk_offset` BIGINT COMMENT 'Offset up to which they lie, itself not included. Unit: offset.',
    `host` STRING COMMENT 'Host that was asked for the repository, with its port where that is not the default.',
    `fetched_us` BIGINT COMMENT 'When the answer came, microseconds since 1970 by the clock of who asked. Unit: microseconds since 1970-01-01T00:00:00Z.',
    `cause` STRING COMMENT 'Why the repository was asked for. desynchronized: something is missing. backfill: it was never followed. audit: what we hold is not what the account signed. redrive: somebody asked for it. sweep: a gap in an upstream''s stream may hide something. reactivation: the account is active again. deletion: whether the account is really gone.',
    `error` STRING COMMENT 'Name of the server''s error.',
    `status` STRING COMMENT 'What that makes of the account; null where the server merely does not know the repository.',
    kafka_topic STRING METADATA FROM 'topic' VIRTUAL,
    kafka_partition INT METADATA FROM 'partition' VIRTUAL,
    kafka_offset BIGINT METADATA FROM 'offset' VIRTUAL,
    kafka_time TIMESTAMP_LTZ(3) METADATA FROM 'timestamp' VIRTUAL,
    WATERMARK FOR kafka_time AS kafka_time - INTERVAL '1' MINUTE
)
COMMENT 'The answer to a request in resyncs: a manifest of the chunks that hold the repository, written after them, or that there is none. Key: DID. Every field of a kind is always present.'
WITH (
    'connector' = 'kafka',
    'topic' = 'atproto.snapshots',
    'properties.bootstrap.servers' = '127.0.0.1:9092',
    'properties.group.id' = 'flink.snapshots',
    'properties.isolation.level' = 'read_committed',
    'scan.startup.mode' = 'earliest-offset',
    'key.fields' = 'message_key',
    'key.format' = 'raw',
    'key.fields-prefix' = 'message_',
    'value.format' = 'json',
    'value.fields-include' = 'EXCEPT_KEY'
);

-- status

CREATE TABLE status (
    message_key STRING NOT NULL,
    `stage` STRING COMMENT 'Name of the stage: bridge, explode, …',
    `slot` STRING COMMENT 'Stable name of the process among those of its stage.',
    `machine` STRING COMMENT 'Name of the machine it runs on.',
    `pid` BIGINT COMMENT 'Its process id there. Unit: process id.',
    `started_us` BIGINT COMMENT 'When it started, microseconds since 1970 by its own clock. Unit: microseconds since 1970-01-01T00:00:00Z.',
    `updated_us` BIGINT COMMENT 'When this was written, microseconds since 1970 by its own clock. Unit: microseconds since 1970-01-01T00:00:00Z.',
    `state` STRING COMMENT 'What it is doing. starting: not connected yet. restoring: reading its state back. running. waiting: for what `detail` says. stopped: it was asked to end. failed: it ended by itself, `detail` says why.',
    `detail` STRING COMMENT 'What it waits for or why it failed, for a person; null in other states.',
    `counters` MAP<STRING, BIGINT> COMMENT 'Numbers by name: counts since `started_us`, or what is now. Which ones depends on the stage; new ones may appear. Unit: as the name says.',
    `groups` MAP<STRING, MAP<STRING, BIGINT>> COMMENT 'Counts by the name of a group and of its member, such as `refused` by reason; of a bridge also numbers by upstream, such as `seq`. Unit: as the name says.',
    kafka_topic STRING METADATA FROM 'topic' VIRTUAL,
    kafka_partition INT METADATA FROM 'partition' VIRTUAL,
    kafka_offset BIGINT METADATA FROM 'offset' VIRTUAL,
    kafka_time TIMESTAMP_LTZ(3) METADATA FROM 'timestamp' VIRTUAL,
    PRIMARY KEY (message_key) NOT ENFORCED
)
COMMENT 'What one stage process says about itself. Key: `<stage>.<slot>`.'
WITH (
    'connector' = 'upsert-kafka',
    'topic' = 'atproto.status',
    'properties.bootstrap.servers' = '127.0.0.1:9092',
    'properties.group.id' = 'flink.status',
    'properties.isolation.level' = 'read_committed',
    'key.format' = 'raw',
    'key.fields-prefix' = 'message_',
    'value.format' = 'json',
    'value.fields-include' = 'EXCEPT_KEY'
);

-- trends

CREATE TABLE trends (
    message_key STRING NOT NULL,
    `hour` STRING COMMENT 'Start of the hour in which the bridge received the frames, by the bridge''s clock, UTC.',
    `partition` BIGINT COMMENT 'Partition of the record topics; also of this message. Unit: partition number.',
    `collection` STRING COMMENT 'Of the first record counted: NSID of the collection where it has a record topic of its own, else `other`. With first_offset it names this message among those of the hour and partition.',
    `first_offset` BIGINT COMMENT 'Offset of that record in its topic. Unit: offset.',
    `records` BIGINT COMMENT 'Records counted, of any collection, created, updated or deleted. Unit: records.',
    `accounts` BIGINT COMMENT 'Distinct accounts whose records these are, estimated from the sketch (standard error 1.6 %). An account is in one partition; messages of the same partition may share accounts. Unit: accounts.',
    `accounts_sketch` STRING COMMENT 'HyperLogLog sketch of the accounts'' DIDs (UTF-8), 2^12 registers: the compact serialisation of Apache DataSketches, base64 (RFC 4648, section 4). Union of the sketches counts accounts over messages.',
    `links` ARRAY<ROW<`item` STRING, `low` BIGINT, `high` BIGINT>> COMMENT 'Web addresses in the text or the card of created posts, as they stand there.',
    `links_unlisted_high` BIGINT COMMENT 'An address that is not listed was mentioned so often at most. Unit: records.',
    `hashtags` ARRAY<ROW<`item` STRING, `low` BIGINT, `high` BIGINT>> COMMENT 'Hashtags of created posts, in lower case, without `#`.',
    `hashtags_unlisted_high` BIGINT COMMENT 'A hashtag that is not listed was mentioned so often at most. Unit: records.',
    `posts` ARRAY<ROW<`item` STRING, `low` BIGINT, `high` BIGINT>> COMMENT 'At-uris of the posts that created likes and reposts are about.',
    `posts_unlisted_high` BIGINT COMMENT 'A post that is not listed was mentioned so often at most. Unit: records.',
    kafka_topic STRING METADATA FROM 'topic' VIRTUAL,
    kafka_partition INT METADATA FROM 'partition' VIRTUAL,
    kafka_offset BIGINT METADATA FROM 'offset' VIRTUAL,
    kafka_time TIMESTAMP_LTZ(3) METADATA FROM 'timestamp' VIRTUAL,
    PRIMARY KEY (message_key) NOT ENFORCED
)
COMMENT 'What one hour was about, as far as one life of a process counted the records of one partition number. Key: `<hour>/<partition>/<collection>/<first_offset>`.'
WITH (
    'connector' = 'upsert-kafka',
    'topic' = 'atproto.trends',
    'properties.bootstrap.servers' = '127.0.0.1:9092',
    'properties.group.id' = 'flink.trends',
    'properties.isolation.level' = 'read_committed',
    'key.format' = 'raw',
    'key.fields-prefix' = 'message_',
    'value.format' = 'json',
    'value.fields-include' = 'EXCEPT_KEY'
);
