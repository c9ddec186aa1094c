//! Which process this is, without a call to the system each time: it is asked at every call to a disk, so that a child of a
//! fork is refused.
//!
//! The number is kept in a page of memory that a fork wipes in the child.

#[cfg(target_os = "linux")]
pub(super) fn id() -> u32 {
    use std::sync::atomic::Ordering;

    let Some(known) = known() else { return std::process::id() };
    match known.load(Ordering::Relaxed) {
        0 => {
            let id = std::process::id();
            known.store(id, Ordering::Relaxed);
            id
        }
        id => id,
    }
}

#[cfg(not(target_os = "linux"))]
pub(super) fn id() -> u32 {
    std::process::id()
}

/// Where the number is kept; 0 if it is not known. `None` where the system does not wipe pages: Linux does since 4.14.
#[cfg(target_os = "linux")]
#[expect(unsafe_code, reason = "memory that a fork wipes can be had in no safe way")]
fn known() -> Option<&'static std::sync::atomic::AtomicU32> {
    use std::sync::{LazyLock, atomic::AtomicU32};

    use memmap2::{MmapOptions, MmapRaw};
    use rustix::mm::{Advice, madvise};

    static PAGE: LazyLock<Option<MmapRaw>> = LazyLock::new(|| {
        let page = MmapRaw::from(MmapOptions::new().len(size_of::<AtomicU32>()).map_anon().ok()?);
        // SAFETY: the page is private, nobody else has it, and zeros are a number like any other.
        unsafe { madvise(page.as_mut_ptr().cast(), page.len(), Advice::LinuxWipeOnFork) }.ok()?;
        Some(page)
    });
    // SAFETY: the page is aligned, is never unmapped, and is only used through this.
    PAGE.as_ref().map(|page| unsafe { AtomicU32::from_ptr(page.as_mut_ptr().cast()) })
}

#[cfg(test)]
mod tests {
    #[test]
    fn number_is_that_of_this_process_at_every_call() {
        for _ in 0..3 {
            assert_eq!(super::id(), std::process::id());
        }
    }
}
