//! The directory a run began in: a mount that vanishes leaves an empty directory of the same name, which is another.
//!
//! Owns: [`OutputPlace`]. Must not know: what is written there.

use crate::output::OutputError;
use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

/// An output directory as it was when the run began.
#[derive(Debug, Clone)]
pub struct OutputPlace {
    dir: PathBuf,
    /// Its file system and its number there.
    id: (u64, u64),
}

fn id_of(dir: &Path) -> io::Result<(u64, u64)> {
    let meta = fs::metadata(dir)?;
    Ok((meta.dev(), meta.ino()))
}

impl OutputPlace {
    /// The directory `dir`, made when it is not there.
    ///
    /// # Errors
    /// [`OutputError`] of the file system.
    pub fn of(dir: &Path) -> Result<Self, OutputError> {
        let id = fs::create_dir_all(dir).and_then(|()| id_of(dir));
        let id = id.map_err(|source| OutputError::Io { path: dir.to_owned(), source })?;
        Ok(Self { dir: dir.to_owned(), id })
    }

    /// Whether the directory is still the one it was.
    ///
    /// # Errors
    /// [`OutputError`] that says what stands in its place.
    pub fn check(&self) -> Result<(), OutputError> {
        let other = || io::Error::other("another directory stands where the output directory was: unmounted, or moved");
        let checked = id_of(&self.dir).and_then(|id| if id == self.id { Ok(()) } else { Err(other()) });
        checked.map_err(|source| OutputError::Io { path: self.dir.clone(), source })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_that_was_moved_or_replaced_is_not_the_one_the_run_began_in() {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("a/out");
        let place = OutputPlace::of(&dir).unwrap();
        place.check().unwrap();
        fs::rename(&dir, home.path().join("elsewhere")).unwrap();
        assert!(place.check().unwrap_err().to_string().contains("No such file"));
        fs::create_dir(&dir).unwrap();
        assert!(place.check().unwrap_err().to_string().contains("another directory"));
        fs::remove_dir(&dir).unwrap();
        fs::rename(home.path().join("elsewhere"), &dir).unwrap();
        place.check().unwrap();
    }
}
