//! What of a network still learns when it is refined: its decoder and what conditions it.
//!
//! Owns: [`learnable_prefixes`]. Must not know: training.

use crate::model::convert::{form, is_encoders};

/// The shortest starts of tensor names, at dots, that take in the network's decoder, heads and conditioning (embeddings
/// and feature-wise modulation) and nothing of its encoder. `None` for a name that is no network.
pub fn learnable_prefixes(network: &str) -> Option<Vec<String>> {
    let graph = form(network)?.graph(Some(2), std::iter::empty());
    let names: Vec<String> = graph.parameters().into_iter().map(|parameter| parameter.name).collect();
    let is_condition = |name: &str| name.starts_with("organ.") || name.contains(".film.");
    let learns = |name: &&String| !is_encoders(network, name) || is_condition(name);
    let frozen: Vec<&String> = names.iter().filter(|name| !learns(name)).collect();
    let shortest = |name: &String| {
        let ends = name.match_indices('.').map(|(at, _)| at + 1).chain([name.len()]);
        let mut starts = ends.map(|end| &name[..end]);
        let found = starts.find(|start| frozen.iter().all(|other| !other.starts_with(start)));
        found.unwrap_or(name).to_owned()
    };
    let mut prefixes: Vec<String> = names.iter().filter(learns).map(shortest).collect();
    prefixes.sort();
    prefixes.dedup();
    Some(prefixes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clin_seg_net_keeps_its_encoder_and_learns_decoder_heads_and_conditioning() {
        let prefixes = learnable_prefixes("clin_seg_net").unwrap();
        for expected in ["organ.", "stages.0.film.", "stages.3.film.", "stages.4.", "stages.6.", "mask.", "edge."] {
            assert!(prefixes.iter().any(|p| p == expected), "{expected}: {prefixes:?}");
        }
        let learns = |name: &str| prefixes.iter().any(|p| name.starts_with(p.as_str()));
        assert!(!learns("stages.0.convs.0.weight") && !learns("stages.3.squeeze.weight"));
    }

    #[test]
    fn encoders_of_packages_stay_as_they_are() {
        let prefixes = learnable_prefixes("crescent_seg_net").unwrap();
        assert!(prefixes.iter().all(|p| !p.starts_with("encoder")) && prefixes.contains(&"decoder.".to_owned()));
        assert_eq!(learnable_prefixes("no_such_net"), None);
    }
}
