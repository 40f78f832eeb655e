//! One run of one plan: the broker that ships and the hosts of the workload on a simulated network, in virtual time.
//!
//! Four acts: work among faults; calm, in which everybody must move; stop, in which everybody must finish; audit, in which everything is
//! read. The nemesis acts between two steps of the network.

use std::cell::Cell;
use std::fmt;
use std::rc::Rc;
use std::sync::atomic::AtomicI64;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use flumen_broker::config::BrokerConfig;
use flumen_broker::{Broker, Drivers};
use flumen_checker::{History, What};
use tokio::sync::watch;

use crate::dice::Dice;
use crate::disk::Machine;
use crate::drivers::{SimClock, SimEntropy, SimTasks, set_clients_off_ms};
use crate::nemesis::Nemesis;
use crate::network::{BrokerNetwork, Wires};
use crate::oracle::Copies;
use crate::panics;
use crate::plan::Plan;
use crate::recorder::Recorder;
use crate::summary::Counters;
use crate::workload::{Kind, Phase, Stage};

/// The broker's number in the history; the workload's hosts follow.
pub(crate) const BROKER: u32 = 1;
/// A step of the network.
const TICK: Duration = Duration::from_millis(4);
/// After the faults everybody moves within this time.
const MOVES_WITHIN: Duration = Duration::from_secs(30);
/// And finishes within this one.
const FINISHES_WITHIN: Duration = Duration::from_secs(120);

/// A transaction ends this much later than its timeout.
const ENDS_WITHIN: Duration = Duration::from_secs(2);

/// What a run has shown.
pub(crate) struct Outcome {
    pub(crate) history: History,
    pub(crate) notes: Vec<String>,
    pub(crate) copies: Copies,
    /// What hosts found wrong by rules of their own.
    pub(crate) flaws: Vec<String>,
    pub(crate) counters: Arc<Counters>,
    /// Why the run could not go on, if it could not.
    pub(crate) stuck: Option<String>,
}

impl fmt::Display for Outcome {
    /// Everything: two runs of one seed print the same.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.history)?;
        for note in &self.notes {
            writeln!(f, "{note}")?;
        }
        write!(f, "{}", self.counters)
    }
}

/// The broker's machine and what is told about its software.
#[derive(Clone)]
pub(crate) struct BrokerHost {
    pub(crate) machine: Arc<Machine>,
    pub(crate) off_ms: Arc<AtomicI64>,
    /// The software has given up; the process is over.
    pub(crate) exited: Rc<Cell<bool>>,
    /// The software takes connections.
    pub(crate) serves: Rc<Cell<bool>>,
    /// Its connections.
    pub(crate) wires: Arc<Wires>,
    lives: Rc<Cell<u64>>,
}

impl BrokerHost {
    async fn run(self, plan: Arc<Plan>, recorder: Recorder) -> turmoil::Result {
        self.exited.set(false);
        self.serves.set(false);
        self.lives.set(self.lives.get() + 1);
        let life = self.lives.get();
        let (disk, power) = self.machine.boot();
        let dice = |purpose: &str| Mutex::new(Dice::new(plan.seed, &format!("{purpose}/{life}")));
        let drivers = Drivers {
            disk,
            clock: Arc::new(SimClock {
                off_ms: Arc::clone(&self.off_ms),
            }),
            network: Arc::new(BrokerNetwork {
                power: Arc::clone(&power),
                wires: Arc::clone(&self.wires),
            }),
            entropy: Arc::new(SimEntropy(dice("entropy"))),
            tasks: Arc::new(SimTasks {
                dice: dice("tasks"),
                turn: plan.turn,
                machine: Arc::clone(&self.machine),
                power,
            }),
        };
        let own = [
            ("log.dirs", "/data"),
            ("listeners", "PLAINTEXT://0.0.0.0:9092"),
            ("advertised.listeners", "PLAINTEXT://broker:9092"),
        ];
        let of_plan = plan
            .properties
            .iter()
            .map(|(name, value)| (*name, value.as_str()));
        let config = BrokerConfig::from_properties(own.into_iter().chain(of_plan))?;
        let broker = Broker::start(config, drivers).await;
        match &broker {
            Ok(_) => {
                self.serves.set(true);
                recorder.note(format_args!("broker: life {life} serves"));
            }
            Err(error) => {
                self.exited.set(true);
                recorder.note(format_args!("broker: life {life} does not start: {error}"));
            }
        }
        std::future::pending().await
    }
}

/// The run as the nemesis sees it.
pub(crate) struct World<'a> {
    pub(crate) sim: turmoil::Sim<'a>,
    pub(crate) plan: Arc<Plan>,
    pub(crate) recorder: Recorder,
    pub(crate) broker: BrokerHost,
    /// The connections of each host of the plan.
    pub(crate) wires: Vec<Arc<Wires>>,
    phase: watch::Sender<Phase>,
}

/// Runs a plan to its end.
pub(crate) fn run(plan: Plan) -> Outcome {
    panics::listen();
    let plan = Arc::new(plan);
    let mut world = World::new(Arc::clone(&plan));
    let stuck = world.acts().err();
    let counters = Arc::clone(&world.recorder.counters);
    counters
        .virtual_ms
        .add(u64::try_from(world.sim.elapsed().as_millis()).unwrap());
    let machine = &world.broker.machine;
    counters.disk_operations.add(machine.operations());
    counters.add_disk(&machine.injected());
    let recorder = world.recorder.clone();
    let ledger = recorder.ledger();
    counters.tables_read.add(ledger.reads());
    counters.records_compacted.add(ledger.compacted());
    if let Some(wrong) = ledger.check() {
        recorder.flaw(wrong);
    }
    drop(world);
    panics::ignore();
    Outcome {
        history: recorder.history(),
        notes: recorder.notes(),
        copies: recorder.copies(),
        flaws: recorder.flaws(),
        counters,
        stuck,
    }
}

impl World<'_> {
    fn new(plan: Arc<Plan>) -> Self {
        set_clients_off_ms(0);
        let counters = Arc::new(Counters::default());
        let recorder = Recorder::new(Arc::clone(&counters));
        recorder.name_role(BROKER, "broker");
        let mut sim = turmoil::Builder::new()
            .rng_seed(plan.seed)
            .tick_duration(TICK)
            .simulation_duration(Duration::from_secs(86_400))
            .tcp_capacity(4_096)
            .min_message_latency(plan.latency.0)
            .max_message_latency(plan.latency.1)
            .enable_random_order()
            .build();
        let broker = BrokerHost {
            machine: Machine::new(),
            off_ms: Arc::default(),
            exited: Rc::default(),
            serves: Rc::default(),
            wires: Wires::new(Arc::clone(&counters)),
            lives: Rc::default(),
        };
        let (phase, _) = watch::channel(Phase::Work);
        let (host, own_plan, own_recorder) = (broker.clone(), Arc::clone(&plan), recorder.clone());
        sim.host("broker", move || {
            host.clone()
                .run(Arc::clone(&own_plan), own_recorder.clone())
        });
        let mut wires = Vec::new();
        for (number, host) in plan.hosts.iter().enumerate() {
            let role = role(number);
            recorder.name_role(role, &host.name);
            let own = Wires::new(Arc::clone(&counters));
            wires.push(Arc::clone(&own));
            let stage = Stage {
                plan: Arc::clone(&plan),
                name: host.name.clone(),
                role,
                phase: phase.subscribe(),
                recorder: recorder.clone(),
                wires: own,
                disk: Arc::default(),
                life: 0,
            };
            let (kind, lives) = (host.kind.clone(), Cell::new(0));
            sim.host(host.name.as_str(), move || {
                lives.set(lives.get() + 1);
                kind.run(Stage {
                    life: lives.get(),
                    ..stage.clone()
                })
            });
        }
        World {
            sim,
            plan,
            recorder,
            broker,
            wires,
            phase,
        }
    }

    fn acts(&mut self) -> Result<(), String> {
        let mut nemesis = Nemesis::new(&self.plan);
        while self.sim.elapsed() < self.plan.calm_at {
            nemesis.act(self);
            self.step()?;
        }
        nemesis.calm(self);
        self.recorder.set_now(self.sim.elapsed());
        self.recorder.world(What::FaultsStopped {
            expected: self.workers(),
        });
        self.calm(&mut nemesis)?;
        self.phase.send_replace(Phase::Stop);
        self.until_finished(&mut nemesis, |kind| !matches!(kind, Kind::Auditor))?;
        // What was left open ends by its timeout.
        let settled = self.sim.elapsed() + self.plan.transaction_timeout + ENDS_WITHIN;
        while self.sim.elapsed() < settled {
            nemesis.watch(self);
            self.step()?;
        }
        self.phase.send_replace(Phase::Audit);
        self.until_finished(&mut nemesis, |kind| matches!(kind, Kind::Auditor))
    }

    /// Until everybody has moved. Who does not is the checker's to name.
    fn calm(&mut self, nemesis: &mut Nemesis) -> Result<(), String> {
        let workers = self.workers();
        let until = self.sim.elapsed() + MOVES_WITHIN;
        let mut looked = self.sim.elapsed();
        while self.sim.elapsed() < until {
            nemesis.watch(self);
            self.step()?;
            if self.sim.elapsed() > looked + Duration::from_millis(100) {
                looked = self.sim.elapsed();
                let moved = self.recorder.moved();
                if workers.iter().all(|role| moved.contains(role)) {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn until_finished(
        &mut self,
        nemesis: &mut Nemesis,
        whose: impl Fn(&Kind) -> bool,
    ) -> Result<(), String> {
        let plan = Arc::clone(&self.plan);
        let until = self.sim.elapsed() + FINISHES_WITHIN;
        loop {
            let runs: Vec<&str> = plan
                .hosts
                .iter()
                .filter(|host| whose(&host.kind))
                .map(|host| host.name.as_str())
                .filter(|name| self.sim.is_host_running(*name))
                .collect();
            if runs.is_empty() {
                return Ok(());
            }
            if self.sim.elapsed() > until {
                return Err(format!(
                    "{FINISHES_WITHIN:?} after they were told to finish these had not: {}",
                    runs.join(", ")
                ));
            }
            for _ in 0..20 {
                nemesis.watch(self);
                self.step()?;
            }
        }
    }

    fn step(&mut self) -> Result<(), String> {
        self.recorder.set_now(self.sim.elapsed());
        let stepped = self.sim.step();
        let panicked = panics::take();
        // Without power nothing happens, whatever the software still tries.
        if let Some(panic) = panicked.first()
            && !self.broker.machine.is_off()
        {
            return Err(format!("a task panicked: {panic}"));
        }
        stepped
            .map(|_| ())
            .map_err(|error| format!("a host failed: {error}"))
    }

    /// The roles that must move: everybody but the auditor, who reads at the end.
    fn workers(&self) -> Vec<u32> {
        let hosts = self.plan.hosts.iter().enumerate();
        hosts
            .filter(|(_, host)| !matches!(host.kind, Kind::Auditor))
            .map(|(number, _)| role(number))
            .collect()
    }
}

/// The role of a host of the plan.
pub(crate) fn role(host: usize) -> u32 {
    BROKER + 1 + u32::try_from(host).unwrap()
}
