//! An attack: a program that runs as the workload.

use std::{collections::BTreeMap, process::Stdio};

use anyhow::bail;
use assay_core::{
    control::runner::{Event, ExecLimits, Execute, Stream},
    id::ExecId,
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use uuid::Uuid;

use super::{Stage, control::runner_client};
use crate::stage::internet::Seen;

/// How an attack ended, and what arrived outside meanwhile.
#[derive(Debug)]
pub struct Outcome {
    /// What it printed.
    pub text: String,
    /// What it complained about.
    pub errors: String,
    /// Its exit code.
    pub code: Option<i32>,
    /// What arrived.
    pub seen: Seen,
}

impl Stage {
    /// Runs a program as the workload: as root, or as `user`.
    pub fn attack(&self, user: Option<&str>, argv: &[&str]) -> anyhow::Result<Outcome> {
        self.told(&BTreeMap::new(), user, argv)
    }

    /// The same, for a program that is told something by its environment. Without a runner nobody tells it.
    pub fn told(
        &self,
        env: &BTreeMap<String, String>,
        user: Option<&str>,
        argv: &[&str],
    ) -> anyhow::Result<Outcome> {
        let mark = self.internet.mark()?;
        let (code, stdout, stderr) = if self.walls.runner {
            self.by_runner(env, user, argv)?
        } else {
            self.by_root(user, argv)?
        };
        Ok(Outcome {
            text: String::from_utf8_lossy(&stdout).into_owned(),
            errors: String::from_utf8_lossy(&stderr).into_owned(),
            code,
            seen: self.internet.since(mark)?,
        })
    }

    fn by_runner(
        &self,
        env: &BTreeMap<String, String>,
        user: Option<&str>,
        argv: &[&str],
    ) -> anyhow::Result<(Option<i32>, Vec<u8>, Vec<u8>)> {
        let mut random = [0; 16];
        getrandom::fill(&mut random).map_err(|error| anyhow::anyhow!("random bytes: {error}"))?;
        let request = Execute {
            exec: ExecId(Uuid::from_bytes(random)),
            argv: argv.iter().map(|&word| word.to_owned()).collect(),
            cwd: None,
            env: env.clone(),
            user: user.map(str::to_owned),
            stdin: false,
            limits: ExecLimits {
                wall_ms: 600_000,
                grace_ms: 200,
            },
            keep_survivors: false,
        };
        self.internet.place.run(async move {
            let mut events = runner_client().execute(&request).await?;
            let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
            while let Some(event) = events.next().await? {
                match event {
                    Event::Output { stream, data, .. } => match stream {
                        Stream::Stdout => stdout.extend(STANDARD.decode(data)?),
                        Stream::Stderr => stderr.extend(STANDARD.decode(data)?),
                    },
                    Event::End(end) => {
                        stderr.extend(format!("\n[{:?}]", end.outcome).into_bytes());
                        return Ok((end.exit_code, stdout, stderr));
                    }
                    Event::Started { .. } | Event::Gap { .. } => {}
                }
            }
            bail!("the execution has no end")
        })
    }

    fn by_root(&self, user: Option<&str>, argv: &[&str]) -> anyhow::Result<(Option<i32>, Vec<u8>, Vec<u8>)> {
        let mut command = self.in_container(&[]);
        if let Some(user) = user {
            command.args(["setpriv", "--clear-groups", "--reuid", user, "--"]);
        }
        command.args(argv).stdout(Stdio::piped());
        let output = self.sandbox.run(async move { command.output().await })?;
        Ok((output.status.code(), output.stdout, output.stderr))
    }
}
