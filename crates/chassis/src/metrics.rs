//! What the chassis measures of every service.

crate::metrics! {
    /// Time from the arrival of a call to its end; streams, which last as long as both sides want, are measured apart.
    RPC_SERVER_DURATION = histogram "rushes_rpc_server_duration_seconds" in "seconds" by ["method", "code"];
    /// Time from the arrival of a call that streams as long as both sides want to its end.
    RPC_SERVER_STREAM_DURATION = histogram "rushes_rpc_server_stream_duration_seconds" in "seconds" by ["method", "code"];
    /// Database round trips of one call.
    RPC_SERVER_QUERIES = histogram "rushes_rpc_server_queries" in "round trips" by ["method"];
    /// Time from the sending of a call to another service to the end of its answer.
    RPC_CLIENT_DURATION = histogram "rushes_rpc_client_duration_seconds" in "seconds" by ["method", "code"];
    /// Addresses of another service that calls to it are spread over. Of a name with replicas behind it, as many as answer.
    CLIENT_ADDRESSES = gauge "rushes_rpc_client_addresses" in "addresses" by ["service"];
    /// Calls between the services that were refused for their token, by reason: missing, forged (signed by none of our keys), elsewhere
    /// (made for another service), expired, scope (the key has not the method's) or caller (the service may not call the method).
    IDENTITIES_REFUSED = counter "rushes_rpc_identities_refused_total" in "refusals" by ["reason"];
    /// Connections to the public port that are open.
    CONNECTIONS = gauge "rushes_public_connections" in "connections" by [];
    /// Connections to the public port that ended, by reason: peer, drain, age, idle (no request), handshake (nothing was said in time)
    /// or stalled (nothing was taken).
    CONNECTIONS_CLOSED = counter "rushes_public_connections_closed_total" in "connections" by ["reason"];
    /// Reads of public connections that waited, since more had come of their address than its rate and its answers allow.
    READS_DELAYED = counter "rushes_public_reads_delayed_total" in "reads" by [];
    /// What anybody may ask for and was refused since there were too many at once, by kind and by limit: all, or address.
    REFUSED_BY_ADDRESS = counter "rushes_public_refused_total" in "refusals" by ["kind", "limit"];
    /// Connections that the pool has open.
    POOL_SIZE = gauge "rushes_postgres_pool_size" in "connections" by ["pool"];
    /// Open connections of the pool that nobody uses.
    POOL_IDLE = gauge "rushes_postgres_pool_idle" in "connections" by ["pool"];
    /// Statements and transactions that wait for a connection of the pool.
    POOL_WAITING = gauge "rushes_postgres_pool_waiting" in "waiters" by ["pool"];
    /// Connections that the pool opens at most.
    POOL_MAX = gauge "rushes_postgres_pool_max" in "connections" by ["pool"];
    /// Connections that this process opens at most: the sum over its pools, and one for each liveness probe. The sum over all
    /// processes must stay below the server's own limit.
    CONNECTIONS_MAX = gauge "rushes_postgres_connections_max" in "connections" by [];
    /// Connections that PostgreSQL accepts at most from all its clients, by its setting max_connections.
    SERVER_CONNECTIONS_MAX = gauge "rushes_postgres_server_connections_max" in "connections" by [];
    /// Time that a statement or transaction waited for a connection of the pool.
    POOL_ACQUIRE = histogram "rushes_postgres_pool_acquire_seconds" in "seconds" by ["pool"];
    /// Statements and transactions that were given up or refused because PostgreSQL did not answer.
    POOL_UNRESPONSIVE = counter "rushes_postgres_pool_unresponsive_total" in "refusals" by ["pool"];
    /// Time of a statement by its name, from its sending to its last row.
    STATEMENT_DURATION = histogram "rushes_postgres_statement_seconds" in "seconds" by ["pool", "statement", "outcome"];
    /// Rows that a statement returned or changed, by its name.
    STATEMENT_ROWS = histogram "rushes_postgres_statement_rows" in "rows" by ["pool", "statement"];
    /// Size of an object that was stored.
    BLOBS_PUT = histogram "rushes_blobs_put_bytes" in "bytes" by [];
    /// Time of an operation of the object storage.
    BLOBS_OPERATION_DURATION = histogram "rushes_blobs_operation_seconds" in "seconds" by ["operation", "outcome"];
    /// Events of the connection to NATS.
    NATS_EVENTS = counter "rushes_nats_events_total" in "events" by ["event"];
}
