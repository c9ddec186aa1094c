//! What a manifest of many states takes: time to write and to read its bytes, and memory at most.
//!
//! ```sh
//! cargo run --release --features testing --example manifest_limits -- 1000000
//! ```
#![expect(clippy::print_stdout, reason = "it reports")]
#![expect(unsafe_code, reason = "an allocator that counts can be had in no safe way")]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    time::{Duration, Instant},
};

use piton::{CheckpointId, Error, Manifest, StateHandle, testing};

/// Counts the bytes that are allocated, and the most that ever were.
struct Counting {
    now: AtomicUsize,
    most: AtomicUsize,
}

#[global_allocator]
static ALLOCATOR: Counting = Counting { now: AtomicUsize::new(0), most: AtomicUsize::new(0) };

// SAFETY: the system's allocator does all of it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let now = self.now.fetch_add(layout.size(), Relaxed) + layout.size();
        self.most.fetch_max(now, Relaxed);
        // SAFETY: the caller's promises are those of the system's allocator.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        self.now.fetch_sub(layout.size(), Relaxed);
        // SAFETY: the caller's promises are those of the system's allocator.
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// Of one run.
struct Figures {
    encoded: Duration,
    decoded: Duration,
    file_bytes: usize,
    /// With the manifest that is written, and with its bytes and the manifest that is read.
    most_bytes: [usize; 2],
}

/// A manifest of so many states in 32 MiB segments, as a store would make it.
fn manifest(states: u64) -> Result<Manifest, Error> {
    let mut content = Manifest::builder();
    // That of a manifest that no store has made.
    let store = "0".repeat(32);
    for n in 0..states {
        let (file, offset) = (n / 8000 + 1, 64 + n % 8000 * 4160);
        let handle: StateHandle = format!("shared:{store}:1.1.{file}@{offset}+4096#{:08x}", n % (1 << 32)).parse()?;
        content = content.state(format!("operator/{:03}/{n:08}", n % 100), handle);
    }
    Ok(content.build(CheckpointId::FIRST))
}

fn measure(states: u64) -> Result<Figures, Error> {
    let most_since = || ALLOCATOR.most.swap(ALLOCATOR.now.load(Relaxed), Relaxed);
    let written = manifest(states)?;
    most_since();
    let start = Instant::now();
    let bytes = testing::manifest_bytes(&written).unwrap_or_default();
    let (encoded, encoding) = (start.elapsed(), most_since());
    drop(written);
    most_since();
    let start = Instant::now();
    let read = testing::parse_manifest(&bytes)?;
    let (decoded, decoding) = (start.elapsed(), most_since());
    assert_eq!(read.states().len() as u64, states);
    assert!(testing::manifest_bytes(&read).as_ref() == Some(&bytes), "another form");
    Ok(Figures { encoded, decoded, file_bytes: bytes.len(), most_bytes: [encoding, decoding] })
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let states = std::env::args().nth(1).map_or(Ok(1_000_000), |states| states.parse())?;
    let Figures { encoded, decoded, file_bytes, most_bytes: [encoding, decoding] } = measure(states)?;
    println!("{states} states, a file of {} MiB", file_bytes >> 20);
    println!("encoded in {} ms, {} MiB of memory at most", encoded.as_millis(), encoding >> 20);
    println!("decoded in {} ms, {} MiB of memory at most", decoded.as_millis(), decoding >> 20);
    Ok(())
}

#[test]
fn million_states_take_less_than_400_mib_of_memory() {
    let figures = measure(1_000_000).unwrap();
    assert!(figures.most_bytes.into_iter().all(|bytes| bytes < 400 << 20), "{:?}", figures.most_bytes);
}
