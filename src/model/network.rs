//! A network of the zoo as a model of the flow.
//!
//! Owns: [`NetworkModel`], [`Execute`]. Must not know: slides, tiles' positions, how a graph is run.

use super::{
    blend::{Blend, BlendForm},
    clin_seg_net::CLIN_SEG_NET_ORGANS,
    convert::forms::{Outputs, form},
    graph::Graph,
    heads::{HeadPlan, HeadValues, head_plans},
    slide_use::{SlideUse, class_head, slide_use},
    spec::{ClassInfo, Head, HeadMap, Model, ModelError, ModelSpec, ModelTile, Wanted, check_tile},
    weights::{Weights, WeightsMetadata},
};
use crate::{
    config::settings::{self, NetworkWeights, Precision},
    units::Mpp,
};
use rayon::prelude::*;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Runs a graph with its weights on tiles.
pub trait Execute: Send + Sync {
    /// Runs a batch.
    ///
    /// # Shapes
    /// - `images`: `N` tiles `[side_px, side_px, 3]` u8 RGB
    /// - `sink` is given every row of every output of every image once, from any thread; of an image, all rows of an
    ///   output before the first of the next output, else in any order.
    ///
    /// # Errors
    /// [`ModelError`] when the device failed.
    fn run(&self, images: &[&[u8]], side_px: usize, sink: &(dyn Fn(OutputRows<'_>) + Sync)) -> Result<(), ModelError>;

    /// Runs a batch and makes the head maps as well, of which the middle `core_px` is wanted if that is said, for an
    /// executor that does this better than [`HeadPlan::fill`]; nothing from others.
    ///
    /// # Errors
    /// [`ModelError`] when the device failed.
    fn run_to_maps(
        &self,
        tiles: &mut [ModelTile<'_>],
        side_px: usize,
        heads: &[HeadPlan],
        core_px: Option<u32>,
    ) -> Result<Option<Vec<Vec<HeadMap>>>, ModelError> {
        let _ = (tiles, side_px, heads, core_px);
        Ok(None)
    }

    /// Blocks that head maps are added to where they are made, for an executor that has them.
    fn blend(&self, heads: &[HeadPlan], form: &BlendForm) -> Option<Arc<dyn Blend>> {
        let _ = (heads, form);
        None
    }

    /// Whether it makes head maps, and normalises the stain of tiles.
    fn makes_maps(&self) -> bool {
        false
    }

    /// As [`Model::is_one_core`] says.
    fn is_one_core(&self) -> bool {
        false
    }

    /// How many batches may be run at once with gain, each by a thread of its own.
    fn batches_at_once(&self) -> usize {
        1
    }

    /// Bytes it holds while it runs batches of `batch` tiles, weights included.
    fn bytes(&self, side_px: usize, batch: usize) -> u64;

    /// Bytes of them that are the weights, laid out for running.
    fn weight_bytes(&self) -> u64 {
        0
    }
}

/// Some rows of an output of an image.
#[derive(Debug, Clone, Copy)]
pub struct OutputRows<'a> {
    /// Which image of the batch.
    pub image: usize,
    /// Which output, as in [`Graph::outputs`].
    pub output: usize,
    /// The first row.
    pub first_row: usize,
    /// Their values.
    pub values: HeadValues<'a>,
}

/// Makes an [`Execute`] of a graph, its weights (which say how pixels are normalised) and options.
pub type MakeExecute<'a> = &'a dyn Fn(&Graph, &Weights, &ExecuteOptions) -> Result<Box<dyn Execute>, ModelError>;

/// How a graph is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExecuteOptions {
    /// Numbers it computes with.
    pub precision: Precision,
    /// What the images show: the row of every embedding.
    pub kind: usize,
}

/// A network with its weights.
pub struct NetworkModel {
    spec: ModelSpec,
    graph: Graph,
    heads: Vec<HeadPlan>,
    execute: Box<dyn Execute>,
}

impl NetworkModel {
    /// The network of the settings.
    ///
    /// # Errors
    /// [`ModelError`]: weights that cannot be read or are another network's; no such network; a network that cannot
    /// be run.
    pub fn new(
        settings: &settings::Network,
        input_mpp: Option<Mpp>,
        make: MakeExecute<'_>,
    ) -> Result<Self, ModelError> {
        let (graph, weights) = match &settings.weights {
            NetworkWeights::Random => random(settings.name.as_deref().unwrap_or_default())?,
            NetworkWeights::Nuclei => Weights::nuclei(),
            NetworkWeights::File(path) => Weights::open(path).map_err(|e| {
                let hint = e.hint.map_or_else(String::new, |hint| format!("; {hint}"));
                ModelError(format!("{e}{hint}"))
            })?,
        };
        if let Some(wanted) = settings.name.as_deref().filter(|&name| name != graph.name()) {
            return Err(ModelError(format!("weights are for `{}`, `model.network.name` is `{wanted}`", graph.name())));
        }
        let used = usable(graph.name())?;
        let kind = kind(graph.name(), settings.organ.as_deref())?;
        let graph = graph.for_use();
        let is_trained = settings.weights != NetworkWeights::Random;
        let spec = spec(&graph, &used, &weights, input_mpp, is_trained)?;
        let heads = head_plans(&graph, used.out_stride);
        let execute = make(&graph, &weights, &ExecuteOptions { precision: settings.precision, kind })?;
        Ok(Self { spec, graph, heads, execute })
    }
}

fn usable(name: &str) -> Result<SlideUse, ModelError> {
    slide_use(name).ok_or_else(|| ModelError(format!("there is no network `{name}`: see `wsi-run models`")))
}

/// The row of a network's embedding for an organ.
fn kind(network: &str, organ: Option<&str>) -> Result<usize, ModelError> {
    let Some(organ) = organ else { return Ok(0) };
    if network != "clin_seg_net" {
        return Err(ModelError(format!("`organ` is `{organ}`, but `{network}` is not told the organ")));
    }
    CLIN_SEG_NET_ORGANS
        .iter()
        .position(|&o| o == organ)
        .ok_or_else(|| ModelError(format!("`organ` is `{organ}`, expected one of {}", CLIN_SEG_NET_ORGANS.join(", "))))
}

/// The published form of a network with the weights it has before training.
fn random(name: &str) -> Result<(Graph, Weights), ModelError> {
    let (used, form) = (usable(name)?, form(name).expect("every network that is used has a form"));
    let classes = match form.outputs {
        Outputs::Semantic | Outputs::One => 1,
        Outputs::Types | Outputs::TypesOrNone => 5,
        Outputs::Classes => 3,
    };
    let graph = (form.build)(form.outputs.of(classes));
    let metadata = WeightsMetadata {
        model: name.to_owned(),
        classes: (0..classes)
            .map(|i| ClassInfo { name: format!("class_{}", i + 1), color: PALETTE[i % PALETTE.len()] })
            .collect(),
        input_mpp: Mpp::new(used.input_mpp).expect("resolutions of the zoo are positive"),
        normalisation: form.normalisation,
        licence: "none".to_owned(),
        training_data: "none: random values".to_owned(),
        prob_threshold: None,
        about: None,
    };
    let weights = Weights::random(&graph, metadata, 0);
    Ok((graph, weights))
}

/// A map is whole whatever happened to whoever wrote rows of it.
fn lock(map: &Mutex<HeadMap>) -> MutexGuard<'_, HeadMap> {
    map.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Colours of classes nobody named (Okabe and Ito 2008).
const PALETTE: [[u8; 3]; 5] = [[230, 159, 0], [86, 180, 233], [0, 158, 115], [213, 94, 0], [204, 121, 167]];

fn spec(
    graph: &Graph,
    used: &SlideUse,
    weights: &Weights,
    input_mpp: Option<Mpp>,
    is_trained: bool,
) -> Result<ModelSpec, ModelError> {
    let side = used.tile_px as usize;
    let shapes = graph.shapes(side, side).map_err(|e| ModelError(e.to_string()))?;
    let dense = graph.outputs().iter().find(|o| o.head != Head::Classification);
    let covered = dense.map_or(used.tile_px, |o| shapes[o.node.index()].w as u32 * used.out_stride);
    let margin_px = (used.tile_px - covered) / 2;
    let mut classes = weights.metadata.classes.clone();
    if class_head(graph).is_none() && classes.len() != 1 {
        classes = vec![ClassInfo { name: "nucleus".to_owned(), color: [0, 255, 0] }];
    }
    Ok(ModelSpec {
        name: graph.name(),
        weights_sha256: is_trained.then(|| weights.sha256()),
        input_mpp: input_mpp.unwrap_or(weights.metadata.input_mpp),
        // Trained weights know their resolution; random ones take any.
        any_mpp: !is_trained,
        tile_px: used.tile_px,
        tile_step_px: used.tile_step_px,
        margin_px,
        usual_margin_px: margin_px + used.context_px,
        is_certain: false,
        out_stride: used.out_stride,
        prob_threshold: weights.metadata.prob_threshold,
        heads: head_plans(graph, used.out_stride).iter().map(|p| p.spec).collect(),
        classes,
    })
}

impl Model for NetworkModel {
    fn spec(&self) -> &ModelSpec {
        &self.spec
    }

    fn is_one_core(&self) -> bool {
        self.execute.is_one_core()
    }

    fn batches_at_once(&self) -> usize {
        self.execute.batches_at_once()
    }

    fn forward(&self, images: &[&[u8]], tile_px: u32) -> Result<Vec<Vec<HeadMap>>, ModelError> {
        let mut tiles: Vec<ModelTile<'_>> = images.iter().map(|rgb| ModelTile::plain(rgb)).collect();
        self.forward_tiles(&mut tiles, tile_px, &Wanted { core_px: tile_px, rays_above: None })
    }

    fn normalises_stain(&self) -> bool {
        self.execute.makes_maps()
    }

    fn forward_tiles(
        &self,
        tiles: &mut [ModelTile<'_>],
        tile_px: u32,
        wanted: &Wanted,
    ) -> Result<Vec<Vec<HeadMap>>, ModelError> {
        tiles.iter().try_for_each(|tile| check_tile(tile.rgb(), tile_px, self.spec.margin_px))?;
        let side = tile_px as usize;
        if let Some(maps) = self.execute.run_to_maps(tiles, side, &self.heads, Some(wanted.core_px))? {
            return Ok(maps.into_par_iter().map(|maps| wanted.of(maps)).collect());
        }
        let images: Vec<&[u8]> = tiles.iter().map(ModelTile::rgb).collect();
        let shapes = self.graph.shapes(side, side).map_err(|e| ModelError(e.to_string()))?;
        // What tells which rays are wanted: known before the first ray is, since outputs come in the graph's order.
        let nuclear = self.heads.iter().position(|plan| plan.spec.head == Head::NuclearPixel);
        let listing = nuclear.zip(wanted.rays_above).filter(|(nuclear, _)| {
            let rays = self.heads.iter().find(|plan| plan.spec.head == Head::StarDistance);
            rays.is_some_and(|rays| rays.output > self.heads[*nuclear].output)
        });
        let is_listed = |plan: &HeadPlan| listing.is_some() && plan.spec.head == Head::StarDistance;
        let blank = |plan: &HeadPlan| {
            let shape = shapes[self.graph.outputs()[plan.output].node.index()];
            let [w, h] = [shape.w, shape.h].map(|px| px.min(wanted.core_px as usize));
            Mutex::new(if is_listed(plan) { plan.unlisted(w, h) } else { plan.blank(w, h) })
        };
        // Large maps: their zeros are shared out too.
        let found: Vec<Vec<_>> = images.par_iter().map(|_| self.heads.iter().map(blank).collect()).collect();
        self.execute.run(&images, side, &|rows| {
            let maps = &found[rows.image];
            for (plan, map) in self.heads.iter().zip(maps).filter(|(plan, _)| plan.output == rows.output) {
                match listing {
                    Some((nuclear, above)) if is_listed(plan) => {
                        let nuclear = lock(&maps[nuclear]);
                        plan.list(&mut lock(map), rows.first_row, &rows.values, (&nuclear, above));
                    }
                    _ => plan.fill(&mut lock(map), rows.first_row, &rows.values),
                }
            }
        })?;
        let finished = |map: Mutex<HeadMap>| map.into_inner().unwrap_or_else(PoisonError::into_inner);
        let found = found.into_iter().map(|maps| maps.into_iter().map(finished).collect());
        Ok(if listing.is_some() { found.collect() } else { found.map(|maps| wanted.of(maps)).collect() })
    }

    fn blend(&self, form: &BlendForm) -> Option<Arc<dyn Blend>> {
        // What is said once per tile lies nowhere.
        let is_dense = self.heads.iter().all(|plan| plan.spec.head != Head::Classification);
        is_dense.then(|| self.execute.blend(&self.heads, form)).flatten()
    }

    fn bytes(&self, tile_px: u32, batch: u32) -> u64 {
        self.execute.bytes(tile_px as usize, batch as usize)
    }

    fn weight_bytes(&self) -> u64 {
        self.execute.weight_bytes()
    }
}
