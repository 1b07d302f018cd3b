//! `assay-proxy beacon`: takes connections and closes them again. Network policies open its ports to sandboxes by phase, so
//! that a sandbox's proxy can see which phase the network is in.

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr},
};

use assay_core::egress::port;
use tokio::net::TcpListener;

use crate::accept;

/// Serves both ports until the process ends.
pub async fn serve() -> io::Result<()> {
    let agent = listen(port::BEACON_AGENT).await?;
    let verify = listen(port::BEACON_VERIFY).await?;
    tokio::join!(take(agent), take(verify));
    Ok(())
}

/// Both address families where the machine has both.
async fn listen(port: u16) -> io::Result<TcpListener> {
    match TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).await {
        Ok(listener) => Ok(listener),
        Err(_) => TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await,
    }
}

async fn take(listener: TcpListener) {
    loop {
        drop(accept::next(&listener).await);
    }
}
