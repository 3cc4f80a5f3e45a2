//! Fetches shards in the background, so that a job can begin with its first pictures before all
//! have arrived. A picture whose shard has not arrived is read separately, and its shard is fetched
//! next. Shards are checked once they have arrived completely. Single pictures cannot be checked,
//! so a damaged shard ends the job a little later.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, Once, OnceLock, PoisonError};
use std::time::Duration;

use super::cache::Cached;
use crate::corpus::shards::{self, CAPACITY, HEADER, Shard};
use crate::{Error, Result};

/// Shards that are read at the same time.
const AT_ONCE: usize = 4;

/// The shards of a corpus in object storage.
#[derive(Debug)]
pub struct Shards {
    inner: Arc<Inner>,
    begun: Once,
    process: u32,
}

#[derive(Debug)]
struct Inner {
    cached: Arc<Cached>,
    side: usize,
    slots: Vec<OnceLock<Result<Shard>>>,
    /// Numbers of shards that no thread reads yet, the next one in front.
    waiting: Mutex<VecDeque<usize>>,
    arrived: Condvar,
    stop: AtomicBool,
}

impl Shards {
    pub fn new(cached: Arc<Cached>) -> Shards {
        let count = cached.manifest.shards();
        let inner = Inner {
            side: cached.manifest.image_size,
            slots: (0..count).map(|_| OnceLock::new()).collect(),
            waiting: Mutex::new((0..count).collect()),
            arrived: Condvar::new(),
            stop: AtomicBool::new(false),
            cached,
        };
        Shards { inner: Arc::new(inner), begun: Once::new(), process: std::process::id() }
    }

    /// The pixels of a picture that the corpus has.
    ///
    /// # Errors
    /// A shard or picture that cannot be read.
    pub fn picture(&self, index: usize) -> Result<Vec<u8>> {
        let inner = &self.inner;
        let (number, position) = (index / CAPACITY, index % CAPACITY);
        let name = shards::name(shards::IMAGES, number);
        if let Some(shard) = inner.slots[number].get() {
            return inner.of_shard(shard, position);
        }
        if self.process != std::process::id() {
            // Threads do not live on in a process that was forked from theirs.
            return Err(Error::Usage(format!(
                "{}: a corpus in object storage cannot be used after a fork; open it in each process",
                inner.cached.address
            )));
        }
        self.begun.call_once(|| {
            for _ in 0..AT_ONCE.min(inner.slots.len()) {
                let inner = Arc::clone(inner);
                std::thread::spawn(move || inner.work());
            }
        });
        inner.hurry(number);
        if inner.cached.is_here(&name) {
            return inner.of_shard(inner.wait(number), position);
        }
        let size = inner.side * inner.side;
        let start = (HEADER + position * size) as u64;
        let file_size = inner.cached.manifest.files.get(&name).map_or(0, |file| file.bytes);
        let key = inner.cached.address.key(&name);
        match inner.cached.client.range(&key, start..start + size as u64) {
            Ok(piece) if piece.size == file_size && piece.bytes.len() == size => Ok(piece.bytes),
            // The thread that reads the whole shard reports what is wrong, or the shard has
            // arrived.
            _ => inner.of_shard(inner.wait(number), position),
        }
    }
}

impl Drop for Shards {
    fn drop(&mut self) {
        self.inner.stop.store(true, Ordering::Relaxed);
    }
}

impl Inner {
    fn of_shard(&self, shard: &Result<Shard>, position: usize) -> Result<Vec<u8>> {
        match shard {
            Ok(shard) => shard.picture(position),
            Err(error) => {
                Err(Error::Corpus { path: self.cached.address.to_string().into(), message: error.to_string() })
            }
        }
    }

    fn waiting(&self) -> MutexGuard<'_, VecDeque<usize>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a shard the next one to be read, if no thread reads it yet.
    fn hurry(&self, number: usize) {
        let mut waiting = self.waiting();
        if let Some(index) = waiting.iter().position(|&other| other == number) {
            waiting.remove(index);
            waiting.push_front(number);
        }
    }

    fn wait(&self, number: usize) -> &Result<Shard> {
        let mut waiting = self.waiting();
        loop {
            if let Some(shard) = self.slots[number].get() {
                return shard;
            }
            waiting = self.arrived.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Reads one shard after the other.
    fn work(&self) {
        while !self.stop.load(Ordering::Relaxed) {
            let Some(number) = self.waiting().pop_front() else { return };
            let name = shards::name(shards::IMAGES, number);
            let read = self.cached.fetch(&name, &self.stop);
            let shard = match read.and_then(|path| path.map(|path| Shard::open(&path, self.side)).transpose()) {
                Ok(Some(shard)) => Ok(shard),
                // Another process reads it. Others first.
                Ok(None) => {
                    self.waiting().push_back(number);
                    std::thread::sleep(Duration::from_millis(50));
                    continue;
                }
                Err(error) => Err(error),
            };
            let waiting = self.waiting();
            let _ = self.slots[number].set(shard);
            drop(waiting);
            self.arrived.notify_all();
        }
    }
}
