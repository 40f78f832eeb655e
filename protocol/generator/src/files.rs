//! Finds the shapes on disk, for the command and for the test that compares. The only file of the
//! crate that reads one.
#![expect(
    clippy::disallowed_methods,
    reason = "shapes are read by a developer's command and by tests, never by the product"
)]

use std::path::{Path, PathBuf};

use crate::{Shape, parse};

/// Reads every `*.shape` file of a folder, in the order of their names.
///
/// # Errors
/// A sentence that names the file, and the line if the notation is wrong there.
pub fn read_shapes(folder: &Path) -> Result<Vec<Shape>, String> {
    let at = |path: &Path, problem: String| format!("{}: {problem}", path.display());
    let entries = std::fs::read_dir(folder).map_err(|e| at(folder, e.to_string()))?;
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry.map_err(|e| at(folder, e.to_string()))?.path();
        if path.extension().is_some_and(|e| e == "shape") {
            paths.push(path);
        }
    }
    paths.sort();
    let read = |path: &PathBuf| {
        let text = std::fs::read_to_string(path).map_err(|e| at(path, e.to_string()))?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        parse(&name, &text).map_err(|e| at(path, e.to_string()))
    };
    paths.iter().map(read).collect()
}
