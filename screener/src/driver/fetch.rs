//! Archives from the object store onto this machine: digest checked, unpacked within caps, read.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use assay_core::{
    agent::{Contract, Manifest},
    archive::{self, Caps, Files},
    secret,
    task::{
        Task,
        plan::{Circumstances, Plan, Unplannable},
    },
    wire::worker::{Archive, Assignment},
};
use assay_engine::Engine;

use super::{Driver, Halt};
use crate::{
    evidence::{Evidence, Part},
    platform::transfer,
};

impl<E: Engine> Driver<E> {
    /// Makes the plan, if that was not done before. After a restart this fetches the archives again.
    pub(super) async fn load(&mut self) -> Result<(), Halt> {
        if self.plan.is_some() {
            return Ok(());
        }
        clear(&self.folder).await.map_err(local(&self.folder))?;
        let task = self.assignment.task.clone();
        let files = self.unpack(&task, Part::Task, "task").await?;
        let agent = self.assignment.agent.clone();
        if let Some(agent) = agent.filter(|_| self.assignment.contract.has_bundle()) {
            let files = self.unpack(&agent, Part::Agent, "agent").await?;
            self.manifest = Some(self.read_manifest(&files)?);
        }
        let unusable = |message: String| Evidence::Unusable(Part::Task, message);
        let task = Task::read(&files, &task.name).map_err(|error| unusable(error.to_string()))?;
        let Assignment {
            run, values, secrets, ..
        } = &self.assignment;
        let given = Circumstances {
            contract: self.assignment.contract,
            policy: &self.assignment.policy,
            values: &secret::visible(*run, values, secrets),
            settings: &self.site.limits,
            gpus: self.site.engine.gpus(),
        };
        let plan = Plan::of(&task, &given).map_err(|error| match error {
            Unplannable::SeparateNotPossible => Evidence::NothingToCarry(error.to_string()),
            Unplannable::Unresolved(_)
            | Unplannable::Host(_)
            | Unplannable::NoSolution(_)
            | Unplannable::TooMuch(_)
            | Unplannable::Gpus { .. }
            | Unplannable::PatchOnSteps => unusable(error.to_string()),
        })?;
        self.plan = Some(Arc::new(plan));
        self.files = Some(files);
        Ok(())
    }

    async fn unpack(&self, archive: &Archive, part: Part, name: &str) -> Result<Files, Halt> {
        let packed = self.folder.join(format!("{name}.tar.gz"));
        let digest = match transfer::fetch(&archive.url, archive.size_bytes, &packed).await {
            Err(crate::platform::Error::TooLong { .. }) => return Err(Evidence::WrongDigest(part).into()),
            result => result?,
        };
        if digest != archive.digest {
            return Err(Evidence::WrongDigest(part).into());
        }
        let into = self.folder.join(name);
        tokio::fs::create_dir_all(&into).await.map_err(local(&into))?;
        let from = packed.clone();
        let unpacked = tokio::task::spawn_blocking(move || {
            let file = std::fs::File::open(&from).map_err(|source| archive::Error::Io {
                operation: "open",
                path: from.display().to_string(),
                source,
            })?;
            archive::unpack(io::BufReader::new(file), Caps::default(), &into)
        })
        .await
        .map_err(|error| Evidence::Bug(error.to_string()))?;
        tokio::fs::remove_file(&packed).await.map_err(local(&packed))?;
        unpacked.map_err(|error| {
            if error.is_io() {
                Evidence::Bug(error.to_string()).into()
            } else {
                Evidence::Unusable(part, error.to_string()).into()
            }
        })
    }

    fn read_manifest(&self, files: &Files) -> Result<Manifest, Halt> {
        let unusable = |message: String| Halt::from(Evidence::Unusable(Part::Agent, message));
        let text = files
            .text("agent.toml")
            .ok_or_else(|| unusable("agent.toml is missing".to_owned()))?;
        let manifest = Manifest::parse(&text).map_err(|error| unusable(error.to_string()))?;
        if manifest.contract != self.assignment.contract {
            return Err(unusable(format!("agent.toml: contract is {}", manifest.contract)));
        }
        if manifest.contract == Contract::Patch && !files.is_file("agent.py") {
            return Err(unusable("agent.py is missing".to_owned()));
        }
        Ok(manifest)
    }
}

/// An empty folder.
async fn clear(folder: &Path) -> io::Result<()> {
    match tokio::fs::remove_dir_all(folder).await {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    tokio::fs::create_dir_all(folder).await
}

/// A fault of this machine's own disk.
pub(super) fn local(path: &Path) -> impl Fn(io::Error) -> Halt + use<> {
    let path: PathBuf = path.to_owned();
    move |error| Evidence::Bug(format!("{}: {error}", path.display())).into()
}
