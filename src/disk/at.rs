//! Where something is: a path, or a name below a directory that is open.
//!
//! A path may lead to another directory tomorrow, when a directory is renamed or a link pointed elsewhere. An open
//! directory stays the same directory. So a store opens its directories once, and every call says where by a name below
//! one of them.

use std::{any::Any, fmt, path::Path, sync::Arc};

/// A directory that a [`Disk`](super::Disk) has opened.
///
/// Cheap to clone. What it holds is the disk's own affair: a descriptor, a number, or nothing.
#[derive(Clone)]
pub struct Dir {
    held: Option<Arc<dyn Any + Send + Sync>>,
}

impl Dir {
    /// For a disk whose paths lead to the same directories for as long as it lives: the calls get the path.
    #[must_use]
    pub const fn by_path() -> Self {
        Self { held: None }
    }

    /// A directory that the disk holds by this value, such as a descriptor.
    #[must_use]
    pub fn held(by: impl Any + Send + Sync) -> Self {
        Self { held: Some(Arc::new(by)) }
    }

    /// The value that it is held by, if it is of this type.
    #[must_use]
    pub fn get<T: Any>(&self) -> Option<&T> {
        self.held.as_ref()?.downcast_ref()
    }
}

impl fmt::Debug for Dir {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.held.is_some() { "Dir(held)" } else { "Dir(by path)" })
    }
}

/// Where a call of a [`Disk`](super::Disk) acts: an absolute path, and the name below an open [`Dir`] if there is one.
///
/// Both say the same, until a directory on the way is exchanged. A disk that holds its directories goes by the
/// name below them; any other goes by the path.
#[derive(Clone, Copy, Debug)]
pub struct At<'a> {
    path: &'a Path,
    below: Option<(&'a Dir, &'a Path)>,
}

impl<'a> At<'a> {
    /// An absolute path, below no open directory.
    #[must_use]
    pub const fn new(path: &'a Path) -> Self {
        Self { path, below: None }
    }

    /// A name below an open directory, or the directory itself if the name is empty; and the path that this was when the
    /// directory was opened.
    #[must_use]
    pub const fn below(path: &'a Path, dir: &'a Dir, name: &'a Path) -> Self {
        Self { path, below: Some((dir, name)) }
    }

    /// The absolute path.
    #[must_use]
    pub const fn path(&self) -> &'a Path {
        self.path
    }

    /// The open directory and the name below it, if there is one.
    #[must_use]
    pub const fn dir(&self) -> Option<(&'a Dir, &'a Path)> {
        self.below
    }
}

impl<'a> From<&'a Path> for At<'a> {
    fn from(path: &'a Path) -> Self {
        Self::new(path)
    }
}

impl<'a> From<&'a std::path::PathBuf> for At<'a> {
    fn from(path: &'a std::path::PathBuf) -> Self {
        Self::new(path)
    }
}
