//! Sockets: a bounded number of connections, slow clients, draining.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use crate::config::ServeConfig;
use crate::service::Shared;
use crate::{Error, Result};

/// Bytes of a request's headers.
const MOST_HEADERS: usize = 64 << 10;
/// How often the wish to stop is looked for.
const TICK: Duration = Duration::from_millis(50);

/// Serves until `stop` says so, then finishes the requests in progress. `ready` gets the address.
///
/// # Errors
/// An address that cannot be listened at.
pub fn serve(
    config: &ServeConfig,
    (shared, router): (Arc<Shared>, Router),
    stop: impl Fn() -> bool,
    ready: impl FnOnce(std::net::SocketAddr),
) -> Result<()> {
    let fail = |source| Error::Listen { address: config.bind.to_string(), source };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(fail)?;
    runtime.block_on(async {
        let listener = TcpListener::bind(config.bind).await.map_err(fail)?;
        ready(listener.local_addr().map_err(fail)?);
        run(listener, shared, router, stop).await;
        Ok(())
    })
}

/// As [`serve`], on a listener that is there already.
pub async fn run(listener: TcpListener, shared: Arc<Shared>, router: Router, stop: impl Fn() -> bool) {
    let limits = shared.limits;
    let (places, graceful) = (Arc::new(Semaphore::new(limits.connections)), GracefulShutdown::new());
    let mut tick = tokio::time::interval(TICK);
    loop {
        let accepted = async {
            // Acquiring fails only once the semaphore is closed, which it never is.
            let place = places.clone().acquire_owned().await.ok();
            (listener.accept().await, place)
        };
        let (accepted, place) = tokio::select! {
            accepted = accepted => accepted,
            () = stopped(&mut tick, &stop) => break,
        };
        // A client that gave up before it was accepted, or no descriptor left for a moment.
        let Ok((stream, _)) = accepted else {
            tokio::time::sleep(TICK).await;
            continue;
        };
        let _ = stream.set_nodelay(true);
        let service = TowerToHyperService::new(router.clone());
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(limits.receive)
            .max_buf_size(MOST_HEADERS)
            .serve_connection(TokioIo::new(stream), service);
        let watched = graceful.watch(connection);
        tokio::spawn(async move {
            // Broken connections are the client's affair.
            let _ = watched.await;
            drop(place);
        });
    }
    shared.ending.store(true, Ordering::SeqCst);
    drop(listener);
    tracing::info!("draining");
    tokio::select! {
        () = graceful.shutdown() => {}
        () = tokio::time::sleep(limits.drain) => tracing::warn!("requests were still in progress at the end"),
    }
}

async fn stopped(tick: &mut tokio::time::Interval, stop: &impl Fn() -> bool) {
    while !stop() {
        tick.tick().await;
    }
}
