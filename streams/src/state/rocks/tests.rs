//! Both backends against one list of expectations, and RocksDB against kill -9.
#![allow(
    clippy::disallowed_methods,
    reason = "a test that kills a process needs a process"
)]

use std::io::{BufRead, BufReader};
use std::ops::ControlFlow;
use std::process::{Command, Stdio};

use super::super::memory::MemoryStore;
use super::*;

fn memory() -> RocksMemory {
    RocksMemory::new(4 << 20, 8 << 20)
}

fn open(folder: &Path) -> RocksDatabase {
    RocksDatabase::open(
        folder,
        &["counts".to_owned(), "names".to_owned()],
        &memory(),
    )
    .unwrap()
}

fn put(batch: &mut Batch, key: &[u8], value: &[u8]) {
    batch.push(key, Some((value, b"")));
}

fn rows(store: &dyn StateBackend) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut rows = Vec::new();
    let mut visit = |key: &[u8], value: &[u8]| {
        rows.push((key.to_vec(), value.to_vec()));
        ControlFlow::Continue(())
    };
    store.scan(b"", None, &mut visit).unwrap();
    rows
}

fn check_backend(store: &dyn StateBackend) {
    assert_eq!(
        (store.position().unwrap(), store.last_key().unwrap()),
        (None, None)
    );
    let mut batch = Batch::new();
    for key in [&b"c"[..], b"a", b"\xff\xff", b""] {
        put(&mut batch, key, &[b'v', *key.first().unwrap_or(&0)]);
    }
    store.write(&mut batch, Some(7)).unwrap();
    assert_eq!(store.position().unwrap(), Some(7));
    assert_eq!(store.last_key().unwrap(), Some(b"\xff\xff".to_vec()));
    let found = store.multi_get(&[b"", b"a", b"b", b"c"]).unwrap();
    assert_eq!(
        found,
        [
            Some(b"v\0".to_vec()),
            Some(b"va".to_vec()),
            None,
            Some(b"vc".to_vec())
        ]
    );

    let mut batch = Batch::new();
    batch.drop_range(b"a", b"c");
    put(&mut batch, b"b", b"new");
    batch.push(b"c", None);
    store.write(&mut batch, None).unwrap();
    let keys: Vec<_> = rows(store).into_iter().map(|(key, _)| key).collect();
    assert_eq!(keys, [&b""[..], b"b", b"\xff\xff"]);
    assert_eq!(
        store.position().unwrap(),
        Some(7),
        "a write without a position leaves it"
    );
    let mut first = Vec::new();
    let mut visit = |key: &[u8], _: &[u8]| {
        first.push(key.to_vec());
        ControlFlow::Break(())
    };
    store.scan(b"a", Some(b"z"), &mut visit).unwrap();
    assert_eq!(first, [b"b"]);

    let mut batch = Batch::new();
    (0..INGEST_ROWS as u32 + 5).for_each(|n| put(&mut batch, &n.to_be_bytes(), b"x"));
    batch.drop_range(b"", b"\x01");
    store.write(&mut batch, Some(9)).unwrap();
    assert_eq!(
        (rows(store).len(), store.position().unwrap()),
        (INGEST_ROWS + 5 + 2, Some(9))
    );

    store.wipe().unwrap();
    assert_eq!(
        (
            rows(store),
            store.position().unwrap(),
            store.last_key().unwrap()
        ),
        (Vec::new(), None, None)
    );
}

#[test]
fn memory_keeps_what_a_backend_promises() {
    check_backend(&MemoryStore::new());
}

#[test]
fn rocks_keeps_what_a_backend_promises_and_neighbours_stay_apart() {
    let folder = tempfile::tempdir().unwrap();
    let database = open(folder.path());
    let neighbours = [
        database.store("counts", 1),
        database.store("counts", 3),
        database.store("names", 2),
    ];
    for neighbour in &neighbours {
        let mut batch = Batch::new();
        put(&mut batch, b"k", neighbour.name.as_bytes());
        neighbour.write(&mut batch, Some(3)).unwrap();
    }
    check_backend(&database.store("counts", 2));
    for neighbour in &neighbours {
        assert_eq!(
            rows(neighbour),
            [(b"k".to_vec(), neighbour.name.as_bytes().to_vec())]
        );
        assert_eq!(neighbour.position().unwrap(), Some(3));
    }
}

#[test]
fn a_clean_end_keeps_everything_and_stores_come_and_go() {
    let folder = tempfile::tempdir().unwrap();
    let database = open(folder.path());
    let mut batch = Batch::new();
    put(&mut batch, b"k", b"v");
    database
        .store("counts", 0)
        .write(&mut batch, Some(1))
        .unwrap();
    drop(database);
    let stores = ["other".to_owned()];
    drop(RocksDatabase::open(folder.path(), &stores, &memory()).unwrap());
    let store = open(folder.path()).store("counts", 0);
    assert_eq!(
        (rows(&store).len(), store.position().unwrap()),
        (1, Some(1))
    );
}

#[test]
fn a_corrupt_database_is_set_aside() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("db");
    drop(open(&path));
    fs::write(path.join("CURRENT"), "MANIFEST-none\n").unwrap();
    let before = fs::read_dir(&path)
        .unwrap()
        .filter_map(|entry| entry.ok().map(|entry| entry.path()));
    before
        .filter(|file| file.to_string_lossy().contains("MANIFEST-0"))
        .for_each(|file| fs::write(file, "no manifest").unwrap());
    let current = fs::read_dir(&path)
        .unwrap()
        .filter_map(|entry| entry.ok())
        .find(|entry| {
            entry
                .file_name()
                .to_string_lossy()
                .starts_with("MANIFEST-0")
        });
    let name = current.unwrap().file_name().into_string().unwrap();
    fs::write(path.join("CURRENT"), format!("{name}\n")).unwrap();
    let store = open(&path).store("counts", 0);
    assert_eq!(store.position().unwrap(), None);
    assert!(path.with_extension("corrupt").exists());
}

/// One row a round in one of two stores: key = round, value = round; position = round + 1; ingests now and then.
fn write_rounds(folder: &Path) -> ! {
    let database = open(folder);
    let counts = database.store("counts", 5);
    let names = database.store("names", 5);
    for round in 0i64.. {
        let store = if round % 3 == 0 { &names } else { &counts };
        let mut batch = Batch::new();
        let copies = if round % 400 == 399 {
            INGEST_ROWS as u32
        } else {
            1
        };
        (0..copies).for_each(|n| {
            put(
                &mut batch,
                &[&n.to_be_bytes()[..], &round.to_be_bytes()].concat(),
                &[7; 200],
            )
        });
        store.write(&mut batch, Some(round + 1)).unwrap();
        if round % 97 == 0 {
            store.flush(false).unwrap();
        }
        println!("\nround {round}");
    }
    unreachable!()
}

#[test]
fn after_kill_9_each_store_equals_its_own_position() {
    if let Ok(folder) = std::env::var("FLUMEN_TEST_ROCKS_CHILD") {
        write_rounds(Path::new(&folder));
    }
    let mut differed = 0;
    for run in 0..6u64 {
        let folder = tempfile::tempdir().unwrap();
        let name = "state::rocks::tests::after_kill_9_each_store_equals_its_own_position";
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", name, "--nocapture"])
            .env("FLUMEN_TEST_ROCKS_CHILD", folder.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let wanted = format!("round {}", 250 + run * 333);
        assert!(
            lines.map_while(Result::ok).any(|line| line == wanted),
            "the child ended before {wanted}"
        );
        child.kill().unwrap(); // SIGKILL
        child.wait().unwrap();
        let database = open(folder.path());
        let mut positions = Vec::new();
        for (name, mine) in [("counts", false), ("names", true)] {
            let store = database.store(name, 5);
            let position = store.position().unwrap().unwrap_or(0);
            let expected: usize = (0..position)
                .filter(|round| (round % 3 == 0) == mine)
                .map(|round| if round % 400 == 399 { INGEST_ROWS } else { 1 })
                .sum();
            assert_eq!(
                rows(&store).len(),
                expected,
                "run {run}: {name} at {position}"
            );
            positions.push(position);
        }
        println!("run {run}: positions {positions:?}");
        differed += usize::from(positions[0].abs_diff(positions[1]) > 3);
    }
    assert!(
        differed > 0,
        "the test shows nothing if the stores never drift apart"
    );
}
