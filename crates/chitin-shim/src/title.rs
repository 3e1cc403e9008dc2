//! What a process is called by whoever lists processes: its name, and its arguments. A shim that was forked and not
//! executed has those of its fork server and takes its own here, so that shims look alike however they were started.

use std::ffi::CStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::sys::prctl;

use crate::proc;
use crate::sys::{self, MemoryMap};

/// The name of every shim.
pub(crate) const SHIM: &CStr = c"chitin-shim";

/// Names this process, for as long as it is not another's copy.
pub(crate) fn name(name: &CStr) {
    // Cosmetic: it cannot fail for a string.
    let _ = prctl::set_name(name);
}

/// The room for arguments in this process and its copies.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Arguments(MemoryMap);

impl Arguments {
    /// Where this process's arguments lie; `None` where the kernel does not tell.
    pub(crate) fn of_process() -> Option<Self> {
        let text = proc::own_stat()?;
        // Fields are numbered as in proc(5); the first one here is 3.
        let field = |number: usize| text.split(' ').nth(number.checked_sub(3)?)?.trim().parse().ok();
        Some(Self(MemoryMap {
            start_code: field(26)?,
            end_code: field(27)?,
            start_stack: field(28)?,
            start_data: field(45)?,
            end_data: field(46)?,
            start_brk: field(47)?,
            arg_start: field(48)?,
            arg_end: field(49)?,
            env_start: field(50)?,
            env_end: field(51)?,
            ..MemoryMap::default()
        }))
    }

    /// From now on they are `chitin-shim SPOOL_FOLDER`.
    pub(crate) fn become_shim(&self, spool_dir: &Path) {
        name(SHIM);
        let mut arguments = SHIM.to_bytes_with_nul().to_vec();
        arguments.extend_from_slice(spool_dir.as_os_str().as_bytes());
        arguments.push(0);
        sys::replace_arguments(&self.0, &arguments);
    }
}
