//! Model services that fail under an agent. That is the provider's fault: tried three times, never a score.

use std::time::{Duration, Instant};

use assay_core::{
    cause::Cause,
    control::proxy::Ledger,
    control::runner::Stream,
    money::PicoUsd,
    phase::Phase,
    policy::Policy,
    wire::people::{Run, RunState},
};
use assay_tests::installation::{
    Ended, Installation, MODEL,
    files::{python_agent, python_task},
};

use crate::home::expect;

pub async fn a_service_that_answers_429(home: &Installation) {
    let ended = asked(home, "ASSAY-FAULT-429", false).await;
    told(home, &ended, "status 429").await;
    assert_eq!(account(&ended).cost_max(), PicoUsd::ZERO);
}

pub async fn a_service_that_answers_500(home: &Installation) {
    let ended = asked(home, "ASSAY-FAULT-500", false).await;
    told(home, &ended, "status 500").await;
    // It may have worked before it failed.
    perhaps_spent(&ended);
}

/// The service has charged and the answer broke off: it counts as spent, or perhaps spent.
pub async fn a_service_that_answers_half_a_body(home: &Installation) {
    let ended = asked(home, "ASSAY-FAULT-HALF-BODY", false).await;
    // Nobody can use half of a short document: the proxy says so in its place.
    told(home, &ended, "status 502").await;
    perhaps_spent(&ended);
}

pub async fn a_service_that_cuts_its_stream(home: &Installation) {
    let ended = asked(home, "ASSAY-FAULT-CUT-STREAM", true).await;
    told(home, &ended, "broken: ").await;
    perhaps_spent(&ended);
}

/// Two minutes by default would be a long test; the policy says three seconds, the path is the same.
pub async fn a_service_that_says_nothing(home: &Installation) {
    let ended = asked_under(home, "ASSAY-FAULT-SILENCE", false, policy(3)).await;
    told(home, &ended, "status 504").await;
    perhaps_spent(&ended);
}

/// One bad answer is no reason to give up: this agent asks again.
pub async fn a_service_that_recovers(home: &Installation) {
    let program = format!(
        "{ASK}\nask('ASSAY-FAULT-429', False)\nif ask('Hello', False) == 200:\n    open('answer.txt', 'w').write('42')\n"
    );
    let agent = python_agent(&program);
    let ended = home
        .run_under(&python_task(), Some(&agent), policy(PATIENT_SEC))
        .await
        .unwrap();
    expect(&ended, Cause::Completed, Some(1.0), &[]);
    let account = account(&ended);
    assert_eq!(account.requests, 2);
    assert!(account.provider_errors > 0);
    assert!(account.settled > PicoUsd::ZERO);
    assert_eq!(account.unresolved, PicoUsd::ZERO);
}

/// Who cancels in the middle of an answer does not wait for its bill, which this service never tells.
pub async fn a_service_that_keeps_its_bills_to_itself(home: &Installation) {
    let program = format!("{ASK}\nask('ASSAY-FAULT-LATE-BILL', True)\n");
    let policy = Policy::parse(&format!(
        "[models]\nallow = [{MODEL:?}]\n[budget]\nrun_usd = \"0.50\"\n"
    ))
    .unwrap();
    let order = home
        .order(&python_task(), Some(&python_agent(&program)), policy)
        .await
        .unwrap();
    let before = home.model.unbilled();
    let evaluation = home.submit(&order).await.unwrap();
    let asks = |run: &Run| run.phase == Some(Phase::Agent) && home.model.unbilled() > before;
    let run = home.wait_for(&evaluation, asks).await.unwrap();
    let cancelled = Instant::now();
    home.api.cancel_run(run.id).await.unwrap();
    while !home.docker.containers_of(run.id).await.unwrap().is_empty() {
        assert!(cancelled.elapsed() < LONGEST, "the sandbox is still there");
        tokio::time::sleep(LOOK).await;
    }
    let ended = home.ended(&evaluation).await.unwrap();
    assert_eq!(ended.run.state, RunState::Cancelled);
    perhaps_spent(&ended);
}

/// An agent that asks once, says what it got, and fails when that was no answer.
async fn asked(home: &Installation, words: &str, stream: bool) -> Ended {
    asked_under(home, words, stream, policy(PATIENT_SEC)).await
}

async fn asked_under(home: &Installation, words: &str, stream: bool, policy: Policy) -> Ended {
    let stream = if stream { "True" } else { "False" };
    let program = format!("{ASK}\nsys.exit(0 if ask({words:?}, {stream}) == 200 else 1)\n");
    let agent = python_agent(&program);
    home.run_under(&python_task(), Some(&agent), policy)
        .await
        .unwrap()
}

/// The provider is at fault, and the agent was told this.
async fn told(home: &Installation, ended: &Ended, words: &str) {
    let said = home.output(ended, Phase::Agent, Stream::Stdout).await.unwrap();
    let said = String::from_utf8_lossy(&said);
    assert!(said.contains(words), "{said}");
    let words = ["the model service failed 1 requests", "and answered 0"];
    expect(ended, Cause::ProviderDown, None, &words);
}

/// Nothing is held any more, and what may have been charged is in the account.
fn perhaps_spent(ended: &Ended) {
    let account = account(ended);
    assert_eq!(account.reserved, PicoUsd::ZERO, "{account:?}");
    assert!(account.cost_max() > PicoUsd::ZERO, "{account:?}");
}

fn account(ended: &Ended) -> Ledger {
    ended.last().unwrap().report.clone().unwrap().ledger
}

/// With a model service that may be silent for so long.
fn policy(silence_sec: u32) -> Policy {
    let text = format!(
        "[models]\nallow = [{MODEL:?}]\n[budget]\nrun_usd = \"0.50\"\n[time]\nmodel_silence_sec = {silence_sec}\n"
    );
    Policy::parse(&text).unwrap()
}

const ASK: &str = r#"
import json, os, sys, urllib.error, urllib.request

def ask(words, stream):
    body = {"model": "assay-test/scripted", "messages": [{"role": "user", "content": words}], "max_tokens": 100, "stream": stream}
    request = urllib.request.Request(
        os.environ["OPENAI_BASE_URL"] + "/chat/completions", json.dumps(body).encode(),
        {"content-type": "application/json", "authorization": "Bearer " + os.environ["OPENAI_API_KEY"]})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            answer.read()
            status = answer.status
    except urllib.error.HTTPError as error:
        status = error.code
    except Exception as error:
        print("broken:", type(error).__name__, error)
        return None
    print("status", status)
    return status
"#;

/// No service here is as slow, however busy this machine.
const PATIENT_SEC: u32 = 60;
/// From the word to cancel until nothing of the sandbox is left. Who waited for the bill would wait for half a minute.
const LONGEST: Duration = Duration::from_secs(25);
const LOOK: Duration = Duration::from_millis(100);
