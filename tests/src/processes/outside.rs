//! A web server of the world outside, in a network namespace on a cable to this machine. Its address looks public, because
//! a proxy dials no others; nobody real is ever meant.

use std::{
    net::Ipv4Addr,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use crate::stage::{Place, namespace::ip};

/// The server. Its cable goes with it.
#[derive(Debug)]
pub struct Outside {
    /// Where it answers on port 80.
    pub address: Ipv4Addr,
    place: Place,
    cable: String,
    visits: Arc<Mutex<Vec<String>>>,
}

impl Outside {
    /// Serves `answer` to everybody.
    pub fn start(answer: &str) -> anyhow::Result<Self> {
        // Process ids differ between suites that run beside this one.
        let number = u8::try_from(std::process::id() % 250)?;
        let (address, near) = (
            Ipv4Addr::new(11, 77, number, 1),
            Ipv4Addr::new(11, 77, number, 254),
        );
        let outside = Self {
            address,
            place: Place::new()?,
            cable: format!("assay-out{number}"),
            visits: Arc::default(),
        };
        let cable = &outside.cable;
        ip(&format!(
            "link add {cable} type veth peer name eth0 netns {}",
            outside.place.path()
        ))?;
        ip(&format!("addr add {near}/24 dev {cable}"))?;
        ip(&format!("link set {cable} up"))?;
        let (answer, visits) = (answer.to_owned(), Arc::clone(&outside.visits));
        outside.place.run(async move {
            ip(&format!("addr add {address}/24 dev eth0"))?;
            ip("link set eth0 up")?;
            ip(&format!("route add default via {near}"))?;
            let listener = TcpListener::bind((address, 80)).await?;
            tokio::spawn(serve(listener, answer, visits));
            anyhow::Ok(())
        })?;
        Ok(outside)
    }

    /// The first lines of the requests so far.
    pub fn visits(&self) -> Vec<String> {
        self.visits.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        if let Err(error) = ip(&format!("link del {}", self.cable)) {
            eprintln!("{error}");
        }
    }
}

async fn serve(listener: TcpListener, answer: String, visits: Arc<Mutex<Vec<String>>>) {
    while let Ok((stream, _)) = listener.accept().await {
        let (answer, visits) = (answer.clone(), Arc::clone(&visits));
        tokio::spawn(async move {
            if let Err(error) = one(stream, &answer, &visits).await {
                eprintln!("outside: {error}");
            }
        });
    }
}

async fn one(mut stream: TcpStream, answer: &str, visits: &Mutex<Vec<String>>) -> std::io::Result<()> {
    let (mut head, mut piece) = (Vec::new(), [0; 4096]);
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        match stream.read(&mut piece).await? {
            0 => return Ok(()),
            read => head.extend_from_slice(&piece[..read]),
        }
    }
    let text = String::from_utf8_lossy(&head);
    let first = text.lines().next().unwrap_or_default().to_owned();
    visits.lock().unwrap_or_else(PoisonError::into_inner).push(first);
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        answer.len()
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(answer.as_bytes()).await
}
