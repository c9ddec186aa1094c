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
#[cfg(test)]
use piton::{ConnectorOffset, ManifestBuilder, OperatorState, PartitionState};

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

/// One at a time: they count the same bytes.
#[cfg(test)]
static ALONE: std::sync::Mutex<()> = std::sync::Mutex::new(());

#[test]
fn million_states_take_less_than_400_mib_of_memory() {
    let _alone = ALONE.lock();
    let figures = measure(1_000_000).unwrap();
    assert!(figures.most_bytes.into_iter().all(|bytes| bytes < 400 << 20), "{:?}", figures.most_bytes);
}

/// How much memory is needed at most to read these bytes, in relation to their length; they count once themselves.
#[cfg(test)]
fn ratio(bytes: &[u8], act: impl FnOnce()) -> f64 {
    let before = ALLOCATOR.now.load(Relaxed);
    ALLOCATOR.most.store(before, Relaxed);
    act();
    #[expect(clippy::cast_precision_loss, reason = "a ratio")]
    let ratio = (ALLOCATOR.most.load(Relaxed) - before) as f64 / bytes.len() as f64;
    println!("{} bytes: {ratio:.2}", bytes.len());
    ratio
}

/// Names that are as short as so many can be, in ascending order.
#[cfg(test)]
fn short_name(mut n: u64) -> String {
    let mut name = [b'!'; 4];
    for byte in name.iter_mut().rev() {
        (*byte, n) = (b'!' + u8::try_from(n % 90).unwrap_or_default(), n / 90);
    }
    name.iter().map(|byte| char::from(*byte)).collect()
}

#[test]
fn hostile_manifest_takes_at_most_four_times_its_length_or_eight_if_it_is_full_of_empty_partitions() {
    let _alone = ALONE.lock();
    let many = |handle: &dyn Fn(u64) -> String| {
        let states = (0..400_000).map(|n| (short_name(n), handle(n).parse::<StateHandle>().unwrap()));
        let manifest = states.fold(Manifest::builder(), |manifest, (name, state)| manifest.state(name, state));
        testing::manifest_bytes(&manifest.build(CheckpointId::FIRST)).unwrap()
    };
    let place = format!("shared:{}:1.1.1", "0".repeat(32));
    let empty = many(&|_| "inline:#00000000".to_owned());
    let tiny = many(&|_| StateHandle::inline(b"x").to_string());
    let overlapping = many(&|n| format!("{place}@{}+900000#00000000", 64 + n));
    let built = |add: &dyn Fn(ManifestBuilder, u64) -> ManifestBuilder| {
        let manifest = (0..400_000).fold(Manifest::builder(), add);
        testing::manifest_bytes(&manifest.build(CheckpointId::FIRST)).unwrap()
    };
    let operators = built(&|manifest, n| manifest.operator(short_name(n), OperatorState::default()));
    let partition = PartitionState::default;
    let partitions = built(&|manifest, n| manifest.partition("o", u32::try_from(n).unwrap(), partition()));
    let both = built(&|manifest, n| manifest.partition(short_name(n), 1, partition()));
    let offsets = built(&|manifest, n| manifest.source_offset(short_name(n), ConnectorOffset::default()));
    let metadata = built(&|manifest, n| manifest.metadata(short_name(n), b""));
    let epochs = built(&|manifest, n| manifest.sink_epoch(short_name(n), 1));
    let of = |bytes: &Vec<u8>| ratio(bytes, || drop(testing::parse_manifest(bytes).unwrap()));
    // The bytes themselves are one more.
    let ratios = [empty, tiny, overlapping, offsets, metadata, epochs].each_ref().map(of);
    assert!(ratios.iter().all(|ratio| *ratio <= 3.0), "{ratios:.2?}");
    let ratios = [operators, partitions, both].each_ref().map(of);
    assert!(ratios.iter().all(|ratio| *ratio <= 7.5), "{ratios:.2?}");
}

/// Appends a record to both halves of a log, whoever wrote it, as `docs/format.md` has it.
#[cfg(test)]
fn append(log: &mut [u8], record: &[u8]) {
    const HEADERS: usize = 8192;
    const HEADER: usize = 76;
    const HEAD: usize = 40;
    const LINK: usize = 40;
    let number = |at: usize| usize::try_from(u64::from_le_bytes(log[at..at + 8].try_into().unwrap())).unwrap();
    let (half, salt) = (number(56), log[48..56].to_vec());
    let (mut offset, mut next) = (0, 0);
    while log[HEADERS + offset..].starts_with(b"PITONREC") {
        let at = HEADERS + offset;
        let word = |at: usize| u32::from_le_bytes(log[at..at + 4].try_into().unwrap()) as usize;
        offset = (offset + HEAD + word(at + 36) * LINK + word(at + 32) + 4).next_multiple_of(4096);
        next = u64::from_le_bytes(log[at + 24..at + 32].try_into().unwrap()) + 1;
    }
    let len = u32::try_from(record.len()).unwrap();
    let mut head = [b"PITONREC".to_vec(), salt, (offset as u64).to_le_bytes().to_vec()].concat();
    head.extend(next.to_le_bytes());
    head.extend([len.to_le_bytes(), [0; 4]].concat());
    head.extend(record);
    let mut crc = crc32fast::Hasher::new_with_initial(crc32fast::hash(&log[..HEADER - 4]));
    crc.update(&head);
    head.extend(crc.finalize().to_le_bytes());
    for half in [0, half] {
        log[HEADERS + half + offset..][..head.len()].copy_from_slice(&head);
    }
}

#[test]
#[expect(clippy::disallowed_methods, reason = "somebody else writes these files")]
fn store_with_hostile_manifests_is_opened_in_at_most_four_times_their_length() {
    use piton::{Options, Scope, Store};

    let _alone = ALONE.lock();
    let dir = tempfile::tempdir().unwrap();
    let store = Options::new().log_size(24 << 20).open(dir.path()).unwrap();
    let pending = store.begin_next().unwrap();
    let handle = pending.write(Scope::Shared, &[7; 5000]).unwrap();
    let text = handle.to_string();
    pending.commit(Manifest::builder().state("state", handle)).unwrap();
    drop(store);
    let path = dir.path().join("manifests/00000001-0000000001.log");
    let mut log = std::fs::read(&path).unwrap();
    let (place, _) = text.split_once('@').unwrap();
    for id in [2, 3] {
        // Every name and every place is another one than in the first, and no two states are the same.
        let states = (0..100_000).map(|n| {
            let handle = format!("{place}@{}+900000#00000000", 64 + 2 * n + id % 2);
            (short_name(n) + &id.to_string(), handle.parse::<StateHandle>().unwrap())
        });
        let manifest =
            states.fold(Manifest::builder().epoch(id), |manifest, (name, state)| manifest.state(name, state));
        append(&mut log, &testing::manifest_bytes(&manifest.build(CheckpointId::new(id).unwrap())).unwrap());
    }
    std::fs::write(&path, &log).unwrap();
    // The blank logs behind it say nothing.
    let ratio = ratio(&log, || {
        let store = Store::open(dir.path()).unwrap();
        assert_eq!((store.damaged().len(), store.latest().unwrap().unwrap().id().get()), (2, 1));
    });
    assert!(ratio <= 4.0, "{ratio:.2}");
}
