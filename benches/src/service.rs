//! Processes that are pinned to a CPU: the service, the database server and the floor.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use e2e::cluster::{Cluster, Plan};

/// The CPU of servers; clients run on the other one.
const SERVER_CPU: &str = "0";
const CLIENT_CPU: &str = "1";

/// Pins every thread of a process to the server's CPU, including threads that it starts later.
pub(crate) fn pin_server(id: u32) {
    pin(id, SERVER_CPU);
}

/// Pins this process to the clients' CPU.
pub(crate) fn pin_clients() {
    pin(std::process::id(), CLIENT_CPU);
}

/// Pins every thread of a process to a list of CPUs, including threads that it starts later.
pub(crate) fn pin(id: u32, cpu: &str) {
    let done = Command::new("taskset")
        .args(["--all-tasks", "--cpu-list", "--pid", cpu, &id.to_string()])
        .stdout(Stdio::null())
        .status()
        .expect("taskset is missing; install it with `apt-get install util-linux`");
    assert!(done.success(), "taskset refused CPU {cpu}");
}

/// Starts the service on a database, without limits for a load from one address.
pub(crate) async fn start(database_url: &str) -> Cluster {
    let cluster = Cluster::start(Plan::new(1, database_url).set("log", "warn")).await;
    pin_server(cluster.replicas()[0].id());
    cluster
}

/// The floor as a separate process. Dropping it ends the process.
pub(crate) struct Floor {
    child: Child,
    /// The address on which it listens.
    pub(crate) address: SocketAddr,
}

impl Floor {
    /// Starts it on its own database.
    pub(crate) fn start(database_url: &str) -> Self {
        use std::io::{BufRead as _, BufReader};
        let this = std::env::current_exe().expect("the path of this program");
        let mut child = Command::new(this)
            .args(["floor", database_url])
            .stdout(Stdio::piped())
            .spawn()
            .expect("this program starts");
        let mut line = String::new();
        let output = child.stdout.take().expect("it is piped");
        BufReader::new(output).read_line(&mut line).expect("the floor prints its address");
        let address = line.trim().parse().expect("an address");
        pin_server(child.id());
        Self { child, address }
    }
}

impl Drop for Floor {
    fn drop(&mut self) {
        // An error means that it has already ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Resident memory of a process, in MiB.
pub(crate) fn resident_mib(id: u32) -> f64 {
    let status = std::fs::read_to_string(Path::new("/proc").join(id.to_string()).join("status"));
    let status = status.expect("the process runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS");
    let kib: f64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
    kib / 1024.0
}

/// CPU time that a process has used so far, to a hundredth of a second.
pub(crate) fn cpu_time(id: u32) -> Duration {
    let stat = std::fs::read_to_string(Path::new("/proc").join(id.to_string()).join("stat"));
    let stat = stat.expect("the process runs");
    // The name is in brackets and may contain any character. User and system time are the 12th and 13th field
    // after it.
    let (_, after_name) = stat.rsplit_once(')').expect("a name in brackets");
    let ticks = after_name.split_whitespace().skip(11).take(2);
    Duration::from_millis(10 * ticks.map(|field| field.parse::<u64>().expect("a number")).sum::<u64>())
}

/// Waits until the machine is idle again.
pub(crate) async fn settle() {
    tokio::time::sleep(Duration::from_secs(2)).await;
}
