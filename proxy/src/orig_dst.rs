//! Where a captured connection was going before the packet rules turned it here. Evidence for the audit, nothing more:
//! the proxy never dials it.

use std::net::SocketAddr;

use socket2::SockRef;
use tokio::net::TcpStream;

/// The address that the client dialled; `None` where the connection came here by itself.
pub fn read(stream: &TcpStream) -> Option<SocketAddr> {
    let socket = SockRef::from(stream);
    let local = stream.local_addr().ok()?;
    let original = if local.is_ipv4() {
        socket.original_dst_v4()
    } else {
        socket.original_dst_v6()
    };
    original.ok()?.as_socket().filter(|original| *original != local)
}
