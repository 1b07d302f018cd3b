//! Phase `prepare`: archives, the plan, the image.

use std::path::PathBuf;

use assay_core::{
    control::runner::Stream,
    digest::{Digest, Hasher},
    egress::Egress,
    limits::Limits,
    task::plan::Image,
};
use assay_engine::{Archive, BuildOutcome, Engine, Error, ImageRef, ImageSpec};

use super::{Driver, Halt, spec::Ingredients};
use crate::{
    evidence::{EngineFault, Evidence, Part},
    outline::{Wishes, outline},
    row::seconds,
};

impl<E: Engine> Driver<E> {
    pub(super) async fn prepare(&mut self) -> Result<Vec<Evidence>, Halt> {
        self.load().await?;
        let plan = self.plan()?;
        let (image, seen) = match &plan.image {
            Image::Prebuilt { image } => (Some(self.allowed(image)?), None),
            Image::Build { context } => self.build(context, &plan.build_egress, &plan.limits).await?,
        };
        if let Some(image) = image {
            self.row.memo.image = Some(image.0);
        }
        let has_install = self
            .manifest
            .as_ref()
            .is_some_and(|manifest| !manifest.install.is_empty());
        let wish = self.manifest.as_ref().and_then(|manifest| manifest.timeout_sec);
        let wishes = Wishes {
            install: has_install.then(|| self.install_limit()),
            agent: wish.map(seconds).filter(|wish| !wish.is_zero()),
        };
        let outline = outline(&plan, wishes);
        Ok(seen.into_iter().chain([Evidence::Prepared(outline)]).collect())
    }

    /// Builds the image of a folder of the task, or finds it by its key.
    pub(super) async fn build(
        &mut self,
        folder: &str,
        egress: &Egress,
        limits: &Limits,
    ) -> Result<(Option<ImageRef>, Option<Evidence>), Halt> {
        let spec = self.image_spec(folder, egress, limits)?;
        for base in assay_engine::bases(&spec).await {
            self.allowed(&base)?;
        }
        let outcome = self.build_logged(&spec).await?;
        let image = match &outcome {
            BuildOutcome::Built { image, .. } => Some(image.clone()),
            BuildOutcome::Failed { .. } | BuildOutcome::TimedOut => None,
        };
        Ok((image, Some(Evidence::Build(outcome))))
    }

    /// The image, where the policy lets a task start from it.
    pub(super) fn allowed(&self, image: &str) -> Result<ImageRef, Halt> {
        if self.assignment.policy.images.allows(image) {
            return Ok(ImageRef(image.to_owned()));
        }
        let message = format!("the policy allows no task to start from image {image} (images.allow)");
        Err(Evidence::Unusable(Part::Task, message).into())
    }

    fn image_spec(&self, folder: &str, egress: &Egress, limits: &Limits) -> Result<ImageSpec, Halt> {
        let plan = self.plan()?;
        let missing = || Evidence::Bug("the task's files are not read".to_owned());
        let files = self.files.as_ref().ok_or_else(missing)?;
        let step = self.step_plan()?;
        let ingredients = Ingredients {
            assignment: &self.assignment,
            plan: &plan,
            step: &step,
            resolvers: &self.site.resolvers,
        };
        let network = ingredients
            .build_network(egress)
            .ok_or_else(|| Evidence::Bug("the attempt's seed is not 32 bytes".to_owned()))?;
        Ok(ImageSpec {
            key: image_key(&files.build_digest(folder)),
            context: self.task_folder().join(folder),
            archive: Archive {
                url: self.assignment.task.url.clone(),
                digest: self.assignment.task.digest,
                size_bytes: self.assignment.task.size_bytes,
                folder: folder.to_owned(),
            },
            dockerfile: "Dockerfile".to_owned(),
            args: std::collections::BTreeMap::new(),
            network,
            timeout: seconds(limits.build_sec),
            memory_bytes: limits.memory_mb << 20,
            disk_bytes: limits.storage_mb << 20,
        })
    }

    /// Where the task is unpacked.
    pub(super) fn task_folder(&self) -> PathBuf {
        self.folder.join("task")
    }

    /// The build's log becomes output of the phase.
    async fn build_logged(&self, spec: &ImageSpec) -> Result<BuildOutcome, Halt> {
        let (sender, mut lines) = tokio::sync::mpsc::channel(LOG_PIECES);
        let log = async {
            while let Some(piece) = lines.recv().await {
                if let Some(output) = &self.output {
                    output.push(Stream::Stdout, output.end(Stream::Stdout), piece);
                }
            }
        };
        // The engine holds the Dockerfile to its time. Waiting for room, for somebody else's build or for the registry is
        // bounded by the phase alone, and is nobody's fault but ours.
        let (outcome, ()) = tokio::join!(self.site.engine.build(spec, sender), log);
        outcome.map_err(|error| Evidence::Engine(build_fault(&error), error.to_string()).into())
    }
}

/// What names an image: what it is built from, and for which machine.
fn image_key(content: &Digest) -> Digest {
    let mut hasher = Hasher::default();
    hasher.update(b"assay image v1\n");
    hasher.update(std::env::consts::ARCH.as_bytes());
    hasher.update(content.bytes());
    hasher.finish()
}

fn build_fault(error: &Error) -> EngineFault {
    match error {
        Error::NoImage(_) => EngineFault::NoImage,
        Error::Unavailable { .. }
        | Error::Refused { .. }
        | Error::Died { .. }
        | Error::Timeout { .. }
        | Error::NoRoom(_) => EngineFault::Build,
    }
}

/// An engine's error outside of a build.
pub(super) fn engine_fault(error: &Error) -> Evidence {
    let fault = match error {
        Error::NoImage(_) => EngineFault::NoImage,
        Error::Unavailable { .. } | Error::Refused { .. } | Error::Died { .. } | Error::Timeout { .. } => {
            EngineFault::Other
        }
        Error::NoRoom(_) => EngineFault::NoRoom,
    };
    Evidence::Engine(fault, error.to_string())
}

const LOG_PIECES: usize = 256;
