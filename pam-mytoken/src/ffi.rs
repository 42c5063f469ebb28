// SPDX-License-Identifier: GPL-3.0-or-later
//! PAM's conversation, and the item that `pamsm` does not read. The only other unsafe code of the module is its allocator, in `wiping`.
//!
//! The conversation of `pamsm` neither frees nor wipes the answer: the token would stay in the heap of sshd's monitor for the whole
//! session. It also dereferences a null pointer when an application gives no answer (SSH-27).

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::ptr;

use pamsm::{Pam, PamError};
use zeroize::Zeroizing;

mytoken_wire::version_note!();

const PAM_SUCCESS: c_int = 0;
const PAM_TTY: c_int = 3;
const PAM_CONV: c_int = 5;

/// Kind of a message (`pam_conv(3)`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// A prompt whose answer is not shown.
    PromptEchoOff = 1,
    /// An error.
    ErrorMessage = 3,
    /// Another message.
    TextInfo = 4,
}

#[repr(C)]
struct Message {
    style: c_int,
    text: *const c_char,
}

#[repr(C)]
struct Response {
    text: *mut c_char,
    code: c_int,
}

type Callback = unsafe extern "C" fn(c_int, *mut *const Message, *mut *mut Response, *mut c_void) -> c_int;

#[repr(C)]
struct Conversation {
    callback: Option<Callback>,
    data: *mut c_void,
}

// SAFETY: the signature is that of pam_get_item(3).
#[link(name = "pam")]
unsafe extern "C" {
    fn pam_get_item(handle: *const c_void, item: c_int, value: *mut *const c_void) -> c_int;
}

/// PAM's handle.
fn handle(pam: &Pam) -> *const c_void {
    // SAFETY: `Pam` is `repr(transparent)` over the handle, a `*const c_void`, which libpam gave to the hook and keeps valid until
    // the hook returns; `pam` cannot outlive it.
    unsafe { std::mem::transmute_copy::<Pam, *const c_void>(pam) }
}

/// PAM's terminal. sshd gives `ssh`, because there is none yet.
pub fn terminal(pam: &Pam) -> Option<String> {
    let mut item: *const c_void = ptr::null();
    // SAFETY: the handle is valid and `item` is a place for one pointer (pam_get_item(3)).
    let code = unsafe { pam_get_item(handle(pam), PAM_TTY, &raw mut item) };
    if code != PAM_SUCCESS || item.is_null() {
        return None;
    }
    // SAFETY: for PAM_TTY the item is a C string that libpam owns and keeps until the item is set again, which does not happen
    // during this call. It is copied.
    let text = unsafe { CStr::from_ptr(item.cast()) };
    text.to_str().ok().map(str::to_owned)
}

/// Shows one message or prompt. The answer is a copy; the application's original is wiped and freed. `None`: there is no answer.
///
/// # Errors
/// `CONV_ERR` when there is no conversation or it fails.
pub fn converse(pam: &Pam, style: Style, text: &str) -> Result<Option<Zeroizing<Vec<u8>>>, PamError> {
    let text = CString::new(text).map_err(|_| PamError::CONV_ERR)?;
    let mut item: *const c_void = ptr::null();
    // SAFETY: the handle is valid and `item` is a place for one pointer (pam_get_item(3)).
    let code = unsafe { pam_get_item(handle(pam), PAM_CONV, &raw mut item) };
    if code != PAM_SUCCESS || item.is_null() {
        return Err(PamError::CONV_ERR);
    }
    // SAFETY: for PAM_CONV the item is a `struct pam_conv` that libpam owns and keeps until the item is set again, which does not
    // happen during this call. Both members are copied out.
    let (callback, data) = unsafe {
        let conversation = &*item.cast::<Conversation>();
        (conversation.callback, conversation.data)
    };
    let callback = callback.ok_or(PamError::CONV_ERR)?;
    let message = Message { style: style as c_int, text: text.as_ptr() };
    let mut messages: *const Message = &raw const message;
    let mut responses: *mut Response = ptr::null_mut();
    // SAFETY: pam_conv(3): one message, an array of one pointer to it (which is what Linux-PAM and Solaris both mean then), a
    // place for the array of responses, and the application's own pointer. Message and text outlive the call.
    let code = unsafe { callback(1, &raw mut messages, &raw mut responses, data) };
    // SAFETY: after the call the array, if any, holds one response and belongs to the caller (pam_conv(3)); it is not used again.
    let answer = unsafe { take_answer(responses) };
    if code == PAM_SUCCESS { Ok(answer) } else { Err(PamError::CONV_ERR) }
}

/// Copies the text out of an array of one response. Wipes and frees the originals.
///
/// # Safety
/// `responses` is null or points to one `struct pam_response` from `malloc`, whose text is null or a C string from `malloc`. Both
/// belong to the caller and are invalid afterwards.
unsafe fn take_answer(responses: *mut Response) -> Option<Zeroizing<Vec<u8>>> {
    if responses.is_null() {
        return None;
    }
    // SAFETY: not null, so it points to one response by this function's contract.
    let text = unsafe { (*responses).text };
    let answer = if text.is_null() {
        None
    } else {
        // SAFETY: not null, so it is a C string by this function's contract.
        let answer = Zeroizing::new(unsafe { CStr::from_ptr(text) }.to_bytes().to_vec());
        // SAFETY: the string has exactly this many bytes before its end; explicit_bzero(3) is not optimised away.
        unsafe { libc::explicit_bzero(text.cast(), answer.len()) };
        // SAFETY: it comes from malloc by this function's contract and is not used again.
        unsafe { libc::free(text.cast()) };
        Some(answer)
    };
    // SAFETY: it comes from malloc by this function's contract and is not used again.
    unsafe { libc::free(responses.cast()) };
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A response as an application's conversation allocates it.
    fn response(text: Option<&[u8]>) -> *mut Response {
        // SAFETY: malloc(3) of the size of one response, checked for null.
        let responses: *mut Response = unsafe { libc::malloc(size_of::<Response>()) }.cast();
        assert!(!responses.is_null());
        let copy = text.map_or(ptr::null_mut(), |text| {
            let text = CString::new(text).unwrap();
            // SAFETY: strdup(3) of a C string.
            unsafe { libc::strdup(text.as_ptr()) }
        });
        // SAFETY: it was just allocated with this size.
        unsafe { responses.write(Response { text: copy, code: 0 }) };
        responses
    }

    #[test]
    fn miri_answers_are_taken_whole() {
        for text in [b"".as_slice(), b"token", &[0xff; 5_000]] {
            // SAFETY: `response` allocates as the contract of `take_answer` requires.
            let answer = unsafe { take_answer(response(Some(text))) };
            assert_eq!(answer.unwrap().as_slice(), text);
        }
    }

    #[test]
    fn miri_no_answer_is_none() {
        // SAFETY: null is allowed by the contract.
        assert!(unsafe { take_answer(ptr::null_mut()) }.is_none());
        // SAFETY: a response without text is allowed by the contract.
        assert!(unsafe { take_answer(response(None)) }.is_none());
    }
}
