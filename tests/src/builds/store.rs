//! Where the pods of a build get archives from: one store for all tests of this process, on the node's address and the one
//! port that the test cluster's policies open for it. It counts how often each archive was asked for.

use std::{
    collections::HashMap,
    io::{BufRead as _, BufReader, Write as _},
    net::{TcpListener, TcpStream},
    sync::{LazyLock, Mutex},
    thread,
};

const ADDRESS: &str = "10.250.0.1:5001";

#[derive(Default)]
struct Object {
    bytes: Vec<u8>,
    asked: usize,
}

static OBJECTS: LazyLock<Mutex<HashMap<String, Object>>> = LazyLock::new(|| {
    let listener = TcpListener::bind(ADDRESS).unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            thread::spawn(|| answer(stream));
        }
    });
    Mutex::default()
});

/// Where an object is, or would be.
pub fn url(name: &str) -> String {
    format!("http://{ADDRESS}/{name}")
}

/// Keeps an object.
pub fn put(name: &str, bytes: Vec<u8>) {
    let object = Object { bytes, asked: 0 };
    OBJECTS.lock().unwrap().insert(name.to_owned(), object);
}

/// How often it was asked for.
pub fn asked(name: &str) -> usize {
    OBJECTS.lock().unwrap().get(name).map_or(0, |object| object.asked)
}

/// One request for each connection.
fn answer(stream: TcpStream) -> Option<()> {
    let mut lines = BufReader::new(&stream).lines().map_while(Result::ok);
    let first = lines.next()?;
    lines.find(String::is_empty)?;
    let name = first
        .split_whitespace()
        .nth(1)?
        .trim_start_matches('/')
        .to_owned();
    let found = OBJECTS.lock().unwrap().get_mut(&name).map(|object| {
        object.asked += 1;
        object.bytes.clone()
    });
    let (status, bytes) = found.map_or(("404 Not Found", Vec::new()), |bytes| ("200 OK", bytes));
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        bytes.len()
    );
    (&stream).write_all(head.as_bytes()).ok()?;
    (&stream).write_all(&bytes).ok()
}
