//! Producer, Consumer and Admin: an async Kafka client, batch-first.
