//! What a seed means: hosts, options and faults, as data. Pure: the same seed gives the same plan, printed when a run fails.
//!
//! Faults lie in `[0, calm_at)`; what the nemesis broke it mends by then. The budget of every run: one machine, an honest fsync (what it
//! acknowledged stays), a failed fsync says so. Within it nothing acknowledged is lost, and everybody moves again within
//! thirty seconds.

use std::fmt;
use std::time::Duration;

use flumen_log::fault_disk::{Crash, Fault, Kind as Operation};

use crate::dice::Dice;
use crate::network::{Detach, LastWord};
use crate::workload::Kind;

/// What a run leans on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Profile {
    /// A little of everything.
    Mixed,
    /// The broker dies again and again, in its recovery too.
    Restarts,
    /// Transactional producers fence each other; requests come late.
    Transactions,
    /// Members join, leave and sleep.
    Groups,
    /// The disk fails, fills and crawls.
    Disk,
    /// Links drop, hold and cut.
    Network,
}

impl Profile {
    const ALL: [Profile; 6] = [
        Profile::Mixed,
        Profile::Restarts,
        Profile::Transactions,
        Profile::Groups,
        Profile::Disk,
        Profile::Network,
    ];
}

/// A topic of the run.
#[derive(Clone, Debug)]
pub(crate) struct Topic {
    pub(crate) name: &'static str,
    pub(crate) partitions: u16,
}

/// One host beside the broker.
#[derive(Clone, Debug)]
pub(crate) struct Host {
    pub(crate) name: String,
    pub(crate) kind: Kind,
}

/// Something that the nemesis does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// The broker dies. `after`: between two operations of its disk, so many from now; else between two steps of the network. `silent`:
    /// nobody is told that the connections are gone. `again`: so many operations into its recovery it dies once more.
    BrokerDies {
        how: Crash,
        after: Option<u64>,
        silent: bool,
        down: Duration,
        again: Option<u64>,
    },
    /// A client host dies and comes back. `at`: at a request of it; else between two steps of the network.
    HostDies {
        host: usize,
        down: Duration,
        at: Option<LastWord>,
    },
    /// A client host is cut off from the world and keeps running; everything sent meanwhile arrives afterwards.
    Pause { host: usize, lasting: Duration },
    /// What is sent between a client host and the broker is lost.
    Partition { host: usize, lasting: Duration },
    /// Messages between a client host and the broker take up to so long.
    Slow {
        host: usize,
        latency: Duration,
        lasting: Duration,
    },
    /// A client host's connections break.
    Cut { host: usize },
    /// One request of a client host arrives without its connection.
    Detach { host: usize, order: Detach },
    /// An operation of the disk fails. After a failed flush the broker is started again so much later.
    DiskFails {
        kind: Operation,
        nth: u64,
        fault: Fault,
        restart: Duration,
    },
    /// The disk is full.
    DiskFull { free: u64, lasting: Duration },
    /// Blocking work takes so much longer.
    DiskSlow { by: Duration, lasting: Duration },
    /// The broker's wall clock is so far off from now on.
    BrokerClock { off_ms: i64 },
    /// The clients' wall clocks are.
    ClientClocks { off_ms: i64 },
}

/// Everything that a seed decides before the run.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) profile: Profile,
    /// The broker's properties beside its addresses.
    pub(crate) properties: Vec<(&'static str, String)>,
    pub(crate) topics: Vec<Topic>,
    pub(crate) hosts: Vec<Host>,
    /// In order of time.
    pub(crate) faults: Vec<(Duration, Action)>,
    pub(crate) calm_at: Duration,
    /// Shortest and longest way of a message.
    pub(crate) latency: (Duration, Duration),
    /// Longest wait of blocking work for its turn.
    pub(crate) turn: Duration,
    /// Clients give up a request after so long.
    pub(crate) request_timeout: Duration,
    /// Members are dead after so long.
    pub(crate) session_timeout: Duration,
    /// Transactions are aborted after so long.
    pub(crate) transaction_timeout: Duration,
}

impl Plan {
    pub(crate) fn of(seed: u64) -> Plan {
        let mut dice = Dice::new(seed, "plan");
        let profile = Profile::ALL[usize::try_from(seed % Profile::ALL.len() as u64).unwrap()];
        let topics = vec![
            Topic {
                name: "plain",
                partitions: 2,
            },
            Topic {
                name: "ledger",
                partitions: 2,
            },
            Topic {
                name: "copy",
                partitions: 2,
            },
        ];
        let hosts = crate::workload::hosts(profile, &mut Dice::new(seed, "hosts"));
        let calm_at = dice.millis(9_000, 16_000);
        let faults = faults(profile, &hosts, calm_at, &mut Dice::new(seed, "faults"));
        let slowest = *dice.pick(&[5, 20, 60]);
        let mut properties = properties(&mut dice);
        if hosts.iter().any(|host| matches!(host.kind, Kind::Table(_))) {
            // The cleaner works often, also on the topics of the coordinators.
            properties.push(("log.cleaner.backoff.ms", "300".to_owned()));
        }
        Plan {
            seed,
            profile,
            properties,
            topics,
            hosts,
            faults,
            calm_at,
            latency: (Duration::from_millis(1), Duration::from_millis(slowest)),
            turn: Duration::from_millis(*dice.pick(&[2, 5, 30])),
            request_timeout: dice.millis(1_000, 2_500),
            session_timeout: dice.millis(2_000, 4_000),
            transaction_timeout: dice.millis(3_000, 6_000),
        }
    }
}

fn properties(dice: &mut Dice) -> Vec<(&'static str, String)> {
    let segment_bytes = *dice.pick(&[2_048_u32, 8_192, 65_536]);
    vec![
        ("log.segment.bytes", segment_bytes.to_string()),
        ("log.index.size.max.bytes", "4096".to_owned()),
        (
            "log.index.interval.bytes",
            dice.pick(&[100_u32, 1_000]).to_string(),
        ),
        ("log.retention.ms", "-1".to_owned()),
        ("auto.create.topics.enable", "false".to_owned()),
        ("offsets.topic.num.partitions", "2".to_owned()),
        (
            "offsets.topic.segment.bytes",
            dice.pick(&[4_096_u32, 65_536]).to_string(),
        ),
        ("transaction.state.log.num.partitions", "2".to_owned()),
        (
            "transaction.state.log.segment.bytes",
            dice.pick(&[4_096_u32, 65_536]).to_string(),
        ),
        (
            "transaction.abort.timed.out.transaction.cleanup.interval.ms",
            "500".to_owned(),
        ),
        ("group.min.session.timeout.ms", "1000".to_owned()),
        (
            "group.initial.rebalance.delay.ms",
            dice.below(500).to_string(),
        ),
        ("flumen.flush.threads", dice.range(1, 5).to_string()),
    ]
}

/// How often each kind of fault comes, of a hundred.
struct Weights {
    broker: u64,
    host: u64,
    pause: u64,
    link: u64,
    wire: u64,
    disk: u64,
}

fn weights(profile: Profile) -> Weights {
    let of = |[broker, host, pause, link, wire, disk]: [u64; 6]| Weights {
        broker,
        host,
        pause,
        link,
        wire,
        disk,
    };
    match profile {
        Profile::Mixed => of([20, 15, 10, 15, 20, 10]),
        Profile::Restarts => of([65, 5, 5, 5, 10, 5]),
        Profile::Transactions => of([15, 15, 20, 5, 45, 0]),
        Profile::Groups => of([15, 30, 30, 10, 15, 0]),
        Profile::Disk => of([15, 5, 0, 5, 10, 60]),
        Profile::Network => of([5, 5, 20, 30, 40, 0]),
    }
}

fn faults(
    profile: Profile,
    hosts: &[Host],
    calm_at: Duration,
    dice: &mut Dice,
) -> Vec<(Duration, Action)> {
    let weights = weights(profile);
    let mut faults = Vec::new();
    let mut at = dice.millis(500, 2_000);
    while at < calm_at {
        faults.push((at, bearable(action(&weights, hosts, dice), hosts)));
        at += match profile {
            Profile::Restarts => dice.millis(200, 2_000),
            _ => dice.millis(50, 1_000),
        };
    }
    faults
}

fn action(weights: &Weights, hosts: &[Host], dice: &mut Dice) -> Action {
    let host = victim(hosts, dice);
    let mut roll = dice.below(100);
    let mut falls = |weight: u64| {
        let hit = roll < weight;
        roll = roll.wrapping_sub(weight);
        hit
    };
    if falls(weights.broker) {
        return broker_dies(dice);
    }
    if falls(weights.host) {
        return host_dies(host, dice);
    }
    if falls(weights.pause) {
        let lasting = dice.millis(500, 7_000);
        return Action::Pause { host, lasting };
    }
    if falls(weights.link) {
        return link(host, dice);
    }
    if falls(weights.wire) {
        return wire(host, dice);
    }
    if falls(weights.disk) {
        return disk(dice);
    }
    let off_ms = i64::try_from(dice.below(7_200_000)).unwrap() - 3_600_000;
    match dice.chance(50) {
        true => Action::BrokerClock { off_ms },
        false => Action::ClientClocks { off_ms },
    }
}

/// Whose fault it is to be: a host with state of its own more often than the others.
fn victim(hosts: &[Host], dice: &mut Dice) -> usize {
    let any = usize::try_from(dice.below(hosts.len() as u64)).unwrap();
    let keeps = |host: &Host| matches!(host.kind, Kind::Topology(_) | Kind::Connectors(_));
    let keeper = hosts.iter().position(keeps);
    keeper.filter(|_| dice.chance(30)).unwrap_or(any)
}

/// A group takes an offset that comes late for a new one: Kafka's commits have no sequence. So what a plain member has sent comes in time,
/// or never.
fn bearable(action: Action, hosts: &[Host]) -> Action {
    let is_member = |host: usize| matches!(hosts[host].kind, Kind::Group(_));
    match action {
        Action::Slow { host, lasting, .. } if is_member(host) => {
            Action::Partition { host, lasting }
        }
        Action::Detach { host, order } if is_member(host) => Action::Detach {
            host,
            order: Detach {
                delay: Duration::ZERO,
                ..order
            },
        },
        action => action,
    }
}

/// Half of all deaths leave any part of what was not synced.
pub(crate) fn crash(dice: &mut Dice) -> Crash {
    match dice.chance(50) {
        true => *dice.pick(&[Crash::Tear, Crash::Mixed]),
        false => *dice.pick(&Crash::ALL),
    }
}

fn broker_dies(dice: &mut Dice) -> Action {
    let how = crash(dice);
    Action::BrokerDies {
        how,
        after: dice.chance(70).then(|| dice.range(1, 60)),
        silent: how != Crash::KeepAll && dice.chance(50),
        down: dice.millis(10, 1_500),
        again: dice.chance(30).then(|| dice.range(1, 80)),
    }
}

fn host_dies(host: usize, dice: &mut Dice) -> Action {
    let at = dice.chance(50).then(|| LastWord {
        skip: u32::try_from(dice.below(40)).unwrap(),
        sent: dice.chance(50),
    });
    let down = dice.millis(10, 4_000);
    Action::HostDies { host, down, at }
}

fn link(host: usize, dice: &mut Dice) -> Action {
    match dice.chance(60) {
        true => Action::Partition {
            host,
            lasting: dice.millis(100, 5_000),
        },
        false => Action::Slow {
            host,
            latency: dice.millis(100, 1_500),
            lasting: dice.millis(500, 4_000),
        },
    }
}

fn wire(host: usize, dice: &mut Dice) -> Action {
    if dice.chance(25) {
        return Action::Cut { host };
    }
    let order = Detach {
        skip: u32::try_from(dice.below(8)).unwrap(),
        delay: match dice.chance(40) {
            true => Duration::ZERO,
            false => dice.millis(10, 6_000),
        },
        hangs: dice.chance(30),
    };
    Action::Detach { host, order }
}

fn disk(dice: &mut Dice) -> Action {
    match dice.below(10) {
        0..=5 => disk_fails(dice),
        6 | 7 => Action::DiskFull {
            free: dice.below(3_000),
            lasting: dice.millis(200, 4_000),
        },
        _ => Action::DiskSlow {
            by: dice.millis(20, 800),
            lasting: dice.millis(500, 4_000),
        },
    }
}

fn disk_fails(dice: &mut Dice) -> Action {
    let (kind, fault) = *dice.pick(&[
        (Operation::Sync, Fault::Io),
        (Operation::Sync, Fault::Io),
        (Operation::SyncDir, Fault::Io),
        (Operation::Read, Fault::Io),
        (Operation::Write, Fault::Io),
        (Operation::Write, Fault::ShortWrite(100)),
        (Operation::SetLen, Fault::Io),
        (Operation::Create, Fault::Io),
        (Operation::Rename, Fault::Io),
    ]);
    Action::DiskFails {
        kind,
        nth: dice.range(1, 20),
        fault,
        restart: dice.millis(100, 3_000),
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {} leans on {:?}", self.seed, self.profile)?;
        writeln!(
            f,
            "  messages take {:?} to {:?}, the disk {:?} more, requests are given up after {:?}, sessions last {:?}, transactions {:?}",
            self.latency.0,
            self.latency.1,
            self.turn,
            self.request_timeout,
            self.session_timeout,
            self.transaction_timeout
        )?;
        for (name, value) in &self.properties {
            writeln!(f, "  {name}={value}")?;
        }
        for topic in &self.topics {
            writeln!(
                f,
                "  topic {} of {} partitions",
                topic.name, topic.partitions
            )?;
        }
        for (number, host) in self.hosts.iter().enumerate() {
            writeln!(f, "  host {number} {}: {:?}", host.name, host.kind)?;
        }
        for (at, action) in &self.faults {
            writeln!(f, "  {at:?} {action:?}")?;
        }
        writeln!(f, "  {:?} calm", self.calm_at)
    }
}
