//! One page of memory for 32 secret bytes: never swapped, never in a core dump, never in a forked child,
//! wiped before it goes back to the kernel. All unsafe code of the crate is here.
#![allow(unsafe_code)]

use std::io;
use std::ptr::NonNull;

use zeroize::Zeroize;

/// Bytes kept in a page.
pub(crate) const SECRET_BYTES: usize = 32;
/// Length of the mapping, bytes; the kernel rounds up to its page size, so any page size will do.
const MAPPING_BYTES: usize = 4096;

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

/// An owned, locked page. No Debug, no Clone.
pub(crate) struct LockedPage {
    start: NonNull<[u8; SECRET_BYTES]>,
}

// SAFETY: the page is owned by this value alone, is not tied to a thread, and is only changed through
// `&mut self`; so it may move between threads and be read from several, as a Box may.
unsafe impl Send for LockedPage {}
// SAFETY: as above; `&self` gives shared reads only.
unsafe impl Sync for LockedPage {}

impl LockedPage {
    /// A zeroed page. Any step the kernel refuses is an error: an unlocked key is worse than none.
    pub(crate) fn zeroed() -> Result<Self, PageError> {
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
        // with 32 zero bytes.
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

    pub(crate) fn bytes(&self) -> &[u8; SECRET_BYTES] {
        // SAFETY: the pointer is page-aligned, its first 32 bytes are mapped, readable and initialized
        // (anonymous memory is zeroed) until Drop, and no `&mut` can live beside this borrow of self.
        unsafe { self.start.as_ref() }
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8; SECRET_BYTES] {
        // SAFETY: as in `bytes`, the memory is writable, and `&mut self` makes the borrow exclusive.
        unsafe { self.start.as_mut() }
    }
}

impl Drop for LockedPage {
    fn drop(&mut self) {
        self.bytes_mut().zeroize();
        // SAFETY: the mapping was made in `zeroed` with this address and length, and nothing borrows it
        // any more. Unmapping also unlocks. The result is of no use here: the contents are wiped.
        let _ = unsafe { libc::munmap(self.start.as_ptr().cast(), MAPPING_BYTES) };
    }
}
