//! The losses of each network's paper.
//!
//! Owns: [`of_paper`]. Must not know: how losses are computed.

use crate::{
    config::settings::{LossOfOutput, Term},
    model::{Head, graph::Graph},
};

const SMOOTH: f64 = 1.0;
const DICE: Term = Term::Dice { smooth: SMOOTH };
const CLASSES: Term = Term::CrossEntropy { class_weights: None, coarse_weight: None };
const HISTO: Term = Term::Histo { bce: 0.3, tversky: 0.7, alpha: 0.3, beta: 0.7, smooth: SMOOTH };
const STRUCTURE: Term = Term::Structure { window_px: 31, edge_gain: 5.0 };

/// What an output is held to where nobody says it: the losses of the network's paper, or of networks with such a head.
pub fn of_paper(graph: &Graph, output: &str) -> LossOfOutput {
    let found = graph.outputs().iter().find(|o| o.name == output);
    let (head, channels) = found.map_or((Head::Semantic, 1), |o| (o.head, graph.channels(o.node)));
    let network = graph.name();
    let terms = match (network, head) {
        // HistoNeXt: sum with weights 1.
        (name, Head::NuclearPixel) if name.starts_with("histonext") => {
            vec![(1.0, Term::AsymmetricFocal { gamma_positive: 1.0, gamma_negative: 4.0, clip: 0.05 })]
        }
        (name, Head::TypeProbability) if name.starts_with("histonext") => {
            vec![(1.0, Term::Focal { alpha: 0.25, gamma: 2.0 })]
        }
        // StarDist: 1, 0.2, 1.
        ("stardist_unet", Head::NuclearPixel) => vec![(1.0, Term::Bce)],
        ("stardist_unet", Head::TypeProbability) => vec![(1.0, CLASSES)],
        ("clin_seg_net", _) if output == "edge" => vec![(1.0, Term::Bce)],
        ("clin_seg_net", _) => vec![(1.0, HISTO)],
        ("light_mu_seg" | "light_mu_seg_v3", _) if channels == 1 => vec![(1.0, STRUCTURE)],
        ("light_mu_seg" | "light_mu_seg_v3", _) => vec![(1.0, DICE), (1.0, CLASSES)],
        (_, Head::StarDistance) => vec![(0.2, Term::Mae { relative_from: None })],
        (_, Head::HorizontalVertical) => vec![(1.0, Term::Mse), (1.0, Term::Msge)],
        (_, Head::Classification) => vec![(1.0, CLASSES)],
        // HoVer-Net: cross entropy and Dice, weights 1.
        (_, Head::NuclearPixel) => vec![(1.0, Term::Bce), (1.0, DICE)],
        (_, Head::TypeProbability) => vec![(1.0, CLASSES), (1.0, DICE)],
        // CrescentSegNet: half and half.
        (_, Head::Semantic) if channels == 1 => vec![(0.5, Term::Bce), (0.5, DICE)],
        (_, Head::Semantic) => vec![(0.5, CLASSES), (0.5, DICE)],
    };
    LossOfOutput { weight: 1.0, terms }
}
