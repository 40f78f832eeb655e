//! Text with indentation, formatted as rustfmt would leave it.

use crate::model::{Field, Versions};

/// Columns of a line.
pub(crate) const WIDTH: usize = 100;

/// Lines of code being written.
#[derive(Default)]
pub(crate) struct Text {
    out: String,
    depth: usize,
}

impl Text {
    /// One line; blocks are opened by a line that ends with `{` and closed by one that begins with
    /// `}`.
    pub(crate) fn line(&mut self, line: impl AsRef<str>) {
        let line = line.as_ref();
        if line.starts_with('}') {
            self.depth -= 1;
        }
        match line.split_once(" = ") {
            Some((place, value)) if self.indent() + line.len() >= WIDTH => {
                self.push(&format!("{place} ="));
                self.push(&format!("    {value}"));
            }
            _ => self.push(line),
        }
        if line.ends_with('{') {
            self.depth += 1;
        }
    }

    /// How many columns are taken before the line begins.
    pub(crate) fn indent(&self) -> usize {
        4 * self.depth
    }

    fn push(&mut self, line: &str) {
        if !line.is_empty() {
            self.out.extend(std::iter::repeat_n("    ", self.depth));
            self.out.push_str(line);
        }
        self.out.push('\n');
    }

    /// An empty line.
    pub(crate) fn blank(&mut self) {
        self.line("");
    }

    /// Documentation, one line each.
    pub(crate) fn doc(&mut self, lines: &[String]) {
        for line in lines {
            self.line(format!("/// {line}").trim_end());
        }
    }

    pub(crate) fn finish(self) -> String {
        self.out
    }
}

/// The condition under which `version` has the field, within a struct of versions `around`; `None`:
/// always.
pub(crate) fn condition(range: Versions, around: Versions) -> Option<String> {
    let Versions { min, max } = range;
    match (min == around.min, max == around.max) {
        (true, true) => None,
        _ if min == max => Some(format!("version == {min}")),
        (false, true) => Some(format!("version >= {min}")),
        (true, false) => Some(format!("version <= {max}")),
        (false, false) => Some(format!("({min}..={max}).contains(&version)")),
    }
}

/// Which versions have the field, in words; `None`: all of the message.
pub(crate) fn versions_note(field: &Field, all: Versions) -> Option<String> {
    let Versions { min, max } = field.versions;
    match (min == all.min, max == all.max) {
        (true, true) => None,
        _ if min == max => Some(format!("Version {min} only.")),
        (false, true) => Some(format!("From version {min}.")),
        (true, false) => Some(format!("Up to version {max}.")),
        (false, false) => Some(format!("Versions {min} to {max}.")),
    }
}
