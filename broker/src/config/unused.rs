//! Kafka's other broker keys: known by name, and what becomes of one that is given. Data, and one pure function.
//!
//! A `server.properties` that serves Apache Kafka is taken as it is, as far as that is honest. A key of something that is not needed
//! here has no effect, and the start says so; one whose silence would be a lie (a limit, a lock, another place for data) is refused
//! unless it says what is done anyway. Names that Kafka does not know either are refused by the caller. Read by `config.rs` and by
//! the test that writes `docs/config.md`.

/// What becomes of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// Whatever it says.
    NoEffect,
    /// Only with one of these values, blanks left out.
    Only(&'static [&'static str]),
    /// A list of at most one.
    OneEntry,
}

/// Keys that share their fate.
#[derive(Debug, Clone, Copy)]
pub struct Unused {
    /// What becomes of them.
    pub rule: Rule,
    /// Why, as half a sentence.
    pub why: &'static str,
    /// Their names, with blanks between.
    names: &'static str,
}

impl Unused {
    /// The keys.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        self.names.split_whitespace()
    }

    /// The group that a key belongs to.
    pub fn find(name: &str) -> Option<&'static Unused> {
        UNUSED
            .iter()
            .find(|unused| unused.names().any(|known| known == name))
    }

    /// Whether `value` can be taken without a lie.
    ///
    /// # Errors
    /// Why not, and what could be.
    pub fn judge(&self, value: &str) -> Result<(), String> {
        let why = self.why;
        let bare: String = value.split_whitespace().collect();
        match self.rule {
            Rule::NoEffect => Ok(()),
            Rule::Only(values) if values.contains(&bare.as_str()) => Ok(()),
            Rule::Only([""]) => Err(format!("must be empty: {why}")),
            Rule::Only(values) => Err(format!("must be {}: {why}", values.join(" or "))),
            Rule::OneEntry if bare.contains(',') => Err(format!("must name one node: {why}")),
            Rule::OneEntry => Ok(()),
        }
    }
}

/// All of them, those that are refused first.
pub const UNUSED: &[Unused] = &[
    Unused {
        rule: Rule::Only(&["broker", "broker,controller", "controller,broker"]),
        why: "a role of its own process is not there yet: one node is broker and controller",
        names: "process.roles",
    },
    Unused {
        rule: Rule::OneEntry,
        why: "one node is its own quorum",
        names: "controller.quorum.bootstrap.servers controller.quorum.voters",
    },
    Unused {
        rule: Rule::Only(&["PLAINTEXT"]),
        why: "only PLAINTEXT is spoken yet",
        names: "security.inter.broker.protocol",
    },
    Unused {
        rule: Rule::Only(&[""]),
        why: "nothing would be denied: there are no ACLs yet",
        names: "authorizer.class.name",
    },
    Unused {
        rule: Rule::Only(&[""]),
        why: "classes of Java cannot be loaded",
        names: "alter.config.policy.class.name client.quota.callback.class config.providers create.topic.policy.class.name \
         replica.selector.class",
    },
    Unused {
        rule: Rule::Only(&["2147483647"]),
        why: "it would not be limited",
        names: "max.connection.creation.rate",
    },
    Unused {
        rule: Rule::Only(&[""]),
        why: "it would not be limited",
        names: "max.connections.per.ip.overrides",
    },
    Unused {
        rule: Rule::Only(&[""]),
        why: "metadata lies in the folder of log.dirs",
        names: "metadata.log.dir",
    },
    Unused {
        rule: Rule::Only(&[""]),
        why: "there is one folder",
        names: "cordoned.log.dirs",
    },
    Unused {
        rule: Rule::Only(&["false"]),
        why: "not there yet",
        names: "remote.log.storage.system.enable transaction.two.phase.commit.enable",
    },
    Unused {
        rule: Rule::Only(&["true"]),
        why: "without it a transaction could hang for ever",
        names: "transaction.partition.verification.enable",
    },
    Unused {
        rule: Rule::Only(&["0"]),
        why: "offsets are written uncompressed",
        names: "offsets.topic.compression.codec",
    },
    Unused {
        rule: Rule::NoEffect,
        why: "threads, buffers and queues size themselves",
        names: "background.threads connection.failed.authentication.delay.ms delete.records.purgatory.purge.interval.requests \
         fetch.purgatory.purge.interval.requests group.coordinator.append.linger.ms \
         group.coordinator.background.threads group.coordinator.cached.buffer.max.bytes group.coordinator.threads \
         log.preallocate num.io.threads num.network.threads num.recovery.threads.per.data.dir \
         num.replica.alter.log.dirs.threads offsets.commit.timeout.ms offsets.load.buffer.size \
         producer.id.expiration.check.interval.ms producer.purgatory.purge.interval.requests queued.max.requests \
         server.max.startup.time.ms socket.listen.backlog.size socket.receive.buffer.bytes socket.send.buffer.bytes \
         transaction.state.log.load.buffer.size",
    },
    Unused {
        rule: Rule::NoEffect,
        why: "fetches are answered in full, sessions are not kept",
        names: "max.incremental.fetch.session.cache.slots",
    },
    Unused {
        rule: Rule::NoEffect,
        why: "transactions and members have deadlines of their own, nobody scans for them",
        names: "transaction.abort.timed.out.transaction.cleanup.interval.ms",
    },
    Unused {
        rule: Rule::NoEffect,
        why: "the flush conductor and the recovery points need no timers",
        names: "log.dir.failure.timeout.ms log.flush.offset.checkpoint.interval.ms log.flush.scheduler.interval.ms \
         log.flush.start.offset.checkpoint.interval.ms",
    },
    Unused {
        rule: Rule::NoEffect,
        why: "batches keep the codec's usual level",
        names: "compression.gzip.level compression.lz4.level compression.zstd.level",
    },
    Unused {
        rule: Rule::NoEffect,
        why: "one node has nobody to replicate to or to agree with",
        names: "add.partitions.to.txn.retry.backoff.max.ms add.partitions.to.txn.retry.backoff.ms \
         alter.log.dirs.replication.quota.window.num alter.log.dirs.replication.quota.window.size.seconds \
         auto.leader.rebalance.enable broker.heartbeat.interval.ms broker.session.timeout.ms controlled.shutdown.enable \
         controller.performance.always.log.threshold.ms controller.performance.sample.period.ms \
         controller.quorum.append.linger.ms controller.quorum.auto.join.enable \
         controller.quorum.election.backoff.max.ms controller.quorum.election.timeout.ms \
         controller.quorum.fetch.max.bytes controller.quorum.fetch.snapshot.max.bytes \
         controller.quorum.fetch.timeout.ms controller.quorum.request.timeout.ms controller.quorum.retry.backoff.ms \
         controller.quota.window.num controller.quota.window.size.seconds controller.socket.timeout.ms \
         early.start.listeners follower.fetch.last.tiered.offset.enable initial.broker.registration.timeout.ms \
         inter.broker.listener.name internal.metadata.delete.delay.millis internal.metadata.log.segment.bytes \
         internal.metadata.max.batch.size.in.bytes leader.imbalance.check.interval.seconds \
         metadata.log.max.record.bytes.between.snapshots metadata.log.max.snapshot.interval.ms \
         metadata.log.segment.bytes metadata.log.segment.ms metadata.max.idle.interval.ms metadata.max.retention.bytes \
         metadata.max.retention.ms num.replica.fetchers replica.fetch.backoff.ms replica.fetch.max.bytes \
         replica.fetch.min.bytes replica.fetch.response.max.bytes replica.fetch.wait.max.ms \
         replica.high.watermark.checkpoint.interval.ms replica.lag.time.max.ms replica.socket.receive.buffer.bytes \
         replica.socket.timeout.ms replication.quota.window.num replication.quota.window.size.seconds \
         request.timeout.ms socket.connection.setup.timeout.max.ms socket.connection.setup.timeout.ms \
         transaction.state.log.min.isr unclean.leader.election.interval.ms",
    },
    Unused {
        rule: Rule::NoEffect,
        why: "only classic groups are served yet",
        names: "group.consumer.assignment.interval.ms group.consumer.assignors group.consumer.heartbeat.interval.ms \
         group.consumer.max.assignment.interval.ms group.consumer.max.heartbeat.interval.ms \
         group.consumer.max.session.timeout.ms group.consumer.max.size group.consumer.migration.policy \
         group.consumer.min.assignment.interval.ms group.consumer.min.heartbeat.interval.ms \
         group.consumer.min.session.timeout.ms group.consumer.regex.refresh.interval.ms \
         group.consumer.session.timeout.ms group.coordinator.rebalance.protocols group.share.assignment.interval.ms \
         group.share.assignors group.share.delivery.count.limit group.share.heartbeat.interval.ms \
         group.share.initialize.retry.interval.ms group.share.max.assignment.interval.ms \
         group.share.max.delivery.count.limit group.share.max.heartbeat.interval.ms \
         group.share.max.partition.max.record.locks group.share.max.record.lock.duration.ms \
         group.share.max.session.timeout.ms group.share.max.share.sessions group.share.max.size \
         group.share.min.assignment.interval.ms group.share.min.delivery.count.limit \
         group.share.min.heartbeat.interval.ms group.share.min.partition.max.record.locks \
         group.share.min.record.lock.duration.ms group.share.min.session.timeout.ms \
         group.share.partition.max.record.locks group.share.persister.class.name group.share.record.lock.duration.ms \
         group.share.session.timeout.ms group.streams.assignment.interval.ms group.streams.heartbeat.interval.ms \
         group.streams.initial.rebalance.delay.ms group.streams.max.assignment.interval.ms \
         group.streams.max.heartbeat.interval.ms group.streams.max.session.timeout.ms group.streams.max.size \
         group.streams.max.standby.replicas group.streams.min.assignment.interval.ms \
         group.streams.min.heartbeat.interval.ms group.streams.min.session.timeout.ms \
         group.streams.num.standby.replicas group.streams.session.timeout.ms share.coordinator.append.linger.ms \
         share.coordinator.cached.buffer.max.bytes share.coordinator.cold.partition.snapshot.interval.ms \
         share.coordinator.load.buffer.size share.coordinator.snapshot.update.records.per.snapshot \
         share.coordinator.state.topic.compression.codec share.coordinator.state.topic.min.isr \
         share.coordinator.state.topic.num.partitions share.coordinator.state.topic.prune.interval.ms \
         share.coordinator.state.topic.replication.factor share.coordinator.state.topic.segment.bytes \
         share.coordinator.threads share.coordinator.write.timeout.ms share.fetch.purgatory.purge.interval.requests",
    },
    Unused {
        rule: Rule::NoEffect,
        why: "there are no quotas yet",
        names: "quota.window.num quota.window.size.seconds",
    },
    Unused {
        rule: Rule::NoEffect,
        why: "metrics are served by flumen.http.listener",
        names: "kafka.metrics.polling.interval.secs kafka.metrics.reporters metric.reporters metrics.num.samples \
         metrics.recording.level metrics.sample.window.ms telemetry.max.bytes",
    },
    Unused {
        rule: Rule::NoEffect,
        why: "no segment leaves this disk",
        names: "log.local.retention.bytes log.local.retention.ms remote.fetch.max.wait.ms \
         remote.list.offsets.request.timeout.ms remote.log.index.file.cache.total.size.bytes \
         remote.log.index.file.cache.ttl.ms remote.log.manager.copier.thread.pool.size \
         remote.log.manager.copy.max.bytes.per.second remote.log.manager.copy.quota.window.num \
         remote.log.manager.copy.quota.window.size.seconds remote.log.manager.expiration.thread.pool.size \
         remote.log.manager.fetch.max.bytes.per.second remote.log.manager.fetch.quota.window.num \
         remote.log.manager.fetch.quota.window.size.seconds remote.log.manager.follower.thread.pool.size \
         remote.log.manager.task.interval.ms remote.log.manager.task.retry.backoff.max.ms \
         remote.log.manager.task.retry.backoff.ms remote.log.manager.task.retry.jitter \
         remote.log.manager.thread.pool.size remote.log.metadata.custom.metadata.max.bytes \
         remote.log.metadata.manager.class.name remote.log.metadata.manager.class.path \
         remote.log.metadata.manager.impl.prefix remote.log.metadata.manager.listener.name \
         remote.log.reader.max.pending.tasks remote.log.reader.threads remote.log.storage.manager.class.name \
         remote.log.storage.manager.class.path remote.log.storage.manager.impl.prefix",
    },
    Unused {
        rule: Rule::NoEffect,
        why: "no listener uses TLS or SASL yet",
        names: "connections.max.reauth.ms delegation.token.expiry.check.interval.ms delegation.token.expiry.time.ms \
         delegation.token.max.lifetime.ms delegation.token.secret.key principal.builder.class \
         sasl.client.callback.handler.class sasl.enabled.mechanisms sasl.jaas.config sasl.kerberos.kinit.cmd \
         sasl.kerberos.min.time.before.relogin sasl.kerberos.principal.to.local.rules sasl.kerberos.service.name \
         sasl.kerberos.ticket.renew.jitter sasl.kerberos.ticket.renew.window.factor sasl.login.callback.handler.class \
         sasl.login.class sasl.login.connect.timeout.ms sasl.login.read.timeout.ms sasl.login.refresh.buffer.seconds \
         sasl.login.refresh.min.period.seconds sasl.login.refresh.window.factor sasl.login.refresh.window.jitter \
         sasl.login.retry.backoff.max.ms sasl.login.retry.backoff.ms sasl.mechanism.controller.protocol \
         sasl.mechanism.inter.broker.protocol sasl.oauthbearer.assertion.algorithm sasl.oauthbearer.assertion.claim.aud \
         sasl.oauthbearer.assertion.claim.exp.seconds sasl.oauthbearer.assertion.claim.iss \
         sasl.oauthbearer.assertion.claim.jti.include sasl.oauthbearer.assertion.claim.nbf.seconds \
         sasl.oauthbearer.assertion.claim.sub sasl.oauthbearer.assertion.file \
         sasl.oauthbearer.assertion.private.key.file sasl.oauthbearer.assertion.private.key.passphrase \
         sasl.oauthbearer.assertion.template.file sasl.oauthbearer.client.credentials.client.id \
         sasl.oauthbearer.client.credentials.client.secret sasl.oauthbearer.clock.skew.seconds \
         sasl.oauthbearer.expected.audience sasl.oauthbearer.expected.issuer sasl.oauthbearer.jwks.endpoint.refresh.ms \
         sasl.oauthbearer.jwks.endpoint.retry.backoff.max.ms sasl.oauthbearer.jwks.endpoint.retry.backoff.ms \
         sasl.oauthbearer.jwks.endpoint.url sasl.oauthbearer.jwt.retriever.class sasl.oauthbearer.jwt.validator.class \
         sasl.oauthbearer.scope sasl.oauthbearer.scope.claim.name sasl.oauthbearer.sub.claim.name \
         sasl.oauthbearer.token.endpoint.url sasl.server.callback.handler.class sasl.server.max.receive.size \
         security.providers ssl.allow.dn.changes ssl.allow.san.changes ssl.cipher.suites ssl.client.auth \
         ssl.enabled.protocols ssl.endpoint.identification.algorithm ssl.engine.factory.class ssl.key.password \
         ssl.keymanager.algorithm ssl.keystore.certificate.chain ssl.keystore.key ssl.keystore.location \
         ssl.keystore.password ssl.keystore.type ssl.principal.mapping.rules ssl.protocol ssl.provider \
         ssl.secure.random.implementation ssl.trustmanager.algorithm ssl.truststore.certificates \
         ssl.truststore.location ssl.truststore.password ssl.truststore.type",
    },
    Unused {
        rule: Rule::NoEffect,
        why: "what is served is stable",
        names: "unstable.api.versions.enable unstable.feature.versions.enable",
    },
    Unused {
        rule: Rule::NoEffect,
        why: "the log cleaner sizes its buffers",
        names: "log.cleaner.io.buffer.load.factor log.cleaner.io.buffer.size",
    },
];
