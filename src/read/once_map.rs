//! What is found once and stays so, for many threads that look at it: a look takes no lock and writes to no memory that
//! others read. Two locks of a kind that many readers share cost two threads more than all the rest of a look.
//!
//! Entries are never changed and never taken out. A table that is full is followed by a larger one; entries stay where
//! they are.

use std::sync::{
    OnceLock,
    atomic::{AtomicUsize, Ordering},
};

use parking_lot::Mutex;

/// A key has so many slots in each table that it may be in.
const PROBES: usize = 8;
/// Slots of the first table, and how many times as large as the one before each other is.
const FIRST: usize = 8;
const GROWTH: usize = 4;
/// Enough for as many entries as memory has room for.
const TABLES: usize = 14;
/// A table that takes no more although it has more room than this share is full of keys that were chosen to collide. None
/// follows it.
const LEAST_FULL: usize = 4;

/// Spreads keys over slots.
pub(super) trait Place {
    fn place(&self) -> u64;
}

#[derive(Debug)]
pub(super) struct OnceMap<K, V> {
    tables: [OnceLock<Table<K, V>>; TABLES],
    /// The table that takes entries, and how many it has. Held while one is added.
    newest: Mutex<(usize, usize)>,
    /// The same table, for those that look.
    last: AtomicUsize,
}

type Table<K, V> = Box<[OnceLock<(K, V)>]>;

impl<K, V> Default for OnceMap<K, V> {
    fn default() -> Self {
        Self { tables: [const { OnceLock::new() }; TABLES], newest: Mutex::default(), last: AtomicUsize::new(0) }
    }
}

impl<K: Place + PartialEq, V> OnceMap<K, V> {
    pub(super) fn get(&self, key: &K) -> Option<&V> {
        // Most entries are in the last table.
        let tables = self.tables.get(..=self.last.load(Ordering::Acquire))?;
        tables.iter().rev().find_map(|table| find(table.get()?, key))
    }

    /// The entry of this key, added if there is none. `None` if there is no room for it: it is not remembered.
    pub(super) fn get_or_add(&self, key: K, make: impl FnOnce() -> V) -> Option<&V> {
        let mut newest = self.newest.lock();
        match self.get(&key) {
            Some(found) => Some(found),
            None => self.add_to(&mut newest, key, make()),
        }
    }

    /// Adds an entry that was not there a moment ago. Whoever else adds it as well gives it the same value.
    pub(super) fn add(&self, key: K, value: V) {
        self.add_to(&mut self.newest.lock(), key, value);
    }

    fn add_to(&self, (last, entries): &mut (usize, usize), key: K, value: V) -> Option<&V> {
        loop {
            let table = self.tables.get(*last)?.get_or_init(|| new_table(*last));
            self.last.store(*last, Ordering::Release);
            if let Some(slot) = slots(table, key.place()).find(|slot| slot.get().is_none()) {
                *entries += 1;
                return Some(&slot.get_or_init(|| (key, value)).1);
            }
            if *entries < table.len() / LEAST_FULL {
                return None;
            }
            (*last, *entries) = (*last + 1, 0);
        }
    }
}

fn new_table<K, V>(number: usize) -> Table<K, V> {
    let slots = (0..number).fold(FIRST, |slots, _| slots * GROWTH);
    std::iter::repeat_with(OnceLock::new).take(slots).collect()
}

/// Those that a key may be in, from the first on until one is free.
fn slots<K, V>(table: &[OnceLock<(K, V)>], place: u64) -> impl Iterator<Item = &OnceLock<(K, V)>> {
    // Only the highest bits of a product depend on all of a key. Tables have powers of two.
    let spread = (place.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32) as usize;
    let first = spread >> (u32::BITS - table.len().trailing_zeros());
    (first..first + PROBES).filter_map(|slot| table.get(slot & (table.len() - 1)))
}

fn find<'a, K: Place + PartialEq, V>(table: &'a [OnceLock<(K, V)>], key: &K) -> Option<&'a V> {
    slots(table, key.place()).map_while(OnceLock::get).find(|(found, _)| found == key).map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use std::{sync::Barrier, thread};

    use super::*;
    use crate::id::{FileId, Scope};

    impl Place for u64 {
        fn place(&self) -> u64 {
            *self
        }
    }

    #[derive(PartialEq)]
    struct Colliding(u64);

    impl Place for Colliding {
        fn place(&self) -> u64 {
            7
        }
    }

    #[test]
    fn every_entry_is_found_with_the_first_value_that_it_was_given() {
        let map = OnceMap::default();
        for n in 0..100_000_u64 {
            assert_eq!(map.get(&(n * 64)), None);
            assert_eq!(map.get_or_add(n * 64, || n), Some(&n));
            assert_eq!(map.get_or_add(n * 64, || n + 1), Some(&n));
        }
        for n in 0..100_000 {
            assert_eq!(map.get(&(n * 64)), Some(&n));
            assert_eq!(map.get(&(n * 64 + 1)), None);
        }
        let slots: usize = map.tables.iter().filter_map(OnceLock::get).map(|table| table.len()).sum();
        assert!(slots < 1_000_000, "{slots} slots");
    }

    #[test]
    fn files_of_every_generation_and_lane_are_found() {
        let map = OnceMap::default();
        let files = (1..300).flat_map(|generation| {
            (0..4).map(move |n| FileId { scope: Scope::Shared, generation, lane: n % 2, sequence: u64::from(n / 2) })
        });
        for file in files.clone() {
            assert_eq!(map.get_or_add(file, || file), Some(&file));
        }
        assert!(files.clone().all(|file| map.get(&file) == Some(&file)));
    }

    #[test]
    fn threads_that_add_the_same_entries_agree_on_them() {
        for _ in 0..20 {
            let (map, start) = (OnceMap::default(), Barrier::new(4));
            thread::scope(|scope| {
                for thread in 0..4 {
                    let (map, start) = (&map, &start);
                    scope.spawn(move || {
                        start.wait();
                        for n in 0..2000_u64 {
                            let found = *map.get_or_add(n, || (n, thread)).unwrap();
                            assert_eq!(map.get(&n), Some(&found));
                        }
                    });
                }
            });
        }
    }

    #[test]
    fn keys_that_were_chosen_to_collide_are_not_remembered_and_cost_no_memory() {
        let map = OnceMap::default();
        let kept = (0..10_000).filter(|n| map.get_or_add(Colliding(*n), || *n).is_some()).count();
        let slots: usize = map.tables.iter().filter_map(OnceLock::get).map(|table| table.len()).sum();
        assert!(kept <= 3 * PROBES && slots <= 256, "{kept} entries in {slots} slots");
        for n in 0..kept as u64 {
            assert_eq!(map.get(&Colliding(n)), Some(&n));
        }
    }
}
