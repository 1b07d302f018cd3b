//! The server and the client of this crate against each other, on loopback.

#![expect(clippy::unwrap_used, reason = "a test ends where an expectation does")]

use std::time::Duration;

use assay_core::problem::Problem;
use assay_runtime::{
    client::{Client, Error},
    serve::{Options, serve},
};
use bytes::Bytes;
use http::{Method, Response, StatusCode};
use http_body_util::Full;
use hyper::{Request, body::Incoming};
use tokio::net::{TcpListener, TcpSocket};
use tokio_util::sync::CancellationToken;

async fn answer(request: Request<Incoming>) -> Response<Full<Bytes>> {
    match request.uri().path() {
        "/greeting" => Response::new(Full::from("\"hello\"")),
        "/slow" => std::future::pending().await,
        "/nothing" => {
            let mut response = Response::default();
            *response.status_mut() = StatusCode::NO_CONTENT;
            response
        }
        _ => {
            let body =
                serde_json::to_vec(&Problem::new(404, "no_such_thing", "there is no such thing")).unwrap();
            let mut response = Response::new(Full::from(body));
            *response.status_mut() = StatusCode::NOT_FOUND;
            response
        }
    }
}

async fn server() -> (
    String,
    CancellationToken,
    tokio::task::JoinHandle<std::io::Result<()>>,
) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let draining = CancellationToken::new();
    let options = Options {
        drain_timeout: Duration::from_millis(200),
        ..Options::default()
    };
    let server = tokio::spawn(serve(listener, options, draining.clone(), answer));
    (url, draining, server)
}

#[tokio::test]
async fn answers_are_read_as_json_and_problems_as_errors() {
    let (url, ..) = server().await;
    let client = Client::new(PATIENCE);
    let greeting: String = client
        .json(Method::GET, &format!("{url}/greeting"), None, None::<&()>)
        .await
        .unwrap();
    assert_eq!(greeting, "hello");
    client
        .json::<(), ()>(Method::POST, &format!("{url}/nothing"), Some("key"), None)
        .await
        .unwrap();
    let error = client
        .json::<(), String>(Method::GET, &format!("{url}/else"), None, None)
        .await
        .unwrap_err();
    assert_eq!(error.code(), Some("no_such_thing"));
    assert!(!error.is_transient());
}

#[tokio::test]
async fn a_call_ends_at_its_deadline_and_says_where_it_went() {
    let (url, ..) = server().await;
    let client = Client::new(Duration::from_millis(50));
    let error = client
        .json::<(), ()>(Method::GET, &format!("{url}/slow?secret=1"), None, None)
        .await
        .unwrap_err();
    assert!(
        matches!(error, Error::Timeout { .. }) && error.is_transient(),
        "{error}"
    );
    assert!(!error.to_string().contains("secret"), "{error}");
}

#[tokio::test]
async fn nobody_there_is_transient() {
    // The port stays ours, so that nobody else comes to listen there.
    let silent = TcpSocket::new_v4().unwrap();
    silent.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let url = format!("http://{}/", silent.local_addr().unwrap());
    let client = Client::new(PATIENCE);
    let error = client
        .json::<(), ()>(Method::GET, &url, None, None)
        .await
        .unwrap_err();
    assert!(
        matches!(error, Error::Connection { .. }) && error.is_transient(),
        "{error}"
    );
}

#[tokio::test]
async fn a_drain_ends_even_when_a_request_does_not() {
    let (url, draining, server) = server().await;
    let client = Client::new(PATIENCE);
    let slow = tokio::spawn(async move {
        client
            .json::<(), ()>(Method::GET, &format!("{url}/slow"), None, None)
            .await
    });
    tokio::task::yield_now().await;
    draining.cancel();
    tokio::time::timeout(PATIENCE, server)
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    slow.abort();
}

/// The longest that a busy machine may take for something that comes.
const PATIENCE: Duration = Duration::from_mins(2);
