use std::time::Duration;

use super::{amounts, *};
use crate::archive::{Caps, scan};

/// Reads a file beside these folders with a Dockerfile each.
#[expect(clippy::unwrap_in_result, reason = "a test's own preparations cannot fail")]
fn read(text: &str) -> Result<(Compose, Vec<Warning>), InvalidTask> {
    let root = tempfile::tempdir().unwrap();
    for folder in ["environment", "environment/api", "environment/api/deep", "tests"] {
        std::fs::create_dir_all(root.path().join(folder)).unwrap();
        std::fs::write(root.path().join(folder).join("Dockerfile"), "FROM x").unwrap();
    }
    std::fs::write(root.path().join("environment/docker-compose.yaml"), text).unwrap();
    let files = scan(root.path(), Caps::default()).unwrap();
    let mut found = Vec::new();
    let compose = Compose::read(&files, "environment", &mut found)?;
    Ok((compose.unwrap(), found))
}

/// The file with one service `db` of these lines.
fn db(lines: &str) -> String {
    let lines: Vec<String> = lines.lines().map(|line| format!("    {line}\n")).collect();
    format!("services:\n  db:\n{}", lines.concat())
}

fn refused(text: &str) -> (String, String) {
    match read(text) {
        Err(InvalidTask::Compose { path, key, reason }) => {
            assert_eq!(path, "environment/docker-compose.yaml");
            (key, reason)
        }
        other => panic!("{text}\n{other:?}"),
    }
}

#[test]
fn a_file_of_harbor_is_read() {
    let text = "\
services:
  main:
    depends_on:
      api-server:
        condition: service_healthy
    environment: {API: 'http://api-server:5000'}
  api-server:
    build:
      context: ./api
    expose:
      - \"5000\"
    healthcheck:
      test: [\"CMD\", \"python3\", \"-c\", \"import socket\"]
      interval: 2s
      timeout: 5s
      retries: 15
      start_period: 1m30s
";
    let (compose, warnings) = read(text).unwrap();
    assert!(warnings.is_empty());
    assert_eq!(compose.main_env["API"], "http://api-server:5000");
    let [api] = &compose.services[..] else {
        panic!("{compose:?}")
    };
    let ServiceImage::Build {
        context, dockerfile, ..
    } = &api.image
    else {
        panic!("{api:?}")
    };
    assert_eq!(
        (context.as_str(), dockerfile.as_str()),
        ("environment/api", "Dockerfile")
    );
    let check = api.healthcheck.as_ref().unwrap();
    assert_eq!(check.argv, ["python3", "-c", "import socket"]);
    assert_eq!(check.start_period, Duration::from_secs(90));
    assert_eq!(compose.longest(), Duration::from_secs(90 + 7 * 15 + 5));
    assert_eq!(api.ports.iter().copied().collect::<Vec<_>>(), [5000]);
    assert!(compose.has("api-server") && !compose.has("main"));
}

#[test]
fn every_key_of_the_subset_is_honoured() {
    let (compose, warnings) = read(&db("\
image: postgres:16
entrypoint: /bin/start --now 'a b'
command: [serve, 1]
environment: [A=1, B=x=y, C=$$HOME]
user: 70:70
working_dir: /var//lib/
tmpfs: ['/run', '/tmp:size=16m']
mem_limit: 1.5g
cpus: 1.5
pids_limit: 64
init: true
restart: 'no'
x-note: anything
ports: ['8080:80', '127.0.0.1:90:90/tcp']
healthcheck: {test: 'pg_isready -U $$USER'}
deploy: {resources: {limits: {pids: 32}}}"))
    .unwrap();
    let db = &compose.services[0];
    assert_eq!(
        db.image,
        ServiceImage::Prebuilt {
            image: "postgres:16".to_owned()
        }
    );
    assert_eq!(db.entrypoint.as_deref().unwrap(), ["/bin/start", "--now", "a b"]);
    assert_eq!(db.command.as_deref().unwrap(), ["serve", "1"]);
    assert_eq!(
        (db.env["A"].as_str(), db.env["B"].as_str(), db.env["C"].as_str()),
        ("1", "x=y", "$HOME")
    );
    assert_eq!(
        (db.user.as_deref(), db.workdir.as_deref()),
        (Some("70:70"), Some("/var/lib"))
    );
    let mounts: Vec<_> = db
        .tmpfs
        .iter()
        .map(|one| (one.path.as_str(), one.bytes >> 20))
        .collect();
    assert_eq!(mounts, [("/run", 64), ("/tmp", 16)]);
    assert_eq!((db.cpu_milli, db.memory_bytes >> 20, db.pids), (1500, 1536, 64));
    assert_eq!(db.ports.iter().copied().collect::<Vec<_>>(), [80, 90]);
    assert_eq!(
        db.healthcheck.as_ref().unwrap().argv,
        ["/bin/sh", "-c", "pg_isready -U $USER"]
    );
    assert_eq!(warnings[0].rule, "compose-ports-not-published");
}

#[test]
fn what_is_outside_of_the_subset_is_refused_by_service_and_key() {
    for (lines, key) in OUTSIDE {
        let (told, reason) = refused(&db(lines));
        assert_eq!(told, *key, "{lines}: {reason}");
        assert!(!reason.is_empty());
    }
    let error = read(&db("image: x\nprivileged: true")).unwrap_err().to_string();
    assert_eq!(
        error,
        "environment/docker-compose.yaml: services.db.privileged: a service has the rights of the task's own container \
         and no others"
    );
}

#[test]
fn what_a_file_says_as_a_whole_is_checked() {
    for (text, key) in [
        ("", ""),
        ("[]", ""),
        ("services: 3", "services"),
        ("services: {db: {image: x}}\nvolumes: {a: }", "volumes"),
        ("services: {db: {image: x}}\nnetworks: {a: }", "networks"),
        ("services: {db: {image: x}}\ninclude: [b.yaml]", "include"),
        ("services: {proxy: {image: x}}", "services.proxy"),
        ("services: {my_db: {image: x}}", "services.my_db"),
        ("services: {Db: {image: x}}", "services.Db"),
        ("services: {main: {image: x}}", "services.main.image"),
        ("services: {main: {build: ./api}}", "services.main.build"),
        ("services: {main: {privileged: true}}", "services.main.privileged"),
        ("services: {main: {command: run-me}}", "services.main.command"),
        (
            "services: {main: {depends_on: [db]}}",
            "services.main.depends_on.db",
        ),
        (
            "services: {a: {image: x, expose: [80]}, b: {image: x, ports: ['81:80']}}",
            "services.b.expose",
        ),
        (
            "services: {a: {image: x, depends_on: [b]}, b: {image: x, depends_on: [a]}}",
            "services.a.depends_on",
        ),
    ] {
        let (told, reason) = refused(text);
        assert_eq!(told, key, "{text}: {reason}");
    }
    let many: Vec<String> = (0..=MOST_SERVICES)
        .map(|n| format!("  s{n}: {{image: x}}\n"))
        .collect();
    assert_eq!(refused(&format!("services:\n{}", many.concat())).0, "services");
}

#[test]
fn what_is_no_yaml_or_a_bomb_of_aliases_is_refused_with_a_place() {
    for text in [
        "services: {db: {image: x}",
        "services:\n\t- a",
        "a: 1\na: 2\nservices: {}",
    ] {
        let (key, reason) = refused(text);
        assert!(key.is_empty() && reason.contains("line"), "{text}: {reason}");
    }
    let mut bomb = "x-a: &a0 [lol,lol,lol,lol,lol,lol,lol,lol,lol]\n".to_owned();
    for level in 1..12 {
        let aliases = vec![format!("*a{}", level - 1); 9].join(",");
        bomb.extend([format!("x-{level}: &a{level} [{aliases}]\n")]);
    }
    let (_, reason) = refused(&format!("{bomb}services: {{db: {{image: x}}}}\n"));
    assert!(!reason.is_empty());
}

#[test]
fn services_come_after_those_that_they_wait_for() {
    let (compose, _) = read(
        "services:\n  a: {image: x, depends_on: {b: {condition: service_started}}}\n  b: {image: x, depends_on: [c]}\n  c: {image: x}\n",
    )
    .unwrap();
    let names: Vec<_> = compose.services.iter().map(|one| one.name.as_str()).collect();
    assert_eq!(names, ["c", "b", "a"]);
}

#[test]
fn the_tasks_own_container_may_repeat_what_holds_anyway() {
    let text = "services: {main: {build: {context: .}, command: [sh, -c, sleep infinity], expose: [1]}, db: {build: .}}";
    let (compose, _) = read(text).unwrap();
    let ServiceImage::Build { context, .. } = &compose.services[0].image else {
        panic!()
    };
    assert_eq!(context, "environment");
    assert_eq!(
        read("version: '3'\nname: x\nservices:\n").unwrap().0,
        Compose::default()
    );
}

#[test]
fn sizes_and_times_are_those_of_docker() {
    for (text, bytes) in [
        ("512m", 512 << 20),
        ("1gb", 1 << 30),
        ("64MiB", 64 << 20),
        ("0.5g", 512 << 20),
        ("100", 100),
    ] {
        assert_eq!(amounts::bytes_of(text), Some(bytes), "{text}");
    }
    for text in ["", "0", "m", "1t", "-1", "1.2.3g"] {
        assert_eq!(amounts::bytes_of(text), None, "{text}");
    }
    for (text, millis) in [
        ("500ms", 500),
        ("1m30s", 90_000),
        ("1.5s", 1500),
        ("2h", 7_200_000),
        ("0", 0),
    ] {
        assert_eq!(
            amounts::time_of(text),
            Some(Duration::from_millis(millis)),
            "{text}"
        );
    }
    for text in ["", "5", "5x", "s"] {
        assert_eq!(amounts::time_of(text), None, "{text}");
    }
}

/// Lines of a service, and the key that is told.
const OUTSIDE: &[(&str, &str)] = &[
    ("image: x\nprivileged: true", "services.db.privileged"),
    ("image: x\ncap_add: [NET_ADMIN]", "services.db.cap_add"),
    ("image: x\nnetwork_mode: host", "services.db.network_mode"),
    ("image: x\nvolumes: ['/:/host']", "services.db.volumes"),
    ("image: x\npid: host", "services.db.pid"),
    ("image: x\ndevices: [/dev/kvm]", "services.db.devices"),
    (
        "image: x\nsecurity_opt: ['seccomp:unconfined']",
        "services.db.security_opt",
    ),
    ("image: x\nenv_file: .env", "services.db.env_file"),
    ("image: x\nrestart: always", "services.db.restart"),
    ("image: x\nuser: 1337", "services.db.user"),
    ("image: x\nuser: '0:1337'", "services.db.user"),
    ("image: x\nnonsense: 1", "services.db.nonsense"),
    ("image: x\nhostname: other", "services.db.hostname"),
    ("image: '${IMAGE}'", "services.db.image"),
    ("image: x\nenvironment: {A: $B}", "services.db.environment.A"),
    ("image: x\nenvironment: [TOKEN]", "services.db.environment[0]"),
    (
        "image: x\nenvironment: {TOKEN: }",
        "services.db.environment.TOKEN",
    ),
    ("image: x\nbuild: ./api", "services.db"),
    ("command: x", "services.db"),
    ("build: ../tests", "services.db.build"),
    ("build: /etc", "services.db.build"),
    ("build: ./nowhere", "services.db.build"),
    (
        "build: {context: api, dockerfile: ../Dockerfile}",
        "services.db.build.dockerfile",
    ),
    ("build: {context: api, target: x}", "services.db.build.target"),
    ("image: x\ntmpfs: /assay", "services.db.tmpfs"),
    ("image: x\ntmpfs: '/run:exec'", "services.db.tmpfs"),
    ("image: x\ntmpfs: '/run:size=4g'", "services.db.tmpfs"),
    ("image: x\nmem_limit: 1", "services.db.mem_limit"),
    ("image: x\ncpus: much", "services.db.cpus"),
    ("image: x\nexpose: [15020]", "services.db.expose[0]"),
    ("image: x\nports: ['53:53/udp']", "services.db.ports[0]"),
    (
        "image: x\nhealthcheck: {interval: 1s}",
        "services.db.healthcheck.test",
    ),
    (
        "image: x\nhealthcheck: {test: [RUN, x]}",
        "services.db.healthcheck.test",
    ),
    (
        "image: x\nhealthcheck: {test: x, interval: 0s}",
        "services.db.healthcheck.interval",
    ),
    (
        "image: x\nhealthcheck: {test: x, every: 1s}",
        "services.db.healthcheck.every",
    ),
    ("image: x\ndepends_on: [other]", "services.db.depends_on.other"),
    ("image: x\ndepends_on: [db]", "services.db.depends_on"),
    (
        "image: x\ndepends_on: {db: {condition: service_completed_successfully}}",
        "services.db.depends_on.db.condition",
    ),
    (
        "image: x\ndepends_on: {db: {condition: service_healthy}}",
        "services.db.depends_on.db",
    ),
    ("image: x\ndeploy: {replicas: 2}", "services.db.deploy.replicas"),
    ("image: x\nentrypoint: []", "services.db.entrypoint"),
    ("image: x\nworking_dir: here", "services.db.working_dir"),
    ("image: [x]", "services.db.image"),
];
