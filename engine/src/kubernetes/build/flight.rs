//! One build at a time for each image in the whole cluster: the Job's name is the lock.
//!
//! Whoever meets the name joins: follows the same pod, reads the same log, comes to the same end. A Job is made suspended
//! and let go once its Secret is there, by whoever gets that far: its maker may have died in between.

use std::time::Duration;

use bytes::Bytes;
use k8s_openapi::api::{
    batch::v1::Job,
    core::v1::{Pod, Secret},
};
use kube::{
    Api,
    api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions},
};
use serde_json::json;
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};

use super::{
    super::{
        CALL, Kubernetes,
        fault::{fault, is_missing, is_taken},
        within,
    },
    follow::{Change, Follow},
    job::Order,
    log,
    verdict::{self, End, Stage},
};
use crate::Error;

/// A pod that nothing runs in for so long is given up: no room, or an image of ours that nodes cannot get.
const WAIT: Duration = Duration::from_mins(3);
/// After a Job's end its pod says how; or nobody does.
const LAST_WORD: Duration = Duration::from_secs(5);
/// Rounds of joining what turns out to be over. More means that somebody makes and ends Jobs all the time.
const ROUNDS: u32 = 5;

/// The objects of builds.
struct Site<'a> {
    order: &'a Order<'a>,
    jobs: Api<Job>,
    pods: Api<Pod>,
    secrets: Api<Secret>,
}

/// Builds, or joins whoever builds. Says how it ended, and whether somebody else had begun.
pub(super) async fn fly(
    engine: &Kubernetes,
    order: &Order<'_>,
    log: &mpsc::Sender<Bytes>,
) -> Result<(End, bool), Error> {
    let namespace = &order.builds.namespace;
    let site = Site {
        order,
        jobs: Api::namespaced(engine.client.clone(), namespace),
        pods: Api::namespaced(engine.client.clone(), namespace),
        secrets: Api::namespaced(engine.client.clone(), namespace),
    };
    for _ in 0..ROUNDS {
        let (job, joined) = within("begin the build", CALL, Box::pin(site.begin())).await?;
        let was_over = verdict::is_over(&job);
        let end = site.attend(&job, log).await;
        // What says nothing about the Dockerfile is not kept for the next one who asks.
        let keep = matches!(&end, Ok(End::Pushed | End::Task(_) | End::TimedOut));
        if !keep || (was_over && matches!(&end, Ok(End::Pushed))) {
            within("remove the build", CALL, site.remove(&job)).await?;
        }
        let stale = joined && was_over && !matches!(&end, Ok(End::Task(_) | End::TimedOut));
        if !stale {
            return end.map(|end| (end, joined));
        }
    }
    Ok((End::Vanished, true))
}

impl Site<'_> {
    /// The Job: a new one, or the one of that name. Either way it is let go.
    async fn begin(&self) -> Result<(Job, bool), Error> {
        let wanted = self.order.job()?;
        for _ in 0..ROUNDS {
            match self.jobs.create(&PostParams::default(), &wanted).await {
                Ok(job) => return self.release(job).await.map(|job| (job, false)),
                Err(error) if !is_taken(&error) => return Err(fault("create the Job", &error)),
                Err(_) => {}
            }
            let there = self.jobs.get_opt(&self.order.name).await;
            // It may have gone in between.
            if let Some(job) = there.map_err(|error| fault("get the Job", &error))? {
                return self.release(job).await.map(|job| (job, true));
            }
        }
        Err(Error::Unavailable {
            operation: "create the Job",
            message: format!("{} comes and goes", self.order.name),
        })
    }

    async fn release(&self, job: Job) -> Result<Job, Error> {
        let suspended = job.spec.as_ref().and_then(|spec| spec.suspend);
        if suspended != Some(true) {
            return Ok(job);
        }
        self.put_secret(&job).await?;
        let patch = json!({ "metadata": { "uid": job.metadata.uid }, "spec": { "suspend": false } });
        let patched = self
            .jobs
            .patch(&self.order.name, &PatchParams::default(), &Patch::Merge(&patch))
            .await;
        patched.map_err(|error| fault("let the Job go", &error))
    }

    /// Its name is the Job's alone, so what is there already was made for this Job.
    async fn put_secret(&self, job: &Job) -> Result<(), Error> {
        let secret = self.order.secret(job).await?;
        match self.secrets.create(&PostParams::default(), &secret).await {
            Err(error) if !is_taken(&error) => Err(fault("create the Secret", &error)),
            _ => Ok(()),
        }
    }

    /// Follows it to its end, log included.
    async fn attend(&self, job: &Job, log: &mpsc::Sender<Bytes>) -> Result<End, Error> {
        let (tell, begun) = oneshot::channel();
        let (end, ended) = oneshot::channel();
        let watch = async {
            let result = self.watch(job, tell).await;
            end.send(()).ok();
            result
        };
        let (result, ()) = tokio::join!(watch, log::follow(&self.pods, begun, ended, log));
        result
    }

    async fn watch(&self, job: &Job, begin: oneshot::Sender<String>) -> Result<End, Error> {
        let mut begin = Some(begin);
        let mut jobs = Follow::named(self.jobs.clone(), &self.order.name);
        let label = format!("batch.kubernetes.io/job-name={}", self.order.name);
        let mut pods = Follow::labelled(self.pods.clone(), label);
        let mut view = View {
            uid: job.metadata.uid.clone(),
            words: "its pod is not there yet".to_owned(),
            ..View::default()
        };
        let mut patience = Instant::now() + WAIT;
        loop {
            // cancel-safe: a change that is not taken is seen again.
            tokio::select! {
                change = jobs.next() => view.job(change?),
                change = pods.next() => {
                    let was_waiting = view.waits;
                    if let Change::Now(pod) = change? {
                        view.pod(&pod);
                        if view.log.is_some() && let Some(begin) = begin.take() {
                            drop(begin.send(view.log.clone().unwrap_or_default()));
                        }
                    }
                    if was_waiting && !view.waits {
                        patience = Instant::now() + WAIT;
                    }
                }
                () = tokio::time::sleep_until(patience), if view.waits || view.over.is_some() => {
                    return view.given_up();
                }
            }
            if let Some(end) = view.end.take() {
                return Ok(end);
            }
            if view.over.is_some() && !view.told {
                view.told = true;
                patience = Instant::now() + LAST_WORD;
            }
        }
    }

    /// That very Job, its pod and its Secret with it.
    async fn remove(&self, job: &Job) -> Result<(), Error> {
        let how = DeleteParams {
            preconditions: exactly(job.metadata.uid.clone()).preconditions,
            ..DeleteParams::background()
        };
        match self.jobs.delete(&self.order.name, &how).await {
            Err(error) if !is_missing(&error) && super::super::fault::code(&error) != Some(409) => {
                Err(fault("delete the Job", &error))
            }
            _ => Ok(()),
        }
    }
}

/// What was seen of one Job.
#[derive(Debug)]
struct View {
    uid: Option<String>,
    /// Nothing runs.
    waits: bool,
    /// For lack of room.
    room: bool,
    /// What it waits for.
    words: String,
    /// The Job is over, in its own words.
    over: Option<String>,
    told: bool,
    /// The pod whose log can be read.
    log: Option<String>,
    end: Option<End>,
}

impl Default for View {
    fn default() -> Self {
        Self {
            uid: None,
            waits: true,
            room: false,
            words: String::new(),
            over: None,
            told: false,
            log: None,
            end: None,
        }
    }
}

impl View {
    fn job(&mut self, change: Change<Job>) {
        match change {
            Change::Now(job) if job.metadata.uid == self.uid => {
                if verdict::is_over(&job) {
                    self.over = Some(verdict::failure(&job).unwrap_or_default());
                }
            }
            Change::Now(_) | Change::None => self.end = Some(End::Vanished),
        }
    }

    fn pod(&mut self, pod: &Pod) {
        let owners = pod.metadata.owner_references.iter().flatten();
        if !owners
            .map(|owner| Some(&owner.uid))
            .any(|uid| uid == self.uid.as_ref())
        {
            return;
        }
        if verdict::has_log(pod) {
            self.log.clone_from(&pod.metadata.name);
        }
        match verdict::stage(pod) {
            Stage::Ended(end) => self.end = Some(end),
            Stage::Running => self.waits = false,
            Stage::Waiting { room, words } => {
                self.waits = true;
                self.room = room;
                self.words = words;
            }
        }
    }

    fn given_up(self) -> Result<End, Error> {
        if let Some(words) = self.over {
            return Ok(if words.is_empty() {
                End::Vanished
            } else {
                End::Platform(words)
            });
        }
        if self.room {
            return Err(Error::NoRoom(self.words));
        }
        Ok(End::Platform(format!(
            "nothing runs after {} s: {}",
            WAIT.as_secs(),
            self.words
        )))
    }
}

fn exactly(uid: Option<String>) -> DeleteParams {
    DeleteParams {
        preconditions: Some(Preconditions {
            uid,
            ..Preconditions::default()
        }),
        ..DeleteParams::default()
    }
}
