//! A piece of a data set: pixels and what is known of them.
//!
//! Owns: [`Sample`], [`Truth`], [`Dot`], [`Samples`]. Must not know: networks, losses, which layout files have.

use super::class_tree::NodeIndex;
use crate::pixels::RgbImage;

/// Pixels and what is known of them, at one resolution.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// What is seen.
    pub image: RgbImage,
    /// What is known.
    pub truth: Truth,
    /// µm per px of `image`, when known.
    pub mpp: Option<f64>,
    /// Row of the network's embedding (organ); 0 where nothing is known.
    pub kind: usize,
}

/// What is known of a [`Sample`]; `None` says that this data set does not tell it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Truth {
    /// `[h, w]` class of each px: a node of the class tree, or [`super::class_tree::UNKNOWN`].
    pub semantic: Option<Vec<u8>>,
    /// `[h, w]` number of the nucleus each px lies in, from 1 without gaps; 0 is background.
    pub instances: Option<Vec<u32>>,
    /// Class of nucleus `k` at `k − 1`; empty where `instances` is `None`.
    pub instance_nodes: Vec<NodeIndex>,
    /// Nuclei of which only the place and the class are known; all nuclei of the image have one, but for px whose
    /// `semantic` is [`super::class_tree::UNKNOWN`].
    pub dots: Option<Vec<Dot>>,
    /// Class of the whole image.
    pub label: Option<NodeIndex>,
}

/// A nucleus of which only the place and the class are known.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Dot {
    /// px from the left edge of the image; the middle of the first px is at 0.5.
    pub x: f32,
    /// px from its top edge.
    pub y: f32,
    /// Class.
    pub node: NodeIndex,
}

/// Where samples come from. What a data set, a split, an augmented set and a mixture of sets have in common.
pub trait Samples: Send + Sync {
    /// Samples of one epoch.
    fn len(&self) -> usize;

    /// Whether there is none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The sample `index` of `epoch`; the same for the same three numbers, on any thread.
    ///
    /// # Errors
    /// A file that cannot be read or does not hold what its data set says, with its path.
    fn sample(&self, index: usize, epoch: u64, seed: u64) -> Result<Sample, super::TrainError>;

    /// What messages call this sample: the file and place it comes from.
    fn name(&self, index: usize) -> String;

    /// Whose this sample is, where that is known and does not depend on the epoch.
    fn patient(&self, index: usize) -> Option<String> {
        let _ = index;
        None
    }

    /// The file and place that the sample of this epoch comes from, where it is drawn at random.
    fn origin(&self, index: usize, epoch: u64, seed: u64) -> String {
        let _ = (epoch, seed);
        self.name(index)
    }
}
