//! What this machine does without any broker: the least that producing and consuming need, each in one process. `make bench` prints it beside the brokers.
//!
//! `cargo run --release -p flumen-broker --example limits -- <directory> [<MB>]`, 1,000 MB by default. Three lines of name, MB/s and CPU seconds per GB of the
//! side that stands for the broker, separated by tabs:
//! loopback → CRC-32C → file; the same with fdatasync side by side, as a group commit does it; sendfile → loopback → read.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "a program that measures"
)]

use std::fs::File;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use flumen_protocol::batch::crc32c;
use socket2::SockRef;

/// A batch of librdkafka's is about this large.
const PIECE: usize = 1 << 20;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let dir = Path::new(arguments.first().expect("a directory"));
    let mb: usize = arguments
        .get(1)
        .map_or(1000, |text| text.parse().expect("a number of MB"));
    let pieces = mb * 1_000_000 / PIECE;
    let path = dir.join("limits");
    let file = File::create_new(&path).expect("the directory is there, the file is not");
    // Once for nothing: on a virtual machine the first to touch a free page pays for it.
    take(&file, pieces, false);
    file.set_len(0).unwrap();
    report("loopback → CRC → file", pieces, || {
        take(&file, pieces, false)
    });
    file.set_len(0).unwrap();
    report("loopback → CRC → file, fdatasync", pieces, || {
        take(&file, pieces, true)
    });
    let file = File::open(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    report("sendfile → read", pieces, || give(&file, pieces));
}

fn report(what: &str, pieces: usize, work: impl FnOnce() -> f64) {
    let begun = Instant::now();
    let cpu = work();
    let (seconds, bytes) = (begun.elapsed().as_secs_f64(), (pieces * PIECE) as f64);
    println!(
        "{what}\t{:.1}\t{:.3}",
        bytes / seconds / 1e6,
        cpu / bytes * 1e9
    );
}

/// CPU seconds of this thread.
fn cpu() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    let ns: f64 = text.split(' ').next().unwrap().parse().unwrap();
    ns / 1e9
}

fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let server = listener.accept().unwrap().0;
    for end in [&client, &server] {
        // A system's choice that paces is no limit of the machine. The broker does so on its own end only: a client's sends stay paced.
        SockRef::from(end).set_tcp_congestion(b"reno").unwrap();
    }
    (client, server)
}

/// The produce path: another thread sends.
fn take(file: &File, pieces: usize, sync: bool) -> f64 {
    let (mut client, mut server) = pair();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let piece = vec![b'x'; PIECE];
            for _ in 0..pieces {
                client.write_all(&piece).unwrap();
            }
        });
        let syncing = scope.spawn(|| {
            let before = cpu();
            while sync && !done.load(Ordering::Acquire) {
                file.sync_data().unwrap();
            }
            if sync {
                file.sync_data().unwrap();
            }
            cpu() - before
        });
        let before = cpu();
        let mut piece = vec![0; PIECE];
        for i in 0..pieces {
            server.read_exact(&mut piece).unwrap();
            std::hint::black_box(crc32c(&piece));
            file.write_all_at(&piece, (i * PIECE) as u64).unwrap();
        }
        let used = cpu() - before;
        done.store(true, Ordering::Release);
        used + syncing.join().unwrap()
    })
}

/// The fetch path: another thread reads.
fn give(file: &File, pieces: usize) -> f64 {
    let (mut client, server) = pair();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let mut piece = vec![0; PIECE];
            while client.read(&mut piece).unwrap() > 0 {}
        });
        let before = cpu();
        let mut position = 0;
        let end = (pieces * PIECE) as u64;
        while position < end {
            let sent = rustix::fs::sendfile(&server, file, Some(&mut position), PIECE);
            assert!(sent.unwrap() > 0, "the file ended early");
        }
        drop(server);
        cpu() - before
    })
}
