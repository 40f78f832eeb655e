//! ARCHITECTURE.md quotes code as `` `path/file.rs:120` `name` ``: line 120 of that file must hold `name`. With UPDATE=1 the numbers are moved to where
//! the name is defined now.

use crate::{report, root};

/// One quotation: byte range of the line number in the document, the file and the name.
struct Quote {
    number_at: std::ops::Range<usize>,
    file: String,
    line: usize,
    name: String,
}

/// Every `` `file.rs:N` `name` `` of a document, in order.
fn quotes(text: &str) -> Vec<Quote> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(colon) = text[at..].find(".rs:").map(|offset| at + offset + 3) {
        at = colon + 1;
        let Some(open) = text[..colon].rfind('`') else {
            continue;
        };
        let digits = text[at..].bytes().take_while(u8::is_ascii_digit).count();
        let rest = &text[at + digits..];
        let Some(name) = rest
            .strip_prefix("` `")
            .and_then(|rest| rest.split('`').next())
        else {
            continue;
        };
        if digits > 0 {
            let line = text[at..at + digits].parse().expect("only digits");
            found.push(Quote {
                number_at: at..at + digits,
                file: text[open + 1..colon].to_owned(),
                line,
                name: name.to_owned(),
            });
        }
    }
    found
}

/// Where `name` (`Type::function`, `function`, `Type`) is defined: the first line that defines its last part, after the `impl` of its first.
fn definition(source: &str, name: &str) -> Option<usize> {
    let mut parts = name.split("::").collect::<Vec<_>>();
    let last = parts.pop()?;
    let start = match parts.pop() {
        Some(owner) => source.lines().position(|line| {
            (line.starts_with("impl") || line.starts_with("pub trait") || line.starts_with("trait"))
                && line.contains(owner)
        })?,
        None => 0,
    };
    let defines = |line: &str| {
        ["fn", "struct", "enum", "trait", "mod", "type", "const"]
            .iter()
            .any(|word| {
                line.split(&format!("{word} {last}"))
                    .nth(1)
                    .is_some_and(|rest| {
                        !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_')
                    })
            })
    };
    source
        .lines()
        .skip(start)
        .position(|line| !line.trim_start().starts_with("//") && defines(line))
        .map(|offset| start + offset + 1)
}

#[test]
fn the_architecture_quotes_lines_that_exist() {
    let path = root().join("ARCHITECTURE.md");
    let mut text = std::fs::read_to_string(&path).expect("ARCHITECTURE.md");
    let update = std::env::var_os("UPDATE").is_some();
    let mut findings = Vec::new();
    let all = quotes(&text);
    assert!(
        all.len() >= 30,
        "ARCHITECTURE.md walks four paths file by file; only {} quotations of code found",
        all.len()
    );
    for quote in all.into_iter().rev() {
        let Ok(source) = std::fs::read_to_string(root().join(&quote.file)) else {
            findings.push(format!("{}: no such file", quote.file));
            continue;
        };
        match definition(&source, &quote.name) {
            None => findings.push(format!(
                "{}: nothing there defines `{}`",
                quote.file, quote.name
            )),
            Some(line) if line != quote.line && update => {
                text.replace_range(quote.number_at, &line.to_string())
            }
            Some(line) if line != quote.line => findings.push(format!(
                "{}:{}: `{}` is on line {line} now (UPDATE=1 moves it)",
                quote.file, quote.line, quote.name
            )),
            Some(_) => {}
        }
    }
    if update {
        std::fs::write(&path, text).expect("ARCHITECTURE.md is writable");
    }
    report("ARCHITECTURE.md:", &findings);
}

#[test]
fn a_quotation_is_a_file_a_line_and_a_name() {
    let found = quotes("1. `a/b.rs:12` `Log::append` writes; `c.rs:7` without a name; see `d.rs`.");
    assert_eq!(found.len(), 1);
    assert_eq!(
        (
            found[0].file.as_str(),
            found[0].line,
            found[0].name.as_str()
        ),
        ("a/b.rs", 12, "Log::append")
    );
}

#[test]
fn a_definition_is_found_behind_its_impl() {
    let source = "fn append() {}\nimpl Log {\n    /// fn append is below\n    pub fn append(&self) {}\n    fn appended() {}\n}\n";
    assert_eq!(definition(source, "Log::append"), Some(4));
    assert_eq!(definition(source, "append"), Some(1));
    assert_eq!(definition(source, "appended"), Some(5));
    assert_eq!(definition(source, "missing"), None);
}
