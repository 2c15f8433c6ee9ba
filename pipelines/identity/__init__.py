"""From a DID to its signing key and PDS: documents, PLC logs, resolvers and caches."""
