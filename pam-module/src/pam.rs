//! What libpam gives to one call of the module: items, arguments, the log.

#![allow(
    unsafe_code,
    reason = "libpam is C; pam-sys's safe wrappers are meant for applications, and unsound here"
)]

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::marker::PhantomData;
use std::ptr;

use pam_sys::{PamHandle, PamItemType, PamMessageStyle, PamReturnCode, raw};

// Of libpam, as `raw` is (security/pam_ext.h); pam-sys does not declare it.
unsafe extern "C" {
    fn pam_syslog(handle: *const PamHandle, priority: c_int, format: *const c_char, ...);
    fn pam_prompt(
        handle: *mut PamHandle,
        style: c_int,
        response: *mut *mut c_char,
        format: *const c_char,
        ...
    ) -> c_int;
}

/// How much a line in the log matters (syslog.h).
#[derive(Clone, Copy, Debug)]
#[repr(i32)]
pub(crate) enum Level {
    Warning = 4,
    Debug = 7,
}

/// One call of the module by libpam.
pub(crate) struct Call<'a> {
    handle: *mut PamHandle,
    args: &'a [*const c_char],
    /// Items belong to the handle, and are gone with the next call that sets them.
    lives: PhantomData<&'a PamHandle>,
}

impl<'a> Call<'a> {
    /// # Safety
    /// `handle` is live, and `argv` points to `argc` C strings, for as long as this is used: what libpam promises for the
    /// duration of a call. Nothing else uses the handle meanwhile.
    pub unsafe fn new(handle: *mut PamHandle, argc: c_int, argv: *const *const c_char) -> Call<'a> {
        let count = usize::try_from(argc).unwrap_or(0);
        let args = if argv.is_null() || count == 0 {
            &[]
        } else {
            // SAFETY: not null, and the caller's promise.
            unsafe { std::slice::from_raw_parts(argv, count) }
        };
        Call { handle, args, lives: PhantomData }
    }

    /// The arguments behind the module's name in the stack.
    pub fn args(&self) -> impl Iterator<Item = &'a [u8]> {
        self.args.iter().filter(|arg| !arg.is_null()).map(|&arg| {
            // SAFETY: not null, and a C string that lives as long as the call, by the promise in `new`.
            unsafe { CStr::from_ptr(arg) }.to_bytes()
        })
    }

    /// Who logs in, as far as is known. Not by `pam_get_user`: that asks the user when nobody has said, and a module
    /// that only listens must not be the one who puts a question on the screen.
    pub fn user(&self) -> Option<&[u8]> {
        self.item(PamItemType::USER)
    }

    /// The name under which the application called PAM.
    pub fn service(&self) -> Option<&[u8]> {
        self.item(PamItemType::SERVICE)
    }

    fn item(&self, kind: PamItemType) -> Option<&[u8]> {
        let mut item: *const c_void = ptr::null();
        // SAFETY: the handle is live (`new`), and `item` is ours to be written to.
        let code = unsafe { raw::pam_get_item(self.handle, kind as c_int, &raw mut item) };
        if code != PamReturnCode::SUCCESS as c_int || item.is_null() {
            return None;
        }
        // SAFETY: user and service are C strings that belong to the handle until they are set anew, which nobody does during
        // this call; the result is bound to `self`.
        Some(unsafe { CStr::from_ptr(item.cast()) }.to_bytes())
    }

    /// Shows the user a line, by the application's own conversation; one that has none, or cannot show it, does not. Nothing is asked.
    pub fn tell_user(&self, text: &str) {
        let Ok(text) = CString::new(text) else { return };
        let style = PamMessageStyle::TEXT_INFO as c_int;
        // SAFETY: the handle is live, a null response is allowed for what is no question, the format takes one C string, and there is one.
        unsafe { pam_prompt(self.handle, style, ptr::null_mut(), c"%s".as_ptr(), text.as_ptr()) };
    }

    /// A line in the system's log, headed by module, service and phase.
    ///
    /// By libpam's own function: it calls `syslog` with the facility of authentication and leaves alone what the
    /// application may have set up by `openlog`.
    pub fn log(&self, level: Level, text: &str) {
        // A NUL would end the line early for C; nothing that is said here holds one, and if it did, it is not worth a line.
        let Ok(text) = CString::new(text) else { return };
        // SAFETY: the handle is live, the format takes one C string, and there is one.
        unsafe { pam_syslog(self.handle, level as c_int, c"%s".as_ptr(), text.as_ptr()) };
    }
}
