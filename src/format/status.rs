//! The states of goroutines and processors as status events carry them.

/// The state of a goroutine. The tracer makes one goroutine of each thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum GoStatus {
    /// Could run, but has no processor.
    Runnable = 1,
    /// Runs on a processor.
    Running = 2,
    /// In a system call.
    Syscall = 3,
    /// Waits for another goroutine, a timer or the network.
    Waiting = 4,
}

impl GoStatus {
    /// The status with this number on the wire.
    #[must_use]
    pub const fn from_wire(v: u64) -> Option<GoStatus> {
        match v {
            1 => Some(GoStatus::Runnable),
            2 => Some(GoStatus::Running),
            3 => Some(GoStatus::Syscall),
            4 => Some(GoStatus::Waiting),
            _ => None,
        }
    }
}

/// The state of a processor. The tracer gives each thread a processor of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum ProcStatus {
    /// Runs a goroutine, or looks for one.
    Running = 1,
    /// Belongs to no thread.
    Idle = 2,
    /// Its goroutine is in a system call.
    Syscall = 3,
    /// In a system call whose goroutine has already given it up (Go 1.22 and later; read, never written by us).
    SyscallAbandoned = 4,
}

impl ProcStatus {
    /// The status with this number on the wire.
    #[must_use]
    pub const fn from_wire(v: u64) -> Option<ProcStatus> {
        match v {
            1 => Some(ProcStatus::Running),
            2 => Some(ProcStatus::Idle),
            3 => Some(ProcStatus::Syscall),
            4 => Some(ProcStatus::SyscallAbandoned),
            _ => None,
        }
    }
}
