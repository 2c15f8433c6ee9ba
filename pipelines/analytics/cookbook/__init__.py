"""Five Faust agents over the topics of records, each to copy and to begin with.

    faust -A pipelines.analytics.cookbook.links worker --without-web

They read Kafka at localhost:9092, or where BROKER_URL says (`kafka://host:port`), and print what
they find. They stand here, beside the record type and the transport that they use, so that they
are installed, typed and linted with everything else.

    links       addresses of the web in posts         a filter
    replies     who answers one account               a filter with a setting
    languages   posts by language, for each minute    a window in the time of the records
    likes       the post that is liked most of late   a sliding window with a bound
    follows     who follows whom, and who no longer   deletes, which have no record

What an agent keeps in memory is gone when it ends, and Faust delivers at least once: a record may
come again after a crash. What must be counted once belongs to `pipelines.consume`, or is done as
`pipelines.analytics.publisher` does it.
"""
