//! `cargo run -p flumen-protocol-generator`: writes the generated files of flumen-protocol from
//! `protocol/shapes`.
#![allow(
    clippy::disallowed_methods,
    reason = "a developer's command: reads shapes and writes sources"
)]

use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    match run(&root) {
        Ok(written) => {
            println!("{written} files changed");
            ExitCode::SUCCESS
        }
        Err(problem) => {
            eprintln!("{problem}");
            ExitCode::FAILURE
        }
    }
}

/// Writes what differs; returns how many files that were.
fn run(root: &Path) -> Result<usize, String> {
    let shapes = flumen_protocol_generator::read_shapes(&root.join("protocol/shapes"))?;
    let files = flumen_protocol_generator::generate(&shapes);
    let mut written = 0;
    for (path, content) in &files {
        let path = root.join(path);
        if std::fs::read_to_string(&path).is_ok_and(|old| old == *content) {
            continue;
        }
        let folder = path.parent().expect("a generated file lies in a folder");
        std::fs::create_dir_all(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
        std::fs::write(&path, content).map_err(|e| format!("{}: {e}", path.display()))?;
        written += 1;
    }
    Ok(written)
}
