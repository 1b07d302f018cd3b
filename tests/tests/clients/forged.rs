//! Rows I6: somebody has the key of the sandbox's intermediate. Every client believes it for the model hosts and for
//! nobody else, neither another name nor an address.
//!
//! On a stage without rules and proxy the real runner takes its root from such a thief, who then answers at addresses
//! outside. What a client thinks of a certificate shows by what it sends: a hello always, a request when it believes.

use std::{
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use assay_core::{
    clock::{Clock as _, SystemClock},
    control::proxy::Health,
    phase::EgressPhase,
};
use assay_proxy::ca::Intermediate;
use assay_tests::stage::{
    Place, Stage,
    address::{EVIL, GATEWAY, MODEL},
};
use rustls::{ServerConfig, crypto::CryptoProvider};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::TlsAcceptor;

use crate::{
    list::{CLIENTS, Client, Roots},
    scene,
};

/// What came to a forged site.
#[derive(Debug, Default)]
struct Came {
    connections: AtomicUsize,
    requests: AtomicUsize,
}

/// A site that shows a certificate of the thief's making.
struct Forged {
    base: &'static str,
    came: Arc<Came>,
}

#[test]
fn i6_no_client_believes_our_intermediate_for_another_name_or_an_address() {
    let Some(mut stage) = scene::unguarded() else {
        return;
    };
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let hosts = ["models.example.com".parse().unwrap()];
    let thief = Intermediate::new(&hosts, SystemClock.now()).unwrap();
    let site = |base, (address, port), name| {
        forged(
            &stage.internet.place,
            &thief,
            &provider,
            base,
            (address, port),
            name,
        )
    };
    let own = site(
        "https://models.example.com:9443",
        (MODEL.into(), 9443),
        "models.example.com",
    );
    let another = [
        site("https://evil.example:9443", (EVIL.into(), 9443), "evil.example"),
        site(
            "https://evil.example:9444",
            (EVIL.into(), 9444),
            "models.example.com",
        ),
        site("https://11.66.0.1:9445", (EVIL.into(), 9445), "11.66.0.1"),
    ];
    let control = SocketAddr::new(GATEWAY.into(), 15999);
    serve_trust(&stage.internet.place, control, thief.root_pem());
    stage.add_runner(control).unwrap();
    let faults: Vec<String> = CLIENTS
        .iter()
        .filter(|client| client.roots == Roots::Told)
        .flat_map(|client| judge(&stage, client, &own, &another))
        .collect();
    assert!(faults.is_empty(), "{faults:#?}");
}

/// What a client does that it should not.
fn judge(stage: &Stage, client: &Client, own: &Forged, another: &[Forged]) -> Vec<String> {
    let mut faults = Vec::new();
    let (connections, requests) = own.visited_by(stage, client);
    if connections == 0 || requests == 0 {
        faults.push(format!(
            "{} does not believe it even for {}",
            client.name, own.base
        ));
    }
    for site in another {
        let (connections, requests) = site.visited_by(stage, client);
        println!(
            "{} at {}: {connections} connections, {requests} requests",
            client.name, site.base
        );
        if connections == 0 {
            faults.push(format!("{} never came to {}", client.name, site.base));
        }
        if requests > 0 {
            faults.push(format!("{} believes {}", client.name, site.base));
        }
    }
    faults
}

impl Forged {
    /// How many connections and requests a client makes here.
    fn visited_by(&self, stage: &Stage, client: &Client) -> (usize, usize) {
        self.came.connections.store(0, Ordering::SeqCst);
        self.came.requests.store(0, Ordering::SeqCst);
        scene::run(stage, client, "plain", &format!("{}/v1", self.base));
        let read = |count: &AtomicUsize| count.load(Ordering::SeqCst);
        (read(&self.came.connections), read(&self.came.requests))
    }
}

fn forged(
    place: &Place,
    thief: &Intermediate,
    provider: &Arc<CryptoProvider>,
    base: &'static str,
    (address, port): (IpAddr, u16),
    name: &str,
) -> Forged {
    let config = Arc::new(thief.server(name, provider).unwrap());
    let came = Arc::new(Came::default());
    let counted = Arc::clone(&came);
    place.run(async move {
        let listener = TcpListener::bind(SocketAddr::new(address, port)).await.unwrap();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(answer(stream, Arc::clone(&config), Arc::clone(&counted)));
            }
        });
    });
    Forged { base, came }
}

/// Nobody finds anything here, and who asks is counted.
async fn answer(stream: TcpStream, config: Arc<ServerConfig>, came: Arc<Came>) {
    came.connections.fetch_add(1, Ordering::SeqCst);
    let Ok(mut stream) = TlsAcceptor::from(config).accept(stream).await else {
        return;
    };
    let mut head = [0; 4096];
    if stream.read(&mut head).await.is_ok_and(|length| length > 0) {
        came.requests.fetch_add(1, Ordering::SeqCst);
        let nothing = b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
        drop(stream.write_all(nothing).await);
        drop(stream.shutdown().await);
    }
}

/// Answers a runner as a proxy does, with the thief's root.
fn serve_trust(place: &Place, control: SocketAddr, root_pem: &str) {
    let health = Health {
        boot: "thief".to_owned(),
        monotonic_ms: 0,
        wire: 1,
        commit: String::new(),
        serving: true,
        faults: Vec::new(),
        phase: EgressPhase::Agent,
        generation: 0,
    };
    let (health, root) = (serde_json::to_string(&health).unwrap(), root_pem.to_owned());
    place.run(async move {
        let listener = TcpListener::bind(control).await.unwrap();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(tell(stream, health.clone(), root.clone()));
            }
        });
    });
}

async fn tell(mut stream: TcpStream, health: String, root: String) {
    let mut head = [0; 4096];
    while let Ok(length @ 1..) = stream.read(&mut head).await {
        let body = if head[..length].starts_with(b"GET /trust") {
            &root
        } else {
            &health
        };
        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        if stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}
