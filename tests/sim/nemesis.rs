//! Carries out the faults of a plan, and mends what they broke when their time is over.
//!
//! Decides nothing by itself: the plan says what and when. Watches the broker's process as a supervisor would: it is started again when it
//! has died, given up, or fenced its log directory.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::time::Duration;

use flumen_checker::What;
use flumen_log::fault_disk::{Crash, Kind};

use crate::dice::Dice;
use crate::drivers::set_clients_off_ms;
use crate::plan::{Action, Plan, crash};
use crate::world::{BROKER, World, role};

/// A supervisor starts a process that gave up again after this time.
const RESTART_AFTER: Duration = Duration::from_millis(300);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum BrokerState {
    Runs,
    /// The power goes at an operation of its disk, or at `latest` if there is none.
    Dying {
        death: Death,
        latest: Duration,
    },
    /// The power is off; what had been sent before is still on its way.
    Silent {
        death: Death,
        until: Duration,
    },
    Down {
        until: Duration,
        again: Option<u64>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Death {
    how: Crash,
    silent: bool,
    down: Duration,
    again: Option<u64>,
}

#[derive(Clone, Copy, Debug)]
enum Mend {
    HostEnds(usize, Duration),
    HostStarts(usize),
    Release(usize),
    Repair(usize),
    Quick(usize),
    Space,
    DiskQuick,
}

pub(crate) struct Nemesis {
    /// What is still to come, the next last.
    faults: Vec<(Duration, Action)>,
    mends: BTreeMap<(Duration, u64), Mend>,
    next_mend: u64,
    broker: BrokerState,
    /// When the broker is started again after a flush has failed.
    restart_after: Duration,
    failed_at: Option<Duration>,
    /// Nobody hears the broker.
    silenced: bool,
    /// Hosts that are dying or dead.
    dying: BTreeSet<usize>,
    /// Hosts that die at one of their next requests, or at a time if they send none; and how long they are down then.
    doomed: BTreeMap<usize, (Duration, Duration)>,
    dice: Dice,
}

impl Nemesis {
    pub(crate) fn new(plan: &Plan) -> Nemesis {
        let mut faults = plan.faults.clone();
        faults.reverse();
        Nemesis {
            faults,
            mends: BTreeMap::new(),
            next_mend: 0,
            broker: BrokerState::Runs,
            restart_after: RESTART_AFTER,
            failed_at: None,
            silenced: false,
            dying: BTreeSet::new(),
            doomed: BTreeMap::new(),
            dice: Dice::new(plan.seed, "nemesis"),
        }
    }

    /// Between two steps: everything that is due.
    pub(crate) fn act(&mut self, world: &mut World<'_>) {
        let now = world.sim.elapsed();
        self.watch(world);
        self.doom(world);
        while let Some((&key, _)) = self.mends.first_key_value()
            && key.0 <= now
        {
            let mend = self.mends.remove(&key).expect("just seen");
            self.mend(world, mend);
        }
        while self.faults.last().is_some_and(|(at, _)| *at <= now) {
            let (_, action) = self.faults.pop().expect("just seen");
            self.begin(world, action);
        }
    }

    /// The supervisor's part of it.
    pub(crate) fn watch(&mut self, world: &mut World<'_>) {
        let now = world.sim.elapsed();
        match self.broker {
            BrokerState::Dying { death, latest }
                if world.broker.machine.is_off() || now >= latest =>
            {
                if world.broker.machine.is_off() {
                    world
                        .recorder
                        .counters
                        .crashes_between_disk_operations
                        .add(1);
                }
                self.power_off(world, death);
            }
            BrokerState::Silent { death, until } if now >= until => self.broker_ends(world, death),
            BrokerState::Down { until, again } if now >= until => self.broker_starts(world, again),
            BrokerState::Runs if world.broker.exited.get() => {
                world.recorder.counters.failed_starts.add(1);
                self.power_off(world, Death::of_process());
            }
            BrokerState::Runs if world.broker.machine.sync_failed() => {
                let failed_at = *self.failed_at.get_or_insert(now);
                if now >= failed_at + self.restart_after {
                    self.power_off(world, Death::of_process());
                }
            }
            _ => {}
        }
    }

    /// The end of all faults.
    pub(crate) fn calm(&mut self, world: &mut World<'_>) {
        self.faults.clear();
        self.doom(world);
        for host in std::mem::take(&mut self.doomed).into_keys() {
            world.wires[host].set_last_word(None);
        }
        while let Some((_, mend)) = self.mends.pop_first() {
            self.mend(world, mend);
        }
        let machine = &world.broker.machine;
        machine.heal();
        if self.broker == BrokerState::Runs && machine.failed() {
            // A log that could not undo a failed write takes no more until somebody has looked at the disk and started it again.
            self.power_off(world, Death::of_process());
        }
        for wires in &world.wires {
            wires.attach_all();
        }
        if let BrokerState::Dying { death, .. } | BrokerState::Silent { death, .. } = self.broker {
            self.broker_ends(world, death);
        }
        if let BrokerState::Down { .. } = self.broker {
            self.broker_starts(world, None);
        }
        self.restart_after = RESTART_AFTER;
        world.broker.off_ms.store(0, Ordering::Relaxed);
        set_clients_off_ms(0);
    }

    fn begin(&mut self, world: &mut World<'_>, action: Action) {
        let now = world.sim.elapsed();
        let counters = &world.recorder.counters;
        match action {
            Action::BrokerDies { .. } => self.order_death(world, action),
            Action::HostDies {
                host,
                down,
                at: None,
            } => self.host_dies(world, host, down),
            Action::HostDies { host, down, at } => {
                if !self.dying.contains(&host) {
                    world.wires[host].set_last_word(at);
                    let latest = now + Duration::from_secs(2);
                    self.doomed.insert(host, (latest, down));
                }
            }
            Action::Pause { host, lasting } => {
                counters.pauses.add(1);
                world.sim.hold(name(world, host), "broker");
                self.later(now + lasting, Mend::Release(host));
            }
            Action::Partition { host, lasting } => {
                counters.partitions.add(1);
                world.sim.partition(name(world, host), "broker");
                self.later(now + lasting, Mend::Repair(host));
            }
            Action::Slow {
                host,
                latency,
                lasting,
            } => {
                counters.slow_links.add(1);
                let host_name = name(world, host);
                world
                    .sim
                    .set_link_max_message_latency(host_name, "broker", latency);
                self.later(now + lasting, Mend::Quick(host));
            }
            Action::Cut { host } => world.wires[host].cut(),
            Action::Detach { host, order } => world.wires[host].detach(order),
            Action::DiskFails {
                kind,
                nth,
                fault,
                restart,
            } => {
                if matches!(kind, Kind::Sync | Kind::SyncDir) {
                    self.restart_after = restart;
                }
                world.broker.machine.fail(kind, nth, fault);
            }
            Action::DiskFull { free, lasting } => {
                counters.full_disks.add(1);
                world.broker.machine.limit(Some(free));
                self.later(now + lasting, Mend::Space);
            }
            Action::DiskSlow { by, lasting } => {
                counters.slow_disks.add(1);
                world.broker.machine.set_slow(by);
                self.later(now + lasting, Mend::DiskQuick);
            }
            Action::BrokerClock { off_ms } => {
                counters.clock_steps.add(1);
                world.broker.off_ms.store(off_ms, Ordering::Relaxed);
            }
            Action::ClientClocks { off_ms } => {
                counters.clock_steps.add(1);
                set_clients_off_ms(off_ms);
            }
        }
    }

    fn later(&mut self, at: Duration, mend: Mend) {
        self.mends.insert((at, self.next_mend), mend);
        self.next_mend += 1;
    }

    fn mend(&mut self, world: &mut World<'_>, mend: Mend) {
        match mend {
            Mend::HostEnds(host, down) => self.host_ends(world, host, down),
            Mend::HostStarts(host) => self.host_starts(world, host),
            Mend::Release(host) if !self.silenced && !self.dying.contains(&host) => {
                world.sim.release(name(world, host), "broker");
            }
            Mend::Release(_) => {}
            Mend::Repair(host) => self.repair(world, host),
            Mend::Quick(host) => {
                let latency = world.plan.latency.1;
                world
                    .sim
                    .set_link_max_message_latency(name(world, host), "broker", latency);
            }
            Mend::Space => world.broker.machine.limit(None),
            Mend::DiskQuick => world.broker.machine.set_slow(Duration::ZERO),
        }
    }

    /// Those who have said their last word, or have none to say, die.
    fn doom(&mut self, world: &mut World<'_>) {
        let now = world.sim.elapsed();
        let silent = |host: &usize| world.wires[*host].is_mute();
        let due = |(host, (latest, _)): (&usize, &(Duration, Duration))| {
            (silent(host) || *latest <= now).then_some(*host)
        };
        let hosts: Vec<usize> = self.doomed.iter().filter_map(due).collect();
        for host in hosts {
            let (_, down) = self.doomed.remove(&host).expect("just seen");
            if world.wires[host].is_mute() {
                let counters = &world.recorder.counters;
                counters.client_crashes_at_requests.add(1);
            }
            self.host_dies(world, host, down);
        }
    }

    /// It falls silent; when what it had sent has arrived, it ends.
    fn host_dies(&mut self, world: &mut World<'_>, host: usize, down: Duration) {
        if self.dying.contains(&host) || !world.sim.is_host_running(name(world, host)) {
            return;
        }
        self.dying.insert(host);
        self.doomed.remove(&host);
        world.wires[host].set_last_word(None);
        world.wires[host].set_mute(true);
        let at = world.sim.elapsed() + world.plan.latency.1;
        self.later(at, Mend::HostEnds(host, down));
    }

    fn host_ends(&mut self, world: &mut World<'_>, host: usize, down: Duration) {
        let host_name = name(world, host);
        world.recorder.counters.client_crashes.add(1);
        world.recorder.world(What::Crashed { host: role(host) });
        world.sim.partition(host_name.as_str(), "broker");
        world.sim.crash(host_name.as_str());
        if down.as_millis().is_multiple_of(2) {
            // The kernel tells the broker; else the machine is gone.
            let address = world.sim.lookup(host_name);
            world.broker.wires.cut_from(address);
        }
        self.later(world.sim.elapsed() + down, Mend::HostStarts(host));
    }

    fn host_starts(&mut self, world: &mut World<'_>, host: usize) {
        self.dying.remove(&host);
        world.wires[host].set_mute(false);
        self.repair(world, host);
        world.sim.bounce(name(world, host));
        world.recorder.world(What::Restarted { host: role(host) });
    }

    /// What is sent arrives again, unless something else is in the way.
    fn repair(&self, world: &World<'_>, host: usize) {
        if !self.silenced && !self.dying.contains(&host) {
            world.sim.repair(name(world, host), "broker");
        }
    }

    fn order_death(&mut self, world: &mut World<'_>, action: Action) {
        let Action::BrokerDies {
            how,
            after,
            silent,
            down,
            again,
        } = action
        else {
            return;
        };
        if self.broker != BrokerState::Runs {
            return;
        }
        let death = Death {
            how,
            silent,
            down,
            again,
        };
        match after {
            None => self.power_off(world, death),
            Some(operations) => {
                world.broker.machine.power_off_after(operations);
                let latest = world.sim.elapsed() + Duration::from_secs(2);
                self.broker = BrokerState::Dying { death, latest };
            }
        }
    }

    /// From now on it does nothing that lasts, and says nothing.
    fn power_off(&mut self, world: &mut World<'_>, death: Death) {
        world.broker.machine.power_off();
        let until = world.sim.elapsed() + world.plan.latency.1;
        self.broker = BrokerState::Silent { death, until };
    }

    fn broker_ends(&mut self, world: &mut World<'_>, death: Death) {
        self.count_death(world, death.how);
        world.recorder.world(What::Crashed { host: BROKER });
        self.silenced = true;
        for host in 0..world.plan.hosts.len() {
            world.sim.partition(name(world, host), "broker");
        }
        world.sim.crash("broker");
        if !death.silent {
            world.wires.iter().for_each(|wires| wires.cut());
        }
        world.broker.serves.set(false);
        world.broker.exited.set(false);
        world.broker.machine.crash(death.how, self.dice.next());
        self.failed_at = None;
        self.broker = BrokerState::Down {
            until: world.sim.elapsed() + death.down,
            again: death.again,
        };
    }

    fn count_death(&self, world: &World<'_>, how: Crash) {
        let counters = &world.recorder.counters;
        let by_kind = match how {
            Crash::KeepAll => &counters.broker_kills,
            Crash::LoseUnsynced => &counters.power_lose_unsynced,
            Crash::Prefix => &counters.power_prefix,
            Crash::Tear => &counters.power_tear,
            Crash::ZeroFill => &counters.power_zero_fill,
            Crash::LoseLength => &counters.power_lose_length,
            Crash::Stale => &counters.power_stale,
            Crash::LengthAhead => &counters.power_length_ahead,
            Crash::Mixed => &counters.power_mixed,
        };
        by_kind.add(1);
        if !world.broker.serves.get() {
            counters.crashes_in_recovery.add(1);
        }
    }

    fn broker_starts(&mut self, world: &mut World<'_>, again: Option<u64>) {
        self.silenced = false;
        for host in 0..world.plan.hosts.len() {
            self.repair(world, host);
        }
        world.recorder.world(What::Restarted { host: BROKER });
        world.sim.bounce("broker");
        self.broker = match again {
            None => BrokerState::Runs,
            Some(operations) => {
                world.broker.machine.power_off_after(operations);
                let death = Death {
                    how: crash(&mut self.dice),
                    silent: false,
                    down: self.dice.millis(10, 500),
                    again: self.dice.chance(30).then(|| self.dice.range(1, 80)),
                };
                let latest = world.sim.elapsed() + Duration::from_secs(1);
                BrokerState::Dying { death, latest }
            }
        };
    }
}

impl Death {
    /// The process ends; the machine stays.
    fn of_process() -> Death {
        Death {
            how: Crash::KeepAll,
            silent: false,
            down: RESTART_AFTER,
            again: None,
        }
    }
}

fn name(world: &World<'_>, host: usize) -> String {
    world.plan.hosts[host].name.clone()
}
