//! To come.

use crate::Findings;
use crate::facts::Facts;

pub(crate) fn check(_facts: &Facts<'_>, _findings: &mut Findings) {}
