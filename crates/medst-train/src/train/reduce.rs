//! Gradients of the parameters, summed over all processes in flat buckets: one for the heads and
//! one for each stage of an encoder. A separate thread sends a bucket as soon as the backward pass
//! has left its stage, while earlier stages are computed.
//!
//! All processes send the same buckets in the same order, including processes without studies.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use tch::Tensor;

use crate::distributed::Group;
use crate::model::MedSt;
use crate::train::gradients::Gradients;

/// The group of parameters that form one bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParameterGroup {
    /// Projections and importance.
    Heads,
    /// A stage of the image encoder's chain.
    Image(usize),
    /// A stage of the report encoder's chain.
    Report(usize),
}

impl ParameterGroup {
    /// The group of a parameter.
    ///
    /// * `last`: the number of the image encoder's final norm.
    pub fn from_name(name: &str, last: usize) -> ParameterGroup {
        let number = |rest: &str| rest.split('.').next().and_then(|number| number.parse::<usize>().ok()).unwrap_or(0);
        if let Some(rest) = name.strip_prefix("image_encoder.") {
            return ParameterGroup::Image(match rest.strip_prefix("blocks.") {
                Some(rest) => number(rest) + 1,
                None if rest.starts_with("norm.") => last,
                None => 0,
            });
        }
        match name.strip_prefix("report_encoder.") {
            Some(rest) => ParameterGroup::Report(rest.strip_prefix("layers.").map_or(0, |rest| number(rest) + 1)),
            None => ParameterGroup::Heads,
        }
    }

    /// All parts, in the order in which a backward pass is done with them.
    pub fn all(model: &MedSt) -> Vec<ParameterGroup> {
        let (blocks, layers) = (model.config.image.num_layers as usize, model.config.text.num_layers as usize);
        let images = (0..blocks + 2).rev().map(ParameterGroup::Image);
        std::iter::once(ParameterGroup::Heads)
            .chain(images)
            .chain((0..=layers).rev().map(ParameterGroup::Report))
            .collect()
    }
}

/// Sums buckets while others are computed.
pub struct Reducer {
    /// Bytes of all buckets so far.
    pub bytes: u64,
    parts: Vec<(ParameterGroup, Vec<usize>)>,
    buckets: Sender<Tensor>,
    summed: Receiver<Tensor>,
    thread: JoinHandle<()>,
    sent: usize,
}

impl Reducer {
    pub fn start(model: &MedSt, group: &Group) -> Reducer {
        let last = model.config.image.num_layers as usize + 1;
        let of: Vec<ParameterGroup> =
            model.parameters().iter().map(|parameter| ParameterGroup::from_name(&parameter.name, last)).collect();
        let numbers = |part: ParameterGroup| (0..of.len()).filter(|&number| of[number] == part).collect();
        let parts = ParameterGroup::all(model).into_iter().map(|part| (part, numbers(part))).collect();
        let ((buckets, waiting), (done, summed)) = (channel::<Tensor>(), channel());
        let group = Group::clone(group);
        let thread = std::thread::spawn(move || {
            for mut bucket in waiting {
                group.sum_overlapped(&mut bucket);
                if done.send(bucket).is_err() {
                    return; // the receiver was dropped
                }
            }
        });
        Reducer { bytes: 0, parts, buckets, summed, thread, sent: 0 }
    }

    /// Sends the buckets up to and with that of `part`, whose gradients are final.
    pub fn ready(&mut self, part: ParameterGroup, gradients: &mut Gradients) {
        let end = self.parts.iter().position(|(sent, _)| *sent == part).map_or(self.sent, |number| number + 1);
        self.send(end, gradients);
    }

    fn send(&mut self, end: usize, gradients: &mut Gradients) {
        for (_, numbers) in self.parts.iter().take(end).skip(self.sent) {
            let bucket = gradients.take_flat(numbers);
            self.bytes += (bucket.numel() * bucket.kind().elt_size_in_bytes()) as u64;
            // The thread ends with this value's `buckets` alone.
            let _ = self.buckets.send(bucket);
        }
        self.sent = self.sent.max(end);
    }

    /// Sends the remaining buckets, waits for all, and replaces this process' gradients by the
    /// sums.
    pub fn finish(mut self, gradients: &mut Gradients) {
        self.send(self.parts.len(), gradients);
        drop(self.buckets);
        for ((_, numbers), bucket) in self.parts.iter().zip(self.summed.iter()) {
            gradients.put_flat(numbers, &bucket);
        }
        if self.thread.join().is_err() {
            panic!("the thread that sums gradients panicked");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::config::ModelConfig;
    use tch::{Device, Kind};

    /// A bucket with a parameter of a stage that is computed later would be summed before its
    /// gradient is known.
    #[test]
    fn every_parameter_has_the_bucket_of_its_stage() {
        let mut config = ModelConfig::default();
        (config.image.num_layers, config.text.num_layers) = (11, 2);
        let of = |name: &str| ParameterGroup::from_name(name, 12);
        assert_eq!(of("image_encoder.blocks.10.lateral.contract.weight"), ParameterGroup::Image(11));
        assert_eq!(of("image_encoder.norm.weight"), ParameterGroup::Image(12));
        assert_eq!(of("image_encoder.patch_embedding.bias"), ParameterGroup::Image(0));
        assert_eq!(of("report_encoder.layers.1.norm.bias"), ParameterGroup::Report(2));
        assert_eq!(of("report_encoder.embeddings.words"), ParameterGroup::Report(0));
        assert_eq!(of("patch_local.expand.weight"), ParameterGroup::Heads);
        (config.image.hidden_size, config.image.num_heads, config.image.intermediate_size, config.projection.hidden) =
            (16, 2, 16, 16);
        (config.text.hidden_size, config.text.num_heads, config.text.intermediate_size) = (16, 2, 16);
        let model = MedSt::new(&config, 1, Device::Cpu, Kind::Float).unwrap();
        let parts = ParameterGroup::all(&model);
        assert!(
            model.parameters().iter().all(|parameter| parts.contains(&ParameterGroup::from_name(&parameter.name, 12)))
        );
    }
}
