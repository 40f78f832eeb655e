//! Judges a history of what Kafka clients did and saw by Kafka's promises, knowing nothing of any broker.
