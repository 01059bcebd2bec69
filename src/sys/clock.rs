//! The trace clock: nanoseconds of `CLOCK_MONOTONIC`, read from the processor's time-stamp counter where it is invariant.
//!
//! A `clock_gettime` costs about 30 ns, the counter 10, and the counter dominates the cost of an event already. A
//! [`Mapping`] turns counts into nanoseconds. There is one for each generation: the closer measures both clocks, and gives the
//! next generation a mapping that continues the old one without a step and bends it towards the truth.

use core::sync::atomic::{AtomicU8, Ordering};

/// Fixed-point fraction bits of [`Mapping::mul`].
const SHIFT: u32 = 32;
/// By how much of its frequency a mapping may be bent in order to catch up, as a fraction: 1/2048, about 500 ppm.
const MAX_BEND: f64 = 1.0 / 2048.0;
/// How long the first calibration takes. The error of one reading is below 50 ns, so this gives better than 50 ppm, and each
/// generation improves it.
const FIRST_CALIBRATION_NS: u64 = 1_000_000;

/// A straight line from counter ticks to nanoseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mapping {
    ticks: u64,
    ns: u64,
    /// Nanoseconds per tick, with [`SHIFT`] fraction bits.
    mul: u64,
}

impl Mapping {
    pub(crate) const ZERO: Mapping = Mapping { ticks: 0, ns: 0, mul: 0 };

    /// The time of `ticks` in nanoseconds. Earlier than the mapping's own begin counts as its begin.
    #[inline(always)]
    pub(crate) fn ns(&self, ticks: u64) -> u64 {
        let d = ticks.saturating_sub(self.ticks);
        self.ns + ((u128::from(d) * u128::from(self.mul)) >> SHIFT) as u64
    }
}

/// Finds the counter's frequency and keeps finding it better.
#[derive(Debug)]
pub(crate) struct Calibration {
    first: (u64, u64),
    /// Nanoseconds per tick.
    slope: f64,
}

impl Calibration {
    /// Takes about a millisecond where the counter is used.
    pub(crate) fn new() -> Calibration {
        let first = pair();
        let mut c = Calibration { first, slope: 1.0 };
        if uses_counter() {
            loop {
                let now = pair();
                if now.1 - first.1 >= FIRST_CALIBRATION_NS {
                    c.measure(now);
                    break;
                }
                core::hint::spin_loop();
            }
        }
        c
    }

    fn measure(&mut self, now: (u64, u64)) {
        let (ticks, ns) = (now.0.wrapping_sub(self.first.0), now.1.wrapping_sub(self.first.1));
        if uses_counter() && ticks > 0 {
            self.slope = ns as f64 / ticks as f64;
        }
    }

    /// A mapping that is right now.
    pub(crate) fn mapping(&mut self) -> Mapping {
        let now = pair();
        if now.1.wrapping_sub(self.first.1) > FIRST_CALIBRATION_NS {
            self.measure(now);
        }
        Mapping { ticks: now.0, ns: now.1, mul: fixed(self.slope) }
    }

    /// The mapping that continues `old` from now on, without a step.
    pub(crate) fn next(&mut self, old: &Mapping) -> Mapping {
        let now = pair();
        self.measure(now);
        let ns = old.ns(now.0);
        // Catch up with the error within about a second.
        let bend = ((now.1 as f64 - ns as f64) / 1e9).clamp(-MAX_BEND, MAX_BEND);
        Mapping { ticks: now.0, ns, mul: fixed(self.slope * (1.0 + bend)) }
    }
}

fn fixed(slope: f64) -> u64 {
    (slope * (1u64 << SHIFT) as f64) as u64
}

/// One moment on both clocks: the tightest of a few tries.
fn pair() -> (u64, u64) {
    let mut best = (u64::MAX, 0, 0);
    for _ in 0..5 {
        let a = ticks();
        let ns = monotonic_ns();
        let b = ticks();
        let width = b.wrapping_sub(a);
        if width < best.0 {
            best = (width, a.wrapping_add(width / 2), ns);
        }
    }
    (best.1, best.2)
}

const UNKNOWN: u8 = 0;
const COUNTER: u8 = 1;
const SYSTEM: u8 = 2;
/// Which clock [`ticks`] reads. Decided at the first use, by [`prepare`] or whoever comes first; both find the same.
static SOURCE: AtomicU8 = AtomicU8::new(UNKNOWN);

/// Decides which clock to use. Reads a small file the first time, so it is not for hooks: call it before tracing starts.
pub(crate) fn prepare() {
    if SOURCE.load(Ordering::Relaxed) == UNKNOWN {
        let source = if imp::counter_is_invariant() { COUNTER } else { SYSTEM };
        SOURCE.store(source, Ordering::Relaxed);
    }
}

/// Whether [`ticks`] reads the processor's counter; otherwise it reads the system's clock.
pub(crate) fn uses_counter() -> bool {
    SOURCE.load(Ordering::Relaxed) == COUNTER
}

/// The current count, to be turned into nanoseconds by a [`Mapping`].
#[inline(always)]
pub(crate) fn ticks() -> u64 {
    if uses_counter() { imp::counter() } else { monotonic_ns() }
}

/// `CLOCK_MONOTONIC` in nanoseconds.
pub(crate) fn monotonic_ns() -> u64 {
    clock_ns(libc::CLOCK_MONOTONIC)
}

/// Nanoseconds since 1970.
pub(crate) fn realtime_ns() -> u64 {
    clock_ns(libc::CLOCK_REALTIME)
}

fn clock_ns(id: libc::clockid_t) -> u64 {
    let mut t = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `t` is a valid timespec to write to. The clocks asked for exist everywhere, so the call cannot fail (and so
    // leaves errno alone).
    unsafe { libc::clock_gettime(id, &mut t) };
    t.tv_sec as u64 * 1_000_000_000 + t.tv_nsec as u64
}

#[cfg(all(target_arch = "x86_64", target_os = "linux", not(miri)))]
mod imp {
    use core::arch::x86_64::{__cpuid, _rdtsc};

    /// The processor says that its counter runs at one rate in all power states (CPUID 8000_0007h, EDX bit 8), and the kernel,
    /// which checks that all processors agree, uses it as its clock.
    pub(super) fn counter_is_invariant() -> bool {
        let invariant = __cpuid(0x8000_0000).eax >= 0x8000_0007 && __cpuid(0x8000_0007).edx & (1 << 8) != 0;
        invariant && kernel_uses_tsc()
    }

    fn kernel_uses_tsc() -> bool {
        use crate::sys::raw::syscall6;
        let path = c"/sys/devices/system/clocksource/clocksource0/current_clocksource";
        let mut name = [0u8; 16];
        // SAFETY: the path is a C string that outlives the call.
        let fd = unsafe {
            syscall6(
                libc::SYS_openat,
                [libc::AT_FDCWD as usize, path.as_ptr().expose_provenance(), libc::O_CLOEXEC as usize, 0, 0, 0],
            )
        };
        if fd < 0 {
            return false;
        }
        let at = name.as_mut_ptr().expose_provenance();
        // SAFETY: `name` is valid for writes of its length.
        let n = unsafe { syscall6(libc::SYS_read, [fd as usize, at, name.len(), 0, 0, 0]) };
        // SAFETY: the descriptor is ours.
        unsafe { syscall6(libc::SYS_close, [fd as usize, 0, 0, 0, 0, 0]) };
        n >= 3 && name.starts_with(b"tsc")
    }

    #[inline(always)]
    pub(super) fn counter() -> u64 {
        // SAFETY: every x86-64 processor has the instruction, and Linux lets user code use it unless a program forbids it
        // to itself (PR_SET_TSC).
        unsafe { _rdtsc() }
    }
}

#[cfg(all(target_arch = "aarch64", target_os = "linux", not(miri)))]
mod imp {
    /// The generic timer's virtual count runs at one fixed rate on every core by definition of the architecture.
    pub(super) fn counter_is_invariant() -> bool {
        true
    }

    #[inline(always)]
    pub(super) fn counter() -> u64 {
        let v: u64;
        // SAFETY: Linux lets user code read the virtual counter.
        unsafe { core::arch::asm!("mrs {}, cntvct_el0", out(reg) v, options(nomem, nostack)) };
        v
    }
}

#[cfg(not(all(any(target_arch = "x86_64", target_arch = "aarch64"), target_os = "linux", not(miri))))]
mod imp {
    pub(super) fn counter_is_invariant() -> bool {
        false
    }

    pub(super) fn counter() -> u64 {
        super::monotonic_ns()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_trace_clock_follows_the_monotonic_clock() {
        prepare();
        let mut c = Calibration::new();
        let mut m = c.mapping();
        let mut last = 0;
        for _ in 0..200 {
            for _ in 0..100 {
                let before = monotonic_ns();
                let t = m.ns(ticks());
                let after = monotonic_ns();
                assert!(t >= last, "the clock goes backwards: {last} then {t}");
                last = t;
                // 100 us of slack: the machine may have been taken away between the readings.
                assert!(t + 100_000 > before && t < after + 100_000, "{before} {t} {after}");
            }
            m = c.next(&m);
        }
    }
}
