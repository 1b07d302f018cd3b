//! The scripted model answers as the real services do, misbehaves when asked, and keeps a bill.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use assay_core::upstream::Dialect;
use assay_tests::model::{Model, Script, Settings};
use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};

const HOST: &str = "models.assay-demo.example";

async fn service(dialect: Dialect) -> Model {
    let prices = "version = \"v\"\n[models.\"assay-demo/scripted-1\"]\ninput = \"0.000001\"\noutput = \"0.000004\"\n\
                  context_tokens = 1000\nmax_output_tokens = 1000\n";
    let script = "[answers]\n\"What is it?\" = \"It is a heliotrope.\"";
    Model::start(Settings {
        listen: "127.0.0.1:0".parse().unwrap(),
        names: vec![HOST.to_owned()],
        dialect,
        dialects: BTreeMap::new(),
        key: "k".to_owned(),
        prices: toml::from_str(prices).unwrap(),
        script: toml::from_str::<Script>(script).unwrap(),
        pace: Duration::ZERO,
    })
    .await
    .unwrap()
}

/// One request on a connection that trusts the service's root alone.
async fn call(model: &Model, key: &str, body: &Value) -> (StatusCode, Result<String, hyper::Error>) {
    let mut roots = rustls::RootCertStore::empty();
    let pem = <rustls_pki_types::CertificateDer<'_> as rustls_pki_types::pem::PemObject>::from_pem_slice(
        model.root_pem.as_bytes(),
    );
    roots.add(pem.unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = tokio::net::TcpStream::connect(model.address).await.unwrap();
    let name = rustls_pki_types::ServerName::try_from(HOST).unwrap();
    let stream = tokio_rustls::TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
        .unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(connection);
    let request = Request::post("/v1/chat/completions")
        .header(header::HOST, HOST)
        .header(header::AUTHORIZATION, format!("Bearer {key}"))
        .body(Full::new(Bytes::from(body.to_string())))
        .unwrap();
    let response = sender.send_request(request).await.unwrap();
    let status = response.status();
    let body = response.into_body().collect().await;
    (
        status,
        body.map(|body| String::from_utf8(body.to_bytes().to_vec()).unwrap()),
    )
}

fn ask(text: &str) -> Value {
    json!({ "model": "assay-demo/scripted-1", "user": "run-1", "messages": [{ "role": "user", "content": text }] })
}

#[tokio::test]
async fn a_question_of_the_script_is_answered_and_billed_to_its_user() {
    let model = service(Dialect::OpenRouter).await;
    let (status, body) = call(&model, "k", &ask("ASSAY-DEMO: What is it?")).await;
    let body: Value = serde_json::from_str(&body.unwrap()).unwrap();
    assert_eq!(status, StatusCode::OK);
    assert_eq!(body["choices"][0]["message"]["content"], "It is a heliotrope.");
    let account = model.bill().users["run-1"];
    assert_eq!(account.requests, 1);
    assert_eq!(body["usage"]["cost"].to_string(), account.cost.to_string());
}

#[tokio::test]
async fn a_stream_carries_the_same_words_and_ends_as_the_dialect_does() {
    for (dialect, usages) in [(Dialect::OpenRouter, 1), (Dialect::OpenAi, 0)] {
        let model = service(dialect).await;
        let mut request = ask("ASSAY-DEMO: What is it?");
        request["stream"] = json!(true);
        let body = call(&model, "k", &request).await.1.unwrap();
        let events: Vec<&str> = body
            .split("\n\n")
            .filter_map(|event| event.strip_prefix("data: "))
            .collect();
        assert_eq!(events.last(), Some(&"[DONE]"));
        let parsed: Vec<Value> = events
            .iter()
            .filter_map(|event| serde_json::from_str(event).ok())
            .collect();
        let words: String = parsed
            .iter()
            .filter_map(|event| event["choices"][0]["delta"]["content"].as_str())
            .collect();
        assert_eq!(words, "It is a heliotrope.");
        assert_eq!(
            parsed.iter().filter(|event| event["usage"].is_object()).count(),
            usages
        );
    }
}

#[tokio::test]
async fn faults_come_when_asked_for() {
    let model = service(Dialect::OpenRouter).await;
    assert_eq!(
        call(&model, "k", &ask("ASSAY-FAULT-429")).await.0,
        StatusCode::TOO_MANY_REQUESTS
    );
    assert_eq!(
        call(&model, "k", &ask("ASSAY-FAULT-500")).await.0,
        StatusCode::INTERNAL_SERVER_ERROR
    );
    assert_eq!(
        call(&model, "k", &ask("ASSAY-FAULT-503")).await.0,
        StatusCode::SERVICE_UNAVAILABLE
    );
    assert!(model.bill().total().is_zero());
    assert_eq!(
        call(&model, "k", &ask("ASSAY-FAULT-500-BILLED")).await.0,
        StatusCode::INTERNAL_SERVER_ERROR
    );
    assert!(!model.bill().total().is_zero());
    assert!(call(&model, "k", &ask("ASSAY-FAULT-HALF-BODY")).await.1.is_err());
    let mut request = ask("ASSAY-FAULT-CUT-STREAM");
    request["stream"] = json!(true);
    assert!(call(&model, "k", &request).await.1.is_err());
    let request = ask("ASSAY-FAULT-SILENCE");
    let mut silence = Box::pin(call(&model, "k", &request));
    // A busy machine may take its time until the service hears what it is silent to.
    let heard = async {
        while model.bill().users["run-1"].faults < 4 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let is_heard = tokio::select! {
        _ = &mut silence => false,
        heard = tokio::time::timeout(Duration::from_mins(2), heard) => heard.is_ok(),
    };
    assert!(is_heard);
    let waited = tokio::time::timeout(Duration::from_millis(200), silence).await;
    assert!(waited.is_err());
    assert_eq!(model.bill().users["run-1"].faults, 4);
}

#[tokio::test]
async fn a_wrong_key_opens_nothing() {
    let model = service(Dialect::OpenAi).await;
    assert_eq!(call(&model, "wrong", &ask("x")).await.0, StatusCode::UNAUTHORIZED);
    assert!(model.bill().users.is_empty());
}
