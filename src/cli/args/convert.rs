//! What `wsi-run convert` may be told.
//!
//! Owns: the clap types of the verb. Must not know: checkpoints.

use clap::Args;
use std::path::PathBuf;

/// Examples of the verb.
pub(super) const EXAMPLES: &str = "\
Examples:
  HoVer-Net, PanNuke (vqdang/hover_net, TIAToolbox)
    wsi-run convert hovernet_fast_pannuke_type_tf2pytorch.tar --model hover_net_fast --classes pannuke -o hover.safetensors
  segmentation-models-pytorch, FPN on ResNet-34
    wsi-run convert fpn.pth --model crescent_seg_net --classes crescent=#c02020 --mpp 0.5 -o crescent.safetensors
  torchvision, DenseNet-121 trained for three classes
    wsi-run convert best.pth --model crescent_dense_net --classes a=#e0b000,b=#d06000,c=#a00000 --mpp 0.5 -o net.safetensors
  timm, ConvNeXt to start HistoNeXt from
    wsi-run convert model.safetensors --model histonext_tiny --encoder-only -o encoder.safetensors
  RetCCL, ResNet-50 to start from
    wsi-run convert best_ckpt.pth --model resnet_50 --encoder-only --mpp 1 -o retccl.safetensors
  MoCo, one of two encoders
    wsi-run convert moco.pth.tar --model resnet_50 --encoder-only --prefix module.encoder_q. --mpp 0.5 -o moco.safetensors

Checkpoints are read without running anything in them. Keras (.h5) is not read.";

/// `convert`.
#[derive(Debug, Clone, Args)]
pub struct ConvertArgs {
    /// The checkpoint: .pth, .pt, .tar, .bin of PyTorch (any version), or .safetensors
    #[arg(value_name = "CHECKPOINT")]
    pub checkpoint: PathBuf,
    /// The network it was trained as; `wsi-run models` lists them
    #[arg(long, value_name = "NAME")]
    pub model: String,
    /// The weights to write
    #[arg(short, long, value_name = "SAFETENSORS")]
    pub output: PathBuf,
    /// Classes in the order of the network's outputs, background left out: `tumour=#c02020,stroma=#20c020`, or a built-in
    /// set: pannuke, consep, monusac, kumar (nuclei without types)
    #[arg(long, value_name = "CLASSES", conflicts_with = "encoder_only")]
    pub classes: Option<String>,
    /// Classes from a `type_info.json` of HoVer-Net
    #[arg(long, value_name = "JSON", conflicts_with_all = ["classes", "encoder_only"])]
    pub classes_from: Option<PathBuf>,
    /// Resolution of the training images, µm/px; needed where the network has none of its own
    #[arg(long, value_name = "MPP")]
    pub mpp: Option<f64>,
    /// Normalisation of the training images: imagenet, unit (0–1), or `mean,mean,mean/std,std,std`; default: the
    /// network's own
    #[arg(long, value_name = "NAME")]
    pub normalisation: Option<String>,
    /// Licence of the weights, as their authors state it
    #[arg(long, value_name = "TEXT", default_value = "not stated")]
    pub licence: String,
    /// Data the weights were trained on
    #[arg(long, value_name = "TEXT", default_value = "not stated")]
    pub training_data: String,
    /// Take the encoder's tensors alone, to start a training from
    #[arg(long)]
    pub encoder_only: bool,
    /// Which dict of the checkpoint holds the tensors; state_dict, model, net, desc and the like are found without
    #[arg(long, value_name = "KEY")]
    pub entry: Option<String>,
    /// Take only tensors whose names start so, and take it off; module. and the like are found without
    #[arg(long, value_name = "TEXT")]
    pub prefix: Option<String>,
}
