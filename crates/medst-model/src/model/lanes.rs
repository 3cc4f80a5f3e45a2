//! The number of threads that compute separate batches at the same time.
//!
//! Threads that share a matrix product wait for each other at its end. In a small model they wait
//! longer than they compute, and even longer while pictures are being decoded on the same cores. A
//! separate batch per thread is then faster (docs/serve.md has figures).

use tch::Device;

use crate::model::MedSt;
use crate::model::cost::{self, Load};

/// Operations per picture, or per text that fills the window (two for each multiplication and
/// addition), below which a model is small: where lanes gain a tenth or more on two cores. At
/// 2.5·10⁹ (ViT-Ti/16, 224 pixels) they gain 3 %, at 9·10⁹ (ViT-S/16) nothing, and a single picture
/// would take longer.
const SMALL: f64 = 2e9;

/// Lanes of a large model: each holds the activations of its own batch.
const MOST: usize = 8;

/// The threads that compute with a model, each with its share of libtorch's threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lanes {
    pub count: usize,
    /// Number of libtorch's threads per lane.
    threads: usize,
}

impl Lanes {
    /// `count` lanes of one thread each.
    pub fn single_threaded(count: usize) -> Lanes {
        Lanes { count, threads: 1 }
    }

    /// The lanes that suit a model, given libtorch's current number of threads.
    pub fn new(model: &MedSt) -> Lanes {
        let threads = tch::get_num_threads().max(1) as usize;
        let window = vec![model.config.text.max_tokens];
        let load = Load { laterals: vec![false], tokens: window.clone(), words: window };
        let dearest = cost::images(&model.config, &load.laterals).max(cost::reports(&model.config, &load));
        match model.device() == Device::Cpu && dearest < SMALL {
            true => Lanes::single_threaded(threads),
            false => Lanes { count: 1, threads },
        }
    }

    /// The lanes that suit a model for many studies, where the time of a single one does not matter:
    /// in 8 bits, threads of a large model wait for each other as well (docs/performance.md).
    pub fn for_many(model: &MedSt) -> Lanes {
        let lanes = Lanes::new(model);
        match model.computes_in_int8() && lanes.count == 1 {
            true => Lanes { count: lanes.threads.min(MOST), threads: lanes.threads.div_ceil(MOST) },
            false => lanes,
        }
    }

    /// Gives the calling thread a lane's share. libtorch also uses this number for threads that it
    /// has not seen yet, so every thread that computes must call this.
    pub fn enter(self) {
        tch::set_num_threads(self.threads as i32);
    }

    /// Gives the calling thread, and future ones, all of libtorch's threads again.
    pub fn leave(self) {
        tch::set_num_threads((self.count * self.threads) as i32);
    }
}
