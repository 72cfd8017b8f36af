//! Looking into a stopped program: what its arguments point at, what its descriptors lead to.

use std::fs;
use std::io::IoSliceMut;

use nix::libc;
use nix::sys::ptrace;
use nix::sys::uio::{RemoteIoVec, process_vm_readv};
use nix::unistd::Pid;

use super::calls::{self, Call, Change, Shape};

/// A system call that a thread is about to make.
#[derive(Clone, Debug)]
pub struct Entry {
    pid: Pid,
    number: u64,
    args: [u64; 6],
}

impl Entry {
    /// The call at whose entry a thread stands; `None` if it stands elsewhere (at the end of one).
    pub fn of(pid: Pid) -> nix::Result<Option<Self>> {
        let info = ptrace::syscall_info(pid)?;
        if info.op != libc::PTRACE_SYSCALL_INFO_ENTRY {
            return Ok(None);
        }
        // SAFETY: the kernel has filled the member that `op` names.
        #[expect(unsafe_code, reason = "the kernel's answer is a union")]
        let entry = unsafe { info.u.entry };
        Ok(Some(Self { pid, number: entry.nr, args: entry.args }))
    }

    fn call(&self) -> Option<&'static Call> {
        calls::by_number(self.number)
    }

    /// The thread that makes it.
    pub fn thread(&self) -> Pid {
        self.pid
    }

    /// Its name.
    pub fn name(&self) -> String {
        self.call().map_or_else(|| format!("call-{}", self.number), |call| call.name.to_owned())
    }

    /// Whether it changes a file, a folder, or a lock.
    pub fn changes(&self) -> bool {
        match self.call().map(|call| call.change) {
            None | Some(Change::No) => false,
            Some(Change::Yes) => true,
            Some(Change::IfCreates(flags)) => calls::creates(self.args[flags]),
            Some(Change::IfLock) => calls::locks(self.args[1]),
            Some(Change::IfFile) => {
                let file = format!("/proc/{}/fd/{}", self.pid, self.descriptor(0));
                fs::metadata(file).is_ok_and(|file| file.is_file())
            }
        }
    }

    /// Whether it reads from a file or a folder.
    pub fn reads(&self) -> bool {
        let on_disk = |file: fs::Metadata| file.is_file() || file.is_dir();
        let link = format!("/proc/{}/fd/{}", self.pid, self.descriptor(0));
        calls::reads(&self.name()) && fs::metadata(link).is_ok_and(on_disk)
    }

    /// Has the kernel carry out nothing in its place: the number becomes that of no call. To be followed by [`end_with`].
    pub fn suppress(&self) -> nix::Result<()> {
        let mut registers = ptrace::getregs(self.pid)?;
        registers.orig_rax = u64::MAX;
        ptrace::setregs(self.pid, registers)
    }

    /// What its arguments name.
    pub fn description(&self) -> String {
        match self.call().map_or(Shape::Plain, |call| call.shape) {
            Shape::Plain => String::new(),
            Shape::Fd => self.file(0),
            Shape::Path => self.text(0),
            Shape::At => self.at(0, 1),
            Shape::Paths => format!("{} -> {}", self.text(0), self.text(1)),
            Shape::Ats => format!("{} -> {}", self.at(0, 1), self.at(2, 3)),
            Shape::Address => self.address(),
        }
    }

    /// Descriptors are 32 bits wide, whatever stands in the rest of the register.
    fn descriptor(&self, arg: usize) -> i32 {
        self.args[arg] as u32 as i32
    }

    fn file(&self, arg: usize) -> String {
        let link = match self.descriptor(arg) {
            libc::AT_FDCWD => format!("/proc/{}/cwd", self.pid),
            fd => format!("/proc/{}/fd/{fd}", self.pid),
        };
        fs::read_link(link).map_or_else(|_| "?".to_owned(), |path| path.to_string_lossy().into_owned())
    }

    fn at(&self, folder: usize, path: usize) -> String {
        let text = if self.args[path] == 0 { String::new() } else { self.text(path) };
        if text.starts_with('/') {
            text
        } else if text.is_empty() {
            self.file(folder)
        } else {
            format!("{}/{text}", self.file(folder))
        }
    }

    fn text(&self, arg: usize) -> String {
        let bytes = self.memory(self.args[arg], 4096);
        let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
        String::from_utf8_lossy(&bytes[..end]).escape_debug().to_string()
    }

    /// The path of a local socket's address, behind the two bytes of its family.
    fn address(&self) -> String {
        let bytes = self.memory(self.args[1], usize::try_from(self.args[2]).unwrap_or(0).min(110));
        let path = bytes.get(2..).unwrap_or_default();
        let local = bytes.first() == Some(&u8::try_from(libc::AF_UNIX).unwrap_or(0));
        let shown: String =
            path.iter().take_while(|byte| byte.is_ascii_graphic()).map(|byte| char::from(*byte)).collect();
        if local { shown } else { "network".to_owned() }
    }

    /// Up to `most` bytes at `address`, read page by page, since the next page may not be there.
    fn memory(&self, address: u64, most: usize) -> Vec<u8> {
        const PAGE: usize = 4096;
        let mut found = Vec::new();
        let mut from = usize::try_from(address).unwrap_or(0);
        while found.len() < most {
            let length = (PAGE - from % PAGE).min(most - found.len());
            let mut piece = vec![0; length];
            let remote = RemoteIoVec { base: from, len: length };
            match process_vm_readv(self.pid, &mut [IoSliceMut::new(&mut piece)], &[remote]) {
                Ok(read) if read > 0 => found.extend_from_slice(&piece[..read]),
                _ => break,
            }
            if found.contains(&0) {
                break;
            }
            from += length;
        }
        found
    }
}

/// Gives a thread at the end of a call this error for its answer.
pub fn end_with(pid: Pid, errno: i32) -> nix::Result<()> {
    let mut registers = ptrace::getregs(pid)?;
    registers.rax = i64::from(-errno).cast_unsigned();
    ptrace::setregs(pid, registers)
}

/// File name of the program that a thread runs.
pub fn program(pid: Pid) -> String {
    let path = fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
    path.file_name().map_or_else(|| "?".to_owned(), |name| name.to_string_lossy().into_owned())
}

/// The process that a thread belongs to.
pub fn process(thread: Pid) -> Pid {
    let status = fs::read_to_string(format!("/proc/{thread}/status")).unwrap_or_default();
    let number = status.lines().find_map(|line| line.strip_prefix("Tgid:")?.trim().parse().ok());
    number.map_or(thread, Pid::from_raw)
}
