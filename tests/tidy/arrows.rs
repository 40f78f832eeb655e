//! Who may depend on whom, read from the manifests. DESIGN: protocol ← log ← broker; protocol ← client ← streams, connect; connect ← plugins; cli → all.

use crate::{report, root};

/// A crate's folder and the crates of ours it may use, apart from tests.
const ALLOWED: &[(&str, &[&str])] = &[
    ("tests/planted", &[]),
    ("tests/checker", &[]),
    ("protocol", &[]),
    ("protocol/generator", &[]),
    ("log", &["flumen-protocol", "flumen-planted"]),
    ("client", &["flumen-protocol"]),
    (
        "broker",
        &["flumen-protocol", "flumen-log", "flumen-planted"],
    ),
    (
        "streams",
        &["flumen-protocol", "flumen-client", "flumen-planted"],
    ),
    (
        "connect",
        &["flumen-protocol", "flumen-client", "flumen-planted"],
    ),
    ("connect/plugins/file", &["flumen-connect"]),
    ("connect/plugins/postgres", &["flumen-connect"]),
];

/// Crates that must never run in a given place, with the reason.
const FORBIDDEN: &[(&str, &str, &str)] = &[
    (
        "protocol",
        "tokio",
        "the protocol crate has no async runtime",
    ),
    (
        "log",
        "tokio",
        "the log crate is synchronous: its driver is the Disk trait",
    ),
    (
        "streams",
        "flumen-log",
        "streams speaks Kafka, so that it also runs against other clusters",
    ),
    (
        "streams",
        "flumen-broker",
        "streams speaks Kafka, so that it also runs against other clusters",
    ),
    (
        "connect",
        "flumen-broker",
        "connect speaks Kafka, so that it also runs against other clusters",
    ),
];

/// Crates banned from the whole tree: advisories, or a second TLS or async world.
const BANNED: &[&str] = &["openssl-sys", "ring", "async-std", "color-eyre", "figment"];

/// Lowest versions without a known advisory.
const FLOORS: &[(&str, (u32, u32, u32))] = &[
    ("bytes", (1, 11, 1)),
    ("memmap2", (0, 9, 11)),
    ("lz4_flex", (0, 12, 1)),
    ("tokio-postgres", (0, 7, 18)),
];

/// Names in a manifest's tables whose header is `[dependencies]` (or, with `tests`, also `[dev-dependencies]`).
fn dependencies(manifest: &str, tests: bool) -> Vec<String> {
    let mut names = Vec::new();
    let mut inside = false;
    for line in manifest.lines() {
        if line.starts_with('[') {
            inside = line == "[dependencies]" || (tests && line == "[dev-dependencies]");
        } else if inside
            && let Some(name) = line
                .split(['.', '=', ' '])
                .next()
                .filter(|name| !name.is_empty() && !name.starts_with('#'))
        {
            names.push(name.to_owned());
        }
    }
    names
}

fn manifest(folder: &str) -> String {
    std::fs::read_to_string(root().join(folder).join("Cargo.toml"))
        .unwrap_or_else(|e| panic!("{folder}/Cargo.toml: {e}"))
}

#[test]
fn crates_depend_only_in_the_agreed_direction() {
    let mut findings = Vec::new();
    for (folder, allowed) in ALLOWED {
        for name in dependencies(&manifest(folder), false) {
            if name.starts_with("flumen") && !allowed.contains(&name.as_str()) {
                findings.push(format!("{folder} must not depend on {name}"));
            }
        }
    }
    for (folder, name, reason) in FORBIDDEN {
        if dependencies(&manifest(folder), false)
            .iter()
            .any(|found| found == name)
        {
            findings.push(format!("{folder} must not depend on {name}: {reason}"));
        }
    }
    report("an arrow between crates points the wrong way:", &findings);
}

#[test]
fn versions_are_written_once_in_the_workspace() {
    let mut findings = Vec::new();
    for folder in ALLOWED
        .iter()
        .map(|(folder, _)| *folder)
        .chain(["cli", "examples"])
    {
        for line in manifest(folder)
            .lines()
            .filter(|line| line.contains("version = \"") || line.contains("= \""))
        {
            let key = line.split(['=', ' ']).next().unwrap_or_default();
            if ![
                "name",
                "description",
                "path",
                "readme",
                "keywords",
                "categories",
                "doc",
            ]
            .contains(&key)
                && !line.starts_with('#')
            {
                findings.push(format!(
                    "{folder}/Cargo.toml: `{line}`: versions belong into the root manifest"
                ));
            }
        }
    }
    report(
        "a dependency's version stands outside the workspace manifest:",
        &findings,
    );
}

#[test]
fn the_lock_file_holds_no_banned_or_outdated_crate() {
    let lock = std::fs::read_to_string(root().join("Cargo.lock")).expect("Cargo.lock is committed");
    let mut findings = Vec::new();
    for package in lock.split("[[package]]").skip(1) {
        let field = |key: &str| {
            package
                .lines()
                .find_map(|line| line.strip_prefix(key))
                .map(|value| value.trim_matches(['"', ' ', '=']).to_owned())
        };
        let (Some(name), Some(version)) = (field("name"), field("version")) else {
            continue;
        };
        if BANNED.contains(&name.as_str()) {
            findings.push(format!("{name} {version} is banned (deny.toml says why)"));
        }
        if let Some(source) = field("source").filter(|source| !source.contains("crates.io")) {
            findings.push(format!(
                "{name} {version} comes from {source}: one registry only"
            ));
        }
        let number = |n: usize| {
            version
                .split(['.', '-', '+'])
                .nth(n)
                .and_then(|part| part.parse().ok())
                .unwrap_or(0)
        };
        for (crate_name, floor) in FLOORS {
            if name == *crate_name && (number(0), number(1), number(2)) < *floor {
                findings.push(format!(
                    "{name} {version} is below {floor:?}, the first without a known advisory"
                ));
            }
        }
    }
    report("Cargo.lock:", &findings);
}
