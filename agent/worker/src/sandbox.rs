//! Becoming the user, for good, and closing the door behind.
//!
//! The order matters: supplementary groups, then gid, then uid, then proof that there is no way back; non-dumpable (the user may not trace or read us: our memory may hold
//! the descriptors of the spool folder's side); no_new_privs, without which neither Landlock nor a filter can be had; Landlock; the filter last, since it forbids the calls that the
//! steps before it need.

use landlock::{
    ABI, Access, AccessFs, CompatLevel, Compatible, PathBeneath, Ruleset, RulesetAttr, RulesetCreatedAttr,
    RulesetStatus,
};
use nix::errno::Errno;
use nix::libc;
use nix::sys::prctl;
use nix::sys::stat::{Mode, umask};
use nix::unistd::{Gid, Uid, getresgid, getresuid, setgroups, setresgid, setresuid, setuid};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch,
};

use crate::note;
use crate::place::Place;
use crate::room;

/// Drops all that the agent may do. An error or a way back ends the program.
pub(crate) fn become_user(uid: u32, gid: u32) -> nix::Result<()> {
    prctl::set_dumpable(false)?;
    let (user, group) = (Uid::from_raw(uid), Gid::from_raw(gid));
    if user.is_root() {
        return Err(Errno::EPERM);
    }
    if Uid::effective().is_root() {
        setgroups(&[group])?;
        setresgid(group, group, group)?;
        setresuid(user, user, user)?;
    }
    let (uids, gids) = (getresuid()?, getresgid()?);
    let dropped = [uids.real, uids.effective, uids.saved].iter().all(|each| *each == user)
        && [gids.real, gids.effective, gids.saved].iter().all(|each| *each == group);
    if !dropped || setuid(Uid::from_raw(0)).is_ok() {
        return Err(Errno::EPERM);
    }
    // A change of uid gives the flag back on some kernels' settings.
    prctl::set_dumpable(false)?;
    prctl::set_no_new_privs()?;
    umask(Mode::S_IRWXG | Mode::S_IRWXO);
    Ok(())
}

/// Landlock and the system-call filter; tells whether both are fully in force, and says so loudly if not.
pub(crate) fn enter(place: &Place) -> nix::Result<bool> {
    let enclosed = match landlock(place) {
        Ok(RulesetStatus::FullyEnforced) => true,
        Ok(status) => {
            note(&format!(
                "WARNING: Landlock is {status:?} on this kernel; the worker runs with less of a sandbox"
            ));
            false
        }
        Err(error) => {
            note(&format!(
                "WARNING: Landlock cannot be used: {error}; the worker runs with less of a sandbox"
            ));
            false
        }
    };
    let filtered = match filter() {
        Ok(()) => true,
        Err(error) => {
            note(&format!("WARNING: no system-call filter: {error}; the worker runs with less of a sandbox"));
            false
        }
    };
    Ok(enclosed && filtered)
}

/// The home, the Maildir's parent, the work folder and the roots of the mbox tree, and nothing else; the spool comes as a descriptor and needs no rule.
fn landlock(place: &Place) -> Result<RulesetStatus, landlock::RulesetError> {
    // V3 has what rename across folders (REFER) and truncation need; later versions add what the filter forbids anyway (devices, network, signals).
    let all = AccessFs::from_all(ABI::V3);
    let mut rules =
        Ruleset::default().set_compatibility(CompatLevel::BestEffort).handle_access(all)?.create()?;
    for folder in place.all() {
        rules = rules.add_rule(PathBeneath::new(folder, all))?;
    }
    Ok(rules.restrict_self()?.ruleset)
}

/// What the engine, its threads and the allocator use. No exec, no sockets, no ptrace, no mounts, no keys, no io_uring, no new namespaces.
const ALLOWED: &[libc::c_long] = &[
    libc::SYS_read,
    libc::SYS_pread64,
    libc::SYS_readv,
    libc::SYS_preadv,
    libc::SYS_write,
    libc::SYS_pwrite64,
    libc::SYS_writev,
    libc::SYS_pwritev,
    libc::SYS_openat,
    libc::SYS_close,
    libc::SYS_fstat,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_fstatfs,
    libc::SYS_lseek,
    libc::SYS_getdents64,
    libc::SYS_mkdirat,
    libc::SYS_unlinkat,
    libc::SYS_linkat,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_utimensat,
    libc::SYS_ftruncate,
    libc::SYS_fallocate,
    libc::SYS_fchmod,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_syncfs,
    libc::SYS_sync_file_range,
    libc::SYS_fadvise64,
    libc::SYS_copy_file_range,
    libc::SYS_fcntl,
    libc::SYS_flock,
    libc::SYS_dup,
    libc::SYS_dup3,
    libc::SYS_readlinkat,
    libc::SYS_faccessat2,
    libc::SYS_recvmsg,
    libc::SYS_sendmsg,
    libc::SYS_poll,
    libc::SYS_ppoll,
    libc::SYS_mmap,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_mprotect,
    libc::SYS_madvise,
    libc::SYS_brk,
    libc::SYS_futex,
    libc::SYS_clone,
    libc::SYS_clone3,
    libc::SYS_set_robust_list,
    libc::SYS_rseq,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_gettimeofday,
    libc::SYS_getrandom,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_tgkill,
    libc::SYS_restart_syscall,
    libc::SYS_exit,
    libc::SYS_exit_group,
];

/// Everything else fails with EPERM, on every thread.
fn filter() -> Result<(), seccompiler::Error> {
    let mut rules: std::collections::BTreeMap<_, _> =
        ALLOWED.iter().map(|call| (*call, Vec::new())).collect();
    // How much of its own share is left, and nothing else that there is about quotas.
    let asking = |kind| {
        let command = u64::from(room::command(kind));
        SeccompCondition::new(1, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, command)
            .and_then(|condition| SeccompRule::new(vec![condition]))
    };
    rules.insert(libc::SYS_quotactl_fd, vec![asking(libc::USRQUOTA)?, asking(libc::GRPQUOTA)?]);
    let architecture: TargetArch = std::env::consts::ARCH.try_into()?;
    let mismatch = SeccompAction::Errno(libc::EPERM as u32);
    let program: BpfProgram =
        SeccompFilter::new(rules, mismatch, SeccompAction::Allow, architecture)?.try_into()?;
    seccompiler::apply_filter_all_threads(&program)
}
