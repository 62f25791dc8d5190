//! `auth-service healthcheck`, for container images without a shell.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::Duration;

use auth_service::config::Config;
use serde_json::json;

use super::Failure;
use super::output::Output;

const TIMEOUT: Duration = Duration::from_secs(3);

/// Requests `/readyz` from the configured public listener. Fails unless the status is 200. Prints nothing, so that it can be
/// repeated, except with `--json`.
pub(crate) async fn run(output: Output, config: &Config) -> Result<(), Failure> {
    let address = reachable(config.public_addr);
    let status = tokio::task::spawn_blocking(move || request_readiness(address)).await??;
    if !status.starts_with("HTTP/1.1 200") {
        return Err(format!("not ready: {status}").into());
    }
    if output.json { output.result(&json!({ "ready": true }), "") } else { Ok(()) }
}

/// Returns the status line.
fn request_readiness(address: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.write_all(b"GET /readyz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")?;
    let mut response = String::new();
    stream.take(4_096).read_to_string(&mut response)?;
    Ok(response.lines().next().unwrap_or_default().to_owned())
}

/// Returns the address to connect to: loopback if the listener accepts connections on all addresses.
pub(super) fn reachable(mut address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V4(v4) if v4.ip().is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        SocketAddr::V6(v6) if v6.ip().is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    address
}
