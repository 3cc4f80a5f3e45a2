//! Approximate search by a navigable small world graph (Malkov and Yashunin, 2018).
//!
//! `hnsw_rs`: pure Rust, MIT or Apache-2.0, maintained. (USearch is C++ and brings a separate
//! kernel library; instant-distance has had no release since 2023 and does not allow the width of a
//! search to be set.) Vectors have unit length, so the order by Euclidean distance is the order by
//! cosine.

use std::path::Path;

use hnsw_rs::api::AnnT;
use hnsw_rs::hnsw::Hnsw;
use hnsw_rs::hnswio::HnswIo;
use hnsw_rs::prelude::DistL2;
use medst_data::progress::Progress;

use super::GraphError;
use super::exact::nearest;
use crate::infer::vectors::Vectors;
use crate::{Error, Result};

/// Images from which on a graph is built unasked: below, exact search takes a few tens of
/// milliseconds.
pub const WORTHWHILE: usize = 500_000;

/// Links a node, width of the search while building, layers.
const LINKS: usize = 24;
const BUILD_WIDTH: usize = 200;
const LAYERS: usize = 16;
/// Least width of a search.
const WIDTH: usize = 200;
const NAME: &str = "graph";
/// Images that recall is measured with.
const ASKED: usize = 200;

/// A graph over the images of an index.
pub struct Graph {
    inner: Hnsw<'static, f32, DistL2>,
}

/// Builds a graph into a folder; returns its recall@10 against exact search.
///
/// * `places`: for each study its row in `images`.
///
/// # Errors
/// A folder that cannot be written.
pub fn build(images: &Vectors, places: &[Option<usize>], folder: &Path, progress: &dyn Progress) -> Result<f64> {
    let inner: Hnsw<f32, DistL2> = Hnsw::new(LINKS, images.len(), LAYERS, BUILD_WIDTH, DistL2 {});
    let rows: Vec<(&[f32], usize)> =
        places.iter().enumerate().filter_map(|(study, row)| Some((images.row((*row)?), study))).collect();
    progress.begin("linking", Some(rows.len() as u64));
    for part in rows.chunks(4096) {
        if progress.stop_requested() {
            return Err(Error::Stopped);
        }
        inner.parallel_insert_slice(&part.to_vec());
        progress.advance(part.len() as u64);
    }
    progress.end();
    inner
        .file_dump(folder, NAME)
        .map_err(|error| Error::Io { path: folder.into(), source: std::io::Error::other(error.to_string()) })?;
    let graph = Graph { inner };
    let step = rows.len().div_ceil(ASKED).max(1);
    let all: Vec<usize> = (0..images.len()).collect();
    let study_of: Vec<usize> = rows.iter().map(|row| row.1).collect();
    let (mut found, mut expected) = (0, 0);
    for (query, study) in rows.iter().step_by(step) {
        // Rows of `images` are in the order of the studies. That an image finds itself is not
        // counted.
        let exact = nearest(images, &all, query, 11).into_iter().map(|(row, _)| study_of[row]);
        let exact: Vec<usize> = exact.filter(|found| found != study).take(10).collect();
        let approximate = graph.nearest(query, 11);
        found += exact.iter().filter(|study| approximate.contains(study)).count();
        expected += exact.len();
    }
    Ok(found as f64 / expected.max(1) as f64)
}

impl Graph {
    /// Opens what [`build`] wrote; `studies`: how many the index has.
    ///
    /// # Errors
    /// A reason: files that are missing or damaged.
    pub fn open(folder: &Path, studies: usize) -> Result<Graph, GraphError> {
        // The reader must outlive the graph; it holds a few paths, and an index is opened once.
        let reader: &'static mut HnswIo = Box::leak(Box::new(HnswIo::new(folder, NAME)));
        let inner: Hnsw<'static, f32, DistL2> =
            reader.load_hnsw().map_err(|error| GraphError::Unreadable(error.to_string()))?;
        if inner.get_nb_point() > studies {
            return Err(GraphError::OtherIndex { linked: inner.get_nb_point(), studies });
        }
        Ok(Graph { inner })
    }

    /// Numbers of the studies whose images are nearest to a unit vector, nearest first.
    pub fn nearest(&self, query: &[f32], count: usize) -> Vec<usize> {
        self.inner.search(query, count, WIDTH.max(4 * count)).into_iter().map(|found| found.d_id).collect()
    }
}
