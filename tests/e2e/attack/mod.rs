//! An attacker against the real binary: lying counts, bombs, nothing and everything twice, sieges by thousands of sockets. Each attack comes
//! from a printed seed (`SEED=42` repeats it) and must leave a broker that lives, answers its other clients and holds no more memory than is said.
//!
//! What bounds the memory: a connection holds an unfinished frame and the started ones, 64 KiB each, without asking; everything larger is
//! taken from `queued.max.request.bytes`; answers that nobody reads may take as much again; a batch is opened up to 32 times
//! `max.message.bytes`, one per processor at a time. [`Broker::slack`] is what the allocator may hold on top of that.

mod bombs;
mod client;
mod frames;
mod sockets;
mod victim;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};

use crate::server::{PATIENCE, Server};

const MIB: u64 = 1 << 20;

/// A broker under attack, and what it holds.
struct Broker {
    server: Server,
    /// Bytes it held before.
    before: u64,
}

impl Broker {
    /// A broker that has served a client once, so that what it allocates for its first is not blamed on the attack.
    fn start(settings: &[&str]) -> Broker {
        let server = Server::with(settings);
        victim::Victim::new(&server, "warm-up").rounds(50);
        let mut broker = Broker { server, before: 0 };
        broker.before = broker.status("VmRSS:");
        // The peak is counted from here on.
        let _ = std::fs::write(format!("/proc/{}/clear_refs", broker.server.id()), "5");
        broker
    }

    fn status(&self, field: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.server.id()));
        let status = status.expect("a running process has a status");
        let line = status.lines().find_map(|line| line.strip_prefix(field));
        let kilobytes = line.and_then(|line| line.split_whitespace().next());
        kilobytes
            .and_then(|n| n.parse::<u64>().ok())
            .expect("a number of kB")
            * 1024
    }

    /// File descriptors that are open.
    fn descriptors(&self) -> usize {
        let folder = std::fs::read_dir(format!("/proc/{}/fd", self.server.id()));
        folder.expect("a running process has descriptors").count()
    }

    /// Most bytes held since the start of the attack, above what was held before.
    fn peak(&self) -> u64 {
        self.status("VmHWM:").saturating_sub(self.before)
    }

    /// What the allocator may keep of pages that were freed, and what a broker in a debug build needs for its stacks.
    fn slack() -> u64 {
        64 * MIB
    }

    /// The process lives, and never held more than `bytes` and the allocator's slack above what it held before.
    fn held_at_most(&mut self, attack: &str, bytes: u64) {
        let (peak, allowed) = (self.peak(), bytes + Broker::slack());
        println!(
            "{attack}: peak +{} KiB of +{} KiB allowed, before {} KiB",
            peak / 1024,
            allowed / 1024,
            self.before / 1024
        );
        assert!(self.server.is_alive(), "{attack} killed the broker");
        assert!(peak <= allowed, "{attack}: {peak} bytes, {allowed} allowed");
    }
}

fn connect(server: &Server) -> TcpStream {
    let stream = TcpStream::connect(server.address()).expect("the broker listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    stream.set_write_timeout(Some(PATIENCE)).expect("a timeout");
    stream
}

/// Sends bytes and no more; returns all that comes back until the broker hangs up, as it must when its peer has.
fn last_words(server: &Server, bytes: &[u8]) -> Vec<u8> {
    let mut stream = connect(server);
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(Shutdown::Write);
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
            panic!("the broker does not hang up on {bytes:02x?}")
        }
        _ => answer,
    }
}
