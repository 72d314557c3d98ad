//! The tables, as a list of migrations. A published migration is never edited; add one.
//! Times are seconds since the epoch; an unset time is NULL.

pub const MIGRATIONS: &[&[&str]] = &[
    &[
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
    ],
    &[
        // A node that leaves: since when, from which revision on the others are told so, and whether nobody waits for
        // the shares that it keeps.
        "ALTER TABLE wireguard_peers ADD COLUMN leaving_at INTEGER",
        "ALTER TABLE wireguard_peers ADD COLUMN leaving_revision INTEGER",
        "ALTER TABLE wireguard_peers ADD COLUMN leaving_forced INTEGER NOT NULL DEFAULT 0",
        // Of the list of peers that every node is told. Triggers raise it, so that no change can forget to.
        "CREATE TABLE peers_revision (row INTEGER PRIMARY KEY CHECK (row = 1), revision INTEGER NOT NULL)",
        "INSERT INTO peers_revision (row, revision) VALUES (1, 0)",
        "CREATE TRIGGER peer_added AFTER INSERT ON wireguard_peers
     BEGIN UPDATE peers_revision SET revision = revision + 1; END",
        "CREATE TRIGGER peer_changed
     AFTER UPDATE OF wg_ip, public_key, public_ip, wg_port, guardian, role, leaving_at ON wireguard_peers
     WHEN old.wg_ip IS NOT new.wg_ip OR old.public_key IS NOT new.public_key
       OR old.public_ip IS NOT new.public_ip OR old.wg_port IS NOT new.wg_port
       OR old.guardian IS NOT new.guardian OR old.role IS NOT new.role
       OR (old.leaving_at IS NULL) IS NOT (new.leaving_at IS NULL)
     BEGIN UPDATE peers_revision SET revision = revision + 1; END",
        // custody: JSON, as the node's status had it last.
        "CREATE TABLE custody_seen (node_id TEXT PRIMARY KEY, seen_at INTEGER NOT NULL, custody TEXT NOT NULL)",
        "CREATE TRIGGER peer_removed AFTER DELETE ON wireguard_peers
     BEGIN
       UPDATE peers_revision SET revision = revision + 1;
       DELETE FROM custody_seen WHERE node_id = old.node_id;
     END",
    ],
    &[
        // Overlay addresses of owners' machines: no node gets one.
        "CREATE TABLE operators (wg_ip TEXT PRIMARY KEY)",
    ],
    &[
        // Of the guardian of a host without enrolment; a node's follows from its agent token.
        "ALTER TABLE wireguard_peers ADD COLUMN guardian_token TEXT",
        // owner: as guardians name it. Kept for ever: a guardian that comes later is told as well.
        "CREATE TABLE revocations (owner TEXT PRIMARY KEY, node_id TEXT NOT NULL, revoked_at INTEGER NOT NULL)",
        "CREATE TABLE revocations_told (owner TEXT NOT NULL, guardian TEXT NOT NULL, PRIMARY KEY (owner, guardian))",
        // Who comes back under an old id may have lost what it was told.
        "CREATE TRIGGER guardian_removed AFTER DELETE ON wireguard_peers
     BEGIN DELETE FROM revocations_told WHERE guardian = old.node_id; END",
    ],
    &[
        // Addresses of nodes that left and had a guardian. No node gets one again soon.
        "CREATE TABLE former_guardians (wg_ip TEXT PRIMARY KEY, left_at INTEGER NOT NULL)",
    ],
];
