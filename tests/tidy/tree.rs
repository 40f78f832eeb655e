//! What every source file owes its reader: a head, a bounded size, functions of one screen, no forgotten words, no clock outside a driver.

use crate::{Source, report, sources};

const FILE_LINES_MAX: usize = 800;
const FUNCTION_LINES_MAX: usize = 70;

/// Files that may touch clock, disk, socket, randomness or spawn; everything else is a function of its inputs. Test files and programs are free.
const DRIVERS: &[&str] = &[
    "log/src/disk/os.rs",
    "client/src/transport.rs",
    "client/src/runtime.rs",
    "broker/src/driver.rs",
    "broker/src/clock.rs",
    "streams/src/runtime.rs",
    "streams/src/state/rocks.rs",
    "connect/src/runtime.rs",
    "connect/src/rest.rs",
    "connect/plugins/file/src/disk.rs",
    "connect/plugins/postgres/src/session.rs",
    "protocol/generator/src/files.rs",
    "protocol/generator/src/main.rs",
    "cli/",
    "examples/",
];

fn rust() -> Vec<Source> {
    sources(&[".rs"])
}

#[test]
fn every_file_opens_with_what_it_owns() {
    let findings: Vec<String> = rust()
        .iter()
        .filter(|file| {
            !file
                .text
                .lines()
                .take(5)
                .any(|line| line.starts_with("//!"))
        })
        .map(|file| file.path.clone())
        .collect();
    report(
        "no `//!` head (what it owns, who calls it, what it never does):",
        &findings,
    );
}

#[test]
fn files_stay_below_the_size_that_one_idea_needs() {
    let findings: Vec<String> = rust()
        .iter()
        .filter(|file| !file.is_generated())
        .map(|file| (file.text.lines().count(), &file.path))
        .filter(|(lines, _)| *lines > FILE_LINES_MAX)
        .map(|(lines, path)| format!("{path}: {lines} lines, at most {FILE_LINES_MAX}"))
        .collect();
    report(
        "a file grew past one idea; split the state machine from its driver:",
        &findings,
    );
}

/// `(line number, lines)` of every function, by rustfmt's indentation: a body ends at the first `}` as deep as its `fn`.
fn functions(text: &str) -> Vec<(usize, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let indent = line.len() - line.trim_start().len();
        let words = line.trim_start();
        let is_function = [
            "fn ",
            "pub fn ",
            "async fn ",
            "pub async fn ",
            "const fn ",
            "pub const fn ",
            "pub(crate) fn ",
            "pub(super) fn ",
            "pub(crate) async fn ",
            "pub(super) async fn ",
        ]
        .iter()
        .any(|start| words.starts_with(start));
        if is_function && !words.ends_with(';') && !words.ends_with('}') {
            let end = lines[at..].iter().position(|line| {
                line.len() > indent
                    && line.as_bytes()[indent] == b'}'
                    && line[..indent].trim().is_empty()
            });
            if let Some(length) = end {
                found.push((at + 1, length));
            }
        }
    }
    found
}

#[test]
fn functions_fit_on_one_screen() {
    let mut findings = Vec::new();
    for file in rust().iter().filter(|file| !file.is_generated()) {
        for (line, length) in functions(&file.text) {
            if length > FUNCTION_LINES_MAX + 2 {
                findings.push(format!(
                    "{}:{line}: {length} lines, at most {FUNCTION_LINES_MAX}",
                    file.path
                ));
            }
        }
    }
    report("a function does not fit on one screen:", &findings);
}

#[test]
fn only_driver_files_touch_clock_disk_socket_randomness_or_spawn() {
    let mut findings = Vec::new();
    for file in rust() {
        if file.is_test()
            || DRIVERS.iter().any(|driver| file.path.starts_with(driver))
            || file.path.contains("/examples/")
            || file.path.ends_with("tests.rs")
        {
            continue;
        }
        // A lift of the lint inside a file's test module is fine; above it, it is a second driver.
        let product = file.text.split("#[cfg(test)]").next().unwrap_or_default();
        for (at, line) in product.lines().enumerate() {
            if line.contains("clippy::disallowed_methods") {
                findings.push(format!("{}:{}: {}", file.path, at + 1, line.trim()));
            }
        }
    }
    report(
        "a clock, disk, socket, random number or spawn outside the driver files of tests/tidy/tree.rs:",
        &findings,
    );
}

#[test]
fn every_driver_file_exists() {
    let findings: Vec<String> = DRIVERS
        .iter()
        .filter(|driver| !crate::root().join(driver).exists())
        .map(|driver| (*driver).to_owned())
        .collect();
    report("tests/tidy/tree.rs lists a driver that is none:", &findings);
}

#[test]
fn every_select_states_its_priority() {
    let mut findings = Vec::new();
    for file in rust() {
        let lines: Vec<&str> = file.text.lines().collect();
        for (at, line) in lines.iter().enumerate() {
            if line.contains("select! {")
                && !line.trim_start().starts_with("//")
                && !lines
                    .get(at + 1)
                    .is_some_and(|next| next.contains("biased;"))
                && !line.contains('`')
                && !line.contains('"')
            {
                findings.push(format!("{}:{}", file.path, at + 1));
            }
        }
    }
    report(
        "`select!` without `biased;` makes simulations unrepeatable:",
        &findings,
    );
}

#[test]
fn no_word_is_left_that_promises_work() {
    let words = [
        ["FIX", "ME"].concat(),
        ["XX", "X"].concat(),
        ["todo", "!("].concat(),
        ["unimplemented", "!("].concat(),
        ["#[ign", "ore"].concat(),
    ];
    let mut findings = Vec::new();
    for file in sources(&[".rs", ".md", ".toml", ".sh", "Makefile"]) {
        for (at, line) in file.text.lines().enumerate() {
            if words.iter().any(|word| line.contains(word.as_str()))
                && !file.path.starts_with("tests/tidy/")
            {
                findings.push(format!("{}:{}: {}", file.path, at + 1, line.trim()));
            }
        }
    }
    report("unfinished work belongs into an issue:", &findings);
}

#[test]
fn only_the_dataflow_files_name_timely() {
    let mut findings = Vec::new();
    for file in rust().iter().filter(|file| {
        file.path.starts_with("streams/src/") && !file.path.starts_with("streams/src/dataflow")
    }) {
        for (at, line) in file.text.lines().enumerate() {
            if line.contains("timely::") {
                findings.push(format!("{}:{}", file.path, at + 1));
            }
        }
    }
    report("timely stays behind streams/src/dataflow*:", &findings);
}

#[test]
fn generated_files_say_by_what() {
    let findings: Vec<String> = rust()
        .iter()
        .filter(|file| {
            file.path.starts_with("protocol/src/message/")
                && !file.path.ends_with("mod.rs")
                && !file.is_generated()
        })
        .map(|file| file.path.clone())
        .collect();
    report(
        "a message file that no generator made (protocol's own tests regenerate and compare):",
        &findings,
    );
}

#[test]
fn lengths_of_functions_are_counted_by_their_braces() {
    let text = "fn short() {}\n\nimpl A {\n    pub fn long(\n        a: u8,\n    ) -> u8 {\n        if a > 0 {\n            1\n        } else {\n            2\n        }\n    }\n}\n";
    assert_eq!(functions(text), vec![(4, 8)]);
}
