//! Carries out the faults of a plan, and mends what they broke when their time is over.
//!
//! Decides nothing by itself: the plan says what and when. Watches the broker's process as a supervisor would: it is started again when it
//! has died, given up, or fenced its log directory.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use flumen_checker::What;
use flumen_log::fault_disk::Crash;

use crate::dice::Dice;
use crate::disk::Failing;
use crate::drivers::set_clients_off_ms;
use crate::plan::{Action, Plan};
use crate::world::{BROKER, World, role};

/// A supervisor starts a process that gave up again after this time.
const RESTART_AFTER: Duration = Duration::from_millis(300);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum BrokerState {
    Runs,
    /// It dies at an operation of its disk, or at `latest` if there is none.
    Dying {
        death: Death,
        latest: Duration,
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
            dice: Dice::new(plan.seed, "nemesis"),
        }
    }

    /// Between two steps: everything that is due.
    pub(crate) fn act(&mut self, world: &mut World<'_>) {
        let now = world.sim.elapsed();
        self.watch(world);
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
                self.broker_dies(world, death);
            }
            BrokerState::Down { until, again } if now >= until => self.broker_starts(world, again),
            BrokerState::Runs if world.broker.exited.get() => {
                world.recorder.counters.failed_starts.add(1);
                self.broker_dies(world, Death::of_process());
            }
            BrokerState::Runs if world.broker.machine.sync_failed() => {
                let failed_at = *self.failed_at.get_or_insert(now);
                if now >= failed_at + self.restart_after {
                    self.broker_dies(world, Death::of_process());
                }
            }
            _ => {}
        }
    }

    /// The end of all faults.
    pub(crate) fn calm(&mut self, world: &mut World<'_>) {
        self.faults.clear();
        for mend in std::mem::take(&mut self.mends).into_values() {
            self.mend(world, mend);
        }
        world.broker.machine.heal();
        for wires in &world.wires {
            wires.attach_all();
        }
        if let BrokerState::Dying { death, .. } = self.broker {
            self.broker_dies(world, death);
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
            Action::HostDies { host, down } => self.host_dies(world, host, down),
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
                what,
                skip,
                restart,
            } => {
                if what == Failing::Sync {
                    self.restart_after = restart;
                }
                world.broker.machine.fail(what, skip);
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
            Mend::HostStarts(host) => {
                world.sim.bounce(name(world, host));
                world.recorder.world(What::Restarted { host: role(host) });
            }
            // A silenced broker stays so until it starts.
            Mend::Release(_) | Mend::Repair(_) if self.silenced => {}
            Mend::Release(host) => world.sim.release(name(world, host), "broker"),
            Mend::Repair(host) => world.sim.repair(name(world, host), "broker"),
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

    fn host_dies(&mut self, world: &mut World<'_>, host: usize, down: Duration) {
        let host_name = name(world, host);
        if !world.sim.is_host_running(host_name.as_str()) {
            return;
        }
        world.recorder.counters.client_crashes.add(1);
        world.recorder.world(What::Crashed { host: role(host) });
        world.sim.crash(host_name);
        self.later(world.sim.elapsed() + down, Mend::HostStarts(host));
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
            None => self.broker_dies(world, death),
            Some(operations) => {
                world.broker.machine.power_off_after(operations);
                let latest = world.sim.elapsed() + Duration::from_secs(2);
                self.broker = BrokerState::Dying { death, latest };
            }
        }
    }

    fn broker_dies(&mut self, world: &mut World<'_>, death: Death) {
        let counters = &world.recorder.counters;
        let by_kind = match death.how {
            Crash::KeepAll => &counters.broker_kills,
            Crash::LoseUnsynced => &counters.power_lose_unsynced,
            Crash::Prefix => &counters.power_prefix,
            Crash::Tear => &counters.power_tear,
            Crash::ZeroFill => &counters.power_zero_fill,
            Crash::LoseLength => &counters.power_lose_length,
        };
        by_kind.add(1);
        if world.broker.machine.is_off() {
            counters.crashes_between_disk_operations.add(1);
        }
        if !world.broker.serves.get() {
            counters.crashes_in_recovery.add(1);
        }
        world.recorder.world(What::Crashed { host: BROKER });
        if death.silent {
            self.silenced = true;
            for host in 0..world.plan.hosts.len() {
                world.sim.partition(name(world, host), "broker");
            }
        }
        world.sim.crash("broker");
        world.broker.serves.set(false);
        world.broker.exited.set(false);
        world.broker.machine.crash(death.how, self.dice.next());
        self.failed_at = None;
        self.broker = BrokerState::Down {
            until: world.sim.elapsed() + death.down,
            again: death.again,
        };
    }

    fn broker_starts(&mut self, world: &mut World<'_>, again: Option<u64>) {
        if std::mem::take(&mut self.silenced) {
            for host in 0..world.plan.hosts.len() {
                world.sim.repair(name(world, host), "broker");
            }
        }
        world.recorder.world(What::Restarted { host: BROKER });
        world.sim.bounce("broker");
        self.broker = match again {
            None => BrokerState::Runs,
            Some(operations) => {
                world.broker.machine.power_off_after(operations);
                let death = Death {
                    how: *self.dice.pick(&Crash::ALL),
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
