//! Compaction: of each key only the newest record stays. What to clean, in which groups, and what becomes of each batch. Pure.
//!
//! `log/compact.rs` drives it over files: first it reads the dirty part into an [`OffsetMap`], then it rewrites all segments below
//! that part's end, group by group. The rules (Kafka's, KIP-534):
//!
//! - A record stays if no newer one of its key is known, and, once its batch's *delete horizon* has passed, if it is no tombstone.
//!   A record without key goes.
//! - The first cleaning that sees a tombstone, or the marker of a transaction that has no batches left, writes down the horizon in
//!   the batch. So whoever reads from the start within `delete.retention.ms` of reaching it hears of every deletion.
//! - What belongs to an aborted transaction goes. A marker goes when no batch of its transaction is left, and its horizon has passed.
//! - A batch that holds the last sequence, or the last epoch, of a producer that is remembered stays, if only as its header. So does the
//!   last batch of each rewritten segment: how far a segment reaches must not depend on what is left in it.
//! - Offsets never change; neither do base and last offset, producer and sequence of a batch that stays.
//!
//! Source: Kafka `Cleaner`, `CleanedTransactionMetadata`, `LogCleanerManager`.

mod filter;
mod map;
mod plan;
mod transactions;

pub(crate) use filter::{Fate, Filter, LastRecord};
pub(crate) use map::OffsetMap;
pub(crate) use plan::{GroupLimits, GroupMember, Range, SegmentSize, groups};
pub(crate) use transactions::Transactions;
