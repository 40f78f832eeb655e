//! The generated files are those of the shapes.

use std::collections::BTreeSet;
use std::path::Path;

use crate::messages;

const COMMAND: &str = "run `cargo run -p flumen-protocol-generator`";

#[test]
fn generated_files_are_up_to_date() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let files = flumen_protocol_generator::generate(&messages::shapes());
    for (path, content) in &files {
        let found = std::fs::read_to_string(root.join(path)).unwrap_or_default();
        assert!(found == *content, "{path} is out of date; {COMMAND}");
    }
    let folder = root.join("protocol/src/message");
    let present: BTreeSet<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .collect();
    let wanted: BTreeSet<String> = files
        .keys()
        .filter_map(|path| path.strip_prefix("protocol/src/message/"))
        .map(str::to_owned)
        .collect();
    assert_eq!(present, wanted, "a file in src/message belongs to no shape");
}

#[test]
fn the_smallest_size_of_a_struct_is_never_zero() {
    for shape in messages::shapes() {
        for message in &shape.messages {
            for s in message.structs.iter().skip(1) {
                for version in s.versions.iter() {
                    let size = message.struct_size(s, version);
                    assert!(size > 0, "{}.{} {version}", message.name, s.name);
                }
            }
        }
    }
}
