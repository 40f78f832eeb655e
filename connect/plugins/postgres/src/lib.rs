//! Exactly-once Postgres sink for flumen-connect.
