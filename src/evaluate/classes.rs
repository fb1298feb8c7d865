//! Which classes are compared: those the data set tells apart, whatever finer or other ones a model has.
//!
//! Owns: [`Classes`]. Must not know: images, metrics.

use crate::{
    model::ClassInfo,
    train::{
        class_tree::{ClassTree, NodeIndex},
        sample::Truth,
    },
};

/// No class.
pub const NONE: u8 = u8::MAX;

/// The classes of a data set's labels, and which of them the model's classes are.
#[derive(Debug, Clone, PartialEq)]
pub struct Classes {
    /// Names and colours, in the order of the tree.
    pub infos: Vec<ClassInfo>,
    nodes: Vec<NodeIndex>,
    of_predicted: Vec<u8>,
}

impl Classes {
    /// Classes that any of `truths` uses. A class of the model is the one of its name, or else the nearest above it in
    /// the tree that the labels use: `lymphocyte` is `inflammatory` where labels know no more.
    pub fn new<'a>(tree: &ClassTree, truths: impl Iterator<Item = &'a Truth>, predicted: &[ClassInfo]) -> Self {
        let mut is_used = [false; 256];
        for truth in truths {
            let places = truth.semantic.iter().flatten().copied();
            let nuclei = truth.instance_nodes.iter().copied();
            let dots = truth.dots.iter().flatten().map(|dot| dot.node);
            places.chain(nuclei).chain(dots).chain(truth.label).for_each(|node| is_used[usize::from(node)] = true);
        }
        let nodes: Vec<NodeIndex> =
            (0..tree.nodes().len()).filter(|&node| is_used[node]).map(|node| node as NodeIndex).collect();
        let infos = nodes.iter().map(|&node| tree.nodes()[usize::from(node)].class.clone()).collect();
        let of_predicted = predicted.iter().map(|class| class_of(tree, &nodes, &class.name)).collect();
        Self { infos, nodes, of_predicted }
    }

    /// Number of classes.
    pub fn len(&self) -> usize {
        self.infos.len()
    }

    /// Whether the data set has none.
    pub fn is_empty(&self) -> bool {
        self.infos.is_empty()
    }

    /// Class of a label; [`NONE`] for background and what is unknown.
    pub fn of_node(&self, node: NodeIndex) -> u8 {
        self.nodes.iter().position(|&n| n == node).map_or(NONE, |at| at as u8)
    }

    /// Class of the model's class `index`, from 0; [`NONE`] where the labels know no such class.
    pub fn of_predicted(&self, index: Option<usize>) -> u8 {
        index.and_then(|index| self.of_predicted.get(index)).copied().unwrap_or(NONE)
    }

    /// Whether the model tells this class.
    pub fn is_told(&self, class: usize) -> bool {
        self.of_predicted.iter().any(|&of| usize::from(of) == class)
    }

    /// Whether classes say anything: the labels have some, and the model tells one at least.
    pub fn are_compared(&self) -> bool {
        (0..self.len()).any(|class| self.is_told(class))
    }

    /// Whether nuclei are told apart by class: several, of which the model tells one at least.
    pub fn are_types(&self) -> bool {
        self.len() > 1 && self.are_compared()
    }
}

fn class_of(tree: &ClassTree, nodes: &[NodeIndex], name: &str) -> u8 {
    let mut at = tree.find(name);
    while let Some(node) = at {
        if let Some(class) = nodes.iter().position(|&n| n == node) {
            return class as u8;
        }
        at = tree.nodes()[usize::from(node)].parent;
    }
    NONE
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::{class_tree::ClassNode, sample::Dot};

    fn info(name: &str) -> ClassInfo {
        ClassInfo { name: name.into(), color: [0; 3] }
    }

    #[test]
    fn a_finer_class_of_the_model_is_the_coarser_one_of_the_labels() {
        let node = |name: &str, parent| ClassNode { class: info(name), parent };
        let tree = ClassTree::new(vec![
            node("nucleus", None),
            node("inflammatory", Some(0)),
            node("lymphocyte", Some(1)),
            node("epithelial", Some(0)),
        ])
        .unwrap();
        let dot = |node| Dot { x: 0.0, y: 0.0, node };
        let truth = Truth { dots: Some(vec![dot(1), dot(3)]), ..Truth::default() };
        let model = [info("epithelial"), info("lymphocyte"), info("other")];
        let classes = Classes::new(&tree, [truth].iter(), &model);
        assert_eq!(classes.infos, [info("inflammatory"), info("epithelial")]);
        assert_eq!([0, 1, 2, 9].map(|i| classes.of_predicted(Some(i))), [1, 0, NONE, NONE]);
        assert_eq!((classes.of_node(3), classes.of_node(2), classes.of_predicted(None)), (1, NONE, NONE));
        assert!(classes.are_compared() && classes.is_told(0));
    }
}
