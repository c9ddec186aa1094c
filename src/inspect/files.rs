//! The data files of a store, and the files that stand for its members.

use std::{collections::BTreeMap, path::PathBuf};

use super::Inspection;
use crate::{
    disk::{FileKind, layout, root},
    error::Result,
    id::{FileId, Scope},
};

/// A data file (`*.seg`) as it is in the directory.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct InspectedFile {
    /// Its path under the root of the store.
    pub path: PathBuf,
    /// In which scope its states are.
    pub scope: Scope,
    /// The generation of the store that made it.
    pub generation: u64,
    /// The number of the [member](crate::Member) that made it; 0 for the store itself.
    pub member: u64,
    /// Its length in bytes.
    pub len: u64,
    /// How many bytes it takes on the medium. Holes are the difference.
    pub allocated: u64,
    /// How many names it has: more than one if an export or an import linked it.
    pub links: u64,
}

/// A file that stands for a member.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct InspectedMember {
    /// Its path under the root of the store.
    pub path: PathBuf,
    /// The generation that admitted it.
    pub generation: u64,
    /// Its number.
    pub member: u32,
    /// The process that joined as this member, in words; `None` if none has yet.
    pub process: Option<String>,
}

impl Inspection {
    /// The data files that are there, by path.
    ///
    /// # Errors
    ///
    /// Those of the file system.
    pub fn files(&self) -> Result<Vec<InspectedFile>> {
        Ok(self.data_files()?.into_values().collect())
    }

    pub(super) fn data_files(&self) -> Result<BTreeMap<FileId, InspectedFile>> {
        let mut files = BTreeMap::new();
        for scope in [Scope::Exclusive, Scope::Shared] {
            let Some(dir) = layout::scope_dir(scope).to_str() else { continue };
            for entry in root::list_if_there(&self.volume, dir)? {
                let id = layout::parse_segment(scope, &entry.name);
                let Some(id) = id.filter(|_| entry.metadata.kind == FileKind::File) else { continue };
                let metadata = entry.metadata;
                files.insert(
                    id,
                    InspectedFile {
                        path: layout::segment(id),
                        scope,
                        generation: id.generation,
                        member: id.member(),
                        len: metadata.len,
                        allocated: metadata.allocated,
                        links: metadata.links,
                    },
                );
            }
        }
        Ok(files)
    }

    /// The members that were admitted and not dismissed, as their files say. Whether their processes are alive is not looked
    /// at.
    ///
    /// # Errors
    ///
    /// Those of the file system.
    pub fn members(&self) -> Result<Vec<InspectedMember>> {
        let mut members = Vec::new();
        for entry in self.volume.list("")? {
            let Some((generation, member)) = layout::parse_member(&entry.name) else { continue };
            let path = layout::member(generation, member);
            let Some(said) = self.volume.read_if_there(&path)? else { continue };
            let said = String::from_utf8_lossy(&said).trim().to_owned();
            let process = Some(said).filter(|said| said != "admitted" && !said.is_empty());
            members.push(InspectedMember { path, generation, member, process });
        }
        members.sort_by_key(|member| (member.generation, member.member));
        Ok(members)
    }
}
