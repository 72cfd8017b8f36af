//! The six functions of a PAM module, and the wall behind them.

#![allow(unsafe_code, reason = "libpam calls these by name, and hands over raw pointers")]

use std::ffi::{c_char, c_int};
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;

use mailready_protocol::Phase;
use pam_sys::{PamHandle, PamReturnCode};

use crate::announcement::announce;
use crate::pam::Call;

/// The stack goes on as if this module were not in it.
const IGNORE: c_int = PamReturnCode::IGNORE as c_int;

/// The user may come in.
///
/// # Safety
/// To be called as libpam does: a live handle, `argc` C strings at `argv`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pam_sm_acct_mgmt(
    handle: *mut PamHandle,
    flags: c_int,
    argc: c_int,
    argv: *const *const c_char,
) -> c_int {
    // SAFETY: the caller's promise, handed on.
    behind_the_wall(|| announce(&unsafe { Call::new(handle, argc, argv) }, Phase::Account, may_speak(flags)))
}

/// The user is in.
///
/// # Safety
/// To be called as libpam does: a live handle, `argc` C strings at `argv`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pam_sm_open_session(
    handle: *mut PamHandle,
    flags: c_int,
    argc: c_int,
    argv: *const *const c_char,
) -> c_int {
    // SAFETY: the caller's promise, handed on.
    behind_the_wall(|| announce(&unsafe { Call::new(handle, argc, argv) }, Phase::Session, may_speak(flags)))
}

/// Nothing to tell: the agent watches sessions by their processes.
#[unsafe(no_mangle)]
pub extern "C" fn pam_sm_close_session(
    _handle: *mut PamHandle,
    _flags: c_int,
    _argc: c_int,
    _argv: *const *const c_char,
) -> c_int {
    IGNORE
}

/// Nothing to say here; there so that a stack that names the module in `auth` does not break.
#[unsafe(no_mangle)]
pub extern "C" fn pam_sm_authenticate(
    _handle: *mut PamHandle,
    _flags: c_int,
    _argc: c_int,
    _argv: *const *const c_char,
) -> c_int {
    IGNORE
}

/// As [`pam_sm_authenticate`].
#[unsafe(no_mangle)]
pub extern "C" fn pam_sm_setcred(
    _handle: *mut PamHandle,
    _flags: c_int,
    _argc: c_int,
    _argv: *const *const c_char,
) -> c_int {
    IGNORE
}

/// As [`pam_sm_authenticate`], for `password`.
#[unsafe(no_mangle)]
pub extern "C" fn pam_sm_chauthtok(
    _handle: *mut PamHandle,
    _flags: c_int,
    _argc: c_int,
    _argv: *const *const c_char,
) -> c_int {
    IGNORE
}

/// Whether the application lets modules show something (`PAM_SILENT`, security/_pam_types.h).
fn may_speak(flags: c_int) -> bool {
    const PAM_SILENT: c_int = 0x8000;
    flags & PAM_SILENT == 0
}

/// Runs the body; a panic ends here, silently: the host's standard error may be a network connection.
///
/// The hook belongs to the standard library linked into this module, so it silences no one else's panics, and it is a
/// function without captures: nothing is left allocated for it when the module is unloaded.
fn behind_the_wall(body: impl FnOnce()) -> c_int {
    static SILENCE: Once = Once::new();
    let outcome = panic::catch_unwind(AssertUnwindSafe(|| {
        SILENCE.call_once(|| panic::set_hook(Box::new(|_| {})));
        body();
    }));
    if let Err(payload) = outcome {
        // Dropping what was thrown may run code that throws again.
        std::mem::forget(payload);
    }
    IGNORE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_ends_at_the_wall() {
        assert_eq!(behind_the_wall(|| panic!("nobody sees this")), IGNORE);
        assert_eq!(behind_the_wall(|| std::panic::panic_any(String::from("nor this"))), IGNORE);
        assert_eq!(behind_the_wall(|| {}), IGNORE);
    }
}
