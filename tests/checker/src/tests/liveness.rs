//! Everybody moves after the faults stopped.

use crate::AnomalyKind::*;
use crate::history::What;
use crate::story::{Story, story};

fn stopped(expected: &[u32]) -> Story {
    let expected = expected.to_vec();
    story().at_ms(1_000).and(What::FaultsStopped { expected })
}

#[test]
fn who_does_not_move_after_the_faults_stopped_is_named() {
    stopped(&[1, 2])
        .at_ms(31_000)
        .and(What::Moved { who: 2 })
        .at_ms(31_001)
        .and(What::Moved { who: 1 })
        .shows(&[NotMoving]);
    stopped(&[1, 2])
        .at_ms(2_000)
        .and(What::Moved { who: 2 })
        .at_ms(31_000)
        .and(What::Moved { who: 1 })
        .at_ms(90_000)
        .and(What::Moved { who: 1 })
        .is_legal();
}

#[test]
fn a_history_that_ends_before_the_time_is_over_blames_nobody() {
    stopped(&[1])
        .at_ms(31_000)
        .and(What::Moved { who: 7 })
        .is_legal();
    // Nor does one with a new fault.
    stopped(&[1])
        .at_ms(5_000)
        .and(What::Crashed { host: 3 })
        .at_ms(90_000)
        .and(What::Moved { who: 7 })
        .is_legal();
}
