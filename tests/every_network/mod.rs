//! A test for every network.
//!
//! Owns: [`every_network`], the side of the image that each is checked on. Must not know: what is checked.

use wsi_run::model::{graph::Graph, zoo::zoo};

/// The graph of a network by its name.
pub fn graph(name: &str) -> Graph {
    (zoo().into_iter().find(|e| e.name == name).expect("a network of the zoo").build)()
}

/// A module of one test per network, which calls `check(name, px)`; and a test that none is forgotten.
macro_rules! every_network {
    ($(#[$meta:meta])* mod $module:ident) => {
        every_network! {
            $(#[$meta])* mod $module:
            crescent_seg_net 64
            crescent_dense_net 75
            histonext_tiny 256
            clin_seg_net 64
            light_mu_seg 64
            light_mu_seg_v3 64
            stardist_unet 48
            hover_net 198
            hover_net_fast 96
            u_net 48
            attention_u_net 32
            u_net_resnet34 64
            u_net_efficientnet_b5 64
            u_net_mobilenet_v2 64
            u_net_mit_b0 64
            deeplab_v3_plus_mobilenet_v2 64
            deeplab_v3_resnet101 64
            resnet_50 64
            efficientnet_v2_b0 64
            hybrid_effnet_resnet 64
            ctranspath 224
        }
    };
    ($(#[$meta:meta])* mod $module:ident: $($name:ident $px:literal)*) => {
        $(#[$meta])*
        mod $module {
            $(#[test] fn $name() { super::check(stringify!($name), $px) })*
        }

        #[test]
        fn every_network_is_checked() {
            let checked = [$(stringify!($name)),*];
            for entry in zoo() {
                // Larger ones of a kind that is checked take minutes.
                let is_larger = ["histonext_base", "histonext_large", "histonext_xlarge"].contains(&entry.name);
                assert!(is_larger || checked.contains(&entry.name), "{}", entry.name);
            }
        }
    };
}
pub(crate) use every_network;
