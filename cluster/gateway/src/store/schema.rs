//! The tables, as a list of migrations. A published migration is never edited; add one.
//! Times are seconds since the epoch; an unset time is NULL.

pub const MIGRATIONS: &[&[&str]] = &[&[
    "CREATE TABLE settings (name TEXT PRIMARY KEY, value TEXT NOT NULL)",
    // token: lowercase hex SHA-256 of the token text. An invite is free, reserved (until reserved_until, by one
    // attempt) or used.
    "CREATE TABLE invite_tokens (
        token TEXT PRIMARY KEY,
        created_by TEXT NOT NULL,
        expires_at INTEGER NOT NULL,
        used_at INTEGER,
        used_by_ip TEXT,
        reserved_by TEXT,
        reserved_until INTEGER
    )",
    // role: agent (an enrolled node) or peer (a host that exists without enrolment).
    "CREATE TABLE wireguard_peers (
        node_id TEXT PRIMARY KEY,
        wg_ip TEXT NOT NULL UNIQUE,
        public_key TEXT NOT NULL,
        public_ip TEXT NOT NULL,
        wg_port INTEGER NOT NULL,
        agent_token TEXT,
        confirmed_at INTEGER,
        guardian INTEGER NOT NULL DEFAULT 0 CHECK (guardian IN (0, 1)),
        role TEXT NOT NULL CHECK (role IN ('agent', 'peer')),
        phase TEXT NOT NULL,
        detail TEXT NOT NULL DEFAULT ''
    )",
    "CREATE TABLE enrollment_failures (
        id INTEGER PRIMARY KEY,
        node_id TEXT NOT NULL,
        wg_ip TEXT NOT NULL,
        public_ip TEXT NOT NULL,
        failed_at INTEGER NOT NULL,
        reason TEXT NOT NULL
    )",
]];
