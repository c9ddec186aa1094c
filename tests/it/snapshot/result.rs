//! F3: what a snapshot made, and its local copy.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use piton::{
    Error, Result, StateHandle,
    contract::{SnapshotResources, SnapshotResult, StateObject},
};

/// A state that counts how often it is discarded, and may fail to be.
struct Discarded {
    size: u64,
    fails: bool,
    count: Arc<AtomicUsize>,
}

impl StateObject for Discarded {
    fn size(&self) -> u64 {
        self.size
    }

    fn discard(&mut self) -> Result<()> {
        self.count.fetch_add(1, Ordering::SeqCst);
        if self.fails { Err(Error::invalid("discard", format!("told so, {}", self.size))) } else { Ok(()) }
    }
}

#[test]
fn local_copy_needs_what_it_copies_and_size_is_that_of_the_store() {
    let (store, local) = (StateHandle::inline(b"12345"), StateHandle::inline(b"1234567"));
    let empty = SnapshotResult::<StateHandle>::empty();
    assert_eq!((empty.size(), empty.state(), empty.local()), (0, None, None));
    assert!(empty.with_local(local.clone()).unwrap_err().is_invalid());
    let result = SnapshotResult::stored(store.clone());
    assert_eq!((result.size(), result.local()), (5, None));
    let result = result.with_local(local.clone()).unwrap();
    assert_eq!((result.size(), result.state(), result.local()), (5, Some(&store), Some(&local)));
    assert_eq!(result.into_parts(), (Some(store), Some(local)));
}

#[test]
fn discarding_reaches_both_even_if_one_fails() {
    for (store_fails, local_fails, expected) in
        [(false, false, None), (true, false, Some("1")), (false, true, Some("2")), (true, true, Some("1"))]
    {
        let count = Arc::<AtomicUsize>::default();
        let part = |size, fails| Discarded { size, fails, count: Arc::clone(&count) };
        let mut result = SnapshotResult::stored(part(1, store_fails)).with_local(part(2, local_fails)).unwrap();
        let error = result.discard().err().map(|error| error.to_string());
        assert_eq!(count.load(Ordering::SeqCst), 2);
        assert_eq!(error.is_some(), expected.is_some());
        assert!(expected.is_none_or(|size| error.unwrap().ends_with(size)), "the first failure is told");
    }
}

#[test]
fn several_states_are_as_large_as_all_of_them_and_are_all_discarded() {
    let count = Arc::<AtomicUsize>::default();
    let part = |size| Discarded { size, fails: true, count: Arc::clone(&count) };
    let mut list = vec![part(1), part(20), part(300)];
    assert_eq!(list.size(), 321);
    assert!(list.discard().unwrap_err().to_string().ends_with('1'));
    let mut named: BTreeMap<_, _> = [("a", part(4)), ("b", part(5))].into();
    assert_eq!(named.size(), 9);
    assert!(named.discard().is_err());
    assert_eq!(count.load(Ordering::SeqCst), 5);
    let mut boxed: Vec<Option<Box<dyn StateObject>>> = vec![Some(Box::new(part(7))), None];
    assert_eq!(boxed.size(), 7);
    assert!(boxed.discard().is_err());
    assert_eq!(count.load(Ordering::SeqCst), 6);
}

#[test]
fn several_resources_are_all_released() {
    struct Counted(Arc<AtomicUsize>);
    impl SnapshotResources for Counted {
        fn release(&mut self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
    let count = Arc::<AtomicUsize>::default();
    let part = || Some(Box::new(Counted(Arc::clone(&count))) as Box<dyn SnapshotResources>);
    vec![part(), None, part()].release();
    assert_eq!(count.load(Ordering::SeqCst), 2);
}
