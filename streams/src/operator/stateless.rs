//! Stateless stages: two shapes, one for verbs that make new records and one for verbs that keep or drop them.

use std::cell::RefCell;
use std::rc::Rc;

use crate::dataflow::instance::{Flow, Instance, Port, Sink, TaskContext};
use crate::topology::NodeId;

/// Makes a batch of `Out` from a batch of `In`.
struct Transform<In, Out, F> {
    context: Rc<TaskContext>,
    node: NodeId,
    step: F,
    out: Vec<Out>,
    port: Port<Out>,
    batch_type: std::marker::PhantomData<fn(In)>,
}

impl<In, Out, F: FnMut(&mut Vec<In>, &mut Vec<Out>)> Sink<In> for Transform<In, Out, F> {
    fn push(&mut self, batch: &mut Vec<In>) -> Flow {
        self.context.running.set(self.node);
        (self.step)(batch, &mut self.out);
        if self.out.is_empty() {
            return Ok(());
        }
        let sent = self.port.borrow_mut().push(&mut self.out);
        self.out.clear();
        sent
    }
}

/// Builds a node whose `step` moves what it makes of the first batch into the second.
pub(crate) fn transform<In, Out, F>(instance: &mut Instance, step: F)
where
    In: 'static,
    Out: Clone + 'static,
    F: FnMut(&mut Vec<In>, &mut Vec<Out>) + 'static,
{
    let stage = Transform {
        context: Rc::clone(&instance.context),
        node: instance.node(),
        step,
        out: Vec::new(),
        port: instance.downstream(),
        batch_type: std::marker::PhantomData,
    };
    instance.register::<In>(Rc::new(RefCell::new(stage)));
}

/// Changes a batch where it lies.
struct InPlace<T, F> {
    context: Rc<TaskContext>,
    node: NodeId,
    step: F,
    port: Port<T>,
}

impl<T, F: FnMut(&mut Vec<T>)> Sink<T> for InPlace<T, F> {
    fn push(&mut self, batch: &mut Vec<T>) -> Flow {
        self.context.running.set(self.node);
        (self.step)(batch);
        if batch.is_empty() {
            return Ok(());
        }
        self.port.borrow_mut().push(batch)
    }
}

/// Builds a node whose `step` filters or looks at a batch.
pub(crate) fn in_place<T: Clone + 'static>(
    instance: &mut Instance,
    step: impl FnMut(&mut Vec<T>) + 'static,
) {
    let stage = InPlace {
        context: Rc::clone(&instance.context),
        node: instance.node(),
        step,
        port: instance.downstream(),
    };
    instance.register::<T>(Rc::new(RefCell::new(stage)));
}

/// Sends each record to the first branch that takes it.
struct Branch<T, F> {
    context: Rc<TaskContext>,
    node: NodeId,
    choose: F,
    branches: Vec<(Port<T>, Vec<T>)>,
}

impl<T, F: FnMut(&T) -> Option<usize>> Sink<T> for Branch<T, F> {
    fn push(&mut self, batch: &mut Vec<T>) -> Flow {
        self.context.running.set(self.node);
        for record in batch.drain(..) {
            if let Some(branch) = (self.choose)(&record) {
                self.branches[branch].1.push(record);
            }
        }
        for (port, batch) in self
            .branches
            .iter_mut()
            .filter(|(_, batch)| !batch.is_empty())
        {
            port.borrow_mut().push(batch)?;
            batch.clear();
        }
        Ok(())
    }
}

/// Builds a node that `choose`s a child by its index for each record, or none.
pub(crate) fn branch<T: 'static>(
    instance: &mut Instance,
    choose: impl FnMut(&T) -> Option<usize> + 'static,
) {
    let branches = instance
        .child_ports()
        .into_iter()
        .map(|port| (port, Vec::new()))
        .collect();
    let stage = Branch {
        context: Rc::clone(&instance.context),
        node: instance.node(),
        choose,
        branches,
    };
    instance.register::<T>(Rc::new(RefCell::new(stage)));
}

/// Builds a node that passes everything on: a name in the topology and nothing at run time.
pub(crate) fn pass<T: Clone + 'static>(instance: &mut Instance) {
    let port = instance.downstream::<T>();
    instance.register(port);
}
