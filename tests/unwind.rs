//! Our unwinder against its slow twin, `_Unwind_Backtrace` of the platform, on many kinds of real stacks: they must agree
//! frame by frame. Where a signal interrupted the code at any instruction, ours may stop early, but rarely, and never be wrong.

#![cfg(all(target_os = "linux", target_env = "gnu", target_arch = "x86_64"))]

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ffi::{CString, c_int, c_void};
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use exectrace::internals::unwind::{self, Memo, StackBounds};

const FRAMES_MAX: usize = 128;

unsafe extern "C" {
    fn _Unwind_Backtrace(f: extern "C" fn(*mut c_void, *mut c_void) -> c_int, data: *mut c_void) -> c_int;
    fn _Unwind_GetIPInfo(context: *mut c_void, before: *mut c_int) -> usize;
}

/// A stack as the twin sees it, in our convention: exact addresses (of interrupted frames) plus one.
struct Twin {
    pcs: [usize; 256],
    len: usize,
    /// Where the innermost signal frame's interrupted code stands.
    interrupted: Option<usize>,
}

impl Twin {
    #[inline(always)]
    fn capture() -> Self {
        let mut twin = Twin { pcs: [0; 256], len: 0, interrupted: None };
        // SAFETY: `push` keeps to the types and gets the pointer that it expects.
        unsafe { _Unwind_Backtrace(push, (&raw mut twin).cast()) };
        twin
    }

    fn pcs(&self) -> &[usize] {
        &self.pcs[..self.len]
    }
}

extern "C" fn push(context: *mut c_void, twin: *mut c_void) -> c_int {
    // SAFETY: the `Twin` of `Twin::capture`, which waits for us.
    let twin = unsafe { &mut *twin.cast::<Twin>() };
    let mut exact = 0;
    // SAFETY: the context of this call.
    let pc = unsafe { _Unwind_GetIPInfo(context, &mut exact) };
    if pc != 0 && twin.len < twin.pcs.len() {
        // The return into the signal trampoline is marked like this too, in the frame before the interrupted one.
        if exact != 0 && twin.interrupted.is_none() {
            twin.interrupted = Some(twin.len);
        }
        twin.pcs[twin.len] = pc + (exact != 0) as usize;
        twin.len += 1;
    }
    0
}

/// Takes both stacks here and compares them. Returns the number of frames.
#[inline(never)]
fn check() -> usize {
    unwind::init();
    let bounds = StackBounds::of_current_thread();
    let mut out = [0; FRAMES_MAX];
    let mut frames = 0;
    // Cold, then warm.
    for _ in 0..2 {
        frames = unwind::capture(&mut out, bounds);
        let twin = Twin::capture();
        // The first frames differ: two calls in this function.
        let (ours, theirs) = (&out[1..frames], &twin.pcs()[1..]);
        let theirs = &theirs[..theirs.len().min(FRAMES_MAX - 1)];
        assert!(ours == theirs, "ours:\n{}\ntwin:\n{}", Names(ours), Names(theirs));
        check_remembered(bounds);
        assert_eq!(unwind::capture(&mut out[..5], bounds), frames.min(5));
        assert_eq!(unwind::capture(&mut out[..1], StackBounds::NONE), 1);
        assert_eq!(unwind::capture(&mut [], bounds), 0);
    }
    frames
}

/// Takes the stack here with and without the memory of the last ones and compares them. `take` of the frames only, now and then.
#[inline(never)]
fn check_remembered(bounds: StackBounds) -> usize {
    struct State {
        memo: Memo,
        times: usize,
        /// The stacks that were walked, by their number.
        stacks: Vec<Vec<usize>>,
    }
    thread_local! {
        static STATE: RefCell<Option<Box<State>>> = const { RefCell::new(None) };
    }
    // At the thread's end it may be gone.
    let checked = STATE.try_with(|state| {
        let mut state = state.borrow_mut();
        let new = || Box::new(State { memo: Memo::new(), times: 0, stacks: vec![Vec::new()] });
        let State { memo, times, stacks } = &mut **state.get_or_insert_with(new);
        *times += 1;
        let take = [FRAMES_MAX, FRAMES_MAX, 3, FRAMES_MAX, 15, 1][(*times / 4) % 6];
        let (mut ours, mut twin) = ([7; FRAMES_MAX + 1], [0; FRAMES_MAX]);
        let walked = stacks.len();
        let id = unwind::capture_numbered(memo, take as u64, bounds, &mut ours[..=take], 1, |stack| {
            assert_eq!(stack[0], 7, "the caller's own entry");
            stacks.push(stack[1..].to_vec());
            walked as u32
        });
        let m = unwind::capture(&mut twin[..take], bounds);
        let found = &stacks[id as usize];
        let remembered = id as usize != walked;
        assert!(
            found[1..] == twin[1..m] && found.is_empty() == (m == 0),
            "remembered: {remembered}\nwith memory:\n{}\nwithout:\n{}",
            Names(found),
            Names(&twin[..m])
        );
        REMEMBERED.fetch_add(usize::from(remembered), Relaxed);
        m
    });
    checked.unwrap_or_default()
}

/// How many of the stacks of `check_remembered` were not walked.
static REMEMBERED: AtomicUsize = AtomicUsize::new(0);

/// For messages.
struct Names<'a>(&'a [usize]);

impl std::fmt::Display for Names<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        for &pc in self.0 {
            write!(f, "  {pc:#x}")?;
            backtrace::resolve(pc as *mut c_void, |symbol| {
                let _ = symbol.name().map(|name| write!(f, " {name:#}"));
            });
            writeln!(f)?;
        }
        Ok(())
    }
}

#[test]
fn deep_recursion_and_its_cut_off_end() {
    #[inline(never)]
    fn down(depth: usize) -> usize {
        let locals = black_box([depth; 17]);
        if depth == 0 { check() } else { down(depth - 1) + locals[3] - depth }
    }
    let shallow = down(1);
    for depth in [2, 10, 60, 90] {
        assert_eq!(down(depth), shallow + depth - 1);
    }
    assert_eq!(down(200), FRAMES_MAX);
}

#[test]
fn closures_generics_and_large_frames() {
    #[inline(never)]
    fn with<const BYTES: usize, R>(f: impl FnOnce(&mut [u8; BYTES]) -> R) -> R {
        let mut memory = [1; BYTES];
        let result = f(black_box(&mut memory));
        black_box(memory);
        result
    }
    with::<1, _>(|_| {
        with::<4096, _>(|_| with::<5000, _>(|_| with::<200_000, _>(|_| check())));
    });
    let boxed: Vec<Box<dyn Fn(usize) -> usize>> = vec![Box::new(|n| n + check()), Box::new(|_| check())];
    let sum: usize = boxed.iter().enumerate().map(|(i, f)| f(i)).sum();
    assert!(sum > 4);
    let mut order: Vec<u32> = (0..40).rev().collect();
    order.sort_by(|a, b| {
        check();
        a.cmp(b)
    });
    let map: BTreeMap<u32, usize> = order.iter().map(|&n| (n, check())).collect();
    assert_eq!(map.len(), 40);
}

#[test]
fn random_walks_with_the_memory_of_the_last_stacks() {
    /// Functions of different frames: with and without a frame pointer, small and large, that call each other at several places.
    struct Walk {
        random: u64,
        left: usize,
        frames: usize,
        bounds: StackBounds,
    }
    impl Walk {
        fn random(&mut self) -> u64 {
            self.random ^= self.random << 13;
            self.random ^= self.random >> 7;
            self.random ^= self.random << 17;
            self.random >> 20
        }
        fn anywhere(&mut self, depth: usize) -> u64 {
            if self.left == 0 || depth > 160 {
                return 0;
            }
            match self.random() % 6 {
                0 => self.small(depth + 1),
                1 => self.large(depth + 1),
                2 => self.variable(depth + 1),
                // As one event after the other in one function.
                3 | 4 => self.here(black_box(4)),
                _ => 1,
            }
        }
        fn here(&mut self, times: usize) -> u64 {
            // One place in the code, so not unrolled: a stack is the same only if it was taken there.
            for _ in 0..times {
                self.left = self.left.saturating_sub(1);
                self.frames += check_remembered(self.bounds);
            }
            1
        }
        #[inline(never)]
        fn small(&mut self, depth: usize) -> u64 {
            self.anywhere(depth) + self.anywhere(depth) + self.anywhere(depth)
        }
        #[inline(never)]
        fn large(&mut self, depth: usize) -> u64 {
            let locals = black_box([depth as u64; 700]);
            self.anywhere(depth) + locals[depth] + self.anywhere(depth) + black_box(locals)[0]
        }
        /// libc's sort keeps its buffer on the stack, by a frame pointer.
        #[inline(never)]
        fn variable(&mut self, depth: usize) -> u64 {
            /// # Safety
            /// `this` is what the caller of `qsort_r` passed.
            unsafe extern "C" fn compare(_: *const c_void, _: *const c_void, this: *mut c_void) -> c_int {
                // SAFETY: the walk and the depth below, which wait for us.
                let (walk, depth) = unsafe { &mut *this.cast::<(&mut Walk, usize)>() };
                walk.anywhere(*depth);
                0
            }
            let mut this = (self, depth);
            let mut numbers = [0i32; 3];
            // SAFETY: the array, its length and the size of its elements; the callback gets what it expects.
            unsafe { qsort_r(numbers.as_mut_ptr().cast(), 3, 4, compare, (&raw mut this).cast()) };
            this.0.anywhere(depth)
        }
    }
    unsafe extern "C" {
        fn qsort_r(
            base: *mut c_void,
            len: usize,
            size: usize,
            compare: unsafe extern "C" fn(*const c_void, *const c_void, *mut c_void) -> c_int,
            data: *mut c_void,
        );
    }
    unwind::init();
    let bounds = StackBounds::of_current_thread();
    for seed in 1..400 {
        let mut walk = Walk { random: seed << 32 | 0x9E37_79B9, left: 300, frames: 0, bounds };
        for _ in 0..40 {
            walk.small(0);
        }
        assert!(walk.frames > 0, "seed {seed}");
        if seed % 50 == 0 {
            unwind::invalidate();
        }
    }
    let remembered = REMEMBERED.load(Relaxed);
    assert!(remembered > 1000, "only {remembered} were remembered");
}

// `on_stack_at(sp, f, data)`: calls `f(data)` with the stack pointer at `sp`, which must lie further down the same stack. Its
// frame is found by the frame pointer.
// `save_and_call(f, data)`: saves the frame pointer, overwrites it with 1, and calls `f(data)`.
// `just_call(f, data)`: the same without touching the frame pointer, in a frame of the same size.
std::arch::global_asm!(
    ".globl exectrace_test_on_stack_at",
    "exectrace_test_on_stack_at:",
    ".cfi_startproc",
    "push rbp",
    ".cfi_def_cfa_offset 16",
    ".cfi_offset rbp, -16",
    "mov rbp, rsp",
    ".cfi_def_cfa_register rbp",
    "mov rsp, rdi",
    "mov rdi, rdx",
    "call rsi",
    "mov rsp, rbp",
    "pop rbp",
    ".cfi_def_cfa rsp, 8",
    "ret",
    ".cfi_endproc",
    ".globl exectrace_test_save_and_call",
    "exectrace_test_save_and_call:",
    ".cfi_startproc",
    "push rbp",
    ".cfi_def_cfa_offset 16",
    ".cfi_offset rbp, -16",
    "mov ebp, 1",
    "mov rax, rdi",
    "mov rdi, rsi",
    "call rax",
    "pop rbp",
    ".cfi_restore rbp",
    ".cfi_def_cfa_offset 8",
    "ret",
    ".cfi_endproc",
    ".globl exectrace_test_just_call",
    "exectrace_test_just_call:",
    ".cfi_startproc",
    "sub rsp, 8",
    ".cfi_def_cfa_offset 16",
    "mov rax, rdi",
    "mov rdi, rsi",
    "call rax",
    "add rsp, 8",
    ".cfi_def_cfa_offset 8",
    "ret",
    ".cfi_endproc",
);

unsafe extern "C" {
    fn exectrace_test_on_stack_at(sp: usize, f: extern "C" fn(*mut c_void), data: *mut c_void);
    fn exectrace_test_save_and_call(f: extern "C" fn(*mut c_void), data: *mut c_void);
    fn exectrace_test_just_call(f: extern "C" fn(*mut c_void), data: *mut c_void);
}

#[test]
fn the_memory_of_the_last_stacks_when_only_a_saved_frame_pointer_differs() {
    struct Inner {
        bounds: StackBounds,
        sp: usize,
        save: bool,
        depth: usize,
        frames: usize,
    }
    extern "C" fn check_here(inner: *mut c_void) {
        // SAFETY: the value of the test, which waits for us.
        let inner = unsafe { &mut *inner.cast::<Inner>() };
        inner.frames = check_remembered(inner.bounds);
    }
    extern "C" fn middle(inner: *mut c_void) {
        // SAFETY: as above; both functions call what they are given.
        unsafe {
            match (*inner.cast::<Inner>()).save {
                true => exectrace_test_save_and_call(check_here, inner),
                false => exectrace_test_just_call(check_here, inner),
            }
        }
    }
    extern "C" fn outer(inner: *mut c_void) {
        // SAFETY: as above.
        let (depth, sp) = unsafe { ((*inner.cast::<Inner>()).depth, (*inner.cast::<Inner>()).sp) };
        down(depth, sp, inner);
    }
    #[inline(never)]
    fn down(depth: usize, sp: usize, inner: *mut c_void) {
        match depth {
            // SAFETY: `sp` is far under all frames of this test, and aligned as a call's.
            0 => unsafe { exectrace_test_on_stack_at(sp, middle, inner) },
            _ => down(depth - 1, sp, inner),
        }
        // No tail call; and no other call that would write over the words of the one above.
        // SAFETY: nothing.
        unsafe { std::arch::asm!("", options(nomem, nostack)) };
    }
    unwind::init();
    let mut inner = Inner { bounds: StackBounds::of_current_thread(), sp: 0, save: true, depth: 0, frames: 0 };
    let top = (&raw const inner).addr() & !15;
    inner.sp = top - (512 << 10);
    // The frames below `sp` are the same each time, to the byte. Those above are of either depth, each at a place of its own, so
    // that the words of the other one are still there: only the way to them, a saved frame pointer, has changed.
    for round in 0..400 {
        let area = round % 2;
        inner.save = round % 16 < 8;
        inner.depth = [1, 5][area];
        let at = top - [128 << 10, 256 << 10][area];
        // SAFETY: as above.
        unsafe { exectrace_test_on_stack_at(at, outer, (&raw mut inner).cast()) };
        assert!(inner.frames > 0);
    }
}

#[test]
fn inside_a_panic_and_its_unwinding() {
    struct OnDrop;
    impl Drop for OnDrop {
        fn drop(&mut self) {
            check();
        }
    }
    #[inline(never)]
    fn raise(depth: usize) {
        let _drop = OnDrop;
        if depth == 0 {
            std::panic::panic_any(7u8);
        }
        raise(depth - 1);
    }
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {
        check();
    }));
    let caught = std::panic::catch_unwind(|| raise(5));
    std::panic::set_hook(before);
    assert_eq!(caught.unwrap_err().downcast_ref(), Some(&7u8));
}

#[test]
fn callbacks_from_libc() {
    extern "C" fn compare(a: *const c_void, b: *const c_void) -> c_int {
        check();
        // SAFETY: elements of the array below.
        unsafe { a.cast::<i32>().read().cmp(&b.cast::<i32>().read()) as c_int }
    }
    let mut numbers: Vec<i32> = (0..50).map(|n| n * 7919 % 101).collect();
    // SAFETY: the array, its length and the size of its elements.
    unsafe { libc::qsort(numbers.as_mut_ptr().cast(), numbers.len(), 4, Some(compare)) };
    assert!(numbers.is_sorted());

    extern "C" fn module(_: *mut libc::dl_phdr_info, _: usize, count: *mut c_void) -> c_int {
        // SAFETY: the counter below.
        unsafe { *count.cast::<usize>() += (check() > 3) as usize };
        0
    }
    let mut modules = 0usize;
    // SAFETY: the callback keeps to its types.
    unsafe { libc::dl_iterate_phdr(Some(module), (&raw mut modules).cast()) };
    assert!(modules >= 3);
}

#[test]
fn the_first_frames_of_threads_and_what_runs_at_their_end() {
    struct AtExit;
    impl Drop for AtExit {
        fn drop(&mut self) {
            check();
            ENDED.fetch_add(1, Relaxed);
        }
    }
    static ENDED: AtomicUsize = AtomicUsize::new(0);
    thread_local!(static AT_EXIT: AtExit = const { AtExit });
    let std_thread = std::thread::spawn(|| {
        AT_EXIT.with(|_| ());
        check()
    });
    assert!(std_thread.join().unwrap() > 4);
    assert_eq!(ENDED.load(Relaxed), 1);

    extern "C" fn start(_: *mut c_void) -> *mut c_void {
        std::ptr::without_provenance_mut(check())
    }
    let mut thread = 0;
    let mut frames = std::ptr::null_mut();
    // SAFETY: an ordinary thread that is joined.
    unsafe {
        assert_eq!(libc::pthread_create(&mut thread, std::ptr::null(), start, std::ptr::null_mut()), 0);
        assert_eq!(libc::pthread_join(thread, &mut frames), 0);
    }
    assert!((3..10).contains(&frames.addr()), "{}", frames.addr());
}

#[test]
fn through_a_signal_frame() {
    extern "C" fn handler(_: c_int, _: *mut libc::siginfo_t, _: *mut c_void) {
        FRAMES.store(check(), Relaxed);
    }
    static FRAMES: AtomicUsize = AtomicUsize::new(0);
    install(libc::SIGUSR1, handler);
    let here = check();
    // SAFETY: handled above.
    unsafe { libc::raise(libc::SIGUSR1) };
    // The handler, the trampoline and at least one function of libc stand between.
    assert!(FRAMES.load(Relaxed) > here + 2, "{} frames, {here} outside", FRAMES.load(Relaxed));
}

fn install(signal: c_int, handler: extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void)) {
    // SAFETY: a zeroed `sigaction` is valid: no flags, an empty mask.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = handler as *const () as usize;
    action.sa_flags = libc::SA_SIGINFO | libc::SA_RESTART;
    // SAFETY: the handler has the type that the flags promise.
    assert_eq!(unsafe { libc::sigaction(signal, &action, std::ptr::null_mut()) }, 0);
}

/// A shared library in C, built once per test run: code without frame pointers, and one with a realigned stack.
fn library(name: &str, extra: &str) -> PathBuf {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let (source, object) = (dir.join(format!("{name}.c")), dir.join(format!("{name}.so")));
    let text = format!(
        r#"
        #include <string.h>
        typedef int (*callback)(void);
        {extra}
        int realigned(callback f, int n) {{
            char aligned[256] __attribute__((aligned(128)));
            char some[n];
            memset(aligned, n, sizeof aligned);
            memset(some, n, n);
            return f() + aligned[n & 255] - n + some[n / 2] - n;
        }}
        int nested(callback f, int n) {{
            int x = n > 0 ? nested(f, n - 1) : realigned(f, 33);
            __asm__ volatile("" : "+r"(x));
            return x;
        }}
        "#
    );
    std::fs::write(&source, text).unwrap();
    let flags = ["-O2", "-fomit-frame-pointer", "-fno-inline", "-mstackrealign", "-shared", "-fPIC", "-o"];
    let status =
        Command::new("cc").args(flags).args([&object, &source]).status().expect("the C compiler that links Rust");
    assert!(status.success());
    object
}

#[test]
fn libraries_that_come_and_go() {
    extern "C" fn callback() -> c_int {
        check() as c_int
    }
    let libraries = [
        library("first", ""),
        library("second", "int other(callback f) { volatile char big[3000]; big[9] = 1; return f() + big[9]; }"),
    ];
    let mut bases = Vec::new();
    for path in libraries.iter().cycle().take(6) {
        let path = CString::new(path.to_str().unwrap()).unwrap();
        // SAFETY: our own libraries, which run nothing when loaded.
        let handle = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW) };
        assert!(!handle.is_null());
        unwind::invalidate();
        // SAFETY: defined in every library.
        let nested = unsafe { libc::dlsym(handle, c"nested".as_ptr()) };
        assert!(!nested.is_null());
        bases.push(nested.addr() & !0xffff);
        // SAFETY: the type of the C function.
        let nested: extern "C" fn(extern "C" fn() -> c_int, c_int) -> c_int = unsafe { std::mem::transmute(nested) };
        assert_eq!(nested(callback, 7), nested(callback, 2) + 5);
        // SAFETY: nothing of it is used any more.
        assert_eq!(unsafe { libc::dlclose(handle) }, 0);
        unwind::invalidate();
    }
    // The point of the test: other code at the same addresses.
    assert!(bases.windows(2).any(|b| b[0] == b[1]), "{bases:x?}");
}

/// What the handler of the sampling test found. It must not allocate, so the first bad sample is kept here.
static EQUAL: AtomicUsize = AtomicUsize::new(0);
static TRUNCATED: AtomicUsize = AtomicUsize::new(0);
static LONGER: AtomicUsize = AtomicUsize::new(0);
static WRONG: AtomicUsize = AtomicUsize::new(0);
static SAMPLE: Mutex<([usize; FRAMES_MAX], usize, [usize; FRAMES_MAX], usize)> =
    Mutex::new(([0; FRAMES_MAX], 0, [0; FRAMES_MAX], 0));

thread_local!(static BOUNDS: std::cell::Cell<StackBounds> = const { std::cell::Cell::new(StackBounds::NONE) });

extern "C" fn sample(_: c_int, _: *mut libc::siginfo_t, context: *mut c_void) {
    let mut out = [0; FRAMES_MAX];
    // SAFETY: the context of this handler.
    let frames = unsafe { unwind::capture_context(context, &mut out, BOUNDS.get()) };
    let ours = &out[..frames];
    let twin = Twin::capture();
    let theirs = &twin.pcs()[twin.interrupted.map_or(0, |i| i)..];
    // The trampoline's frame is marked exact as well, and comes first.
    let theirs = match theirs.iter().position(|pc| *pc == ours[0]) {
        Some(i) if i <= 1 => &theirs[i..],
        _ => theirs,
    };
    let same = ours.iter().zip(theirs).take_while(|(a, b)| a == b).count();
    let (kind, bad) = match () {
        () if same == ours.len() && same == theirs.len() => (&EQUAL, false),
        () if same == ours.len() => (&TRUNCATED, false),
        () if same == theirs.len() => (&LONGER, true),
        () => (&WRONG, true),
    };
    if kind.fetch_add(1, Relaxed) == 0
        && bad
        && let Ok(mut sample) = SAMPLE.try_lock()
    {
        sample.0[..frames].copy_from_slice(ours);
        sample.1 = frames;
        let n = theirs.len().min(FRAMES_MAX);
        sample.2[..n].copy_from_slice(&theirs[..n]);
        sample.3 = n;
    }
}

#[test]
fn sampled_at_any_instruction() {
    const SAMPLES: usize = 3_000;
    unwind::init();
    BOUNDS.set(StackBounds::of_current_thread());
    // Loads what the twin loads lazily.
    black_box(Twin::capture().len);
    install(libc::SIGPROF, sample);
    let timer = Timer::of_this_thread(Duration::from_millis(1));
    let begin = Instant::now();
    let counts = || [&EQUAL, &TRUNCATED, &LONGER, &WRONG].map(|n| n.load(Relaxed));
    let mut rounds = 0;
    while counts().iter().sum::<usize>() < SAMPLES {
        assert!(begin.elapsed() < Duration::from_secs(120), "no signals: {:?}", counts());
        black_box(work(rounds));
        rounds += 1;
    }
    drop(timer);
    let [equal, truncated, longer, wrong] = counts();
    println!("{equal} equal, {truncated} truncated, {longer} longer, {wrong} wrong");
    let sample = SAMPLE.lock().unwrap();
    let (ours, theirs) = (Names(&sample.0[..sample.1]), Names(&sample.2[..sample.3]));
    assert!(wrong == 0 && longer == 0, "{longer} longer, {wrong} wrong. Ours:\n{ours}\ntwin:\n{theirs}");
    assert!(truncated * 50 <= equal, "{truncated} of {} truncated", equal + truncated);
}

/// Busy code of many kinds: ours, std's, libc's (without frame pointers), libm's and the kernel's (the vDSO).
fn work(seed: usize) -> usize {
    let mut text = String::new();
    let mut sum = 0;
    for i in 0..60 {
        let n = seed.wrapping_mul(0x9E37_79B9).wrapping_add(i * 7919) % 100_003;
        text.push_str(&format!("{n:05x} {:.3} ", (n as f64).sqrt().sin()));
        let mut buffer = [0u8; 64];
        // SAFETY: the format takes a double and an int; the buffer is as long as it says.
        unsafe { libc::snprintf(buffer.as_mut_ptr().cast(), 64, c"%.10g %d".as_ptr(), n as f64 * 1.5, n as c_int) };
        // SAFETY: a terminated string.
        sum += unsafe { libc::strtod(buffer.as_ptr().cast(), std::ptr::null_mut()) } as usize;
        let mut boxes: Vec<Box<[u8]>> = (0..20).map(|k| vec![k as u8; n % 700 + k].into_boxed_slice()).collect();
        boxes.sort_by_key(|b| std::cmp::Reverse(b.len()));
        sum += boxes.iter().map(|b| b.len()).sum::<usize>();
        sum += Instant::now().elapsed().as_nanos() as usize & 1;
    }
    extern "C" fn compare(a: *const c_void, b: *const c_void) -> c_int {
        // SAFETY: elements of the array below.
        unsafe { a.cast::<u8>().read().cmp(&b.cast::<u8>().read()) as c_int }
    }
    let mut bytes = text.into_bytes();
    // SAFETY: the array, its length and the size of its elements.
    unsafe { libc::qsort(bytes.as_mut_ptr().cast(), bytes.len(), 1, Some(compare)) };
    // SAFETY: a symbol name, and no such symbol.
    sum += unsafe { libc::dlsym(libc::RTLD_DEFAULT, c"no such symbol".as_ptr()) }.addr();
    sum + bytes[bytes.len() / 2] as usize
}

/// A timer that sends SIGPROF to the thread that made it.
struct Timer(libc::timer_t);

impl Timer {
    fn of_this_thread(period: Duration) -> Self {
        let nanoseconds = period.as_nanos() as i64;
        let each = libc::timespec { tv_sec: nanoseconds / 1_000_000_000, tv_nsec: nanoseconds % 1_000_000_000 };
        // SAFETY: a zeroed `sigevent` is valid; the fields are set for SIGEV_THREAD_ID. The timer is deleted on drop.
        unsafe {
            let mut event: libc::sigevent = std::mem::zeroed();
            event.sigev_notify = libc::SIGEV_THREAD_ID;
            event.sigev_signo = libc::SIGPROF;
            event.sigev_notify_thread_id = libc::gettid();
            let mut timer = std::ptr::null_mut();
            assert_eq!(libc::timer_create(libc::CLOCK_MONOTONIC, &mut event, &mut timer), 0);
            let spec = libc::itimerspec { it_interval: each, it_value: each };
            assert_eq!(libc::timer_settime(timer, 0, &spec, std::ptr::null_mut()), 0);
            Timer(timer)
        }
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        // SAFETY: made by `of_this_thread`.
        unsafe { libc::timer_delete(self.0) };
    }
}
