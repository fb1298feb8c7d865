//! Many growing lists of runs in one block of memory.
//!
//! Owns: [`RunLists`], [`RunList`]. Must not know: what a list stands for.
//!
//! Lists are linked, so that two are joined and one is given back in constant time, however long: most components of a
//! speckled map are a few runs that are soon dropped.

use super::{Run, stretches::NONE};

/// One run and the next of its list.
#[derive(Debug, Clone, Copy)]
struct Node {
    run: Run,
    next: u32,
}

/// A list in [`RunLists`].
#[derive(Debug, Clone, Copy)]
pub(super) struct RunList {
    head: u32,
    tail: u32,
    len: u32,
}

impl Default for RunList {
    fn default() -> Self {
        Self { head: NONE, tail: NONE, len: 0 }
    }
}

impl RunList {
    /// Number of runs.
    pub(super) fn len(&self) -> usize {
        self.len as usize
    }
}

/// The memory of all lists: 16 bytes per run.
#[derive(Debug)]
pub(super) struct RunLists {
    nodes: Vec<Node>,
    free: u32,
    held: usize,
}

impl Default for RunLists {
    fn default() -> Self {
        Self { nodes: Vec::new(), free: NONE, held: 0 }
    }
}

impl RunLists {
    /// Runs in all lists.
    pub(super) fn held(&self) -> usize {
        self.held
    }

    /// Appends `run`.
    pub(super) fn append(&mut self, list: &mut RunList, run: Run) {
        let node = Node { run, next: NONE };
        let at = if self.free == NONE {
            self.nodes.push(node);
            (self.nodes.len() - 1) as u32
        } else {
            let at = self.free;
            self.free = self.nodes[at as usize].next;
            self.nodes[at as usize] = node;
            at
        };
        if list.len == 0 {
            list.head = at;
        } else {
            self.nodes[list.tail as usize].next = at;
        }
        list.tail = at;
        list.len += 1;
        self.held += 1;
    }

    /// Widens the last run by `run` if the two overlap or touch; whether they do.
    pub(super) fn widen_last(&mut self, list: &RunList, run: Run) -> bool {
        let Some(node) = self.nodes.get_mut(list.tail as usize) else { return false };
        let last = &mut node.run;
        let meet = last.y == run.y && run.x0 <= last.x1 && last.x0 <= run.x1;
        if meet {
            last.x0 = last.x0.min(run.x0);
            last.x1 = last.x1.max(run.x1);
        }
        meet
    }

    /// Appends all of `other`, which is not used again.
    pub(super) fn join(&mut self, list: &mut RunList, other: RunList) {
        if other.len == 0 {
            return;
        }
        if list.len == 0 {
            list.head = other.head;
        } else {
            self.nodes[list.tail as usize].next = other.head;
        }
        list.tail = other.tail;
        list.len += other.len;
    }

    /// The runs in the order they were appended.
    pub(super) fn collect(&self, list: &RunList) -> Vec<Run> {
        let mut runs = Vec::with_capacity(list.len());
        let mut at = list.head;
        while at != NONE {
            let node = self.nodes[at as usize];
            runs.push(node.run);
            at = node.next;
        }
        runs
    }

    /// Empties `list` and gives its memory to others.
    pub(super) fn release(&mut self, list: &mut RunList) {
        if list.len > 0 {
            self.nodes[list.tail as usize].next = self.free;
            self.free = list.head;
            self.held -= list.len();
        }
        *list = RunList::default();
    }
}
