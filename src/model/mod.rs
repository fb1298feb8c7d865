//! What does the model say? Models, their outputs, and the list of them.

mod augmented;
mod blend;
mod density;
mod heads;
mod hematoxylin;
mod network;
mod registry;
mod slide_use;
mod spec;
mod stain_threshold;

mod backbone;
mod clin_seg_net;
mod crescent_dense_net;
mod crescent_seg_net;
mod ctranspath;
mod deeplab_v3;
mod deeplab_v3_plus;
mod efficientnet_v2_b0;
mod histonext;
mod hover_net;
mod hybrid_effnet_resnet;
mod light_mu_seg;
mod resnet_50;
mod stardist;
mod u_net;

pub mod autograd;
pub mod convert;
pub mod graph;
pub mod weights;
pub mod zoo;

#[cfg(test)]
mod parity;

pub use crate::pixels::stain::{StainMethod, StainTables};
pub use augmented::Augmented;
pub use backbone::convnext::{ConvNextSize, ConvNextVersion};
pub use blend::{Blend, BlendForm, Blended, BlockAt, Placement, SlideBlend};
pub use clin_seg_net::{CLIN_SEG_NET_ORGANS, clin_seg_net};
pub use crescent_dense_net::crescent_dense_net;
pub use crescent_seg_net::crescent_seg_net;
pub use ctranspath::ctranspath;
pub use deeplab_v3::deeplab_v3_resnet101;
pub use deeplab_v3_plus::deeplab_v3_plus_mobilenet_v2;
pub use efficientnet_v2_b0::efficientnet_v2_b0;
pub use heads::{HeadPlan, HeadRule, HeadValues, head_plans};
pub use hematoxylin::{HEMATOXYLIN_DEFAULTS, HematoxylinModel};
pub use histonext::histonext;
pub use hover_net::{HoverNetMode, hover_net};
pub use hybrid_effnet_resnet::hybrid_effnet_resnet;
pub use light_mu_seg::light_mu_seg;
pub use network::{Execute, ExecuteOptions, MakeExecute, NetworkModel, OutputRows};
pub use registry::{ModelEntry, build, catalogue};
pub use resnet_50::resnet_50;
pub use slide_use::{SlideUse, slide_use};
pub use spec::{ClassInfo, Head, HeadMap, HeadSpec, Model, ModelError, ModelSpec, ModelTile, TilePixels, Wanted};
pub use stain_threshold::StainThresholdModel;
pub use stardist::stardist_unet;
pub use u_net::{UNetEncoder, attention_u_net, u_net, u_net_on};
