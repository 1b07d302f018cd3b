//! Phase `verify`: the task's tests, in the agent's sandbox or in a fresh one, and the reward that they leave.

use std::{collections::BTreeMap, sync::Arc};

use assay_core::{
    agent::Contract,
    control::{
        proxy::Ledger,
        runner::{Collect, End, EntryKind, Outcome},
    },
    digest::Digest,
    phase::EgressPhase,
    policy::Survivors,
    reward,
    task::{
        config::Artifact,
        plan::{Image, Mode, Separate, SeparateImage},
    },
};
use assay_engine::{Engine, ImageRef};

use super::{
    Driver, Halt,
    bundle::model_env,
    collect::{exclude, sources},
    execute::Job,
    live::{Collected, Live, failed},
    pack::Item,
    prepare::Recipe,
};
use crate::{
    derive::Place,
    evidence::{self, Evidence},
    row::{self, seconds},
};

impl<E: Engine> Driver<E> {
    pub(super) async fn verify(&mut self) -> Result<Vec<Evidence>, Halt> {
        self.load().await?;
        match self.step_plan()?.verifier.mode {
            Mode::Separate(own) => self.verify_apart(&own).await,
            mode @ Mode::Shared { .. } => self.verify_here(mode).await,
        }
    }

    async fn verify_here(&mut self, mode: Mode) -> Result<Vec<Evidence>, Halt> {
        let live = self.main().await?;
        self.row.memo.mode = Some(row::Mode::Shared);
        let before = self.row.memo.last.clone();
        let end = if let Some(end) = self.resume(&live, LABEL).await? {
            end
        } else {
            if mode
                == (Mode::Shared {
                    survivors: Survivors::Kill,
                })
            {
                live.kill().await?;
            }
            self.check_disk(&live).await?;
            self.switch(&live, EgressPhase::Verify).await?;
            self.clean_for_verifier(&live).await?;
            self.check_shell(&live).await?;
            self.upload_tests(&live).await?;
            self.run_tests(&live).await?
        };
        let mut seen = self.result(&live, end).await?;
        let account = self.verifier_account(&live, before).await?;
        if let Evidence::Account { after, .. } = &account {
            self.row.memo.last = after.clone();
        }
        seen.push(account);
        Ok(seen)
    }

    async fn verify_apart(&mut self, own: &Separate) -> Result<Vec<Evidence>, Halt> {
        self.row.memo.mode = Some(row::Mode::Separate);
        let main = self.main().await?;
        let carried = self.carried(&main, &own.carry).await?;
        let image = match &own.image {
            SeparateImage::SameAsAgent => ImageRef(self.row.memo.image.clone().unwrap_or_default()),
            SeparateImage::Own(Image::Prebuilt { image }) => self.allowed(image)?,
            SeparateImage::Own(Image::Build { context }) => {
                let recipe = Recipe::of_folder(context);
                match self.build(&recipe, &own.build_egress, &own.limits).await? {
                    (Some(image), _) => image,
                    (None, seen) => return Ok(seen.into_iter().collect()),
                }
            }
        };
        let services = match &own.image {
            SeparateImage::SameAsAgent => self.row.memo.services.clone(),
            SeparateImage::Own(_) => {
                let built = self
                    .service_images(&own.services, &own.build_egress, &own.limits)
                    .await?;
                match built {
                    Ok(images) => images,
                    Err(failed) => return Ok(vec![failed]),
                }
            }
        };
        let place = Place::Verifier(self.row.step);
        let live = self.open(place, image, &services, EgressPhase::Verify).await?;
        self.apart = Some(Arc::clone(&live));
        let records = self.follow_proxy(&live, place);
        let mut seen = self.verify_in(&live, own, carried).await?;
        if !own.services.is_empty() {
            self.keep_service_output(&live, place).await?;
            seen.splice(0..0, failed(&live.services().await).map(Evidence::ServiceFailed));
        }
        self.finish_records(records, RECORDS_PATIENCE).await?;
        seen.push(self.verifier_account(&live, Ledger::default()).await?);
        if let Err(error) = self.site.engine.destroy(&live.name()).await {
            tracing::warn!(%error, "the verifier's sandbox stays for the reconciler");
        }
        self.apart = None;
        Ok(seen)
    }

    /// What goes into the fresh sandbox: the diff's text, or a tar of the declared paths.
    async fn carried(&mut self, main: &Live, carry: &[Artifact]) -> Result<Carried, Halt> {
        if self.assignment.contract == Contract::Patch {
            return self.carried_diff(main).await.map(Carried::Diff);
        }
        if carry.is_empty() {
            return Ok(Carried::Nothing);
        }
        let workdir = main.workdir();
        let request = Collect {
            paths: sources(&workdir, carry).collect(),
            exclude: exclude(&workdir, carry),
            max_bytes: MAX_CARRIED_BYTES,
            max_entries: MAX_CARRIED_ENTRIES,
        };
        let tar = self.folder.join("carried.tar");
        match main.collect(&request, &tar).await? {
            Collected::TooBig(message) => Err(Evidence::TooMuchToCarry(message).into()),
            Collected::Here(manifest) => {
                self.carried_bytes = manifest.entries.iter().map(|entry| entry.size).sum();
                Ok(Carried::Tar)
            }
        }
    }

    /// The diff that was checked: from this machine, or once more from the sandbox if it is still the same.
    async fn carried_diff(&mut self, main: &Live) -> Result<Vec<u8>, Halt> {
        if let Ok(diff) = tokio::fs::read(self.diff_file()).await {
            return Ok(diff);
        }
        let diff = self.fetch_diff(main).await?.unwrap_or_default();
        let text = assay_core::patch::check(&diff)
            .map(|text| text.as_bytes().to_vec())
            .unwrap_or_default();
        if self.row.memo.patch == Some(Digest::of(&text)) {
            Ok(text)
        } else {
            Err(Evidence::Silent("the diff in the sandbox has changed".to_owned()).into())
        }
    }

    async fn verify_in(
        &mut self,
        live: &Arc<Live>,
        own: &Separate,
        carried: Carried,
    ) -> Result<Vec<Evidence>, Halt> {
        if let Some(end) = self.resume(live, LABEL).await? {
            return self.result(live, end).await;
        }
        self.skeleton(live).await?;
        if own.uploads_environment {
            self.upload_environment(live).await?;
        }
        if let Some(check) = &own.healthcheck {
            self.check_health(live, check, live.image_user()).await?;
        }
        match carried {
            Carried::Nothing => {}
            Carried::Tar => live.put("/", &self.stripped().await?).await?,
            Carried::Diff(diff) => {
                let end = self.apply(live, diff).await?;
                if end.outcome != Outcome::Exited || end.exit_code != Some(0) {
                    return Ok(vec![Evidence::Ended(evidence::Job::Apply, end)]);
                }
            }
        }
        self.upload_tests(live).await?;
        let end = self.run_tests(live).await?;
        self.result(live, end).await
    }

    /// The carried tar without its manifest.
    async fn stripped(&self) -> Result<std::path::PathBuf, Halt> {
        let (from, into) = (self.folder.join("carried.tar"), self.folder.join("stripped.tar"));
        super::retar::copy(&from, &into, 1, str::to_owned)
            .await
            .map_err(super::fetch::local(&into))?;
        Ok(into)
    }

    /// Applies the diff to the image's clean tree, as root.
    async fn apply(&mut self, live: &Live, diff: Vec<u8>) -> Result<End, Halt> {
        let text = Item::Text {
            path: "patch.diff".to_owned(),
            content: diff,
            mode: 0o644,
        };
        self.put(live, super::bundle::HOME, vec![text]).await?;
        let argv = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        let job = Job {
            argv: argv(&[
                "git",
                "-c",
                "safe.directory=*",
                "apply",
                "--whitespace=nowarn",
                PATCH_FILE,
            ]),
            keep_survivors: false,
            ..Job::shell("apply", "", APPLY_LIMIT)
        };
        let mut end = self.execute(live, job.clone()).await?;
        if end.outcome == Outcome::SpawnFailed {
            let job = Job {
                label: "apply without git".to_owned(),
                argv: argv(&["patch", "-p1", "--batch", "--forward", "-i", PATCH_FILE]),
                ..job
            };
            end = self.execute(live, job).await?;
        }
        if end.outcome == Outcome::SpawnFailed {
            let message = "a patch agent needs git or patch in the task's image".to_owned();
            return Err(Evidence::Unusable(evidence::Part::Task, message).into());
        }
        let words = String::from_utf8_lossy(&self.last_words).trim().to_owned();
        end.detail = end.detail.or(Some(words).filter(|words| !words.is_empty()));
        Ok(end)
    }

    async fn upload_tests(&mut self, live: &Live) -> Result<(), Halt> {
        let tests = self.step_plan()?.verifier.tests;
        let trees: Vec<_> = tests
            .iter()
            .map(|folder| Item::Tree {
                from: self.task_folder().join(folder),
                to: String::new(),
            })
            .collect();
        if trees.is_empty() {
            return Ok(());
        }
        self.put(live, "/tests", trees).await
    }

    async fn run_tests(&mut self, live: &Live) -> Result<End, Halt> {
        let verifier = self.step_plan()?.verifier;
        let mut env = BTreeMap::from([("TEST_DIR".to_owned(), "/tests".to_owned())]);
        if !self.assignment.policy.verifier.models.is_empty() {
            env.extend(model_env());
        }
        env.extend(verifier.env);
        let user = verifier.user.or_else(|| live.image_user());
        let job = Job {
            env,
            ..Job::of_task(LABEL, "(/tests/test.sh)", user, seconds(verifier.timeout_sec))
        };
        self.execute(live, job).await
    }

    /// Takes `/logs/verifier` and reads the reward.
    async fn result(&mut self, live: &Live, end: End) -> Result<Vec<Evidence>, Halt> {
        let request = Collect {
            paths: vec!["/logs/verifier".to_owned()],
            exclude: BTreeMap::new(),
            max_bytes: MAX_LOG_BYTES,
            max_entries: MAX_LOG_ENTRIES,
        };
        let ended = Evidence::Ended(evidence::Job::Verifier, end);
        let tar = self.folder.join("verifier.tar");
        let reward = match live.collect(&request, &tar).await? {
            Collected::TooBig(message) => Evidence::RewardInvalid(format!("/logs/verifier: {message}")),
            Collected::Here(manifest) => {
                if manifest.entries.iter().any(|entry| entry.kind == EntryKind::File) {
                    self.store(&self.step_name("verifier.tar"), "application/x-tar", &tar)
                        .await?;
                    self.keep_report(&tar, &manifest).await?;
                }
                let json = super::live::file_in(&tar, reward::JSON_PATH, reward::MAX_BYTES + 1).await?;
                let text = super::live::file_in(&tar, reward::TEXT_PATH, reward::MAX_BYTES + 1).await?;
                match reward::read(json.as_deref(), text.as_deref()) {
                    Ok(rewards) => Evidence::Rewarded(rewards),
                    Err(reward::InvalidReward::Missing) => Evidence::RewardMissing,
                    Err(error) => Evidence::RewardInvalid(error.to_string()),
                }
            }
        };
        Ok(vec![ended, reward])
    }
}

enum Carried {
    Nothing,
    Tar,
    Diff(Vec<u8>),
}

const LABEL: &str = "verifier";
const RECORDS_PATIENCE: std::time::Duration = std::time::Duration::from_secs(10);
const PATCH_FILE: &str = "/installed-agent/patch.diff";
const APPLY_LIMIT: std::time::Duration = std::time::Duration::from_mins(2);
const MAX_LOG_BYTES: u64 = 256 << 20;
const MAX_LOG_ENTRIES: u64 = 10_000;
const MAX_CARRIED_BYTES: u64 = 2 << 30;
const MAX_CARRIED_ENTRIES: u64 = 100_000;
