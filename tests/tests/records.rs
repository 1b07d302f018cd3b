//! What a run leaves of its model calls, end to end on a whole installation with real containers: the audit is verified,
//! the calls become a trajectory, and a later run is answered from them, without the model service and at no cost.

#![expect(clippy::unwrap_used, reason = "a test fails by a panic")]

use assay_cli::{args::Cli, error::Error};
use assay_core::{
    cause::Cause,
    control::runner::Stream,
    money::PicoUsd,
    phase::Phase,
    policy::{Policy, Recorded},
    recording,
    trajectory::{self, Source, Subject},
    wire::{
        channel::{Channel, Record, Sidecar},
        people::{NewKey, Scope},
    },
};
use assay_tests::installation::{
    Ended, Installation, MODEL, Order, Setup,
    files::{python_agent, python_task},
};
use clap::Parser as _;

#[tokio::test(flavor = "multi_thread")]
async fn a_recorded_run_is_verified_told_as_a_trajectory_and_replayed_without_its_service() {
    let setup = match Setup::from_env("ASSAY_TEST_DOCKER") {
        Ok(setup) => setup,
        #[expect(clippy::print_stderr, reason = "why a test did not run must be told")]
        Err(missing) => return eprintln!("skipped: {missing}"),
    };
    let home = Installation::start(setup).await.unwrap();
    let task = home.register_task(&python_task()).await.unwrap().digest;
    let agent = home.register_agent(&python_agent(AGENT)).await.unwrap();
    let policy = policy();
    let order = Order { task, agent, policy };
    let first = run(&home, &order).await;
    assert_eq!(
        (first.run.cause, first.run.score),
        (Some(Cause::Completed), Some(1.0))
    );
    assert!(first.run.cost > PicoUsd::ZERO && !first.run.replayed);
    let said = home.output(&first, Phase::Agent, Stream::Stdout).await.unwrap();
    assert_eq!(
        assay(&home, &["audit", "verify", &first.run.id.to_string()]).await,
        0
    );

    let bytes = stream(&home, &first, Record::Recording).await;
    let calls = recording::calls(&bytes);
    assert_eq!(calls.len(), 2, "{}", String::from_utf8_lossy(&bytes));
    let subject = Subject {
        run: first.run.id.to_string(),
        attempt: first.last().unwrap().id.to_string(),
        agent: "agent".to_owned(),
        version: "1".to_owned(),
    };
    let steps = trajectory::export(subject, &calls).unwrap().steps;
    let sources: Vec<Source> = steps.iter().map(|step| step.source).collect();
    assert_eq!(
        sources,
        [Source::User, Source::Agent, Source::User, Source::Agent]
    );
    assert_eq!(steps[1].message, steps[3].message, "a stream says the same");
    for what in ["--trajectory", "--recording"] {
        assert_eq!(assay(&home, &["get", &first.run.id.to_string(), what]).await, 0);
    }

    let recording = home.api.keep_recording(first.run.id).await.unwrap();
    let replayed = Order {
        policy: Policy {
            record: Recorded::Nothing,
            replay: Some(recording.digest),
            ..order.policy.clone()
        },
        ..order.clone()
    };
    let billed = home.model.bill();
    let second = run(&home, &replayed).await;
    assert_eq!(
        (second.run.cause, second.run.score),
        (Some(Cause::Completed), Some(1.0))
    );
    assert_eq!((second.run.cost, second.run.replayed), (PicoUsd::ZERO, true));
    let report = second.last().unwrap().report.clone().unwrap();
    assert!(report.replayed && report.ledger.requests == 2 && report.ledger.answers == 2);
    assert_eq!(
        home.model.bill().users.len(),
        billed.users.len(),
        "nobody was called"
    );
    assert_eq!(
        home.output(&second, Phase::Agent, Stream::Stdout).await.unwrap(),
        said
    );
    let audit = String::from_utf8(stream(&home, &second, Record::Audit).await).unwrap();
    assert_eq!(audit.matches("\"reason\":\"replayed\"").count(), 2, "{audit}");
    assert_eq!(
        assay(&home, &["audit", "verify", &second.run.id.to_string()]).await,
        0
    );

    // As a person does it; and what was not recorded is not answered.
    assert_eq!(
        assay(&home, &["run", "--replay", &first.run.id.to_string()]).await,
        0
    );
    let other = home
        .register_agent(&python_agent(&AGENT.replace("Hello", "Bye")))
        .await
        .unwrap();
    let unknown = run(
        &home,
        &Order {
            agent: other,
            ..replayed
        },
    )
    .await;
    assert_eq!((unknown.run.cost, unknown.run.score), (PicoUsd::ZERO, Some(0.0)));
    let said = home.output(&unknown, Phase::Agent, Stream::Stdout).await.unwrap();
    assert!(String::from_utf8_lossy(&said).contains("403 replay_unknown_request"));
    let audit = String::from_utf8(stream(&home, &unknown, Record::Audit).await).unwrap();
    assert!(audit.contains("replay_unknown_request"), "{audit}");
    home.stop().await.unwrap();
}

async fn run(home: &Installation, order: &Order) -> Ended {
    let evaluation = home.submit(order).await.unwrap();
    home.ended(&evaluation).await.unwrap()
}

/// The exit code of a command, with a key of its own.
async fn assay(home: &Installation, words: &[&str]) -> u8 {
    let new = NewKey {
        name: "records".to_owned(),
        scope: Scope::Validator,
        worker_class: None,
    };
    let key = home.api.create_key(&new).await.unwrap().secret;
    let options = ["assay", "--api", home.api.address(), "--key", &key, "--json"];
    let cli = Cli::try_parse_from(options.iter().chain(words)).unwrap();
    match assay_cli::cmd::run(cli).await {
        Ok(()) => 0,
        Err(error) => {
            println!("{words:?}: {error}");
            Error::exit_code(&error)
        }
    }
}

async fn stream(home: &Installation, ended: &Ended, record: Record) -> Vec<u8> {
    let (attempt, channel) = (ended.last().unwrap().id, Channel::Proxy(Sidecar::Main, record));
    let mut all = Vec::new();
    loop {
        let stretch = home
            .api
            .output(attempt, (0, channel), all.len() as u64)
            .await
            .unwrap();
        if stretch.bytes.is_empty() {
            return all;
        }
        all.extend_from_slice(&stretch.bytes);
    }
}

fn policy() -> Policy {
    let text = format!(
        "audit = \"required\"\nrecord = \"models\"\n[models]\nallow = [{MODEL:?}]\n[budget]\nrun_usd = \"0.50\"\n"
    );
    Policy::parse(&text).unwrap()
}

/// Asks the same whole and as a stream, prints both answers, and does the task when both came.
const AGENT: &str = r#"
import json, os, urllib.error, urllib.request

def ask(stream, words):
    body = {"model": "assay-test/scripted", "messages": [{"role": "user", "content": words}], "max_tokens": 100, "stream": stream}
    request = urllib.request.Request(
        os.environ["OPENAI_BASE_URL"] + "/chat/completions", json.dumps(body).encode(),
        {"content-type": "application/json", "authorization": "Bearer " + os.environ["OPENAI_API_KEY"]})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.read().decode()
    except urllib.error.HTTPError as error:
        print(error.code, json.load(error)["error"]["code"])
        return None

answers = [ask(False, "Hello, whole"), ask(True, "Hello, in pieces")]
for answer in answers:
    print(answer)
if all(answers):
    open("answer.txt", "w").write("42")
"#;
