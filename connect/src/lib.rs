//! A connect runtime: source and sink plugins, exactly-once, Kafka Connect REST.
