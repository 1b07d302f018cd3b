//! Runs from end to end with their sandboxes on the cluster: API, database, object store and screeners are processes of this
//! machine, the model service stands in the operator's own network, one host in the world outside.

use std::{net::IpAddr, path::PathBuf};

use assay_core::{cause::Cause, control::runner::Stream, money::PicoUsd, phase::Phase, policy::Policy};
use assay_tests::{
    installation::{
        Files,
        files::{python_agent, task},
    },
    person::{Ended, Person},
    processes::{Cluster, Installation, MODEL, Outside, Programs},
};

/// Only the verifier may come here.
const GRADER: &str = "grader.assay-test.example";
/// What it says.
const MARK: &str = "the-grader-was-here";
/// What stands in the tests and nowhere else.
const HIDDEN: &str = "b7c1-hidden-from-agents";

#[tokio::test(flavor = "multi_thread")]
async fn a_solution_scores_one_and_nothing_scores_nothing() {
    let Some(kit) = installation(&[]).await else {
        return;
    };
    let person = Person { api: kit.api.clone() };
    let solved = run(&kit, &person, &task_of_an_image(), None, Policy::default()).await;
    assert_eq!(
        (solved.run.cause, solved.run.score),
        (Some(Cause::Completed), Some(1.0)),
        "{solved:#?}"
    );
    let task = person.register_task(&task_of_an_image()).await.unwrap().digest;
    let agent = person.built_in(assay_core::agent::Contract::Nop).await.unwrap();
    let order = assay_tests::person::Order {
        task,
        agent,
        policy: Policy::default(),
    };
    let evaluation = person.submit(&order).await.unwrap();
    let nothing = person.over(&evaluation).await.unwrap();
    assert_eq!(
        (nothing.run.cause, nothing.run.score),
        (Some(Cause::Completed), Some(0.0)),
        "{nothing:#?}"
    );
    kit.swept(nothing.run.id).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_calls_its_model_and_a_verifier_reaches_what_the_agent_must_not() {
    let outside = Outside::start(MARK).unwrap();
    let Some(kit) = installation(&[(GRADER, outside.address.into())]).await else {
        return;
    };
    let person = Person { api: kit.api.clone() };
    let policy = Policy::parse(&format!(
        "[models]\nallow = [\"{MODEL}\"]\n[budget]\nrun_usd = \"0.5\"\n"
    ));
    let ended = run(
        &kit,
        &person,
        &graded_task(),
        Some(&python_agent(AGENT)),
        policy.unwrap(),
    )
    .await;
    let printed = |phase, stream| person.output(&ended, phase, stream);
    let agent = printed(Phase::Agent, Stream::Stdout).await.unwrap();
    let agent = String::from_utf8_lossy(&agent).into_owned();
    let errors = printed(Phase::Verify, Stream::Stderr).await.unwrap();
    assert_eq!(
        (ended.run.cause, ended.run.score),
        (Some(Cause::Completed), Some(1.0)),
        "{agent}\n{}\n{ended:#?}",
        String::from_utf8_lossy(&errors)
    );
    assert!(ended.run.cost > PicoUsd::ZERO, "the model was paid");
    assert!(agent.contains("model: 200"), "{agent}");
    assert!(agent.contains("grader: failed"), "not even its name: {agent}");
    assert!(agent.contains("hidden: []"), "{agent}");
    assert_eq!(
        outside.visits(),
        ["GET /verifier HTTP/1.1"],
        "the verifier came, and the agent did not"
    );
}

/// One service that the solution asks, in the sandbox of the agent and anew in that of a separate verifier.
#[tokio::test(flavor = "multi_thread")]
async fn services_stand_beside_the_task_and_beside_its_separate_verifier() {
    let Some(kit) = installation(&[]).await else {
        return;
    };
    let person = Person { api: kit.api.clone() };
    let separate = format!("artifacts = ['/srv/answer.txt']\n{TASK}environment_mode = 'separate'\n");
    for (head, kept) in [
        (TASK, "service-answers.log"),
        (&separate, "verifier-service-answers.log"),
    ] {
        let ended = run(&kit, &person, &task_with_a_service(head), None, Policy::default()).await;
        assert_eq!(
            (ended.run.cause, ended.run.score),
            (Some(Cause::Completed), Some(1.0)),
            "{ended:#?}"
        );
        let printed = person.artifact(&ended, kept).await.unwrap();
        assert!(printed.contains("GET /answer"), "{printed}");
    }
}

/// To its end, and until nothing of it is left.
pub async fn run(
    kit: &Installation<Cluster>,
    person: &Person,
    task: &Files,
    agent: Option<&Files>,
    policy: Policy,
) -> Ended {
    let order = person.order(task, agent, policy).await.unwrap();
    let evaluation = person.submit(&order).await.unwrap();
    let ended = match person.over(&evaluation).await {
        Ok(ended) => ended,
        Err(error) => panic!("{error:#}\n{}", kit.logs()),
    };
    if let Err(error) = kit.swept(ended.run.id).await {
        panic!("{error:#}\n{}", kit.logs());
    }
    ended
}

/// `None`, with the reason said, where something is missing.
pub async fn installation(names: &[(&str, IpAddr)]) -> Option<Installation<Cluster>> {
    installation_with(names, 0).await
}

/// The same with a database whose clock is so many seconds ahead.
pub async fn installation_with(
    names: &[(&str, IpAddr)],
    database_ahead_sec: i64,
) -> Option<Installation<Cluster>> {
    let cluster = Cluster::from_env(names).unwrap()?;
    if let Err(error) = assay_cli::up::postgres::programs(None) {
        eprintln!("skipped: {error}");
        return None;
    }
    let programs = Programs {
        database_ahead_sec,
        ..programs()
    };
    Some(Installation::start_on(cluster, &programs).await.unwrap())
}

/// What the suite was built with. On a cluster the programs of a sandbox are in images.
pub fn programs() -> Programs {
    Programs {
        part: PathBuf::from(env!("CARGO_BIN_EXE_assay-part")),
        model: PathBuf::from(env!("CARGO_BIN_EXE_assay-scripted-model")),
        sandbox: PathBuf::new(),
        database_ahead_sec: 0,
    }
}

/// The good task on an image that is there.
pub fn task_of_an_image() -> Files {
    task_of("python:3.12-slim")
}

/// The good task on that image.
pub fn task_of(image: &str) -> Files {
    task()
        .without("environment/Dockerfile")
        .with("environment/known.txt", "known")
        .with("task.toml", format!("{TASK}{}", environment(image)))
}

fn environment(image: &str) -> String {
    ENVIRONMENT.replace("python:3.12-slim", image)
}

/// A task whose verifier asks a host of its own.
fn graded_task() -> Files {
    let network = format!("network_mode = 'allowlist'\nallowed_hosts = ['{GRADER}']\n");
    task_of_an_image()
        .with("task.toml", format!("{TASK}{network}{ENVIRONMENT}"))
        .with("tests/expected.txt", HIDDEN)
        .with("tests/test.sh", "#!/bin/sh\npython3 /tests/check.py\n")
        .with("tests/check.py", CHECK)
}

/// The answer is a service's, for the solution and for the verifier.
fn task_with_a_service(head: &str) -> Files {
    let ask = "python3 -c 'import urllib.request as r; print(r.urlopen(\"http://answers:8000/answer\").read().decode())'";
    task_of_an_image()
        .with("task.toml", format!("{head}{}", ENVIRONMENT.replace("/app", "/srv")))
        .with("environment/docker-compose.yaml", SERVICE)
        .with("solution/solve.sh", format!("#!/bin/sh\n{ask} > /srv/answer.txt\n"))
        .with(
            "tests/test.sh",
            format!(
                "#!/bin/sh\n{ask} > /tmp/right\nif cmp /tmp/right /srv/answer.txt; then echo 1; else echo 0; fi > \
                 /logs/verifier/reward.txt\n"
            ),
        )
}

const SERVICE: &str = r#"
services:
  main: {depends_on: {answers: {condition: service_healthy}}}
  answers:
    image: python:3.12-slim
    command: [sh, -c, 'mkdir /srv/answers && cd /srv/answers && echo 42 > answer && exec python3 -u -m http.server 8000']
    healthcheck:
      test: [CMD, python3, -c, "import socket; socket.create_connection(('127.0.0.1', 8000), 2).close()"]
      interval: 100ms
      retries: 100
"#;

/// No test is about these deadlines. Agents wait to be let go, for as long as what is done to them meanwhile takes.
const TASK: &str = "schema_version = \"1.4\"\n[agent]\ntimeout_sec = 900\n[verifier]\ntimeout_sec = 300\n";
const ENVIRONMENT: &str =
    "[environment]\ndocker_image = \"python:3.12-slim\"\nworkdir = \"/app\"\ncpus = 1\nmemory_mb = 256\n";

/// Asks its model, tries the grader's host, and looks everywhere for what the tests hold.
const AGENT: &str = r#"
import json, os, urllib.error, urllib.request

def status(request):
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return str(answer.status)
    except urllib.error.HTTPError as error:
        return f"refused {error.code}"
    except OSError as error:
        return f"failed {error}"

body = json.dumps({"model": "assay-test/scripted", "max_tokens": 50,
                   "messages": [{"role": "user", "content": "hello"}]}).encode()
headers = {"content-type": "application/json", "authorization": "Bearer " + os.environ["OPENAI_API_KEY"]}
print("model:", status(urllib.request.Request(
    os.environ["OPENAI_BASE_URL"] + "/chat/completions", body, headers)), flush=True)
print("grader:", status("http://grader.assay-test.example/agent"), flush=True)
hidden = [name for name in ("/tests", "/solution", "/logs/verifier/reward.txt") if os.path.exists(name)]
wanted = "-".join(["b7c1", "hidden", "from", "agents"]).encode()
for folder, folders, files in os.walk("/"):
    folders[:] = [] if folder in ("/proc", "/sys", "/dev", "/usr") else folders
    for name in files:
        path = os.path.join(folder, name)
        try:
            if os.path.isfile(path) and wanted in open(path, "rb").read():
                hidden.append(path)
        except OSError:
            pass
print("hidden:", hidden, flush=True)
with open("answer.txt", "w") as file:
    file.write("42")
"#;

const CHECK: &str = r#"
import urllib.request
said = urllib.request.urlopen("http://grader.assay-test.example/verifier", timeout=30).read().decode()
right = open("answer.txt").read() == "42" and said == "the-grader-was-here"
with open("/logs/verifier/reward.txt", "w") as file:
    file.write("1" if right else "0")
"#;
