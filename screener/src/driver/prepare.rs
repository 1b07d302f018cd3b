//! Phase `prepare`: archives, the plan, the image.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use assay_core::{
    control::runner::Stream,
    digest::{Digest, Hasher},
    egress::Egress,
    id::{AttemptId, Fence},
    limits::Limits,
    phase::Phase,
    task::{
        compose::{Service, ServiceImage},
        plan::Image,
    },
};
use assay_engine::{Archive, BuildOutcome, Engine, Error, ImageRef, ImageSpec, Source};
use futures_util::{TryFutureExt as _, future::BoxFuture};

use super::{Driver, Halt, spec::Ingredients};
use crate::{
    evidence::{EngineFault, Evidence, Part},
    outline::{Wishes, outline},
    platform::Platform,
    row::seconds,
};

impl<E: Engine> Driver<E> {
    pub(super) async fn prepare(&mut self) -> Result<Vec<Evidence>, Halt> {
        self.load().await?;
        let plan = self.plan()?;
        let (image, mut seen) = match &plan.image {
            Image::Prebuilt { image } => (Some(self.allowed(image)?), None),
            Image::Build { context } => {
                let recipe = Recipe::of_folder(context);
                self.build(&recipe, &plan.build_egress, &plan.limits).await?
            }
        };
        if let Some(image) = image {
            self.row.memo.image = Some(image.0);
            match self
                .service_images(&plan.services, &plan.build_egress, &plan.limits)
                .await?
            {
                Ok(images) => self.row.memo.services = images,
                Err(failed) => seen = Some(failed),
            }
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

    /// The images of services, by name; or how the first build that failed ended.
    pub(super) async fn service_images(
        &mut self,
        services: &[Service],
        egress: &Egress,
        limits: &Limits,
    ) -> Result<Result<BTreeMap<String, String>, Evidence>, Halt> {
        let mut images = BTreeMap::new();
        for service in services {
            let image = match &service.image {
                ServiceImage::Prebuilt { image } => self.allowed(image)?.0,
                ServiceImage::Build {
                    context,
                    dockerfile,
                    args,
                } => {
                    let recipe = Recipe {
                        folder: context,
                        dockerfile,
                        args: args.clone(),
                    };
                    match self.build(&recipe, egress, limits).await? {
                        (Some(image), _) => image.0,
                        (None, seen) => return Ok(Err(of_service(&service.name, seen))),
                    }
                }
            };
            images.insert(service.name.clone(), image);
        }
        Ok(Ok(images))
    }

    /// Builds an image from a folder of the task, or finds it by its key.
    pub(super) async fn build(
        &mut self,
        recipe: &Recipe<'_>,
        egress: &Egress,
        limits: &Limits,
    ) -> Result<(Option<ImageRef>, Option<Evidence>), Halt> {
        let spec = self.image_spec(recipe, egress, limits)?;
        for base in assay_engine::bases(&spec).await {
            self.allowed(&base)?;
        }
        self.may_have_built = true;
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

    fn image_spec(&self, recipe: &Recipe<'_>, egress: &Egress, limits: &Limits) -> Result<ImageSpec, Halt> {
        let folder = recipe.folder;
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
            key: image_key(&files.build_digest(folder), recipe),
            context: self.task_folder().join(folder),
            archive: Archive {
                source: Arc::new(TaskSource {
                    platform: self.site.platform.clone(),
                    attempt: self.assignment.attempt,
                    fence: self.assignment.fence,
                }),
                digest: self.assignment.task.digest,
                size_bytes: self.assignment.task.size_bytes,
                folder: folder.to_owned(),
            },
            dockerfile: recipe.dockerfile.to_owned(),
            args: recipe.args.clone(),
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

    /// The build's log becomes output of the phase. Where the image is not there at once, an event says what the run waits for,
    /// and the run lends its slot.
    async fn build_logged(&mut self, spec: &ImageSpec) -> Result<BuildOutcome, Halt> {
        let now = self.now();
        let Self {
            site,
            output,
            journal,
            row,
            slot,
            ..
        } = self;
        let output = output.as_ref();
        let (sender, mut lines) = tokio::sync::mpsc::channel(LOG_PIECES);
        let log = async {
            while let Some(piece) = lines.recv().await {
                if let Some(output) = output {
                    output.push(Stream::Stdout, output.end(Stream::Stdout), piece);
                }
            }
        };
        // The engine holds the Dockerfile to its time. Waiting for room, for somebody else's build or for the registry is
        // bounded by the phase alone, and is nobody's fault but ours.
        let mut building = Box::pin(async {
            let (outcome, ()) = tokio::join!(site.engine.build(spec, sender), log);
            outcome.map_err(|error| Halt::from(Evidence::Engine(build_fault(&error), error.to_string())))
        });
        if let Ok(outcome) = tokio::time::timeout(AT_ONCE, &mut building).await {
            return outcome;
        }
        let data = serde_json::json!({ "folder": spec.archive.folder, "dockerfile": spec.dockerfile });
        journal.note(row, now, WAITING_IMAGE, data);
        let told = async { journal.flush(&site.platform, row).await.map_err(Halt::from) };
        // Later on a sandbox of this run's lives.
        if row.phase == Phase::Prepare {
            slot.lend();
        }
        let (outcome, ()) = tokio::try_join!(building, told)?;
        // What failed needs none any more.
        if matches!(outcome, BuildOutcome::Built { .. }) {
            let back = slot.back().await;
            back.map_err(|taken| Evidence::Engine(EngineFault::NoRoom, taken.to_string()))?;
        }
        Ok(outcome)
    }
}

/// Asks the API for the task's archive when a builder starts: the URL of the claim may have ended by then.
#[derive(Debug)]
struct TaskSource {
    platform: Platform,
    attempt: AttemptId,
    fence: Fence,
}

impl Source for TaskSource {
    fn url(&self) -> BoxFuture<'_, Result<String, Error>> {
        let told = self.platform.task_url(self.attempt, self.fence);
        Box::pin(told.map_err(|error| Error::Unavailable {
            operation: "ask for the task's archive",
            message: error.to_string(),
        }))
    }
}

/// From which folder of the task an image is built, and how.
#[derive(Debug)]
pub(super) struct Recipe<'a> {
    folder: &'a str,
    dockerfile: &'a str,
    args: BTreeMap<String, String>,
}

impl<'a> Recipe<'a> {
    /// By the folder's own Dockerfile, without arguments.
    pub(super) fn of_folder(folder: &'a str) -> Self {
        Self {
            folder,
            dockerfile: DOCKERFILE,
            args: BTreeMap::new(),
        }
    }
}

/// A build that failed, with whose it was.
fn of_service(name: &str, seen: Option<Evidence>) -> Evidence {
    match seen {
        Some(Evidence::Build(BuildOutcome::Failed { reason })) => Evidence::Build(BuildOutcome::Failed {
            reason: format!("service {name}: {reason}"),
        }),
        Some(seen) => seen,
        None => Evidence::Bug(format!("the image of service {name} has no end")),
    }
}

/// What names an image: what it is built from, how, and for which machine.
fn image_key(content: &Digest, recipe: &Recipe<'_>) -> Digest {
    let mut hasher = Hasher::default();
    hasher.update(b"assay image v1\n");
    hasher.update(std::env::consts::ARCH.as_bytes());
    hasher.update(content.bytes());
    if recipe.dockerfile != DOCKERFILE || !recipe.args.is_empty() {
        hasher.update(format!("\n{:?} {:?}", recipe.dockerfile, recipe.args).as_bytes());
    }
    hasher.finish()
}

fn build_fault(error: &Error) -> EngineFault {
    match error {
        Error::NoImage(_) => EngineFault::NoImage,
        Error::NoRoom(_) => EngineFault::NoRoom,
        Error::Unavailable { .. } | Error::Refused { .. } | Error::Died { .. } | Error::Timeout { .. } => {
            EngineFault::Build
        }
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

const DOCKERFILE: &str = "Dockerfile";
const LOG_PIECES: usize = 256;
/// An image that is there is found within this.
const AT_ONCE: std::time::Duration = std::time::Duration::from_secs(1);
/// The event of a run that waits for its image.
const WAITING_IMAGE: &str = "waiting_image";
