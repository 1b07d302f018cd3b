//! Whom a sandbox must not reach, and the attacks on them from wherever they come.

use std::{
    net::Ipv4Addr,
    process::{Child, Command, Stdio},
};

use assay_engine::kubernetes::Kubernetes;
use assay_screener::trial::Trial;
use assay_tests::stage::{Place, namespace::ip};
use serde_json::{Value, json};

use crate::{pod_network::Network, space::Space};

const WITNESS: &str = include_str!("witness.py");
const ATTACK: &str = include_str!("attack.py");
/// The API server's port on the node, where it answers whoever the network lets through.
const API: &str = "10.250.0.1:6443";

/// A pod of somebody else and a host that looks public. Both write down who came.
pub(super) struct Scene {
    pub(super) outside: Space,
    private: String,
    public: Public,
}

/// Who came so far, by the word of both.
struct Visits {
    private: Vec<String>,
    public: Vec<String>,
}

impl Visits {
    fn number(&self) -> usize {
        self.private.len() + self.public.len()
    }
}

/// What came of the attacks: what got through by the attacker's own word, and how often somebody was reached.
#[derive(Debug)]
pub(super) struct Came {
    pub(super) through: Vec<String>,
    pub(super) stopped: Vec<String>,
    pub(super) visits: Vec<String>,
}

impl Scene {
    pub(super) fn set() -> Option<Self> {
        let outside = Space::make("bypass-outside", false, false)?;
        outside.create(&pod(&outside.name, "witness", &["python3", "-u", "-c", WITNESS]));
        // An open pod has all that the attacks look for.
        let script = format!(
            "mkdir -p /assay /opt/bypass\necho x >/assay/assignment.json\ncat >/opt/bypass/attack.py <<'END'\n{ATTACK}\nEND\n\
             touch /ready\nexec sleep 1000000"
        );
        outside.create(&pod(&outside.name, "open", &["sh", "-c", &script]));
        let words = ["wait", "--for=condition=Ready", "pod", "--all", "--timeout=300s"];
        outside.ok(&words, None);
        let private = outside.ok(&["get", "pod", "witness", "-o", "jsonpath={.status.podIP}"], None);
        let public = Public::start();
        let scene = Self {
            outside,
            private,
            public,
        };
        until("both witnesses listen", || {
            scene.log().contains("listens") && scene.public.log().contains("listens")
        });
        until("the open pod is ready", || {
            let words = [
                "exec",
                "open",
                "-n",
                &scene.outside.name,
                "--",
                "test",
                "-e",
                "/ready",
            ];
            scene.outside.admin.run(&words, None).status.success()
        });
        Some(scene)
    }

    /// From a pod that no wall stands around. Most who are reached write it down, and a log is there a moment after its line.
    pub(super) fn by_open_pod(&self) -> Came {
        let words = self.words("/opt/bypass/attack.py", "");
        let patient = ["--", "env", "PATIENCE=60", "python3"];
        let exec = [&["exec", "open", "-n", &self.outside.name][..], &patient].concat();
        let words: Vec<&str> = exec.into_iter().chain(words.iter().map(String::as_str)).collect();
        let before = self.visits();
        let said = self.outside.admin.ok(&words, None).unwrap();
        until("more than 15 visits are written down", || {
            self.visits().number() > before.number() + 15
        });
        self.judged(&before, &said)
    }

    /// From the workload of a sandbox, as root.
    pub(super) async fn by_workload(&self, trial: &Trial<'_, Kubernetes>) -> Came {
        let tar = packed();
        trial.runner.put_files("/opt", None, tar.path()).await.unwrap();
        let words = self.words("/opt/bypass/attack.py", "");
        let argv: Vec<&str> = std::iter::once("python3")
            .chain(words.iter().map(String::as_str))
            .collect();
        let before = self.visits();
        let (said, _) = trial.output(&argv).await.unwrap();
        self.judged(&before, &String::from_utf8_lossy(&said))
    }

    /// As root of this machine in the network of a sandbox's pod: stronger than any workload.
    pub(super) fn by_network(&self, network: &Network, left_out: &str) -> Came {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("attack.py");
        std::fs::write(&file, ATTACK).unwrap();
        let words = self.words(file.to_str().unwrap(), left_out);
        self.came(|| {
            let output = Command::new("nsenter")
                .args([&format!("--net={}", network.path()), "/usr/bin/python3", "-B"])
                .args(&words)
                .output()
                .unwrap();
            assert!(
                output.status.success(),
                "{}",
                String::from_utf8_lossy(&output.stderr)
            );
            String::from_utf8(output.stdout).unwrap()
        })
    }

    fn words(&self, program: &str, left_out: &str) -> Vec<String> {
        let public = self.public.address.to_string();
        let mut words = vec![
            program.to_owned(),
            self.private.clone(),
            public,
            API.to_owned(),
            self.private.clone(),
        ];
        if !left_out.is_empty() {
            words.push(left_out.to_owned());
        }
        words
    }

    fn came(&self, attack: impl FnOnce() -> String) -> Came {
        let before = self.visits();
        let said = attack();
        self.judged(&before, &said)
    }

    fn judged(&self, before: &Visits, said: &str) -> Came {
        println!("{said}");
        let lines = |word: &str| -> Vec<String> {
            let of = said.lines().filter_map(|line| line.strip_prefix(word));
            of.map(|line| line.trim().to_owned()).collect()
        };
        let Visits { private, public } = self.visits();
        let private = private
            .into_iter()
            .skip(before.private.len())
            .map(|line| format!("private {line}"));
        let public = public
            .into_iter()
            .skip(before.public.len())
            .map(|line| format!("public {line}"));
        let visits: Vec<String> = private.chain(public).collect();
        println!("visits: {visits:?}");
        Came {
            through: lines("through "),
            stopped: lines("stopped "),
            visits,
        }
    }

    fn visits(&self) -> Visits {
        let lines = |text: String| {
            text.lines()
                .filter(|line| *line != "listens")
                .map(str::to_owned)
                .collect()
        };
        Visits {
            private: lines(self.log()),
            public: lines(self.public.log()),
        }
    }

    fn log(&self) -> String {
        self.outside.ok(&["logs", "witness"], None)
    }
}

/// A host in a network namespace on a cable to this machine.
struct Public {
    address: Ipv4Addr,
    cable: String,
    witness: Child,
    log: tempfile::NamedTempFile,
    _place: Place,
}

impl Public {
    fn start() -> Self {
        let number = u8::try_from(std::process::id() % 250).unwrap();
        let (address, near) = (
            Ipv4Addr::new(11, 78, number, 1),
            Ipv4Addr::new(11, 78, number, 254),
        );
        let (place, cable) = (Place::new().unwrap(), format!("assay-pub{number}"));
        ip(&format!(
            "link add {cable} type veth peer name eth0 netns {}",
            place.path()
        ))
        .unwrap();
        ip(&format!("addr add {near}/24 dev {cable}")).unwrap();
        ip(&format!("link set {cable} up")).unwrap();
        place
            .within(move || {
                ip(&format!("addr add {address}/24 dev eth0"))?;
                ip("link set eth0 up")?;
                ip(&format!("route add default via {near}"))
            })
            .unwrap();
        let log = tempfile::NamedTempFile::new().unwrap();
        let witness = Command::new("nsenter")
            .args([&format!("--net={}", place.path()), "python3", "-u", "-c", WITNESS])
            .stdout(Stdio::from(log.reopen().unwrap()))
            .spawn()
            .unwrap();
        Self {
            address,
            cable,
            witness,
            log,
            _place: place,
        }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.log.path()).unwrap()
    }
}

impl Drop for Public {
    fn drop(&mut self) {
        drop(self.witness.kill());
        drop(self.witness.wait());
        if let Err(error) = ip(&format!("link del {}", self.cable)) {
            eprintln!("{error}");
        }
    }
}

pub(super) fn until(what: &str, is_so: impl Fn() -> bool) {
    let begun = std::time::Instant::now();
    while !is_so() {
        assert!(
            begun.elapsed() < std::time::Duration::from_mins(3),
            "not within three minutes: {what}"
        );
        std::thread::sleep(std::time::Duration::from_millis(200));
    }
}

fn pod(namespace: &str, name: &str, command: &[&str]) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "terminationGracePeriodSeconds": 0,
            "containers": [{"name": "main", "image": "python:3.12-slim", "command": command}],
        },
    })
}

fn packed() -> tempfile::NamedTempFile {
    let mut tar = tar::Builder::new(tempfile::NamedTempFile::new().unwrap());
    let mut header = tar::Header::new_gnu();
    header.set_mode(0o644);
    header.set_size(ATTACK.len() as u64);
    tar.append_data(&mut header, "bypass/attack.py", ATTACK.as_bytes())
        .unwrap();
    tar.into_inner().unwrap()
}
