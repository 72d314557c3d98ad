//! How the C library's allocator gives memory back. The agent needs megabytes for moments (a header, the answer of a
//! program) and then nothing for months; what the allocator keeps for itself, every node lacks.

/// Above this many bytes a block is mapped for itself, and unmapped when it is freed. Set once, it stays: by itself
/// the allocator raises it to the largest block that was ever freed, and keeps all smaller ones.
const MAP_ABOVE_BYTES: libc::c_int = 128 << 10;
/// Free bytes at the end of a heap above which they go back to the kernel.
const KEEP_BYTES: libc::c_int = 128 << 10;
/// A heap of its own for each of a dozen threads that do little would be a dozen heaps with holes.
const HEAPS: libc::c_int = 1;

/// To be called before there are threads. Says what was not taken; nothing breaks without.
pub fn keep_little() -> Vec<String> {
    let settings = [
        ("M_ARENA_MAX", libc::M_ARENA_MAX, HEAPS),
        ("M_MMAP_THRESHOLD", libc::M_MMAP_THRESHOLD, MAP_ABOVE_BYTES),
        ("M_TRIM_THRESHOLD", libc::M_TRIM_THRESHOLD, KEEP_BYTES),
    ];
    let refused = settings.into_iter().filter(|(_, parameter, value)| {
        // SAFETY: takes two integers, touches nothing but the allocator's own settings, and locks them.
        unsafe { libc::mallopt(*parameter, *value) != 1 }
    });
    refused.map(|(name, ..)| format!("the allocator does not take {name}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_allocator_takes_every_setting() {
        assert_eq!(keep_little(), Vec::<String>::new());
    }
}
