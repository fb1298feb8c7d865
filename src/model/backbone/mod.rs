//! Encoders that more than one network may stand on. A backbone adds its layers to a graph under a prefix and gives
//! back its feature maps; it knows nothing of heads.

pub(super) mod convnext;
pub(super) mod densenet;
pub(super) mod efficientnet;
pub(super) mod efficientnet_v2;
pub(super) mod mix_transformer;
pub(super) mod mobilenet_v2;
pub(super) mod resnet;
pub(super) mod swin;
