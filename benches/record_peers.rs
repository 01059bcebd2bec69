//! What `exectrace record` costs real programs, beside heaptrack, memray (of Python) and `strace -f -c`, in one run and in turns.
//!
//! `cargo bench --bench record_peers [-- PROGRAM...]` prints a table; `EXECTRACE_RESULTS` names a file for the figures as CSV,
//! `EXECTRACE_ROUNDS` says how many rounds there are (5), `EXECTRACE_VARIANTS` which variants, with commas. Programs and rivals that
//! are not installed are left out, and that is said.
//!
//! What is measured is the CPU time, user and system, of the program and of all processes of the tool beside it, until all of
//! them have ended, and the wall's time. Servers are given a fixed number of requests by a client, whose CPU time is not counted; the
//! wall's time is the client's. For exectrace the preload library is given to the program by the environment: what `exectrace record` does when the
//! program has ended (it finds names) is measured by itself, as `names`.
//!
//! Each program does what it does in one process: heaptrack does not follow children.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A program and its work.
struct Work {
    name: &'static str,
    /// Needs these to be installed.
    needs: &'static [&'static str],
    /// Shell: makes what the program needs, in an empty directory that is the current one.
    setup: &'static str,
    /// The program and its arguments.
    command: &'static [&'static str],
    /// Of a server: a command that succeeds when it answers, the requests, and what stops it.
    client: Option<[&'static str; 3]>,
}

const WORKS: &[Work] = &[
    Work {
        name: "redis",
        needs: &["redis-server", "redis-benchmark", "redis-cli"],
        setup: "",
        command: &["redis-server", "--port", "7491", "--save", "", "--appendonly", "no"],
        client: Some([
            "redis-cli -p 7491 ping",
            "redis-benchmark -p 7491 -q -n 50000 -c 20 -r 10000 -t set,get,incr,lpush,sadd,lrange_100",
            "redis-cli -p 7491 shutdown nosave",
        ]),
    },
    Work {
        name: "nginx",
        needs: &["nginx", "ab", "curl"],
        setup: "mkdir logs; chmod 755 .; head -c 20000 /dev/zero | tr '\\0' x > file.txt
            root=; [ \"$(id -u)\" != 0 ] || root='user root;'
            echo \"$root daemon off; master_process off; pid $PWD/pid; error_log $PWD/logs/e; events { worker_connections 256; }
            http { access_log $PWD/logs/a; client_body_temp_path $PWD/t1; proxy_temp_path $PWD/t2; fastcgi_temp_path $PWD/t3;
            uwsgi_temp_path $PWD/t4; scgi_temp_path $PWD/t5; keepalive_requests 1000000; sendfile on; gzip on; gzip_types text/plain;
            server { listen 127.0.0.1:7492; root $PWD; } }\" > conf",
        command: &["nginx", "-c", "$PWD/conf", "-e", "$PWD/logs/e"],
        client: Some([
            "curl -sf http://127.0.0.1:7492/file.txt",
            "ab -q -k -n 20000 -c 20 http://127.0.0.1:7492/file.txt &&
             ab -q -k -n 3000 -c 20 -H 'Accept-Encoding: gzip' http://127.0.0.1:7492/file.txt",
            "kill -QUIT $(cat pid)",
        ]),
    },
    Work {
        name: "node server",
        needs: &["node", "ab", "curl"],
        setup: r#"cat > server.js <<'JS'
const http = require('http'), zlib = require('zlib');
const server = http.createServer((q, r) => {
    if (q.url === '/stop') { r.end(); setImmediate(() => process.exit(0)); return; }
    const body = JSON.stringify(Array.from({ length: 100 }, (_, i) => ({ i, name: 'n' + i })));
    if (q.url === '/zip') zlib.gzip(body, (e, z) => r.end(z)); else r.end(body);
});
server.listen(7493, '127.0.0.1');
JS"#,
        command: &["node", "server.js"],
        client: Some([
            "curl -sf http://127.0.0.1:7493/",
            "ab -q -k -n 6000 -c 10 http://127.0.0.1:7493/ && ab -q -k -n 2000 -c 10 http://127.0.0.1:7493/zip",
            "curl -s http://127.0.0.1:7493/stop",
        ]),
    },
    Work {
        name: "python3",
        needs: &["python3"],
        setup: r#"cat > work.py <<'PY'
import json, re, collections, threading, queue
class Node:
    def __init__(self, k): self.k, self.left, self.right = k, None, None
    def insert(self, k):
        n = self
        while True:
            if k < n.k:
                if n.left is None: n.left = Node(k); return
                n = n.left
            else:
                if n.right is None: n.right = Node(k); return
                n = n.right
def tree(n):
    root, x = Node(n // 2), 12345
    for _ in range(n):
        x = (x * 1103515245 + 12345) & 0x7fffffff
        root.insert(x % n)
doc = [{"id": i, "name": "name of %d" % i, "tags": ["a%d" % i, "b"], "at": [i + .5, i * 3, None]} for i in range(2000)]
for _ in range(15):
    text = json.dumps(doc, indent=1)
    assert json.loads(text) == doc
    words = collections.Counter(re.findall(r"\w+", text))
tree(40000)
q = queue.Queue(10)
def produce():
    for i in range(20000): q.put(bytes(i % 2000 + 600))
    q.put(None)
t = threading.Thread(target=produce); t.start()
while q.get() is not None: pass
t.join()
PY"#,
        command: &["$PYTHON", "work.py"],
        client: None,
    },
    Work {
        name: "sqlite3",
        needs: &["sqlite3"],
        setup: "echo \"create table t(a integer primary key, b text, c real);
            insert into t with recursive n(i) as (select 1 union all select i + 1 from n where i < 250000) select i, hex(i * 7919 % 65537), i * 0.5 from n;
            create index ib on t(b); select b, count(*), sum(c) from t group by b order by 2 desc, 1 limit 5;
            update t set b = lower(b) where a % 3 = 0; select count(*), count(distinct b) from t;\" > q.sql",
        command: &["sqlite3", ":memory:", ".read q.sql"],
        client: None,
    },
    Work {
        name: "git log -p",
        needs: &["git"],
        setup: "git clone -q --bare --no-local \"$ROOT\" r.git",
        command: &["git", "-C", "r.git", "log", "-p", "--stat", "-C", "--find-copies-harder"],
        client: None,
    },
    Work {
        name: "gcc (cc1)",
        needs: &["gcc"],
        setup: r#"i=0; while [ $i -lt 120 ]; do
            echo "struct s$i { int a[$((i % 7 + 1))]; double d; }; double f$i(struct s$i *p, int n) { double r = 0;
            for (int i = 0; i < n; i++) { for (int j = 0; j < $((i % 7 + 1)); j++) r += p[i].a[j] * p[i].d; if (r > $i) r /= 3;
            switch (i % 5) { case 0: r++; break; case 1: r *= 2; break; default: r -= i; } } return r; }"; i=$((i + 1)); done > x.c"#,
        command: &["$CC1", "-quiet", "-O2", "x.c", "-o", "x.s"],
        client: None,
    },
];

/// What a program is run with.
struct Variant {
    name: &'static str,
    needs: &'static [&'static str],
    how: How,
}

enum How {
    Bare,
    /// The library, with this in `EXECTRACE_HEAP`; CPU samples, system calls and waits are recorded as by default.
    Ours(&'static str),
    /// A command that is put before the program.
    Before(&'static [&'static str]),
    /// Options of memray, which takes the place of the interpreter.
    Memray(&'static [&'static str]),
}

const VARIANTS: &[Variant] = &[
    Variant { name: "bare", needs: &[], how: How::Bare },
    Variant { name: "curve", needs: &[], how: How::Ours("curve") },
    Variant { name: "sampled", needs: &[], how: How::Ours("sampled") },
    Variant { name: "exact", needs: &[], how: How::Ours("exact") },
    Variant {
        name: "heaptrack",
        needs: &["heaptrack"],
        how: How::Before(&["heaptrack", "--output", "$OUT/heaptrack"]),
    },
    Variant { name: "memray", needs: &["memray"], how: How::Memray(&[]) },
    Variant { name: "memray --native", needs: &["memray"], how: How::Memray(&["--native"]) },
    Variant { name: "strace -f -c", needs: &["strace"], how: How::Before(&["strace", "-f", "-c", "-o", "/dev/null"]) },
];

#[derive(Clone, Copy, Default)]
struct Taken {
    cpu: f64,
    wall: f64,
    /// CPU time of finding names afterwards.
    names: f64,
    /// What was written.
    bytes: u64,
}

/// Variables of the tables above, and what they stand for here.
type Places = BTreeMap<&'static str, String>;

fn expand(text: &str, places: &Places) -> String {
    places.iter().fold(text.to_owned(), |text, (name, value)| text.replace(&format!("${name}"), value))
}

fn shell(script: &str, dir: &Path, places: &Places) -> bool {
    let mut sh = Command::new("sh");
    sh.args(["-c", script]).current_dir(dir).envs(places.iter().filter(|(k, _)| **k != "PWD"));
    sh.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

fn output(program: &str, args: &[&str]) -> Option<String> {
    let output = Command::new(program).args(args).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn is_installed(program: &str, places: &Places) -> bool {
    match program {
        "memray" => output(&places["PYTHON"], &["-m", "memray", "--version"]).is_some(),
        _ => output("sh", &["-c", &format!("command -v {program}")]).is_some(),
    }
}

/// CPU seconds of a child that has ended, with those of its children that it has waited for.
fn wait(child: Child) -> (f64, bool) {
    let mut status = 0;
    // SAFETY: all-zero is a valid rusage.
    let mut used: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: a child that nobody has waited for; the kernel writes to the two.
    let pid = unsafe { libc::wait4(child.id() as i32, &mut status, 0, &mut used) };
    assert_eq!(pid, child.id() as i32, "the child is ours");
    let s = |t: libc::timeval| t.tv_sec as f64 + t.tv_usec as f64 / 1e6;
    (s(used.ru_utime) + s(used.ru_stime), libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0)
}

/// Sizes of the files of a directory, which it removes.
fn emptied(dir: &Path) -> u64 {
    let files = std::fs::read_dir(dir).into_iter().flatten().flatten();
    files
        .map(|file| {
            let bytes = file.metadata().map_or(0, |m| m.len());
            let _ = std::fs::remove_file(file.path());
            bytes
        })
        .sum()
}

fn one(work: &Work, variant: &Variant, dir: &Path, places: &Places) -> Result<Taken, String> {
    let out = Path::new(&places["OUT"]);
    let words: Vec<String> = work.command.iter().map(|word| expand(word, places)).collect();
    let before: Vec<String> = match &variant.how {
        How::Bare | How::Ours(_) => Vec::new(),
        How::Before(words) => words.iter().map(|word| expand(word, places)).collect(),
        How::Memray(options) => {
            let run = ["-m", "memray", "run", "-q", "-f", "-o", "$OUT/memray"];
            let all = std::iter::once("$PYTHON").chain(run).chain(options.iter().copied());
            all.map(|word| expand(word, places)).collect()
        }
    };
    // memray runs the script itself.
    let own = if matches!(variant.how, How::Memray(_)) { &words[1..] } else { &words[..] };
    let mut all = before.iter().chain(own);
    let mut command = Command::new(all.next().expect("a program"));
    command.args(all).current_dir(dir).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.env("GIT_PAGER", "cat");
    if let How::Ours(heap) = variant.how {
        command.env("LD_PRELOAD", &places["LIBRARY"]).env("EXECTRACE_HEAP", heap);
        command.env("EXECTRACE_OUT", out.join("%p.raw")).env("EXECTRACE_FOLLOW", "1");
    }
    let begin = Instant::now();
    let child = command.spawn().map_err(|e| e.to_string())?;
    let mut wall = None;
    if let Some([ready, requests, stop]) = work.client {
        let patience = Instant::now() + Duration::from_secs(60);
        while !shell(ready, dir, places) {
            if Instant::now() > patience {
                let _ = { child }.kill();
                return Err("the server does not answer".to_owned());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        let begin = Instant::now();
        let is_good = shell(requests, dir, places);
        wall = Some(begin.elapsed().as_secs_f64());
        shell(stop, dir, places);
        if !is_good {
            let _ = { child }.kill();
            return Err("the client failed".to_owned());
        }
    }
    let (cpu, is_good) = wait(child);
    let wall = wall.unwrap_or_else(|| begin.elapsed().as_secs_f64());
    if !is_good {
        return Err("the program failed".to_owned());
    }
    let names = if let How::Ours(_) = variant.how { names(out, places)? } else { 0.0 };
    Ok(Taken { cpu, wall, names, bytes: emptied(out) })
}

/// Finds the names of the largest trace there, and sees that it is one: CPU seconds.
fn names(out: &Path, places: &Places) -> Result<f64, String> {
    let files = std::fs::read_dir(out).into_iter().flatten().flatten();
    let largest = files.max_by_key(|file| file.metadata().map_or(0, |m| m.len())).ok_or("no trace")?;
    let named = Path::new(&places["NAMED"]);
    let mut command = Command::new(env!("CARGO_BIN_EXE_exectrace"));
    command.arg("symbolize").arg(largest.path()).arg("-o").arg(named);
    let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().map_err(|e| e.to_string())?;
    let (cpu, is_good) = wait(child);
    let path = named.to_str().unwrap_or_default();
    if !is_good || output(env!("CARGO_BIN_EXE_exectrace"), &["check", path]).is_none() {
        return Err("the trace is not valid".to_owned());
    }
    let _ = std::fs::remove_file(named);
    Ok(cpu)
}

fn median(values: impl Iterator<Item = f64>) -> (f64, f64, f64) {
    let mut v: Vec<f64> = values.collect();
    v.sort_by(f64::total_cmp);
    (v[v.len() / 2], v[0], v[v.len() - 1])
}

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    let variants = std::env::var("EXECTRACE_VARIANTS").ok();
    let rounds = std::env::var("EXECTRACE_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(5);
    let root = env!("CARGO_MANIFEST_DIR");
    let scratch = std::env::temp_dir().join(format!("record-peers-{}", std::process::id()));
    let out = scratch.join("out");
    std::fs::create_dir_all(&out).expect("a directory");
    let text = |path: &Path| path.to_str().expect("a plain path").to_owned();
    let mut places = Places::from([
        ("ROOT", root.to_owned()),
        ("OUT", text(&out)),
        ("NAMED", text(&scratch.join("named.trace"))),
        ("PYTHON", output("python3", &["-c", "import sys; print(sys.executable)"]).unwrap_or_default()),
        ("CC1", output("gcc", &["-print-prog-name=cc1"]).unwrap_or_default()),
        ("LIBRARY", output(env!("CARGO_BIN_EXE_exectrace"), &["record", "--print-library"]).expect("a library")),
    ]);
    let mut csv = String::from("program,variant,cpu s,wall s,cpu ratio,min,max,wall ratio,names cpu s,bytes,rounds\n");
    for work in
        WORKS.iter().filter(|w| wanted.is_empty() || wanted.iter().any(|name| w.name.starts_with(name.as_str())))
    {
        if let Some(missing) = work.needs.iter().find(|program| !is_installed(program, &places)) {
            println!("{}: not run, there is no {missing}", work.name);
            continue;
        }
        let dir: PathBuf = scratch.join(work.name.replace(' ', "-"));
        std::fs::create_dir_all(&dir).expect("a directory");
        places.insert("PWD", text(&dir));
        if !shell(work.setup, &dir, &places) {
            println!("{}: not run, its setup failed", work.name);
            continue;
        }
        let chosen = |v: &&Variant| {
            let is_pythons = !matches!(v.how, How::Memray(_)) || work.name == "python3";
            let is_wanted = variants.as_ref().is_none_or(|all| v.name == "bare" || all.split(',').any(|w| w == v.name));
            is_pythons && is_wanted && v.needs.iter().all(|program| is_installed(program, &places))
        };
        let variants: Vec<&Variant> = VARIANTS.iter().filter(chosen).collect();
        // Once for the caches; then of each variant what each round took.
        let _ = one(work, &VARIANTS[0], &dir, &places);
        let mut taken: Vec<Vec<Result<Taken, String>>> = vec![Vec::new(); variants.len()];
        for _ in 0..rounds {
            for (variant, taken) in variants.iter().zip(&mut taken) {
                taken.push(one(work, variant, &dir, &places));
                emptied(&out);
            }
        }
        report(work, &variants, &taken, &mut csv);
    }
    let _ = std::fs::remove_dir_all(&scratch);
    if let Some(path) = std::env::var_os("EXECTRACE_RESULTS") {
        std::fs::write(path, csv).expect("the results can be written");
    }
}

/// Ratios are of each round to the bare program in the same round.
fn report(work: &Work, variants: &[&Variant], taken: &[Vec<Result<Taken, String>>], csv: &mut String) {
    let good = |rounds: &[Result<Taken, String>]| rounds.iter().cloned().collect::<Result<Vec<Taken>, String>>();
    let bare = match good(&taken[0]) {
        Ok(bare) => bare,
        Err(e) => return println!("{} bare: {e}", work.name),
    };
    for (variant, rounds) in variants.iter().zip(taken) {
        let rounds = match good(rounds) {
            Ok(rounds) => rounds,
            Err(e) => {
                println!("{:<16} {:<16} {e}", work.name, variant.name);
                continue;
            }
        };
        let pairs = || rounds.iter().zip(&bare);
        let (ratio, min, max) = median(pairs().map(|(with, bare)| with.cpu / bare.cpu));
        let wall_ratio = median(pairs().map(|(with, bare)| with.wall / bare.wall)).0;
        let (cpu, wall) = (median(rounds.iter().map(|t| t.cpu)).0, median(rounds.iter().map(|t| t.wall)).0);
        let (names, bytes) =
            (median(rounds.iter().map(|t| t.names)).0, median(rounds.iter().map(|t| t.bytes as f64)).0);
        println!(
            "{:<16} {:<16} CPU {cpu:>7.2} s {ratio:>6.3}x ({min:.3}-{max:.3})  wall {wall:>7.2} s {wall_ratio:>6.3}x  names {names:.2} s  {:.1} MB",
            work.name,
            variant.name,
            bytes / 1e6
        );
        let _ = writeln!(
            csv,
            "{},{},{cpu:.3},{wall:.3},{ratio:.3},{min:.3},{max:.3},{wall_ratio:.3},{names:.2},{bytes},{}",
            work.name,
            variant.name,
            rounds.len()
        );
    }
}
