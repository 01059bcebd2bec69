//! The GC heap beside gc-arena, `Box`, and a bump allocator that frees nothing: binary-trees and GCBench, the same code
//! shape for all.
//!
//! Answers are checked against each other. Contenders take turns, five rounds; the figures are medians of the thread's
//! CPU time, so that a busy machine disturbs less, with the spread, and the ratio to the heap in its generational mode.
//! mimalloc is the global allocator of all.
//!
//! `cargo run --release --manifest-path benches/gc-peers/Cargo.toml [-- FILTER]`

use exectrace::gc::{Config, Mode};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The thread's CPU time in milliseconds.
fn cpu_ms() -> f64 {
    let mut t = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the call writes one timespec.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut t) };
    t.tv_sec as f64 * 1e3 + t.tv_nsec as f64 / 1e6
}

/// What a contender offers: trees under a root, and a place to collect.
trait Trees {
    /// Builds and counts a tree that is garbage then.
    fn temporary(&mut self, depth: u32) -> u64;
    /// Builds a tree and keeps it.
    fn keep(&mut self, depth: u32);
    /// Counts the tree that was kept.
    fn count_kept(&mut self) -> u64;
    fn safepoint(&mut self);
}

fn binary_trees(t: &mut dyn Trees, depth: u32) -> u64 {
    let mut sum = t.temporary(depth + 1);
    t.safepoint();
    t.keep(depth);
    for d in (4..=depth).step_by(2) {
        for _ in 0..1 << (depth - d + 4) {
            sum += t.temporary(d);
            t.safepoint();
        }
    }
    sum + t.count_kept()
}

/// As GCBench: one large tree lives, and small ones come and go.
fn gc_bench(t: &mut dyn Trees, depth: u32) -> u64 {
    t.keep(depth);
    t.safepoint();
    let mut sum = 0;
    for d in (4..depth).step_by(2) {
        for _ in 0..(2 << depth) / ((2_u32 << d) - 1) {
            sum += t.temporary(d);
            t.safepoint();
        }
    }
    sum + t.count_kept()
}

mod ours {
    use exectrace::gc::{Arena, Collect, Config, Gc, GcCell, Mutation, Rootable};

    #[derive(Collect)]
    pub struct Tree<'gc> {
        left: Option<Gc<'gc, Tree<'gc>>>,
        right: Option<Gc<'gc, Tree<'gc>>>,
    }

    fn build<'gc>(mc: &Mutation<'gc>, depth: u32) -> Gc<'gc, Tree<'gc>> {
        let child = || (depth > 0).then(|| build(mc, depth - 1));
        mc.alloc(Tree { left: child(), right: child() })
    }

    fn count(tree: Gc<'_, Tree<'_>>) -> u64 {
        1 + tree.left.map_or(0, count) + tree.right.map_or(0, count)
    }

    pub struct Ours(Arena<Rootable!['gc => GcCell<'gc, Option<Gc<'gc, Tree<'gc>>>>]>);

    impl Ours {
        pub fn new(config: Config) -> Self {
            Ours(Arena::new(config, |_| GcCell::new(None)))
        }
    }

    impl super::Trees for Ours {
        fn temporary(&mut self, depth: u32) -> u64 {
            self.0.mutate(|mc, _| count(build(mc, depth)))
        }
        fn keep(&mut self, depth: u32) {
            self.0.mutate(|mc, root| root.set(mc, Some(build(mc, depth))));
        }
        fn count_kept(&mut self) -> u64 {
            self.0.mutate(|_, root| root.get().map_or(0, count))
        }
        fn safepoint(&mut self) {
            self.0.safepoint();
        }
    }
}

mod gc_arena_peer {
    use gc_arena::lock::Lock;
    use gc_arena::{Arena, Collect, Gc, Mutation, Rootable};

    #[derive(Collect)]
    #[collect(no_drop)]
    pub struct Tree<'gc> {
        left: Option<Gc<'gc, Tree<'gc>>>,
        right: Option<Gc<'gc, Tree<'gc>>>,
    }

    fn build<'gc>(mc: &Mutation<'gc>, depth: u32) -> Gc<'gc, Tree<'gc>> {
        let child = || (depth > 0).then(|| build(mc, depth - 1));
        Gc::new(mc, Tree { left: child(), right: child() })
    }

    fn count(tree: Gc<'_, Tree<'_>>) -> u64 {
        1 + tree.left.map_or(0, count) + tree.right.map_or(0, count)
    }

    type Root<'gc> = Gc<'gc, Lock<Option<Gc<'gc, Tree<'gc>>>>>;

    pub struct Peer(Arena<Rootable![Root<'_>]>);

    impl Peer {
        pub fn new() -> Self {
            Peer(Arena::new(|mc| Gc::new(mc, Lock::new(None))))
        }
    }

    impl super::Trees for Peer {
        fn temporary(&mut self, depth: u32) -> u64 {
            self.0.mutate(|mc, _| count(build(mc, depth)))
        }
        fn keep(&mut self, depth: u32) {
            self.0.mutate(|mc, root| root.set(mc, Some(build(mc, depth))));
        }
        fn count_kept(&mut self) -> u64 {
            self.0.mutate(|_, root| root.get().map_or(0, count))
        }
        fn safepoint(&mut self) {
            self.0.collect_debt();
        }
    }
}

#[derive(Default)]
struct Boxes(Option<Box<BoxTree>>);

struct BoxTree {
    left: Option<Box<BoxTree>>,
    right: Option<Box<BoxTree>>,
}

impl Boxes {
    fn build(depth: u32) -> Box<BoxTree> {
        let child = || (depth > 0).then(|| Self::build(depth - 1));
        Box::new(BoxTree { left: child(), right: child() })
    }
    fn count(tree: &BoxTree) -> u64 {
        1 + tree.left.as_deref().map_or(0, Self::count) + tree.right.as_deref().map_or(0, Self::count)
    }
}

impl Trees for Boxes {
    fn temporary(&mut self, depth: u32) -> u64 {
        Self::count(&Self::build(depth))
    }
    fn keep(&mut self, depth: u32) {
        self.0 = Some(Self::build(depth));
    }
    fn count_kept(&mut self) -> u64 {
        self.0.as_deref().map_or(0, Self::count)
    }
    fn safepoint(&mut self) {}
}

/// Each temporary tree in an arena of its own, freed at a stroke: the limit for allocation.
#[derive(Default)]
struct Bump {
    kept: bumpalo::Bump,
    temporary: bumpalo::Bump,
    count: u64,
}

struct BumpTree<'a> {
    left: Option<&'a BumpTree<'a>>,
    right: Option<&'a BumpTree<'a>>,
}

impl Bump {
    fn build(bump: &bumpalo::Bump, depth: u32) -> &BumpTree<'_> {
        let child = || (depth > 0).then(|| Self::build(bump, depth - 1));
        bump.alloc(BumpTree { left: child(), right: child() })
    }
    fn count(tree: &BumpTree<'_>) -> u64 {
        1 + tree.left.map_or(0, Self::count) + tree.right.map_or(0, Self::count)
    }
}

impl Trees for Bump {
    fn temporary(&mut self, depth: u32) -> u64 {
        let count = Self::count(Self::build(&self.temporary, depth));
        self.temporary.reset();
        count
    }
    fn keep(&mut self, depth: u32) {
        self.count = Self::count(Self::build(&self.kept, depth));
    }
    fn count_kept(&mut self) -> u64 {
        self.count
    }
    fn safepoint(&mut self) {}
}

type Program = fn(&mut dyn Trees, u32) -> u64;

fn main() {
    let filter = std::env::args().nth(1).unwrap_or_default();
    let rounds: usize = std::env::var("ROUNDS").ok().and_then(|r| r.parse().ok()).unwrap_or(5);
    let programs: [(&str, Program); 2] = [("bt", binary_trees), ("gb", gc_bench)];
    for (name, program) in programs {
        for depth in [16, 18, 20] {
            let name = format!("{name}{depth}");
            if !name.contains(&filter) {
                continue;
            }
            let run = |contender: usize| -> u64 {
                match contender {
                    0 => program(&mut ours::Ours::new(Config::new().mode(Mode::Generational)), depth),
                    1 => program(&mut ours::Ours::new(Config::new()), depth),
                    2 => program(&mut ours::Ours::new(Config::new().mode(Mode::StopTheWorld)), depth),
                    3 => program(&mut gc_arena_peer::Peer::new(), depth),
                    4 => program(&mut Boxes::default(), depth),
                    _ => program(&mut Bump::default(), depth),
                }
            };
            let names = ["generational", "incremental", "stop-the-world", "gc-arena", "Box (mimalloc)", "bumpalo"];
            let mut times = vec![Vec::new(); names.len()];
            let mut answer = None;
            for _ in 0..rounds {
                for (i, times) in times.iter_mut().enumerate() {
                    let begin = cpu_ms();
                    let got = run(i);
                    times.push(cpu_ms() - begin);
                    assert_eq!(*answer.get_or_insert(got), got, "{name} {}", names[i]);
                }
            }
            times.iter_mut().for_each(|t| t.sort_by(f64::total_cmp));
            let base = times[0][rounds / 2];
            for (t, contender) in times.iter().zip(names) {
                let median = t[rounds / 2];
                let (min, max) = (t[0], t[rounds - 1]);
                println!("{name} {contender:15} {median:8.1} ms ({min:.1}..{max:.1})  {:5.2}x", median / base);
            }
        }
    }
}
