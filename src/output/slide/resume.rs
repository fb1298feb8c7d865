//! Going on with a slide that another process, or an earlier run, has begun.
//!
//! Owns: what [`SlideWriter`] does with journals. Must not know: how a journal is written, how parts are.

use super::SlideWriter;
use crate::{
    geometry::{Rect, Target},
    output::{
        OutputError, ResultKind, SlidePart,
        commit::remove,
        journal::{self, Journal},
    },
};

impl SlideWriter {
    /// Takes up what earlier owners of the slide left in their journals, and keeps one from here on. Returns the cores
    /// of the parts that are there; `identity` says what the parts depend on, and journals of another are passed over,
    /// as are parts that `is_wanted` does not take. Only the owner of the slide may call it.
    ///
    /// # Errors
    /// [`OutputError`] when the disk says no.
    pub fn resume(
        &mut self,
        identity: &str,
        is_wanted: &dyn Fn(Rect<Target>) -> bool,
    ) -> Result<Vec<Rect<Target>>, OutputError> {
        if self.kind == ResultKind::Tiles {
            // They come as one, at the end.
            return Ok(Vec::new());
        }
        self.journal = Some(Journal::create(self.staging.scratch(journal::NAME), identity)?);
        self.staging.keep(Some(journal::NAME));
        let left = self.staging.adopt()?;
        let mut cores = Vec::new();
        for dir in &left {
            journal::replay(&dir.join(journal::NAME), identity, &mut |parts| {
                let Some(core) = parts.last().map(SlidePart::core).filter(|c| is_wanted(*c) && !cores.contains(c))
                else {
                    return Ok(());
                };
                cores.push(core);
                parts.into_iter().try_for_each(|part| self.write(part))
            })?;
        }
        // What was left may go only when it is durable here.
        if let Some(journal) = self.journal.as_mut().filter(|_| !cores.is_empty()) {
            journal.sync()?;
        }
        // Its former owner may be removing it, too; the rest is swept away at the end of the run.
        left.iter().for_each(|dir| drop(remove(dir)));
        Ok(cores)
    }

    /// Adds no further part to the journal.
    pub fn end_journal(&mut self) {
        self.journal = None;
    }

    /// Removes everything it wrote, the journal too.
    pub fn discard(mut self) {
        self.staging.keep(None);
    }
}
