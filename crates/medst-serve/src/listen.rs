//! Listens for connections, enforces their limits of time and number, and drains them on shutdown.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::config::ServeConfig;
use crate::connections::Stream;
use crate::state::Shared;
use crate::{Error, Result};

/// Bytes of a request's headers.
const MOST_HEADERS: usize = 64 << 10;
/// How often the wish to stop is looked for.
const TICK: Duration = Duration::from_millis(50);
/// The response when the maximum number of connections are all being computed for.
const BUSY: &[u8] = b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 1\r\nConnection: close\r\n\
    Content-Type: application/json\r\nContent-Length: 55\r\n\r\n\
    {\"error\":{\"code\":\"busy\",\"message\":\"too many requests\"}}";

/// Serves until `stop` returns true, then finishes the requests in progress. `ready` gets the
/// address.
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

/// Like [`serve`], for an existing listener.
pub async fn run(listener: TcpListener, shared: Arc<Shared>, router: Router, stop: impl Fn() -> bool) {
    let limits = shared.limits;
    let (drain, draining) = watch::channel(());
    let mut tick = tokio::time::interval(TICK);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stopped(&mut tick, &stop) => break,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // No descriptor is left, of the process or of the system.
                if matches!(error.raw_os_error(), Some(23 | 24)) {
                    shared.connections.close_one();
                }
                tokio::time::sleep(TICK).await;
                continue;
            }
        };
        let Some(open) = shared.connections.take_in(peer.ip()) else {
            // The answer does not depend on the request, so it is not read.
            let _ = stream.try_write(BUSY);
            continue;
        };
        let _ = stream.set_nodelay(true);
        let service = TowerToHyperService::new(router.clone());
        let of_requests = open.connection.clone();
        let answer = service_fn(move |request| {
            let (connection, time) = (of_requests.clone(), limits.send);
            connection.request_arrived();
            let answer = service.call(request);
            async move {
                let answer = answer.await;
                connection.answered(time);
                answer
            }
        });
        let stream = Stream::new(stream, open.connection.clone(), limits.send);
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(limits.receive)
            .max_buf_size(MOST_HEADERS)
            .serve_connection(TokioIo::new(stream), answer);
        let mut draining = draining.clone();
        tokio::spawn(async move {
            let mut connection = pin!(connection);
            let mut end = pin!(tokio::time::sleep(limits.lifetime));
            let mut closing = false;
            loop {
                tokio::select! {
                    // Broken connections are the client's affair.
                    _ = connection.as_mut() => break,
                    () = open.connection.must_close() => break,
                    () = end.as_mut() => {
                        if closing {
                            break;
                        }
                    }
                    _ = draining.changed(), if !closing => {}
                }
                // The request in progress is answered, and is the last.
                connection.as_mut().graceful_shutdown();
                end.as_mut().reset(Instant::now() + limits.receive + limits.answer + limits.send);
                closing = true;
            }
        });
    }
    shared.ending.store(true, Ordering::SeqCst);
    drop((listener, draining));
    tracing::info!("draining");
    let _ = drain.send(());
    tokio::select! {
        () = drain.closed() => {}
        () = tokio::time::sleep(limits.drain) => tracing::warn!("closed requests that were still running at shutdown"),
    }
}

async fn stopped(tick: &mut tokio::time::Interval, stop: &impl Fn() -> bool) {
    while !stop() {
        tick.tick().await;
    }
}
