//! The Scheme of `examples/scheme`, on this package's heap, beside piccolo, a Lua on gc-arena: the same micro-benchmarks, each
//! written as one would write it in the language. Answers must agree.
//!
//! The figures are the medians of the thread's CPU time over the rounds, in turns, and their ratio; and the part of the
//! Scheme's time that its collector took. The two machines are unlike (piccolo's has registers and byte code, the Scheme
//! interprets a tree and has its calls on the heap), so that the ratio is not one of collectors; the last column is.
//!
//! `cargo run --release --manifest-path benches/gc-peers/Cargo.toml --bin interpreters [-- FILTER]`, with `ROUNDS` (5) and
//! `EXECTRACE_RESULTS`.

#[path = "../../../../examples/scheme/builtins.rs"]
mod builtins;
#[path = "../../../../examples/scheme/compile.rs"]
mod compile;
#[path = "../../../../examples/scheme/machine.rs"]
mod machine;
#[path = "../../../../examples/scheme/value.rs"]
mod value;

use exectrace::gc::{Config, Mode};
use machine::Scheme;
use piccolo::{Closure, Executor, Lua};
use std::time::Instant;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Name, Scheme, Lua, and the answer of both. No assignment to several variables stands in them that are used on its right
/// side as well: of those piccolo 0.3.3 makes something else than Lua does.
const PROGRAMS: &[(&str, &str, &str, i64)] = &[
    (
        "fib",
        "(define (fib n) (if (< n 2) n (+ (fib (- n 1)) (fib (- n 2))))) (fib 27)",
        "local function fib(n) if n < 2 then return n end return fib(n - 1) + fib(n - 2) end return fib(27)",
        196_418,
    ),
    (
        "tak",
        "(define (tak x y z) (if (< y x) (tak (tak (- x 1) y z) (tak (- y 1) z x) (tak (- z 1) x y)) z)) (tak 18 12 6)",
        "local function tak(x, y, z)
           if y < x then return tak(tak(x - 1, y, z), tak(y - 1, z, x), tak(z - 1, x, y)) end
           return z
         end
         return tak(18, 12, 6)",
        7,
    ),
    (
        "ackermann",
        "(define (a m n) (cond ((= m 0) (+ n 1)) ((= n 0) (a (- m 1) 1)) (else (a (- m 1) (a m (- n 1)))))) (a 2 500)",
        "local function a(m, n)
           if m == 0 then return n + 1 end
           if n == 0 then return a(m - 1, 1) end
           return a(m - 1, a(m, n - 1))
         end
         return a(2, 500)",
        1003,
    ),
    (
        "queens",
        "(define (ok? row dist placed)
           (or (null? placed)
               (and (not (= (car placed) (+ row dist))) (not (= (car placed) (- row dist))) (not (= (car placed) row))
                    (ok? row (+ dist 1) (cdr placed)))))
         (define (queens n k placed)
           (if (= k 0) 1
               (let loop ((row 0) (sum 0))
                 (if (= row n) sum
                     (loop (+ row 1) (if (ok? row 1 placed) (+ sum (queens n (- k 1) (cons row placed))) sum))))))
         (queens 8 8 '())",
        "local function ok(row, dist, placed)
           while placed do
             local p = placed[1]
             if p == row + dist or p == row - dist or p == row then return false end
             dist, placed = dist + 1, placed[2]
           end
           return true
         end
         local function queens(n, k, placed)
           if k == 0 then return 1 end
           local sum = 0
           for row = 0, n - 1 do
             if ok(row, 1, placed) then sum = sum + queens(n, k - 1, {row, placed}) end
           end
           return sum
         end
         return queens(8, 8, nil)",
        92,
    ),
    (
        "sieve",
        "(define n 300000)
         (define flags (make-vector (+ n 1) #t))
         (define (strike i step) (when (<= i n) (vector-set! flags i #f) (strike (+ i step) step)))
         (let loop ((i 2) (count 0))
           (cond ((> i n) count)
                 ((vector-ref flags i) (strike (+ i i) i) (loop (+ i 1) (+ count 1)))
                 (else (loop (+ i 1) count))))",
        "local n = 300000
         local flags = {}
         for i = 1, n do flags[i] = true end
         local count = 0
         for i = 2, n do
           if flags[i] then
             count = count + 1
             for j = i + i, n, i do flags[j] = false end
           end
         end
         return count",
        25_997,
    ),
    (
        "towers",
        "(define (towers n from to by) (if (= n 0) 0 (+ (towers (- n 1) from by to) 1 (towers (- n 1) by to from)))) (towers 18 1 3 2)",
        "local function towers(n, from, to, by)
           if n == 0 then return 0 end
           return towers(n - 1, from, by, to) + 1 + towers(n - 1, by, to, from)
         end
         return towers(18, 1, 3, 2)",
        262_143,
    ),
    (
        "permute",
        "(define (without x l) (cond ((null? l) '()) ((= x (car l)) (without x (cdr l))) (else (cons (car l) (without x (cdr l))))))
         (define (permute l)
           (if (null? l) 1
               (let loop ((rest l) (n 0)) (if (null? rest) n (loop (cdr rest) (+ n (permute (without (car rest) l))))))))
         (permute (iota 8))",
        "local function without(x, l)
           if not l then return nil end
           if x == l[1] then return without(x, l[2]) end
           return {l[1], without(x, l[2])}
         end
         local function permute(l)
           if not l then return 1 end
           local n, rest = 0, l
           while rest do n, rest = n + permute(without(rest[1], l)), rest[2] end
           return n
         end
         local l = nil
         for i = 7, 0, -1 do l = {i, l} end
         return permute(l)",
        40_320,
    ),
    (
        "trees",
        "(define (build d) (if (= d 0) (cons 0 0) (cons (build (- d 1)) (build (- d 1)))))
         (define (size t d) (if (= d 0) 1 (+ 1 (size (car t) (- d 1)) (size (cdr t) (- d 1)))))
         (define kept (build 16))
         (let loop ((i 0) (n 0)) (if (= i 200) (+ n (size kept 16)) (loop (+ i 1) (+ n (size (build 10) 10)))))",
        "local function build(d) if d == 0 then return {0, 0} end return {build(d - 1), build(d - 1)} end
         local function size(t, d) if d == 0 then return 1 end return 1 + size(t[1], d - 1) + size(t[2], d - 1) end
         local kept, n = build(16), 0
         for i = 1, 200 do n = n + size(build(10), 10) end
         return n + size(kept, 16)",
        540_471,
    ),
    (
        "closures",
        "(define (adder n) (lambda (x) (+ x n)))
         (let loop ((i 0) (x 0)) (if (= i 300000) x (loop (+ i 1) ((adder i) x))))",
        "local function adder(n) return function(x) return x + n end end
         local x = 0
         for i = 0, 299999 do x = adder(i)(x) end
         return x",
        44_999_850_000,
    ),
    (
        "tables",
        "(define t (make-table))
         (let loop ((i 0))
           (when (< i 300000) (table-set! t i (* i i)) (when (> i 100) (table-remove! t (- i 100))) (loop (+ i 1))))
         (table-ref t 299999 #f)",
        "local t = {}
         for i = 0, 299999 do
           t[i] = i * i
           if i > 100 then t[i - 100] = nil end
         end
         return t[299999]",
        89_999_400_001,
    ),
    (
        "generators",
        "(define numbers (make-coroutine (lambda (yield first) (let loop ((i 0)) (yield i) (loop (+ i 1))))))
         (let loop ((n 0) (sum 0)) (if (= n 100000) sum (loop (+ n 1) (+ sum (numbers #f)))))",
        "local numbers = coroutine.create(function() local i = 0 while true do coroutine.yield(i) i = i + 1 end end)
         local sum = 0
         for n = 1, 100000 do
           local _, i = coroutine.resume(numbers)
           sum = sum + i
         end
         return sum",
        4_999_950_000,
    ),
    (
        "mandelbrot",
        "(define (inside? cr ci) (let loop ((zr 0.0) (zi 0.0) (n 0))
           (cond ((= n 50) #t) ((> (+ (* zr zr) (* zi zi)) 4.0) #f)
                 (else (loop (+ (- (* zr zr) (* zi zi)) cr) (+ (* 2.0 zr zi) ci) (+ n 1))))))
         (let y ((i 0) (sum 0)) (if (= i 100) sum
           (y (+ i 1) (let x ((j 0) (sum sum)) (if (= j 100) sum
             (x (+ j 1) (if (inside? (- (/ j 40.0) 2.0) (- (/ i 50.0) 1.0)) (+ sum 1) sum)))))))",
        "local function inside(cr, ci)
           local zr, zi, n = 0.0, 0.0, 0
           while n < 50 do
             if zr * zr + zi * zi > 4.0 then return false end
             local next = zr * zr - zi * zi + cr
             zi = 2.0 * zr * zi + ci
             zr = next
             n = n + 1
           end
           return true
         end
         local sum = 0
         for i = 0, 99 do
           for j = 0, 99 do if inside(j / 40.0 - 2.0, i / 50.0 - 1.0) then sum = sum + 1 end end
         end
         return sum",
        3190,
    ),
];

/// The thread's CPU time in milliseconds.
fn cpu_ms() -> f64 {
    let mut t = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the call writes one timespec.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut t) };
    t.tv_sec as f64 * 1e3 + t.tv_nsec as f64 / 1e6
}

/// The time that a program took, and the collector's share of it. (Which the heap takes by the wall.)
fn scheme(text: &str, answer: i64, mode: Mode) -> (f64, f64) {
    let mut scheme = Scheme::new(Config::new().mode(mode));
    let (begin, wall) = (cpu_ms(), Instant::now());
    let got = scheme.run(text).expect("the program is right");
    let (took, wall) = (cpu_ms() - begin, wall.elapsed().as_nanos() as f64);
    assert_eq!(got, answer.to_string(), "{text}");
    let s = scheme.stats();
    (took, (s.stw.ns_sum + s.assists.ns_sum + s.sweeps.ns_sum + s.minors.ns_sum) as f64 / wall)
}

fn lua(text: &str, answer: i64) -> f64 {
    let mut lua = Lua::full();
    let begin = cpu_ms();
    let executor = lua
        .try_enter(|ctx| {
            let program = Closure::load(ctx, None, text.as_bytes())?;
            Ok(ctx.stash(Executor::start(ctx, program.into(), ())))
        })
        .expect("the program is right");
    let got = lua.execute::<i64>(&executor).expect("the program is right");
    let took = cpu_ms() - begin;
    assert_eq!(got, answer, "{text}");
    took
}

fn main() {
    let filter = std::env::args().nth(1).unwrap_or_default();
    let rounds: usize = std::env::var("ROUNDS").ok().and_then(|r| r.parse().ok()).unwrap_or(5);
    let mut csv =
        String::from("program,scheme ms,least,most,generational ms,piccolo ms,least,most,scheme/piccolo,gc share\n");
    println!("CPU ms: median (least..most)");
    println!(
        "program        Scheme                     generational   piccolo                    Scheme/piccolo  GC share"
    );
    let mut product = 0.0;
    let mut count = 0;
    for (name, ours, theirs, answer) in PROGRAMS.iter().filter(|p| p.0.contains(&filter)) {
        let mut times = [const { Vec::new() }; 3];
        let mut share = 0.0;
        for _ in 0..rounds {
            let (took, of_gc) = scheme(ours, *answer, Mode::Incremental);
            share = of_gc;
            times[0].push(took);
            times[1].push(scheme(ours, *answer, Mode::Generational).0);
            times[2].push(lua(theirs, *answer));
        }
        times.iter_mut().for_each(|t| t.sort_by(f64::total_cmp));
        let [(a, al, am), (g, ..), (p, pl, pm)] = times.map(|t| (t[rounds / 2], t[0], t[rounds - 1]));
        product += (a / p).ln();
        count += 1;
        let (ours, theirs) = (format!("{a:8.1} ({al:.1}..{am:.1})"), format!("{p:8.1} ({pl:.1}..{pm:.1})"));
        println!("{name:<12} {ours:<28} {g:>10.1}   {theirs:<28} {:>8.2} {:>12.0}%", a / p, share * 100.0);
        csv += &format!("{name},{a:.1},{al:.1},{am:.1},{g:.1},{p:.1},{pl:.1},{pm:.1},{:.2},{share:.3}\n", a / p);
    }
    println!("geometric mean of the ratios: {:.2}", (product / f64::from(count)).exp());
    if let Some(path) = std::env::var_os("EXECTRACE_RESULTS") {
        std::fs::write(path, csv).expect("the results can be written");
    }
}
