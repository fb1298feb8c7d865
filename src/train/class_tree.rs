//! Which classes there are, and which of them are kinds of others.
//!
//! Owns: [`ClassTree`]. Must not know: data sets, losses.
//! Source: the label hierarchies of "Learning from data sets with different label sets" (paper 5): a network predicts the
//! leaves; a data set labelled at coarser nodes sums its leaves' probabilities.

use crate::model::ClassInfo;

/// A forest of classes. A leaf is what a network predicts; any node may be what a data set's label says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClassTree {
    nodes: Vec<ClassNode>,
    leaves: Vec<u8>,
}

/// One class and the class it is a kind of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClassNode {
    /// Name and colour.
    pub class: ClassInfo,
    /// Index of the node this is a kind of; `None` at the top. Comes before this node.
    pub parent: Option<u8>,
}

/// A node is said by its index in [`ClassTree::nodes`].
pub type NodeIndex = u8;

/// What stands where nothing is known (of a px in [`crate::train::sample::Truth::semantic`]).
pub const UNKNOWN: NodeIndex = 255;

/// What stands where no class of the tree is (of a px in [`crate::train::sample::Truth::semantic`]).
pub const BACKGROUND: NodeIndex = 254;

impl ClassTree {
    /// A tree of these nodes, at most 254, parents before their kinds.
    ///
    /// # Errors
    /// A parent that does not come before; two classes of one name; more than 254 nodes.
    pub fn new(nodes: Vec<ClassNode>) -> Result<Self, String> {
        if nodes.len() > 254 {
            return Err(format!("class tree of `{}` nodes, expected at most `254`", nodes.len()));
        }
        for (i, node) in nodes.iter().enumerate() {
            if node.parent.is_some_and(|p| usize::from(p) >= i) {
                return Err(format!("class `{}`: its parent comes after it", node.class.name));
            }
            if nodes[..i].iter().any(|n| n.class.name == node.class.name) {
                return Err(format!("class `{}` stands twice in the class tree", node.class.name));
            }
        }
        let is_leaf = |i: usize| nodes.iter().all(|n| n.parent.map(usize::from) != Some(i));
        let leaves = (0..nodes.len()).filter(|&i| is_leaf(i)).map(|i| i as u8).collect();
        Ok(Self { nodes, leaves })
    }

    /// All classes.
    pub fn nodes(&self) -> &[ClassNode] {
        &self.nodes
    }

    /// The nodes a network predicts, in the order of its channels (a background channel, if any, comes before them).
    pub fn leaves(&self) -> &[NodeIndex] {
        &self.leaves
    }

    /// The node of this name.
    pub fn find(&self, name: &str) -> Option<NodeIndex> {
        self.nodes.iter().position(|n| n.class.name == name).map(|i| i as u8)
    }

    /// Whether each leaf (in the order of [`ClassTree::leaves`]) is `node` or a kind of it.
    pub fn leaves_of(&self, node: NodeIndex) -> Vec<bool> {
        self.leaves.iter().map(|&leaf| self.is_kind_of(leaf, node)).collect()
    }

    fn is_kind_of(&self, mut node: NodeIndex, of: NodeIndex) -> bool {
        loop {
            if node == of {
                return true;
            }
            match self.nodes[usize::from(node)].parent {
                Some(parent) => node = parent,
                None => return false,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str, parent: Option<u8>) -> ClassNode {
        ClassNode { class: ClassInfo { name: name.into(), color: [0, 0, 0] }, parent }
    }

    #[test]
    fn a_node_has_the_leaves_below_it() {
        let tree = ClassTree::new(vec![
            node("nucleus", None),
            node("inflammatory", Some(0)),
            node("lymphocyte", Some(1)),
            node("macrophage", Some(1)),
            node("epithelial", Some(0)),
        ])
        .unwrap();
        assert_eq!(tree.leaves(), [2, 3, 4]);
        assert_eq!(tree.leaves_of(1), [true, true, false]);
        assert_eq!(tree.leaves_of(0), [true; 3]);
        assert_eq!(tree.leaves_of(4), [false, false, true]);
        assert_eq!(tree.find("macrophage"), Some(3));
    }

    #[test]
    fn a_tree_that_is_none_is_an_error() {
        assert!(ClassTree::new(vec![node("a", Some(0))]).unwrap_err().contains("parent"));
        assert!(ClassTree::new(vec![node("a", None), node("a", None)]).unwrap_err().contains("twice"));
    }
}
