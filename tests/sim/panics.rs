//! Panics of tasks: tokio catches them, and a broker that lost a task would look like a slow one. Here each fails the run.

use std::backtrace::Backtrace;
use std::cell::{Cell, RefCell};
use std::sync::Once;

thread_local! {
    static LISTENS: Cell<bool> = const { Cell::new(false) };
    static HEARD: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// From now on the panics of this thread's simulation are kept, and printed by whoever takes them.
pub(crate) fn listen() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| match LISTENS.get() {
            true => HEARD.with_borrow_mut(|heard| {
                heard.push(format!("{panic}\n{}", Backtrace::force_capture()));
            }),
            false => before(panic),
        }));
    });
    LISTENS.set(true);
    take();
}

/// The run is over: the test's own panics are the test's.
pub(crate) fn ignore() {
    LISTENS.set(false);
}

/// The panics since it was asked last.
pub(crate) fn take() -> Vec<String> {
    HEARD.take()
}
