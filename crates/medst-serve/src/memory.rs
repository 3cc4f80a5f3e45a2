//! Limits the memory of uploads and answers together, whatever clients request.
//!
//! A third is for bodies and answers, which count from their first byte until the last is sent; a
//! request that would exceed it is refused with a time to retry after. The rest is for pictures
//! while they are decoded, by the size that they declare; those wait for each other.

use std::fs;
use std::path::Path;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use axum::body::{Body, Bytes, HttpBody};
use hyper::body::{Frame, SizeHint};
use medst_data::image::cancel;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{Error, Result};

/// Bytes per permit of a [`Semaphore`].
const UNIT: usize = 1024;
/// A body is in memory twice while it is read: as it came, and as the values that are made of it.
const COPIES: usize = 2;

/// Bytes that this process may have: of the machine, or of the control groups that it is in where
/// those have less.
pub fn of_process() -> Option<usize> {
    let machine = fs::read_to_string("/proc/meminfo").ok()?;
    let machine =
        machine.lines().find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB")?.parse().ok());
    let machine: usize = machine.unwrap_or(usize::MAX >> 10) << 10;
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let limits = groups.lines().filter_map(|line| {
        // Version 2 of control groups, then version 1.
        let (kind, group) = line.split_once(':')?.1.split_once(":/")?;
        let (root, file) = match kind {
            "" => ("/sys/fs/cgroup", "memory.max"),
            "memory" => ("/sys/fs/cgroup/memory", "memory.limit_in_bytes"),
            _ => return None,
        };
        // In a container the path may be that of the host, where only the root is to be seen.
        let folders = Path::new(group).ancestors().map(|folder| Path::new(root).join(folder).join(file));
        folders.filter_map(|path| fs::read_to_string(path).ok()?.trim().parse().ok()).min()
    });
    Some(limits.fold(machine, usize::min))
}

/// The memory that is left.
pub struct Memory {
    bodies: Arc<Semaphore>,
    /// Bytes for pictures: all, and those that are free.
    most: usize,
    free: Mutex<usize>,
    freed: Condvar,
}

impl Memory {
    /// # Errors
    /// Less than the largest body needs.
    pub fn new(bytes: usize, largest_body: usize) -> Result<Memory> {
        let bodies = bytes / 3;
        if bodies < largest_body * COPIES {
            let [needed, given] = [largest_body * COPIES * 3, bytes].map(|bytes| bytes.div_ceil(1 << 20));
            return Err(Error::Config(format!(
                "--max-memory {given} is too small for this --max-body; set it to {needed} or more, or reduce \
                 --max-body"
            )));
        }
        let most = bytes - bodies;
        let bodies = Arc::new(Semaphore::new(bodies / UNIT));
        Ok(Memory { bodies, most, free: Mutex::new(most), freed: Condvar::new() })
    }

    /// Memory of one request or answer, none at first.
    pub fn hold(&self) -> Held {
        Held { bodies: self.bodies.clone(), permit: None, bytes: 0 }
    }

    /// Waits for memory to decode a picture. Blocks, so it must not be called on a thread that
    /// serves connections.
    ///
    /// # Errors
    /// A picture that needs more than the whole memory for decoding, or whose request has ended.
    pub fn for_picture(self: &Arc<Self>, bytes: usize, cancellation: &CancellationToken) -> Result<Taken> {
        if bytes > self.most {
            let [needed, most] = [bytes, self.most].map(|bytes| bytes.div_ceil(1 << 20));
            return Err(Error::TooLarge(format!(
                "decoding the image takes about {needed} MiB of memory (limit {most} MiB)"
            )));
        }
        let mut free = self.free();
        while *free < bytes {
            cancellation.check()?;
            free = self.freed.wait(free).unwrap_or_else(PoisonError::into_inner);
        }
        *free -= bytes;
        Ok(Taken { memory: self.clone(), bytes })
    }

    fn free(&self) -> MutexGuard<'_, usize> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Memory for a picture, until it is dropped.
pub struct Taken {
    memory: Arc<Memory>,
    bytes: usize,
}

impl Drop for Taken {
    fn drop(&mut self) {
        *self.memory.free() += self.bytes;
        self.memory.freed.notify_all();
    }
}

/// Memory of a request or answer, until it is dropped.
pub struct Held {
    bodies: Arc<Semaphore>,
    permit: Option<OwnedSemaphorePermit>,
    bytes: usize,
}

impl Held {
    /// Adds bytes.
    ///
    /// # Errors
    /// 429 while too little memory is free for them.
    pub fn add(&mut self, bytes: usize) -> Result<()> {
        self.bytes += bytes;
        let has = self.permit.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let missing = u32::try_from(self.bytes.div_ceil(UNIT) - has).map_err(|_| Error::Busy)?;
        if missing > 0 {
            let more = self.bodies.clone().try_acquire_many_owned(missing).map_err(|_| Error::Busy)?;
            match &mut self.permit {
                Some(permit) => permit.merge(more),
                none => *none = Some(more),
            }
        }
        Ok(())
    }
}

/// Tells work that the client it is done for has gone, or that its time is over.
#[derive(Clone, Default)]
pub struct CancellationToken(Arc<AtomicBool>);

impl CancellationToken {
    /// # Errors
    /// The client has disconnected, or its time is over.
    pub fn check(&self) -> Result<()> {
        match self.0.load(Ordering::SeqCst) {
            false => Ok(()),
            true => Err(Error::Timeout),
        }
    }

    /// Runs work whose decoders stop once the client has disconnected.
    pub fn during<T>(&self, work: impl FnOnce() -> T) -> T {
        cancel::until(&self.0, work)
    }

    /// Cancels when what is returned is dropped.
    pub fn cancel_on_drop(&self) -> impl Drop + Send + use<> {
        struct CancelOnDrop(Arc<AtomicBool>);
        impl Drop for CancelOnDrop {
            fn drop(&mut self) {
                self.0.store(true, Ordering::SeqCst);
            }
        }
        CancelOnDrop(self.0.clone())
    }
}

/// A request's body, which counts as it arrives.
pub struct Arriving {
    body: Body,
    held: Arc<Mutex<Held>>,
    full: Arc<AtomicBool>,
}

impl Arriving {
    /// A body, none of which has arrived.
    pub fn new(body: Body, held: Held) -> Arriving {
        Arriving { body, held: Arc::new(Mutex::new(held)), full: Arc::default() }
    }

    /// The memory that it holds.
    pub fn held(&self) -> Arc<Mutex<Held>> {
        self.held.clone()
    }

    /// A flag that is set when too little memory is free for it.
    pub fn full(&self) -> Arc<AtomicBool> {
        self.full.clone()
    }
}

impl HttpBody for Arriving {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        if let Poll::Ready(Some(Ok(frame))) = &polled
            && let Some(data) = frame.data_ref()
            && !self.full.load(Ordering::SeqCst)
        {
            let added = self.held.lock().unwrap_or_else(PoisonError::into_inner).add(data.len() * COPIES);
            if added.is_err() {
                self.full.store(true, Ordering::SeqCst);
            }
        }
        if matches!(polled, Poll::Ready(Some(Ok(_)))) && self.full.load(Ordering::SeqCst) {
            // The rest is read and forgotten: a client that is cut off while it sends may not see
            // the answer.
            return Poll::Ready(Some(Ok(Frame::data(Bytes::new()))));
        }
        polled
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// An answer's body, which counts until it is sent.
pub struct Leaving {
    body: Body,
    _held: Held,
}

impl Leaving {
    pub fn new(body: Body, held: Held) -> Leaving {
        Leaving { body, _held: held }
    }
}

impl HttpBody for Leaving {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_is_bounded_and_given_back() {
        let memory = Arc::new(Memory::new(3 << 20, 1 << 19).unwrap());
        assert!(Memory::new(3 << 20, 1 << 20).is_err());
        let (mut first_body, mut other) = (memory.hold(), memory.hold());
        (0..512).for_each(|_| first_body.add(1000).unwrap());
        assert!(matches!(other.add(600 << 10), Err(Error::Busy)));
        drop(first_body);
        assert!(memory.hold().add(1 << 20).is_ok());

        let cancellation = CancellationToken::default();
        assert!(matches!(memory.for_picture(3 << 20, &cancellation), Err(Error::TooLarge(_))));
        let first = memory.for_picture(2 << 20, &cancellation).unwrap();
        assert!(of_process().is_some_and(|bytes| bytes > 1 << 20));
        let waiting = std::thread::spawn({
            let (memory, cancellation) = (memory.clone(), cancellation.clone());
            move || memory.for_picture(1 << 20, &cancellation).map(drop)
        });
        drop(first);
        waiting.join().unwrap().unwrap();
        // Memory that is waited for in vain is not waited for.
        let _all = memory.for_picture(2 << 20, &cancellation).unwrap();
        drop(cancellation.cancel_on_drop());
        assert!(matches!(memory.for_picture(1, &cancellation), Err(Error::Timeout)));
    }
}
