//! docs/compatibility.md names tests and versions: each test exists, each version is the one that `tools/setup` installs.

use crate::{report, root, sources};

fn page() -> String {
    std::fs::read_to_string(root().join("docs/compatibility.md")).expect("the page is there")
}

/// What stands between backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

#[test]
fn every_test_that_the_compatibility_page_names_exists() {
    let tests: Vec<_> = sources(&[".rs"])
        .into_iter()
        .filter(|file| file.text.contains("#[test]") || file.text.contains("#[tokio::test]"))
        .collect();
    let page = page();
    let rows = page.lines().filter(|line| line.starts_with("| "));
    // `module::test`, `module::rule_9_*`, `module::*`, `rule_9_*`
    let names = rows.flat_map(quoted).filter_map(|name| {
        let last = name.rsplit("::").next()?;
        (last != name || last.starts_with("rule_")).then(|| last.trim_end_matches('*'))
    });
    let findings: Vec<String> = names
        .filter(|name| {
            let definition = format!("fn {name}");
            !tests.iter().any(|file| file.text.contains(&definition))
        })
        .map(str::to_owned)
        .collect();
    report(
        "docs/compatibility.md names a test that does not exist:",
        &findings,
    );
}

#[test]
fn every_file_that_the_compatibility_page_names_exists() {
    let page = page();
    let findings: Vec<String> = page
        .lines()
        .filter(|line| line.starts_with("| "))
        .flat_map(quoted)
        .filter(|name| name.starts_with("tests/e2e/") && !name.contains('{'))
        .filter(|name| !root().join(name).exists())
        .map(str::to_owned)
        .collect();
    report(
        "docs/compatibility.md names a file that does not exist:",
        &findings,
    );
}

#[test]
fn the_versions_of_clients_are_those_that_are_installed() {
    let read =
        |path: &str| std::fs::read_to_string(root().join("tests/e2e").join(path)).expect(path);
    let (python, node, go, rust) = (
        read("python/requirements.txt"),
        read("node/package.json"),
        read("go/go.mod"),
        read("rust/Cargo.toml"),
    );
    let page = page();
    let row = |client: &str, version: String| page.contains(&format!("| {client} | {version} |"));
    let mut findings = Vec::new();
    for client in ["confluent-kafka", "kafka-python", "aiokafka"] {
        let pinned = python
            .lines()
            .find_map(|line| line.strip_prefix(&format!("{client}==")));
        if !pinned.is_some_and(|version| row(client, version.to_owned())) {
            findings.push(format!("{client}: {pinned:?} is installed"));
        }
    }
    for client in ["@platformatic/kafka", "kafkajs"] {
        let pinned = node.split(&format!("\"{client}\": \"")).nth(1);
        let pinned = pinned.and_then(|rest| rest.split('"').next());
        if !pinned.is_some_and(|version| row(client, version.to_owned())) {
            findings.push(format!("{client}: {pinned:?} is installed"));
        }
    }
    let pinned = go
        .split("franz-go v")
        .nth(1)
        .and_then(|rest| rest.split_whitespace().next());
    if !pinned.is_some_and(|version| row("franz-go", version.to_owned())) {
        findings.push(format!("franz-go: {pinned:?} is installed"));
    }
    let pinned = rust.split("rdkafka = { version = \"=").nth(1);
    let pinned = pinned.and_then(|rest| rest.split('"').next());
    if !pinned.is_some_and(|version| row("rdkafka", version.to_owned())) {
        findings.push(format!("rdkafka: {pinned:?} is built"));
    }
    report(
        "docs/compatibility.md names another version of a client:",
        &findings,
    );
}
