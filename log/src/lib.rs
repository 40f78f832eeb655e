//! One partition's durable log in Kafka's on-disk format, and a directory of them.
