//! ListTransactions: every transactional id this broker coordinates, filtered as asked (KIP-664, KIP-994, KIP-1152).

use std::collections::BTreeSet;
use std::sync::Arc;

use flumen_protocol::error_code::ErrorCode;
use flumen_protocol::message::list_transactions_response::TransactionState;
use flumen_protocol::message::{ListTransactionsRequest, ListTransactionsResponse};
use regex::{Regex, RegexBuilder};

use crate::coordinator::txn::{Transaction, TxnState};
use crate::dispatch::Context;
use crate::node::Node;

/// Memory that a compiled pattern may take.
const PATTERN_BYTES_MAX: usize = 1 << 20;
/// States of Kafka's that no transaction has here.
const OTHER_STATES: [&str; 2] = ["Dead", "PrepareEpochFence"];

/// Answers ListTransactions.
pub(crate) async fn list_transactions(
    node: &Arc<Node>,
    _context: &Context,
    request: ListTransactionsRequest,
) -> ListTransactionsResponse {
    let failed = |code: ErrorCode| ListTransactionsResponse {
        error_code: code.code(),
        ..Default::default()
    };
    let Ok(filter) = Filter::new(&request, node.drivers.clock.wall_ms()) else {
        return failed(ErrorCode::InvalidRegularExpression);
    };
    let listed = match node.coordinators.transactions.list().await {
        Ok(listed) => listed,
        Err(error) => return failed(error),
    };
    let wanted = listed.into_iter().filter(|(id, t)| filter.wants(id, t));
    let transaction_states = wanted.map(|(transactional_id, transaction)| TransactionState {
        transactional_id,
        producer_id: transaction.producer_id,
        transaction_state: transaction.state.name().to_owned(),
        ..Default::default()
    });
    ListTransactionsResponse {
        transaction_states: transaction_states.collect(),
        unknown_state_filters: filter.unknown_states,
        ..Default::default()
    }
}

struct Filter {
    /// Empty: all.
    states: BTreeSet<String>,
    unknown_states: Vec<String>,
    /// Empty: all.
    producer_ids: BTreeSet<i64>,
    /// Begun at this wall time or before.
    begun_until_ms: Option<i64>,
    pattern: Option<Regex>,
}

impl Filter {
    fn new(request: &ListTransactionsRequest, now_ms: i64) -> Result<Filter, regex::Error> {
        let known = |name: &String| {
            TxnState::ALL.iter().any(|state| state.name() == name)
                || OTHER_STATES.contains(&name.as_str())
        };
        let (states, unknown): (BTreeSet<_>, BTreeSet<_>) =
            request.state_filters.iter().cloned().partition(known);
        let pattern = request.transactional_id_pattern.as_deref();
        let pattern = pattern
            .filter(|pattern| !pattern.is_empty())
            .map(|pattern| {
                // The whole id has to match.
                RegexBuilder::new(&format!("^(?:{pattern})$"))
                    .size_limit(PATTERN_BYTES_MAX)
                    .build()
            });
        Ok(Filter {
            states,
            unknown_states: unknown.into_iter().collect(),
            producer_ids: request.producer_id_filters.iter().copied().collect(),
            begun_until_ms: (request.duration_filter >= 0)
                .then(|| now_ms.saturating_sub(request.duration_filter)),
            pattern: pattern.transpose()?,
        })
    }

    fn wants(&self, id: &str, transaction: &Transaction) -> bool {
        (self.states.is_empty() || self.states.contains(transaction.state.name()))
            && (self.producer_ids.is_empty()
                || self.producer_ids.contains(&transaction.producer_id))
            && self
                .begun_until_ms
                .is_none_or(|until| transaction.start_ms < until)
            && self
                .pattern
                .as_ref()
                .is_none_or(|pattern| pattern.is_match(id))
    }
}
