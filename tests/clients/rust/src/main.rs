//! The Rust client of the matrix: `client platform|bundled plain|stream BASE`. `platform` is reqwest as it is: rustls with
//! the roots of the platform. `bundled` trusts the roots that are compiled into it, as programs with webpki-roots do.

use std::{
    env,
    error::Error,
    io::{BufRead as _, BufReader},
};

use reqwest::{
    Certificate,
    blocking::{Client, Response},
};
use serde_json::{Value, json};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [roots, wanted, base] = arguments.as_slice() else {
        return Err("platform|bundled plain|stream BASE".into());
    };
    let base = if base == "-" { env::var("OPENAI_BASE_URL")? } else { base.clone() };
    let streams = wanted == "stream";
    let answer = ask(&client(roots)?, &base, streams)?;
    let parts = if streams { pieces(answer)? } else { vec![text(&answer.json()?, "message")] };
    let parts: Vec<String> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    println!("{}", json!({ "version": version(), "pieces": parts.len(), "text": parts.concat() }));
    Ok(())
}

fn client(roots: &str) -> Result<Client> {
    let builder = Client::builder();
    if roots == "platform" {
        return Ok(builder.build()?);
    }
    let compiled = webpki_root_certs::TLS_SERVER_ROOT_CERTS.iter();
    let compiled: reqwest::Result<Vec<Certificate>> = compiled.map(|der| Certificate::from_der(der)).collect();
    Ok(builder.tls_certs_only(compiled?).build()?)
}

fn ask(client: &Client, base: &str, streams: bool) -> Result<Response> {
    let question = json!({
        "model": "test/small", "max_tokens": 200, "stream": streams,
        "messages": [{ "role": "user", "content": "ASSAY-TOKENS: 40" }],
    });
    let request = client.post(format!("{base}/chat/completions"));
    let request = request.bearer_auth(env::var("OPENAI_API_KEY")?).json(&question);
    Ok(request.send()?.error_for_status()?)
}

fn pieces(answer: Response) -> Result<Vec<String>> {
    let mut parts = Vec::new();
    for line in BufReader::new(answer).lines() {
        let line = line?;
        match line.strip_prefix("data: ") {
            Some("[DONE]") | None => {}
            Some(data) => parts.push(text(&serde_json::from_str(data)?, "delta")),
        }
    }
    Ok(parts)
}

fn text(answer: &Value, part: &str) -> String {
    answer["choices"][0][part]["content"].as_str().unwrap_or_default().to_owned()
}

/// Of reqwest, as it was built in.
fn version() -> &'static str {
    let locked = include_str!("../Cargo.lock").split("name = \"reqwest\"\nversion = \"").nth(1);
    locked.and_then(|rest| rest.split('"').next()).unwrap_or("?")
}
