// SPDX-License-Identifier: GPL-3.0-or-later
//! Wipes what the module leaves in the memory of its process: sshd's monitor, su and sudo live as long as the session.
//!
//! A token goes through many hands: the JSON parser, the HTTP client and the TLS library copy it and free their copies as they are. So the
//! module's allocator wipes every block that is freed, whoever had it, and each hook wipes the stack that it has used, and the vector
//! registers.

use std::alloc::{GlobalAlloc, Layout};
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
use std::arch::asm;
#[cfg(target_arch = "x86_64")]
use std::arch::is_x86_feature_detected;
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

/// Wipes what a hook leaves outside of its blocks: the stack below the caller, which functions that have returned have used, and the vector
/// registers.
pub fn wipe_traces() {
    wipe_stack();
    wipe_vectors();
}

#[inline(never)]
fn wipe_stack() {
    let mut stack = [0_u8; STACK];
    black_box(&mut stack).zeroize();
}

/// memcpy(3) copies with vector registers, and the next call of a function that the dynamic linker must look up saves them on the stack.
#[cfg(target_arch = "x86_64")]
fn wipe_vectors() {
    if is_x86_feature_detected!("avx512vl") {
        // SAFETY: the processor has these registers. No function keeps them for its caller (System V ABI).
        unsafe {
            asm!(
                "vpxord xmm16, xmm16, xmm16",
                "vpxord xmm17, xmm17, xmm17",
                "vpxord xmm18, xmm18, xmm18",
                "vpxord xmm19, xmm19, xmm19",
                "vpxord xmm20, xmm20, xmm20",
                "vpxord xmm21, xmm21, xmm21",
                "vpxord xmm22, xmm22, xmm22",
                "vpxord xmm23, xmm23, xmm23",
                "vpxord xmm24, xmm24, xmm24",
                "vpxord xmm25, xmm25, xmm25",
                "vpxord xmm26, xmm26, xmm26",
                "vpxord xmm27, xmm27, xmm27",
                "vpxord xmm28, xmm28, xmm28",
                "vpxord xmm29, xmm29, xmm29",
                "vpxord xmm30, xmm30, xmm30",
                "vpxord xmm31, xmm31, xmm31",
                clobber_abi("C"),
                options(nomem, nostack, preserves_flags)
            );
        }
    }
    if is_x86_feature_detected!("avx") {
        // SAFETY: as above, for the first sixteen registers.
        unsafe { asm!("vzeroall", clobber_abi("C"), options(nomem, nostack, preserves_flags)) };
    }
}

/// As for x86-64. The lower halves of v8 to v15 belong to the caller (AAPCS64).
#[cfg(target_arch = "aarch64")]
fn wipe_vectors() {
    // SAFETY: each processor of this architecture has these registers, and no function keeps them for its caller.
    unsafe {
        asm!(
            "movi v0.2d, #0",
            "movi v1.2d, #0",
            "movi v2.2d, #0",
            "movi v3.2d, #0",
            "movi v4.2d, #0",
            "movi v5.2d, #0",
            "movi v6.2d, #0",
            "movi v7.2d, #0",
            "movi v16.2d, #0",
            "movi v17.2d, #0",
            "movi v18.2d, #0",
            "movi v19.2d, #0",
            "movi v20.2d, #0",
            "movi v21.2d, #0",
            "movi v22.2d, #0",
            "movi v23.2d, #0",
            "movi v24.2d, #0",
            "movi v25.2d, #0",
            "movi v26.2d, #0",
            "movi v27.2d, #0",
            "movi v28.2d, #0",
            "movi v29.2d, #0",
            "movi v30.2d, #0",
            "movi v31.2d, #0",
            clobber_abi("C"),
            options(nomem, nostack, preserves_flags)
        );
    }
}

/// Other processors keep theirs.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn wipe_vectors() {}

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
