//! From a data set's own labels to nodes of the class tree.
//!
//! Owns: [`LabelMap`]. Must not know: files.

use crate::{
    config::settings::data::{DataSet, Unlabelled},
    train::{
        TrainError,
        class_tree::{BACKGROUND, ClassTree, NodeIndex, UNKNOWN},
    },
};

/// The labels of one data set.
#[derive(Debug, Clone)]
pub struct LabelMap {
    set: String,
    nodes: Vec<(String, NodeIndex)>,
    class: Option<NodeIndex>,
    /// What has no label.
    pub unlabelled: NodeIndex,
}

impl LabelMap {
    /// The map of a set.
    ///
    /// # Errors
    /// A class that is not in the tree.
    pub fn new(set: &DataSet, tree: &ClassTree) -> Result<Self, TrainError> {
        let node = |name: &str| match name {
            "background" => Ok(BACKGROUND),
            "unknown" => Ok(UNKNOWN),
            name => tree.find(name).ok_or_else(|| {
                let known: Vec<String> = tree.nodes().iter().map(|n| format!("`{}`", n.class.name)).collect();
                let message = format!(
                    "data set `{}` names a class that is not in `data.classes`: found `{name}`, expected one of {}",
                    set.name,
                    known.join(", ")
                );
                TrainError::new(message).hint("or `background`, or `unknown` for what is not to be learned from")
            }),
        };
        let nodes: Result<Vec<_>, TrainError> =
            set.labels.iter().map(|(label, name)| Ok((label.clone(), node(name)?))).collect();
        let unlabelled = match set.unlabelled {
            Unlabelled::Background => BACKGROUND,
            Unlabelled::Unknown => UNKNOWN,
        };
        let class = set.class.as_deref().map(node).transpose()?;
        Ok(Self { set: set.name.clone(), nodes: nodes?, class, unlabelled })
    }

    /// Class of a label.
    ///
    /// # Errors
    /// A label that the set does not explain, and the file it stands in.
    pub fn node(&self, label: &str, file: &str) -> Result<NodeIndex, TrainError> {
        let found = self.nodes.iter().find(|(known, _)| known == label).map(|&(_, node)| node);
        found.or(self.class).ok_or_else(|| {
            let known: Vec<String> = self.nodes.iter().map(|(label, _)| format!("`{label}`")).collect();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            let message =
                format!("label `{label:.60}` is not in `labels` of data set `{}`, which has {known}: {file}", self.set);
            TrainError::new(message).hint(format!(
                "add `{label:.60}: <class>` to `data.sets.{}.labels` (`unknown` leaves it out), or set `class` for all others",
                self.set
            ))
        })
    }

    /// Class of a label if the set explains it.
    pub fn find(&self, label: &str) -> Option<NodeIndex> {
        self.nodes.iter().find(|(known, _)| known == label).map(|&(_, node)| node)
    }

    /// Class of what has no label of its own.
    ///
    /// # Errors
    /// The set names none.
    pub fn class(&self, file: &str) -> Result<NodeIndex, TrainError> {
        self.class.ok_or_else(|| {
            TrainError::new(format!("data set `{}` has nuclei without types and no `class` for them: {file}", self.set))
                .hint(format!("set `data.sets.{}.class`, for example to `nucleus`", self.set))
        })
    }

    /// Classes of px labels; the px are known by their numbers.
    ///
    /// # Errors
    /// A label that the set does not explain; 0 need not be explained.
    pub fn of_px(&self, labels: &[u32], file: &str) -> Result<Vec<NodeIndex>, TrainError> {
        let mut known: Vec<Option<NodeIndex>> = vec![None; 256];
        let node_of = |label: u32| match self.find(&label.to_string()) {
            Some(node) => Ok(node),
            None if label == 0 => Ok(self.unlabelled),
            None => self.node(&label.to_string(), file),
        };
        labels
            .iter()
            .map(|&label| match known.get_mut(label as usize) {
                Some(slot) => match *slot {
                    Some(node) => Ok(node),
                    None => node_of(label).inspect(|&node| *slot = Some(node)),
                },
                None => node_of(label),
            })
            .collect()
    }
}
