//! Each client works: by its own TLS, by the base URL, and with hosts that are passed through.

use assay_tests::stage::{
    Stage,
    address::{ALLOWED, PACKAGES},
};

use crate::{
    list::{Client, Roots, Speaks, named},
    scene::{self, Run},
};

/// A row of the table.
struct Row {
    route: &'static str,
    plain: Result<(), String>,
    /// `None` where there is nothing to stream.
    stream: Option<Result<(), String>>,
}

/// Tries every route that a client has, prints the rows, and fails when one does not work.
fn works(name: &str) {
    let Some(stage) = scene::take() else { return };
    let client = named(name);
    let version = version(&stage, &client);
    let rows = match (client.speaks, client.roots) {
        (Speaks::Packages, _) => vec![packages(&stage, &client)],
        (Speaks::Models, Roots::Told) => {
            vec![
                captured(&stage, &client),
                base_url(&stage, &client),
                passed_through(&stage, &client),
            ]
        }
        (Speaks::Models, Roots::Own) => vec![base_url(&stage, &client)],
    };
    for row in &rows {
        let word = |result: &Result<(), String>| if result.is_ok() { "ok" } else { "FAILS" };
        let stream = row.stream.as_ref().map_or("-", word);
        let fails = row.plain.is_err() || row.stream.as_ref().is_some_and(Result::is_err);
        let verdict = if fails { "FAILS" } else { "works" };
        println!(
            "| {name} | {version} | {} | {} | {stream} | {verdict} |",
            row.route,
            word(&row.plain)
        );
    }
    let faults: Vec<String> = rows.into_iter().flat_map(Row::faults).collect();
    assert!(faults.is_empty(), "{name}: {}", faults.join("\n"));
}

impl Row {
    fn faults(self) -> Vec<String> {
        let results = [Some(self.plain), self.stream].into_iter().flatten();
        results
            .filter_map(Result::err)
            .map(|fault| format!("{}: {fault}", self.route))
            .collect()
    }
}

fn version(stage: &Stage, client: &Client) -> String {
    let base = match client.speaks {
        Speaks::Models => "-",
        Speaks::Packages => PACKAGE_HOST,
    };
    let said = scene::run(stage, client, "plain", base).said;
    said.map_or_else(|_| "?".to_owned(), |said| said.version)
}

fn captured(stage: &Stage, client: &Client) -> Row {
    model_row(stage, client, "captured TLS", "https://models.example.com/api/v1")
}

fn base_url(stage: &Stage, client: &Client) -> Row {
    model_row(stage, client, "base URL", "-")
}

fn model_row(stage: &Stage, client: &Client, route: &'static str, base: &str) -> Row {
    Row {
        route,
        plain: asked(stage, client, "plain", base),
        stream: Some(asked(stage, client, "stream", base)),
    }
}

/// The whole text arrived, in as many pieces as were asked for, and the service was paid: it answers nobody without the
/// real key.
fn asked(stage: &Stage, client: &Client, wanted: &str, base: &str) -> Result<(), String> {
    let billed = || -> u64 {
        let users = stage.internet.model.bill().users;
        users.values().map(|account| account.requests).sum()
    };
    let before = billed();
    let said = scene::run(stage, client, wanted, base).said?;
    if said.text != "word ".repeat(40) {
        return Err(format!("another text: {said:?}"));
    }
    if (wanted == "stream") != (said.pieces > 1) {
        return Err(format!("{} pieces", said.pieces));
    }
    if billed() != before + 1 {
        return Err(format!("{} calls were billed", billed() - before));
    }
    Ok(())
}

/// The request of a client for a host that is not opened arrives there: its certificate was believed.
fn passed_through(stage: &Stage, client: &Client) -> Row {
    let Run { said, outcome } = scene::run(stage, client, "plain", "https://allowed.example/v1");
    let arrived = outcome.seen.visits.iter().any(|visit| {
        visit.site == ALLOWED
            && visit.name.as_deref() == Some("allowed.example")
            && visit.text.contains("/v1/")
    });
    Row {
        route: "passed through",
        plain: if arrived {
            Ok(())
        } else {
            Err(format!("nothing arrived: {said:?}"))
        },
        stream: None,
    }
}

fn packages(stage: &Stage, client: &Client) -> Row {
    let Run { said, outcome } = scene::run(stage, client, "plain", PACKAGE_HOST);
    let plain = match said {
        Ok(said) if said.text == "sample" && outcome.seen.visited(PACKAGES) => Ok(()),
        Ok(said) => Err(format!("another text: {said:?}")),
        Err(fault) => Err(fault),
    };
    Row {
        route: "passed through",
        plain,
        stream: None,
    }
}

const PACKAGE_HOST: &str = "https://packages.example";

#[test]
fn curl() {
    works("curl");
}

#[test]
fn python_requests() {
    works("Python requests");
}

#[test]
fn python_urllib3() {
    works("Python urllib3");
}

#[test]
fn python_httpx() {
    works("Python httpx");
}

#[test]
fn python_aiohttp() {
    works("Python aiohttp");
}

#[test]
fn python_openai() {
    works("Python openai");
}

#[test]
fn python_anthropic() {
    works("Python anthropic");
}

#[test]
fn python_litellm() {
    works("Python litellm");
}

#[test]
fn node_fetch() {
    works("Node fetch");
}

#[test]
fn node_openai() {
    works("Node openai");
}

#[test]
fn go_net_http() {
    works("Go net/http");
}

#[test]
fn java_http_client() {
    works("Java HttpClient");
}

#[test]
fn rust_reqwest() {
    works("Rust reqwest");
}

#[test]
fn rust_reqwest_with_bundled_roots() {
    works("Rust reqwest with bundled roots");
}

#[test]
fn git() {
    works("git");
}

#[test]
fn pip() {
    works("pip");
}

#[test]
fn npm() {
    works("npm");
}
