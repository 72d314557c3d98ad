//! One page of memory for 32 secret bytes: never swapped, never in a core dump, never in a forked child,
//! wiped before it goes to the next secret or back to the kernel. All unsafe code of the crate is here.
#![allow(unsafe_code)]

use std::io;
use std::mem::ManuallyDrop;
use std::ptr::NonNull;
use std::sync::{Mutex, PoisonError};

use zeroize::Zeroize;

/// Bytes kept in a page.
pub(crate) const SECRET_BYTES: usize = 32;
/// Length of the mapping, bytes; the kernel rounds up to its page size, so any page size will do.
const MAPPING_BYTES: usize = 4096;
/// Wiped pages kept for the next secret: a node holds one or two keys at a time. Mapping, locking and
/// unmapping a page takes 10 to 80 µs, many times what putting a key together takes.
const SPARES_MAX: usize = 4;

/// What could not be done with the page.
#[derive(Debug, thiserror::Error)]
pub enum PageError {
    #[error("cannot map a page for the volume key")]
    Map(#[source] io::Error),
    #[error("cannot lock the volume key's page in memory (is RLIMIT_MEMLOCK too low?)")]
    Lock(#[source] io::Error),
    #[error("cannot keep the volume key's page out of core dumps")]
    HideFromDumps(#[source] io::Error),
    #[error("cannot keep the volume key's page out of child processes")]
    HideFromChildren(#[source] io::Error),
}

/// Zeroed pages that are still mapped, locked and hidden.
static SPARES: Mutex<Vec<Mapping>> = Mutex::new(Vec::new());

/// An owned, locked page. No Debug, no Clone.
pub(crate) struct LockedPage(ManuallyDrop<Mapping>);

impl LockedPage {
    /// A zeroed page. Any step the kernel refuses is an error: an unlocked key is worse than none.
    pub(crate) fn zeroed() -> Result<Self, PageError> {
        let spare = SPARES.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mapping = spare.map_or_else(Mapping::zeroed, Ok)?;
        Ok(Self(ManuallyDrop::new(mapping)))
    }

    pub(crate) fn bytes(&self) -> &[u8; SECRET_BYTES] {
        self.0.bytes()
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8; SECRET_BYTES] {
        self.0.bytes_mut()
    }
}

impl Drop for LockedPage {
    fn drop(&mut self) {
        self.bytes_mut().zeroize();
        // SAFETY: `self.0` is taken only here, and nothing uses it after drop.
        let mapping = unsafe { ManuallyDrop::take(&mut self.0) };
        let mut spares = SPARES.lock().unwrap_or_else(PoisonError::into_inner);
        if spares.len() < SPARES_MAX {
            spares.push(mapping);
        }
    }
}

/// The memory itself.
struct Mapping {
    start: NonNull<[u8; SECRET_BYTES]>,
}

// SAFETY: the memory is owned by this value alone, is not tied to a thread, and is only changed through
// `&mut self`; so it may move between threads and be read from several, as a Box may.
unsafe impl Send for Mapping {}
// SAFETY: as above; `&self` gives shared reads only.
unsafe impl Sync for Mapping {}

impl Mapping {
    fn zeroed() -> Result<Self, PageError> {
        // SAFETY: an anonymous private mapping at an address of the kernel's choice touches no memory of
        // ours; the result is checked against MAP_FAILED before use.
        let address = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                MAPPING_BYTES,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if address == libc::MAP_FAILED {
            return Err(PageError::Map(io::Error::last_os_error()));
        }
        let Some(start) = NonNull::new(address.cast::<[u8; SECRET_BYTES]>()) else {
            return Err(PageError::Map(io::ErrorKind::AddrNotAvailable.into()));
        };
        // From here on Drop unmaps the page, on every path out.
        let page = Self { start };
        page.check(PageError::Lock, |address| {
            // SAFETY: the range is the mapping made above, which is still mapped.
            unsafe { libc::mlock(address, MAPPING_BYTES) }
        })?;
        page.check(PageError::HideFromDumps, |address| {
            // SAFETY: as above; MADV_DONTDUMP does not change the contents.
            unsafe { libc::madvise(address, MAPPING_BYTES, libc::MADV_DONTDUMP) }
        })?;
        // DONTFORK rather than WIPEONFORK: a child that touched the key by mistake must crash, not work
        // with 32 zero bytes. That holds for spare pages too: a forked child of this program may not ask
        // for a page before it executes another, as it may not allocate either.
        page.check(PageError::HideFromChildren, |address| {
            // SAFETY: as above; MADV_DONTFORK does not change the contents in this process.
            unsafe { libc::madvise(address, MAPPING_BYTES, libc::MADV_DONTFORK) }
        })?;
        Ok(page)
    }

    fn check(
        &self,
        error: fn(io::Error) -> PageError,
        call: impl FnOnce(*mut libc::c_void) -> libc::c_int,
    ) -> Result<(), PageError> {
        if call(self.start.as_ptr().cast()) == 0 { Ok(()) } else { Err(error(io::Error::last_os_error())) }
    }

    fn bytes(&self) -> &[u8; SECRET_BYTES] {
        // SAFETY: the pointer is page-aligned, its first 32 bytes are mapped, readable and initialized
        // (anonymous memory is zeroed) until Drop, and no `&mut` can live beside this borrow of self.
        unsafe { self.start.as_ref() }
    }

    fn bytes_mut(&mut self) -> &mut [u8; SECRET_BYTES] {
        // SAFETY: as in `bytes`, the memory is writable, and `&mut self` makes the borrow exclusive.
        unsafe { self.start.as_mut() }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping was made in `zeroed` with this address and length, and nothing borrows it
        // any more. Unmapping also unlocks. The result is of no use here: the contents are wiped.
        let _ = unsafe { libc::munmap(self.start.as_ptr().cast(), MAPPING_BYTES) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Other tests take and give back pages at the same time: only what holds whatever they do is checked.
    #[test]
    fn a_page_is_blank_whoever_had_it_before() {
        for round in 0..100 {
            let mut pages: Vec<LockedPage> =
                (0..=SPARES_MAX).map(|_| LockedPage::zeroed().unwrap()).collect();
            let mut addresses: Vec<_> = pages.iter().map(|page| page.bytes().as_ptr()).collect();
            addresses.sort_unstable();
            addresses.dedup();
            assert_eq!(addresses.len(), pages.len(), "round {round}: a page has two owners");
            for page in &mut pages {
                assert_eq!(page.bytes(), &[0; SECRET_BYTES], "round {round}");
                page.bytes_mut().fill(0xa5);
            }
            drop(pages);
            let spares = SPARES.lock().unwrap();
            assert!(spares.len() <= SPARES_MAX);
            assert!(spares.iter().all(|spare| spare.bytes() == &[0; SECRET_BYTES]), "round {round}");
        }
    }
}
