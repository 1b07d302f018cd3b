//! Containers beside the task's own one: the example works, and what fails in one is the task's fault, in its own words.

use std::path::Path;

use assay_core::{agent::Contract, cause::Cause, policy::Policy};
use assay_tests::installation::{
    Files, Installation, Order,
    files::{dockerfile, python_task, task},
};

use crate::home::{expect, refused};

/// Its solution asks the service; nothing scores nothing. What the service printed is kept.
pub async fn of_the_example(home: &Installation) {
    let files = folder("ask-the-service");
    let ended = home.run(&files, None).await.unwrap();
    expect(&ended, Cause::Completed, Some(1.0), &[]);
    let printed = home.artifact(&ended, "service-inventory.log").await.unwrap();
    assert!(
        printed.contains("inventory is open") && printed.contains("GET /items"),
        "{printed}"
    );
    let order = Order {
        task: home.register_task(&files).await.unwrap().digest,
        agent: home.built_in(Contract::Nop).await.unwrap(),
        policy: Policy::default(),
    };
    let evaluation = home.submit(&order).await.unwrap();
    let ended = home.ended(&evaluation).await.unwrap();
    expect(&ended, Cause::Completed, Some(0.0), &[]);
}

/// A separate verifier of the same environment has the same services, started anew.
pub async fn of_a_separate_verifier(home: &Installation) {
    let files = with("db: {image: 'debian:bookworm-slim', command: [sleep, '1000']}")
        .with(
            "task.toml",
            "schema_version = \"1.4\"\nartifacts = ['/app/answer.txt']\n[agent]\ntimeout_sec = 60\n\
             [verifier]\ntimeout_sec = 60\nenvironment_mode = 'separate'\n",
        )
        .with("solution/solve.sh", "#!/bin/sh\ngetent hosts db > /dev/null && echo 42 > /app/answer.txt\n")
        .with(
            "tests/test.sh",
            "#!/bin/sh\nif getent hosts db > /dev/null && [ \"$(cat /app/answer.txt)\" = 42 ]; then echo 1; else echo 0; fi > \
             /logs/verifier/reward.txt\n",
        );
    let ended = home.run(&files, None).await.unwrap();
    expect(&ended, Cause::Completed, Some(1.0), &[]);
}

pub async fn that_never_get_healthy(home: &Installation) {
    let files = with(
        "db:\n    image: debian:bookworm-slim\n    command: [sh, -c, 'echo opening the book; touch /opened; exec sleep 1000']\n    \
         healthcheck: {test: 'until [ -e /opened ]; do sleep 0.1; done; echo the book is shut; exit 1', interval: 100ms, retries: 2}",
    );
    let ended = home.run(&files, None).await.unwrap();
    let words = [
        "service db",
        "never became healthy",
        "the book is shut",
        "opening the book",
    ];
    expect(&ended, Cause::ServiceFailed, None, &words);
    let printed = home.artifact(&ended, "service-db.log").await.unwrap();
    assert!(printed.contains("opening the book"), "{printed}");
}

pub async fn that_end_under_the_agent(home: &Installation) {
    let server = "import socket, sys\ns = socket.create_server(('127.0.0.1', 8000))\ns.accept()\n\
                  print('one was enough', flush=True)\nsys.exit(5)\n";
    let files = python_task()
        .with(
            "environment/docker-compose.yaml",
            "services:\n  once: {build: ./once}\n",
        )
        .with(
            "environment/once/Dockerfile",
            "FROM python:3.12-slim\nCOPY s.py /\nCMD [\"python3\", \"/s.py\"]\n",
        )
        .with("environment/once/s.py", server)
        .with(
            "solution/solve.sh",
            "#!/bin/sh\necho 42 > answer.txt\npython3 - <<'END'\nimport socket, time\n\
             for _ in range(1000):\n    try: c = socket.create_connection(('once', 8000)); break\n    \
             except OSError: time.sleep(0.1)\nc.recv(1)\nEND\n",
        );
    let ended = home.run(&files, None).await.unwrap();
    expect(
        &ended,
        Cause::ServiceFailed,
        None,
        &["service once", "code 5", "one was enough"],
    );
}

pub async fn that_cannot_be_built(home: &Installation) {
    let files = with("db: {build: ./db}").with(
        "environment/db/Dockerfile",
        "FROM debian:bookworm-slim\nRUN echo no such thing; exit 7\n",
    );
    let ended = home.run(&files, None).await.unwrap();
    expect(&ended, Cause::ImageBuildFailed, None, &["service db"]);
}

/// What a service may reach is what the phase may, under the same proxy, by the same record.
pub async fn that_reach_for_more(home: &Installation) {
    let attack = "import urllib.request, urllib.error, socket, os, sys\n\
        def attempt(name, f):\n    try: print(name, f(), flush=True)\n    except Exception as error: print(name, repr(error), flush=True)\n\
        attempt('http', lambda: urllib.request.urlopen('http://denied.assay-test.example/', timeout=10).status)\n\
        attempt('address', lambda: socket.create_connection(('192.0.2.1', 5432), 5).recv(100))\n\
        attempt('proxy user', lambda: os.setuid(1337))\n\
        attempt('root', lambda: os.listdir('/proc/1/root'))\n\
        socket.create_server(('127.0.0.1', 8000)).accept()\n";
    let files = python_task()
        .with(
            "environment/docker-compose.yaml",
            "services:\n  thief:\n    build: ./thief\n    user: root\n    healthcheck:\n      \
             test: [CMD, python3, -c, \"import socket; s = open('/proc/net/tcp').read(); assert ':1F40' in s\"]\n      \
             interval: 200ms\n      retries: 100\n",
        )
        .with("environment/thief/Dockerfile", "FROM python:3.12-slim\nCOPY a.py /\nCMD [\"python3\", \"/a.py\"]\n")
        .with("environment/thief/a.py", attack);
    let ended = home.run(&files, None).await.unwrap();
    expect(&ended, Cause::Completed, Some(1.0), &[]);
    let printed = home.artifact(&ended, "service-thief.log").await.unwrap();
    let line = |name: &str| {
        let found = printed.lines().find(|line| line.starts_with(name));
        found.unwrap_or_else(|| panic!("{name}: {printed}")).to_owned()
    };
    assert!(
        line("http").contains("gaierror"),
        "a refused name has no address: {printed}"
    );
    let address = line("address");
    assert!(address.contains("Error") || address.ends_with("b''"), "{printed}");
    assert!(line("proxy user").contains("Invalid argument"), "{printed}");
    assert!(line("root").contains("PermissionError"), "{printed}");
    assert!(ended.run.denied > 0, "the proxy's record counts it");
}

/// Everything outside of the subset, by service and key, before anything runs.
pub async fn that_ask_for_what_is_not_done(home: &Installation) {
    for (service, words) in [
        (
            "db: {image: x, privileged: true}",
            "services.db.privileged: a service has the rights",
        ),
        ("db: {image: x, cap_add: [SYS_ADMIN]}", "services.db.cap_add"),
        (
            "db: {image: x, network_mode: host}",
            "services.db.network_mode: all services share",
        ),
        (
            "db: {image: x, volumes: ['/:/host']}",
            "services.db.volumes: nothing is mounted",
        ),
        (
            "db: {image: x, environment: {KEY: '${OPENAI_API_KEY}'}}",
            "services.db.environment.KEY: holds a `$`",
        ),
        (
            "db: {image: x, user: 1337}",
            "services.db.user: user 1337 does not exist",
        ),
        ("db: {build: ../tests}", "services.db.build"),
        ("proxy: {image: x}", "services.proxy: is the name of something"),
        ("main: {privileged: true}", "services.main.privileged"),
    ] {
        let words = [format!("environment/docker-compose.yaml: {words}")];
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        refused(home.register_task(&with(service)).await, "task_invalid", &words);
    }
}

/// The good task with such a service.
fn with(service: &str) -> Files {
    task()
        .with("environment/Dockerfile", dockerfile("debian:bookworm-slim"))
        .with(
            "environment/docker-compose.yaml",
            format!("services:\n  {service}\n"),
        )
}

/// A task of the examples.
fn folder(name: &str) -> Files {
    fn add(files: Files, root: &Path, at: &Path) -> Files {
        at.read_dir().unwrap().fold(files, |files, entry| {
            let path = entry.unwrap().path();
            if path.is_dir() {
                return add(files, root, &path);
            }
            let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
            files.with(&name, std::fs::read(&path).unwrap())
        })
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../examples/tasks")
        .join(name);
    add(Files::default(), &root, &root)
}
