//! Phase `start`: one sandbox from one spec, ready for work, with the folders that every task expects.

use std::{collections::BTreeMap, sync::Arc};

use assay_core::{
    control::{proxy::Switch, runner::Isolation},
    phase::EgressPhase,
    task::plan::Mode,
};
use assay_engine::{Engine, ImageRef, SandboxSpec};

use super::{
    Driver, Halt,
    live::{Live, Surroundings},
    pack::Item,
    prepare::engine_fault,
    spec::Ingredients,
};
use crate::{
    derive::{self, Place},
    evidence::Evidence,
    outline::services_limit,
    row::seconds,
};

impl<E: Engine> Driver<E> {
    pub(super) async fn start(&mut self) -> Result<Vec<Evidence>, Halt> {
        self.load().await?;
        let image = ImageRef(self.row.memo.image.clone().unwrap_or_default());
        let phase = self.first_egress();
        let services = self.row.memo.services.clone();
        let live = self.open(Place::Main, image, &services, phase).await?;
        self.journal.sandbox = Some(live.sandbox.name.sandbox);
        self.hold(Arc::clone(&live));
        self.skeleton(&live).await?;
        if self.plan()?.uploads_environment {
            self.upload_environment(&live).await?;
        }
        Ok(vec![Evidence::Ready])
    }

    /// The loose files of a task whose image was made elsewhere.
    pub(super) async fn upload_environment(&mut self, live: &Live) -> Result<(), Halt> {
        let tree = Item::Tree {
            from: self.task_folder().join("environment"),
            to: String::new(),
        };
        self.put(live, &live.workdir(), vec![tree]).await
    }

    /// What may be reached before the agent starts: nothing is switched where nothing runs before it.
    fn first_egress(&self) -> EgressPhase {
        let outline = self.row.memo.outline.as_ref();
        let before = outline
            .is_some_and(|outline| outline.health || outline.steps.first().is_some_and(|step| step.setup));
        if before {
            EgressPhase::Setup
        } else {
            EgressPhase::Agent
        }
    }

    /// Creates a sandbox and waits until its runner takes work, which is when its services are up.
    pub(super) async fn open(
        &mut self,
        place: Place,
        image: ImageRef,
        services: &BTreeMap<String, String>,
        phase: EgressPhase,
    ) -> Result<Arc<Live>, Halt> {
        let spec = self.sandbox_spec(place, image, services, phase)?;
        let sandbox = self
            .site
            .engine
            .create(&spec)
            .await
            .map_err(|error| engine_fault(&error))?;
        let live = self.connect(place, sandbox)?;
        match live.wait_ready(self.start_limit(place)?).await {
            Ok(isolation) => self.tell_isolation(isolation),
            Err(halt) => {
                self.keep_service_output(&live, place).await?;
                return Err(halt);
            }
        }
        self.hand_over_recording(&live).await?;
        Ok(live)
    }

    /// A task whose programs become root by `su` or `sudo` fails where this is told, and its author should see why.
    fn tell_isolation(&mut self, isolation: Isolation) {
        match isolation {
            Isolation::UserNamespace => {}
            Isolation::NoNewPrivileges => {
                let words =
                    "user namespaces are refused here, so no program becomes another user by its file";
                let data = serde_json::json!({ "isolation": isolation, "meaning": words });
                let now = self.now();
                self.journal.note(&self.row, now, "isolation_reduced", data);
            }
        }
    }

    fn start_limit(&self, place: Place) -> Result<std::time::Duration, Halt> {
        Ok(match (place, self.step_plan()?.verifier.mode) {
            (Place::Verifier(_), Mode::Separate(own)) => {
                seconds(own.limits.start_sec) + services_limit(&own.services)
            }
            (Place::Main | Place::Build | Place::Verifier(_), _) => {
                let plan = self.plan()?;
                seconds(plan.limits.start_sec) + services_limit(&plan.services)
            }
        })
    }

    fn sandbox_spec(
        &self,
        place: Place,
        image: ImageRef,
        services: &BTreeMap<String, String>,
        phase: EgressPhase,
    ) -> Result<SandboxSpec, Halt> {
        let plan = self.plan()?;
        let step = self.step_plan()?;
        let ingredients = Ingredients {
            assignment: &self.assignment,
            plan: &plan,
            step: &step,
            resolvers: &self.site.resolvers,
        };
        let mut spec = ingredients
            .sandbox(place, image, services, phase)
            .ok_or_else(|| Evidence::Bug("the attempt's seed is not 32 bytes".to_owned()))?;
        if matches!(place, Place::Verifier(_)) {
            // How much its agent left is not the verifier's doing.
            spec.resources.disk_bytes += self.carried_bytes;
        }
        Ok(spec)
    }

    fn connect(&self, place: Place, sandbox: assay_engine::Sandbox) -> Result<Arc<Live>, Halt> {
        let seed = derive::seed(&self.assignment.seed, place)
            .ok_or_else(|| Evidence::Bug("the attempt's seed is not 32 bytes".to_owned()))?;
        let surroundings = self.surroundings(place)?;
        Ok(Arc::new(Live::new(
            sandbox,
            &seed,
            self.assignment.fence,
            surroundings,
        )))
    }

    /// A separate verifier may have an environment of its own.
    fn surroundings(&self, place: Place) -> Result<Surroundings, Halt> {
        if let (Place::Verifier(_), Mode::Separate(own)) = (place, self.step_plan()?.verifier.mode) {
            return Ok(Surroundings {
                env: own.env,
                workdir: own.workdir,
            });
        }
        let plan = self.plan()?;
        Ok(Surroundings {
            env: plan.env.clone(),
            workdir: plan.workdir.clone(),
        })
    }

    /// Keeps the agent's sandbox at hand, and follows its proxy.
    pub(super) fn hold(&mut self, live: Arc<Live>) {
        self.records = Some(self.follow_proxy(&live, Place::Main));
        self.live = Some(live);
        self.rising = None;
    }

    /// The agent's sandbox, found again after a restart.
    pub(super) async fn main(&mut self) -> Result<Arc<Live>, Halt> {
        self.load().await?;
        if let Some(live) = &self.live {
            return Ok(Arc::clone(live));
        }
        let name = assay_engine::SandboxRef {
            sandbox: derive::sandbox(self.assignment.attempt, Place::Main),
        };
        let found = self
            .site
            .engine
            .find(&name)
            .await
            .map_err(|error| Evidence::Silent(format!("the engine cannot find the sandbox: {error}")))?;
        let Some(sandbox) = found else {
            return Err(Evidence::Sandbox(assay_engine::Evidence {
                gone: true,
                ..Default::default()
            })
            .into());
        };
        let live = self.connect(Place::Main, sandbox)?;
        self.hold(Arc::clone(&live));
        Ok(live)
    }

    /// The folders of the task format, open to every user.
    pub(super) async fn skeleton(&mut self, live: &Live) -> Result<(), Halt> {
        let folder = |path: &str, mode| Item::Folder {
            path: path.to_owned(),
            mode,
        };
        let folders = vec![
            folder("logs", 0o777),
            folder("logs/agent", 0o777),
            folder("logs/verifier", 0o777),
            folder("logs/artifacts", 0o777),
            folder("installed-agent", 0o755),
        ];
        self.put(live, "/", folders).await
    }

    /// Packs and uploads. Files of the same path are replaced.
    pub(super) async fn put(&mut self, live: &Live, root: &str, items: Vec<Item>) -> Result<(), Halt> {
        tokio::fs::create_dir_all(&self.folder)
            .await
            .map_err(super::fetch::local(&self.folder))?;
        let tar = self.folder.join("upload.tar");
        super::pack::pack(items, tar.clone())
            .await
            .map_err(super::fetch::local(&tar))?;
        live.put(root, &tar).await
    }

    /// Switches the egress at both walls, the proxy and the engine's own. The intent is written before the act.
    ///
    /// The agent may reach least. Towards it the proxy is switched first; away from it the engine's own wall, and not
    /// before that is proven does the proxy let anybody further.
    pub(super) async fn switch(&mut self, live: &Live, phase: EgressPhase) -> Result<(), Halt> {
        self.journal.generation += 1;
        let now = self.now();
        let data = serde_json::json!({ "egress": phase, "generation": self.journal.generation });
        self.journal.note(&self.row, now, "switched", data);
        self.journal.flush(&self.site.platform, &self.row).await?;
        let switch = Switch {
            generation: self.journal.generation,
            phase,
            step: self.row.step,
        };
        if phase == EgressPhase::Agent {
            live.switch(switch).await?;
            self.flip(live, phase).await
        } else {
            self.flip(live, phase).await?;
            live.switch(switch).await
        }
    }

    /// Tells the engine's own wall, and sees from inside that it obeys.
    async fn flip(&mut self, live: &Live, phase: EgressPhase) -> Result<(), Halt> {
        let told = self.site.engine.set_phase(&live.name(), phase).await;
        let beacon = told.map_err(|error| Evidence::NotSwitched(error.to_string()))?;
        let Some(beacon) = beacon else { return Ok(()) };
        let proof = super::proof::prove(live, phase, &beacon).await?;
        let data = serde_json::json!({
            "egress": phase,
            "reaction_ms": proof.reaction.as_millis(),
            "proven_ms": proof.proven.as_millis(),
        });
        let now = self.now();
        self.journal.note(&self.row, now, "phase_proven", data);
        Ok(())
    }
}
