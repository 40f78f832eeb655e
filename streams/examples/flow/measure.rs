//! What a benchmark asks of the kernel: CPU time and memory of processes, and which process listens on a port.

#![expect(
    clippy::disallowed_methods,
    reason = "a benchmark reads the clock and /proc"
)]

use std::time::Instant;

use crate::Failure;

pub(crate) fn now() -> Instant {
    Instant::now()
}

/// User and system seconds of a process so far, from the kernel's clock ticks of 10 ms.
pub(crate) fn cpu_seconds(process: &str) -> Result<f64, Failure> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat"))?;
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    let ticks = after_name.split_whitespace().skip(11).take(2);
    let ticks = ticks.map(str::parse::<f64>).sum::<Result<f64, _>>()?;
    Ok(ticks / 100.0)
}

/// The most memory a process ever had in use, in MB of 10^6 bytes.
pub(crate) fn peak_memory_mb(process: &str) -> Result<f64, Failure> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let peak = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .and_then(|peak| peak.split_whitespace().next())
        .ok_or("no VmHWM")?;
    Ok(peak.parse::<f64>()? * 1024.0 / 1e6)
}

/// The local processes that listen on the ports of these addresses; none if they belong to somebody else.
pub(crate) fn listening(bootstrap: &str) -> Vec<String> {
    let ports: Vec<u16> = bootstrap
        .split(',')
        .filter_map(|address| address.rsplit(':').next()?.trim().parse().ok())
        .collect();
    let mut sockets = Vec::new();
    for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
        let table = std::fs::read_to_string(table).unwrap_or_default();
        for line in table.lines().skip(1) {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let [_, local, _, "0A", .., inode] = &fields[..fields.len().min(10)] else {
                continue;
            };
            let port = local.rsplit(':').next();
            let port = port.and_then(|port| u16::from_str_radix(port, 16).ok());
            if port.is_some_and(|port| ports.contains(&port)) {
                sockets.push(format!("socket:[{inode}]"));
            }
        }
    }
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let names = processes.filter_map(|process| process.file_name().into_string().ok());
    names
        .filter(|name| name.bytes().all(|letter| letter.is_ascii_digit()))
        .filter(|process| holds(process, &sockets))
        .collect()
}

fn holds(process: &str, sockets: &[String]) -> bool {
    let open = std::fs::read_dir(format!("/proc/{process}/fd"));
    open.into_iter().flatten().flatten().any(|file| {
        let target = std::fs::read_link(file.path());
        target.is_ok_and(|target| sockets.iter().any(|socket| target.as_os_str() == &**socket))
    })
}

/// CPU seconds of all of them together; `None` where there are none.
pub(crate) fn cpu_of_all(processes: &[String]) -> Result<Option<f64>, Failure> {
    if processes.is_empty() {
        return Ok(None);
    }
    let seconds = processes.iter().map(|process| cpu_seconds(process));
    seconds.sum::<Result<f64, _>>().map(Some)
}
