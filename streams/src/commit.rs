//! The commit cycle of one engine, as a machine without clock, socket or thread. Called by `app.rs`.
//!
//! ```text
//!            fed                  due, closed by the engine             flushed        offsets sent      committed
//! Open(e) ──────► Open(e) dirty ────────────────────► Flushing(e) ───────────► Offsets(e) ────────► Ending(e) ────────► done(e)
//!                                      while e commits, e+1 is open and may be fed; it closes when e is done
//!
//! nothing happened in e      ────────────────────► done(e) at once: no transaction
//! at least once              Flushing(e) ──► done(e); offsets follow when the commit interval is over, or at the end
//! any error                  ──► Broken: nothing more is asked for until `reset`
//! ```
//! An epoch closes when the interval is over, when it holds too many bytes, when the input is drained and a moment has
//! passed, or when somebody waits for everything to be committed (rebalance, close).

use std::time::Duration;

use crate::state::Epoch;

/// Monotonic time since the application started.
pub(crate) type Now = Duration;

/// When epochs close.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CommitOptions {
    /// Transactions, or offsets committed from time to time.
    pub(crate) exactly_once: bool,
    /// Kafka: `commit.interval.ms`.
    pub(crate) commit_interval: Duration,
    /// How long an epoch may stay open. Under exactly-once the same as the commit interval; otherwise what outputs wait for.
    pub(crate) epoch_interval: Duration,
    /// An epoch that was fed so much closes. Kafka: `statestore.uncommitted.max.bytes`.
    pub(crate) epoch_bytes_max: usize,
    /// A drained input closes the epoch when this much has passed since the last one was done.
    pub(crate) drained_after: Duration,
}

/// What the driver has to do next. Each is answered by one `on_*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    /// Close the open epoch; answer [`CommitCycle::on_closed`].
    Close,
    /// Send what the epoch produced and wait for the acknowledgements; answer [`CommitCycle::on_flushed`].
    Flush(Epoch),
    /// Add the input positions of the epoch to the transaction; answer [`CommitCycle::on_offsets_sent`].
    SendOffsets(Epoch),
    /// End the transaction; answer [`CommitCycle::on_committed`].
    EndTransaction(Epoch),
    /// Commit the input positions collected so far, outside of a transaction; answer [`CommitCycle::on_offsets_committed`].
    CommitOffsets,
    /// The epoch is committed: tell the engine. No answer.
    Done(Epoch),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Idle,
    Closing,
    Flushing(Epoch),
    SendingOffsets(Epoch),
    Ending(Epoch),
    CommittingOffsets,
    Broken,
}

/// The open epoch and the one that commits.
#[derive(Debug)]
pub(crate) struct CommitCycle {
    options: CommitOptions,
    stage: Stage,
    /// When the first record of the open epoch was fed.
    dirty_since: Option<Now>,
    dirty_bytes: usize,
    last_done: Now,
    /// Since when finished epochs wait for their offsets to be committed (at least once).
    offsets_since: Option<Now>,
    wanted: bool,
}

impl CommitCycle {
    /// Nothing open, nothing committing.
    pub(crate) fn new(options: CommitOptions, now: Now) -> Self {
        Self {
            options,
            stage: Stage::Idle,
            dirty_since: None,
            dirty_bytes: 0,
            last_done: now,
            offsets_since: None,
            wanted: false,
        }
    }

    /// Records were given to the engine, in the open epoch.
    pub(crate) fn on_fed(&mut self, bytes: usize, now: Now) {
        self.dirty_since.get_or_insert(now);
        self.dirty_bytes += bytes;
    }

    /// Whether more may be fed. Not while the engine closes: what comes then belongs to no epoch yet.
    pub(crate) fn may_feed(&self) -> bool {
        let closing = matches!(self.stage, Stage::Closing | Stage::Broken);
        !closing && !self.wanted && self.dirty_bytes < self.options.epoch_bytes_max
    }

    /// What is due. `drained`: the engine has worked off everything it was fed, and there is no more input.
    pub(crate) fn poll(&mut self, now: Now, drained: bool) -> Option<Act> {
        if self.stage != Stage::Idle {
            return None;
        }
        if let Some(since) = self.dirty_since {
            let old = now.saturating_sub(since) >= self.options.epoch_interval;
            let full = self.dirty_bytes >= self.options.epoch_bytes_max;
            let quiet = drained && now.saturating_sub(self.last_done) >= self.options.drained_after;
            if old || full || quiet || self.wanted {
                self.stage = Stage::Closing;
                return Some(Act::Close);
            }
        }
        let since = self.offsets_since?;
        if self.wanted || now.saturating_sub(since) >= self.options.commit_interval {
            self.stage = Stage::CommittingOffsets;
            return Some(Act::CommitOffsets);
        }
        None
    }

    /// The time at which [`poll`](Self::poll) may have something even if nothing happens until then.
    pub(crate) fn deadline(&self, drained: bool) -> Option<Now> {
        if self.stage != Stage::Idle {
            return None;
        }
        let epoch = self.dirty_since.map(|since| {
            let old = since + self.options.epoch_interval;
            if drained {
                old.min(self.last_done + self.options.drained_after)
            } else {
                old
            }
        });
        let offsets = self
            .offsets_since
            .map(|since| since + self.options.commit_interval);
        epoch.into_iter().chain(offsets).min()
    }

    /// The engine has closed the epoch and everything it did is at hand; `empty`: it did nothing and read nothing.
    pub(crate) fn on_closed(&mut self, epoch: Epoch, empty: bool, now: Now) -> Option<Act> {
        self.expect(Stage::Closing)?;
        self.dirty_since = None;
        self.dirty_bytes = 0;
        if empty {
            return self.done(epoch, now);
        }
        self.stage = Stage::Flushing(epoch);
        Some(Act::Flush(epoch))
    }

    /// All records of the epoch are acknowledged.
    pub(crate) fn on_flushed(&mut self, epoch: Epoch, now: Now) -> Option<Act> {
        self.expect(Stage::Flushing(epoch))?;
        if self.options.exactly_once {
            self.stage = Stage::SendingOffsets(epoch);
            return Some(Act::SendOffsets(epoch));
        }
        self.offsets_since.get_or_insert(now);
        self.done(epoch, now)
    }

    /// The transaction holds the input positions.
    pub(crate) fn on_offsets_sent(&mut self, epoch: Epoch) -> Option<Act> {
        self.expect(Stage::SendingOffsets(epoch))?;
        self.stage = Stage::Ending(epoch);
        Some(Act::EndTransaction(epoch))
    }

    /// The transaction is committed.
    pub(crate) fn on_committed(&mut self, epoch: Epoch, now: Now) -> Option<Act> {
        self.expect(Stage::Ending(epoch))?;
        self.done(epoch, now)
    }

    /// The collected offsets are committed (at least once).
    pub(crate) fn on_offsets_committed(&mut self) {
        if self.expect(Stage::CommittingOffsets).is_some() {
            self.stage = Stage::Idle;
            self.offsets_since = None;
        }
    }

    /// Somebody waits until everything fed so far is committed: stop feeding and close as soon as may be.
    pub(crate) fn want_all_committed(&mut self) {
        self.wanted = true;
    }

    /// Whether everything fed is committed. Ends the wish.
    pub(crate) fn all_committed(&mut self) -> bool {
        let all =
            self.stage == Stage::Idle && self.dirty_since.is_none() && self.offsets_since.is_none();
        self.wanted &= !all;
        all
    }

    /// A step failed: nothing of the open epochs will be committed.
    pub(crate) fn on_error(&mut self) {
        self.stage = Stage::Broken;
    }

    /// A new engine starts from what is committed.
    pub(crate) fn reset(&mut self, now: Now) {
        *self = Self::new(self.options, now);
    }

    fn done(&mut self, epoch: Epoch, now: Now) -> Option<Act> {
        self.stage = Stage::Idle;
        self.last_done = now;
        Some(Act::Done(epoch))
    }

    /// Answers that come after an error are late, not wrong; any other answer out of turn is a bug of the driver.
    fn expect(&self, stage: Stage) -> Option<()> {
        assert!(
            self.stage == stage || self.stage == Stage::Broken,
            "answer to {stage:?} while {:?}",
            self.stage
        );
        (self.stage == stage).then_some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Now {
        Now::from_millis(ms)
    }

    fn options(exactly_once: bool) -> CommitOptions {
        CommitOptions {
            exactly_once,
            commit_interval: if exactly_once { ms(100) } else { ms(30_000) },
            epoch_interval: ms(100),
            epoch_bytes_max: 1000,
            drained_after: ms(5),
        }
    }

    fn cycle(exactly_once: bool) -> CommitCycle {
        CommitCycle::new(options(exactly_once), ms(0))
    }

    fn close(cycle: &mut CommitCycle, at: Now) {
        cycle.on_fed(10, at);
        assert_eq!(cycle.poll(at + ms(100), false), Some(Act::Close));
    }

    #[test]
    fn a_transaction_goes_through_its_steps_in_order() {
        let mut cycle = cycle(true);
        assert_eq!(cycle.poll(ms(500), true), None, "nothing was fed");
        cycle.on_fed(10, ms(500));
        assert_eq!(
            (cycle.poll(ms(599), false), cycle.deadline(false)),
            (None, Some(ms(600)))
        );
        assert_eq!(cycle.poll(ms(600), false), Some(Act::Close));
        assert!(!cycle.may_feed(), "what comes now belongs to no epoch");
        assert_eq!(cycle.on_closed(7, false, ms(601)), Some(Act::Flush(7)));
        assert_eq!(cycle.on_flushed(7, ms(602)), Some(Act::SendOffsets(7)));
        assert_eq!(cycle.on_offsets_sent(7), Some(Act::EndTransaction(7)));
        assert!(!cycle.all_committed());
        assert_eq!(cycle.on_committed(7, ms(604)), Some(Act::Done(7)));
        assert!(cycle.all_committed());
    }

    #[test]
    fn the_next_epoch_is_fed_while_one_commits_and_closes_after_it() {
        let mut cycle = cycle(true);
        close(&mut cycle, ms(0));
        cycle.on_closed(1, false, ms(100));
        assert!(cycle.may_feed());
        cycle.on_fed(10, ms(101));
        assert_eq!(cycle.poll(ms(900), true), None, "one transaction at a time");
        cycle.on_flushed(1, ms(901));
        cycle.on_offsets_sent(1);
        cycle.on_committed(1, ms(902));
        assert_eq!(cycle.poll(ms(902), false), Some(Act::Close));
    }

    #[test]
    fn an_empty_epoch_needs_no_transaction() {
        let mut cycle = cycle(true);
        close(&mut cycle, ms(0));
        assert_eq!(cycle.on_closed(1, true, ms(100)), Some(Act::Done(1)));
        assert!(cycle.all_committed());
    }

    #[test]
    fn a_drained_input_commits_early_but_not_at_once() {
        let mut cycle = cycle(true);
        cycle.on_fed(10, ms(1));
        assert_eq!(
            (cycle.poll(ms(4), true), cycle.deadline(true)),
            (None, Some(ms(5)))
        );
        assert_eq!(cycle.poll(ms(5), true), Some(Act::Close));
    }

    #[test]
    fn a_full_epoch_closes_and_takes_no_more() {
        let mut cycle = cycle(true);
        cycle.on_fed(1000, ms(1));
        assert!(!cycle.may_feed());
        assert_eq!(cycle.poll(ms(1), false), Some(Act::Close));
    }

    #[test]
    fn who_waits_for_a_commit_gets_it_without_delay() {
        let mut cycle = cycle(true);
        cycle.want_all_committed();
        assert!(cycle.all_committed(), "there was nothing");
        cycle.on_fed(10, ms(1));
        cycle.want_all_committed();
        assert!(!cycle.may_feed());
        assert_eq!(cycle.poll(ms(1), false), Some(Act::Close));
    }

    #[test]
    fn at_least_once_sends_early_and_commits_offsets_later() {
        let mut cycle = cycle(false);
        close(&mut cycle, ms(0));
        cycle.on_closed(1, false, ms(100));
        assert_eq!(cycle.on_flushed(1, ms(110)), Some(Act::Done(1)));
        assert!(!cycle.all_committed());
        assert_eq!(cycle.deadline(false), Some(ms(30_110)));
        close(&mut cycle, ms(1000));
        cycle.on_closed(2, false, ms(1100));
        cycle.on_flushed(2, ms(1110));
        assert_eq!(cycle.poll(ms(30_110), false), Some(Act::CommitOffsets));
        cycle.on_offsets_committed();
        assert!(cycle.all_committed());
        assert_eq!(cycle.deadline(false), None);
    }

    #[test]
    fn after_an_error_at_any_step_nothing_goes_on_until_the_reset() {
        for step in 0..4 {
            let mut cycle = cycle(true);
            close(&mut cycle, ms(0));
            if step > 0 {
                cycle.on_closed(1, false, ms(100));
            }
            if step > 1 {
                cycle.on_flushed(1, ms(101));
            }
            if step > 2 {
                cycle.on_offsets_sent(1);
            }
            cycle.on_error();
            let late = match step {
                0 => cycle.on_closed(1, false, ms(102)),
                1 => cycle.on_flushed(1, ms(102)),
                2 => cycle.on_offsets_sent(1),
                _ => cycle.on_committed(1, ms(102)),
            };
            assert_eq!(
                (late, cycle.poll(ms(9999), true), cycle.may_feed()),
                (None, None, false),
                "step {step}"
            );
            assert!(!cycle.all_committed());
            cycle.reset(ms(10_000));
            assert!(cycle.may_feed() && cycle.all_committed());
        }
    }

    #[test]
    #[should_panic(expected = "answer to Ending(1) while Flushing(1)")]
    fn an_answer_out_of_turn_is_a_bug() {
        let mut cycle = cycle(true);
        close(&mut cycle, ms(0));
        cycle.on_closed(1, false, ms(100));
        cycle.on_committed(1, ms(101));
    }
}
