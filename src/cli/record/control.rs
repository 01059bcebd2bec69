//! Commands to a program that is being recorded: the socket of `record --ctl`, and what comes of each line on it.
//!
//! The library in the program listens on a socket of its own in the spool directory, and starts and stops. Here are the names of files,
//! the names of functions, and all clients: each has a thread and a time limit, so that one that hangs is in nobody's way.

use super::spool::{self, Names, Numbers, Raw, Spool};
use crate::outcome::Failure;
use serde_json::{Value, json};
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long a client may take to say what it wants, and to take the answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long the program may take for an answer. A start or a stop takes it milliseconds; a busy machine has other things to do.
const PROGRAM_PATIENCE: Duration = Duration::from_secs(60);
/// How long a program that was started a moment ago may take to listen.
const BEGIN_PATIENCE: Duration = Duration::from_secs(10);
/// The longest line: a command and a path.
const LINE_BYTES: u64 = 8 << 10;

/// The socket, and what it takes to do what is asked on it.
pub struct Server {
    listener: UnixListener,
    path: PathBuf,
    shared: Arc<Shared>,
}

struct Shared {
    spool: Spool,
    output: PathBuf,
    names: Names,
    /// The program's process; 0 before it is there.
    process: AtomicU32,
    over: AtomicBool,
    /// Held by whoever does what a client asks for: one at a time.
    done: Mutex<Done>,
}

/// What is finished.
#[derive(Debug, Default)]
pub struct Done {
    /// How many traces of the program's own there are.
    pub numbers: Numbers,
    pub traces: Vec<PathBuf>,
    pub snapshots: Vec<PathBuf>,
}

impl Server {
    /// Makes the socket, which only this user can connect to. One that nobody listens on any more is replaced.
    pub fn bind(path: &Path, spool: &Spool, output: &Path, names: &Names) -> Result<Server, Failure> {
        let cannot = |why: String| {
            let hint = "name a socket in a directory that can be written, --ctl /tmp/app.ctl";
            Failure::usage(format_args!("cannot listen on {}: {why}", path.display()), hint)
        };
        let path = &std::path::absolute(path).map_err(|e| cannot(e.to_string()))?;
        match fs::symlink_metadata(path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(cannot(e.to_string())),
            Ok(there) if !std::os::unix::fs::FileTypeExt::is_socket(&there.file_type()) => {
                return Err(cannot("there is something else under that name".to_owned()));
            }
            Ok(_) => match connect(path) {
                Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => {}
                Ok(_) => return Err(cannot("another program is controlled by it".to_owned())),
                Err(e) => return Err(cannot(e.to_string())),
            },
        }
        Server::bind_there(path, spool, output, names).map_err(|e| cannot(e.to_string()))
    }

    /// Made in a directory that nobody else can look into, and put in its place when nobody else can connect.
    fn bind_there(path: &Path, spool: &Spool, output: &Path, names: &Names) -> io::Result<Server> {
        let mut dir = path.as_os_str().to_owned();
        dir.push(format!(".{}", std::process::id()));
        let dir = PathBuf::from(dir);
        let made = dir.join("ctl");
        let create = || fs::DirBuilder::new().mode(0o700).create(&dir);
        match create() {
            // Left by a process of the same number that was killed.
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                let _ = fs::remove_file(&made);
                fs::remove_dir(&dir)?;
                create()?;
            }
            other => other?,
        }
        let listener = with_short(&made, |short| UnixListener::bind(short)).and_then(|listener| {
            fs::set_permissions(&made, fs::Permissions::from_mode(0o600))?;
            fs::rename(&made, path)?;
            Ok(listener)
        });
        let _ = fs::remove_file(&made);
        let _ = fs::remove_dir(&dir);
        Ok(Server::new(listener?, path, spool, output, names))
    }

    fn new(listener: UnixListener, path: &Path, spool: &Spool, output: &Path, names: &Names) -> Server {
        let shared = Shared {
            spool: spool.clone(),
            output: std::path::absolute(output).unwrap_or_else(|_| output.to_owned()),
            names: names.clone(),
            process: AtomicU32::new(0),
            over: AtomicBool::new(false),
            done: Mutex::default(),
        };
        Server { listener, path: path.to_owned(), shared: Arc::new(shared) }
    }

    /// Serves while `f` runs the program; `f` is given where to tell its process. Clients that wait when that ends are told so.
    pub fn during<R>(self, f: impl FnOnce(&dyn Fn(u32)) -> R) -> (R, Done) {
        let Server { listener, path, shared } = self;
        let accepting = shared.clone();
        let acceptor = std::thread::spawn(move || {
            for client in listener.incoming() {
                if accepting.over.load(Ordering::Acquire) {
                    return;
                }
                let shared = accepting.clone();
                match client {
                    Ok(client) => {
                        // A client whose thread cannot be made is left by the end of its connection.
                        let _ = std::thread::Builder::new().spawn(move || shared.serve(&client));
                    }
                    // No descriptors, say. It is no use to ask at once.
                    Err(_) => std::thread::sleep(Duration::from_millis(10)),
                }
            }
        });
        let result = f(&|process| shared.process.store(process, Ordering::Release));
        // What is being done is finished first; what comes after that is told that it is over.
        let mut done = shared.done.lock().unwrap_or_else(PoisonError::into_inner);
        shared.over.store(true, Ordering::Release);
        let done_now = std::mem::take(&mut *done);
        drop(done);
        // Wakes the acceptor.
        let woken = connect(&path);
        let _ = fs::remove_file(&path);
        if woken.is_ok() {
            let _ = acceptor.join();
        }
        (result, done_now)
    }
}

impl Shared {
    fn serve(&self, client: &UnixStream) {
        let limits = client.set_read_timeout(Some(PATIENCE)).and_then(|()| client.set_write_timeout(Some(PATIENCE)));
        let mut line = Vec::new();
        let read = BufReader::new(client.take(LINE_BYTES)).read_until(b'\n', &mut line);
        if limits.is_err() || read.is_err() || line.pop() != Some(b'\n') {
            return;
        }
        let answer = self.answer(&line).unwrap_or_else(|why| json!({"ok": false, "error": why}));
        // A client that does not wait for the answer does not want it.
        let _ = writeln!(&*client, "{answer}");
    }

    fn answer(&self, line: &[u8]) -> Result<Value, String> {
        let (command, rest) = match line.iter().position(|&b| b == b' ') {
            Some(at) => (&line[..at], Some(&line[at + 1..])),
            None => (line, None),
        };
        let mut done = self.done.lock().unwrap_or_else(PoisonError::into_inner);
        if self.over.load(Ordering::Acquire) {
            return Err("the program has ended".to_owned());
        }
        match command {
            b"start" => self.start(),
            b"stop" => self.stop(&mut done),
            b"status" => self.status(&done),
            b"snapshot" => self.snapshot(&mut done, rest.map(|path| Path::new(std::ffi::OsStr::from_bytes(path)))),
            other => Err(format!("unknown command {:?}", String::from_utf8_lossy(other))),
        }
    }

    /// Has every process do it. What the program's own process answers, and those of the others that have done it.
    fn all(&self, command: &str) -> Result<(Value, Vec<Value>), String> {
        let main = self.listening()?;
        let own = self.ask(main, command)?;
        let others = self.spool.listening().into_iter().filter(|&process| process != main);
        // One that has ended meanwhile, or does already what is asked, is no reason to stop here.
        Ok((own, others.filter_map(|process| self.ask(process, command).ok()).collect()))
    }

    /// The program's process, as soon as it listens.
    fn listening(&self) -> Result<u32, String> {
        let end = Instant::now() + BEGIN_PATIENCE;
        loop {
            let process = self.process.load(Ordering::Acquire);
            if process != 0 && self.spool.listening().contains(&process) {
                return Ok(process);
            }
            if Instant::now() > end {
                return Err("the program does not listen: it has not begun, or cannot be recorded".to_owned());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn ask(&self, process: u32, command: &str) -> Result<Value, String> {
        let path = self.spool.dir().join(format!("{process}.ctl"));
        let ended = |e: io::Error| match e.kind() {
            io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound | io::ErrorKind::UnexpectedEof => {
                "the program has ended".to_owned()
            }
            _ => format!("the program does not answer: {e}"),
        };
        let answer = ask(&path, command.as_bytes(), PROGRAM_PATIENCE).map_err(ended)?;
        match answer["ok"].as_bool() {
            Some(true) => Ok(answer),
            _ => Err(answer["error"].as_str().unwrap_or("the program does not understand").to_owned()),
        }
    }

    fn start(&self) -> Result<Value, String> {
        let (own, _) = self.all("start")?;
        Ok(json!({"ok": true, "state": "recording", "process": own["process"]}))
    }

    fn stop(&self, done: &mut Done) -> Result<Value, String> {
        let (own, others) = self.all("stop")?;
        let mut symbolizer = self.names.symbolizer();
        let mut traces = Vec::new();
        let main = own["process"].as_u64();
        for answer in std::iter::once(&own).chain(&others) {
            let Some(raw) = self.raw(answer) else { continue };
            let is_main = answer["process"].as_u64() == main;
            let path = match is_main {
                true => done.numbers.next(&self.output),
                false => done.numbers.next_of(raw.process, &self.output),
            };
            match self.spool.finish_one(&raw, &path, &mut symbolizer) {
                Ok(None) => {}
                Ok(Some(_)) => {
                    done.numbers.used((!is_main).then_some(raw.process));
                    traces.push(path);
                }
                Err(e) => return Err(format!("{}: {e}", path.display())),
            }
        }
        let answer = json!({"ok": true, "state": "paused", "process": own["process"], "files": texts(&traces)});
        done.traces.append(&mut traces);
        Ok(answer)
    }

    fn status(&self, done: &Done) -> Result<Value, String> {
        let own = self.ask(self.listening()?, "status")?;
        let size = |path: PathBuf| fs::metadata(path).map_or(0, |m| m.len());
        let bytes = self.raw(&own).map_or(0, |raw| size(raw.path.clone()) + size(spool::with(&raw.path, ".old")));
        let next = (own["state"] == "recording").then(|| done.numbers.next(&self.output).display().to_string());
        Ok(json!({
            "ok": true,
            "state": own["state"],
            "process": own["process"],
            "processes": self.spool.listening(),
            "file": next,
            "bytes": bytes,
            "files": texts(&done.traces),
            "snapshots": texts(&done.snapshots),
        }))
    }

    fn snapshot(&self, done: &mut Done, to: Option<&Path>) -> Result<Value, String> {
        let own = self.ask(self.listening()?, "snapshot")?;
        let raw = self.raw(&own).ok_or("nothing is recorded yet")?;
        let path = match to {
            Some(path) if path.is_absolute() => path.to_owned(),
            Some(_) => return Err("a snapshot needs an absolute path".to_owned()),
            None => self.snapshot_path(done.snapshots.len() + 1),
        };
        match spool::finish(&raw, &path, &mut self.names.symbolizer(), true) {
            Ok(Some(_)) => {}
            Ok(None) => return Err("nothing is recorded yet".to_owned()),
            Err(e) => return Err(format!("{}: {e}", path.display())),
        }
        done.snapshots.push(path.clone());
        Ok(json!({"ok": true, "state": "recording", "process": own["process"], "files": texts(&[path])}))
    }

    /// `app.snapshot-1.trace`.
    fn snapshot_path(&self, from: usize) -> PathBuf {
        let stem = self.output.file_stem().unwrap_or_default().to_string_lossy().replace("%n", "");
        let path = |n: usize| self.output.with_file_name(format!("{stem}.snapshot-{n}.trace"));
        (from..).map(path).find(|path| !path.exists()).unwrap_or_else(|| path(from))
    }

    /// What a process writes to, or has written to, by its answer.
    fn raw(&self, answer: &Value) -> Option<Raw> {
        let path = Path::new(answer["file"].as_str()?);
        let process = u32::try_from(answer["process"].as_u64()?).ok()?;
        self.spool.raws().ok()?.into_iter().find(|raw| raw.process == process && raw.path == path)
    }
}

fn texts(paths: &[PathBuf]) -> Vec<String> {
    paths.iter().map(|path| path.display().to_string()).collect()
}

/// Sends a line and waits for the answer.
pub fn ask(path: &Path, line: &[u8], patience: Duration) -> io::Result<Value> {
    let mut stream = connect(path)?;
    stream.set_read_timeout(Some(patience))?;
    stream.set_write_timeout(Some(patience))?;
    stream.write_all(&[line, b"\n"].concat())?;
    let mut answer = String::new();
    BufReader::new(&stream).read_line(&mut answer)?;
    if !answer.ends_with('\n') {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    serde_json::from_str(&answer).map_err(io::Error::from)
}

/// Connects to a socket by a path of any length.
fn connect(path: &Path) -> io::Result<UnixStream> {
    with_short(path, |short| UnixStream::connect(short))
}

/// Runs `f` with a path to the same file that an address of a socket has room for: through the open directory.
fn with_short<R>(path: &Path, f: impl FnOnce(&Path) -> io::Result<R>) -> io::Result<R> {
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let dir = File::open(dir)?;
    f(&Path::new("/proc/thread-self/fd").join(dir.as_raw_fd().to_string()).join(name))
}
