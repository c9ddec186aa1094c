//! Where the files of a manifest came from, those that were not written under their own names.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    codec::{Reader, Writer},
    frame::take_sorted,
    handles::{FILE_RECORD_LEN, FileIndex, FileTable, put_file, take_file},
};
use crate::{
    error::Malformed,
    id::{CheckpointId, StoreId},
    manifest::{FileOrigin, Lender, Lent, Origins},
    ordered::OrdMap,
};

type Parsed<T> = Result<T, Malformed>;

/// A root without any bytes, and an id.
const LEAST_LENDER_LEN: usize = 8 + 8;
/// An index, a store, a file, and that it is not lent.
const LEAST_ORIGIN_LEN: usize = 4 + 16 + FILE_RECORD_LEN + 1;

/// Writes the lenders and the origins of those files that are in the index.
pub(super) fn put(writer: &mut Writer, files: &FileIndex, origins: &Origins) {
    let used: Vec<_> = origins.iter().filter_map(|(file, origin)| Some((files.get(*file)?, origin))).collect();
    let mut lenders: BTreeMap<&Lender, u32> =
        used.iter().filter_map(|(_, origin)| Some((&*origin.lent.as_ref()?.by, 0))).collect();
    writer.put(lenders.len() as u64);
    for ((lender, place), n) in lenders.iter_mut().zip(0..) {
        writer.put_bytes(lender.root.as_os_str().as_bytes());
        writer.put(lender.checkpoint.get());
        *place = n;
    }
    writer.put(used.len() as u64);
    for (index, FileOrigin { store, file, lent }) in used {
        writer.put(index);
        writer.put_raw(&store.0);
        put_file(writer, *file);
        writer.put(u8::from(lent.is_some()));
        if let Some(Lent { by, file }) = lent {
            writer.put(lenders.get(&**by).copied().unwrap_or(u32::MAX));
            put_file(writer, *file);
        }
    }
}

/// Reads them; `store` is the one that the manifest belongs to.
pub(super) fn take(reader: &mut Reader<'_>, store: StoreId, files: &FileTable) -> Parsed<Origins> {
    let lenders: OrdMap<_, ()> = take_sorted(reader, LEAST_LENDER_LEN, "lenders", |reader| {
        let root = PathBuf::from(OsStr::from_bytes(reader.take_bytes("root of a lender")?));
        let id = CheckpointId::new(reader.take("checkpoint of a lender")?);
        let checkpoint = id.filter(|_| root.is_absolute() && is_plain(&root));
        let checkpoint = checkpoint.ok_or_else(|| reader.malformed("there is no such lender"))?;
        Ok((Lender { root, checkpoint }, ()))
    })?;
    let lenders: Vec<_> = lenders.keys().cloned().map(Arc::new).collect();
    let mut lends = vec![false; lenders.len()];
    let origins: BTreeMap<_, _> = take_sorted(reader, LEAST_ORIGIN_LEN, "origins", |reader| {
        let index: u32 = reader.take("file")?;
        let origin = take_origin(reader, &lenders, &mut lends)?;
        let file = files.get(index).ok_or_else(|| reader.malformed("a file that is not in the table"))?;
        if origin.lent.is_none() && (origin.store, origin.file) == (store, file) {
            return Err(reader.malformed("a file that was written under its own name"));
        }
        Ok((file, origin))
    })?;
    if lends.contains(&false) {
        return Err(reader.malformed("a lender that lends nothing"));
    }
    Ok(origins)
}

fn take_origin(reader: &mut Reader<'_>, lenders: &[Arc<Lender>], lends: &mut [bool]) -> Parsed<FileOrigin> {
    let store = StoreId(reader.take("store of a file")?);
    let file = take_file(reader)?;
    let lent = match reader.take::<u8>("whether a file is lent")? {
        0 => None,
        1 => {
            let index = usize::try_from(reader.take::<u32>("lender")?).unwrap_or(usize::MAX);
            let (by, lends) = lenders
                .get(index)
                .zip(lends.get_mut(index))
                .ok_or_else(|| reader.malformed("a lender that is not in the table"))?;
            *lends = true;
            Some(Lent { by: Arc::clone(by), file: take_file(reader)? })
        }
        other => return Err(reader.malformed(format!("a file that is lent or not: {other} is neither"))),
    };
    Ok(FileOrigin { store, file, lent })
}

/// Two spellings of one path would be two forms of one manifest.
fn is_plain(root: &Path) -> bool {
    root.components().collect::<PathBuf>().as_os_str() == root.as_os_str()
}
