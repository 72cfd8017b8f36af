//! The system calls by name: what their arguments name, and which of them change something that outlives the process.

use nix::libc::{self, c_long};

/// What the arguments of a call name, for people and for telling one place from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Nothing that is worth telling.
    Plain,
    /// The first argument is a descriptor.
    Fd,
    /// The first argument is a path.
    Path,
    /// A descriptor of a folder and a path in it.
    At,
    /// Two paths.
    Paths,
    /// Twice a descriptor of a folder and a path in it.
    Ats,
    /// A descriptor and a socket's address.
    Address,
}

/// Whether a call changes what others see: files, folders, what is durable, locks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Never.
    No,
    /// Always.
    Yes,
    /// If the flags in this argument create or truncate.
    IfCreates(usize),
    /// If the first argument is a regular file.
    IfFile,
    /// If the command in the second argument is about locks or leases.
    IfLock,
}

/// A call.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    /// Its number.
    pub number: c_long,
    /// Its name.
    pub name: &'static str,
    /// What its arguments name.
    pub shape: Shape,
    /// What it changes.
    pub change: Change,
}

macro_rules! calls {
    ($($name:ident $constant:ident $shape:ident $change:expr;)*) => {
        &[$(Call {
            number: libc::$constant,
            name: stringify!($name),
            shape: Shape::$shape,
            change: $change,
        }),*]
    };
}

use Change::{IfCreates, IfFile, IfLock, No, Yes};

/// The calls that the programs under test make; others are told by their number.
const CALLS: &[Call] = calls! {
    read SYS_read Fd No;
    write SYS_write Fd IfFile;
    open SYS_open Path IfCreates(1);
    close SYS_close Fd No;
    stat SYS_stat Path No;
    fstat SYS_fstat Fd No;
    lstat SYS_lstat Path No;
    poll SYS_poll Plain No;
    lseek SYS_lseek Fd No;
    mmap SYS_mmap Plain No;
    mprotect SYS_mprotect Plain No;
    munmap SYS_munmap Plain No;
    brk SYS_brk Plain No;
    rt_sigaction SYS_rt_sigaction Plain No;
    rt_sigprocmask SYS_rt_sigprocmask Plain No;
    rt_sigreturn SYS_rt_sigreturn Plain No;
    ioctl SYS_ioctl Fd No;
    pread64 SYS_pread64 Fd No;
    pwrite64 SYS_pwrite64 Fd IfFile;
    readv SYS_readv Fd No;
    writev SYS_writev Fd IfFile;
    access SYS_access Path No;
    pipe SYS_pipe Plain No;
    select SYS_select Plain No;
    sched_yield SYS_sched_yield Plain No;
    mremap SYS_mremap Plain No;
    madvise SYS_madvise Plain No;
    dup SYS_dup Fd No;
    dup2 SYS_dup2 Fd No;
    dup3 SYS_dup3 Fd No;
    nanosleep SYS_nanosleep Plain No;
    clock_nanosleep SYS_clock_nanosleep Plain No;
    alarm SYS_alarm Plain No;
    setitimer SYS_setitimer Plain No;
    getpid SYS_getpid Plain No;
    socket SYS_socket Plain No;
    connect SYS_connect Address No;
    accept SYS_accept Fd No;
    accept4 SYS_accept4 Fd No;
    sendto SYS_sendto Fd No;
    recvfrom SYS_recvfrom Fd No;
    sendmsg SYS_sendmsg Fd No;
    recvmsg SYS_recvmsg Fd No;
    shutdown SYS_shutdown Fd No;
    bind SYS_bind Address Yes;
    listen SYS_listen Fd No;
    getsockname SYS_getsockname Fd No;
    getpeername SYS_getpeername Fd No;
    socketpair SYS_socketpair Plain No;
    setsockopt SYS_setsockopt Fd No;
    getsockopt SYS_getsockopt Fd No;
    clone SYS_clone Plain No;
    clone3 SYS_clone3 Plain No;
    fork SYS_fork Plain No;
    vfork SYS_vfork Plain No;
    execve SYS_execve Path No;
    exit SYS_exit Plain No;
    exit_group SYS_exit_group Plain No;
    wait4 SYS_wait4 Plain No;
    waitid SYS_waitid Plain No;
    kill SYS_kill Plain No;
    tgkill SYS_tgkill Plain No;
    uname SYS_uname Plain No;
    fcntl SYS_fcntl Fd IfLock;
    flock SYS_flock Fd Yes;
    fsync SYS_fsync Fd Yes;
    fdatasync SYS_fdatasync Fd Yes;
    syncfs SYS_syncfs Fd Yes;
    sync_file_range SYS_sync_file_range Fd Yes;
    truncate SYS_truncate Path Yes;
    ftruncate SYS_ftruncate Fd Yes;
    fallocate SYS_fallocate Fd Yes;
    fadvise64 SYS_fadvise64 Fd No;
    getdents64 SYS_getdents64 Fd No;
    getcwd SYS_getcwd Plain No;
    chdir SYS_chdir Path No;
    fchdir SYS_fchdir Fd No;
    rename SYS_rename Paths Yes;
    renameat SYS_renameat Ats Yes;
    renameat2 SYS_renameat2 Ats Yes;
    mkdir SYS_mkdir Path Yes;
    mkdirat SYS_mkdirat At Yes;
    rmdir SYS_rmdir Path Yes;
    creat SYS_creat Path Yes;
    link SYS_link Paths Yes;
    linkat SYS_linkat Ats Yes;
    unlink SYS_unlink Path Yes;
    unlinkat SYS_unlinkat At Yes;
    symlink SYS_symlink Paths Yes;
    readlink SYS_readlink Path No;
    readlinkat SYS_readlinkat At No;
    chmod SYS_chmod Path Yes;
    fchmod SYS_fchmod Fd Yes;
    fchmodat SYS_fchmodat At Yes;
    chown SYS_chown Path Yes;
    fchown SYS_fchown Fd Yes;
    lchown SYS_lchown Path Yes;
    fchownat SYS_fchownat At Yes;
    utimensat SYS_utimensat At Yes;
    umask SYS_umask Plain No;
    getrlimit SYS_getrlimit Plain No;
    setrlimit SYS_setrlimit Plain No;
    prlimit64 SYS_prlimit64 Plain No;
    getuid SYS_getuid Plain No;
    getgid SYS_getgid Plain No;
    geteuid SYS_geteuid Plain No;
    getegid SYS_getegid Plain No;
    getppid SYS_getppid Plain No;
    getpgrp SYS_getpgrp Plain No;
    setpgid SYS_setpgid Plain No;
    setsid SYS_setsid Plain No;
    setuid SYS_setuid Plain No;
    setgid SYS_setgid Plain No;
    setgroups SYS_setgroups Plain No;
    setresuid SYS_setresuid Plain No;
    setresgid SYS_setresgid Plain No;
    getresuid SYS_getresuid Plain No;
    getresgid SYS_getresgid Plain No;
    setreuid SYS_setreuid Plain No;
    setregid SYS_setregid Plain No;
    getgroups SYS_getgroups Plain No;
    capget SYS_capget Plain No;
    capset SYS_capset Plain No;
    sigaltstack SYS_sigaltstack Plain No;
    statfs SYS_statfs Path No;
    fstatfs SYS_fstatfs Fd No;
    prctl SYS_prctl Plain No;
    arch_prctl SYS_arch_prctl Plain No;
    gettid SYS_gettid Plain No;
    futex SYS_futex Plain No;
    sched_getaffinity SYS_sched_getaffinity Plain No;
    set_tid_address SYS_set_tid_address Plain No;
    set_robust_list SYS_set_robust_list Plain No;
    rseq SYS_rseq Plain No;
    restart_syscall SYS_restart_syscall Plain No;
    clock_gettime SYS_clock_gettime Plain No;
    clock_getres SYS_clock_getres Plain No;
    gettimeofday SYS_gettimeofday Plain No;
    timer_create SYS_timer_create Plain No;
    timer_settime SYS_timer_settime Plain No;
    epoll_create1 SYS_epoll_create1 Plain No;
    epoll_ctl SYS_epoll_ctl Fd No;
    epoll_wait SYS_epoll_wait Fd No;
    epoll_pwait SYS_epoll_pwait Fd No;
    eventfd2 SYS_eventfd2 Plain No;
    inotify_init1 SYS_inotify_init1 Plain No;
    inotify_add_watch SYS_inotify_add_watch At No;
    openat SYS_openat At IfCreates(2);
    newfstatat SYS_newfstatat At No;
    faccessat SYS_faccessat At No;
    faccessat2 SYS_faccessat2 At No;
    statx SYS_statx At No;
    pselect6 SYS_pselect6 Plain No;
    ppoll SYS_ppoll Plain No;
    splice SYS_splice Fd No;
    sendfile SYS_sendfile Fd IfFile;
    copy_file_range SYS_copy_file_range Plain Yes;
    pipe2 SYS_pipe2 Plain No;
    getrandom SYS_getrandom Plain No;
    seccomp SYS_seccomp Plain No;
    landlock_create_ruleset SYS_landlock_create_ruleset Plain No;
    landlock_add_rule SYS_landlock_add_rule Plain No;
    landlock_restrict_self SYS_landlock_restrict_self Plain No;
    pidfd_open SYS_pidfd_open Plain No;
    pidfd_send_signal SYS_pidfd_send_signal Plain No;
    close_range SYS_close_range Plain No;
    fsetxattr SYS_fsetxattr Fd Yes;
    setxattr SYS_setxattr Path Yes;
};

/// What a call can tell of its disk: full (ENOSPC), the user's share of it used up (EDQUOT), broken (EIO), read-only (EROFS). Empty: nothing, or it is no call on a disk.
///
/// What is written late can fail late: so a sync has the errors of a write. On some file systems removing needs room, too; on those that are asked of
/// here it does not, and an undo may count on that.
#[must_use]
pub fn disk_errors(name: &str) -> &'static [libc::c_int] {
    match name {
        "write" | "pwrite64" | "writev" | "sendfile" | "copy_file_range" => {
            &[libc::ENOSPC, libc::EDQUOT, libc::EIO]
        }
        "open" | "openat" | "creat" | "mkdir" | "mkdirat" | "link" | "linkat" | "symlink" | "setxattr"
        | "fsetxattr" | "rename" | "renameat" | "renameat2" => {
            &[libc::ENOSPC, libc::EDQUOT, libc::EIO, libc::EROFS]
        }
        "fsync" | "fdatasync" | "syncfs" | "sync_file_range" => &[libc::EIO, libc::ENOSPC, libc::EDQUOT],
        "fallocate" => &[libc::ENOSPC, libc::EDQUOT, libc::EIO],
        "ftruncate" | "truncate" | "read" | "pread64" | "readv" | "getdents64" => &[libc::EIO],
        "chown" | "fchown" | "fchownat" => &[libc::EDQUOT, libc::EIO, libc::EROFS],
        "unlink" | "unlinkat" | "rmdir" | "chmod" | "fchmod" | "fchmodat" | "utimensat" => {
            &[libc::EIO, libc::EROFS]
        }
        _ => &[],
    }
}

/// A call by its number, if it is one of those known.
#[must_use]
pub fn by_number(number: u64) -> Option<&'static Call> {
    CALLS.iter().find(|call| u64::try_from(call.number) == Ok(number))
}

/// Whether a call reads what stands in a file or a folder.
#[must_use]
pub fn reads(name: &str) -> bool {
    matches!(name, "read" | "pread64" | "readv" | "getdents64")
}

/// Whether the flags of an `open` make or empty a file.
#[must_use]
pub fn creates(flags: u64) -> bool {
    let tmpfile = (libc::O_TMPFILE & !libc::O_DIRECTORY) as u64;
    flags & (libc::O_CREAT as u64 | libc::O_TRUNC as u64 | tmpfile) != 0
}

/// Whether a command of `fcntl` takes or drops a lock or a lease.
#[must_use]
pub fn locks(command: u64) -> bool {
    const LOCKING: [libc::c_int; 5] =
        [libc::F_SETLK, libc::F_SETLKW, libc::F_OFD_SETLK, libc::F_OFD_SETLKW, libc::F_SETLEASE];
    LOCKING.iter().any(|known| u64::try_from(*known) == Ok(command))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_call_is_listed_once() {
        for (place, call) in CALLS.iter().enumerate() {
            assert!(CALLS[place + 1..].iter().all(|other| other.number != call.number), "{}", call.name);
        }
    }

    #[test]
    fn an_open_changes_something_if_it_creates() {
        assert!(creates((libc::O_WRONLY | libc::O_CREAT) as u64));
        assert!(creates((libc::O_RDWR | libc::O_TMPFILE) as u64));
        assert!(!creates((libc::O_RDONLY | libc::O_DIRECTORY) as u64));
        assert!(locks(libc::F_SETLEASE as u64));
        assert!(!locks(libc::F_GETFL as u64));
    }
}
