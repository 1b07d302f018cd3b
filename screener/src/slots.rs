//! Slots: how many attempts of a worker go on at once.
//!
//! One that waits for its image lends its slot to other work: a build needs no sandbox of its run's, and a queue of runs that
//! could begin must not stand behind it. As many may lend as there are slots.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

/// The slots of a worker.
#[derive(Debug)]
pub struct Slots {
    free: Arc<Semaphore>,
    lenders: Arc<Semaphore>,
}

/// Free slots, kept for who is about to come.
#[derive(Debug)]
pub struct Kept<'a> {
    slots: &'a Arc<Slots>,
    places: OwnedSemaphorePermit,
}

/// What one attempt works in.
#[derive(Debug)]
pub struct Slot {
    slots: Arc<Slots>,
    place: Option<OwnedSemaphorePermit>,
    /// While the place is lent.
    lends: Option<OwnedSemaphorePermit>,
}

/// Every slot was taken when the lender came back, and stayed so.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the image is ready, and every slot of this screener was taken meanwhile")]
pub struct Taken;

impl Slots {
    /// That many.
    pub fn new(count: u32) -> Self {
        let semaphore = || {
            Arc::new(Semaphore::new(
                usize::try_from(count).unwrap_or(Semaphore::MAX_PERMITS),
            ))
        };
        Self {
            free: semaphore(),
            lenders: semaphore(),
        }
    }

    /// All that are free: nobody who comes back gets one of them meanwhile. `None` where there is none.
    pub fn keep(self: &Arc<Self>) -> Option<Kept<'_>> {
        let count = u32::try_from(self.free.available_permits()).unwrap_or(u32::MAX);
        let places = Arc::clone(&self.free).try_acquire_many_owned(count).ok()?;
        (count > 0).then_some(Kept { slots: self, places })
    }
}

impl Kept<'_> {
    /// How many are left.
    pub fn count(&self) -> u32 {
        u32::try_from(self.places.num_permits()).unwrap_or(u32::MAX)
    }

    /// One of them; none in it where more came than were asked for.
    pub fn take(&mut self) -> Slot {
        Slot {
            slots: Arc::clone(self.slots),
            place: self.places.split(1),
            lends: None,
        }
    }
}

impl Slot {
    /// Lets others have it, unless as many do so already as may.
    pub fn lend(&mut self) {
        if let Ok(lends) = Arc::clone(&self.slots.lenders).try_acquire_owned() {
            self.lends = Some(lends);
            self.place = None;
        }
    }

    /// Takes a slot again where this one was lent: who came back first gets it first, before any new run.
    ///
    /// # Errors
    ///
    /// [`Taken`] when none came free for a minute: whoever holds them may do so for long, and the time of the attempt runs.
    pub async fn back(&mut self) -> Result<(), Taken> {
        let Some(_lends) = self.lends.take() else {
            return Ok(());
        };
        let place = timeout(PATIENCE, Arc::clone(&self.slots.free).acquire_owned()).await;
        self.place = Some(place.map_err(|_| Taken)?.map_err(|_| Taken)?);
        Ok(())
    }
}

const PATIENCE: Duration = Duration::from_mins(1);

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    /// An attempt that lends its slot until `done`.
    fn lender(mut slot: Slot, done: oneshot::Receiver<()>) -> tokio::task::JoinHandle<Result<Slot, Taken>> {
        slot.lend();
        tokio::spawn(async move {
            done.await.ok();
            slot.back().await.map(|()| slot)
        })
    }

    #[tokio::test(start_paused = true)]
    async fn a_lent_slot_is_free_for_others_and_goes_back_before_any_new_run() {
        let slots = Arc::new(Slots::new(1));
        let first = slots.keep().unwrap().take();
        assert!(slots.keep().is_none());
        let (ready, done) = oneshot::channel();
        let lends = lender(first, done);
        tokio::task::yield_now().await;
        let other = slots.keep().unwrap().take();
        ready.send(()).unwrap();
        tokio::task::yield_now().await;
        drop(other);
        assert!(slots.keep().is_none(), "the lender waits for it");
        let first = lends.await.unwrap().unwrap();
        assert!(slots.keep().is_none());
        drop(first);
        assert_eq!(slots.keep().unwrap().count(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_lender_whose_slot_stays_taken_gives_up() {
        let slots = Arc::new(Slots::new(1));
        let (ready, done) = oneshot::channel();
        let lends = lender(slots.keep().unwrap().take(), done);
        tokio::task::yield_now().await;
        let _other = slots.keep().unwrap().take();
        ready.send(()).unwrap();
        assert_eq!(lends.await.unwrap().err(), Some(Taken));
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_lend_than_there_are_slots() {
        let slots = Arc::new(Slots::new(1));
        let (ready, done) = oneshot::channel();
        let lends = lender(slots.keep().unwrap().take(), done);
        tokio::task::yield_now().await;
        let (_never, waits) = oneshot::channel();
        let holds = lender(slots.keep().unwrap().take(), waits);
        tokio::task::yield_now().await;
        assert!(slots.keep().is_none(), "the second keeps its slot");
        ready.send(()).unwrap();
        holds.abort();
        assert!(lends.await.unwrap().is_ok());
    }

    #[tokio::test]
    async fn kept_slots_come_back_when_nobody_came() {
        let slots = Arc::new(Slots::new(3));
        let mut kept = slots.keep().unwrap();
        let one = kept.take();
        drop(kept);
        assert_eq!(slots.keep().unwrap().count(), 2);
        drop(one);
        assert_eq!(slots.keep().unwrap().count(), 3);
    }
}
