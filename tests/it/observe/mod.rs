//! What an observer is told. What is fenced off here: something that happens unseen, or is told twice; an observer that waits
//! for a lock which the caller holds; a commit that fails because somebody looks.

mod events;
mod ready_made;
mod reentrant;

use std::sync::{Arc, Mutex};

use piton::{Options, observe::Event};

/// What was told.
#[derive(Clone, Debug, Default)]
struct Told(Arc<Mutex<Vec<Event>>>);

impl Told {
    fn to(&self, options: Options) -> Options {
        let told = self.clone();
        options.observer(move |event| told.0.lock().unwrap().push(event.clone()))
    }

    /// The names of the events since the last call.
    fn names(&self) -> Vec<&'static str> {
        self.take().iter().map(Event::name).collect()
    }

    fn take(&self) -> Vec<Event> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}
