//! The processes of a machine, as they are inside.

use std::fs;

use super::error::{Doing, LabError, Result};
use super::machine::Machine;

impl Machine {
    /// The numbers, as inside, of all processes with this name (as in /proc/PID/comm, 15 bytes at most).
    ///
    /// # Errors
    /// If the machine is gone.
    pub fn processes(&self, name: &str) -> Result<Vec<u32>> {
        self.inside(|| {
            let numbers = fs::read_dir("/proc").into_iter().flatten().flatten();
            numbers
                .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
                .filter(|pid: &u32| {
                    fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.trim_end() == name)
                })
                .collect()
        })
    }

    /// The paths of all files that process `pid`, as inside, has open.
    ///
    /// # Errors
    /// If it is gone.
    pub fn open_files(&self, pid: u32) -> Result<Vec<String>> {
        self.inside(|| {
            let links = fs::read_dir(format!("/proc/{pid}/fd"))?.flatten();
            // A descriptor may be closed between the listing and the look.
            let paths = links.filter_map(|link| fs::read_link(link.path()).ok());
            Ok::<_, std::io::Error>(paths.map(|path| path.to_string_lossy().into_owned()).collect())
        })?
        .doing(|| format!("list the open files of {pid}"))
    }

    /// Sends a signal to process `pid`, as inside. By a program: a thread that has entered a process namespace still counts
    /// as a process of its old one, and its `kill` would hit a stranger on the host.
    ///
    /// # Errors
    /// [`LabError::Command`] if there is no such process.
    pub fn signal(&self, pid: u32, signal: &str) -> Result<(), LabError> {
        self.run("kill", ["-s", signal, &pid.to_string()])?;
        Ok(())
    }
}
