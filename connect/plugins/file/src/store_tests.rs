//! Crashes between any two writes, owners that overlap, files that are not what they were.
#![allow(clippy::disallowed_methods)]

use super::*;
use crate::journal::Next;
use tempfile::TempDir;

fn folder() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out.jsonl");
    (folder, path)
}

fn claim(path: &Path, owner: &str) -> Store {
    Store::claim(path, "sink", owner).unwrap()
}

fn append(store: &mut Store, lines: &str, offset: i64) -> Result<(), StoreError> {
    let mut next = store.commit().clone();
    let _ = next.next.insert(
        "t-0".to_owned(),
        Next {
            offset,
            topic_id: None,
        },
    );
    store.append(lines.as_bytes(), &next)
}

fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap()
}

#[test]
fn whatever_was_not_committed_is_cut_off() {
    let (_folder, path) = folder();
    let mut store = claim(&path, "a");
    append(&mut store, "one\n", 1).unwrap();
    let before = std::fs::read(beside(&path, ".offsets")).unwrap();
    append(&mut store, "two\n", 2).unwrap();
    drop(store);
    let (data, journal) = (
        std::fs::read(&path).unwrap(),
        std::fs::read(beside(&path, ".offsets")).unwrap(),
    );
    // The second batch crashed after `written` bytes of data and `logged` bytes of the sidecar.
    for written in 4..=data.len() {
        for logged in before.len()..=journal.len() {
            if logged > before.len() && written < data.len() {
                continue; // the sidecar is written after the data is on disk
            }
            std::fs::write(&path, &data[..written]).unwrap();
            std::fs::write(beside(&path, ".offsets"), &journal[..logged]).unwrap();
            let mut store = claim(&path, "b");
            let whole = logged == journal.len();
            assert_eq!(
                store.commit().next["t-0"].offset,
                if whole { 2 } else { 1 },
                "{written} {logged}"
            );
            assert_eq!(text(&path), if whole { "one\ntwo\n" } else { "one\n" });
            if !whole {
                append(&mut store, "two\n", 2).unwrap();
            }
            append(&mut store, "three\n", 3).unwrap();
            assert_eq!(text(&path), "one\ntwo\nthree\n");
        }
    }
}

#[test]
fn a_stopped_owner_is_fenced_and_can_hurt_nothing_when_it_wakes() {
    let (_folder, path) = folder();
    let mut zombie = claim(&path, "first worker");
    append(&mut zombie, "one\n", 1).unwrap();
    let mut owner = claim(&path, "second worker");
    append(&mut owner, "two\n", 2).unwrap();
    // It was stopped behind its own check, so it writes.
    zombie.data.write_all_at(b"zombie\n", 4).unwrap();
    zombie
        .journal
        .write_all_at(b"zombie\n", zombie.journal_length)
        .unwrap();
    assert_eq!(text(&path), "one\ntwo\n");
    let error = append(&mut zombie, "two\n", 2).unwrap_err();
    assert!(
        matches!(&error, StoreError::Fenced(why) if why.contains("claimed by second worker (epoch 2, ours was 1)")),
        "{error}"
    );
    append(&mut owner, "three\n", 3).unwrap();
    drop(owner);
    assert_eq!(claim(&path, "third").commit().next["t-0"].offset, 3);
    assert_eq!(text(&path), "one\ntwo\nthree\n");
}

#[test]
fn a_claim_that_died_between_its_renames_is_finished() {
    let (_folder, path) = folder();
    let mut zombie = claim(&path, "first");
    append(&mut zombie, "one\n", 1).unwrap();
    drop(claim(&path, "second"));
    // As if the second rename had not happened: the copy lies beside, the old file under the name.
    std::fs::rename(&path, beside(&path, ".claim")).unwrap();
    std::fs::write(&path, "one\nzombie\n").unwrap();
    let mut store = claim(&path, "third");
    append(&mut store, "two\n", 2).unwrap();
    assert_eq!(text(&path), "one\ntwo\n");
}

#[test]
fn a_file_with_content_is_appended_to_and_another_connector_is_refused() {
    let (_folder, path) = folder();
    std::fs::write(&path, "by hand\n").unwrap();
    let mut store = claim(&path, "a");
    append(&mut store, "one\n", 1).unwrap();
    drop(store);
    assert_eq!(text(&path), "by hand\none\n");
    let error = Store::claim(&path, "other", "b").unwrap_err();
    assert!(
        matches!(&error, StoreError::Refused(why) if why.contains("belongs to connector sink")),
        "{error}"
    );
}

#[test]
fn a_file_that_is_not_what_was_written_is_refused() {
    let (_folder, path) = folder();
    append(&mut claim(&path, "a"), "one\n", 1).unwrap();
    std::fs::write(&path, "on").unwrap();
    assert!(
        Store::claim(&path, "sink", "b")
            .unwrap_err()
            .to_string()
            .contains("4 bytes are committed, it has 2")
    );
    std::fs::write(&path, "two\nmore").unwrap();
    assert!(
        Store::claim(&path, "sink", "b")
            .unwrap_err()
            .to_string()
            .contains("ends differently")
    );
    std::fs::write(&path, "one\nmore").unwrap();
    drop(claim(&path, "b"));
    assert_eq!(text(&path), "one\n", "a copy of the file will do");
    std::fs::write(beside(&path, ".offsets"), "garbage\n").unwrap();
    assert!(
        Store::claim(&path, "sink", "b")
            .unwrap_err()
            .to_string()
            .contains("holds no whole line")
    );
}

#[test]
fn a_full_disk_is_an_error_and_leaves_the_last_commit() {
    let (_folder, path) = folder();
    let mut store = claim(&path, "a");
    append(&mut store, "one\n", 1).unwrap();
    let good = std::mem::replace(&mut store.data, disk::open(Path::new("/dev/full")).unwrap());
    // Opened for reading only: every write fails, as on a full disk.
    assert!(matches!(
        append(&mut store, "two\n", 2).unwrap_err(),
        StoreError::Retry(_) | StoreError::Fenced(_)
    ));
    store.data = good;
    store.poisoned = false;
    append(&mut store, "two\n", 2).unwrap();
    assert_eq!(text(&path), "one\ntwo\n");
}

#[test]
fn a_long_sidecar_is_begun_anew_and_stays_locked() {
    let (_folder, path) = folder();
    let mut store = claim(&path, "a");
    store.journal_length = JOURNAL_BYTES_MAX;
    append(&mut store, "one\n", 1).unwrap();
    assert!(std::fs::metadata(beside(&path, ".offsets")).unwrap().len() < 1000);
    append(&mut store, "two\n", 2).unwrap();
    assert_eq!(
        Store::claim(&path, "sink", "b").unwrap().commit().next["t-0"].offset,
        2
    );
    assert!(matches!(
        append(&mut store, "three\n", 3),
        Err(StoreError::Fenced(_))
    ));
}
