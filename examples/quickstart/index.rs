//! The index: which word is how often in which file, built by several threads and asked by others meanwhile.

use crate::corpus;
use crate::text;
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, RwLock};
use std::thread;

/// So many locks stand between writers and readers.
const SHARDS: usize = 16;
/// The walk may be so many files ahead of the workers.
const QUEUE: usize = 64;

/// A word's count in one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Posting {
    pub file: u32,
    pub count: u32,
}

type Shard = HashMap<Box<str>, Vec<Posting>>;

/// How far the index has come.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    pub files: Vec<PathBuf>,
    /// Files that have been indexed, of those found so far.
    pub files_done: usize,
    pub bytes_done: u64,
    /// How many could not be read.
    pub failed: usize,
    pub is_complete: bool,
}

/// A file that has all words of a query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hit {
    pub file: u32,
    /// How often the words stand in it, in sum.
    pub count: u64,
}

pub struct Index {
    shards: [RwLock<Shard>; SHARDS],
    hasher: RandomState,
    pub progress: Mutex<Progress>,
    moved: Condvar,
}

impl Index {
    pub fn new() -> Index {
        Index {
            shards: std::array::from_fn(|_| RwLock::default()),
            hasher: RandomState::new(),
            progress: Mutex::default(),
            moved: Condvar::new(),
        }
    }

    /// The number of files, and whether these are all.
    pub fn progress(&self) -> Progress {
        self.progress.lock().unwrap().clone()
    }

    /// Whether all has been indexed.
    pub fn is_complete(&self) -> bool {
        self.progress.lock().unwrap().is_complete
    }

    /// Waits until so many files are in the index, or all.
    pub fn wait_for(&self, files: usize) {
        let p = self.progress.lock().unwrap();
        let _p = self.moved.wait_while(p, |p| p.files_done < files && !p.is_complete).unwrap();
    }

    /// The files that contain all of the words, those with most of them first.
    pub fn search(&self, words: &[&str]) -> Vec<Hit> {
        let mut sum: HashMap<u32, (usize, u64)> = HashMap::new();
        for word in words {
            let shard = self.shards[self.shard_of(word)].read().unwrap();
            for p in shard.get(*word).into_iter().flatten() {
                let entry = sum.entry(p.file).or_default();
                *entry = (entry.0 + 1, entry.1 + u64::from(p.count));
            }
        }
        let mut hits: Vec<Hit> = sum
            .into_iter()
            .filter(|(_, (found, _))| *found == words.len())
            .map(|(file, (_, count))| Hit { file, count })
            .collect();
        hits.sort_unstable_by_key(|h| (u64::MAX - h.count, h.file));
        hits
    }

    /// Words that are different, and their entries in all files.
    pub fn sizes(&self) -> (usize, usize) {
        let shards = self.shards.iter().map(|s| s.read().unwrap());
        shards.fold((0, 0), |(w, p), s| (w + s.len(), p + s.values().map(Vec::len).sum::<usize>()))
    }

    fn shard_of(&self, word: &str) -> usize {
        self.hasher.hash_one(word) as usize % SHARDS
    }

    /// Puts one file's words in. Each shard is locked once.
    fn add(&self, file: u32, text: &str, is_html: bool) {
        let mut counts: HashMap<&str, u32> = HashMap::new();
        exectrace::with_region("count words", || {
            text::for_each_word(text, is_html, |word| *counts.entry(word).or_default() += 1);
        });
        exectrace::with_region("merge", || {
            let mut sorted: [Vec<(&str, u32)>; SHARDS] = Default::default();
            for (word, count) in counts {
                sorted[self.shard_of(word)].push((word, count));
            }
            for (shard, words) in self.shards.iter().zip(sorted) {
                let mut shard = shard.write().unwrap();
                for (word, count) in words {
                    let posting = Posting { file, count };
                    match shard.get_mut(word) {
                        Some(list) => list.push(posting),
                        None => drop(shard.insert(word.into(), vec![posting])),
                    }
                }
            }
        });
    }

    fn done(&self, bytes: Option<usize>) {
        let mut p = self.progress.lock().unwrap();
        p.files_done += 1;
        match bytes {
            Some(bytes) => p.bytes_done += bytes as u64,
            None => p.failed += 1,
        }
        drop(p);
        self.moved.notify_all();
    }
}

/// Begins to index up to `max_bytes` of the text below `dir`. The thread that is returned ends when all is done.
pub fn build(index: &Arc<Index>, dir: &Path, max_bytes: u64, workers: usize) -> thread::JoinHandle<()> {
    let (index, dir) = (index.clone(), dir.to_path_buf());
    spawn("walk", move || {
        let (send, receive) = sync_channel(QUEUE);
        let receive = Arc::new(Mutex::new(receive));
        let workers: Vec<_> = (1..=workers)
            .map(|n| {
                let (index, receive) = (index.clone(), receive.clone());
                spawn(&format!("index-{n}"), move || work(&index, &receive))
            })
            .collect();
        find(&index, &dir, max_bytes, send);
        for w in workers {
            w.join().expect("an indexing thread panicked");
        }
        index.progress.lock().unwrap().is_complete = true;
        index.moved.notify_all();
    })
}

/// Sends the files to the workers; dropping the sender at the end tells them that these were all.
fn find(index: &Index, dir: &Path, max_bytes: u64, send: SyncSender<(u32, PathBuf)>) {
    let _region = exectrace::Region::new("walk");
    let mut bytes_sum = 0;
    corpus::walk(dir, |path, bytes| {
        bytes_sum += bytes;
        let id = {
            let mut p = index.progress.lock().unwrap();
            p.files.push(path.clone());
            p.files.len() as u32 - 1
        };
        send.send((id, path)).is_ok() && bytes_sum < max_bytes
    });
}

fn work(index: &Index, receive: &Mutex<Receiver<(u32, PathBuf)>>) {
    // The lock is held while its holder waits for a file: a plain way to share a receiver, which the trace shows.
    let next = || receive.lock().unwrap().recv();
    while let Ok((file, path)) = next() {
        let _region = exectrace::Region::new("index file");
        let text = match exectrace::with_region("read", || text::read_lower(&path)) {
            Ok(text) => text,
            Err(e) => {
                exectrace::log!("index", "{}: {e}", path.display());
                index.done(None);
                continue;
            }
        };
        if text.len() > 500_000 {
            exectrace::log!("index", "large: {} ({} bytes)", path.display(), text.len());
        }
        index.add(file, &text, text::is_html(&path));
        index.done(Some(text.len()));
    }
}

/// A thread with a name: the name is that of its goroutine in the trace.
pub fn spawn<T: Send + 'static>(name: &str, f: impl FnOnce() -> T + Send + 'static) -> thread::JoinHandle<T> {
    thread::Builder::new().name(name.into()).spawn(f).expect("cannot make a thread")
}
