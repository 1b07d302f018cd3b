//! Passes an allowed connection through unopened, to the address that our own look-up gave for its name.

use tokio::net::TcpStream;

use crate::{
    audit::{Event, Unwritable},
    dial,
    phase::Flow,
    relay::Relay,
    serving::Serving,
    tls::Target,
    waits::Wait,
};

/// Dials, sends what was read already, and copies until one side ends or the phase does.
pub async fn run(
    serving: &Serving,
    flow: &Flow,
    mut client: TcpStream,
    target: Target,
    first: Vec<u8>,
    event: Event,
) {
    let (name, port) = target;
    if serving.audit.begin(&event).is_err() {
        return serving.audit.write(event.denied(Unwritable::CODE));
    }
    let dialled = tokio::select! {
        biased;
        () = flow.cut() => return,
        // cancel-safe: nothing was sent yet.
        dialled = serving.waits.measure(Wait::Dial, dial::host(&serving.resolver, &name, port)) => dialled,
    };
    let mut server = match dialled {
        Ok(server) => server,
        Err(error) => {
            tracing::debug!(
                error = &error as &dyn std::error::Error,
                "a host cannot be reached"
            );
            return serving.audit.write(event.denied(error.reason()));
        }
    };
    let event = event.dialled(server.peer_addr().ok());
    let mut relay = Relay::beginning_with(first);
    let cut = tokio::select! {
        biased;
        () = flow.cut() => true,
        // cancel-safe: the connections are dropped when the flow is cut.
        copied = relay.copy(client.split(), server.split()) => {
            if let Err(error) = copied {
                tracing::debug!(%error, "a connection that was passed through ended");
            }
            false
        }
    };
    if cut {
        reset(&client);
        reset(&server);
    }
    let event = if cut { event.reason("cut_by_phase") } else { event };
    let (up, down) = relay.passed();
    serving.audit.write(event.bytes(up, down));
}

/// Ends a connection at once, without waiting for what is on its way.
pub fn reset(stream: &TcpStream) {
    if let Err(error) = stream.set_zero_linger() {
        tracing::debug!(%error, "a socket option is refused");
    }
}
