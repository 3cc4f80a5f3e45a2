//! One thread per model, which computes the requests of many clients together; small models have
//! several threads that share one queue ([`medst_model::model::lanes`]).
//!
//! While a batch is computed, further jobs queue up; the next batch takes as many of them as fit
//! its bounds of images and tokens (as text-embeddings-inference does). A batch that is not full
//! waits for pictures that are being decoded at that moment, but no longer than `PATIENCE`.
//! Otherwise, when decoding takes most of the time, every picture would form a separate batch,
//! whose threads would take the decoders' cores. If no picture is being decoded, no batch waits. A
//! job that makes a batch fail is found by computing the batch's jobs one by one, so that no other
//! job loses its answer. A job whose client has disconnected is not computed.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use medst_infer::eval::Vectors;
use medst_infer::infer::align::Alignment;
use medst_infer::infer::{Engine, Limits, Preprocessing, Reader, Text, Views};
use tokio::sync::{mpsc, oneshot};

use crate::metrics::Metrics;
use crate::{Error, Result};

/// Longest wait of a batch for pictures that are being decoded.
const PATIENCE: Duration = Duration::from_millis(30);
/// How often it looks for them.
const TICK: Duration = Duration::from_micros(200);

/// How many pictures of all requests are being decoded.
#[derive(Clone, Default)]
pub struct Decoding(Arc<AtomicUsize>);

impl Decoding {
    /// One more, until what is returned is dropped.
    pub fn count_one(&self) -> impl Drop + Send + use<> {
        struct One(Arc<AtomicUsize>);
        impl Drop for One {
            fn drop(&mut self) {
                self.0.fetch_sub(1, Ordering::SeqCst);
            }
        }
        self.0.fetch_add(1, Ordering::SeqCst);
        One(self.0.clone())
    }

    fn any(&self) -> bool {
        self.0.load(Ordering::SeqCst) > 0
    }
}

type Reply<T> = oneshot::Sender<Result<T>>;
type Task = Box<dyn FnOnce(&Engine) + Send>;

/// A job for a model.
enum Job {
    Images(Vec<Views>, Reply<Vectors>),
    Texts(Vec<Text>, Reply<Vectors>),
    Align(Views, Text, Reply<Alignment>),
    /// Something rare, computed alone.
    Task(Task),
}

impl Job {
    /// Images and tokens.
    fn cost(&self) -> (usize, usize) {
        match self {
            Job::Images(views, _) => (views.iter().map(Views::count).sum(), 0),
            Job::Texts(texts, _) => (0, texts.iter().map(Text::len).sum()),
            Job::Align(views, text, _) => (views.count(), text.len()),
            Job::Task(_) => (0, 0),
        }
    }

    fn is_abandoned(&self) -> bool {
        match self {
            Job::Images(_, reply) | Job::Texts(_, reply) => reply.is_closed(),
            Job::Align(_, _, reply) => reply.is_closed(),
            Job::Task(_) => false,
        }
    }
}

/// A handle to a model: what any thread may read of it, and the queue of its jobs.
#[derive(Clone)]
pub struct Worker {
    jobs: mpsc::Sender<Job>,
    pub reader: Arc<Reader>,
    pub preprocessing: Preprocessing,
}

impl Worker {
    /// Starts the thread; it ends when the last handle is dropped.
    ///
    /// * `name`: of the model, in figures.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start(
        name: &str,
        engine: Engine,
        queue: usize,
        metrics: Arc<Metrics>,
        decoding: Decoding,
    ) -> std::io::Result<Worker> {
        let (jobs, waiting) = mpsc::channel(queue);
        let worker = Worker { jobs, reader: engine.reader().clone(), preprocessing: engine.preprocessing() };
        let (lanes, engine, waiting) = (engine.lanes(), Arc::new(engine), Arc::new(Mutex::new(waiting)));
        for _ in 0..lanes.count {
            let (name, engine, waiting) = (name.to_string(), engine.clone(), waiting.clone());
            let (metrics, decoding) = (metrics.clone(), decoding.clone());
            std::thread::Builder::new().name("model".into()).spawn(move || {
                lanes.enter();
                // The thread that holds the queue gathers a whole batch.
                let next = || {
                    let mut waiting = waiting.lock().ok()?;
                    let first = waiting.blocking_recv()?;
                    Some(gather(first, &mut waiting, engine.limits, &decoding))
                };
                while let Some(batch) = next() {
                    run(&engine, batch, |images, texts| metrics.batched(&name, images, texts));
                }
            })?;
        }
        Ok(worker)
    }

    /// Whether its thread lives.
    pub fn is_alive(&self) -> bool {
        !self.jobs.is_closed()
    }

    /// Jobs that wait for it.
    pub fn waiting(&self) -> usize {
        self.jobs.max_capacity() - self.jobs.capacity()
    }

    /// Embeddings of studies' pictures.
    ///
    /// # Errors
    /// A full queue, or input that the engine refuses.
    pub async fn images(&self, views: Vec<Views>) -> Result<Vectors> {
        self.ask(|reply| Job::Images(views, reply)).await
    }

    /// Embeddings of texts.
    ///
    /// # Errors
    /// As [`Worker::images`].
    pub async fn texts(&self, texts: Vec<Text>) -> Result<Vectors> {
        self.ask(|reply| Job::Texts(texts, reply)).await
    }

    /// Words against patches.
    ///
    /// # Errors
    /// As [`Worker::images`].
    pub async fn align(&self, views: Views, text: Text) -> Result<Alignment> {
        self.ask(|reply| Job::Align(views, text, reply)).await
    }

    /// Runs any task on the model's thread.
    ///
    /// # Errors
    /// As [`Worker::images`].
    pub async fn task<T: Send + 'static>(
        &self,
        task: impl FnOnce(&Engine) -> medst_model::Result<T> + Send + 'static,
    ) -> Result<T> {
        let boxed = |reply: Reply<T>| {
            let task: Task = Box::new(move |engine: &Engine| {
                // As for jobs of a batch: if the request has ended, nothing is computed.
                if !reply.is_closed() {
                    let _ = reply.send(task(engine).map_err(Error::from));
                }
            });
            Job::Task(task)
        };
        self.ask(boxed).await
    }

    async fn ask<T>(&self, job: impl FnOnce(Reply<T>) -> Job) -> Result<T> {
        let (reply, answer) = oneshot::channel();
        self.jobs.try_send(job(reply)).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => Error::Busy,
            mpsc::error::TrySendError::Closed(_) => Error::Internal,
        })?;
        // A task that panicked drops its reply.
        answer.await.map_err(|_| Error::Internal)?
    }
}

/// The first job and those that wait, within bounds.
fn gather(first: Job, waiting: &mut mpsc::Receiver<Job>, limits: Limits, decoding: &Decoding) -> Vec<Job> {
    let start = Instant::now();
    let (mut images, mut tokens) = first.cost();
    let mut batch = vec![first];
    while images < limits.images && tokens < limits.tokens {
        let Ok(next) = waiting.try_recv() else {
            // A batch without images does not wait for pictures.
            if images == 0 || !decoding.any() || start.elapsed() > PATIENCE {
                break;
            }
            std::thread::sleep(TICK);
            continue;
        };
        let cost = next.cost();
        (images, tokens) = (images + cost.0, tokens + cost.1);
        batch.push(next);
    }
    batch
}

fn run(engine: &Engine, batch: Vec<Job>, batched: impl FnOnce(usize, usize)) {
    let (mut images, mut texts, mut pairs) = (Vec::new(), Vec::new(), Vec::new());
    for job in batch.into_iter().filter(|job| !job.is_abandoned()) {
        match job {
            Job::Images(views, reply) => images.push((views, reply)),
            Job::Texts(texts_of_job, reply) => texts.push((texts_of_job, reply)),
            Job::Align(views, text, reply) => pairs.push((vec![(views, text)], reply)),
            Job::Task(task) => _ = catch_unwind(AssertUnwindSafe(|| task(engine))),
        }
    }
    batched(images.iter().map(|job| job.0.len()).sum::<usize>() + pairs.len(), texts.len());
    let vectors = |values: Vectors, counts: &[usize]| {
        let mut start = 0;
        let part = |count: &usize| {
            let rows: Vec<usize> = (start..start + count).collect();
            start += count;
            values.select(&rows)
        };
        counts.iter().map(part).collect::<Vec<Vectors>>()
    };
    answer(images, |views: &[&Views]| Ok(engine.images(views)?.embeddings), vectors);
    answer(texts, |texts: &[&Text]| engine.texts(texts), vectors);
    let align = |pairs: &[&(Views, Text)]| {
        engine.align(
            &pairs.iter().map(|pair| &pair.0).collect::<Vec<_>>(),
            &pairs.iter().map(|pair| &pair.1).collect::<Vec<_>>(),
        )
    };
    answer(pairs, align, |alignments: Vec<Alignment>, _| alignments);
}

/// Computes the inputs of several jobs at once, and of each alone where that fails.
fn answer<I, O, R>(
    jobs: Vec<(Vec<I>, Reply<R>)>,
    compute: impl Fn(&[&I]) -> medst_model::Result<O>,
    split: impl Fn(O, &[usize]) -> Vec<R>,
) {
    if jobs.is_empty() {
        return;
    }
    let guarded = |inputs: &[&I]| match catch_unwind(AssertUnwindSafe(|| compute(inputs))) {
        Ok(result) => result.map_err(Error::from),
        Err(_) => Err(Error::Internal),
    };
    let all: Vec<&I> = jobs.iter().flat_map(|job| &job.0).collect();
    let counts: Vec<usize> = jobs.iter().map(|job| job.0.len()).collect();
    let together = guarded(&all);
    let alone = jobs.len() == 1;
    match together {
        Ok(output) => {
            for ((_, reply), answer) in jobs.into_iter().zip(split(output, &counts)) {
                let _ = reply.send(Ok(answer));
            }
        }
        Err(error) if alone => {
            jobs.into_iter().for_each(|(_, reply)| {
                _ = reply.send(Err(match &error {
                    Error::Bad(message) => Error::Bad(message.clone()),
                    _ => Error::Internal,
                }))
            });
        }
        Err(_) => {
            for (inputs, reply) in jobs {
                let inputs_of_job: Vec<&I> = inputs.iter().collect();
                let result = guarded(&inputs_of_job)
                    .and_then(|output| split(output, &[inputs_of_job.len()]).pop().ok_or(Error::Internal));
                let _ = reply.send(result);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Jobs of numbers; a batch with a 13 fails, a job with a 99 panics.
    fn answered(jobs: &[&[u32]]) -> Vec<Result<Vec<u32>>> {
        let (jobs, answers): (Vec<_>, Vec<_>) = jobs
            .iter()
            .map(|numbers| {
                let (reply, answer) = oneshot::channel();
                ((numbers.to_vec(), reply), answer)
            })
            .unzip();
        let compute = |numbers: &[&u32]| match numbers {
            numbers if numbers.contains(&&13) => Err(medst_model::Error::Input("thirteen".into())),
            numbers if numbers.contains(&&99) => panic!("ninety-nine"),
            numbers => Ok(numbers.iter().map(|x| **x * 2).collect::<Vec<u32>>()),
        };
        let split = |output: Vec<u32>, counts: &[usize]| {
            let mut rest = output.into_iter();
            counts.iter().map(|&count| rest.by_ref().take(count).collect()).collect()
        };
        answer(jobs, compute, split);
        answers.into_iter().map(|mut answer| answer.try_recv().unwrap()).collect()
    }

    #[test]
    fn a_job_that_fails_takes_no_others_answer() {
        let all = answered(&[&[1, 2], &[], &[3]]);
        assert_eq!(all.into_iter().map(Result::unwrap).collect::<Vec<_>>(), [vec![2, 4], vec![], vec![6]]);
        let some = answered(&[&[1], &[13], &[99], &[4, 5]]);
        assert_eq!(some[0].as_ref().unwrap(), &[2]);
        assert!(matches!(&some[1], Err(Error::Bad(message)) if message == "thirteen"));
        assert!(matches!(some[2], Err(Error::Internal)));
        assert_eq!(some[3].as_ref().unwrap(), &[8, 10]);
        assert!(matches!(answered(&[&[99]])[0], Err(Error::Internal)));
    }
}
