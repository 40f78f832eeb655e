//! The machine's tasks, some of which wait until they are let go: what a test needs to stand between two steps of the broker.

use std::collections::BTreeSet;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use flumen_broker::Drivers;
use flumen_broker::driver::Tasks;

type Task = Pin<Box<dyn Future<Output = ()> + Send>>;
type Work = Box<dyn FnOnce() + Send>;

/// See the head of the file.
pub(crate) struct HeldTasks {
    machine: Arc<dyn Tasks>,
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    names: BTreeSet<&'static str>,
    blocking: bool,
    tasks: Vec<(&'static str, Task)>,
    work: Vec<Work>,
}

impl HeldTasks {
    /// A machine that holds nothing yet.
    pub(crate) fn machine() -> (Drivers, Arc<HeldTasks>) {
        let os = Drivers::os();
        let held = Arc::new(HeldTasks {
            machine: Arc::clone(&os.tasks),
            held: Mutex::default(),
        });
        let drivers = Drivers {
            tasks: held.clone(),
            ..os
        };
        (drivers, held)
    }

    /// Holds every task of this name from now on.
    pub(crate) fn hold(&self, name: &'static str) {
        self.held.lock().unwrap().names.insert(name);
    }

    /// Holds the blocking work from now on: the flushes.
    pub(crate) fn hold_blocking(&self) {
        self.held.lock().unwrap().blocking = true;
    }

    /// How many pieces of blocking work wait.
    pub(crate) fn waiting(&self) -> usize {
        self.held.lock().unwrap().work.len()
    }

    /// Drops what waits: the process ends before it comes to it.
    pub(crate) fn forget(&self) {
        *self.held.lock().unwrap() = Held::default();
    }

    /// Lets everything go, and holds nothing more.
    pub(crate) fn release(&self) {
        let Held { tasks, work, .. } = std::mem::take(&mut *self.held.lock().unwrap());
        for (name, task) in tasks {
            self.machine.spawn(name, task);
        }
        for work in work {
            self.machine.blocking(work);
        }
    }
}

impl fmt::Debug for HeldTasks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HeldTasks")
    }
}

impl Tasks for HeldTasks {
    fn spawn(&self, name: &'static str, task: Task) {
        let mut held = self.held.lock().unwrap();
        if held.names.contains(name) {
            held.tasks.push((name, task));
        } else {
            self.machine.spawn(name, task);
        }
    }

    fn blocking(&self, work: Work) {
        let mut held = self.held.lock().unwrap();
        if held.blocking {
            held.work.push(work);
        } else {
            drop(held);
            self.machine.blocking(work);
        }
    }
}
