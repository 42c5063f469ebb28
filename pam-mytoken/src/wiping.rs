// SPDX-License-Identifier: GPL-3.0-or-later
//! Wipes what the module leaves in the memory of its process: sshd's monitor, su and sudo live as long as the session.
//!
//! A token goes through many hands: the JSON parser, the HTTP client and the TLS library copy it and free their copies as they are. So the
//! module's allocator wipes every block that is freed, whoever had it, and each hook wipes the stack that it has used.

use std::alloc::{GlobalAlloc, Layout};
use std::hint::black_box;

use zeroize::Zeroize;

/// How much of the stack a hook wipes, in bytes. Values with pieces of a token, such as the last block of a hash, are not deeper. The
/// stack of an application is several times as large.
const STACK: usize = 128 * 1024;

/// An allocator that wipes blocks before `A` frees them. Blocks that grow are copied, so that the old block is wiped too: that is what
/// the provided `realloc` does.
pub struct Wiping<A>(pub A);

// SAFETY: all blocks come from `A`, which keeps the contract, and go back to it with the same layout.
unsafe impl<A: GlobalAlloc> GlobalAlloc for Wiping<A> {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { self.0.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps the contract of `alloc_zeroed`.
        unsafe { self.0.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the block has this size and belongs to the caller, who gives it up; explicit_bzero(3) is not optimised away.
        unsafe { libc::explicit_bzero(block.cast(), layout.size()) };
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { self.0.dealloc(block, layout) };
    }
}

/// Wipes the stack below its caller, which functions that have returned have used.
#[inline(never)]
pub fn wipe_stack() {
    let mut stack = [0_u8; STACK];
    black_box(&mut stack).zeroize();
}

#[cfg(test)]
mod tests {
    use std::alloc::System;
    use std::slice;

    use super::*;

    /// Frees nothing, so that a test can look at freed blocks.
    struct Keeping;

    // SAFETY: all blocks come from `System` and are never freed.
    unsafe impl GlobalAlloc for Keeping {
        unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
            // SAFETY: the caller keeps the contract of `alloc`.
            unsafe { System.alloc(layout) }
        }

        unsafe fn dealloc(&self, _: *mut u8, _: Layout) {}
    }

    #[test]
    fn a_block_is_wiped_when_it_grows_and_when_it_is_freed() {
        let allocator = Wiping(Keeping);
        let (small, large) = (Layout::new::<[u8; 32]>(), Layout::new::<[u8; 64]>());
        // SAFETY: the layout is not empty.
        let first = unsafe { allocator.alloc(small) };
        assert!(!first.is_null());
        // SAFETY: the block has 32 bytes.
        unsafe { first.write_bytes(b'x', 32) };
        // SAFETY: the block has this layout, and the new size is not zero.
        let second = unsafe { allocator.realloc(first, small, 64) };
        assert!(!second.is_null());
        // SAFETY: `Keeping` did not free it; it has 32 bytes, and all were written.
        assert_eq!(unsafe { slice::from_raw_parts(first, 32) }, [0; 32]);
        // SAFETY: the block has more bytes than these, which were written by the copy.
        assert_eq!(unsafe { slice::from_raw_parts(second, 32) }, [b'x'; 32]);
        // SAFETY: the block has this layout, and is not used as a block again.
        unsafe { allocator.dealloc(second, large) };
        // SAFETY: `Keeping` did not free it.
        assert_eq!(unsafe { slice::from_raw_parts(second, 32) }, [0; 32]);
    }
}
