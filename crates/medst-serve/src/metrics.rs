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

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfModel {
    model: String,
}

type Histograms<L> = Family<L, Histogram, fn() -> Histogram>;

/// The figures of a service.
pub struct Metrics {
    registry: Registry,
    requests: Family<Answered, Counter>,
    seconds: Histograms<Route>,
    batch_images: Histograms<OfModel>,
    batch_texts: Histograms<OfModel>,
    queue: Family<OfModel, Gauge>,
    /// Requests in progress.
    pub in_flight: Gauge,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("medst");
        let times: fn() -> Histogram = || Histogram::new(exponential_buckets(0.001, 2.0, 16));
        let seconds = Histograms::<Route>::new_with_constructor(times);
        let sizes: fn() -> Histogram = || Histogram::new(exponential_buckets(1.0, 2.0, 10));
        let sizes = || Histograms::<OfModel>::new_with_constructor(sizes);
        let metrics = Metrics {
            requests: Family::default(),
            seconds,
            batch_images: sizes(),
            batch_texts: sizes(),
            queue: Family::default(),
            in_flight: Gauge::default(),
            registry: Registry::default(),
        };
        registry.register("requests", "Requests by route and status", metrics.requests.clone());
        registry.register("request_seconds", "Time from the first byte read to the answer", metrics.seconds.clone());
        registry.register("batch_images", "Images per batch", metrics.batch_images.clone());
        registry.register("batch_texts", "Text jobs per batch", metrics.batch_texts.clone());
        registry.register("queue_jobs", "Jobs waiting for a model", metrics.queue.clone());
        registry.register("requests_in_flight", "Requests in progress", metrics.in_flight.clone());
        Metrics { registry, ..metrics }
    }
}

impl Metrics {
    /// Counts an answer.
    pub fn answered(&self, route: &str, status: u16, seconds: f64) {
        self.requests.get_or_create(&Answered { route: route.into(), status: status.into() }).inc();
        self.seconds.get_or_create(&Route { route: route.into() }).observe(seconds);
    }

    /// Counts a batch of a model.
    pub fn batched(&self, model: &str, images: usize, texts: usize) {
        for (count, family) in [(images, &self.batch_images), (texts, &self.batch_texts)] {
            if count > 0 {
                family.get_or_create(&OfModel { model: model.into() }).observe(count as f64);
            }
        }
    }

    /// Sets the number of jobs that wait for a model.
    pub fn waiting(&self, model: &str, jobs: usize) {
        self.queue.get_or_create(&OfModel { model: model.into() }).set(jobs as i64);
    }

    /// The exposition format.
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}
