// SPDX-License-Identifier: MIT OR Apache-2.0
//! The only unsafe code of the crate: libpam, loaded at run time.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::os::unix::ffi::OsStrExt as _;
use std::ptr;

use crate::{Answer, Question};

const LIBRARY: &CStr = c"libpam.so.0";

const PAM_SUCCESS: c_int = 0;
const PAM_BUF_ERR: c_int = 5;
const PAM_CONV_ERR: c_int = 19;
/// Kinds of items (`pam_set_item(3)`).
const PAM_TTY: c_int = 3;
const PAM_RHOST: c_int = 4;
/// Kinds of messages that want no answer (`pam_conv(3)`).
const PAM_ERROR_MSG: c_int = 3;
const PAM_TEXT_INFO: c_int = 4;
/// `PAM_MAX_NUM_MSG`, and the most texts that are kept.
const MOST_MESSAGES: usize = 32;
/// `PAM_MAX_MSG_SIZE`.
const LONGEST: usize = 512;

// The three structures of pam_conv(3), seen by the application. pam-mytoken/src/ffi.rs has them as a module sees them, where the callback
// may be missing. They are not shared: of the crates that both use, only libc is about C, and it has no PAM; pamsm keeps its own to itself
// and is under the GPL. A further crate in what sshd loads is not worth nine lines that have been the same since Linux-PAM began.
#[repr(C)]
struct Message {
    style: c_int,
    text: *const c_char,
}

/// What a prompt is answered with. Nothing is.
#[repr(C)]
struct Response {
    text: *mut c_char,
    code: c_int,
}

type Callback = unsafe extern "C" fn(c_int, *mut *const Message, *mut *mut Response, *mut c_void) -> c_int;

#[repr(C)]
struct Conversation {
    callback: Callback,
    data: *mut c_void,
}

type Handle = c_void;
type Start =
    unsafe extern "C" fn(*const c_char, *const c_char, *const Conversation, *const c_char, *mut *mut Handle) -> c_int;
type SetItem = unsafe extern "C" fn(*mut Handle, c_int, *const c_void) -> c_int;
type Phase = unsafe extern "C" fn(*mut Handle, c_int) -> c_int;

struct Functions {
    start: Start,
    set_item: SetItem,
    account: Phase,
    end: Phase,
}

/// The last error of `dlopen` or `dlsym`.
fn loader_error() -> String {
    // SAFETY: dlerror(3) may be called at any time.
    let text = unsafe { libc::dlerror() };
    if text.is_null() {
        return "no reason was given".to_owned();
    }
    // SAFETY: not null, so it is a string that is valid until this thread calls the loader again.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}

impl Functions {
    fn load() -> Result<Self, String> {
        // SAFETY: the name ends with a null byte. The library is never unloaded: modules may have left destructors behind (SSH-29).
        let library = unsafe { libc::dlopen(LIBRARY.as_ptr(), libc::RTLD_NOW | libc::RTLD_GLOBAL) };
        if library.is_null() {
            return Err(format!("libpam cannot be loaded: {}", loader_error()));
        }
        let find = |name: &CStr| {
            // SAFETY: the library is loaded, and the name ends with a null byte.
            let address = unsafe { libc::dlsym(library, name.as_ptr()) };
            if address.is_null() { Err(format!("libpam is older than 1.4: {}", loader_error())) } else { Ok(address) }
        };
        let (start, set_item) = (find(c"pam_start_confdir")?, find(c"pam_set_item")?);
        let (account, end) = (find(c"pam_acct_mgmt")?, find(c"pam_end")?);
        Ok(Self {
            // SAFETY: the signature is that of pam_start_confdir(3).
            start: unsafe { std::mem::transmute::<*mut c_void, Start>(start) },
            // SAFETY: the signature is that of pam_set_item(3).
            set_item: unsafe { std::mem::transmute::<*mut c_void, SetItem>(set_item) },
            // SAFETY: the signature is that of pam_acct_mgmt(3).
            account: unsafe { std::mem::transmute::<*mut c_void, Phase>(account) },
            // SAFETY: the signature is that of pam_end(3).
            end: unsafe { std::mem::transmute::<*mut c_void, Phase>(end) },
        })
    }
}

/// Keeps texts, and answers no prompt: the account phase has nobody to ask.
unsafe extern "C" fn converse(
    count: c_int,
    messages: *mut *const Message,
    responses: *mut *mut Response,
    data: *mut c_void,
) -> c_int {
    let Ok(count) = usize::try_from(count) else { return PAM_CONV_ERR };
    if count == 0 || count > MOST_MESSAGES || messages.is_null() || responses.is_null() || data.is_null() {
        return PAM_CONV_ERR;
    }
    // SAFETY: `data` is the vector of `account`, which lives until pam_end, and one thread runs at a time.
    let kept = unsafe { &mut *data.cast::<Vec<String>>() };
    // SAFETY: pam_conv(3) of Linux-PAM: `messages` is an array of `count` pointers.
    let messages = unsafe { std::slice::from_raw_parts(messages, count) };
    for message in messages {
        // SAFETY: a valid message, or null.
        let Some(message) = (unsafe { message.as_ref() }) else { return PAM_CONV_ERR };
        if ![PAM_ERROR_MSG, PAM_TEXT_INFO].contains(&message.style) {
            return PAM_CONV_ERR;
        }
        if !message.text.is_null() && kept.len() < MOST_MESSAGES {
            // SAFETY: not null, so it is a string that is valid during the call.
            let text = unsafe { CStr::from_ptr(message.text) }.to_bytes();
            kept.push(String::from_utf8_lossy(text.get(..LONGEST).unwrap_or(text)).into_owned());
        }
    }
    // SAFETY: calloc(3) may be called at any time. The module frees it.
    let answers = unsafe { libc::calloc(count, size_of::<Response>()) };
    if answers.is_null() {
        return PAM_BUF_ERR;
    }
    // SAFETY: not null: libpam gave it to take the array.
    unsafe { *responses = answers.cast() };
    PAM_SUCCESS
}

pub(super) fn account(question: &Question<'_>) -> Result<Answer, String> {
    let text = |bytes: &[u8]| CString::new(bytes).map_err(|_| "a name has a null byte".to_owned());
    let (service, user) = (text(question.service.as_bytes())?, text(question.user.as_bytes())?);
    let (origin, terminal) = (text(question.origin.as_bytes())?, text(question.terminal.as_bytes())?);
    let directory = text(question.directory.as_os_str().as_bytes())?;
    let pam = Functions::load()?;
    let mut messages: Vec<String> = Vec::new();
    let conversation = Conversation { callback: converse, data: ptr::from_mut(&mut messages).cast() };
    let mut handle: *mut Handle = ptr::null_mut();
    // SAFETY: all strings end with a null byte. libpam copies the conversation; the vector behind it lives until pam_end.
    let started = unsafe {
        (pam.start)(service.as_ptr(), user.as_ptr(), &raw const conversation, directory.as_ptr(), &raw mut handle)
    };
    if started != PAM_SUCCESS || handle.is_null() {
        return Err(format!("libpam does not start: it returns {started}"));
    }
    let mut code = PAM_SUCCESS;
    for (item, value) in [(PAM_RHOST, &origin), (PAM_TTY, &terminal)] {
        if code == PAM_SUCCESS {
            // SAFETY: the handle is valid, and both items are strings, which libpam copies.
            code = unsafe { (pam.set_item)(handle, item, value.as_ptr().cast()) };
        }
    }
    let set = code == PAM_SUCCESS;
    if set {
        // SAFETY: the handle is valid.
        code = unsafe { (pam.account)(handle, 0) };
    }
    // SAFETY: the handle is valid, and is not used afterwards.
    unsafe { (pam.end)(handle, code) };
    if set { Ok(Answer { code, messages }) } else { Err(format!("libpam does not take the origin: it returns {code}")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Kept = Vec<String>;

    fn spoken(messages: &[(c_int, &CStr)], kept: &mut Kept) -> c_int {
        let messages: Vec<Message> =
            messages.iter().map(|(style, text)| Message { style: *style, text: text.as_ptr() }).collect();
        let mut pointers: Vec<*const Message> = messages.iter().map(ptr::from_ref).collect();
        let mut responses: *mut Response = ptr::null_mut();
        let count = c_int::try_from(pointers.len()).unwrap();
        // SAFETY: as many pointers as counted, and a vector behind `data`.
        let code = unsafe { converse(count, pointers.as_mut_ptr(), &raw mut responses, ptr::from_mut(kept).cast()) };
        // SAFETY: null, or from calloc.
        unsafe { libc::free(responses.cast()) };
        code
    }

    #[test]
    fn miri_texts_are_kept_and_prompts_fail() {
        let mut kept = Kept::new();
        assert_eq!(spoken(&[(3, c"expired"), (4, c"hello")], &mut kept), PAM_SUCCESS);
        assert_eq!(kept, ["expired", "hello"]);
        for style in [1, 2, 7] {
            assert_eq!(spoken(&[(style, c"Password: ")], &mut kept), PAM_CONV_ERR);
        }
        assert_eq!(spoken(&[], &mut kept), PAM_CONV_ERR);
        for _ in 0..40 {
            assert_eq!(spoken(&[(4, &CString::new("x".repeat(600)).unwrap())], &mut kept), PAM_SUCCESS);
        }
        assert_eq!((kept.len(), kept[31].len()), (MOST_MESSAGES, LONGEST));
    }

    #[test]
    fn a_name_with_a_null_byte_is_refused() {
        let question =
            Question { directory: "/x".as_ref(), service: "sshd", user: "a\0b", origin: "h", terminal: "ssh" };
        assert_eq!(account(&question).unwrap_err(), "a name has a null byte");
    }
}
