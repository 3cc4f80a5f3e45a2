//! Figures for Prometheus. None is named after a patient, a file or a text.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Answered {
    route: String,
    status: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Route {
    route: String,
}

/// The figures of a service.
pub struct Metrics {
    registry: Registry,
    requests: Family<Answered, Counter>,
    seconds: Family<Route, Histogram>,
    batch_images: Histogram,
    batch_texts: Histogram,
    /// Jobs that wait for a model.
    pub queue: Gauge,
    /// Requests that are read or answered.
    pub in_flight: Gauge,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("medst");
        let seconds: Family<Route, Histogram> =
            Family::new_with_constructor(|| Histogram::new(exponential_buckets(0.001, 2.0, 16)));
        let sizes = || Histogram::new(exponential_buckets(1.0, 2.0, 10));
        let metrics = Metrics {
            requests: Family::default(),
            seconds,
            batch_images: sizes(),
            batch_texts: sizes(),
            queue: Gauge::default(),
            in_flight: Gauge::default(),
            registry: Registry::default(),
        };
        registry.register("requests", "Requests by route and status", metrics.requests.clone());
        registry.register("request_seconds", "Time from the first byte read to the answer", metrics.seconds.clone());
        registry.register("batch_images", "Images computed together", metrics.batch_images.clone());
        registry.register("batch_texts", "Text jobs computed together", metrics.batch_texts.clone());
        registry.register("queue_jobs", "Jobs that wait for a model", metrics.queue.clone());
        registry.register("requests_in_flight", "Requests that are read or answered", metrics.in_flight.clone());
        Metrics { registry, ..metrics }
    }
}

impl Metrics {
    /// Counts an answer.
    pub fn answered(&self, route: &str, status: u16, seconds: f64) {
        self.requests.get_or_create(&Answered { route: route.into(), status: status.into() }).inc();
        self.seconds.get_or_create(&Route { route: route.into() }).observe(seconds);
    }

    /// Counts a batch.
    pub fn batched(&self, images: usize, texts: usize) {
        for (count, histogram) in [(images, &self.batch_images), (texts, &self.batch_texts)] {
            if count > 0 {
                histogram.observe(count as f64);
            }
        }
    }

    /// The exposition format.
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}
